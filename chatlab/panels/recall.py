"""RecallPanel: flash cards, one at a time.

In: cards that are due, and how well each was remembered. Out: the front of a card, then its back, then when it comes
back. The dates live in the recall; the widgets only show them. Knows nothing of how they are worked out.
"""

from __future__ import annotations

import ipywidgets as widgets

from chatlab.display import escape
from chatlab.panels.panel import Panel
from chatlab.recall import RATINGS, FlashCard, Recall

__all__ = ["RecallPanel"]


class RecallPanel(Panel):
    """The flash cards that are due, of one topic or of all: the front, Show answer, then Again, Hard, Good or Easy.

    `show_answer` and `rate` do what the buttons do; `card` is the card that is shown, None if none is due.

    >>> import tempfile, pathlib
    >>> folder = tempfile.TemporaryDirectory()
    >>> panel = RecallPanel(recall=Recall("roles", folder=pathlib.Path(folder.name)))
    >>> panel.show_answer()
    >>> panel.rate("Good")
    >>> panel
    RecallPanel(12 due of 13)
    >>> folder.cleanup()
    """

    def __init__(self, topic: str | None = None, *, recall: Recall | None = None) -> None:
        self.recall = recall or Recall(topic)
        self.answered = False  # whether the back is shown
        self.card: FlashCard | None = None
        self.heading, self.face = widgets.HTML(), widgets.HTML()
        self.show_button = widgets.Button(description="Show answer", button_style="primary")
        self.rating_buttons = {name: widgets.Button(description=name) for name in RATINGS}
        self.show_button.on_click(lambda _: self.show_answer())
        for name, button in self.rating_buttons.items():
            button.on_click(lambda _, name=name: self.rate(name))
        super().__init__(
            [
                self.heading,
                self.face,
                widgets.HBox([self.show_button, *self.rating_buttons.values()], layout={"flex_flow": "row wrap"}),
            ]
        )
        self.refresh()

    def show_answer(self) -> None:
        """Show the back of the card."""
        self.answered = self.card is not None
        self._show()

    def rate(self, rating: str) -> None:
        """Say how well the card was remembered, and go to the next; does nothing before the answer is shown."""
        if self.card is None or not self.answered:
            return
        try:
            due = self.recall.rate(self.card, rating)
        except OSError as error:
            self.note(f"This cannot be recorded: {error}")
            return
        self.refresh()
        self.note(f"{rating}: that card comes back on {due.astimezone():%d %B %Y, %H:%M}.")

    def refresh(self) -> None:
        """Show the card that is due now."""
        self.card, self.answered = self.recall.next(), False
        self.note(self.recall.note())
        self._show()

    def static_html(self) -> str:
        """Return the card as it is shown."""
        return f"<div>{self._due()}</div>{self._face_html()}"

    def _show(self) -> None:
        self.heading.value = f'<div class="chatlab-question"><strong>Flash cards</strong> · {self._due()}</div>'
        self.face.value = f'<div class="chatlab chatlab-card" role="status">{self._face_html()}</div>'
        self.show_button.disabled = self.card is None or self.answered
        for button in self.rating_buttons.values():
            button.disabled = not self.answered

    def _due(self) -> str:
        return f"{len(self.recall.due())} due of {len(self.recall.cards)}"

    def _face_html(self) -> str:
        if self.card is None:
            after = self.recall.next_due()
            when = f" The next one is due on {after.astimezone():%d %B %Y, %H:%M}." if after else ""
            return f"No card is due.{when}"
        back = f'<hr><div class="chatlab-text">{escape(self.card.back)}</div>' if self.answered else ""
        return f'<div class="chatlab-text">{escape(self.card.front)}</div>{back}'

    def __repr__(self) -> str:
        return f"RecallPanel({self._due()})"
