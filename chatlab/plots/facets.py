"""Facets: a measure over a setting, a panel for each value of another.

In: names and numbers. Out: a `Plot`. Lines are told apart by marks and dashes, not by colour alone. Knows nothing of
what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from chatlab.plots.figures import ACCENT, INK, Plot, drawable, new_figure

__all__ = ["Point", "facet_lines"]

COLUMNS = 3
LONGEST_TITLE = 32
_STYLES = [(ACCENT, "-", "o"), (INK, "--", "s"), ("#777777", ":", "^"), (ACCENT, "-.", "D"), (INK, ":", "v")]


@dataclass(frozen=True)
class Point:
    """A point of a line: where it stands, its height, and the single values that led to it, drawn as small dots."""

    x: Any
    y: float
    values: Sequence[float] = ()


def facet_lines(panels: Mapping[str, Mapping[str, Sequence[Point]]], *, x: str, y: str) -> Plot:
    """Draw panels side by side, all to one scale: in each a line for each name, through its points.

    >>> facet_lines({"joke": {"plain": [Point(0, 1.0), Point(1, 0.5)]}}, x="temperature", y="agreement")
    Plot: agreement over temperature. joke, plain: 1 at 0, 0.5 at 1.
    """
    columns, rows = min(COLUMNS, len(panels)), math.ceil(len(panels) / COLUMNS)
    figure, axes = new_figure(width=1 + 2.9 * columns, height=0.8 + 2.6 * rows, columns=columns, rows=rows)
    points = [point for lines in panels.values() for line in lines.values() for point in line]
    places = _places([point.x for point in points])
    heights = [height for point in points for height in (point.y, *point.values) if not math.isnan(height)] or [0.0]
    low, high = min(0.0, *heights), max(heights) or 1.0
    names: dict[str, Any] = {}
    for each, (title, lines) in zip(axes, panels.items(), strict=False):
        for (name, line), (color, dashes, mark) in zip(lines.items(), _STYLES * len(lines), strict=False):
            at = [places[point.x] for point in line]
            for place, point in zip(at, line, strict=True):
                each.plot([place] * len(point.values), point.values, ".", color=color, alpha=0.25, markersize=5)
            [names[name]] = each.plot(at, [point.y for point in line], color=color, linestyle=dashes, marker=mark)
        each.set_title(_shortened(title), fontsize=10)
        each.set(ylim=(low - 0.05 * (high - low), high + 0.08 * (high - low)), xlabel=drawable(x))
        each.margins(x=0.12)
        each.set_xticks(list(places.values()), [_shortened(_number(label)) for label in places])
    for each in axes[len(panels) :]:
        each.set_visible(False)
    for first in axes[::columns]:
        first.set_ylabel(drawable(y))
    if len(names) > 1:
        labels = [drawable(name) for name in names]
        figure.legend(list(names.values()), labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    told = [
        "".join(f"{each}: " for each in [", ".join(filter(None, [title, name]))] if each)
        + ", ".join(f"{_number(point.y)} at {_number(point.x)}" for point in line)
        for title, lines in panels.items()
        for name, line in lines.items()
    ]
    return Plot(figure, alt_text=f"{y} over {x}. {'. '.join(told)}.")


def _places(labels: Sequence[Any]) -> dict[Any, float]:
    """Return where each value of x stands: at its number, or side by side where not all are numbers."""
    different = list(dict.fromkeys(labels))
    if all(isinstance(each, Real) for each in different):
        return {each: float(each) for each in sorted(different)}
    return {each: float(place) for place, each in enumerate(different)}


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _shortened(text: str) -> str:
    text = drawable(" ".join(text.split()))
    return text if len(text) <= LONGEST_TITLE else f"{text[: LONGEST_TITLE - 1]}…"
