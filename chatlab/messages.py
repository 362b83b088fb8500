"""Messages: the list of small dicts that a chat is made of.

In: roles and text. Out: plain dicts (`{"role": "user", "content": "Hi"}`), checked and normalised, or the error that
a chat completions server would answer. Knows nothing of templates, tokens or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from chatlab.checks import kind_of
from chatlab.errors import BadRequestError

__all__ = ["ROLES", "Message", "assistant", "developer", "role_of", "system", "user", "validate"]

Message: TypeAlias = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool")


def system(content: str) -> Message:
    """Return a system message: the instructions that shape every reply.

    >>> system("Be brief.")
    {'role': 'system', 'content': 'Be brief.'}
    """
    return {"role": "system", "content": content}


def developer(content: str) -> Message:
    """Return a developer message: OpenAI's newer name for a system message; chatlab treats both alike.

    >>> developer("Be brief.")
    {'role': 'developer', 'content': 'Be brief.'}
    """
    return {"role": "developer", "content": content}


def user(content: str) -> Message:
    """Return a user message: what the person says.

    >>> user("Hello!")
    {'role': 'user', 'content': 'Hello!'}
    """
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """Return an assistant message: what the model said earlier.

    >>> assistant("Hi, how can I help?")
    {'role': 'assistant', 'content': 'Hi, how can I help?'}
    """
    return {"role": "assistant", "content": content}


def role_of(message: object) -> str | None:
    """Return the role of a message, be it a dict or a message object of the client; None where there is none.

    >>> role_of(user("Hi")), role_of("Hi")
    ('user', None)
    """
    role = message.get("role") if isinstance(message, Mapping) else getattr(message, "role", None)
    return role if isinstance(role, str) else None


def validate(messages: object) -> list[Message]:
    r"""Return the messages as new plain dicts whose `content` is one string; raise if a server would refuse them.

    A message object of the `openai` client counts as its dict. A `content` of several text parts becomes one string,
    joined by newlines. Extra keys are kept. Raises `BadRequestError` with the path of the first mistake in `param`.

    >>> validate([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])
    [{'role': 'user', 'content': 'a\nb'}]
    >>> validate([{"content": "Hello!"}])
    Traceback (most recent call last):
    chatlab.errors.BadRequestError: messages[0] has no 'role'. Say who speaks: {'role': 'user', 'content': ...}.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)):
        raise BadRequestError(
            f"messages must be a list of messages, not {kind_of(messages)}. "
            "Write messages=[{'role': 'user', 'content': ...}].",
            param="messages",
            code="invalid_type",
        )
    if not messages:
        raise BadRequestError(
            "messages is empty. Send at least one message, such as {'role': 'user', 'content': 'Hello!'}.",
            param="messages",
            code="empty_array",
        )
    checked: list[Message] = []
    for index, message in enumerate(messages):
        checked.append(_validate_one(message, f"messages[{index}]"))
        if checked[-1]["role"] == "tool" and not _answers_a_call(checked):
            raise BadRequestError(
                f"messages[{index}] has role 'tool' but answers no tool call of an assistant message before it.",
                param=f"messages[{index}]",
            )
    return checked


def _validate_one(message: object, path: str) -> Message:
    if hasattr(message, "model_dump"):  # a message object of the openai client, as in response.choices[0].message
        message = message.model_dump(exclude_none=True)
    if not isinstance(message, Mapping):
        raise BadRequestError(
            f"{path} must be a dict with 'role' and 'content', not {kind_of(message)}. "
            "Write {'role': 'user', 'content': ...}.",
            param=path,
            code="invalid_type",
        )
    role = _validate_role(message, path)
    content = message.get("content")
    if content is None and role == "assistant" and message.get("tool_calls"):
        return {**message, "content": ""}
    if content is None:
        stated = "content" in message
        raise BadRequestError(
            f"{path} has {'a content of None' if stated else 'no content'}. Put the text in it: "
            f"{{'role': {role!r}, 'content': ...}}.",
            param=f"{path}.content",
            code="invalid_type" if stated else "missing_required_parameter",
        )
    return {**message, "role": role, "content": _text_of(content, f"{path}.content")}


def _validate_role(message: Mapping[str, Any], path: str) -> str:
    role = message.get("role")
    if role is None:
        keyed = next((key for key in message if key in ROLES), None)
        mend = (
            f"{{{keyed!r}: ...}} is not a message: the role is a value, not a key. "
            f"Write {{'role': {keyed!r}, 'content': ...}}."
            if keyed
            else "Say who speaks: {'role': 'user', 'content': ...}."
        )
        raise BadRequestError(f"{path} has no 'role'. {mend}", param=f"{path}.role", code="missing_required_parameter")
    if not isinstance(role, str):
        raise BadRequestError(
            f"{path}.role must be a string, not {kind_of(role)}.", param=f"{path}.role", code="invalid_type"
        )
    if role not in ROLES:
        raise BadRequestError(
            f"{path}.role is {role!r}, which is no role. Use one of {', '.join(ROLES)}.",
            param=f"{path}.role",
            code="invalid_value",
        )
    return role


def _text_of(content: object, path: str) -> str:
    if isinstance(content, str):
        return _whole_characters(content, path)
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise BadRequestError(
            f"{path} must be a string or a list of text parts, not {kind_of(content)}.",
            param=path,
            code="invalid_type",
        )
    return "\n".join(_text_of_part(part, f"{path}[{index}]") for index, part in enumerate(content))


def _text_of_part(part: object, path: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise BadRequestError(
            f"{path} must be a part such as {{'type': 'text', 'text': ...}}, not {kind_of(part)}.",
            param=path,
            code="invalid_type",
        )
    if kind != "text":
        raise BadRequestError(
            f"{path} has type {kind!r}: this model reads text only. Use {{'type': 'text', 'text': ...}}.",
            param=path,
            code="unsupported_value",
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise BadRequestError(
            f"{path}.text must be a string, not {kind_of(text)}.", param=f"{path}.text", code="invalid_type"
        )
    return _whole_characters(text, f"{path}.text")


def _whole_characters(text: str, path: str) -> str:
    """Refuse half a surrogate pair: Python allows it in a string, but it is no character and cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequestError(
            f"{path} holds {text[error.start]!r} at position {error.start}, which is half a character. Remove it, or "
            "decode the text it came from again.",
            param=path,
            code="invalid_value",
        ) from error
    return text


def _answers_a_call(messages: Sequence[Message]) -> bool:
    """Tell whether the last message, a tool's, follows an assistant message with tool calls (and other answers)."""
    for message in reversed(messages[:-1]):
        if message["role"] != "tool":
            return message["role"] == "assistant" and bool(message.get("tool_calls"))
    return False
