"""Chat settings: the controls for how a conversation's replies are sampled.

In: a conversation and what the learner sets. Out: the conversation's settings, which hold from the next reply on. Knows
nothing of replies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from chatlab.conversation import Conversation
from chatlab.panels.panel import LABELLED, number_field

__all__ = ["ChatSettings"]


class ChatSettings(widgets.HBox):  # type: ignore[misc]
    """Temperature, top p, seed and most tokens of a conversation, each with its own field, and a button that resets.

    `changed` is called after each change.

    >>> chat = Conversation(temperature=0.3)
    >>> settings = ChatSettings(chat, changed=lambda: None)
    >>> settings.seed_field.value = "7"
    >>> settings.temperature_field.value = 1.2
    >>> chat.temperature, chat.seed
    (1.2, 7)
    >>> settings.reset()
    >>> chat.temperature, chat.seed
    (0.3, None)
    """

    def __init__(self, conversation: Conversation, *, changed: Callable[[], None]) -> None:
        self.conversation = conversation
        self._changed = changed
        self._first = self.values()
        self.temperature_field = number_field(
            "Temperature",
            conversation.temperature,
            minimum=0.0,
            maximum=2.0,
            step=0.1,
            tooltip="0: the likeliest",
        )
        self.top_p_field = number_field(
            "Top p", conversation.top_p, minimum=0.0, maximum=1.0, step=0.05, tooltip="1: every token may come"
        )
        self.seed_field = widgets.Text(
            description="Seed",
            placeholder="new each time",
            tooltip="A whole number makes the same reply again",
            continuous_update=False,
            style=LABELLED,
            layout={"width": "20ch"},
        )
        self.max_tokens_field = number_field(
            "Max tokens", 0, minimum=0, maximum=100_000, step=10, tooltip="0: until the model ends the reply"
        )
        self.reset_button = widgets.Button(description="Reset settings", tooltip="Back to what the cell asked for")
        self.reset_button.on_click(lambda _: self.reset())
        self._show()
        self.temperature_field.observe(lambda change: self._set("temperature", change["new"]), "value")
        self.top_p_field.observe(lambda change: self._set("top_p", change["new"]), "value")
        self.seed_field.observe(self._on_seed, "value")
        self.max_tokens_field.observe(lambda change: self._set("max_completion_tokens", change["new"] or None), "value")
        super().__init__(
            children=[
                self.temperature_field,
                self.top_p_field,
                self.seed_field,
                self.max_tokens_field,
                self.reset_button,
            ],
            layout={"flex_flow": "row wrap"},
        )

    def values(self) -> dict[str, Any]:
        """Return the settings by name."""
        names = ("temperature", "top_p", "seed", "max_completion_tokens")
        return {name: getattr(self.conversation, name) for name in names}

    def reset(self) -> None:
        """Set everything back to what it was at first."""
        for name, value in self._first.items():
            setattr(self.conversation, name, value)
        self._show()

    def refresh(self) -> None:
        """Show the settings as they are now, where code has changed them."""
        self._show()

    def _show(self) -> None:
        values = self.values()
        self.temperature_field.value, self.top_p_field.value = values["temperature"], values["top_p"]
        self.seed_field.value = "" if values["seed"] is None else str(values["seed"])
        self.max_tokens_field.value = values["max_completion_tokens"] or 0

    def _set(self, name: str, value: Any) -> None:
        setattr(self.conversation, name, value)
        self._changed()

    def _on_seed(self, change: dict[str, Any]) -> None:
        text = change["new"].strip()
        try:
            self._set("seed", int(text) if text else None)
        except ValueError:
            self.seed_field.value = change["old"]  # what is no whole number is not taken
