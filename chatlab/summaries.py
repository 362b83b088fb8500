"""Summaries: a model's own words for what was said.

In: messages that no longer fit. Out: a sentence or two, and the turn by which a prompt says them. Knows nothing of
limits other than the model's own.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from chatlab.completions import open_stream
from chatlab.engines import Engine
from chatlab.errors import ReplyStoppedError
from chatlab.messages import Message, assistant, user
from chatlab.remote import engine_of, vocabulary_of
from chatlab.tokens import count_tokens

__all__ = ["Summary", "summarise", "summary_turn"]

INSTRUCTION = "Summarise the conversation in one or two short sentences. Keep names, numbers and wishes."
# A small model follows an example where it does not follow an instruction. There is no system message, for some
# templates have none.
EXAMPLE = [
    user(f"{INSTRUCTION}\n\nuser: I am Kim, I have 3 cats.\nassistant: Lovely!"),
    assistant("The user is Kim, who has 3 cats."),
]
QUESTION = "Summarise our conversation so far."
ANSWER = "Summary of the conversation so far: "
SECONDS_BEFORE_BAR = 1.0  # what takes no longer needs no progress bar


class Summary(NamedTuple):
    """A summary, and how many messages, the oldest, were too long to be read for it."""

    text: str
    unread: int


def summary_turn(summary: str) -> list[Message]:
    """Return a summary as one turn: the question for it, and the model's own words as its answer.

    So nothing that a user wrote gains the rank of a system message, and roles alternate as some templates demand.

    >>> [message["role"] for message in summary_turn("The user is Ana.")]
    ['user', 'assistant']
    """
    return [user(QUESTION), assistant(ANSWER + summary)]


def summarise(
    messages: Sequence[Message],
    *,
    max_completion_tokens: int,
    interrupted: Callable[[], bool] = lambda: False,
    model: Engine | str | Path | None = None,
) -> Summary:
    """Return the model's summary of the messages, at temperature 0, at most `max_completion_tokens` long.

    Of what is too long for the model to read at once, the oldest messages are left out. The text is empty when not
    even the newest can be read, or the model says nothing. `interrupted` is asked between two tokens and between two
    pieces of the prompt; once it says yes, `ReplyStoppedError` is raised. A progress bar shows when it takes long.

    >>> from chatlab.testing import ScriptedModel
    >>> summarise([user("I am Ana.")], max_completion_tokens=20, model=ScriptedModel(" The user is Ana. "))
    Summary(text='The user is Ana.', unread=0)
    """
    model = engine_of(model)
    lines = [f"{message['role']}: {message['content']}" for message in messages]

    def request(unread: int) -> list[Message]:
        return [*EXAMPLE, user("\n".join([INSTRUCTION, "", *lines[unread:]]))]

    def readable(unread: int) -> bool:
        tokens = count_tokens(request(unread), encoding=vocabulary_of(model)) + max_completion_tokens
        return model.context_length is None or tokens <= model.context_length

    unread = bisect_left(range(len(lines)), True, key=readable)
    text = ""
    for piece in _pieces(request(unread), max_completion_tokens, model) if unread < len(lines) else ():
        if interrupted():
            raise ReplyStoppedError("The summary of the conversation was stopped before its end.")
        text += piece
    return Summary(text.strip(), unread)


def _pieces(request: list[Message], max_completion_tokens: int, model: Engine) -> Iterator[str]:
    """Yield the reply piece by piece, and nothing but a chance to stop after each piece of the prompt."""
    bar = tqdm(
        desc="Summarising what no longer fits",
        total=max_completion_tokens,
        unit="token",
        leave=False,
        disable=threading.current_thread() is not threading.main_thread(),  # there it would appear anywhere
        delay=SECONDS_BEFORE_BAR,
    )
    reply = open_stream(request, model, temperature=0, max_completion_tokens=max_completion_tokens)
    with bar, reply:
        for chunk in reply.pieces():
            text = "".join(choice.delta.content or "" for choice in chunk.choices) if chunk else ""
            bar.update(bool(text))
            yield text
        bar.total = bar.n  # a summary that ends of itself is complete, however short
