"""Readings: what each item of a list of messages was probably meant to be, and what is wrong with it.

In: one item as a learner wrote it. Out: a `Reading` (role and text, as far as they can be told) and the findings of
what a server would refuse, each with a mend where the meaning is clear. Knows nothing of the list's order or of models.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from chatlab.checks import kind_of
from chatlab.errors import BadRequestError
from chatlab.findings import Change, Finding
from chatlab.messages import ROLES, user, validate

__all__ = ["Reading", "read", "read_whole", "replaced"]

# Names that people, and other services, give to the roles.
ALIASES = {
    "ai": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "human": "user",
    "me": "user",
    "person": "user",
    "instruction": "system",
    "instructions": "system",
    "sys": "system",
}
NOT_TEXT = {"role", "content", "name", "id", "type", "tool_call_id"}


@dataclass(frozen=True)
class Reading:
    """What one item says: `role` and `content` are None where they cannot be told, `ok` if nothing is wrong."""

    index: int
    role: str | None = None
    content: str | None = None
    calls: bool = False
    ok: bool = True


def replaced(messages: Sequence[Any], index: int, by: Sequence[Any]) -> list[Any]:
    """Return the messages with others in place of the one at the index."""
    return [*messages[:index], *by, *messages[index + 1 :]]


def read(item: object, index: int, *, before: str | None = None, last: bool = True) -> tuple[Reading, list[Finding]]:
    """Return what an item was meant to be, and the errors in it. `before` is the role of the message before it.

    >>> reading, findings = read({"role": "bot", "content": 4}, 0)
    >>> reading.role, reading.content, [finding.rule for finding in findings]
    ('assistant', '4', ['unknown-role', 'wrong-type'])
    """
    place = f"messages[{index}]"
    if isinstance(item, str):
        finding = Finding(
            "bare-string",
            "error",
            place,
            f"{place} is a bare string, so nobody can tell who says it.",
            "Write {'role': 'user', 'content': ...}.",
            partial(replaced, index=index, by=[{"role": _guess(before, last=last), "content": item}]),
        )
        return Reading(index, _guess(before, last=last), item, ok=False), [finding]
    if not isinstance(item, Mapping):
        reason = f"{place} must be a dict with 'role' and 'content', not {kind_of(item)}."
        return Reading(index, ok=False), [
            Finding("wrong-type", "error", place, reason, "Write {'role': 'user', 'content': ...}.")
        ]
    keyed = [key for key in item if key in ROLES] if item.get("role") is None else []
    if keyed and "content" not in item:
        return _read_keyed(item, keyed, index)
    role, role_findings = _read_role(item, keyed, index, before=before, last=last)
    content, content_findings = _read_content(item, role, index)
    findings = role_findings + content_findings
    reading = Reading(index, role, content, calls=bool(item.get("tool_calls")), ok=not findings)
    return reading, findings


def _read_keyed(item: Mapping[Any, Any], keyed: list[str], index: int) -> tuple[Reading, list[Finding]]:
    others = {key: value for key, value in item.items() if key not in keyed and key != "role"}
    meant = [{"role": key, "content": item[key]} for key in keyed]
    meant[0].update(others)
    shown = f"{{'role': {keyed[0]!r}, 'content': ...}}"
    finding = _keyed_finding(keyed[0], index, f"Write {shown}.", partial(replaced, index=index, by=meant))
    text = item[keyed[-1]]
    return Reading(index, keyed[-1], text if isinstance(text, str) else None, ok=False), [finding]


def _keyed_finding(key: str, index: int, mend: str, change: Change) -> Finding:
    reason = f"{{{key!r}: ...}} is not a message: the role is a value, not a key."
    return Finding("role-keyed-dict", "error", f"messages[{index}].role", reason, mend, change)


def _read_role(
    item: Mapping[Any, Any], keyed: list[str], index: int, *, before: str | None, last: bool
) -> tuple[str | None, list[Finding]]:
    role, place = item.get("role"), f"messages[{index}].role"
    if keyed:  # a content beside it, so the key holds something else: keep that
        change = partial(replaced, index=index, by=[{**item, "role": keyed[0]}])
        return keyed[0], [_keyed_finding(keyed[0], index, f"Write 'role': {keyed[0]!r} into it.", change)]
    if role is None:
        guess = _guess(before, last=last)
        return guess, [
            Finding(
                "missing-role",
                "error",
                place,
                f"messages[{index}] has no 'role', so nobody can tell who says it.",
                f"Say who speaks, here probably 'role': {guess!r}.",
                partial(replaced, index=index, by=[{**item, "role": guess}]),
            )
        ]
    if isinstance(role, str) and role in ROLES:
        return str(role), []
    meant = _meant_role(role)
    finding = Finding(
        "unknown-role",
        "error",
        place,
        f"{place} is {repr(role)[:40] if isinstance(role, str) else kind_of(role)}, which is no role.",
        f"Write {meant!r}." if meant else f"Use one of {', '.join(ROLES)}.",
        partial(replaced, index=index, by=[{**item, "role": meant}]) if meant else None,
    )
    return meant, [finding]


def _meant_role(role: object) -> str | None:
    if not isinstance(role, str):
        return None
    name = role.strip().lower()
    near = difflib.get_close_matches(name[:40], [*ROLES, *ALIASES], n=1, cutoff=0.75)
    return ALIASES.get(near[0], near[0]) if near else None


def _guess(before: str | None, *, last: bool) -> str:
    """Guess who speaks: between a user's message and another it is the assistant, else the user."""
    return "assistant" if before == "user" and not last else "user"


