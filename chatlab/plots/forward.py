"""Plots of the forward pass: attention, the logit lens, the length of the vectors, the growth of the cache.

In: a `ForwardPass`, or a model. Out: a `Plot`, grey on white, so that it reads the same in black and white. Knows
nothing of how the numbers come about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from chatlab.anatomy import network_of
from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer
from chatlab.display import count_of
from chatlab.errors import BadRequestError
from chatlab.forward import ForwardPass
from chatlab.kv_cache import kv_cache_size, readable_bytes
from chatlab.model import resolve
from chatlab.plots.figures import Plot

__all__ = ["attention_map", "hidden_norms_plot", "kv_cache_plot", "logit_lens_plot"]

LABELLED_TOKENS = 40  # beyond these, labels would run into each other: every second, third, … is shown
WRITTEN_NUMBERS = 12  # up to so many tokens, each cell of an attention map has its number written in
LONGEST_LABEL = 14
_SYMBOLS = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})


def attention_map(forward: ForwardPass, layer: int, head: int | None = None) -> Plot:
    """Draw whom each token of the prompt looks at, in one head of a layer or (None) on average over its heads.

    Row by row: the darker a cell, the more the token at the left looks at the token below. The hatched half is the
    future, which no token sees. Raises `BadRequestError` for a layer or head that is not there.

    >>> from chatlab.forward import inspect_forward
    >>> attention_map(inspect_forward("The capital of France is"), 20, head=0).alt_text[:58]
    'Attention map of layer 20, head 0, over 5 tokens. Each row'
    """
    weights = forward.attention(layer, head)
    weights = weights.mean(dim=0) if head is None else weights  # [n, n]
    layer = layer % len(forward.attentions)
    heads = len(forward.attentions[layer])
    where = f"layer {layer}, " + (f"mean of {count_of(heads, 'head')}" if head is None else f"head {head % heads}")
    length = len(weights)
    labels = [_label(token) for token in forward.tokens]
    side = 2.2 + min(7.0, max(2.6, 0.48 * length))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    # The square root keeps small weights visible next to the first token, which often takes nearly everything.
    image = axes.imshow(weights.numpy(), cmap="Greys", norm=PowerNorm(0.5, vmin=0, vmax=1))
    for row in range(length - 1):
        future = (row + 0.5, row - 0.5), length - row - 1, 1
        axes.add_patch(Rectangle(*future, facecolor="none", edgecolor="0.8", hatch="////", linewidth=0))
    if length <= WRITTEN_NUMBERS:
        for row in range(length):
            for column in range(row + 1):
                weight = float(weights[row, column])
                color = "white" if weight > 0.3 else "black"
                axes.text(column, row, _share(weight), ha="center", va="center", fontsize=8, color=color)
    _token_ticks(axes, labels, "x")
    _token_ticks(axes, labels, "y")
    axes.set_xlabel("looked at")
    axes.set_ylabel("looking")
    axes.set_title(f"Attention, {where}", fontsize=11)
    figure.colorbar(image, ax=axes, shrink=0.8, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1], label="share of attention")
    last = weights[-1]
    favourite = int(last.argmax())
    return Plot(
        figure,
        f"Attention map of {where}, over {count_of(length, 'token')}. Each row shows how one token spreads its "
        f"attention over itself and the tokens before it. On average the first one, {forward.tokens[0]!r}, gets "
        f"{float(weights[:, 0].mean()):.0%}; the last one, {forward.tokens[-1]!r}, looks most at "
        f"{forward.tokens[favourite]!r} ({float(last[favourite]):.0%}).",
    )


def logit_lens_plot(forward: ForwardPass, position: int = -1, *, top: int = 3) -> Plot:
    """Draw the tokens that the model would find likeliest if it stopped after each layer, the last layer on top.

    The darker a cell, the surer. Raises `BadRequestError` for a position outside the prompt.

    >>> from chatlab.forward import inspect_forward
    >>> logit_lens_plot(inspect_forward("The capital of France is")).alt_text[-48:]
    "the likeliest token is ' Paris' with 77 percent."
    """
    lens = forward.logit_lens(position, top=top)
    shades = [[each.probability for each in predictions] for predictions in lens.layers]
    figure = Figure(figsize=(1.6 + 1.5 * top, 1.2 + 0.24 * len(lens.layers)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shades, cmap="Greys", vmin=0, vmax=2, aspect="auto", origin="lower")  # light: the text stays readable
    for row, predictions in enumerate(lens.layers):
        for column, each in enumerate(predictions):
            text = f"{_label(each.token)}  {each.probability:.0%}"
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color="black", parse_math=False)
    axes.set_xticks(range(top), [f"choice {rank}" for rank in range(1, top + 1)])
    axes.set_yticks(range(len(lens.layers)), [str(number) for number in range(len(lens.layers))], fontsize=8)
    axes.set_ylabel("layers read (0: the embedding alone)")
    title = f"Logit lens: what follows {_label(lens.token)} (token {lens.position})"
    axes.set_title(title, fontsize=11, parse_math=False)
    first, last = lens.layers[0][0], lens.layers[-1][0]
    settled = next(
        number
        for number in range(len(lens.layers))
        if all(predictions[0].token_id == last.token_id for predictions in lens.layers[number:])
    )
    return Plot(
        figure,
        f"Logit lens at token {lens.position}, {lens.token!r}: the {top} likeliest next tokens after each number of "
        f"layers. With none the likeliest is {first.token!r}; from layer {settled} of {len(lens.layers) - 1} on, "
        f"and so at the end, the likeliest token is {last.token!r} with {100 * last.probability:.0f} percent.",
    )


def hidden_norms_plot(forward: ForwardPass) -> Plot:
    """Draw how long each token's vector is before the first layer and after each: the darker, the longer.

    >>> from chatlab.forward import inspect_forward
    >>> hidden_norms_plot(inspect_forward("The capital of France is")).alt_text[:41]
    'Length of the vectors of 5 tokens before '
    """
    norms = forward.hidden_norms  # [layers + 1, n]
    labels = [_label(token) for token in forward.tokens]
    height = 1.6 + min(7.0, max(1.5, 0.32 * len(labels)))
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(norms.T.numpy(), cmap="Greys", norm=LogNorm(), aspect="auto")
    _token_ticks(axes, labels, "y")
    axes.set_xlabel("layers read (0: the embedding alone)")
    axes.set_title("How long each token's vector grows", fontsize=11)
    figure.colorbar(image, ax=axes, label="length (log scale)")
    after, token = divmod(int(norms.argmax()), norms.shape[1])
    return Plot(
        figure,
        f"Length of the vectors of {count_of(len(labels), 'token')} before the first of {len(norms) - 1} layers and "
        f"after each. On average it grows from {float(norms[0].mean()):.1f} to {float(norms[-1].mean()):.0f}. The "
        f"longest is that of token {token}, {forward.tokens[token]!r}, after {count_of(after, 'layer')}: "
        f"{float(norms.max()):.0f}.",
    )


def kv_cache_plot(
    tokens: Sequence[int] = (1, 10, 100, 1000, 8192), *, model: ChatModel | str | Path | None = None
) -> Plot:
    """Draw how the key-value cache grows with the conversation, next to the size of the model's weights.

    Raises `ChatlabError` for a model that Transformers does not run, `BadRequestError` without a number of tokens.

    >>> kv_cache_plot([1000]).alt_text[-34:]
    "The model's weights take 538.1 MB."
    """
    model = resolve(model)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network_of(model).parameters())
    counts = sorted(check_integer("tokens", number, minimum=1) for number in tokens)
    if not counts:
        raise BadRequestError("tokens is empty: give the numbers of tokens to draw, such as [1, 1000].", param="tokens")
    sizes = [kv_cache_size(number, model=model) for number in counts]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    line = [counts[-1] * step / 100 for step in range(101)]
    axes.plot(line, [kv_cache_size(round(number), model=model) for number in line], color="black")
    axes.plot(counts, sizes, "o", color="black", label="key-value cache")
    for number, size in zip(counts, sizes, strict=True):
        if number >= counts[-1] / 20:  # those nearer to the corner would lie on top of each other
            text = f"{number:,} {'token' if number == 1 else 'tokens'}: {readable_bytes(size)}"
            side, offset = ("right", (-6, 6)) if number > counts[-1] / 2 else ("left", (8, -8))
            axes.annotate(text, (number, size), offset, textcoords="offset points", ha=side)
    axes.axhline(weights, color="black", linestyle="--")
    axes.annotate(f"the model's weights: {readable_bytes(weights)}", (0, weights), (6, 4), textcoords="offset points")
    axes.set_xlim(0, counts[-1] * 1.03)
    axes.set_ylim(0, 1.12 * max(weights, sizes[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
    axes.yaxis.set_major_formatter(lambda size, _: readable_bytes(size))
    axes.set_xlabel("tokens in the conversation")
    axes.set_title(f"Key-value cache of {model.name}", fontsize=11, parse_math=False)
    table = ", ".join(f"{readable_bytes(size)} at {number:,}" for number, size in zip(counts, sizes, strict=True))
    return Plot(
        figure,
        f"Size of the key-value cache of {model.name} by number of tokens: {table}. The model's weights take "
        f"{readable_bytes(weights)}.",
    )


def _token_ticks(axes: Axes, labels: list[str], axis: str) -> None:
    """Put the tokens along an axis; of very many only some, with their places."""
    every = math.ceil(len(labels) / LABELLED_TOKENS)
    places = range(0, len(labels), every)
    shown = [labels[place] if every == 1 else f"{labels[place]} ({place})" for place in places]
    if axis == "x":
        axes.set_xticks(places, shown, rotation=45, ha="right", rotation_mode="anchor", fontsize=9, parse_math=False)
    else:
        axes.set_yticks(places, shown, fontsize=9, parse_math=False)


def _label(token: str) -> str:
    """Return a token as it can stand in a picture: blanks visible, not too long, nothing that the font lacks.

    >>> _label(" Paris"), _label("\\n"), _label("你"), _label("<|very_long_token|>")
    ('␣Paris', '↵', 'U+4F60', '<|very_long_t…')
    """
    shown = "".join(
        character if _drawable(character) else f"U+{ord(character):04X}" for character in token.translate(_SYMBOLS)
    )
    return shown if len(shown) <= LONGEST_LABEL else shown[: LONGEST_LABEL - 1] + "…"


@lru_cache(maxsize=4096)
def _drawable(character: str) -> bool:
    return character.isprintable() and get_font(findfont(FontProperties())).get_char_index(ord(character)) != 0


def _share(weight: float) -> str:
    """Return a share of attention in two digits: .07, 1.0."""
    return f"{weight:.1f}" if weight >= 0.995 else f"{weight:.2f}"[1:]
