"""Remote stream: a reply from a server, as it comes or whole.

In: the official client and the parameters of a request. Out: chunks, or the whole response, made by one thread that
talks to all servers, so that any other can close a reply. Knows nothing of models or of chatlab's own parameters.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import warnings
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from typing import Any, NoReturn, TypeVar

import httpx2
import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from chatlab.engines import ReplyStream
from chatlab.errors import LocalModelNeededError
from chatlab.remote_answers import ChunkTidier, no_completion, raise_plainly

__all__ = ["RemoteStream", "close_with", "url_of", "wait_for"]

Value = TypeVar("Value")

_ACCEPTED = object()


class RemoteStream(ReplyStream):
    """The chunks of a reply from a server, as they come.

    `close()` cuts the connection, from any thread and at any time: also while another waits for the next chunk, or for
    the server to answer at all.
    """

    def __init__(self, client: openai.AsyncOpenAI, parameters: Mapping[str, Any], *, warned: set[str]) -> None:
        self._client = client
        self._parameters = parameters
        self._warned = warned
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reading: Future[None] | None = None
        self._ended = False
        self._lock = threading.Lock()
        self._tidier = ChunkTidier(parameters["model"])

    def start(self) -> None:
        """Send the request and wait until the server has accepted it; raise what it answers otherwise."""
        with self._lock:
            if self._ended or self._reading is not None:
                return
            request = _read(self._client, self._parameters, self._arrived)
            self._reading = asyncio.run_coroutine_threadsafe(request, _loop())
        self._next_arrival()

    def __next__(self) -> ChatCompletionChunk:
        self.start()
        chunk = None if self._ended else self._next_arrival()
        if isinstance(chunk, ChatCompletionChunk):
            return self._tidier.tidy(chunk)
        if self._ended:
            raise StopIteration
        self._ended = True
        tidier = self._tidier
        if not tidier.seen:
            raise no_completion(url_of(self._client))
        self._warn_of_missing(
            len(tidier.seen),
            logprobs=tidier.told_logprobs,
            usage=tidier.told_usage,
            finish_reasons=not tidier.unfinished,
            texts=tidier.finished_texts(),
            stacklevel=2,
        )
        if tidier.unfinished:
            return tidier.finish()
        raise StopIteration

    @property
    def completion_tokens(self) -> int:
        """Raises `LocalModelNeededError`: a server says how many tokens it has made at the end only, in the usage."""
        raise LocalModelNeededError(
            f"{url_of(self._client)} tells how many tokens it has made in the usage alone, which comes last: ask for "
            "it by stream_options={'include_usage': True}. A model on this machine, such as model=chatlab.load(), "
            "can be counted while it writes."
        )

    def close(self) -> None:
        """Cut the connection, so that the server stops; the reply ends where it is."""
        with self._lock:
            self._ended = True
            if self._reading is not None:
                self._reading.cancel()
        self._arrived.put(None)  # wakes who waits

    def __del__(self) -> None:
        self.close()  # nobody reads on, so nobody needs the rest

    def _next_arrival(self) -> object:
        """Wait for what comes next and return it: None at the end."""
        try:
            arrived = self._arrived.get()
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if isinstance(arrived, Exception) and not self._ended:
            self._ended = True
            self._raise_plainly(arrived)
        return None if self._ended else arrived

    def whole(self) -> ChatCompletion:
        """Ask for the whole reply at once, and return it when it is there."""
        try:
            response = wait_for(self._client.chat.completions.create(**self._parameters, stream=False))
        except (openai.OpenAIError, ValueError) as error:
            self._raise_plainly(error)
        if not isinstance(response, ChatCompletion) or not getattr(response, "choices", None):
            raise no_completion(url_of(self._client))
        logprobs = any(getattr(choice, "logprobs", None) for choice in response.choices)
        texts = [choice.message.content for choice in response.choices if choice.finish_reason == "stop"]
        self._warn_of_missing(len(response.choices), logprobs=logprobs, texts=texts, stacklevel=3)
        return response

    def _raise_plainly(self, error: Exception) -> NoReturn:
        raise_plainly(
            error,
            url=url_of(self._client),
            secret=self._client.api_key,
            parameters=self._parameters,
            started=bool(self._tidier.seen),
        )

    def _warn_of_missing(
        self,
        choices: int,
        *,
        logprobs: bool,
        usage: bool = True,
        finish_reasons: bool = True,
        texts: Sequence[str | None],
        stacklevel: int,
    ) -> None:
        """Tell what should have come and did not, once for each; the reply is good, so it is not thrown away."""
        asked = self._parameters
        wants_json = (asked.get("response_format") or {}).get("type", "text") != "text" and not asked.get("stop")
        missing = {
            f"n={asked.get('n')} replies were asked for, but fewer came": choices < asked.get("n", 1),
            "logprobs were asked for, but none came": asked.get("logprobs") and not logprobs,
            "usage was asked for, but none came": asked.get("stream_options", {}).get("include_usage") and not usage,
            "JSON was asked for, but the reply is none": wants_json and not all(map(_is_json, texts)),
            "the reply ended without a finish_reason, so it may not be whole": not finish_reasons,
        }
        for what in [what for what, is_so in missing.items() if is_so and what not in self._warned]:
            self._warned.add(what)
            warnings.warn(f"{url_of(self._client)}: {what}. Other servers send it.", stacklevel=stacklevel + 1)


def _is_json(text: str | None) -> bool:
    try:
        json.loads(text or "null")
    except ValueError:
        return False
    return True


async def _read(client: openai.AsyncOpenAI, parameters: Mapping[str, Any], arrived: queue.SimpleQueue[Any]) -> None:
    """Put into the queue: that the request was accepted, each chunk, and None or the error at the end."""
    try:
        async with await client.chat.completions.create(**parameters, stream=True) as stream:
            arrived.put(_ACCEPTED)
            async for chunk in stream:
                arrived.put(chunk)
        arrived.put(None)
    except Exception as error:
        arrived.put(error)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that talks to servers, in a thread of its own: a notebook's own loop is busy."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="chatlab.remote", daemon=True).start()
    return loop


def wait_for(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """Return what the coroutine returns; Ctrl-C meanwhile cancels it, and so cuts its connection."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def close_with(client: openai.AsyncOpenAI, connections: httpx2.AsyncClient) -> None:
    """Have the connections closed when nobody has the client any more."""

    def close() -> None:
        asyncio.run_coroutine_threadsafe(connections.aclose(), _loop())

    weakref.finalize(client, close).atexit = False  # the end of the process closes them by itself


def url_of(client: openai.AsyncOpenAI) -> str:
    """Return the address of the client's endpoint."""
    return str(client.base_url).rstrip("/")
