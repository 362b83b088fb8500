"""Chat completions: the request of a chat completions endpoint, answered in this process.

In: messages and settings, named as OpenAI names them. Out: the official client's own `ChatCompletion`, or a stream of
its `ChatCompletionChunk`s. There is one path: a whole reply is its stream, joined. Knows nothing of sockets.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.chat_completion import Choice as WholeChoice
from openai.types.chat.chat_completion import ChoiceLogprobs as WholeLogprobs
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta, ChoiceLogprobs
from openai.types.chat.chat_completion_message import ChatCompletionMessage
from openai.types.chat.chat_completion_token_logprob import ChatCompletionTokenLogprob, TopLogprob
from openai.types.completion_usage import CompletionUsage, PromptTokensDetails

from chatlab.errors import BadRequestError, ContextLengthError
from chatlab.generation import Prefill, Step, generate_steps, prefill
from chatlab.messages import Message
from chatlab.model import ChatModel, resolve
from chatlab.requests import ChatOptions, ChatRequest, check_request
from chatlab.templating import render
from chatlab.tokens import decode, encode, token_bytes

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ChatCompletionStream", "chat_completions", "join_chunks"]


@overload
def chat_completions(
    messages: Sequence[Message],
    model: ChatModel | str | Path | None = ...,
    *,
    stream: Literal[True],
    **options: Unpack[ChatOptions],
) -> ChatCompletionStream: ...


@overload
def chat_completions(
    messages: Sequence[Message],
    model: ChatModel | str | Path | None = ...,
    *,
    stream: Literal[False] | None = ...,
    **options: Unpack[ChatOptions],
) -> ChatCompletion: ...


def chat_completions(
    messages: Sequence[Message],
    model: ChatModel | str | Path | None = None,
    *,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    max_completion_tokens: int | None = None,
    max_tokens: int | None = None,
    stop: str | Sequence[str] | None = None,
    seed: int | None = None,
    n: int | None = None,
    logprobs: bool | None = None,
    top_logprobs: int | None = None,
    logit_bias: Mapping[Any, float] | None = None,
    presence_penalty: float | None = None,
    frequency_penalty: float | None = None,
    stream: bool | None = None,
    stream_options: Mapping[str, Any] | None = None,
    response_format: Mapping[str, Any] | None = None,
    tools: Sequence[Any] | None = None,
    tool_choice: Any = None,
) -> ChatCompletion | ChatCompletionStream:
    """Let the model reply to the messages, as a chat completions endpoint does.

    The parameters are OpenAI's, with its defaults: temperature 1 (0–2; 0 always takes the likeliest token), top_p 1,
    n 1, a reply as long as the model's context allows; None means the default. `max_tokens` is the older name of
    `max_completion_tokens`. `top_k`, `min_p` and `repetition_penalty` are extras that OpenAI lacks. Choice number i is
    drawn with `seed` + i, so the same seed gives the same reply (on the same version and kind of machine).

    The counts in `usage` are tokens: the whole prompt as the template renders it, and every token the model made, with
    the one that ends the reply. `logprobs` are natural logarithms of the model's own probabilities, before temperature.

    With `stream=True` the reply comes as an iterator of chunks. What can be refused is refused before it starts: raises
    `BadRequestError` (its `ContextLengthError` when too long), `ModelNotFoundError`.

    >>> from chatlab.testing import ScriptedModel
    >>> response = chat_completions([{"role": "user", "content": "Hi"}], ScriptedModel("Hello!"), temperature=0)
    >>> response.choices[0].message.content, response.choices[0].finish_reason
    ('Hello!', 'stop')
    """
    request = check_request(
        messages,
        stream=stream,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=logit_bias,
        max_completion_tokens=max_completion_tokens,
        max_tokens=max_tokens,
        stop=stop,
        seed=seed,
        n=n,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        stream_options=stream_options,
        response_format=response_format,
        tools=tools,
        tool_choice=tool_choice,
    )
    completion_stream = ChatCompletionStream(request, resolve(model))
    return completion_stream if request.stream else join_chunks(completion_stream)


class ChatCompletionStream:
    """The chunks of a reply, made while one iterates; a second iteration replays the same chunks.

    The first chunk of a choice carries the role, the last its `finish_reason`. `close()` may be called from another
    thread, and ends the reply within a token or a piece of the prompt.

    >>> from chatlab.testing import ScriptedModel
    >>> stream = chat_completions([{"role": "user", "content": "Hi"}], ScriptedModel("Hey"), stream=True)
    >>> [chunk.choices[0].delta.content for chunk in stream]
    ['', 'H', 'e', 'y', None]
    """

    def __init__(self, request: ChatRequest, model: ChatModel) -> None:
        self.request = request
        self.model = model
        self._input_ids = _prompt_ids(request, model)
        self._closed = threading.Event()
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model.name,
            "object": "chat.completion.chunk",
        }
        self._made: list[ChatCompletionChunk] = []
        self._source = self._generate()

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        position = 0
        while True:
            if position == len(self._made):
                try:
                    self._made.append(next(self._source))
                except StopIteration:
                    return
            yield self._made[position]
            position += 1

    def __enter__(self) -> ChatCompletionStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop making the reply; the chunks made so far remain."""
        self._closed.set()

    def _generate(self) -> Iterator[ChatCompletionChunk]:
        for index in range(self.request.n):
            yield self._chunk(index, ChoiceDelta(role="assistant", content=""))
        try:
            read = prefill(self.model, self._input_ids, interrupted=self._closed.is_set)
        except InterruptedError:
            return
        replies = {index: self._reply(index, read) for index in range(self.request.n)}
        completion_tokens = 0
        while replies:
            for index in list(replies):
                if self._closed.is_set():
                    return
                step, logprobs = next(replies[index])
                completion_tokens += 1
                if step.text or logprobs:
                    content = ChoiceLogprobs(content=logprobs) if logprobs is not None else None
                    yield self._chunk(index, ChoiceDelta(content=step.text), logprobs=content)
                if step.finish_reason:
                    yield self._chunk(index, ChoiceDelta(), finish_reason=step.finish_reason)
                    del replies[index]
        if self.request.include_usage:
            usage = CompletionUsage(
                prompt_tokens=len(self._input_ids),
                completion_tokens=completion_tokens,
                total_tokens=len(self._input_ids) + completion_tokens,
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

    Raises `ValueError` when the stream ended early, since such a reply has no finish reason.
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
        raise ValueError("The stream ended before the reply was complete: at least one choice has no finish_reason.")
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
    outside = [token_id for token_id in request.sampling.logit_bias if token_id >= model.vocab_size]
    if outside:
        raise BadRequestError(
            f"logit_bias names tokens that {model.name} does not have: {', '.join(map(str, outside))}. "
            f"Its ids are 0 to {model.vocab_size - 1}.",
            param="logit_bias",
            code="invalid_value",
        )
    input_ids = encode(render(request.messages, model=model), model=model)
    wanted = request.max_tokens or 1
    if len(input_ids) + wanted > model.context_length:
        raise ContextLengthError(
            f"{model.name} can hold {model.context_length} tokens, but this request needs "
            f"{len(input_ids) + wanted}: {len(input_ids)} in the messages and {wanted} for the reply. Shorten the "
            "messages, drop the oldest, or ask for a shorter reply.",
            param="messages",
        )
    return input_ids


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -9999.0
