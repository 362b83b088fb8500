import re
import subprocess
import sys
import warnings

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab import plots
from chatlab.errors import BadRequestError
from chatlab.testing import ScriptedModel
from chatlab.tracing import trace

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><b>',
    "$\\frac$ {",
    "100 % {0}",
    "你好🎉",
]


def every_plot(token):
    yield plots.next_token_bars([token, "b"], [0.7, 0.3], [1.0, 0.0], settings=token, title=token)
    yield plots.next_token_bars([token, "b"], [0.7, 0.3])
    yield plots.temperature_panels(
        [token, "b"], {0.5: [0.9, 0.1], 1: [0.7, 0.3]}, effective_choices=[1, 2000], title=token
    )
    yield plots.diversity_bars([0, 1], {token: [0.1, 0.9], "b": [0, 1]}, samples=10, title=token)
    yield plots.token_strip([token, "b"] * 9, [1.0, 0.0] * 9, forced=[1, 2])
    yield plots.stream_timing([token, "b"], [0.02, 0.04], prefill_seconds=0.3, prompt_tokens=20)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_plot_draws_any_text_and_escapes_it(payload):
    for plot in every_plot(payload):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as a character that the font lacks
            html = plot._repr_html_()
        assert not re.search(r"<(script|b)\b", html) and html.count("<img ") == 1
        [alt_text] = re.findall(r'alt="([^"]*)"', html)
        assert "<" not in alt_text and 'src="data:image/png;base64,' in html


@given(st.text(max_size=12))
@settings(max_examples=25, deadline=None)
def test_any_token_can_be_drawn(token):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plots.token_strip([token], [0.5]).png().startswith(b"\x89PNG")


def test_a_plot_is_the_same_each_time_and_reads_as_text():
    for first, second in zip(every_plot("a"), every_plot("a"), strict=True):
        assert first.png() == second.png() and repr(first) == repr(second) == f"Plot: {first.alt_text}"


def test_the_users_matplotlib_style_neither_matters_nor_changes():
    [plain] = [plot.png() for plot in every_plot("a") if "reply of 18" in plot.alt_text]
    with matplotlib.rc_context({"text.color": "red", "axes.facecolor": "black", "savefig.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        [styled] = [plot.png() for plot in every_plot("a") if "reply of 18" in plot.alt_text]
        assert dict(matplotlib.rcParams) == before
    assert styled == plain


def test_pyplot_is_never_imported():
    code = "import sys; from chatlab.plots import token_strip; token_strip(['a'], [1.0]).png(); "
    code += "print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_matplotlib_is_imported_only_to_draw():
    code = (
        "import sys; from chatlab import prediction, samples, tracing; "
        "print([name for name in ('matplotlib', 'IPython') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_save(tmp_path, ending, start):
    plot = next(every_plot("a"))
    path = plot.save(tmp_path / f"picture.{ending}")
    assert path.read_bytes().startswith(start)


def test_save_refuses_an_unknown_ending(tmp_path):
    with pytest.raises(BadRequestError, match=r"ends in \.png, \.svg or \.pdf"):
        next(every_plot("a")).save(tmp_path / "picture.xyz")


def test_trace_draws_itself():
    reply = trace("Hi", model=ScriptedModel("Hey"), temperature=0).what_if(1, "X")
    assert reply.plot().alt_text.startswith("A reply of 4 tokens, each with its probability: H 100 %, X < 1 % (forced)")
    assert reply.plot_timing().alt_text.startswith("4 tokens, the first after ")
