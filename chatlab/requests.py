"""Requests: the parameters of a chat completion, checked once, before any work is done.

In: the keyword arguments of `chat_completions`, as a caller wrote them. Out: a `ChatRequest` that is known to be good,
or the error a server would answer. A parameter is honoured or refused, never ignored. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from chatlab.checks import check_flag, check_integer, check_stop
from chatlab.errors import BadRequestError
from chatlab.messages import Message, validate
from chatlab.response_formats import check_response_format
from chatlab.sampling import SamplingParams
from chatlab.tool_messages import check_tool_messages
from chatlab.tools import Tools, check_tools

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SEED_RANGE", "ChatOptions", "ChatRequest", "check_request"]

MAX_MESSAGES = 2048
MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20
SEED_RANGE = (-(2**63), 2**63 - 1)


@dataclass(frozen=True)
class ChatRequest:
    """A request whose every value has been checked; `top_logprobs` is None when no logprobs are wanted.

    `reply_rule` is what the grammar of the reply says where `response_format` asked for JSON, `tools` what the model
    may call; None where any text will do, and where there is nothing to call.
    """

    messages: list[Message]
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    seed: int | None
    n: int
    top_logprobs: int | None
    stream: bool
    include_usage: bool
    reply_rule: str | None
    tools: Tools | None


class ChatOptions(TypedDict, total=False):
    """The optional parameters of a chat completion; None stands for a parameter's default."""

    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[Any, float] | None
    max_completion_tokens: int | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    seed: int | None
    n: int | None
    logprobs: bool | None
    top_logprobs: int | None
    stream_options: Mapping[str, Any] | None
    response_format: Mapping[str, Any] | None
    tools: Sequence[Any] | None
    tool_choice: Any
    parallel_tool_calls: bool | None


def check_request(messages: object, *, stream: bool | None = None, **options: Unpack[ChatOptions]) -> ChatRequest:
    """Return the checked request. Raises `BadRequestError` for the first thing that is wrong.

    >>> check_request([{"role": "user", "content": "Hi"}], stop="END").stop
    ('END',)
    """
    for name in options:
        if name not in ChatOptions.__annotations__:
            raise BadRequestError(f"There is no parameter {name!r}.", param=name, code="unknown_parameter")
    if isinstance(messages, Sequence) and not isinstance(messages, (str, bytes)) and len(messages) > MAX_MESSAGES:
        raise BadRequestError(
            f"messages may hold at most {MAX_MESSAGES:,} messages, but holds {len(messages):,}. Send the latest ones.",
            param="messages",
            code="array_above_max_length",
        )
    checked = validate(messages)
    check_tool_messages(checked)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    streamed = check_flag("stream", stream)
    sampling = {name: value for name, value in given.items() if name in SamplingParams.__dataclass_fields__}
    seed = given.get("seed")
    if seed is not None:
        seed = check_integer("seed", seed, minimum=SEED_RANGE[0], maximum=SEED_RANGE[1])
    return ChatRequest(
        messages=checked,
        sampling=SamplingParams(**sampling),
        max_tokens=_max_tokens(given),
        stop=check_stop(given.get("stop")),
        seed=seed,
        n=check_integer("n", given.get("n", 1), minimum=1, maximum=MAX_CHOICES),
        top_logprobs=_top_logprobs(given),
        stream=streamed,
        include_usage=_include_usage(streamed, given),
        reply_rule=check_response_format(given.get("response_format")),
        tools=check_tools(given.get("tools"), given.get("tool_choice"), given.get("parallel_tool_calls")),
    )


def _max_tokens(given: Mapping[str, Any]) -> int | None:
    names = [name for name in ("max_completion_tokens", "max_tokens") if name in given]
    limits = [check_integer(name, given[name], minimum=1) for name in names]
    if len(set(limits)) > 1:
        raise BadRequestError(
            "max_tokens is the older name of max_completion_tokens, and the two differ. Give only the latter.",
            param="max_tokens",
        )
    return limits[0] if limits else None


def _top_logprobs(given: Mapping[str, Any]) -> int | None:
    wanted = check_flag("logprobs", given.get("logprobs"))
    if "top_logprobs" not in given:
        return 0 if wanted else None
    top_logprobs = check_integer("top_logprobs", given["top_logprobs"], minimum=0, maximum=MAX_TOP_LOGPROBS)
    if not wanted:
        raise BadRequestError("top_logprobs needs logprobs=True.", param="top_logprobs")
    return top_logprobs


def _include_usage(stream: bool, given: Mapping[str, Any]) -> bool:
    if "stream_options" not in given:
        return not stream  # a whole reply always tells its usage
    options = given["stream_options"]
    if not stream:
        raise BadRequestError("stream_options needs stream=True.", param="stream_options")
    if not isinstance(options, Mapping):
        raise BadRequestError(
            f"stream_options must be a dict, not {type(options).__name__}.",
            param="stream_options",
            code="invalid_type",
        )
    for name in options:
        if name == "include_obfuscation" and not options[name]:
            continue
        if name == "include_obfuscation":
            raise BadRequestError(
                "stream_options.include_obfuscation is not supported: the chunks are as long as their text.",
                param="stream_options.include_obfuscation",
                code="unsupported_value",
            )
        if name != "include_usage":
            raise BadRequestError(
                f"stream_options has no option {name!r}. It has include_usage.",
                param=f"stream_options.{name}",
                code="unknown_parameter",
            )
    return check_flag("stream_options.include_usage", options.get("include_usage"))
