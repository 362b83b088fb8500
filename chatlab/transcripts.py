"""Transcripts: messages as people write them, one line after another.

In: lines such as `user: Hello`. Out: the messages they mean, or what is wrong with which line. Knows nothing of
notebooks.
"""

from __future__ import annotations

import re
import textwrap

from chatlab.errors import BadRequestError
from chatlab.messages import ROLES, Message, validate

__all__ = ["parse_messages"]


def parse_messages(text: str) -> list[Message]:
    r"""Return the messages that lines such as `user: Hello` write, each with the lines that follow it.

    Raises `BadRequestError` for a line that belongs to no message and for a role that does not exist.

    >>> parse_messages("system: Be brief.\nuser: Two lines:\n  - one\n  - two")
    [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Two lines:\n- one\n- two'}]
    >>> parse_messages("Hi")
    Traceback (most recent call last):
    chatlab.errors.BadRequestError: Line 1 belongs to no message: 'Hi'. Begin with a role: 'user: Hello'.
    """
    turns: list[tuple[str, str, list[str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        start = re.match(r"([^\W\d]\w*):(?:\s+(.*)|$)", line)
        if start and start[1] in ROLES:
            turns.append((start[1], start[2] or "", []))
        elif start:
            raise BadRequestError(
                f"Line {number} begins with {start[1] + ':'!r}, which is no role. Use one of "
                f"{', '.join(ROLES)}; indent the line if it belongs to the message above.",
                param="messages",
            )
        elif turns:
            turns[-1][2].append(line)
        elif line.strip():
            raise BadRequestError(
                f"Line {number} belongs to no message: {line.strip()[:40]!r}. Begin with a role: 'user: Hello'.",
                param="messages",
            )
    contents = ["\n".join([first, textwrap.dedent("\n".join(more))]).strip("\n") for _, first, more in turns]
    return validate([{"role": turn[0], "content": content} for turn, content in zip(turns, contents, strict=True)])
