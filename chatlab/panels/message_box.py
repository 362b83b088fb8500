"""Message box: where a learner writes what to say, with Send and Stop.

In: what is typed. Out: calls of `send` and `stop`. Knows nothing of chats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from chatlab.panels.page_scripts import on_page
from chatlab.panels.panel import WIDE

__all__ = ["MessageBox"]

# ipywidgets' text area does not tell Python which key was pressed, and its text arrives when the field is left. So a
# few lines in the page leave the field and press Send where Enter is pressed without Shift. Where a page does not run
# them, Enter makes a line and Send sends.
_ENTER_SENDS = on_page(
    "chatlab-message-box",
    """box.addEventListener('keydown', event => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.target.tagName !== 'TEXTAREA') return;
  event.preventDefault(); event.stopPropagation();
  event.target.blur(); box.querySelector('.chatlab-send').click(); event.target.focus();
}, true);""",
)


class MessageBox(widgets.HBox):  # type: ignore[misc]
    """A field for a message of one or more lines: Enter sends it, Shift+Enter makes a line.

    `text` is what stands in the field, `busy` whether a reply is being made, which Stop stops.

    >>> box = MessageBox(send=lambda _: print("sent"), stop=lambda _: print("stopped"))
    >>> box.send_button.click()
    sent
    """

    def __init__(self, *, send: Callable[[Any], None], stop: Callable[[Any], None], label: str = "Message") -> None:
        self.field = widgets.Textarea(
            description=label,
            placeholder="Ask something, then Enter; Shift+Enter makes a line",
            rows=2,
            continuous_update=False,
            layout=WIDE,
        )
        self.send_button = widgets.Button(description="Send", button_style="primary", tooltip="Send (Enter)")
        self.stop_button = widgets.Button(description="Stop", disabled=True, tooltip="Stop the reply")
        self.send_button.add_class("chatlab-send")
        self.send_button.on_click(send)
        self.stop_button.on_click(stop)
        super().__init__(
            children=[self.field, self.send_button, self.stop_button, widgets.HTML(_ENTER_SENDS)],
            layout={"flex_flow": "row wrap"},
        )
        self.add_class("chatlab-message-box")

    @property
    def text(self) -> str:
        """What stands in the field."""
        text: str = self.field.value
        return text

    @text.setter
    def text(self, text: str) -> None:
        self.field.value = text

    @property
    def busy(self) -> bool:
        """Whether a reply is being made."""
        busy: bool = self.send_button.disabled
        return busy

    @busy.setter
    def busy(self, busy: bool) -> None:
        self.send_button.disabled = busy
        self.stop_button.disabled = not busy
