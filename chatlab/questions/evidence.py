"""Evidence: prove that the answers in a file of questions are right.

In: a question or a fact. Out: nothing if the engine agrees with its author, else an `EvidenceError`. Knows nothing of
what the questions are about: that is in `chatlab.evidence.<topic>`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chatlab.chat_model import ChatModel
from chatlab.errors import ChatlabError
from chatlab.questions.given import callable_of, messages_of
from chatlab.questions.question import Answer, Choice, Fact, Question

__all__ = [
    "CHECKED_KINDS",
    "EvidenceError",
    "answer_of_the_engine",
    "compare",
    "evidence_of",
    "misconception_in",
    "prove",
]

# The kinds whose answers are written freely: their evidence is a check, which a learner's answer goes through as well.
CHECKED_KINDS = ("fix-the-request", "function")


class EvidenceError(ChatlabError):
    """The engine does not agree with the author of a question."""


def evidence_of(item: Question | Fact) -> Callable[..., Any]:
    """Return the function that an item names; raises `EvidenceError` where there is none."""
    name = f"chatlab.evidence.{item.topic.replace('-', '_')}"
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(name), item.evidence)
    except (ImportError, AttributeError) as error:
        raise EvidenceError(
            f"{item.id}: {name} has no function {item.evidence!r}. Write one that returns the engine's own answer."
        ) from error
    return function


def prove(item: Question | Fact, model: ChatModel) -> None:
    """Raise `EvidenceError` unless the engine gives the answer that the author wrote.

    >>> from chatlab.questions.question_files import topic_of
    >>> from chatlab.testing import ScriptedModel
    >>> prove(topic_of("roles").questions[1], ScriptedModel("Hi"))
    """
    if isinstance(item, Question) and item.kind in CHECKED_KINDS:
        _prove_checked(item)
    else:
        compare(item, answer_of_the_engine(item, model))


def answer_of_the_engine(item: Question | Fact, model: ChatModel) -> Answer:
    """Return the engine's own answer: a key, or what the back of a fact must hold.

    The evidence gets the item as a learner does, without the author's answer and all that could give it away. So what
    it returns cannot depend on what the author believes.
    """
    try:
        return evidence_of(item)(_as_asked(item), model)
    except ValueError as error:  # not just one choice is right
        raise EvidenceError(f"{item.id}: the engine finds not just one right answer ({error}).") from error


def compare(item: Question | Fact, answer: Answer) -> None:
    """Raise `EvidenceError` unless the author's answer is the engine's."""
    if isinstance(item, Fact):
        if not re.search(rf"(?<!\w)(?<!\d[.,]){re.escape(answer)}(?!\w)(?![.,]\d)", item.back):  # as words of its own
            raise EvidenceError(f"{item.id}: the back is {item.back!r}, but the engine shows {answer!r}.")
    elif answer != item.key:
        raise EvidenceError(f"{item.id}: the answer is {item.key!r}, but the engine finds {answer!r}.")


def _as_asked(item: Question | Fact) -> Question | Fact:
    if isinstance(item, Fact):
        return replace(item, back="")
    choices = tuple(Choice(choice.letter, choice.text) for choice in item.choices)
    return replace(item, key=None, choices=choices, wrong=(), explanation="", hints=())


def _prove_checked(question: Question) -> None:
    """Let the right answer pass, and the starter and each typical wrong answer fail, each for its own reason."""
    found = misconception_in(question, question.key)
    if found is not None:
        raise EvidenceError(f"{question.id}: the answer does not pass its own check: {found}.")
    try:
        passes = misconception_in(question, question.request) is None
    except Exception:  # a starter need not run
        passes = False
    if passes:
        raise EvidenceError(f"{question.id}: what the learner begins with passes already. Break it.")
    for wrong in question.wrong:
        found = misconception_in(question, wrong.answer)
        if found != wrong.misconception:
            raise EvidenceError(f"{question.id}: a wrong answer for {wrong.misconception!r} is found to be {found!r}.")


def misconception_in(question: Question, answer: Any) -> str | None:
    """Return the name of what is wrong with a mended request or a function; None if nothing is.

    Raises `NotAnAnswer` for what is neither, and whatever the learner's own function raises.
    """
    made = callable_of(answer, question.function) if question.kind == "function" else messages_of(answer)
    found: str | None = evidence_of(question)(made)
    return found
