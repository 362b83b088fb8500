"""Streaming: a reply as chunks, and chunks as a reply.

In: a checked request and a model. Out: the official client's `ChatCompletionChunk`s, one by one, and the
`ChatCompletion` they add up to. Knows nothing of sockets, nor of how a request was written.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.chat_completion import Choice as WholeChoice
from openai.types.chat.chat_completion import ChoiceLogprobs as WholeLogprobs
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta, ChoiceLogprobs
from openai.types.chat.chat_completion_message import ChatCompletionMessage
from openai.types.chat.chat_completion_token_logprob import ChatCompletionTokenLogprob, TopLogprob
from openai.types.completion_usage import CompletionUsage, PromptTokensDetails

from chatlab.engines import ReplyStream
from chatlab.errors import ReplyStoppedError
from chatlab.generation import Prefill, check_bias, check_room, generate_steps, prefill_chunks
from chatlab.model import ChatModel
from chatlab.requests import ChatRequest
from chatlab.steps import Step
from chatlab.templating import render
from chatlab.tokens import decode, encode, token_bytes

__all__ = ["ChatCompletionStream", "join_chunks"]

CHOICES_SIDE_BY_SIDE = 8  # each has a key-value cache of its own, so more of them wait until one is complete


class ChatCompletionStream(ReplyStream):
    """The chunks of a reply, made while one iterates; like the official client's stream, it can be read once.

    The first chunk of a choice carries the role, the last its `finish_reason`. `close()` may be called from another
    thread, and ends the reply within a token or a piece of the prompt.

    >>> from chatlab.requests import check_request
    >>> from chatlab.testing import ScriptedModel
    >>> request = check_request([{"role": "user", "content": "Hi"}], stream=True)
    >>> stream = ChatCompletionStream(request, ScriptedModel("Hey"))
    >>> [chunk.choices[0].delta.content for chunk in stream]
    ['', 'H', 'e', 'y', None]
    """

    def __init__(self, request: ChatRequest, model: ChatModel) -> None:
        self.request = request
        self.model = model
        self._input_ids = _prompt_ids(request, model)
        self.tokens_read = 0
        self.completion_tokens = 0
        self._closed = threading.Event()
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model.name,
            "object": "chat.completion.chunk",
        }
        self._chunks = self._generate()

    def __next__(self) -> ChatCompletionChunk:
        while (chunk := self.advance()) is None:
            pass
        return chunk

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has.

        `tokens_read` tells how many of them the model has read so far, `completion_tokens` how many it has made.
        """
        return len(self._input_ids)

    def advance(self) -> ChatCompletionChunk | None:
        """Do one piece of work: read a piece of the prompt, or make one token of one choice.

        Returns the next chunk, or None where the work gave nothing to say yet. So several replies can be made side by
        side in one thread, in turns. Raises `StopIteration` after the last chunk, or once closed.
        """
        return next(self._chunks)

    def whole(self) -> ChatCompletion:
        """Return the whole reply: its chunks, joined."""
        return join_chunks(self)

    def close(self) -> None:
        """Stop making the reply."""
        self._closed.set()

    def _generate(self) -> Iterator[ChatCompletionChunk | None]:
        for index in range(self.request.n):
            yield self._chunk(index, ChoiceDelta(role="assistant", content=""))
        for read in prefill_chunks(self.model, self._input_ids):
            self.tokens_read = len(read.input_ids)
            yield None
            if self._closed.is_set():
                return
        waiting = list(range(self.request.n))
        replies: dict[int, Iterator[tuple[Step, list[ChatCompletionTokenLogprob] | None]]] = {}
        while waiting or replies:
            while waiting and len(replies) < CHOICES_SIDE_BY_SIDE:
                index = waiting.pop(0)
                replies[index] = self._reply(index, read)
            for index in list(replies):
                if self._closed.is_set():
                    return
                step, logprobs = next(replies[index])
                self.completion_tokens += 1
                if step.text or logprobs:
                    content = ChoiceLogprobs(content=logprobs) if logprobs is not None else None
                    yield self._chunk(index, ChoiceDelta(content=step.text), logprobs=content)
                elif not step.finish_reason:
                    yield None
                if step.finish_reason:
                    yield self._chunk(index, ChoiceDelta(), finish_reason=step.finish_reason)
                    del replies[index]
        if self.request.include_usage:
            usage = CompletionUsage(
                prompt_tokens=len(self._input_ids),
                completion_tokens=self.completion_tokens,
                total_tokens=len(self._input_ids) + self.completion_tokens,
                prompt_tokens_details=PromptTokensDetails(cached_tokens=0),
            )
            yield ChatCompletionChunk(choices=[], usage=usage, **self._head)

    def _reply(self, index: int, read: Prefill) -> Iterator[tuple[Step, list[ChatCompletionTokenLogprob] | None]]:
        """Yield each step of one choice with the logprobs of the tokens whose text it shows."""
        last = index == self.request.n - 1
        cache = read.past_key_values if last else self.model.fork(read.past_key_values)
        steps = generate_steps(
            self.model,
            Prefill(read.input_ids, read.logits, cache),
            params=self.request.sampling,
            max_tokens=self.request.max_tokens,
            stop=self.request.stop,
            seed=None if self.request.seed is None else self.request.seed + index,
            top_logprobs=self.request.top_logprobs or 0,
        )
        waiting: list[Step] = []
        shown = 0
        for step in steps:
            if self.request.top_logprobs is None:
                yield step, None
                continue
            shown += len(step.text)
            if step.token_id not in self.model.end_token_ids:
                waiting.append(step)
            ready = [each for each in waiting if each.offset < shown or (step.finish_reason == "length")]
            waiting = waiting[len(ready) :]
            yield step, [self._logprob(each) for each in ready]

    def _logprob(self, step: Step) -> ChatCompletionTokenLogprob:
        top = [
            TopLogprob(**self._token(token_id), logprob=_log(probability))
            for token_id, probability in step.alternatives.items()
        ]
        return ChatCompletionTokenLogprob(
            **self._token(step.token_id), logprob=_log(step.probability), top_logprobs=top
        )

    def _token(self, token_id: int) -> dict[str, Any]:
        spelled = token_bytes(token_id, self.model.tokenizer)
        return {
            "token": decode([token_id], model=self.model),
            "bytes": None if spelled is None else list(spelled),
        }

    def _chunk(
        self,
        index: int,
        delta: ChoiceDelta,
        *,
        logprobs: ChoiceLogprobs | None = None,
        finish_reason: Literal["stop", "length"] | None = None,
    ) -> ChatCompletionChunk:
        choice = Choice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason)
        # "usage": null stands on every chunk when usage was asked for, and is absent when it was not.
        usage: dict[str, Any] = {"usage": None} if self.request.include_usage else {}
        return ChatCompletionChunk(choices=[choice], **usage, **self._head)


