"""ComparePanel: two chats side by side, with different settings, on the same messages.

In: two conversations and what the learner says to both. Out: two transcripts that grow at the same time. Knows nothing
of how a chat is shown.
"""

from __future__ import annotations

import ipywidgets as widgets

from chatlab.conversation import Conversation
from chatlab.display import count_of, escape
from chatlab.panels.chat import ChatPanel
from chatlab.panels.message_box import MessageBox
from chatlab.panels.panel import Panel

__all__ = ["ComparePanel"]


class ComparePanel(Panel):
    """Two chats that are told the same: `left` and `right`, each with its own system message, settings and model.

    The replies are made at the same time, so each is slower than it would be alone. `send`, `stop` and `clear` do it
    for both; `wait` waits for both.

    >>> from chatlab.testing import ScriptedModel
    >>> left, right = (Conversation(model=ScriptedModel(reply)) for reply in ("Hello!", "Ahoy!"))
    >>> panel = ComparePanel(left, right)
    >>> panel.send("Hi")
    >>> panel.wait()
    >>> [chat.messages[-1]["content"] for chat in (left, right)]
    ['Hello!', 'Ahoy!']
    >>> panel
    ComparePanel(1 turn, 1 turn)
    """

    def __init__(
        self,
        left: Conversation | None = None,
        right: Conversation | None = None,
        *,
        names: tuple[str, str] = ("left", "right"),
    ) -> None:
        self.names = names
        self.left, self.right = (ChatPanel(Conversation() if chat is None else chat) for chat in (left, right))
        self.message_box = MessageBox(send=lambda _: self.send(), stop=lambda _: self.stop())
        self.clear_button = widgets.Button(description="Clear both", tooltip="Forget every turn of both chats")
        self.clear_button.on_click(lambda _: self.clear())
        for chat in (self.left, self.right):
            for control in (chat.message_box, chat.turn_field, chat.edit_button):  # one field speaks for both
                control.layout.display = "none"
            chat.message_box.stop_button.observe(self._on_busy, "disabled")
        columns = [
            widgets.VBox([widgets.HTML(f"<b>{escape(name)}</b>"), chat], layout={"width": "50%"})
            for name, chat in zip(names, self.chats, strict=True)
        ]
        super().__init__([widgets.HBox(columns), self.message_box, self.clear_button])

    @property
    def chats(self) -> tuple[ChatPanel, ChatPanel]:
        """Both chats."""
        return self.left, self.right

    def send(self, text: str | None = None) -> None:
        """Say the same to both (None: what stands in the message field); returns at once.

        Does nothing without text, or while one of them replies.
        """
        text = self.message_box.text if text is None else text
        if text.strip() and not any(chat.running for chat in self.chats):
            self.message_box.text = ""
            for chat in self.chats:
                chat.send(text)

    def stop(self) -> None:
        """Stop both replies; what has been said so far stays."""
        for chat in self.chats:
            chat.stop()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until both replies are complete, at most `timeout` seconds each."""
        for chat in self.chats:
            chat.wait(timeout)

    def clear(self) -> None:
        """Forget every turn of both."""
        for chat in self.chats:
            chat.clear()

    def static_html(self) -> str:
        """Return both transcripts, one below the other."""
        named = zip(self.names, self.chats, strict=True)
        return "".join(f"<b>{escape(name)}</b>{chat.static_html()}" for name, chat in named)

    def _on_busy(self, _: object) -> None:
        self.message_box.busy = any(chat.message_box.busy for chat in self.chats)

    def __repr__(self) -> str:
        turns = (count_of(chat.conversation.turns, "turn") for chat in self.chats)
        return f"ComparePanel({', '.join(turns)})"
