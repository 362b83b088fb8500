"""Reading: how a model takes in tokens, for one text or for many at once.

In: token ids. Out: the logits after them and the cache to go on from. Work that needs the model says what it wants read
and goes on when that has been done, so that whoever drives it can let the model read for several in one pass. Knows
nothing of what is made of the logits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from torch import Tensor

from chatlab.chat_model import ChatModel
from chatlab.errors import BadRequestError, ContextLengthError

__all__ = [
    "Prefill",
    "Reading",
    "Results",
    "Work",
    "check_room",
    "copies",
    "drive",
    "drive_side_by_side",
    "drive_together",
    "next_item",
    "prefill",
    "prefill_chunks",
    "read_prompt_in_chunks",
    "remember",
]

Made = TypeVar("Made")


@dataclass(frozen=True)
class Reading:
    """What a model is to read before work goes on: texts, each as token ids and the cache of what came before."""

    texts: list[tuple[Sequence[int], Any]]


Results: TypeAlias = list[tuple[Tensor, Any]]  # what each text of a reading led to: its logits and its cache
# Work yields what it has made and what it wants read, and is sent the results of a reading.
Work: TypeAlias = Generator[Made | Reading, Results, None]


@dataclass
class Prefill:
    """A prompt that the model has read: its ids, the logits [vocab_size] after it, and the cache to go on from.

    `cached_tokens` is how many of its first tokens had been read before, for another request.
    """

    input_ids: list[int]
    logits: Tensor
    past_key_values: Any
    cached_tokens: int = 0


def next_item(work: Work[Made], results: Results | None) -> Made | Reading | None:
    """Go on with work, after a reading with its results, and return what it yields; None at its end."""
    try:
        return next(work) if results is None else work.send(results)
    except StopIteration:
        return None


def drive(model: ChatModel, work: Work[Made]) -> Iterator[Made]:
    """Let the model read whatever the work wants read, and yield what it makes.

    >>> from chatlab.testing import ScriptedModel
    >>> *_, read = drive(ScriptedModel("Hello"), read_prompt_in_chunks(ScriptedModel("Hello"), [72, 105]))
    >>> chr(read.logits.argmax())
    'H'
    """
    try:
        item = next(work)
        while True:
            if isinstance(item, Reading):
                item = work.send(model.next_logits_of_many(item.texts))
            else:
                yield item
                item = next(work)
    except StopIteration:
        return
    finally:
        work.close()


def drive_together(model: ChatModel, works: Sequence[Work[Made]]) -> list[list[Made]]:
    """Let the model read for several works in one pass, again and again; return what each has made."""
    made = dict(drive_side_by_side(model, works, limit=len(works)))
    return [made[number] for number in range(len(works))]


def drive_side_by_side(
    model: ChatModel, works: Iterable[Work[Made]], *, limit: int
) -> Iterator[tuple[int, list[Made]]]:
    """Let the model read for at most `limit` works in one pass; yield each one's number and what it made as it ends.

    When one ends the next is taken from `works`, so that there may be any number of them.
    """
    coming = enumerate(works)
    going: dict[int, Work[Made]] = {}
    made: dict[int, list[Made]] = {}
    results: dict[int, Results] = {}
    try:
        while True:
            for number, work in islice(coming, limit - len(going)):
                going[number], made[number] = work, []
            if not going:
                return
            readings: dict[int, Reading] = {}
            for number, work in list(going.items()):
                reading = _work_until_reading(work, results.pop(number, None), made[number])
                if reading is not None:
                    readings[number] = reading
                else:
                    del going[number]
                    yield number, made.pop(number)
            if readings:
                read = iter(model.next_logits_of_many([text for each in readings.values() for text in each.texts]))
                for number, reading in readings.items():
                    results[number] = list(islice(read, len(reading.texts)))
    finally:
        for work in going.values():
            work.close()


def _work_until_reading(work: Work[Made], results: Results | None, made: list[Made]) -> Reading | None:
    """Go on with work, keeping what it makes, and return what it wants read next; None at its end."""
    try:
        item = next(work) if results is None else work.send(results)
        while not isinstance(item, Reading):
            made.append(item)
            item = next(work)
        return item
    except StopIteration:
        return None


def check_room(model: ChatModel, prompt_tokens: int, reply_tokens: int = 1) -> None:
    """Raise `ContextLengthError` unless prompt and reply fit into the model's context together."""
    if prompt_tokens == 0:
        raise BadRequestError("The prompt is empty: there is nothing to go on from.", param="messages")
    needed = prompt_tokens + reply_tokens
    if needed > model.context_length:
        raise ContextLengthError(
            f"{model.name} can hold {model.context_length} tokens, but this request needs {needed}: {prompt_tokens} in "
            f"the messages and {reply_tokens} for the reply. Shorten the messages, drop the oldest, or ask for a "
            "shorter reply.",
            param="messages",
        )


def prefill(model: ChatModel, input_ids: list[int]) -> Prefill:
    """Let the model read the whole prompt. Raises `ContextLengthError` when it leaves no room for a reply."""
    *_, read = prefill_chunks(model, input_ids)
    return read


def prefill_chunks(model: ChatModel, input_ids: list[int]) -> Iterator[Prefill]:
    """Let the model read the prompt chunk by chunk, and yield after each what has been read so far.

    Between two chunks the caller may stop, or do something else. Raises `ContextLengthError` when the prompt leaves no
    room for a reply.
    """
    return drive(model, read_prompt_in_chunks(model, input_ids))


def read_prompt_in_chunks(model: ChatModel, input_ids: list[int]) -> Work[Prefill]:
    """Read a prompt as `prefill_chunks` does, as work that someone else drives.

    What the model has read before, for a request that began alike, is not read again.
    """
    check_room(model, len(input_ids))
    known = None if model.prefixes is None else model.prefixes.find(input_ids, fork=model.fork)
    start, past_key_values = 0, None
    if known:
        start, past_key_values = known.length, known.past_key_values
        if known.logits is not None:
            yield Prefill(input_ids, known.logits, past_key_values, cached_tokens=start)
            return
    cached_tokens = start
    while start < len(input_ids):
        end = min(start + model.prefill_chunk, len(input_ids))
        [(logits, past_key_values)] = yield Reading([(input_ids[start:end], past_key_values)])
        yield Prefill(input_ids[:end], logits, past_key_values, cached_tokens=cached_tokens)
        start = end


def copies(model: ChatModel, read: Prefill, number: int) -> list[Prefill]:
    """Return the prompt so many times, each for a reply of its own that is made beside the others."""
    return [replace(read, past_key_values=cache) for cache in model.forks(read.past_key_values, number)]


def remember(model: ChatModel, read: Prefill, reply_ids: Sequence[int] = (), past_key_values: Any = None) -> None:
    """Let the model keep what it has read, a prompt or a prompt and a reply, for a later prompt that begins so.

    The cache, the prompt's own unless another is given, must not be changed any more.
    """
    if model.prefixes is not None:
        cache = read.past_key_values if past_key_values is None else past_key_values
        model.prefixes.keep(
            [*read.input_ids, *reply_ids],
            cache,
            prompt_length=len(read.input_ids),
            logits=read.logits,
            size=model.cache_bytes(cache),
        )
