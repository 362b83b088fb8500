"""The error table of a chat completions endpoint, as data: a JSON body, and the error that it must get."""

from __future__ import annotations

import math
from typing import Any

from chatlab.checks import MAX_BIASES, MAX_STOP_LENGTH
from chatlab.parameters import IGNORED, UNSUPPORTED
from chatlab.requests import MAX_MESSAGES, ChatOptions
from chatlab.tools import MAX_TOOLS

HELLO = [{"role": "user", "content": "Hello!"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": HELLO, **fields}


def messages(*given: Any) -> dict[str, Any]:
    return body(messages=list(given))


def schema(value: Any) -> dict[str, Any]:
    return body(response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": value}})


def function(**fields: Any) -> dict[str, Any]:
    return body(tools=[{"type": "function", "function": {"name": "f", **fields}}])


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        inner = {"type": "array", "items": inner}
    return inner


# name, body, status, param, code. The model is named "scripted", has 258 tokens, and its template has no tools.
ROWS: list[tuple[str, Any, int, str | None, str | None]] = [
    ("the body is a list", [], 400, None, None),
    ("the body is a string", "hello", 400, None, None),
    ("no model", {"messages": HELLO}, 400, "model", "missing_required_parameter"),
    ("model null", body(model=None), 400, "model", "invalid_type"),
    ("no messages", {"model": "scripted"}, 400, "messages", "missing_required_parameter"),
    ("messages null", body(messages=None), 400, "messages", "invalid_type"),
    ("messages a string", body(messages="Hello!"), 400, "messages", "invalid_type"),
    ("messages empty", body(messages=[]), 400, "messages", "empty_array"),
    ("too many messages", body(messages=HELLO * (MAX_MESSAGES + 1)), 400, "messages", "array_above_max_length"),
    ("a message a string", messages("Hello!"), 400, "messages[0]", "invalid_type"),
    ("role missing", messages({"content": "Hi"}), 400, "messages[0].role", "missing_required_parameter"),
    ("role banana", messages({"role": "banana", "content": "Hi"}), 400, "messages[0].role", "invalid_value"),
    ("role a number", messages({"role": 1, "content": "Hi"}), 400, "messages[0].role", "invalid_type"),
    ("content missing", messages({"role": "user"}), 400, "messages[0].content", "missing_required_parameter"),
    ("content null", messages({"role": "user", "content": None}), 400, "messages[0].content", "invalid_type"),
    ("content 123", messages({"role": "user", "content": 123}), 400, "messages[0].content", "invalid_type"),
    (
        "an image part",
        messages({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
        400,
        "messages[0].content[0]",
        "unsupported_value",
    ),
    (
        "an audio part",
        messages(*HELLO, {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}),
        400,
        "messages[1].content[0]",
        "unsupported_value",
    ),
    ("tool without a call", messages(*HELLO, {"role": "tool", "content": "1"}), 400, "messages[1]", None),
    (
        "tool without an id",
        messages(*HELLO, CALLED, {"role": "tool", "content": "1"}),
        400,
        "messages[2].tool_call_id",
        "missing_required_parameter",
    ),
    (
        "tool with another id",
        messages(*HELLO, CALLED, {"role": "tool", "content": "1", "tool_call_id": "call_2"}),
        400,
        "messages[2].tool_call_id",
        None,
    ),
    ("a call never answered", messages(*HELLO, CALLED, *HELLO), 400, "messages[1]", None),
    (
        "a call without a name",
        messages(*HELLO, {**CALLED, "tool_calls": [{**CALL, "function": {"arguments": "{}"}}]}),
        400,
        "messages[1].tool_calls[0].function.name",
        "missing_required_parameter",
    ),
    (
        "a call with broken arguments",
        messages(*HELLO, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]}),
        400,
        "messages[1].tool_calls[0].function.arguments",
        "invalid_value",
    ),
    (
        "tool calls that are no list",
        messages(*HELLO, {**CALLED, "tool_calls": {"id": "1"}}),
        400,
        "messages[1].tool_calls",
        "invalid_type",
    ),
    (
        "tool calls the template has no form for",
        messages(*HELLO, CALLED, {"role": "tool", "content": "1", "tool_call_id": "call_1"}),
        400,
        "messages[1].tool_calls",
        "unsupported_value",
    ),
    ("temperature hot", body(temperature="hot"), 400, "temperature", "invalid_type"),
    ("temperature true", body(temperature=True), 400, "temperature", "invalid_type"),
    ("temperature 2.1", body(temperature=2.1), 400, "temperature", "decimal_above_max_value"),
    ("temperature -0.1", body(temperature=-0.1), 400, "temperature", "decimal_below_min_value"),
    ("temperature NaN", body(temperature=math.nan), 400, "temperature", "decimal_above_max_value"),
    ("temperature Infinity", body(temperature=math.inf), 400, "temperature", "decimal_above_max_value"),
    ("temperature -Infinity", body(temperature=-math.inf), 400, "temperature", "decimal_below_min_value"),
    ("top_p 1.1", body(top_p=1.1), 400, "top_p", "decimal_above_max_value"),
    ("top_p -1", body(top_p=-1), 400, "top_p", "decimal_below_min_value"),
    ("presence_penalty 3", body(presence_penalty=3), 400, "presence_penalty", "decimal_above_max_value"),
    ("frequency_penalty -3", body(frequency_penalty=-3), 400, "frequency_penalty", "decimal_below_min_value"),
    ("frequency_penalty NaN", body(frequency_penalty=math.nan), 400, "frequency_penalty", "decimal_above_max_value"),
    ("max_tokens 0", body(max_tokens=0), 400, "max_tokens", "integer_below_min_value"),
    ("max_tokens 1.5", body(max_tokens=1.5), 400, "max_tokens", "invalid_type"),
    (
        "max_completion_tokens -5",
        body(max_completion_tokens=-5),
        400,
        "max_completion_tokens",
        "integer_below_min_value",
    ),
    ("n 0", body(n=0), 400, "n", "integer_below_min_value"),
    ("n 129", body(n=129), 400, "n", "integer_above_max_value"),
    ("n true", body(n=True), 400, "n", "invalid_type"),
    ("seed a string", body(seed="7"), 400, "seed", "invalid_type"),
    ("seed too large", body(seed=2**63), 400, "seed", "integer_above_max_value"),
    ("five stops", body(stop=["a", "b", "c", "d", "e"]), 400, "stop", "array_above_max_length"),
    ("a stop that is a number", body(stop=["a", 1]), 400, "stop", "invalid_type"),
    ("stop an object", body(stop={"a": 1}), 400, "stop", "invalid_type"),
    ("stop empty", body(stop=""), 400, "stop", "invalid_value"),
    ("stop long", body(stop=["x" * (MAX_STOP_LENGTH + 1)]), 400, "stop", "string_above_max_length"),
    ("logprobs yes", body(logprobs="yes"), 400, "logprobs", "invalid_type"),
    ("top_logprobs 21", body(logprobs=True, top_logprobs=21), 400, "top_logprobs", "integer_above_max_value"),
    ("top_logprobs -1", body(logprobs=True, top_logprobs=-1), 400, "top_logprobs", "integer_below_min_value"),
    ("top_logprobs alone", body(top_logprobs=2), 400, "top_logprobs", None),
    ("stream yes", body(stream="yes"), 400, "stream", "invalid_type"),
    ("stream_options alone", body(stream_options={"include_usage": True}), 400, "stream_options", None),
    ("stream_options a list", body(stream=True, stream_options=[]), 400, "stream_options", "invalid_type"),
    (
        "stream_options unknown",
        body(stream=True, stream_options={"colour": 1}),
        400,
        "stream_options.colour",
        "unknown_parameter",
    ),
    (
        "stream_options unsupported",
        body(stream=True, stream_options={"include_obfuscation": True}),
        400,
        "stream_options.include_obfuscation",
        "unsupported_value",
    ),
    ("logit_bias a list", body(logit_bias=[]), 400, "logit_bias", "invalid_type"),
    ("logit_bias no ids", body(logit_bias={"x": 1, "1": 1, "1.5": 1}), 400, "logit_bias", "invalid_value"),
    ("logit_bias outside", body(logit_bias={"258": 1}), 400, "logit_bias", "invalid_value"),
    ("logit_bias far outside", body(logit_bias={"9" * 5000: 1}), 400, "logit_bias", "invalid_value"),
    ("logit_bias 101", body(logit_bias={"1": 101}), 400, "logit_bias", "decimal_above_max_value"),
    ("logit_bias a string", body(logit_bias={"1": "5"}), 400, "logit_bias", "invalid_type"),
    (
        "logit_bias long",
        body(logit_bias={str(number): 1 for number in range(MAX_BIASES + 1)}),
        400,
        "logit_bias",
        "object_above_max_properties",
    ),
    ("response_format a string", body(response_format="text"), 400, "response_format", "invalid_type"),
    (
        "response_format empty",
        body(response_format={}),
        400,
        "response_format.type",
        "missing_required_parameter",
    ),
    ("response_format banana", body(response_format={"type": "banana"}), 400, "response_format", "invalid_value"),
    ("no json_schema", body(response_format={"type": "json_schema"}), 400, "response_format", "invalid_value"),
    (
        "json_schema without a schema",
        body(response_format={"type": "json_schema", "json_schema": {"name": "a"}}),
        400,
        "response_format",
        "invalid_value",
    ),
    (
        "json_schema without a name",
        body(response_format={"type": "json_schema", "json_schema": {"schema": {}}}),
        400,
        "response_format.json_schema.name",
        "missing_required_parameter",
    ),
    (
        "json_schema with a bad name",
        body(response_format={"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}),
        400,
        "response_format.json_schema.name",
        "invalid_value",
    ),
    ("a schema that is none", schema({"type": "banana"}), 400, "response_format", "invalid_value"),
    ("a schema that is a list", schema([]), 400, "response_format", "invalid_value"),
    ("a schema with not", schema({"not": {"type": "string"}}), 400, "response_format", "invalid_value"),
    ("a schema elsewhere", schema({"$ref": "http://localhost/x"}), 400, "response_format", "invalid_value"),
    ("a schema of a bad draft", schema({"$schema": "http://["}), 400, "response_format", "invalid_value"),
    ("a schema of half a character", schema({"enum": ["\ud800"]}), 400, "response_format", "invalid_value"),
    ("a schema without an end", schema({"$ref": "#"}), 400, "response_format", "invalid_value"),
    ("a schema of huge numbers", schema({"minimum": 10**300}), 400, "response_format", "invalid_value"),
    ("a schema of giant numbers", schema({"minimum": 10**400}), 400, "response_format", "invalid_value"),
    ("a schema too deep", schema(nested(100)), 400, "response_format", "invalid_value"),
    ("a schema far too deep", schema(nested(400)), 400, "response_format", "invalid_value"),
    ("a schema too long", schema({"enum": ["x" * 200_000]}), 400, "response_format", "invalid_value"),
    (
        "a schema of too many states",
        schema({"allOf": [{"type": "integer", "multipleOf": 9973}, {"multipleOf": 9967}]}),
        400,
        "response_format",
        "invalid_value",
    ),
    ("tools a string", body(tools="f"), 400, "tools", "invalid_type"),
    ("too many tools", body(tools=[TOOL] * (MAX_TOOLS + 1)), 400, "tools", "array_above_max_length"),
    ("a tool a string", body(tools=["f"]), 400, "tools[0]", "invalid_type"),
    ("a tool without a type", body(tools=[{}]), 400, "tools[0].type", "missing_required_parameter"),
    ("a custom tool", body(tools=[{"type": "custom"}]), 400, "tools[0].type", "unsupported_value"),
    (
        "a tool without a function",
        body(tools=[{"type": "function"}]),
        400,
        "tools[0].function",
        "missing_required_parameter",
    ),
    ("a tool without a name", function(name=None), 400, "tools[0].function.name", "missing_required_parameter"),
    ("a tool with a bad name", function(name="a b"), 400, "tools[0].function.name", "invalid_value"),
    ("two tools of one name", body(tools=[TOOL, TOOL]), 400, "tools[1].function.name", "invalid_value"),
    ("parameters a list", function(parameters=[1]), 400, "tools[0].function.parameters", "invalid_type"),
    (
        "parameters that are no schema",
        function(parameters={"type": "object", "properties": 5}),
        400,
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    (
        "parameters that are a string",
        function(parameters={"type": "string"}),
        400,
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    ("tools the template cannot show", body(tools=[TOOL]), 400, "tools", "unsupported_value"),
    ("tool_choice without tools", body(tool_choice="required"), 400, "tool_choice", None),
    (
        "a named tool_choice without tools",
        body(tool_choice={"type": "function", "function": {"name": "f"}}),
        400,
        "tool_choice",
        None,
    ),
    ("tool_choice banana", body(tools=[TOOL], tool_choice="banana"), 400, "tool_choice", "invalid_value"),
    ("tool_choice 5", body(tools=[TOOL], tool_choice=5), 400, "tool_choice", "invalid_type"),
    (
        "tool_choice of an unknown tool",
        body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}),
        400,
        "tool_choice",
        None,
    ),
    (
        "parallel_tool_calls yes",
        body(parallel_tool_calls="yes"),
        400,
        "parallel_tool_calls",
        "invalid_type",
    ),
    ("functions", body(functions=[{"name": "f"}]), 400, "functions", "unsupported_value"),
    ("function_call", body(function_call={"name": "f"}), 400, "function_call", "unsupported_value"),
    ("modalities", body(modalities=["text", "audio"]), 400, "modalities", "unsupported_value"),
    ("audio", body(audio={"voice": "x"}), 400, "audio", "unsupported_value"),
    ("prediction", body(prediction={"type": "content"}), 400, "prediction", "unsupported_value"),
    ("reasoning_effort", body(reasoning_effort="high"), 400, "reasoning_effort", "unsupported_value"),
    ("verbosity", body(verbosity="low"), 400, "verbosity", "unsupported_value"),
    ("web_search_options", body(web_search_options={}), 400, "web_search_options", "unsupported_value"),
    ("an unknown field", body(temprature=1), 400, "temprature", "unknown_parameter"),
    (
        "a prompt over the context",
        messages({"role": "user", "content": "x" * 9000}),
        400,
        "messages",
        "context_length_exceeded",
    ),
    (
        "prompt and reply over the context",
        body(max_tokens=8192),
        400,
        "messages",
        "context_length_exceeded",
    ),
]

# Bodies that must be answered: null, neutral and ignored fields, both names, parts, every role.
ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    *(
        (f"{name} null", body(**{name: None}))
        for name in sorted([*ChatOptions.__annotations__, *IGNORED, *UNSUPPORTED, "stream"])
    ),
    (
        "ignored fields",
        body(
            user="Ana",
            metadata={"a": ["\ud800"]},
            store=True,
            service_tier="auto",
            safety_identifier="x",
            prompt_cache_key="y",
        ),
    ),
    (
        "neutral values",
        body(
            n=1,
            logprobs=False,
            parallel_tool_calls=False,
            tools=[],
            tool_choice="none",
            functions=[],
            function_call="none",
            modalities=["text"],
            stop=[],
            response_format={"type": "text"},
            logit_bias={},
        ),
    ),
    ("max_tokens", body(max_tokens=5)),
    ("both names, the same", body(max_tokens=5, max_completion_tokens=5)),
    ("four stops", body(stop=["a", "b", "c", "d"])),
    ("logit_bias", body(logit_bias={"65": -100, "66": 10})),
    (
        "parts and roles",
        messages(
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ana"},
            {"role": "assistant", "content": "Hi"},
            {"role": "system", "content": "x"},
            *HELLO,
        ),
    ),
]
