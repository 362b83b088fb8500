"""Cases of the exercises on long conversations.

In: nothing. Out: the calls by which each exercise is checked. Knows nothing of learners.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatlab.exercises.case import Case, Judge
from chatlab.messages import Message, assistant, system, user
from chatlab.testing import ScriptedModel
from chatlab.tokens import count_tokens

__all__ = ["keep_first_turn", "reply_to"]

COUNTER = ScriptedModel("")  # counts in bytes, so that no weights are needed


def _chat(turns: int) -> list[Message]:
    said = [message for n in range(turns) for message in (user(f"Question {n}?"), assistant(f"Answer {n}."))]
    return [system("Be brief."), *said, user("What is my name?")]


def keep_first_turn() -> list[Case]:
    """Return chats that fit, that lose one turn or more, and of which only the first turn stays."""

    def case(turns: int, dropped: int, shown: str = "", *, hidden: bool = False) -> Case:
        messages = _chat(turns)
        wanted = [*messages[:3], *messages[3 + 2 * dropped :]]
        limit = count_tokens(wanted, model=COUNTER)

        def fits(given: Sequence[Message]) -> bool:
            return count_tokens(given, model=COUNTER) <= limit

        return Case((messages, fits), _keeps(wanted, messages, fits), shown, hidden)

    return [
        case(3, 0, "where all fits"),
        case(5, 2, "where two turns must go"),
        case(4, 3, hidden=True),
        case(9, 1, hidden=True),
    ]


def _keeps(wanted: list[Message], messages: list[Message], fits: Any) -> Judge:
    """Return a judge that says which of the messages should be there and are not."""

    def judge(found: Any) -> str | None:
        if found == wanted:
            return None
        if messages[0] not in found:
            return "the system message is missing"
        if messages[1] not in found or messages[2] not in found:
            return "the first turn is missing"
        if messages[-1] not in found:
            return "the new question is missing"
        if not fits(found):
            return "what is returned does not fit"
        if messages[-2] in wanted and messages[-2] not in found and len(found) == len(wanted):
            return "the newest turns should stay, and the older ones go"
        if len(found) < len(wanted):
            return f"{len(found)} messages are returned: more of the newest turns would fit"
        return "the messages are not in their old order, or some are not those of the chat"

    return judge


def reply_to() -> list[Case]:
    """Return chats for models that can hold all of them, all but one turn, and only the last question."""

    def case(turns: int, dropped: int, shown: str = "", *, hidden: bool = False) -> Case:
        messages = _chat(turns)
        wanted = [messages[0], *messages[1 + 2 * dropped :]]
        model = ScriptedModel("Ana.", context_length=count_tokens(wanted, model=COUNTER) + 16)
        return Case((messages, model), _replied(model, turns - dropped), shown, hidden)

    return [
        case(2, 0, "where all fits"),
        case(4, 1, "where one turn must go"),
        case(5, 3, hidden=True),
        case(3, 3, hidden=True),
    ]


def _replied(model: ScriptedModel, turns: int) -> Judge:
    """Return a judge that reads the prompt which the model was asked with."""

    def judge(found: Any) -> str | None:
        if not model.prompts:
            return "the model was never asked"
        prompt = model.prompts[-1]
        if "Be brief." not in prompt:
            return "the system message was not sent"
        if "What is my name?" not in prompt:
            return "the question was not sent"
        sent = prompt.count("Answer ")
        if sent < turns:
            return f"{sent} earlier turns were sent, and {turns} would fit: more was dropped than had to be"
        if prompt.count("Question ") != sent:
            return "a reply was sent without its question, or a question without its reply"
        return None if found == "Ana." else f"it should return the text of the reply, 'Ana.', but is {found!r}"

    return judge
