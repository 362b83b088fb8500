"""Plots of a reply: how probable each of its tokens was, and how long each took.

In: names of tokens, probabilities, seconds. Out: a `Plot` whose values can be read as numbers. Knows nothing of models.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from chatlab.plots.figures import ACCENT, INK, PALE, Plot, drawable, new_figure

__all__ = ["stream_timing", "token_strip"]

TOKENS_IN_A_ROW = 14


def token_strip(tokens: Sequence[str], probabilities: Sequence[float], *, forced: Sequence[int] = ()) -> Plot:
    """Draw a reply as a strip of tokens, in rows like text: below each one, a column as high as it was probable.

    `forced` are the positions of tokens that were given and not drawn: they are hatched, and say so.

    >>> token_strip(["H", "i"], [1.0, 0.25], forced=[1])
    Plot: A reply of 2 tokens, each with its probability: H 100 %, i 25 % (forced).
    """
    rows = -(-len(tokens) // TOKENS_IN_A_ROW)
    figure, [axes] = new_figure(width=9.0, height=0.7 + 1.15 * rows)
    for position, (token, probability) in enumerate(zip(tokens, probabilities, strict=True)):
        row, column = divmod(position, TOKENS_IN_A_ROW)
        bottom = -1.75 * row
        given = position in forced
        axes.bar(
            column, 1.0, 0.86, bottom, facecolor="none", edgecolor=PALE, linewidth=0.8, hatch="///" if given else None
        )
        axes.bar(
            column,
            probability,
            0.86,
            bottom,
            color=ACCENT,
            edgecolor=INK,
            linewidth=0.6,
        )
        if given:
            axes.text(
                column, bottom + 0.5, "forced", ha="center", va="center", fontsize=8, color=INK, backgroundcolor="white"
            )
        name = drawable(token)
        axes.text(
            column,
            bottom - 0.08,
            name if len(name) <= 10 else f"{name[:9]}…",
            ha="center",
            va="top",
            fontsize=9 if len(name) <= 7 else 7,
            color=INK,
        )
        axes.text(column, bottom + 1.03, _percent(probability), ha="center", va="bottom", fontsize=7, color=INK)
    axes.set_xlim(-0.6, TOKENS_IN_A_ROW - 0.4)
    axes.set_ylim(-1.75 * (rows - 1) - 0.45, 1.3)
    axes.set_axis_off()
    figure.suptitle("Each token of the reply and its probability", color=INK, fontsize=11, x=0.01, ha="left")
    told = [
        f"{token} {_percent(probability)}{' (forced)' if position in forced else ''}"
        for position, (token, probability) in enumerate(zip(tokens, probabilities, strict=True))
    ]
    return Plot(figure, alt_text=f"A reply of {len(tokens)} tokens, each with its probability: {', '.join(told)}.")


def stream_timing(
    tokens: Sequence[str], seconds: Sequence[float], *, prefill_seconds: float = 0.0, prompt_tokens: int = 0
) -> Plot:
    """Draw the milliseconds of each token; before the first one the model read the prompt, which is hatched.

    >>> stream_timing(["H", "i"], [0.02, 0.04], prefill_seconds=0.3, prompt_tokens=20)
    Plot: 2 tokens, the first after 320 ms: 300 ms to read 20 prompt tokens. Then 40 ms a token (median), 25.0 a second.
    """
    milliseconds = [1000 * each for each in seconds]
    reading, first = 1000 * prefill_seconds, 1000 * (prefill_seconds + seconds[0])
    usual = statistics.median(milliseconds[1:] or milliseconds)
    figure, [axes] = new_figure(width=9.0, height=3.4, title="How long each token took")
    places = range(len(tokens))
    axes.bar(0, reading, 0.8, color=PALE, edgecolor=INK, linewidth=0.6, hatch="////", label="reading the prompt")
    axes.bar(
        places, milliseconds, 0.8, [reading, *[0] * (len(tokens) - 1)], color=ACCENT, edgecolor=INK, linewidth=0.6,
        label="one step",
    )  # fmt: skip
    axes.axhline(usual, color=INK, linewidth=1, linestyle="--", label=f"median after the first: {usual:.0f} ms")
    axes.annotate(
        f"first token after {first:.0f} ms", (0.4, first), (6, -5), textcoords="offset points", fontsize=9, color=INK,
        va="center",
    )  # fmt: skip
    axes.set_xticks(places, [drawable(token) for token in tokens], rotation=90, fontsize=8 if len(tokens) < 50 else 6)
    axes.set_xlim(-0.7, len(tokens) - 0.3)
    axes.set_ylabel("milliseconds")
    axes.legend(loc="upper right", fontsize=9, frameon=False, labelcolor=INK)
    rate = f"{1000 / usual:.1f} a second" if usual else "at once"
    return Plot(
        figure,
        alt_text=f"{len(tokens)} tokens, the first after {first:.0f} ms: {reading:.0f} ms to read {prompt_tokens} "
        f"prompt tokens. Then {usual:.0f} ms a token (median), {rate}.",
    )


def _percent(value: float) -> str:
    return "< 1 %" if 0 < value < 0.01 else f"{100 * value:.0f} %"
