r"""Tools: functions that the model may ask the caller to run.

In: the parameters `tools`, `tool_choice` and `parallel_tool_calls`, as a caller wrote them. Out: `Tools`, known to be
good; whether a model's template can show and call them; the grammar of a reply that calls them. The form of a call is
that of Hermes and Qwen: `<tool_call>\n{"name": ..., "arguments": ...}\n</tool_call>`. Knows nothing of chunks or HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chatlab.chat_model import ChatModel
from chatlab.checks import check_flag, kind_of
from chatlab.constraints import single_token
from chatlab.errors import BadRequestError, ChatlabError
from chatlab.messages import Message
from chatlab.response_formats import NAME
from chatlab.schemas import MAX_SCHEMA_BYTES, SchemaFault, json_rule
from chatlab.templating import render

__all__ = ["CALL_END", "CALL_START", "Tools", "check_support", "check_tools", "reply_grammar"]

MAX_TOOLS = 128
CALL_START = "<tool_call>"
CALL_END = "</tool_call>"
NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True)
class Tools:
    """Checked tools: the definitions, the rule of a grammar for each one's arguments, and which may be called.

    `choice` is OpenAI's "none", "auto" or "required"; a named tool is "required" with `names` of one.
    """

    definitions: tuple[dict[str, Any], ...]
    rules: Mapping[str, str]
    choice: Literal["none", "auto", "required"]
    names: tuple[str, ...]
    parallel: bool


def check_tools(tools: object, tool_choice: object, parallel_tool_calls: object) -> Tools | None:
    """Return the checked tools; None where there are none. Raises `BadRequestError`.

    >>> add = {"type": "function", "function": {"name": "add"}}
    >>> check_tools([add], "required", None).names
    ('add',)
    >>> check_tools([add], {"type": "function", "function": {"name": "sub"}}, None)
    Traceback (most recent call last):
    chatlab.errors.BadRequestError: tool_choice names the tool 'sub', which is not among tools: add.
    """
    parallel = parallel_tool_calls is None or check_flag("parallel_tool_calls", parallel_tool_calls)
    if tools is not None and (not isinstance(tools, Sequence) or isinstance(tools, (str, bytes))):
        raise BadRequestError(f"tools must be a list, not {kind_of(tools)}.", param="tools", code="invalid_type")
    if not tools:
        if tool_choice not in (None, "none", "auto"):
            raise BadRequestError("tool_choice needs tools.", param="tool_choice")
        return None
    if len(tools) > MAX_TOOLS:
        raise BadRequestError(
            f"tools may hold at most {MAX_TOOLS} tools, but holds {len(tools)}.",
            param="tools",
            code="array_above_max_length",
        )
    rules: dict[str, str] = {}
    for index, tool in enumerate(tools):
        name, rule = _check_tool(tool, f"tools[{index}]")
        if name in rules:
            raise _invalid(f"tools[{index}].function.name", f"is {name!r}, which an earlier tool is called already")
        rules[name] = rule
    if sum(map(len, rules.values())) > MAX_SCHEMA_BYTES:
        raise _invalid("tools", f"has schemas of more than {MAX_SCHEMA_BYTES:,} bytes together")
    choice, names = _check_choice(tool_choice, list(rules))
    parallel = parallel and not isinstance(tool_choice, Mapping)  # a tool that is named is called once
    definitions = json.loads(json.dumps(tools))  # a copy that nobody can change
    return Tools(tuple(definitions), rules, choice, tuple(names), parallel)


def _check_tool(tool: object, path: str) -> tuple[str, str]:
    """Return the tool's name and the rule for its arguments."""
    if not isinstance(tool, Mapping):
        raise BadRequestError(
            f"{path} must be a dict such as {{'type': 'function', 'function': {{'name': ...}}}}, not {kind_of(tool)}.",
            param=path,
            code="invalid_type",
        )
    kind = _required(tool, "type", path, str)
    if kind != "function":
        raise BadRequestError(
            f"{path}.type is {kind[:40]!r}; only 'function' is supported.",
            param=f"{path}.type",
            code="unsupported_value",
        )
    function = _required(tool, "function", path, Mapping)
    path += ".function"
    name = _required(function, "name", path, str)
    if not NAME.fullmatch(name):
        raise _invalid(f"{path}.name", f"is {name[:80]!r}. It may have up to 64 letters, digits, '_' and '-'")
    if function.get("description") is not None:
        _required(function, "description", path, str)
    check_flag(f"{path}.strict", function.get("strict"))  # either way, the schema is held to
    parameters = _required(function, "parameters", path, Mapping) if function.get("parameters") else NO_PARAMETERS
    try:
        if parameters.get("type") != "object":
            raise SchemaFault(f"its type must be 'object', not {kind_of(parameters.get('type'))}")
        rule = json_rule(parameters)
        json.dumps(tool, allow_nan=False)
    except (SchemaFault, TypeError, ValueError) as fault:
        raise BadRequestError(
            f"The parameters of the tool {name!r} are a schema that cannot be used: {fault}.",
            param=f"{path}.parameters",
            code="invalid_function_parameters",
        ) from fault
    return name, rule


def _required(value: Mapping[str, Any], key: str, path: str, kind: type) -> Any:
    found = value.get(key)
    if found is None:
        raise BadRequestError(f"{path} has no {key!r}.", param=f"{path}.{key}", code="missing_required_parameter")
    if not isinstance(found, kind):
        wanted = "a string" if kind is str else "a dict"
        raise BadRequestError(
            f"{path}.{key} must be {wanted}, not {kind_of(found)}.", param=f"{path}.{key}", code="invalid_type"
        )
    return found


