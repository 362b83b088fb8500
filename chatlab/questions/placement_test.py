"""The placement test: ten questions from easy to hard, which say where to begin.

In: answers, one to each question. Out: a verdict on each, and at the end a level and the lessons to take. Shows itself
as a quiz does. Knows nothing of how a panel looks.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import ClassVar

from filelock import Timeout

from chatlab.questions.given import NotAnAnswer
from chatlab.questions.placements import Placed, Placements, placement_questions
from chatlab.questions.question import Answer, Topic
from chatlab.questions.quizzes import Quiz
from chatlab.questions.verdict import Verdict, mark

__all__ = ["PlacementTest", "placement"]


def placement(*, record: bool = True) -> PlacementTest:
    """Return the placement test: ten questions, one on each of ten lessons. It says which lessons to take.

    Its result is recorded, apart from all quizzes: `chatlab progress` shows it. With `record=False` it leaves nothing.

    >>> placement(record=False).standing
    'Question 1 of 10, 0 right'
    """
    return PlacementTest(placements=Placements() if record else None)


class PlacementTest(Quiz):
    """The placement test. `answer` marks and goes on, right or wrong: the first answer counts. There are no hints.

    `next` leaves a question out: it counts as not known. After the last question there is a `placed`.

    >>> test = PlacementTest(placements=None)
    >>> for _ in range(9):
    ...     test.next()
    >>> test.answer("A").correct
    False
    >>> test.placed
    start here: 0 of 10 right
    Take the lessons in order, from 00. Each is short.
    """

    rule: ClassVar[str] = "Your first answer counts. Leave out what you do not know: Next, or .next()."

    def __init__(self, *, placements: Placements | None) -> None:
        asked = placement_questions()
        super().__init__(Topic("placement", "00", "Placement test", tuple(question for _, question in asked)))
        self.topics = {question.id: topic for topic, question in asked}
        self.placements = placements
        self.placed: Placed | None = None

    def answer(self, given: Answer) -> Verdict:
        """Mark the answer to `question`, and go on to the next one; raises `NotAnAnswer` for what cannot be one."""
        verdict = self.check(given)
        self.next()
        return verdict

    def check(self, given: Answer) -> Verdict:
        """Mark an answer as `answer` does, and stay at the question."""
        question = self.question
        if self.placed is not None:
            raise NotAnAnswer("This test is over. chatlab.placement() begins another.")
        if question.id in self.verdicts:
            raise NotAnAnswer("The first answer counts here. Go on to the next question.")
        verdict = mark(self.topics[question.id], replace(question, hints=()), given)  # it offers no hint
        self.verdicts[question.id] = verdict
        return verdict

    def hint(self) -> str:
        """Say that there is none."""
        return "There are no hints in this test. Leave out what you do not know."

    def next(self) -> None:
        """Go to the next question; after the last one, to the result."""
        if self.placed is None and self.place == len(self.questions) - 1:
            answers = {question.id: self._is_right(question.id) for question in self.questions}
            self.placed = Placed([(self.topics[name], right) for name, right in answers.items()])
            if self.placements is not None:
                with contextlib.suppress(OSError, Timeout):  # a disk that refuses must not end the test
                    self.placements.record(answers)
        super().next()

    def result(self) -> str:
        """Return the level; before the end, what came of it so far."""
        return super().result() if self.placed is None else self.placed.score

    def result_html(self) -> str:
        """Return the lessons to take, and a table of the questions."""
        return (self.placed.advice_html() if self.placed else "") + super().result_html()

    def __repr__(self) -> str:
        return super().__repr__() + (f". {self.placed.advice}" if self.done and self.placed else "")

    def _is_right(self, name: str) -> bool:
        return name in self.verdicts and self.verdicts[name].correct
