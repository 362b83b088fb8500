"""Scheduler: many replies made side by side, in one thread.

In: streams of chunks, and for whom each is. Out: jobs, which hand on the chunks as they come. A few streams are worked
on side by side, a token or a piece of a prompt at a time, and the model reads for all of them in one pass; the others
wait, and of those the client is let in for whom the least has been done. Knows nothing of HTTP, nor of what a chunk
says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from openai.types.chat import ChatCompletionChunk

from chatlab.errors import RateLimitError, ReplyStoppedError, ServerStoppingError
from chatlab.interruption import interruptible
from chatlab.reading import Reading, Results
from chatlab.streaming import ChatCompletionStream

__all__ = ["Job", "Progress", "Scheduler"]

logger = logging.getLogger("chatlab.server")

TYPICAL_SECONDS = 5.0  # what a reply is taken to need before the first one has been made
MOST_WORK = 1000  # tokens that one reply counts for: whoever had a long text read is not shut out for an hour


@dataclass(frozen=True)
class Progress:
    """How much of the prompt has been read so far, in tokens."""

    tokens_read: int
    prompt_tokens: int


class Job:
    """One reply in the making: an async iterator of its chunks, and of `Progress` while the prompt is read.

    Made in the event loop that iterates it. An error that ended the reply is raised at its place.
    `seconds_to_first_token` is counted from the making of the job, as `seconds` is; `begun` tells that it waits no
    more.
    """

    def __init__(self, stream: ChatCompletionStream, client: str) -> None:
        self.stream = stream
        self.client = client
        self.begun = False
        self.cancelled = False
        self.results: Results | None = None  # of the reading that `go_on` asked for
        self.seconds_to_first_token: float | None = None
        self._began = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[ChatCompletionChunk | Progress | Exception | None] = asyncio.Queue()

    @property
    def seconds(self) -> float:
        """How long ago the job was made."""
        return time.monotonic() - self._began

    @property
    def work(self) -> int:
        """How many tokens the model has had to read and to make for it; what it had read before is not read again."""
        return self.stream.prompt_tokens - self.stream.cached_tokens + self.stream.completion_tokens

    def __aiter__(self) -> Job:
        return self

    async def __anext__(self) -> ChatCompletionChunk | Progress:
        item = await self._items.get()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, Exception):
            raise item
        return item

    def cancel(self) -> None:
        """End the reply, at any time and from any thread.

        It ends within a token or a piece of the prompt, within a layer where the model reads for it alone.
        """
        self.cancelled = True
        self.stream.close()
        self.hand_on(None)

    def go_on(self) -> Reading | None:
        """Work until the model has to read something, and return that; None at the end. What is made is handed on."""
        work, results, self.results = self.stream.work, self.results, None
        try:
            item = next(work) if results is None else work.send(results)
            while not isinstance(item, Reading):
                self._hand_on_made(item)
                item = next(work)
            return item
        except StopIteration:
            self.hand_on(None)
        except Exception as error:  # whatever goes wrong in one reply must not end the others
            self.fail(error)
        return None

    def read_alone(self, reading: Reading) -> None:
        """Let the model read for this job only, as long as it is wanted."""
        try:
            with interruptible(lambda: self.cancelled):
                self.results = self.stream.model.next_logits_of_many(reading.texts)
        except ReplyStoppedError:
            self.stream.work.close()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End the reply with an error."""
        logger.error("A reply failed.", exc_info=error)
        self.stream.work.close()
        self.hand_on(error)

    def _hand_on_made(self, chunk: ChatCompletionChunk | None) -> None:
        """Hand on a chunk, or, where there is none yet, how far the prompt is."""
        if self.stream.completion_tokens and self.seconds_to_first_token is None:
            self.seconds_to_first_token = self.seconds
        if chunk is not None:
            self.hand_on(chunk)
        elif self.stream.tokens_read < self.stream.prompt_tokens:
            self.hand_on(Progress(self.stream.tokens_read, self.stream.prompt_tokens))

    def hand_on(self, item: ChatCompletionChunk | Progress | Exception | None) -> None:
        """Give an item to whoever iterates the job; None is its end."""
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and nobody is listening
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)


