"""Message fields: messages in a notebook that can be edited, a role and a text for each.

In: messages. Out: fields for them, and the messages as they stand in these. Knows nothing of what they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from chatlab.messages import Message
from chatlab.panels.panel import LABELLED, WIDE

__all__ = ["MessageFields"]

ROLES = ("system", "developer", "user", "assistant")
MOST_ROWS = 6


class MessageFields(widgets.VBox):  # type: ignore[misc]
    """A row for each message: its role, its content, and a button to remove it.

    `messages` may be read and set; keys that have no field stay as they are. `on_change` is called when a field or the
    messages change, `on_remove` with the index of the message whose button was pressed.

    >>> fields = MessageFields(on_change=lambda: print("changed"), on_remove=print)
    >>> fields.messages = [{"role": "user", "content": "Hi"}]
    changed
    >>> fields.contents[0].value = "Ahoy"
    changed
    >>> fields.messages
    [{'role': 'user', 'content': 'Ahoy'}]
    """

    def __init__(self, *, on_change: Callable[[], None], on_remove: Callable[[int], None]) -> None:
        self._on_change, self._on_remove = on_change, on_remove
        self._given: list[Message] = []
        self._rows: list[widgets.HBox] = []
        self.roles: list[widgets.Dropdown] = []
        self.contents: list[widgets.Textarea] = []
        self.remove_buttons: list[widgets.Button] = []
        super().__init__()

    @property
    def messages(self) -> list[Message]:
        """The messages as they stand in the fields."""
        return [
            {**given, "role": role.value, "content": content.value}
            for given, role, content in zip(self._given, self.roles, self.contents, strict=True)
        ]

    @messages.setter
    def messages(self, messages: Sequence[Message]) -> None:
        for each in (self._given, self._rows, self.roles, self.contents, self.remove_buttons):
            each.clear()
        for message in messages:
            self._add_row(message)
        self._show()

    def append(self, message: Message) -> None:
        """Add a row at the end. The others stay as they are, with what is being typed into them."""
        self._add_row(message)
        self._show()

    def remove(self, index: int) -> None:
        """Take a row away. The others stay as they are, with what is being typed into them."""
        for each in (self._given, self._rows, self.roles, self.contents, self.remove_buttons):
            del each[index]
        self._show()

    def _add_row(self, message: Message) -> None:
        role, content = _role(message["role"]), _content(message["content"])
        remove_button = widgets.Button(layout={"width": "auto"})
        for field in (role, content):
            field.observe(self._changed, "value")
        remove_button.on_click(lambda _: self._on_remove(self.remove_buttons.index(remove_button)))
        self._given.append(message)
        self.roles.append(role)
        self.contents.append(content)
        self.remove_buttons.append(remove_button)
        self._rows.append(widgets.HBox([role, content, remove_button], layout={"flex_flow": "row wrap"}))
        self._number(len(self._rows) - 1)

    def _show(self) -> None:
        """Show the rows and number them: in this order, so that no two ever have one name."""
        self.children = self._rows
        for index in range(len(self._rows)):
            self._number(index)
        self._on_change()

    def _number(self, index: int) -> None:
        for field, name in zip(self._rows[index].children, ("Role", "Content", "Remove"), strict=True):
            field.description = f"{name} {index}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.messages!r})"

    def _changed(self, _: Any) -> None:
        self._on_change()


def _role(role: str) -> widgets.Dropdown:
    options = list(dict.fromkeys([*ROLES, role]))
    return widgets.Dropdown(options=options, value=role, style=LABELLED, layout={"width": "14em"})


def _content(content: str) -> widgets.Textarea:
    return widgets.Textarea(
        value=content,
        rows=min(MOST_ROWS, 2 + content.count("\n")),
        style=LABELLED,
        layout={**WIDE, "min_width": "18em"},
    )
