"""Parameters: the JSON body of a chat completion request, split into what chatlab works with.

In: the body, as a client sent it. Out: messages, the model's name, and the options of `requests.check_request`; or the
error a server would answer for a field that does not exist or is not supported. Knows nothing of HTTP or models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatlab.checks import kind_of
from chatlab.errors import BadRequestError
from chatlab.requests import ChatOptions

__all__ = ["split_body"]

# Fields that change nothing in a reply: labels, bookkeeping, wishes about caches and priorities.
IGNORED = {
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
}
# Fields of OpenAI's that chatlab lacks, each with the values (besides null) that ask for nothing it lacks.
UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
}
INSTEAD = {"functions": " Use tools.", "function_call": " Use tool_choice."}


def split_body(body: object) -> tuple[object, str, dict[str, Any]]:
    """Return the messages, the model's name, and the options, of which only the names have been looked at.

    Raises `BadRequestError` for a body that is no object, a missing `model` or `messages`, an unknown field, and a
    field that asks for something chatlab lacks.

    >>> split_body({"model": "m", "messages": [], "temperature": 0, "user": "Ana"})
    ([], 'm', {'temperature': 0})
    """
    if not isinstance(body, Mapping):
        raise BadRequestError(f"The body must be a JSON object, not {kind_of(body)}.")
    for name in ("model", "messages"):
        if name not in body:
            raise BadRequestError(
                f"The request has no {name!r}. Send {{'model': ..., 'messages': [...]}}.",
                param=name,
                code="missing_required_parameter",
            )
    model = body["model"]
    if not isinstance(model, str):
        raise BadRequestError(f"model must be a string, not {kind_of(model)}.", param="model", code="invalid_type")
    options = {}
    for name, value in body.items():
        if name in ("model", "messages") or name in IGNORED:
            continue
        if name in UNSUPPORTED:
            _check_neutral(name, value)
        elif name in ChatOptions.__annotations__ or name == "stream":
            options[name] = value
        else:
            shown = str(name)[:64]
            raise BadRequestError(f"There is no parameter {shown!r}.", param=shown, code="unknown_parameter")
    return body["messages"], model, options


def _check_neutral(name: str, value: object) -> None:
    if value is None or any(type(value) is type(neutral) and value == neutral for neutral in UNSUPPORTED[name]):
        return
    raise BadRequestError(
        f"{name} is not supported: chatlab would have to ignore {kind_of(value)}.{INSTEAD.get(name, ' Leave it out.')}",
        param=name,
        code="unsupported_value",
    )