def _read_content(item: Mapping[Any, Any], role: str | None, index: int) -> tuple[str | None, list[Finding]]:
    content, place = item.get("content"), f"messages[{index}].content"
    if content is None and role == "assistant" and item.get("tool_calls"):
        return "", []
    if content is None:
        texts = [key for key, value in item.items() if isinstance(value, str) and key not in NOT_TEXT | set(ROLES)]
        finding = Finding(
            "missing-content",
            "error",
            place,
            f"messages[{index}] has {'a content of None' if 'content' in item else 'no content'}.",
            "Put the text under 'content'.",
        )
        if len(texts) != 1:
            return None, [finding]
        rest = {key: value for key, value in item.items() if key != texts[0]}
        text = item[texts[0]]
        mend = f"Put the text under 'content', not under {texts[0]!r}."
        change = partial(replaced, index=index, by=[{**rest, "content": text}])
        return text, [replace(finding, mend=mend, _change=change)]
    try:
        return str(validate([{"role": "user", "content": content}])[0]["content"]), []
    except BadRequestError as error:
        rule = {"invalid_value": "broken-character", "unsupported_value": "unsupported-part"}.get(
            error.code or "", "wrong-type"
        )
        reason = error.message.replace("messages[0]", f"messages[{index}]", 1)
    meant = None if rule == "unsupported-part" else _meant_text(content)
    mend = "Give the text as one string."
    if meant is None:
        return None, [Finding(rule, "error", place, reason, mend)]
    change = partial(replaced, index=index, by=[{**item, "content": meant}])
    return meant, [Finding(rule, "error", place, reason, mend, change)]


def _meant_text(content: object) -> str | None:
    """Return the text that a content of the wrong type, or with half characters, stands for."""
    if isinstance(content, str):
        return content.encode("utf-8", "ignore").decode()
    if isinstance(content, (int, float)):
        return str(content)
    if isinstance(content, Mapping):
        text = content.get("text")
        return _meant_text(text) if isinstance(text, str) and content.get("type", "text") == "text" else None
    if isinstance(content, Sequence) and not isinstance(content, (bytes, bytearray)):
        texts = [_meant_text(part) if isinstance(part, (str, Mapping)) else None for part in content]
        whole = [text for text in texts if text is not None]
        return "\n".join(whole) if len(whole) == len(texts) else None
    return None


def read_whole(messages: object) -> tuple[list[Any] | None, Finding | None]:
    """Return the items of a list of messages, or what is wrong with the whole of it."""
    if isinstance(messages, Sequence) and not isinstance(messages, (str, bytes, bytearray)):
        items = [_plain(item) for item in messages]
        if items:
            return items, None
        reason = "messages is empty, so the model has nothing to reply to."
        return [], Finding("empty-list", "error", "messages", reason, "Send at least one message.")
    mend = "Write messages=[{'role': 'user', 'content': ...}]."
    if isinstance(messages, str):
        reason = "messages is a bare string, where a list of messages belongs."
        return None, Finding("bare-string", "error", "messages", reason, mend, _listed)
    if isinstance(messages, Mapping):
        reason = "messages is one dict, where a list of messages belongs: even a single one stands in a list."
        return None, Finding("wrong-type", "error", "messages", reason, "Put it into a list: [...].", _listed)
    reason = f"messages must be a list of messages, not {kind_of(messages)}."
    return None, Finding("wrong-type", "error", "messages", reason, mend)


def _listed(messages: Any) -> list[Any]:
    return [user(messages)] if isinstance(messages, str) else [messages]


def _plain(item: Any) -> Any:
    """Return a message object of the openai client as its dict, and anything else as it is."""
    try:
        return item.model_dump(exclude_none=True) if hasattr(item, "model_dump") else item
    except Exception:  # not such an object after all
        return item
