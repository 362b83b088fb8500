"""The scheduler alone: who is worked on when, who waits, what a crash, a cancellation and a stop do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import pytest

from chatlab import chat_completions, user
from chatlab.chat_model import PREFILL_CHUNK
from chatlab.errors import RateLimitError, ServerStoppingError
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


async def a_few_turns():
    for _ in range(10):
        await asyncio.sleep(0)


class Noting(ScriptedModel):
    """Notes in a common list whose prompt it begins to read, once whoever had a reply before has asked again."""

    def __init__(self, log, client, reply):
        super().__init__(reply)
        self.log, self.client = log, client
        self.loop = asyncio.get_running_loop()

    def next_token_logits(self, input_ids, past_key_values=None):
        if past_key_values is None:
            self.log.append(self.client)
            asyncio.run_coroutine_threadsafe(a_few_turns(), self.loop).result(10)
        return super().next_token_logits(input_ids, past_key_values)


class Crowd:
    """Clients who ask one scheduler; `begun` lists for whom replies were begun, in turn."""

    def __init__(self, *, places=1):
        self.begun: list[str] = []
        self.scheduler = Scheduler(side_by_side=places, queue_length=200)

    def run(self, story):
        try:
            asyncio.run(asyncio.wait_for(story(), 60))
        finally:
            self.scheduler.stop(0)
        return self.begun

    async def ask(self, client, reply, *, hands=1, times=1, text="Hi"):
        """Ask by each hand so often, again as soon as the reply is there."""

        model = Noting(self.begun, client, reply)

        async def hand():
            for _ in range(times):
                await text_of(self.scheduler.submit(chat_completions([user(text)], model, stream=True), client=client))

        await asyncio.gather(*(hand() for _ in range(hands)))


PROMPT = stream().prompt_tokens


def test_long_replies_get_a_client_no_more_work_than_short_ones():
    crowd, replies = Crowd(), {"long": "x" * 40, "middle": "x" * 12, "short": "x"}

    async def story():
        await asyncio.gather(*(crowd.ask(client, reply, hands=16) for client, reply in replies.items()))

    had = dict.fromkeys(replies, 0)
    for client in crowd.run(story)[:30]:
        had[client] += PROMPT + len(replies[client]) + 1  # with the token that ends it
        assert max(had.values()) - min(had.values()) <= PROMPT + 41, f"more than one reply apart: {crowd.begun}"


def test_four_hands_get_a_client_no_more_than_one():
    crowd = Crowd()

    async def story():
        await asyncio.gather(crowd.ask("greedy", "xx", hands=4, times=5), *(crowd.ask(n, "xx", times=5) for n in "ab"))

    assert max(Counter(crowd.run(story)[:12]).values()) <= 5, crowd.begun


def test_who_comes_anew_is_not_made_up_for_the_time_before():
    crowd = Crowd()

    async def story():
        early = asyncio.gather(*(crowd.ask(client, "xxxx", hands=12) for client in "ab"))
        await until(lambda: len(crowd.begun) >= 8)
        await asyncio.gather(early, crowd.ask("new", "xxxx", hands=12))

    begun = crowd.run(story)
    first = begun.index("new")
    assert begun[first : first + 6].count("new") <= 3, begun


def test_work_that_kept_nobody_waiting_is_held_against_nobody():
    crowd = Crowd(places=2)

    async def story():
        holder = crowd.scheduler.submit(stream("x" * 1000), client="holder")  # has the other place, and done little
        await until(lambda: holder.begun)
        await crowd.ask("alone", "xxxx", times=4)
        await asyncio.gather(*(crowd.ask(client, "xxxx", hands=4) for client in ("alone", "late")))
        assert holder.stream.completion_tokens < 1000
        holder.cancel()

    assert Counter(crowd.run(story)[4:8]) == {"alone": 2, "late": 2}


def test_a_long_text_shuts_nobody_out_for_long():
    crowd = Crowd()

    async def story():
        reader = crowd.ask("reader", "x", times=2, text="x" * 4000)
        await asyncio.gather(reader, crowd.ask("other", "x", hands=9, text="x" * 400))

    begun = crowd.run(story)
    assert begun[0] == "reader"
    assert begun.index("reader", 1) < 7, "its 4,000 tokens would be those of ten others"


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
        with pytest.raises(RateLimitError, match="2 being answered, 3 waiting, which is the most it takes") as caught:
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
        prompt = [user("x" * 10 * PREFILL_CHUNK)]
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
