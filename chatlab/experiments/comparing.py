"""Comparing: whether two conditions differ by more than chance, by the bootstrap.

In: a measure of each prompt (or each seed) under both. Out: the difference, with an interval around it. Knows nothing
of models or tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chatlab.checks import check_integer, check_number
from chatlab.display import count_of, escape, view
from chatlab.errors import BadRequestError

__all__ = ["Comparison", "bootstrap_interval", "compare"]


@dataclass(frozen=True)
class Comparison:
    """A measure under two conditions, `a` and `b`: their means, the difference b − a, and its interval.

    The interval, from `low` to `high`, is of the mean over `units`: prompts or seeds, whichever were drawn again.
    """

    measure: str
    a: str
    b: str
    mean_a: float
    mean_b: float
    low: float
    high: float
    confidence: float
    units: int
    unit: str

    @property
    def difference(self) -> float:
        """How much larger the measure is under b."""
        return self.mean_b - self.mean_a

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0, so that chance alone hardly explains the difference."""
        return self.low > 0 or self.high < 0

    def __repr__(self) -> str:
        return (
            f"{self.measure}: {self.mean_a:.2f} with {self.a}, {self.mean_b:.2f} with {self.b}; difference "
            f"{self.difference:+.2f}, {self.confidence:.0%} interval {self.low:+.2f} to {self.high:+.2f} "
            f"(bootstrap over {count_of(self.units, self.unit)})"
        )

    def _repr_html_(self) -> str:
        return view(f"<div>{escape(repr(self))}</div>")


def compare(
    measure: str,
    a: tuple[str, Sequence[float]],
    b: tuple[str, Sequence[float]],
    *,
    unit: str,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Return how two conditions differ; each is its name and the measure of each unit, in the same order.

    Raises `BadRequestError` for fewer than two units, or where a measure is missing (NaN).

    >>> compare("exact", ("cold", [1, 1, 0, 1]), ("hot", [0, 1, 0, 0]), unit="prompt")
    exact: 0.75 with cold, 0.25 with hot; difference -0.50, 95% interval -1.00 to +0.00 (bootstrap over 4 prompts)
    """
    differences = [after - before for before, after in zip(a[1], b[1], strict=True)]
    if any(map(math.isnan, differences)):
        raise BadRequestError(
            f"{measure} was not measured for every {unit}, so nothing can be compared by it.", param="metric"
        )
    low, high = bootstrap_interval(differences, confidence=confidence, resamples=resamples, seed=seed)
    means = float(np.mean(a[1])), float(np.mean(b[1]))
    return Comparison(measure, a[0], b[0], *means, low, high, confidence, len(differences), unit)


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of the mean: draw as many values again, with repetition, and look at their means.

    From "Bootstrap Methods: Another Look at the Jackknife" (Efron, 1979). With few values it is too narrow. Raises
    `BadRequestError` for fewer than two.

    >>> bootstrap_interval([0.0, 1.0, 1.0, 1.0])
    (0.25, 1.0)
    """
    if len(values) < 2:
        raise BadRequestError("A bootstrap needs at least two values: ask more prompts, or more seeds.", param="seeds")
    check_number("confidence", confidence, 0, 1)
    check_integer("resamples", resamples, minimum=1)
    drawn = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    means = np.asarray(values, dtype=float)[drawn].mean(axis=-1)  # [resamples]
    low, high = np.percentile(means, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)
