"""Cases of the exercises on tokens.

In: nothing. Out: the calls by which each exercise is checked. Knows nothing of learners.
"""

from __future__ import annotations

from typing import Any

from chatlab.exercises.case import Case, Judge, equals
from chatlab.messages import Message, assistant, system, user
from chatlab.tokens import count_tokens

__all__ = ["room_for_reply", "shorten"]


def room_for_reply() -> list[Case]:
    """Return prompts that leave room, just fill the limit, or are too long."""
    question = [system("Be brief."), user("What is unbelievably long?")]
    chat = [user("2024 🎉"), assistant("Happy new year!"), user("Grüße!")]

    def case(messages: list[Message], room: int, shown: str = "", *, hidden: bool = False) -> Case:
        limit = count_tokens(messages) + room
        return Case((messages, limit), _room(messages, limit), shown, hidden)

    return [
        case(question, 100, "where there is room"),
        case(question, -5, "where the prompt is too long"),
        case(chat, 7, "without a system message"),
        case(chat, 0, hidden=True),
        case(question, 1, hidden=True),
    ]


def _room(messages: list[Message], limit: int) -> Judge:
    """Return a judge that names what was counted in place of the prompt."""
    texts = [message["content"] for message in messages]
    counted = {
        max(0, limit - sum(len(text.split()) for text in texts)): "words are counted, not tokens",
        max(0, limit - sum(count_tokens(text) for text in texts)): "only the texts are counted, not what stands around",
    }
    right = max(0, limit - count_tokens(messages))

    def judge(found: Any) -> str | None:
        fault = equals(right)(found)
        return f"{fault}: {counted[found]}" if fault and found in counted else fault

    return judge


def shorten() -> list[Case]:
    """Return texts that fit, that are too long, and that would be cut in the middle of a character."""

    def case(text: str, limit: int, shown: str = "", *, hidden: bool = False) -> Case:
        return Case((text, limit), _beginning(text, limit), shown, hidden)

    return [
        case("The sea is wide and blue.", 4, "for a text of plain words"),
        case("Hello!", 10, "for a text that fits"),
        case("Party 🎉🎉", 3, "for a text that ends in emoji"),
        case("unbelievably 1234567", 6, hidden=True),
        case("日本語", 1, hidden=True),
    ]


def _beginning(text: str, limit: int) -> Judge:
    """Return a judge that wants the longest beginning of the text within the limit."""
    longest = next(text[:end] for end in range(len(text), -1, -1) if count_tokens(text[:end]) <= limit)

    def judge(found: Any) -> str | None:
        if not isinstance(found, str):
            return f"it should be a text, but is {type(found).__name__}"
        if "\N{REPLACEMENT CHARACTER}" in found:
            return f"it ends in half a character: {found!r}"
        if not text.startswith(found):
            return f"{found!r} is not a beginning of the text"
        count = count_tokens(found)
        if count > limit:
            return f"{found!r} has {count} tokens, and at most {limit} are wanted"
        return None if found == longest else f"{found!r} is short: more of the text has room"

    return judge