def _check_choice(choice: object, names: list[str]) -> tuple[Literal["none", "auto", "required"], list[str]]:
    if choice is None or choice == "auto":
        return "auto", names
    if choice == "none":
        return "none", names
    if choice == "required":
        return "required", names
    if isinstance(choice, str):
        raise _invalid("tool_choice", f"is {choice[:40]!r}, which is none of 'none', 'auto', 'required'")
    if not isinstance(choice, Mapping):
        raise BadRequestError(
            f"tool_choice must be a string or a dict, not {kind_of(choice)}.", param="tool_choice", code="invalid_type"
        )
    kind = _required(choice, "type", "tool_choice", str)
    if kind != "function":
        raise BadRequestError(
            f"tool_choice.type is {kind[:40]!r}; only 'function' is supported.",
            param="tool_choice.type",
            code="unsupported_value",
        )
    function = _required(choice, "function", "tool_choice", Mapping)
    name = _required(function, "name", "tool_choice.function", str)
    if name not in names:
        raise BadRequestError(
            f"tool_choice names the tool {name[:64]!r}, which is not among tools: {', '.join(names)}.",
            param="tool_choice",
        )
    return "required", [name]


def _invalid(path: str, what: str) -> BadRequestError:
    return BadRequestError(f"{path} {what}.", param=path, code="invalid_value")


PROBE_CALL = {"id": "call_1", "type": "function", "function": {"name": "probe", "arguments": '{"x": 1}'}}
PROBE: list[Message] = [
    {"role": "user", "content": "question"},
    {"role": "assistant", "content": "", "tool_calls": [PROBE_CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "the answer"},
]
PROBE_TOOL = {"type": "function", "function": {"name": "probe_tool", "parameters": NO_PARAMETERS}}
WRITTEN = re.compile(rf'{CALL_START}\s*{{"name": "probe", "arguments": {{"x": 1}}}}\s*{CALL_END}')


def check_support(model: ChatModel, messages: Sequence[Message], tools: Tools | None) -> None:
    """Raise `BadRequestError` where the request has tools or calls, and the model's chat template has not.

    The template is not read but tried: does it show a tool, a call and its answer, and the call in our form?
    """
    called = next((index for index, message in enumerate(messages) if message.get("tool_calls")), None)
    if tools is None and called is None:
        return
    reason = _why_not(model)
    if reason:
        what = "its tools" if tools else f"the tool calls of messages[{called}]"
        raise BadRequestError(
            f"{model.name} cannot be given {what}: {reason}. Describe what you need in the system message, or load a "
            "model trained for tools, such as Qwen/Qwen2.5-0.5B-Instruct.",
            param="tools" if tools else f"messages[{called}].tool_calls",
            code="unsupported_value",
        )


def _why_not(model: ChatModel) -> str:
    if CALL_START in model.control_tokens:
        return f"its tokenizer hides {CALL_START}, so that a call cannot be read"
    try:
        shown = render(PROBE[:1], model=model, tools=[PROBE_TOOL])
        called = render(PROBE, model=model, tools=[PROBE_TOOL])
    except ChatlabError as error:
        return f"its chat template fails with tools ({str(error)[:200]})"
    if "probe_tool" not in shown:
        return "its chat template does not show tools to the model"
    if not WRITTEN.search(called) or "the answer" not in called:
        return f"its chat template writes calls in another form than {CALL_START}, which chatlab cannot read"
    return ""


def reply_grammar(tools: Tools | None, reply_rule: str | None, *, model: ChatModel) -> str | None:
    """Return the grammar of a reply: text or what `reply_rule` says, with calls where tools are there; None for text.

    A call's tag may be one token of the model or be spelled; once it is open, only a whole call can follow. Calls come
    last. With the choice "none" the tag cannot be written, with "required" the reply is calls only.
    """
    if tools is None:
        return reply_rule and f"start: {reply_rule}"
    text = r"TEXT: /(.|\n)*/"
    if tools.choice == "none":
        start = reply_rule or "TEXT"
        return f"start: {start}\n{text} & ~/(.|\\n)*{CALL_START}(.|\\n)*/"
    calls = f"call ({_quoted(TURN)} tag call)*" if tools.parallel else "call"
    opened = f"tag {calls}"
    if tools.choice == "auto":
        opened = f"{reply_rule} | {opened}" if reply_rule else f"TEXT | opening {calls}"
    token_id = single_token(CALL_START, model)
    lines = [
        f"start: {opened}",
        f"opening: spelled | TEXT <[{token_id}]>" if token_id is not None else "opening: spelled",
        f"spelled[lazy]: TEXT {_quoted(CALL_START)}",
        f"tag: {_tag(CALL_START, model)}",
        f"call: {_quoted(HEAD)} named {_quoted(TAIL)} end",
        f"end: {_tag(CALL_END, model)}",
        "named: " + " | ".join(f"named_{index}" for index in range(len(tools.names))),
        *(f"named_{index}: {_quoted(name + MIDDLE)} {tools.rules[name]}" for index, name in enumerate(tools.names)),
        text,
    ]
    return "\n".join(lines)


# What is written in a call around the tool's name and its arguments, and between two calls.
HEAD, MIDDLE, TAIL, TURN = '\n{"name": "', '", "arguments": ', "}\n", "\n"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _tag(text: str, model: ChatModel) -> str:
    token_id = single_token(text, model)
    return _quoted(text) if token_id is None else f"<[{token_id}]> | {_quoted(text)}"
