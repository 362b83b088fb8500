"""The scheduler alone: who is worked on when, who waits, what a crash, a cancellation and a stop do."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from chatlab import chat_completions, user
from chatlab.errors import RateLimitError, ServerStoppingError
from chatlab.reading import PREFILL_CHUNK
from chatlab.server.scheduler import Progress, Scheduler
from chatlab.testing import ScriptedModel


def stream(text="abc", **options):
    return chat_completions([user("Hi")], ScriptedModel(text, **options), stream=True)


class Logits(ScriptedModel):
    """Notes in a common list which model was asked for logits, one entry per piece of work."""

    def __init__(self, log, name, text="abcdefgh"):
        super().__init__(text, name=name)
        self.log = log

    def next_token_logits(self, input_ids, past_key_values=None):
        self.log.append(self.name)
        time.sleep(0.001)
        return super().next_token_logits(input_ids, past_key_values)


class Crashing(ScriptedModel):
    """Fails at the third token."""

    def next_token_logits(self, input_ids, past_key_values=None):
        if past_key_values and past_key_values["single_tokens"] == 2:
            raise RuntimeError("out of luck")
        return super().next_token_logits(input_ids, past_key_values)


class Waiting(ScriptedModel):
    """Makes no token before it is allowed to."""

    def __init__(self, text="abc"):
        super().__init__(text)
        self.allowed = threading.Event()

    def next_token_logits(self, input_ids, past_key_values=None):
        assert self.allowed.wait(10)
        return super().next_token_logits(input_ids, past_key_values)


@pytest.fixture
def scheduler():
    scheduler = Scheduler(side_by_side=2, queue_length=3)
    yield scheduler
    scheduler.stop(0)


async def text_of(job):
    chunks = [item async for item in job if not isinstance(item, Progress)]
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


def test_replies_come_whole_and_unmixed(scheduler):
    async def main():
        texts = ["one", "two 🎉", "three", "four", "five"]
        jobs = [scheduler.submit(stream(text), client="a") for text in texts]
        assert await asyncio.gather(*map(text_of, jobs)) == texts
        await until(lambda: scheduler.running == scheduler.waiting == 0)

    asyncio.run(main())


def test_running_replies_take_turns_token_by_token(scheduler):
    log: list[str] = []
    models = [Logits(log, name) for name in "ab"]

    async def main():
        streams = [chat_completions([user("Hi")], model, stream=True) for model in models]
        await asyncio.gather(*(text_of(scheduler.submit(each, client="x")) for each in streams))

    asyncio.run(main())
    assert log.count("a") == log.count("b") == 9
    runs = [log[index] != log[index + 1] for index in range(2, 15)]
    assert sum(runs) >= 11, f"the two did not alternate: {log}"


def test_clients_are_let_in_in_turns_however_much_one_asks(scheduler):
    log: list[str] = []

    async def main():
        blocker = Waiting()
        blocked = [scheduler.submit(chat_completions([user("Hi")], blocker, stream=True), client="z") for _ in range(2)]
        await until(lambda: scheduler.running == 2)
        jobs = [
            scheduler.submit(chat_completions([user("Hi")], Logits(log, name, ""), stream=True), client=name[0])
            for name in ("greedy 1", "greedy 2", "modest 1")
        ]
        blocker.allowed.set()
        await asyncio.gather(*map(text_of, [*blocked, *jobs]))

    asyncio.run(main())
    assert sorted(log[:2]) == ["greedy 1", "modest 1"], "the client with one request had to wait for both of the other"


def test_whose_last_turn_was_longest_ago_is_let_in_first():
    """Else a client whose next request waits already while its last is made would be let in more often than others."""
    scheduler = Scheduler(side_by_side=1, queue_length=5)
    log: list[str] = []

    def submit(name):
        reply = chat_completions([user("Hi")], Logits(log, name, ""), stream=True)
        return scheduler.submit(reply, client=name)

    async def main():
        await text_of(submit("early"))
        await text_of(submit("late"))
        blocker = Waiting()
        blocked = scheduler.submit(chat_completions([user("Hi")], blocker, stream=True), client="z")
        log.clear()
        jobs = [submit("late"), submit("early"), submit("new")]
        blocker.allowed.set()
        await asyncio.gather(*map(text_of, [blocked, *jobs]))

    asyncio.run(main())
    scheduler.stop(0)
    assert log == ["new", "early", "late"]


def test_everyone_has_a_place_where_that_is_asked_for():
    scheduler = Scheduler(side_by_side=1, queue_length=0, place_for_each=True)

    async def main():
        model = Waiting()
        first = scheduler.submit(chat_completions([user("Hi")], model, stream=True), client="a")
        with pytest.raises(RateLimitError):
            scheduler.submit(stream(), client="a")
        other = scheduler.submit(stream("ok"), client="b")
        assert [job.client for job in scheduler.under_way()] == ["a", "b"] and scheduler.under_way("b") == [other]
        model.allowed.set()
        assert [await text_of(first), await text_of(other)] == ["abc", "ok"]

    asyncio.run(main())
    scheduler.stop(0)


def test_the_queue_is_bounded_and_says_when_to_try_again(scheduler):
    async def main():
        model = Waiting()
        jobs = [scheduler.submit(chat_completions([user("Hi")], model, stream=True), client="a") for _ in range(5)]
        with pytest.raises(RateLimitError, match="2 replies are being made and 3 requests wait") as caught:
            scheduler.submit(stream(), client="b")
        assert caught.value.status_code == 429 and caught.value.retry_after >= 1
        jobs[-1].cancel()
        last = scheduler.submit(stream("ok"), client="b")  # a place is free again at once
        model.allowed.set()
        assert await text_of(last) == "ok"

    async def settled():
        await until(lambda: scheduler.running == 0)

    asyncio.run(main())
    asyncio.run(settled())


def test_a_queue_of_length_0_takes_what_it_can_work_on():
    scheduler = Scheduler(side_by_side=1, queue_length=0)

    async def main():
        model = Waiting()
        first = scheduler.submit(chat_completions([user("Hi")], model, stream=True), client="a")
        with pytest.raises(RateLimitError):
            scheduler.submit(stream(), client="b")
        model.allowed.set()
        assert await text_of(first) == "abc"

    asyncio.run(main())
    scheduler.stop(0)


def test_a_crash_ends_that_reply_only(scheduler, caplog):
    async def main():
        bad = scheduler.submit(chat_completions([user("Hi")], Crashing("abcdef"), stream=True), client="a")
        good = scheduler.submit(stream("still fine"), client="b")
        assert await text_of(good) == "still fine"
        with pytest.raises(RuntimeError, match="out of luck"):
            await text_of(bad)
        assert await text_of(scheduler.submit(stream("and on"), client="a")) == "and on"

    asyncio.run(main())
    assert "A reply failed." in caplog.text and "Hi" not in caplog.messages


def test_cancelling_frees_the_place_within_a_token(scheduler):
    async def main():
        jobs = [scheduler.submit(stream("x" * 8000, seconds_per_token=0.01), client="a") for _ in range(2)]
        await until(lambda: all(job.stream.completion_tokens > 2 for job in jobs))
        for job in jobs:
            job.cancel()
        await until(lambda: scheduler.running == 0)
        made = [job.stream.completion_tokens for job in jobs]
        await asyncio.sleep(0.1)
        assert [job.stream.completion_tokens for job in jobs] == made

    asyncio.run(main())


def test_cancelling_while_the_prompt_is_read_frees_the_place_within_a_piece(scheduler):
    async def main():
        model = ScriptedModel("x", seconds_per_token=0.05)
        prompt = [user("x" * 20 * PREFILL_CHUNK)]
        job = scheduler.submit(chat_completions(prompt, model, stream=True), client="a")
        item = await anext(aiter(job))
        while not isinstance(item, Progress):
            item = await anext(job)
        assert item.tokens_read % PREFILL_CHUNK == 0 and item.prompt_tokens == job.stream.prompt_tokens
        job.cancel()
        await until(lambda: scheduler.running == 0)
        assert job.stream.tokens_read <= item.tokens_read + 2 * PREFILL_CHUNK

    asyncio.run(main())


def test_a_job_cancelled_while_waiting_is_never_begun(scheduler):
    async def main():
        model = Waiting()
        running = [scheduler.submit(chat_completions([user("Hi")], model, stream=True), client="a") for _ in range(2)]
        waiting = scheduler.submit(stream("never"), client="b")
        waiting.cancel()
        assert scheduler.waiting == 0
        assert await text_of(waiting) == "", "whoever waits for it must be told"
        model.allowed.set()
        await asyncio.gather(*map(text_of, running))
        assert waiting.stream.tokens_read == 0

    asyncio.run(main())


def test_stopping_lets_replies_end_and_refuses_new_ones():
    scheduler = Scheduler(side_by_side=1, queue_length=3)

    async def main():
        running = scheduler.submit(stream("abc" * 10, seconds_per_token=0.01), client="a")
        await until(lambda: scheduler.running == 1)
        waiting = scheduler.submit(stream("never"), client="a")
        stopping = asyncio.create_task(asyncio.to_thread(scheduler.stop, 5))
        with pytest.raises(ServerStoppingError):
            await text_of(waiting)
        with pytest.raises(ServerStoppingError):
            scheduler.submit(stream(), client="a")
        assert await text_of(running) == "abc" * 10
        await stopping

    asyncio.run(main())


def test_stopping_ends_what_takes_longer_than_the_grace():
    scheduler = Scheduler(side_by_side=1, queue_length=3)

    async def main():
        running = scheduler.submit(stream("x" * 8000, seconds_per_token=0.01), client="a")
        await until(lambda: running.stream.completion_tokens > 2)
        await asyncio.to_thread(scheduler.stop, 0.1)
        with pytest.raises(ServerStoppingError, match="before the end"):
            await text_of(running)

    asyncio.run(main())
    assert scheduler.running == 0
