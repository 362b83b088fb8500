"""Chat completions: the request of a chat completions endpoint, answered in this process.

In: messages and settings, named as OpenAI names them. Out: the official client's own `ChatCompletion`, or a stream of
its `ChatCompletionChunk`s. There is one path: a whole reply is its stream, joined. Knows nothing of sockets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from openai.types.chat import ChatCompletion

from chatlab.chat_model import ChatModel
from chatlab.engines import Engine, ReplyStream
from chatlab.messages import Message
from chatlab.model import resolve
from chatlab.remote import RemoteModel, engine_of
from chatlab.requests import ChatOptions, check_request
from chatlab.streaming import ChatCompletionStream

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["chat_completions", "open_stream"]


@overload
def chat_completions(
    messages: Sequence[Message],
    model: Engine | str | Path | None = ...,
    *,
    stream: Literal[True],
    **options: Unpack[ChatOptions],
) -> ReplyStream: ...


@overload
def chat_completions(
    messages: Sequence[Message],
    model: Engine | str | Path | None = ...,
    *,
    stream: Literal[False] | None = ...,
    **options: Unpack[ChatOptions],
) -> ChatCompletion: ...


def chat_completions(
    messages: Sequence[Message],
    model: Engine | str | Path | None = None,
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
    parallel_tool_calls: bool | None = None,
) -> ChatCompletion | ReplyStream:
    """Let the model reply to the messages, as a chat completions endpoint does.

    The parameters are OpenAI's, with its defaults: temperature 1 (0–2; 0 always takes the likeliest token), top_p 1,
    n 1, a reply as long as the model's context allows; None means the default. `max_tokens` is the older name of
    `max_completion_tokens`. `top_k`, `min_p` and `repetition_penalty` are extras that OpenAI lacks. Choice number i is
    drawn with `seed` + i, so the same seed gives the same reply (on the same version and kind of machine).

    The counts in `usage` are tokens: the whole prompt as the template renders it, and every token the model made, with
    the one that ends the reply. `logprobs` are natural logarithms of the model's own probabilities, before temperature.

    `response_format` holds the reply to JSON, or to a JSON schema: no token that breaks it can be chosen. The prompt
    is not changed, so say in a message what you want. `tools` are functions the model may ask for, if its chat template
    knows of tools; their arguments always fit their schema. A reply cut by its limit ("length") or by a stop string may
    hold half a JSON text or call.

    With `stream=True` the reply comes as an iterator of chunks. What can be refused is refused before it starts: raises
    `BadRequestError` (its `ContextLengthError` when too long), `ModelNotFoundError`.

    >>> from chatlab.testing import ScriptedModel
    >>> response = chat_completions([{"role": "user", "content": "Hi"}], ScriptedModel("Hello!"), temperature=0)
    >>> response.choices[0].message.content, response.choices[0].finish_reason
    ('Hello!', 'stop')
    """
    options: ChatOptions = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "logit_bias": logit_bias,
        "max_completion_tokens": max_completion_tokens,
        "max_tokens": max_tokens,
        "stop": stop,
        "seed": seed,
        "n": n,
        "logprobs": logprobs,
        "top_logprobs": top_logprobs,
        "stream_options": stream_options,
        "response_format": response_format,
        "tools": tools,
        "tool_choice": tool_choice,
        "parallel_tool_calls": parallel_tool_calls,
    }
    reply = open_stream(messages, model, stream=stream, **options)
    if not stream:
        return reply.whole()
    reply.start()
    return reply


@overload
def open_stream(
    messages: object,
    model: ChatModel,
    *,
    stream: bool | None = ...,
    **options: Unpack[ChatOptions],
) -> ChatCompletionStream: ...


@overload
def open_stream(
    messages: object,
    model: Engine | str | Path | None = ...,
    *,
    stream: bool | None = ...,
    **options: Unpack[ChatOptions],
) -> ReplyStream: ...


def open_stream(
    messages: object,
    model: Engine | str | Path | None = None,
    *,
    stream: bool | None = None,
    **options: Unpack[ChatOptions],
) -> ReplyStream:
    """Return a reply that has not been started yet, so that it can be closed while a server lets it wait.

    The parameters, and what is refused, are those of `chat_completions`: without `stream` the chunks end with the
    usage, as a whole reply tells it.

    >>> from chatlab.testing import ScriptedModel
    >>> with open_stream([{"role": "user", "content": "Hi"}], ScriptedModel("Hey"), stream=True) as reply:
    ...     "".join(chunk.choices[0].delta.content or "" for chunk in reply)
    'Hey'
    """
    request = check_request(messages, stream=stream, **options)
    engine = engine_of(model)
    if isinstance(engine, RemoteModel):
        return engine.stream(request.messages, options)
    return ChatCompletionStream(request, resolve(engine))
