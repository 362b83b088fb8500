"""The plots of the forward pass: what is drawn, what is said about it, and that no global state of matplotlib moves."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from chatlab import BadRequestError, ChatlabError
from chatlab.forward import inspect_forward
from chatlab.kv_cache import kv_cache_size
from chatlab.plots.forward import attention_map, hidden_norms_plot, kv_cache_plot, logit_lens_plot
from chatlab.testing import ScriptedModel

TEXT = "$x$ a\n <b>"


@pytest.fixture
def forward(tiny_model):
    return inspect_forward(TEXT, model=tiny_model)


def drawn(plot):
    """The texts and the shades of a plot's main axes."""
    axes = plot.figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    return axes, texts, axes.images[0].get_array() if axes.images else None


def pixels(plot):
    canvas = FigureCanvasAgg(plot.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def plots(forward):
    return [
        attention_map(forward, 0),
        attention_map(forward, 1, 2),
        logit_lens_plot(forward),
        hidden_norms_plot(forward),
        kv_cache_plot(model=forward.model),
    ]


@pytest.mark.filterwarnings("error")
def test_every_plot_is_a_png_in_greys_with_words(forward):
    for plot in plots(forward):
        assert plot.png().startswith(b"\x89PNG") and len(plot.alt_text) > 80
        colors = pixels(plot)
        assert (colors.max(axis=-1) - colors.min(axis=-1)).max() == 0, "nothing is told by colour"
        assert colors.min() < 60 and colors.max() == 255


def test_attention_map_shows_the_weights(forward):
    axes, texts, shades = drawn(attention_map(forward, 1, head=2))
    assert np.allclose(shades, forward.attention(1, 2).numpy())
    length = len(forward.tokens)
    assert len(texts) == length * (length + 1) // 2, "one number for each pair, none for the future"
    assert [label.get_text() for label in axes.get_yticklabels()][:6] == ["$", "x", "$", "␣", "a", "↵"]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        label.get_text() for label in axes.get_yticklabels()
    ]
    _, _, mean = drawn(attention_map(forward, -1))
    assert np.allclose(mean, forward.attention(1).mean(0).numpy())


def test_attention_map_in_words(forward):
    object.__setattr__(forward, "attentions", (torch.eye(len(forward.tokens)).repeat(4, 1, 1),))
    words = attention_map(forward, 0).alt_text
    assert words.startswith("Attention map of layer 0, mean of 4 heads, over 10 tokens.")
    assert words.endswith("the first one, '$', gets 10%; the last one, '>', looks most at '>' (100%).")
    assert "layer 0, head 3," in attention_map(forward, -1, -1).alt_text, "places count from the front"


def test_long_prompts_keep_their_labels_apart(tiny_model):
    axes, texts, _ = drawn(attention_map(inspect_forward("x" * 150, model=tiny_model), 0))
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert texts == [] and 30 < len(labels) <= 40 and labels[1] == "x (4)"


def test_lens_shows_every_layer(forward):
    lens = forward.logit_lens(2, top=4)
    axes, texts, shades = drawn(logit_lens_plot(forward, 2, top=4))
    assert np.allclose(shades, [[each.probability for each in row] for row in lens.layers])
    assert len(texts) == 3 * 4 and texts[0].endswith(f"{lens.layers[0][0].probability:.0%}")
    assert axes.get_title() == "Logit lens: what follows $ (token 2)"
    assert repr(lens.layers[-1][0].token) in logit_lens_plot(forward, 2).alt_text


def test_norms_are_drawn_token_by_layer(forward):
    axes, _, shades = drawn(hidden_norms_plot(forward))
    assert np.allclose(shades, forward.hidden_norms.T.numpy())
    assert len(axes.get_yticklabels()) == len(forward.tokens)
    assert f"to {float(forward.hidden_norms[-1].mean()):.0f}." in hidden_norms_plot(forward).alt_text


def test_cache_is_drawn_by_its_size(tiny_model):
    plot = kv_cache_plot([100, 1, 1000], model=tiny_model)
    marks = plot.figure.axes[0].lines[1]
    assert list(marks.get_xdata()) == [1, 100, 1000]
    assert list(marks.get_ydata()) == [kv_cache_size(number, model=tiny_model) for number in (1, 100, 1000)]
    assert " at 1, " in plot.alt_text and " at 1,000." in plot.alt_text


def test_places_that_are_not_there(forward):
    for call in (
        lambda: attention_map(forward, 2),
        lambda: attention_map(forward, 0, 4),
        lambda: logit_lens_plot(forward, 99),
        lambda: kv_cache_plot([], model=forward.model),
        lambda: kv_cache_plot([0], model=forward.model),
    ):
        with pytest.raises(BadRequestError):
            call()
    with pytest.raises(ChatlabError, match="no network to look into"):
        kv_cache_plot(model=ScriptedModel("Hi"))


@pytest.mark.filterwarnings("error")
def test_any_token_can_be_drawn_and_is_escaped(forward):
    tokens = ("你", "🙂", "\x00", "\u200b", "$\\frac{$", "<script>alert(1)</script>", "a" * 99, "", " ", "<script>")
    object.__setattr__(forward, "tokens", tokens)
    for plot in (attention_map(forward, 0), hidden_norms_plot(forward), logit_lens_plot(forward, 5)):
        assert plot.png()
        assert "<script" not in plot._repr_html_()


def test_pyplot_is_never_loaded():
    code = "import sys, chatlab.plots.forward; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_real_model(model):
    plot = logit_lens_plot(inspect_forward("The capital of France is", model=model))
    assert plot.alt_text.endswith("the likeliest token is ' Paris' with 77 percent.")
    assert any("␣Paris" in text.get_text() for text in plot.figure.axes[0].texts)
