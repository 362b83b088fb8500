"""Tool messages: the calls of tools in a history, and the answers to them.

In: messages that `validate` has passed. Out: nothing where each call is whole and answered, or the error a server would
answer; and messages as a chat template wants them. Knows nothing of templates, nor of which tools there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from chatlab.checks import kind_of
from chatlab.errors import BadRequestError
from chatlab.messages import Message

__all__ = ["check_tool_messages", "with_arguments_read"]


def check_tool_messages(messages: Sequence[Message]) -> None:
    """Raise `BadRequestError` unless every tool call is whole, and answered by the tool messages right after it.

    >>> call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    >>> check_tool_messages([{"role": "assistant", "content": "", "tool_calls": [call]}])
    Traceback (most recent call last):
    chatlab.errors.BadRequestError: messages[0] has tool calls that no tool message answers: call_1.
    """
    asked, open_ids, at = set[str](), set[str](), 0
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            answered = _call_id(message, f"messages[{index}]")
            if answered not in asked:
                raise BadRequestError(
                    f"messages[{index}].tool_call_id is {answered[:40]!r}, but messages[{at}] made no such call.",
                    param=f"messages[{index}].tool_call_id",
                )
            open_ids.discard(answered)
            continue
        _check_answered(open_ids, at)
        calls = message.get("tool_calls") if message["role"] == "assistant" else None
        asked = set(_call_ids(calls, f"messages[{index}].tool_calls"))
        open_ids, at = set(asked), index
    _check_answered(open_ids, at)


def _check_answered(open_ids: set[str], index: int) -> None:
    if open_ids:
        raise BadRequestError(
            f"messages[{index}] has tool calls that no tool message answers: "
            f"{', '.join(each[:40] for each in sorted(open_ids))}.",
            param=f"messages[{index}]",
        )


def _call_id(message: Mapping[str, Any], path: str) -> str:
    return _string(message, "tool_call_id", path)


def _call_ids(calls: object, path: str) -> list[str]:
    if calls is None:
        return []
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise BadRequestError(f"{path} must be a list of calls, not {kind_of(calls)}.", param=path, code="invalid_type")
    return [_check_call(call, f"{path}[{index}]") for index, call in enumerate(calls)]


def _check_call(call: object, path: str) -> str:
    """Return the call's id."""
    if not isinstance(call, Mapping):
        raise BadRequestError(
            f"{path} must be a dict with 'id', 'type' and 'function', not {kind_of(call)}.",
            param=path,
            code="invalid_type",
        )
    function = call.get("function")
    if call.get("type", "function") != "function":
        raise BadRequestError(
            f"{path}.type must be 'function', not {kind_of(call['type'])}.",
            param=f"{path}.type",
            code="unsupported_value",
        )
    if not isinstance(function, Mapping):
        raise BadRequestError(
            f"{path}.function must be a dict with 'name' and 'arguments', not {kind_of(function)}.",
            param=f"{path}.function",
            code="missing_required_parameter" if function is None else "invalid_type",
        )
    _string(function, "name", f"{path}.function")
    arguments = _string(function, "arguments", f"{path}.function")
    if _read_arguments(arguments) is None:
        raise BadRequestError(
            f"{path}.function.arguments must be a JSON object written as a string, such as '{{}}', not "
            f"{kind_of(arguments)}.",
            param=f"{path}.function.arguments",
            code="invalid_value",
        )
    return _string(call, "id", path)


def _string(value: Mapping[str, Any], key: str, path: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        raise BadRequestError(
            f"{path} has no {key!r}." if text is None else f"{path}.{key} must be a string, not {kind_of(text)}.",
            param=f"{path}.{key}",
            code="missing_required_parameter" if text is None else "invalid_type",
        )
    return text


def _read_arguments(arguments: object) -> dict[str, Any] | None:
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def with_arguments_read(message: Message) -> Message:
    """Return the message as chat templates want it: the arguments of its calls as dicts, not as JSON in a string.

    >>> call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    >>> with_arguments_read({"role": "assistant", "tool_calls": [call]})["tool_calls"][0]["function"]
    {'name': 'add', 'arguments': {'a': 1}}
    """
    calls = message.get("tool_calls")
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        return message
    read = []
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            arguments = _read_arguments(function.get("arguments"))
            if arguments is not None:
                call = {**call, "function": {**function, "arguments": arguments}}
        read.append(call)
    return {**message, "tool_calls": read}
