"""Summaries: a model's own words for what was said.

In: messages that no longer fit. Out: a sentence or two. Knows nothing of limits other than the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from chatlab.completions import chat_completions
from chatlab.engines import Engine
from chatlab.messages import Message, system, user
from chatlab.model import engine_of
from chatlab.remote import vocabulary_of
from chatlab.tokens import count_tokens

__all__ = ["Summary", "summarise"]

INSTRUCTION = "Summarise the conversation in one or two short sentences. Keep names, numbers and wishes."


class Summary(NamedTuple):
    """A summary, and how many messages, the oldest, were too long to be read for it."""

    text: str
    unread: int


def summarise(messages: Sequence[Message], *, max_tokens: int, model: Engine | str | Path | None = None) -> Summary:
    """Return the model's summary of the messages, at temperature 0, at most `max_tokens` long.

    Of what is too long for the model to read at once, the oldest messages are left out. The text is empty when not
    even the newest can be read, or the model says nothing.

    >>> from chatlab.testing import ScriptedModel
    >>> summarise([user("I am Ana.")], max_tokens=20, model=ScriptedModel(" The user is Ana. "))
    Summary(text='The user is Ana.', unread=0)
    """
    model = engine_of(model)
    lines = [f"{message['role']}: {message['content']}" for message in messages]
    for unread in range(len(lines)):
        request = [system(INSTRUCTION), user("\n".join(lines[unread:]) + "\n\nSummary:")]
        tokens = count_tokens(request, encoding=vocabulary_of(model)) + max_tokens
        if model.context_length is None or tokens <= model.context_length:
            response = chat_completions(request, model, temperature=0, max_completion_tokens=max_tokens)
            return Summary((response.choices[0].message.content or "").strip(), unread)
    return Summary("", len(lines))
