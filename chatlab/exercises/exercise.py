"""Exercise: what a learner is to write, with hints, a solution and checks.

In: what an author wrote, already checked, and what a learner wrote. Out: one of four outcomes. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chatlab.display import escape, view
from chatlab.errors import ChatlabError
from chatlab.exercises.case import Case, try_case
from chatlab.markdown import markdown_html

__all__ = ["OUTCOMES", "Exercise", "ExerciseError", "Outcome", "WrongAnswer", "judge_answer"]

OUTCOMES = ("correct", "incorrect", "not attempted", "could not check")
MARKS = {"correct": "✓", "incorrect": "✗", "not attempted": "○", "could not check": "?"}


class ExerciseError(ChatlabError):
    """An answer is not correct; raised by `grade`, so that a cell that grades fails."""


@dataclass(frozen=True)
class Outcome:
    """What came of a check: one of "correct", "incorrect", "not attempted", "could not check", and why.

    >>> Outcome("incorrect", "for 2: it should be 4, but is 5")
    incorrect for 2: it should be 4, but is 5
    >>> Outcome("correct")
    correct
    """

    status: str
    reason: str = ""

    @property
    def correct(self) -> bool:
        """Whether the answer is right."""
        return self.status == "correct"

    def __repr__(self) -> str:
        joint = " " if self.status == "incorrect" else ": "
        return f"{self.status}{joint}{self.reason}" if self.reason else self.status


@dataclass(frozen=True)
class WrongAnswer:
    """A typical wrong answer, and a part of what its check says."""

    answer: str
    says: str


@dataclass(frozen=True, repr=False)
class Exercise:
    """One exercise as an author wrote it; `cases` check what a learner makes of it."""

    id: str
    topic: str
    lesson: str
    title: str
    points: int
    name: str
    text: str
    starter: str
    hints: tuple[str, ...]
    solution: str = field(repr=False)
    wrong: tuple[WrongAnswer, ...]

    def __repr__(self) -> str:
        return f"Exercise {self.id}: {self.title} ({self.points} points)\n{self.text.strip()}"

    def html(self) -> str:
        """Return the exercise as HTML; markup in its text is shown as text."""
        return f"<strong>✏️ {escape(self.title)}</strong> ({self.points} points){markdown_html(self.text)}"

    def _repr_html_(self) -> str:
        return view(self.html())


def judge_answer(exercise: Exercise, cases: Sequence[Case], answer: Any) -> Outcome:
    """Return the outcome of an answer: the first case that fails says why. A hidden case says only that it fails.

    >>> from chatlab.exercises.case import equals
    >>> double = Exercise("x-1", "x", "01", "Double", 1, "double", "Double it.", "", (), "", ())
    >>> judge_answer(double, [Case((2,), equals(4))], lambda number: number + 3)
    incorrect for 2: it should be 4, but is 5
    >>> judge_answer(double, [Case((2,), equals(4))], lambda number: ...)
    not attempted: double returns nothing yet
    """
    if answer is None or answer is Ellipsis:
        return Outcome("not attempted", f"there is nothing in {exercise.name} yet")
    if any(case.arguments is not None for case in cases) and not callable(answer):
        return Outcome("incorrect", f"because {exercise.name} must be a function, but is {type(answer).__name__}")
    nothing = 0
    for number, case in enumerate(cases, start=1):
        try:
            found, fault = try_case(case, answer)
        except Exception as error:  # the check's own fault, or the model's: never the learner's
            return Outcome("could not check", f"{type(error).__name__}: {error}")
        if found is None or found is Ellipsis:
            nothing += 1
            if fault is not None and nothing == number:
                verb = "does" if isinstance(answer, type) else "returns"
                return Outcome("not attempted", f"{exercise.name} {verb} nothing yet")
        if fault is not None and case.hidden:
            return Outcome("incorrect", "in a case that is not shown. Think of other values that may come in")
        if fault is not None:
            return Outcome("incorrect", f"{case.name}: {fault}" if case.name else f": {fault}")
    return Outcome("correct")
