"""Requests: the parameters of a chat completion, checked once, before any work is done.

In: the keyword arguments of `chat_completions`, as a caller wrote them. Out: a `ChatRequest` that is known to be good,
or the error a server would answer. A parameter is honoured or refused, never ignored. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from chatlab.errors import BadRequestError
from chatlab.messages import Message, validate
from chatlab.sampling import SamplingParams, check_integer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ChatOptions", "ChatRequest", "check_request"]

MAX_STOP_STRINGS = 4
MAX_CHOICES = 128
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
    _check_flag("stream", stream)
    _check_flag("logprobs", given.get("logprobs"))
    _check_unsupported(given)
    sampling = {name: value for name, value in given.items() if name in SamplingParams.__dataclass_fields__}
    if "logit_bias" in sampling:
        sampling["logit_bias"] = _logit_bias(sampling["logit_bias"])
    n = given.get("n", 1)
    check_integer("n", n, minimum=1, maximum=MAX_CHOICES)
    if "seed" in given:
        check_integer("seed", given["seed"], minimum=SEED_RANGE[0], maximum=SEED_RANGE[1])
    return ChatRequest(
        messages=checked,
        sampling=SamplingParams(**sampling),
        max_tokens=_max_tokens(given),
        stop=_stop(given.get("stop", ())),
        seed=given.get("seed"),
        n=n,
        top_logprobs=_top_logprobs(given),
        stream=bool(stream),
        include_usage=_include_usage(bool(stream), given),
    )


def _max_tokens(given: Mapping[str, Any]) -> int | None:
    names = [name for name in ("max_completion_tokens", "max_tokens") if name in given]
    for name in names:
        check_integer(name, given[name], minimum=1)
    if len({given[name] for name in names}) > 1:
        raise BadRequestError(
            "max_tokens is the older name of max_completion_tokens, and the two differ. Give only the latter.",
            param="max_tokens",
        )
    return given[names[0]] if names else None


def _check_flag(name: str, value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise BadRequestError(
            f"{name} must be True or False, not {type(value).__name__} {value!r}.",
            param=name,
            code="invalid_type",
        )


def _stop(stop: object) -> tuple[str, ...]:
    strings = [stop] if isinstance(stop, str) else stop
    if not isinstance(strings, Sequence) or not all(isinstance(string, str) for string in strings):
        raise BadRequestError(
            f"stop must be a string or a list of strings, not {stop!r}.", param="stop", code="invalid_type"
        )
    if len(strings) > MAX_STOP_STRINGS:
        raise BadRequestError(
            f"stop may hold at most {MAX_STOP_STRINGS} strings, but holds {len(strings)}.",
            param="stop",
            code="array_above_max_length",
        )
    return tuple(strings)


def _logit_bias(logit_bias: object) -> dict[int, float]:
    if not isinstance(logit_bias, Mapping):
        raise BadRequestError(
            f"logit_bias must be a dict from token id to bias, not {type(logit_bias).__name__}.",
            param="logit_bias",
            code="invalid_type",
        )
    bad = [key for key in logit_bias if not str(key).isdecimal()]
    if bad:
        raise BadRequestError(
            f"The keys of logit_bias must be token ids, but these are not: {', '.join(map(repr, bad))}.",
            param="logit_bias",
            code="invalid_value",
        )
    return {int(key): bias for key, bias in logit_bias.items()}


def _top_logprobs(given: Mapping[str, Any]) -> int | None:
    wanted = given.get("logprobs", False)
    if "top_logprobs" not in given:
        return 0 if wanted else None
    check_integer("top_logprobs", given["top_logprobs"], minimum=0, maximum=MAX_TOP_LOGPROBS)
    if not wanted:
        raise BadRequestError("top_logprobs needs logprobs=True.", param="top_logprobs")
    return int(given["top_logprobs"])


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
    _check_flag("stream_options.include_usage", options.get("include_usage"))
    return bool(options.get("include_usage"))


def _check_unsupported(given: Mapping[str, Any]) -> None:
    """Refuse honestly what is not built, and accept its neutral values."""
    response_format = given.get("response_format", {"type": "text"})
    kind = response_format.get("type") if isinstance(response_format, Mapping) else response_format
    if kind != "text":
        raise BadRequestError(
            f"response_format {kind!r} is not supported: this model's replies are text. Leave it out.",
            param="response_format",
            code="unsupported_value",
        )
    if given.get("tools"):
        raise BadRequestError(
            "tools are not supported: the model's chat template has no place for them, so it would never see them. "
            "Describe what you need in the system message instead.",
            param="tools",
            code="unsupported_value",
        )
    if given.get("tool_choice", "none") not in ("none", "auto"):
        raise BadRequestError("tool_choice needs tools.", param="tool_choice")