def join_chunks(chunks: Iterable[ChatCompletionChunk]) -> ChatCompletion:
    """Return the whole reply that the chunks of a stream add up to; `usage` is there if the stream carried it.

    Raises `ReplyStoppedError` when the stream ended early, since such a reply has no finish reason.
    """
    first: ChatCompletionChunk | None = None
    usage: CompletionUsage | None = None
    texts: dict[int, str] = {}
    logprobs: dict[int, list[ChatCompletionTokenLogprob]] = {}
    finish_reasons: dict[int, Literal["stop", "length"]] = {}
    for chunk in chunks:
        first = first or chunk
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            if choice.logprobs and choice.logprobs.content:
                logprobs.setdefault(choice.index, []).extend(choice.logprobs.content)
            if choice.finish_reason in ("stop", "length"):
                finish_reasons[choice.index] = choice.finish_reason
    if first is None or set(texts) != set(finish_reasons):
        raise ReplyStoppedError("The reply was stopped before its end, so there is no finish_reason.")
    choices = [
        WholeChoice(
            index=index,
            message=ChatCompletionMessage(role="assistant", content=texts[index], refusal=None),
            finish_reason=finish_reasons[index],
            logprobs=WholeLogprobs(content=logprobs[index]) if index in logprobs else None,
        )
        for index in sorted(texts)
    ]
    return ChatCompletion(
        id=first.id,
        created=first.created,
        model=first.model,
        object="chat.completion",
        choices=choices,
        usage=usage,
    )


def _prompt_ids(request: ChatRequest, model: ChatModel) -> list[int]:
    """Return the token ids of the rendered messages; refuse what does not fit this model."""
    check_bias(model, request.sampling)
    input_ids = encode(render(request.messages, model=model), model=model)
    check_room(model, len(input_ids), request.max_tokens or 1)
    return input_ids


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -9999.0
