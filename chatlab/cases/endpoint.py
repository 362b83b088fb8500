"""Cases of the exercises on the endpoint: the history, the response, the request.

In: nothing. Out: the calls by which each exercise is checked. Knows nothing of learners.
"""

from __future__ import annotations

import inspect
from typing import Any

from openai.types.chat import ChatCompletion

from chatlab.completions import chat_completions
from chatlab.errors import BadRequestError
from chatlab.exercises.case import Case, Judge
from chatlab.messages import assistant, system, user, validate
from chatlab.requests import check_request
from chatlab.testing import ScriptedModel

__all__ = ["make_request", "next_messages", "report"]

HELPFUL = "You are a helpful assistant."
SENT = [system("Be brief."), user("What is the capital of France?"), assistant("Paris."), user("Sure?")]


def _response(reply: str, *, limit: int | None = None) -> ChatCompletion:
    return chat_completions([user("Hi")], ScriptedModel(reply), temperature=0, max_completion_tokens=limit)


def next_messages() -> list[Case]:
    """Return several replies and questions, after the same messages."""

    def case(reply: str, question: str, *, hidden: bool = False) -> Case:
        shown = f"for the reply {reply!r} and the question {question!r}"
        return Case((SENT, _response(reply), question), _goes_on(reply, question), "" if hidden else shown, hidden)

    return [
        case("Quite sure.", "And of Japan?"),
        case("Yes!", "Why?"),
        case("¡Claro!", "¿Y ahora?", hidden=True),
    ]


def _goes_on(reply: str, question: str) -> Judge:
    def judge(found: Any) -> str | None:
        try:
            messages = validate(found)
        except BadRequestError as error:
            return str(error)
        if messages[: len(SENT)] != SENT:
            return f"the list should begin with the {len(SENT)} messages that were sent"
        new = messages[len(SENT) :]
        if [message["role"] for message in new] != ["assistant", "user"]:
            return "after the old messages there should be one assistant and one user message"
        if new[0]["content"] != reply:
            return "the assistant message should hold the text of the reply"
        return None if new[1]["content"] == question else "the last message should be the new question"

    return judge


def report() -> list[Case]:
    """Return a reply that ended, one that was cut, and an empty one."""

    def case(response: ChatCompletion, shown: str, *, hidden: bool = False) -> Case:
        usage, choice = response.usage, response.choices[0]
        assert usage is not None
        wanted = {
            "text": choice.message.content,
            "cut_off": choice.finish_reason == "length",
            "tokens": usage.total_tokens,
        }
        return Case((response,), _holds(wanted), shown, hidden)

    return [
        case(_response("It is Paris."), "for a reply that ended by itself"),
        case(_response("It is Paris.", limit=5), "for a reply that was cut off"),
        case(_response("A.", limit=2), "", hidden=True),
        case(_response(""), "", hidden=True),
    ]


def _holds(wanted: dict[str, Any]) -> Judge:
    def judge(found: Any) -> str | None:
        if not isinstance(found, dict) or set(found) != set(wanted):
            return f"it should return a dict with text, cut_off and tokens, but returned {found!r}"
        for name, value in wanted.items():
            if found[name] != value or isinstance(found[name], bool) != isinstance(value, bool):
                return f"{name} should be {value!r}, but is {found[name]!r}"
        return None

    return judge


def make_request() -> list[Case]:
    """Return several questions and limits."""
    asked = [("What is the capital of France?", 20), ("Hello!", 1)]
    return [
        *(Case(each, _asks(*each), f"for {each[0]!r} and {each[1]}") for each in asked),
        Case(("¿Qué tal?", 300), _asks("¿Qué tal?", 300), hidden=True),
    ]


def _asks(question: str, limit: int) -> Judge:
    def judge(found: Any) -> str | None:
        if not isinstance(found, dict):
            return f"it should return a dict of arguments, but returned {type(found).__name__}"
        try:
            inspect.signature(chat_completions).bind(**found)
            request = check_request(**found)
        except (BadRequestError, TypeError) as error:
            return str(error)
        wanted = [system(HELPFUL), user(question)]
        if request.messages != wanted:
            return f"the messages should be {wanted}, but are {request.messages}"
        if request.sampling.temperature != 0:
            return f"the temperature is {request.sampling.temperature:g}, so the reply would vary"
        if request.max_tokens != limit:
            return f"the reply may have {request.max_tokens or 'any number of'} tokens; the limit is {limit}"
        return None

    return judge