class Scheduler:
    """Makes at most `side_by_side` replies at a time; at most `queue_length` more may wait.

    Of those who wait, the client with the fewest replies in the making is let in first, and of several such the one
    for whom the least work has been done, in tokens: neither many requests nor long ones get a client more than the
    others. Only work that kept others waiting counts, and who comes anew begins beside the least served: a quiet hour
    is neither held against a client nor saved up. (Counters of tokens, lifted on arrival, as in "Fairness in Serving
    Large Language Models", Sheng et al. 2024.)

    With `place_for_each` a client who has nothing under way may wait even when the queue is full, so that nobody is
    sent away for what others ask; the number of clients must then be limited. `running` and `waiting` count the
    replies; `on_end` is called with each job that was begun and has ended.
    """

    def __init__(
        self,
        *,
        side_by_side: int,
        queue_length: int,
        place_for_each: bool = False,
        on_end: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self._side_by_side = side_by_side
        self._queue_length = queue_length
        self._place_for_each = place_for_each
        self._on_end = on_end
        self._changed = threading.Condition()
        self._running: list[Job] = []
        self._waiting: dict[str, deque[Job]] = {}
        self._served: Counter[str] = Counter()  # client -> tokens of work
        self._stopping = False
        self._seconds = TYPICAL_SECONDS
        self._thread = threading.Thread(target=self._work, name="chatlab-scheduler", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """How many replies are being made."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many replies wait for their turn."""
        with self._changed:
            return len(self._still_waiting())

    def under_way(self, client: str | None = None) -> list[Job]:
        """Return the replies that are being made, and then those that wait: all, or those of one client."""
        with self._changed:
            jobs = [*self._running, *self._still_waiting()]
        return [job for job in jobs if client in (None, job.client)]

    def submit(self, stream: ChatCompletionStream, *, client: str) -> Job:
        """Let a reply wait for its turn.

        Raises `RateLimitError` when too many wait already, `ServerStoppingError` when no more replies are begun.
        """
        with self._changed:
            if self._stopping:
                raise ServerStoppingError("The server is stopping and takes no more requests.")
            waiting = len(self._still_waiting())
            full = waiting >= self._queue_length and len(self._running) >= self._side_by_side
            others = {*self._waiting, *(job.client for job in self._running)}
            if full and (client in others or not self._place_for_each):
                seconds = max(1, round(self._seconds * (waiting + 1) / self._side_by_side))
                raise RateLimitError(
                    f"The server is busy: {len(self._running)} being answered, {waiting} waiting, "
                    f"which is the most it takes. Try again in {seconds} seconds.",
                    headers={"Retry-After": str(seconds)},
                )
            if client not in others:
                least = min((self._served[other] for other in others), default=0)
                self._served[client] = max(self._served[client], least)
            job = Job(stream, client)
            self._waiting.setdefault(client, deque()).append(job)
            self._admit()
            self._changed.notify()
        return job

    def stop(self, grace: float) -> None:
        """Begin no more replies, give those being made `grace` seconds to end, and end the rest with an error."""
        with self._changed:
            self._stopping = True
            for job in self._still_waiting():
                job.hand_on(ServerStoppingError("The server stopped before the reply was begun."))
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(grace)
        with self._changed:
            for job in self._running:
                job.hand_on(ServerStoppingError("The server stopped before the end of the reply."))
                job.cancel()
        self._thread.join()

    def _work(self) -> None:
        """Go round the running jobs, for as long as the server lives: each works, then the model reads for all."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._running or self._stopping)
                if not self._running:
                    return
                jobs = list(self._running)
            readings = {job: reading for job in jobs if (reading := job.go_on()) is not None}
            ended = [job for job in jobs if job not in readings]
            if ended:
                with self._changed:
                    for job in ended:
                        self._running.remove(job)
                        if self._waiting.keys() - {job.client}:
                            self._served[job.client] += min(job.work, MOST_WORK)
                    self._admit()
                    if not self._running:
                        self._served.clear()  # nobody waits either: all begin anew
            for job in ended:
                if not job.cancelled:
                    self._seconds += (job.seconds - self._seconds) / 4  # a moving average
                self._on_end(job)
            _read(readings)

    def _admit(self) -> None:
        """Let those who wait in while there is room, each in turn."""
        while self._waiting and len(self._running) < self._side_by_side:
            running = Counter(job.client for job in self._running)
            client = min(self._waiting, key=lambda each: (running[each], self._served[each]))
            jobs = self._waiting.pop(client)
            job = jobs.popleft()
            if jobs:
                self._waiting[client] = jobs  # behind the other clients
            if not job.cancelled:
                job.begun = True
                self._running.append(job)

    def _still_waiting(self) -> list[Job]:
        """Forget those who gave up waiting, and return the others."""
        for client, jobs in list(self._waiting.items()):
            self._waiting[client] = deque(job for job in jobs if not job.cancelled)
            if not self._waiting[client]:
                del self._waiting[client]
        return [job for jobs in self._waiting.values() for job in jobs]


def _read(readings: dict[Job, Reading]) -> None:
    """Let the model read for all jobs, in one pass where it can; what fails, fails for one job."""
    models = {job.stream.model for job in readings}
    if len(readings) > 1 and len(models) == 1 and (model := models.pop()).reads_together:
        texts = [text for reading in readings.values() for text in reading.texts]
        try:
            results = iter(model.next_logits_of_many(texts))
        except Exception:  # one text or another: each is tried by itself then, and its cache is as it was
            logger.warning("Reading %d texts together failed; each is read alone.", len(texts), exc_info=True)
        else:
            for job, reading in readings.items():
                job.results = list(islice(results, len(reading.texts)))
            return
    for job, reading in readings.items():
        job.read_alone(reading)
