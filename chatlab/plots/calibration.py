"""Calibration: how sure somebody was, against how often they were right.

In: groups of predictions. Out: a figure. Knows nothing of who predicted what.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatlab.plots.figures import ACCENT, INK, Plot, new_figure

__all__ = ["calibration_plot"]


def calibration_plot(groups: Sequence[tuple[str, int, float, float]]) -> Plot:
    """Return a drawing of groups (name, how many, how sure and how right on average, both 0–100).

    Each group is a point with its number in it; on the dashed line the two are equal.

    >>> calibration_plot([("80 to 100 %", 4, 90.0, 75.0)])
    Plot: Calibration. 80 to 100 % sure: 75 % of 4 right.
    """
    figure, (axes,) = new_figure(width=4.5, height=4.0, title="How sure, and how right")
    axes.plot([0, 100], [0, 100], color=INK, linestyle="--", linewidth=1)
    axes.annotate("too sure: below the line", (58, 12), color=INK, fontsize=8)
    axes.annotate("not sure enough: above it", (2, 88), color=INK, fontsize=8)
    for _, count, sure, right in groups:
        axes.scatter([sure], [right], s=120 + 20 * count, color=ACCENT)
        axes.annotate(f"{count}", (sure, right), color="white", fontsize=8, ha="center", va="center")
    axes.set(xlim=(-5, 105), ylim=(-5, 105), xlabel="sure (%)", ylabel="right (%)")
    said = "; ".join(f"{name} sure: {right:.0f} % of {count} right" for name, count, _, right in groups)
    return Plot(figure, alt_text=f"Calibration. {said or 'No predictions yet'}.")
