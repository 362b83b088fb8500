"""Making: the replies of a sweep, each told apart from all others by a key.

In: runs. Out: for each, as soon as it is there, its reply and what was measured while it was made. On this machine the
model reads for several at once; a server is asked several things at once. Knows nothing of tables or files.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeAlias

import torch
from openai.types.chat import ChatCompletion, ChatCompletionMessage

import chatlab
from chatlab.chat_model import ChatModel
from chatlab.completions import open_stream
from chatlab.engines import Engine, ReplyStream
from chatlab.errors import ChatlabError
from chatlab.experiments.grid import Run
from chatlab.model import resolve
from chatlab.prefixes import WholePrompts
from chatlab.reading import Work, drive_side_by_side, prefill, remember
from chatlab.remote import RemoteModel
from chatlab.streaming import ChatCompletionStream, join_chunks
from chatlab.threads import Threads

__all__ = ["Made", "check_runs", "identity", "key_of", "make_replies", "threads_of"]

SIDE_BY_SIDE = 8  # each reply has a key-value cache, or a connection, of its own

Made: TypeAlias = Mapping[str, Any]  # the reply, its finish_reason, its tokens and the prompt's, its entropy


def identity(model: Engine) -> dict[str, Any]:
    """Return what a reply depends on beside its request: which model, with what weights, run by what.

    >>> from chatlab.testing import ScriptedModel
    >>> identity(ScriptedModel("Hi"))["name"]
    'scripted'
    """
    if isinstance(model, RemoteModel):
        return {"name": model.name, "base_url": model.base_url}
    local = resolve(model)
    return {
        "name": local.name,
        "weights": local.fingerprint(),
        "context_length": local.context_length,
        "chat_template": local.chat_template,
        "engine": type(local).__name__,
        "threads": threads_of(local),
        "chatlab": chatlab.__version__,
        "torch": torch.__version__,
    }


def key_of(run: Run, identity: Mapping[str, Any]) -> str:
    """Return a hash of all that determines the reply; of the seed only where dice are thrown.

    A server may throw them even at temperature 0, as far as one can know.
    """
    options: dict[str, Any] = dict(run.options)
    if isinstance(run.model, ChatModel) and options.get("temperature") == 0:
        del options["seed"]
    written = json.dumps([identity, list(run.messages), options], sort_keys=True, default=repr)
    return hashlib.sha256(written.encode()).hexdigest()[:32]


def check_runs(runs: Sequence[Run]) -> None:
    """Raise what a model on this machine would refuse, a prompt that is too long for example, before any work."""
    seen = set()
    for run in runs:
        condition = repr([id(run.model), run.messages, {**run.options, "seed": None}])
        if isinstance(run.model, ChatModel) and condition not in seen:
            open_stream(run.messages, run.model, **run.options)
            seen.add(condition)


def make_replies(runs: Sequence[Run]) -> Iterator[tuple[int, Made]]:
    """Yield the number of each run and what came of it, in the order in which they are done, model by model.

    A reply is the same whatever is made beside it or was made before.
    """
    by_model: dict[Engine, list[int]] = {}
    for number, run in enumerate(runs):
        by_model.setdefault(run.model, []).append(number)
    for model, numbers in by_model.items():
        chosen = [runs[number] for number in numbers]
        for at, made in _local(chosen, model) if isinstance(model, ChatModel) else _remote(chosen):
            yield numbers[at], made


def _local(runs: Sequence[Run], model: ChatModel) -> Iterator[tuple[int, Made]]:
    """Let a model on this machine reply to several at once."""
    alone = _undisturbed(model)
    streams: list[ChatCompletionStream] = []

    def works() -> Iterator[Work[Any]]:
        for run in runs:
            stream = open_stream(run.messages, alone, **run.options)
            stream.measured = True
            if alone.prefixes is not None:  # read once, before the first of its replies is begun
                remember(alone, prefill(alone, stream.input_ids))
            streams.append(stream)
            yield stream.work

    for number, chunks in drive_side_by_side(alone, works(), limit=SIDE_BY_SIDE):
        stream = streams[number]
        yield number, _made(join_chunks(filter(None, chunks)), stream.entropy / stream.completion_tokens)


def _undisturbed(model: ChatModel) -> ChatModel:
    """Return the model as one whose replies depend on nothing but the request."""
    alone = copy.copy(model)
    if model.prefixes is not None:
        alone.prefixes = WholePrompts()
    if (threads := threads_of(model)) is not None:
        vars(alone)["threads"] = Threads(threads)
    return alone


def threads_of(model: ChatModel) -> int | None:
    """Return how many threads a model's sums are shared out among, where that changes how they are rounded."""
    threads = getattr(model, "threads", None)
    if not isinstance(threads, Threads) or model.reads_together:
        return None
    return threads.number or threads.cores


def _remote(runs: Sequence[Run]) -> Iterator[tuple[int, Made]]:
    """Ask a server several things at once; after a failure nothing more is asked, and what was asked is waited for."""
    replies: list[ReplyStream] = []
    failures: list[ChatlabError] = []
    stopped = threading.Event()

    def ask(run: Run) -> Made | None:
        if failures or stopped.is_set():
            return None
        reply = open_stream(run.messages, run.model, **run.options)
        replies.append(reply)
        try:
            return _made(reply.whole())
        except ChatlabError as error:
            failures.append(error)
            return None

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        asked = {pool.submit(ask, run): number for number, run in enumerate(runs)}
        try:
            for done in as_completed(asked):
                made = done.result()
                if made is not None:
                    yield asked[done], made
        finally:
            stopped.set()
            for reply in replies:
                reply.close()
    if failures:
        raise failures[0]


def _made(reply: ChatCompletion, entropy: float | None = None) -> Made:
    usage = reply.usage
    return {
        "reply": _text(reply.choices[0].message),
        "finish_reason": reply.choices[0].finish_reason,
        "prompt_tokens": usage and usage.prompt_tokens,
        "tokens": usage and usage.completion_tokens,
        "entropy": entropy,  # in bits, the mean over the tokens
    }


def _text(message: ChatCompletionMessage) -> str:
    """Return the text of a reply, and below it each call of a tool as it would be written in Python."""
    calls = [call.function for call in message.tool_calls or () if call.type == "function"]
    return "\n".join([*filter(None, [message.content]), *(f"{call.name}({call.arguments})" for call in calls)])
