"""Requests: the parameters of a chat completion, checked once, before any work is done.

In: the keyword arguments of `chat_completions`, as a caller wrote them. Out: a `ChatRequest` that is known to be good,
or the error a server would answer. A parameter is honoured or refused, never ignored. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from chatlab.checks import check_flag, check_integer, check_stop, kind_of
from chatlab.errors import BadRequestError
from chatlab.messages import Message, validate
from chatlab.sampling import SamplingParams

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ChatOptions", "ChatRequest", "check_request"]

MAX_CHOICES = 128
MAX_MESSAGES = 2048
MAX_TOP_LOGPROBS = 20
SEED_RANGE = (-(2**63), 2**63 - 1)


@dataclass(frozen=True)
class ChatRequest:
    """A request whose every value has been checked; `top_logprobs` is None when no logprobs are wanted."""

    messages: list[Message]
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    seed: int | None
    n: int
    top_logprobs: int | None
    stream: bool
    include_usage: bool


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


def check_request(messages: object, *, stream: bool | None = None, **options: Unpack[ChatOptions]) -> ChatRequest:
    """Return the checked request. Raises `BadRequestError` for the first thing that is wrong.

    >>> check_request([{"role": "user", "content": "Hi"}], stop="END").stop
    ('END',)
    """
    for name in options:
        if name not in ChatOptions.__annotations__:
            raise BadRequestError(f"There is no parameter {name!r}.", param=name, code="unknown_parameter")
    checked = validate(messages)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    streamed = check_flag("stream", stream)
    _check_unsupported(checked, given)
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
        if name != "include_usage":
            raise BadRequestError(
                f"stream_options has no option {name!r}. It has include_usage.",
                param=f"stream_options.{name}",
                code="unknown_parameter",
            )
    return check_flag("stream_options.include_usage", options.get("include_usage"))


def _check_unsupported(messages: list[Message], given: Mapping[str, Any]) -> None:
    """Refuse honestly what is not built, and accept its neutral values."""
    for index, message in enumerate(messages):
        if message.get("tool_calls"):
            raise BadRequestError(
                f"messages[{index}] holds tool calls, which chatlab does not support yet: the model would not see "
                "them.",
                param=f"messages[{index}].tool_calls",
                code="unsupported_value",
            )
    if given.get("tools"):
        raise BadRequestError(
            "chatlab does not support tools yet: the model would not see them. Describe what you need in the system "
            "message instead.",
            param="tools",
            code="unsupported_value",
        )
    if given.get("tool_choice", "none") not in ("none", "auto"):
        raise BadRequestError("tool_choice needs tools.", param="tool_choice")
    if "response_format" in given:
        _check_response_format(given["response_format"])


def _check_response_format(response_format: object) -> None:
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if not isinstance(kind, str):
        raise BadRequestError(
            "response_format must be a dict with a 'type', such as {'type': 'text'}, not "
            f"{kind_of(response_format)}.",
            param="response_format",
            code="invalid_type",
        )
    if kind in ("json_object", "json_schema"):
        raise BadRequestError(
            f"response_format {kind!r} is not supported yet: replies are text. Leave it out.",
            param="response_format",
            code="unsupported_value",
        )
    if kind != "text":
        raise BadRequestError(
            f"response_format has the type {kind!r}, which is none. Use 'text'.",
            param="response_format",
            code="invalid_value",
        )


def split_body(body: Mapping[str, Any]) -> tuple[Any, str, dict[str, Any]]:
    rest = dict(body)
    for name in ("model", "messages"):
        if name not in rest:
            raise BadRequestError(f"{name} is missing.", param=name, code="missing_required_parameter")
    return rest.pop("messages"), rest.pop("model"), rest
