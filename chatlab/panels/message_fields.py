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
        self._given = list(messages)
        self.roles = [_role(index, message["role"]) for index, message in enumerate(messages)]
        self.contents = [_content(index, message["content"]) for index, message in enumerate(messages)]
        self.remove_buttons = [
            widgets.Button(description=f"Remove {index}", layout={"width": "auto"}) for index in range(len(messages))
        ]
        for field in (*self.roles, *self.contents):
            field.observe(self._changed, "value")
        for index, button in enumerate(self.remove_buttons):
            button.on_click(lambda _, index=index: self._on_remove(index))
        rows = zip(self.roles, self.contents, self.remove_buttons, strict=True)
        self.children = [widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        self._on_change()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.messages!r})"

    def _changed(self, _: Any) -> None:
        self._on_change()


def _role(index: int, role: str) -> widgets.Dropdown:
    options = list(dict.fromkeys([*ROLES, role]))
    return widgets.Dropdown(
        options=options, value=role, description=f"Role {index}", style=LABELLED, layout={"width": "14em"}
    )


def _content(index: int, content: str) -> widgets.Textarea:
    return widgets.Textarea(
        value=content,
        description=f"Content {index}",
        rows=min(MOST_ROWS, 2 + content.count("\n")),
        style=LABELLED,
        layout={**WIDE, "min_width": "18em"},
    )
