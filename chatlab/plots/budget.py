"""Budget bar: how the tokens of a context are spent, before and after fitting.

In: a `Fitted`. Out: a figure of two bars and the limit, told apart by hatching and words, not by colour alone. Knows
nothing of models.
"""

from __future__ import annotations

from chatlab.fitted import Fitted
from chatlab.plots.figures import Plot, new_figure

__all__ = ["budget_bar"]


def budget_bar(fitted: Fitted) -> Plot:
    """Return a drawing of the budget: the prompt's tokens before and after, the reserve, what is free, the limit.

    >>> fitted = Fitted([], dropped=(), tokens_before=40, tokens_after=40, token_limit=100, reserve=25)
    >>> budget_bar(fitted)  # doctest: +ELLIPSIS
    Plot: Token budget: the prompt had 40 tokens and has 40 now; 25 are reserved for the reply, 35 free; the limit ...
    """
    figure, (axes,) = new_figure(width=8, height=2.4)
    alt_text = (
        f"Token budget: the prompt had {fitted.tokens_before} tokens and has {fitted.tokens_after} now; "
        f"{fitted.reserve} are reserved for the reply, {fitted.free} free; the limit is {fitted.token_limit}."
    )
    axes.set_yticks([0, 1], ["after", "before"])
    parts = [
        (0, 0, fitted.tokens_after, "prompt", "#9ecae1", ""),
        (0, fitted.tokens_after, fitted.reserve, "reserved for the reply", "#fdd0a2", "///"),
        (0, fitted.tokens_after + fitted.reserve, fitted.free, "free", "white", "..."),
        (1, 0, fitted.tokens_before, "prompt", "#9ecae1", ""),
        (1, fitted.tokens_before, fitted.reserve, "reserved for the reply", "#fdd0a2", "///"),
    ]
    for row, start, tokens, name, colour, hatch in parts:
        known = name in axes.get_legend_handles_labels()[1]
        label = None if known or not tokens else name
        axes.barh(row, tokens, left=start, color=colour, hatch=hatch, edgecolor="black", label=label)
        if tokens:
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            axes.text(start + tokens / 2, row, str(tokens), ha="center", va="center", bbox=box)
    axes.axvline(fitted.token_limit, color="black", linestyle="--", label=f"limit {fitted.token_limit}")
    axes.set_xlabel("tokens")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return Plot(figure, alt_text=alt_text)
