"""Chat log: the turns of a conversation, as they stand and as they grow.

In: messages. Out: a view of them that scrolls and keeps to its newest line. Knows nothing of how a reply is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import ipywidgets as widgets

from chatlab.display import escape
from chatlab.markdown import markdown_html
from chatlab.messages import Message, validate

__all__ = ["ChatLog", "turns_html"]

EMPTY = '<span class="chatlab-note">Say hello.</span>'


class ChatLog(widgets.VBox):  # type: ignore[misc]
    """The turns of a chat: those that are complete, and apart from them the one that grows, which alone is sent again.

    >>> log = ChatLog()
    >>> log.show([{"role": "user", "content": "Hi"}])
    >>> "Hi" in log.complete.value, log.growing.value
    (True, '')
    """

    def __init__(self) -> None:
        self.complete = widgets.HTML()
        self.growing = widgets.HTML()
        super().__init__(children=[widgets.VBox([self.complete, self.growing])])
        self.add_class("chatlab-log")
        self.show([])

    def show(self, messages: Sequence[Message], *, growing: Message | None = None) -> None:
        """Show these turns, and below them one that is not complete yet."""
        complete = turns_html(messages) or ("" if growing else EMPTY)
        self.complete.value = f'<div class="chatlab" role="log" aria-label="Conversation" tabindex="0">{complete}</div>'
        self.grow(growing)

    def grow(self, message: Message | None) -> None:
        """Show how far the last turn has come; None: there is none."""
        inner = "" if message is None else turns_html([message])
        self.growing.value = f'<div class="chatlab" aria-live="polite" aria-busy="true">{inner}</div>' if inner else ""


def turns_html(messages: Sequence[Message]) -> str:
    """Return what user and model have said as HTML: what the model wrote as Markdown, the rest as it was typed.

    >>> turns_html([{"role": "assistant", "content": "**No.**"}])  # doctest: +ELLIPSIS
    '<div class="chatlab-message assistant">...<div class="chatlab-text ...<p><strong>No.</strong></p>\\n</div></div>'
    """
    checked = validate(messages) if messages else []
    return "".join(_turn_html(each["role"], each["content"]) for each in checked if each["role"] in ROLES)


ROLES = ("user", "assistant")


@lru_cache(maxsize=1000)
def _turn_html(role: str, content: str) -> str:
    text = (
        f'<div class="chatlab-text chatlab-markdown">{markdown_html(content)}</div>'
        if role == "assistant"
        else f'<div class="chatlab-text">{escape(content)}</div>'
    )
    return f'<div class="chatlab-message {role}"><span class="chatlab-role">{role}</span>{text}</div>'
