"""Lint: what is wrong, or probably not meant, in a list of messages.

In: messages as a learner wrote them. Out: findings, each with a rule name, a place, a reason and a mend. An error is
what a server would refuse; a warning is allowed, yet seldom what one wants. Knows nothing of models or tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from chatlab.errors import BadRequestError
from chatlab.messages import Message, validate

__all__ = ["Finding", "lint"]


@dataclass(frozen=True)
class Finding:
    """One thing to look at: `rule` names it, `place` says where, `reason` why it matters, `mend` what to do."""

    rule: str
    severity: Literal["error", "warning"]
    place: str
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.severity} at {self.place} ({self.rule}): {self.reason} {self.mend}"


def lint(messages: object) -> list[Finding]:
    """Return the findings on these messages, errors first; an empty list means nothing to mend. Never raises.

    >>> for finding in lint([{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}]):
    ...     print(finding.rule, finding.place)
    system-not-first messages[1]
    last-not-user messages[1]
    """
    try:
        checked = validate(messages)
    except BadRequestError as error:
        rule = (error.code or "invalid").replace("_", "-")
        return [Finding(rule, "error", error.param or "messages", error.message, "A server refuses this request.")]
    return list(_warnings(checked))


def _warnings(messages: list[Message]) -> Iterator[Finding]:
    roles = ["system" if message["role"] == "developer" else message["role"] for message in messages]
    systems = [index for index, role in enumerate(roles) if role == "system"]
    if not systems:
        yield Finding(
            "no-system",
            "warning",
            "messages",
            "There is no system message, so the model's template may put its own default in.",
            "Put a system message first.",
        )
    for number, index in enumerate(systems):
        if number:
            reason, mend = "There are several system messages.", "Join them into one, first in the list."
            yield Finding("several-systems", "warning", f"messages[{index}]", reason, mend)
        elif index:
            reason = "The system message is not first, and where it stands changes what the model does."
            yield Finding(
                "system-not-first", "warning", f"messages[{index}]", reason, "Move it to the top of the list."
            )
    for index, (before, role) in enumerate(pairwise(roles), start=1):
        if role == before and role in ("user", "assistant"):
            yield Finding(
                "same-role-twice",
                "warning",
                f"messages[{index}]",
                f"Two {role} messages in a row: was one between them lost?",
                "Alternate user and assistant.",
            )
    for index, message in enumerate(messages):
        if not message["content"].strip() and not message.get("tool_calls"):
            yield Finding(
                "blank-content",
                "warning",
                f"messages[{index}]",
                "The message says nothing.",
                "Fill it or drop it.",
            )
    if roles[-1] not in ("user", "tool"):
        yield Finding(
            "last-not-user",
            "warning",
            f"messages[{len(messages) - 1}]",
            f"The last message is the {roles[-1]}'s, so the model has no question to reply to.",
            "End the list with a user message.",
        )
