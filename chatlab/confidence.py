"""Confidence: how sure a learner was, against how often they were right.

In: predictions, each with a confidence and whether it came true. Out: a table, a figure and the Brier score. Knows
nothing of where they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatlab.display import escape, table_html, table_text, view
from chatlab.guesses import locked_guesses
from chatlab.plots.calibration import calibration_plot
from chatlab.plots.figures import Plot

__all__ = ["Calibration", "calibration"]

GROUPS = ((0, 40), (40, 60), (60, 80), (80, 100))  # per cent sure, the upper end with the last group only


@dataclass(frozen=True)
class Calibration:
    """Predictions as pairs (confidence in per cent, whether it came true), as a table; `plot` draws them.

    >>> Calibration([(90, True), (90, False), (50, True)])
    how sure     predictions  right
    40 to 60 %   1            100 %
    80 to 100 %  2            50 %
    Brier score 0.36: 0 is perfect, 0.25 is what always saying 50 % gets.
    """

    pairs: Sequence[tuple[float, bool]]

    @property
    def brier_score(self) -> float:
        """The mean squared distance between how sure (0–1) and what came true (0 or 1); Brier, 1950."""
        return sum((sure / 100 - right) ** 2 for sure, right in self.pairs) / len(self.pairs)

    def groups(self) -> list[tuple[str, int, float, float]]:
        """Return for each group of confidences: its name, how many, how sure on average and how many right, 0–100."""
        found = []
        for low, high in GROUPS:
            inside = [(sure, right) for sure, right in self.pairs if low <= sure and (sure < high or high == 100)]
            if inside:
                sure_on_average = sum(sure for sure, _ in inside) / len(inside)
                right_on_average = 100 * sum(right for _, right in inside) / len(inside)
                found.append((f"{low} to {high} %", len(inside), sure_on_average, right_on_average))
        return found

    def plot(self) -> Plot:
        """Return a drawing: a point for each group, and the line on which the two are equal."""
        return calibration_plot(self.groups())

    def _rows(self) -> list[list[str]]:
        return [[name, str(count), f"{right:.0f} %"] for name, count, _, right in self.groups()]

    def _note(self) -> str:
        if not self.pairs:
            return "No prediction is revealed yet. Lock in some in the lessons, and come back."
        return f"Brier score {self.brier_score:.2f}: 0 is perfect, 0.25 is what always saying 50 % gets."

    def __repr__(self) -> str:
        header = ["how sure", "predictions", "right"]
        return "\n".join([*([table_text(header, self._rows())] if self.pairs else []), self._note()])

    def _repr_html_(self) -> str:
        if not self.pairs:
            return view(f"<p>{escape(self._note())}</p>")
        table = table_html(["how sure", "predictions", "right"], self._rows())
        return view(f"{self.plot()._repr_html_()}{table}<div>{escape(self._note())}</div>")


def calibration() -> Calibration:
    """Return how sure the learner was in all predictions that were revealed, and how right.

    >>> calibration()  # doctest: +SKIP
    No prediction is revealed yet. Lock in some in the lessons, and come back.
    """
    return Calibration(
        [
            (float(each["confidence"]), bool(each["right"]))
            for each in locked_guesses()
            if each.get("right") is not None and each.get("confidence") is not None
        ]
    )
