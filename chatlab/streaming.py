"""Streaming: a reply as chunks, and chunks as a reply.

In: a checked request and a model. Out: the official client's `ChatCompletionChunk`s, one by one, and the
`ChatCompletion` they add up to. Knows nothing of sockets, nor of how a request was written.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.chat_completion import Choice as WholeChoice
from openai.types.chat.chat_completion import ChoiceLogprobs as WholeLogprobs
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_message import ChatCompletionMessage
from openai.types.chat.chat_completion_message_function_tool_call import ChatCompletionMessageFunctionToolCall, Function
from openai.types.chat.chat_completion_token_logprob import ChatCompletionTokenLogprob
from openai.types.completion_usage import CompletionUsage

from chatlab.chat_model import ChatModel
from chatlab.choices import Choice, FinishReason
from chatlab.chunks import ChunkMaker
from chatlab.constraints import Constraint
from chatlab.engines import ReplyStream
from chatlab.errors import ReplyStoppedError
from chatlab.generation import check_bias
from chatlab.interruption import interruptible
from chatlab.reading import (
    Reading,
    Results,
    Work,
    check_room,
    copies,
    drive,
    next_item,
    read_prompt_in_chunks,
    remember,
)
from chatlab.requests import ChatRequest
from chatlab.templating import render
from chatlab.tokens import encode
from chatlab.tools import check_support, reply_grammar

__all__ = ["ChatCompletionStream", "join_chunks"]

CHOICES_SIDE_BY_SIDE = 8  # each has a key-value cache of its own, so more of them wait until one is complete


class ChatCompletionStream(ReplyStream):
    """The chunks of a reply, made while one iterates; like the official client's stream, it can be read once.

    The first chunk of a choice carries the role, the last its `finish_reason`. `close()` may be called from another
    thread, and ends the reply within a token, or a layer of the model where it is reading.

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
        self.input_ids = _prompt_ids(request, model)
        self._grammar = reply_grammar(request.tools, request.reply_rule, model=model)
        self._constraint()  # now, so that what cannot be held is refused before the reply starts
        self.tokens_read = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.measured = False  # whether the `entropy` of the choice of every token made, in bits, is to be added up
        self.entropy = 0.0
        self._closed = threading.Event()
        self._make = ChunkMaker(request, model)
        self.work = self._make_chunks()
        self._chunks = drive(model, self.work)

    def __next__(self) -> ChatCompletionChunk:
        while (chunk := self.advance()) is None:
            pass
        return chunk

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has.

        `tokens_read` tells how many of them the model has read so far, `completion_tokens` how many it has made.
        """
        return len(self.input_ids)

    def advance(self) -> ChatCompletionChunk | None:
        """Do one piece of work: read a piece of the prompt, or make one token of one choice.

        Returns the next chunk, or None where the work gave nothing to say yet. Raises `StopIteration` after the last
        chunk, or once closed. Whoever makes several replies at once drives their `work` instead.
        """
        try:
            with interruptible(self._closed.is_set):
                return next(self._chunks)
        except ReplyStoppedError:
            raise StopIteration from None

    def whole(self) -> ChatCompletion:
        """Return the whole reply: its chunks, joined."""
        return join_chunks(self)

    def close(self) -> None:
        """Stop making the reply."""
        self._closed.set()

    def _make_chunks(self) -> Work[ChatCompletionChunk | None]:
        for index in range(self.request.n):
            yield self._make.opening(index)
        prompt = read_prompt_in_chunks(self.model, self.input_ids)
        results: Results | None = None
        while (item := next_item(prompt, results)) is not None:
            results = None
            if isinstance(item, Reading):
                results = yield item
                continue
            read = item
            self.tokens_read, self.cached_tokens = len(read.input_ids), read.cached_tokens
            yield None
            if self._closed.is_set():
                return
        if self.request.n > 1:
            remember(self.model, read)  # the prompt alone: which reply the conversation will go on with is not known
        waiting = list(range(self.request.n))
        choices: dict[int, Choice] = {}
        while waiting or choices:
            room = CHOICES_SIDE_BY_SIDE - len(choices)
            if waiting and room:
                joining, waiting = waiting[:room], waiting[room:]
                starts = [read] if self.request.n == 1 else copies(self.model, read, len(joining))
                for index, start in zip(joining, starts, strict=True):
                    choices[index] = Choice(index, self.request, self.model, start, self._constraint())
            for index, choice in list(choices.items()):
                if self._closed.is_set():
                    return
                part = choice.next_part()
                self.completion_tokens += 1
                if self.measured:
                    self.entropy += choice.entropy
                chunks: list[ChatCompletionChunk | None] = [*self._make.of_part(index, part)]
                yield from chunks or [None]
                if part.finish_reason:
                    del choices[index]
            if choices:
                results = yield Reading([choice.text for choice in choices.values()])
                for choice, result in zip(choices.values(), results, strict=True):
                    choice.go_on(result)
        if self.request.include_usage:
            yield self._make.usage(
                prompt_tokens=len(self.input_ids),
                completion_tokens=self.completion_tokens,
                cached_tokens=self.cached_tokens,
            )

    def _constraint(self) -> Constraint | None:
        """Return what holds one choice to the grammar of its reply."""
        if self._grammar is None:
            return None
        param = "tools" if self.request.tools else "response_format"
        return Constraint(self._grammar, self.model, param=param)


@dataclass
class _Joined:
    """What the chunks of one choice add up to."""

    text: str = ""
    calls: dict[int, ChatCompletionMessageFunctionToolCall] = field(default_factory=dict)
    logprobs: list[ChatCompletionTokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    def add(self, choice: ChunkChoice) -> None:
        self.text += choice.delta.content or ""
        for item in choice.delta.tool_calls or ():
            empty = ChatCompletionMessageFunctionToolCall(
                id="", function=Function(name="", arguments=""), type="function"
            )
            call = self.calls.setdefault(item.index, empty)
            call.id += item.id or ""
            if item.function:
                call.function.name += item.function.name or ""
                call.function.arguments += item.function.arguments or ""
        if choice.logprobs and choice.logprobs.content:
            self.logprobs += choice.logprobs.content
        self.finish_reason = choice.finish_reason or self.finish_reason

    def whole(self, index: int) -> WholeChoice:
        calls: dict[str, Any] = {"tool_calls": [self.calls[at] for at in sorted(self.calls)]} if self.calls else {}
        content = None if self.calls and not self.text else self.text
        return WholeChoice(
            index=index,
            message=ChatCompletionMessage(role="assistant", content=content, refusal=None, **calls),
            finish_reason=self.finish_reason or "stop",
            logprobs=WholeLogprobs(content=self.logprobs) if self.logprobs else None,
        )


def join_chunks(chunks: Iterable[ChatCompletionChunk]) -> ChatCompletion:
    """Return the whole reply that the chunks of a stream add up to; `usage` is there if the stream carried it.

    Raises `ReplyStoppedError` when the stream ended early, since such a reply has no finish reason.
    """
    first: ChatCompletionChunk | None = None
    usage: CompletionUsage | None = None
    replies: dict[int, _Joined] = {}
    for chunk in chunks:
        first = first or chunk
        usage = chunk.usage or usage
        for choice in chunk.choices:
            replies.setdefault(choice.index, _Joined()).add(choice)
    if first is None or not all(reply.finish_reason for reply in replies.values()):
        raise ReplyStoppedError("The reply was stopped before its end, so there is no finish_reason.")
    return ChatCompletion(
        id=first.id,
        created=first.created,
        model=first.model,
        object="chat.completion",
        choices=[replies[index].whole(index) for index in sorted(replies)],
        usage=usage,
    )


def _prompt_ids(request: ChatRequest, model: ChatModel) -> list[int]:
    """Return the token ids of the rendered messages; refuse what does not fit this model."""
    check_bias(model, request.sampling)
    check_support(model, request.messages, request.tools)
    tools = request.tools.definitions if request.tools else None
    input_ids = encode(render(request.messages, model=model, tools=tools), model=model)
    check_room(model, len(input_ids), request.max_tokens or 1)
    return input_ids
