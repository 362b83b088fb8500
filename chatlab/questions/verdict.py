"""Verdict: what comes of an answer.

In: a question and an answer. Out: whether it is right, why, and the misconception behind it, as an object that shows
itself. Knows nothing of who answers, or when.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chatlab.display import escape, view
from chatlab.questions.evidence import CHECKED_KINDS, misconception_in
from chatlab.questions.given import SOURCE, NotAnAnswer, letters_of, number_of, text_of
from chatlab.questions.question import Question, Topic
from chatlab.time_limits import OutOfTimeError, at_most

__all__ = ["Verdict", "mark"]

SECONDS = 3  # for a function whose source was given: nothing else could stop one that never ends


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is `correct`, with the `explanation`, and for a wrong one the `misconception` if it has a name.

    >>> Verdict(True, "Both are read.")
    Right. Both are read.
    >>> Verdict(False, "It is accepted.", "Turns must alternate.")
    Not yet. It is accepted.
    A common belief: Turns must alternate.
    """

    correct: bool
    explanation: str
    misconception: str | None = None
    misconception_name: str | None = None

    def __repr__(self) -> str:
        belief = f"\nA common belief: {self.misconception}" if self.misconception else ""
        return f"{'Right.' if self.correct else 'Not yet.'} {self.explanation}{belief}"

    def html(self) -> str:
        """Return the verdict as HTML; all text in it is escaped."""
        mark = "✓ Right." if self.correct else "✗ Not yet."
        belief = (
            f'<div class="chatlab-note">A common belief: <em>{escape(self.misconception)}</em></div>'
            if self.misconception
            else ""
        )
        kind = "right" if self.correct else "wrong"
        return f'<div class="chatlab-verdict {kind}"><strong>{mark}</strong> {escape(self.explanation)}{belief}</div>'

    def _repr_html_(self) -> str:
        return view(self.html())


def mark(topic: Topic, question: Question, given: Any) -> Verdict:
    """Return the verdict on an answer; raises `NotAnAnswer` for what cannot be one.

    >>> from chatlab.questions.question_files import topic_of
    >>> topic = topic_of("roles")
    >>> mark(topic, topic.questions[0], "A")
    Not yet. The role says who speaks. The reply is spoken by the model, not by the user.
    A common belief: The reply takes the role of the last message.
    """
    if question.kind in CHECKED_KINDS:
        correct, explanation, name = _checked(question, given)
    elif question.kind in ("single", "multiple"):
        correct, explanation, name = _chosen(question, letters_of(given, question.letters))
    else:
        answer, key = _plain(question, given), _plain(question, question.key)
        correct, explanation, name = answer == key, question.explanation, None
        if not correct:
            match = next((wrong for wrong in question.wrong if _plain(question, wrong.answer) == answer), None)
            explanation, name = (match.explanation, match.misconception) if match else (_try_again(question), None)
    return Verdict(correct, explanation, topic.misconceptions[name] if name else None, name)


def _plain(question: Question, given: Any) -> Any:
    """Return an answer in the form of a key."""
    if question.kind == "number":
        return number_of(given)
    if question.kind == "predict-output":
        return text_of(given)
    letters = letters_of(given, question.letters)
    if len(letters) < len(question.letters):
        raise NotAnAnswer(f"Put all of them in order: {', '.join(question.letters)}.")
    return letters


def _try_again(question: Question) -> str:
    """Return what to say to an answer that nobody has thought of, without the right one."""
    return "That is not it. A hint may help." if question.hints else "That is not it."


def _chosen(question: Question, letters: list[str]) -> tuple[bool, str, str | None]:
    """Mark the letters of choices. The first one that is wrong is explained; one that is missing is not told."""
    if question.kind == "single" and len(letters) > 1:
        raise NotAnAnswer("Choose one.")
    wanted = list(question.key)
    chosen = [choice for choice in question.choices if choice.letter in letters]
    for choice in chosen:
        if choice.letter not in wanted:
            return False, _labelled(question, choice.letter, choice.explanation), choice.misconception
    explained = " ".join(_labelled(question, choice.letter, choice.explanation) for choice in chosen)
    if len(chosen) < len(wanted):
        return False, f"All that you chose is right, and something is missing. {explained}", None
    return True, explained, None


def _labelled(question: Question, letter: str, explanation: str) -> str:
    return f"{letter}: {explanation}" if question.kind == "multiple" else explanation


def _checked(question: Question, given: Any) -> tuple[bool, str, str | None]:
    """Mark what was written freely, by the check that is its evidence too."""
    if isinstance(given, str) and given.strip() == question.request.strip():
        raise NotAnAnswer("Nothing is changed yet.")
    try:
        with at_most(SECONDS, file=SOURCE, raises=OutOfTimeError):
            name = misconception_in(question, given)
    except NotAnAnswer:
        raise
    except OutOfTimeError:
        return (
            False,
            f"It was stopped, for it takes longer than {SECONDS} s. Is there a loop in it that never ends?",
            None,
        )
    except Exception as error:  # of a learner's own function
        return False, f"The function raises {type(error).__name__}: {error}", None
    if name is None:
        return True, question.explanation, None
    wrong = next((wrong for wrong in question.wrong if wrong.misconception == name), None)
    return False, wrong.explanation if wrong else _try_again(question), name
