"""Cases of the exercises on streaming.

In: nothing. Out: the calls by which each exercise is checked. Knows nothing of learners.
"""

from __future__ import annotations

from typing import Any

from chatlab.completions import chat_completions
from chatlab.exercises.case import Case, Judge, equals
from chatlab.messages import user
from chatlab.testing import ScriptedModel

__all__ = ["assemble", "text_from"]


def assemble() -> list[Case]:
    """Return the chunks of a whole reply, of one with the usage, of one cut by its limit, and of broken ones."""
    stop = _chunks("Hello!")
    return [
        Case((stop,), _both("Hello!", "stop"), "for a whole reply"),
        Case((_chunks("Hello!", usage=True),), _both("Hello!", "stop"), "with the usage at the end"),
        Case((_chunks("Hello!", limit=4),), _both("Hell", "length"), "with a limit"),
        Case((stop[:5],), _both("Hell", None), hidden=True),
        Case((_chunks("A 🎉, a café"),), _both("A 🎉, a café", "stop"), hidden=True),
    ]


def text_from() -> list[Case]:
    """Return a stream whole, in pieces that break lines and characters, and without its end."""
    events = [f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n" for chunk in _chunks("A 🎉 now.", usage=True)]
    lines = [each.encode() for each in (*events, "data: [DONE]\n\n")]
    stream = b"".join(lines)
    commented = b": keep-alive\n\n" + stream
    return [
        Case((lines,), equals("A 🎉 now."), "one event in each piece"),
        Case((_cut(stream, 50),), equals("A 🎉 now."), "cut after every 50 bytes"),
        Case((_cut(commented, 3),), equals("A 🎉 now."), "cut after every 3 bytes, with a comment"),
        Case((_cut(b"".join(lines[:4]) + lines[4][:60], 7),), equals("A 🎉"), hidden=True),
        Case(([],), equals(""), hidden=True),
    ]


def _chunks(reply: str, *, usage: bool = False, limit: int | None = None) -> list[Any]:
    options = {"include_usage": True} if usage else None
    messages, model = [user("Hi")], ScriptedModel(reply)
    return list(chat_completions(messages, model, stream=True, stream_options=options, max_completion_tokens=limit))


def _cut(data: bytes, length: int) -> list[bytes]:
    return [data[at : at + length] for at in range(0, len(data), length)]


def _both(text: str, reason: str | None) -> Judge:
    """Return a judge of a text and a finish_reason."""

    def judge(found: Any) -> str | None:
        said, why = found
        if said != text:
            return f"the text should be {text!r}, but is {said!r}"
        return None if why == reason else f"the finish_reason should be {reason!r}, but is {why!r}"

    return judge
