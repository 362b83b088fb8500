"""Documentation: what the server tells of itself at `/docs` and in `/openapi.json`.

In: the limits that requests are checked against. Out: the parts of an OpenAPI description, one for each path. Knows
nothing of how a request is answered.
"""

from __future__ import annotations

from typing import Any

from openai.types import Model
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from chatlab.checks import MAX_STOP_STRINGS
from chatlab.messages import ROLES
from chatlab.requests import MAX_CHOICES, MAX_MESSAGES, MAX_TOP_LOGPROBS, SEED_RANGE
from chatlab.sampling import RANGES, SamplingParams

__all__ = ["CHAT_COMPLETIONS", "DESCRIPTION", "HEALTH", "METRICS", "MODEL", "MODELS"]

DESCRIPTION = """\
Chat completions as OpenAI's API has them, made by **{model}** on this machine. Press *Try it out*, or point the
official client at it: `openai.OpenAI(base_url="http://.../v1", api_key="...")`."""


class ErrorObject(BaseModel):
    """What went wrong: in words, its family, the parameter at fault, and a code for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every refusal."""

    error: ErrorObject


class ModelList(BaseModel):
    """The models that are served."""

    object: str
    data: list[Model]


class Health(BaseModel):
    """That the server is up, and how busy it is."""

    status: str
    model: str
    running: int
    waiting: int


def _optional(schema: dict[str, Any], description: str, default: object = None) -> dict[str, Any]:
    """Return the schema of a parameter that may also be null, which stands for its default."""
    return {"anyOf": [schema, {"type": "null"}], "description": description, "default": default}


def _number(name: str, description: str) -> dict[str, Any]:
    minimum, maximum = RANGES[name]
    default = getattr(SamplingParams(), name)
    return _optional({"type": "number", "minimum": minimum, "maximum": maximum}, description, default)


def _integer(
    description: str, *, minimum: int, maximum: int | None = None, default: int | None = None
) -> dict[str, Any]:
    limits = {"minimum": minimum} if maximum is None else {"minimum": minimum, "maximum": maximum}
    return _optional({"type": "integer", **limits}, description, default)


TEXT_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"enum": list(ROLES), "description": "Who speaks; developer is treated as system."},
        "content": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": TEXT_PART, "minItems": 1}],
            "description": "What is said. Several text parts are joined by line ends.",
        },
    },
    "required": ["role", "content"],
}
REQUEST = {
    "type": "object",
    "required": ["model", "messages"],
    "additionalProperties": False,
    "properties": {
        "model": {"type": "string", "description": "The name that /v1/models lists."},
        "messages": {"type": "array", "items": MESSAGE, "minItems": 1, "maxItems": MAX_MESSAGES},
        "temperature": _number("temperature", "0 always takes the likeliest token; higher is more varied."),
        "top_p": _number("top_p", "Draw from the likeliest tokens that reach this probability together."),
        "n": _integer("How many replies to make.", minimum=1, maximum=MAX_CHOICES, default=1),
        "max_completion_tokens": _integer("The most tokens of a reply.", minimum=1),
        "max_tokens": _integer("The older name of max_completion_tokens.", minimum=1),
        "stop": _optional(
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "string"}, "maxItems": MAX_STOP_STRINGS},
                ]
            },
            "Texts that end the reply; they are not part of it.",
        ),
        "seed": _integer("The same seed gives the same reply.", minimum=SEED_RANGE[0], maximum=SEED_RANGE[1]),
        "presence_penalty": _number("presence_penalty", "Makes tokens that the reply has already less likely."),
        "frequency_penalty": _number("frequency_penalty", "The same, once per occurrence."),
        "logit_bias": _optional(
            {"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
            "Token id → what is added to its logit.",
        ),
        "logprobs": _optional({"type": "boolean"}, "Tell the probability of each token.", False),
        "top_logprobs": _integer("How many alternatives to tell of each token.", minimum=0, maximum=MAX_TOP_LOGPROBS),
        "stream": _optional({"type": "boolean"}, "Send the reply while it is made, as server-sent events.", False),
        "stream_options": _optional(
            {
                "type": "object",
                "properties": {"include_usage": _optional({"type": "boolean"}, "Send a last chunk with usage.", False)},
                "additionalProperties": False,
            },
            "Only with stream.",
        ),
        "response_format": _optional(
            {"type": "object", "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}}},
            "What the reply has to look like: text, a JSON object, or JSON that a schema allows.",
        ),
        "tools": _optional({"type": "array", "items": {"type": "object"}}, "Functions the model may ask you to call."),
        "tool_choice": _optional({"type": ["string", "object"]}, "none, auto, required, or one function."),
        "parallel_tool_calls": _optional({"type": "boolean"}, "Whether one reply may hold several calls.", True),
        "top_k": _integer("chatlab's own: draw from the k likeliest tokens; 0 is off.", minimum=0, default=0),
        "min_p": _number(
            "min_p", "chatlab's own: leave out what is less likely than this share of the likeliest token."
        ),
        "repetition_penalty": _number("repetition_penalty", "chatlab's own: above 1, makes known tokens less likely."),
        **{
            name: _optional({"type": kind}, "Accepted, and without effect here.")
            for name, kind in {
                "user": "string",
                "metadata": "object",
                "store": "boolean",
                "service_tier": "string",
                "safety_identifier": "string",
                "prompt_cache_key": "string",
            }.items()
        },
    },
    "example": {
        "model": "SmolLM2-135M-Instruct",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
    },
}

EVENT = {
    "type": "object",
    "properties": {"data": {"type": "string", "description": "A chunk as JSON; at the end, [DONE]."}},
    "required": ["data"],
}


def _refusals(**meanings: str) -> dict[int | str, dict[str, Any]]:
    return {int(name.removeprefix("_")): {"model": ErrorBody, "description": text} for name, text in meanings.items()}


WITH_KEY = _refusals(_401="The key is missing or wrong.", _403="The server is not called by that name.")
CHAT_COMPLETIONS: dict[str, Any] = {
    "tags": ["chat"],
    "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": REQUEST}}}},
    "response_model": None,
    "responses": {
        200: {
            "model": ChatCompletion,
            "description": "The reply; with stream, its chunks.",
            "content": {"text/event-stream": {"itemSchema": EVENT}},
        },
        **WITH_KEY,
        **_refusals(
            _400="The request is wrong; param and code say where and how.",
            _404="There is no model of that name.",
            _413="The body is too large.",
            _429="Too many requests at once; Retry-After says when to try again.",
            _500="A mistake of the server's own.",
            _503="The server is stopping.",
        ),
    },
}
MODELS: dict[str, Any] = {
    "tags": ["models"],
    "response_model": None,
    "responses": {200: {"model": ModelList}, **WITH_KEY},
}
MODEL: dict[str, Any] = {
    "tags": ["models"],
    "response_model": None,
    "responses": {200: {"model": Model}, **WITH_KEY, **_refusals(_404="There is no model of that name.")},
}
HEALTH: dict[str, Any] = {"tags": ["server"], "response_model": None, "responses": {200: {"model": Health}}}
METRICS: dict[str, Any] = {
    "tags": ["server"],
    "response_model": None,
    "responses": {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **WITH_KEY},
}
