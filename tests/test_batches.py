"""Replies made side by side: each is what it would be alone."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import chatlab
from chatlab import system, user
from chatlab.prefixes import PrefixCache
from chatlab.requests import check_request
from chatlab.server.scheduler import Scheduler
from chatlab.streaming import ChatCompletionStream

QUESTIONS = [
    "What is the capital of France?",
    "Tell me a joke.",
    "What is 2+2?",
    "Write a long story about a ship on the sea, a captain, a storm and an island. " * 12,
    "Why is the sky blue?",
]


def messages(question):
    return [system("You are a helpful assistant."), user(question)]


@pytest.fixture
def smollm(model):
    """The default model with an empty store of what it has read."""
    view = model.with_context_length(model.context_length)
    view.prefixes = PrefixCache()
    return view


@pytest.mark.parametrize("logprobs", [None, 2])
def test_n_replies_are_those_of_as_many_requests_with_the_following_seeds(smollm, logprobs):
    options = {"temperature": 1.0, "max_tokens": 12}
    options |= {"logprobs": True, "top_logprobs": logprobs} if logprobs else {}
    together = chatlab.chat_completions(messages("Tell me a joke."), smollm, n=10, seed=5, **options)
    assert len({choice.message.content for choice in together.choices}) > 5
    for choice in together.choices:
        smollm.prefixes.clear()
        alone = chatlab.chat_completions(messages("Tell me a joke."), smollm, seed=5 + choice.index, **options)
        assert choice.message.content == alone.choices[0].message.content
        assert choice.finish_reason == alone.choices[0].finish_reason
        assert choice.logprobs == alone.choices[0].logprobs, "to the last bit"


def test_requests_of_the_server_that_run_together_get_the_replies_they_get_alone(smollm, monkeypatch):
    """They come while others are in the middle, a long prompt among them, and leave at different times."""
    options = [
        {"temperature": 0, "max_tokens": 8 + 6 * number, "logprobs": True, "top_logprobs": 3}
        for number in range(len(QUESTIONS))
    ]
    smollm.prefixes = None
    alone = [
        chatlab.chat_completions(messages(question), smollm, **each)
        for question, each in zip(QUESTIONS, options, strict=True)
    ]
    sizes, real = [], smollm.next_logits_of_many
    monkeypatch.setattr(smollm, "next_logits_of_many", lambda texts: sizes.append(len(texts)) or real(texts))
    with chatlab.serve(smollm, port=0) as server, ThreadPoolExecutor() as pool:
        client = server.client()

        def ask(number):
            return client.chat.completions.create(
                model=smollm.name, messages=messages(QUESTIONS[number]), **options[number]
            )

        together = list(pool.map(ask, range(len(QUESTIONS))))
    assert max(sizes) > 1, "or nothing was read together"
    for one, other in zip(together, alone, strict=True):
        assert one.choices[0].message.content == other.choices[0].message.content
        assert one.choices[0].logprobs == other.choices[0].logprobs, "to the last bit"


def test_a_text_that_fails_fails_alone(smollm, monkeypatch):
    """The pass that reads for all breaks; each is read by itself then, and only the one at fault ends with an error."""
    real, calls = smollm.next_logits_of_many, []

    def breaking(texts):
        calls.append(len(texts))
        if any(13 in ids[:1] for ids, _ in texts):
            raise MemoryError("too much")
        return real(texts)

    expected = [chatlab.chat_completions(messages(each), smollm, temperature=0, max_tokens=15) for each in QUESTIONS]
    smollm.prefixes = None
    monkeypatch.setattr(smollm, "next_logits_of_many", breaking)

    async def all_of_them():
        scheduler = Scheduler(side_by_side=8, queue_length=8)
        jobs = []
        for number, question in enumerate(QUESTIONS):
            stream = ChatCompletionStream(
                check_request(messages(question), temperature=0, max_tokens=15, stream=True), smollm
            )
            if number == 1:
                stream.input_ids = [13, *stream.input_ids]
            jobs.append(scheduler.submit(stream, client=str(number)))

        async def text(job):
            try:
                chunks = [each async for each in job if hasattr(each, "choices")]
            except MemoryError as error:
                return error
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

        texts = await asyncio.gather(*(text(job) for job in jobs))
        await asyncio.to_thread(scheduler.stop, 5)
        return texts

    texts = asyncio.run(all_of_them())
    assert isinstance(texts[1], MemoryError)
    for number in (0, 2, 3, 4):
        assert texts[number] == expected[number].choices[0].message.content
    assert max(calls) > 1 and threading.active_count() < 50


def test_views_of_one_model_are_read_apart_and_right(smollm):
    """Two limits are two models to the server; neither's work goes astray."""
    first = smollm.next_logits_of_many([([1, 2, 3], None), ([4, 5], None)])
    second = smollm.with_context_length(100).next_logits_of_many([([1, 2, 3], None), ([4, 5], None)])
    for (one, _), (other, _) in zip(first, second, strict=True):
        assert torch.equal(one, other)
