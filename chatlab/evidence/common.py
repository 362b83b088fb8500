"""What the evidence of many topics needs: the error of a request, the choice that is right, what a code prints.

In: a question, or a list of messages. Out: what the engine makes of it. Knows nothing of one topic.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any

from chatlab.chat_model import ChatModel
from chatlab.completions import open_stream
from chatlab.errors import BadRequestError
from chatlab.messages import validate
from chatlab.questions.question import Question

__all__ = ["fault_of", "refusal_of", "the_claim", "the_one", "what_the_code_prints"]


def fault_of(messages: Any) -> BadRequestError | None:
    """Return the error that the engine answers to a list of messages; None where it takes the list.

    >>> fault_of([{"content": "Hi"}]).param
    'messages[0].role'
    """
    try:
        validate(messages)
    except BadRequestError as error:
        return error
    return None


def refusal_of(messages: Any, model: ChatModel, *, reply: int | None = None) -> BadRequestError | None:
    """Return the error with which the engine refuses a request for so long a reply; None where it would start on it.

    >>> from chatlab.testing import ScriptedModel
    >>> refusal_of([{"role": "user", "content": "Hi"}], ScriptedModel("", context_length=60), reply=100).code
    'context_length_exceeded'
    """
    try:
        open_stream(messages, model, max_completion_tokens=reply).close()
    except BadRequestError as error:
        return error
    return None


def the_one(question: Question, right: Callable[[str], bool]) -> str:
    """Return the letter of the one choice whose text is right; raises `ValueError` where it is not just one."""
    [letter] = [choice.letter for choice in question.choices if right(choice.text)]
    return letter


def the_claim(question: Question, claims: Mapping[str, bool]) -> str:
    """Return the letter of the one choice that says what is true.

    `claims` has words of each choice and whether they are so; a choice that holds none of the words raises
    `ValueError`, since nothing is known of it.
    """
    unknown = [choice.letter for choice in question.choices if not any(words in choice.text for words in claims)]
    if unknown:
        raise ValueError(f"nothing is known of {', '.join(unknown)}")
    return the_one(question, lambda text: any(true and words in text for words, true in claims.items()))


def what_the_code_prints(question: Question, model: ChatModel) -> str:
    """Run the code of the question, and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(question.code, question.id, "exec"), {"__name__": "question"})
    return printed.getvalue().strip()
