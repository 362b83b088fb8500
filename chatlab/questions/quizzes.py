"""Quizzes: the questions of a topic, one at a time.

In: a topic's name, then answers. Out: a verdict for each, and how many are right. Shows itself as a panel in a
notebook, and as text elsewhere. Knows nothing of how a panel looks.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any, ClassVar

from filelock import Timeout

from chatlab.display import escape, table_html, view
from chatlab.progress import Progress
from chatlab.questions.question import Answer, Question, Topic
from chatlab.questions.question_files import topic_of
from chatlab.questions.verdict import Verdict, mark

__all__ = ["Quiz", "quiz"]


def quiz(topic: str, *, record: bool = True) -> Quiz:
    """Return a quiz on a topic, such as "roles"; raises `ValueError` with the topics there are.

    Its answers are recorded: `chatlab progress` shows them. With `record=False` it is a trial, and leaves nothing.

    >>> trial = quiz("roles", record=False)
    >>> trial.question.id
    'roles-reply'
    """
    return Quiz(topic_of(topic), progress=None if record else Progress.trial())


class Quiz:
    """The questions of a topic. `question` is the one to answer now; `answer` marks, and goes on when it is right.

    `next`, `back` and `go` move without an answer, `hint` helps. `progress` is where the answers are recorded
    (None: the learner's own).

    >>> quiz = Quiz(topic_of("roles"), progress=Progress.trial())
    >>> quiz.answer("C")
    Right. The model speaks as the assistant, always. So you can put the reply into the list as it is.
    >>> quiz.standing
    'Question 2 of 10, 1 right'
    """

    rule: ClassVar[str] = ""  # of a test, in which the first answer counts and hints are out of place

    def __init__(self, topic: Topic, *, progress: Progress | None = None) -> None:
        self.topic = topic
        self.progress = progress or Progress()
        self.place = 0
        self.done = False  # whether the last question is behind
        self.verdicts: dict[str, Verdict] = {}
        self._hints: dict[str, int] = {}
        self._panel: Any = None

    @property
    def questions(self) -> tuple[Question, ...]:
        """All questions of the quiz."""
        return self.topic.questions

    @property
    def question(self) -> Question:
        """The question to answer now."""
        return self.questions[self.place]

    @property
    def right(self) -> int:
        """How many questions are answered rightly by now."""
        return sum(verdict.correct for verdict in self.verdicts.values())

    @property
    def standing(self) -> str:
        """How far one is, in words."""
        return f"Question {self.place + 1} of {len(self.questions)}, {self.right} right"

    def answer(self, given: Answer) -> Verdict:
        """Mark an answer to `question`: a letter, letters, a number, a text, a list of messages or a function.

        A right answer moves on to the next question; after a wrong one, try again, or go on with `next`. Raises
        `NotAnAnswer`, and records nothing, for what cannot be an answer.
        """
        verdict = self.check(given)
        if verdict.correct:
            self.next()
        return verdict

    def check(self, given: Answer) -> Verdict:
        """Mark an answer as `answer` does, and stay at the question."""
        question = self.question
        verdict = mark(self.topic, question, given)
        self.verdicts[question.id] = verdict
        with contextlib.suppress(OSError, Timeout):  # a disk that refuses must not end the quiz
            self.progress.record(self.topic, question, verdict)
        return verdict

    def hint(self) -> str:
        """Return the next hint to `question`, each telling a little more; the last one stays."""
        question = self.question
        if not question.hints:
            return "There is no hint to this question."
        number = self._hints.get(question.id, 0)
        self._hints[question.id] = number + 1
        return question.hints[min(number, len(question.hints) - 1)]

    def next(self) -> None:
        """Go to the next question; after the last one, to the result."""
        self.done = self.place == len(self.questions) - 1
        self.place = min(self.place + 1, len(self.questions) - 1)

    def back(self) -> None:
        """Go to the question before; from the result, to the last one."""
        self.place = max(self.place - (not self.done), 0)
        self.done = False

    def go(self, number: int) -> None:
        """Go to a question by its number, from 1; raises `ValueError` for one that there is not."""
        if not 1 <= number <= len(self.questions):
            raise ValueError(f"There are questions 1 to {len(self.questions)}, but not {number}.")
        self.place, self.done = number - 1, False

    def result(self) -> str:
        """Return what came of it, in words."""
        return f"{self.right} of {len(self.questions)} right, {len(self.verdicts)} answered"

    def result_html(self) -> str:
        """Return a table of the questions, and the beliefs that were met."""
        rows = []
        for number, question in enumerate(self.questions, start=1):
            verdict = self.verdicts.get(question.id)
            mark = "not answered" if verdict is None else "✓ right" if verdict.correct else "✗ not yet"
            rows.append([str(number), question.concept, mark, (verdict and verdict.misconception) or ""])
        return table_html(["question", "about", "answer", "belief met"], rows)

    def html(self) -> str:
        """Return the quiz as it stands, as HTML without controls: no key is in it."""
        title = escape(self.topic.title)
        if self.done:
            return f"<div><strong>{title}</strong> · {escape(self.result())}</div>{self.result_html()}"
        verdict = self.verdicts.get(self.question.id)
        shown = verdict.html() if verdict else ""
        rule = f'<div class="chatlab-note">{self.rule}</div>' if self.rule else ""
        return f"<div><strong>{title}</strong> · {self.standing}</div>{rule}{self.question.html()}{shown}"

    def __repr__(self) -> str:
        if self.done:
            return f"{self.topic.title} · {self.result()}"
        return "\n".join(filter(None, [f"{self.topic.title} · {self.standing}", self.rule, repr(self.question)]))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Show the panel where there is a notebook, else text and HTML."""
        from IPython import get_ipython

        if getattr(get_ipython(), "kernel", None) is None:
            return {"text/plain": repr(self), "text/html": view(self.html())}
        if self._panel is None:
            panels: Any = importlib.import_module("chatlab.panels")  # by its name: panels come after all else
            self._panel = panels.QuizPanel(self)
        self._panel.refresh()
        bundle: dict[str, Any] = self._panel._repr_mimebundle_()
        return {**bundle, "text/plain": repr(self)}
