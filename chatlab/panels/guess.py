"""GuessPanel: choose what will happen, say how sure you are, and lock it in.

In: a guess. Out: the same, locked in. The answer lives in the guess; the widgets only show it. Knows nothing of what
will happen.
"""

from __future__ import annotations

import ipywidgets as widgets

from chatlab.display import escape
from chatlab.guesses import FEWEST, MOST, Guess, LockedError
from chatlab.panels.panel import LABELLED, Panel, number_field

__all__ = ["GuessPanel"]

HALF_SURE = 50


class GuessPanel(Panel):
    """The options of a guess, or a field for a text, with how sure one is and Lock in.

    `choice` and `sure` are the controls; `lock_in` does what the button does.

    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> panel = GuessPanel(Guess("2 + 2?", ["4", "5"], folder=pathlib.Path(folder.name)))
    >>> panel.choice.value = "A"
    >>> panel.lock_in()
    >>> panel
    GuessPanel(locked in)
    >>> folder.cleanup()
    """

    def __init__(self, guess: Guess) -> None:
        self.guess = guess
        self.heading = widgets.HTML(f"<strong>🔮 {escape(guess.question)}</strong>")
        self.choice: widgets.RadioButtons | widgets.Text
        if guess.options:
            options = [
                (f"{letter} · {text}", letter) for letter, text in zip(guess.letters, guess.options, strict=True)
            ]
            self.choice = widgets.RadioButtons(options=options, value=None, layout={"width": "auto"})
        else:
            self.choice = widgets.Text(description="Your prediction", style=LABELLED, layout={"width": "auto"})
        sure = HALF_SURE if guess.confidence is None else round(guess.confidence)
        self.sure = number_field("How sure, in %", sure, minimum=FEWEST, maximum=MOST, step=5)
        self.lock_button = widgets.Button(description="Lock in", button_style="primary", tooltip="It cannot be changed")
        self.lock_button.on_click(lambda _: self.lock_in())
        self.choice.observe(lambda _: self.note(""), "value")  # what was missing is there now
        self.outcome = widgets.HTML()
        box = widgets.VBox([self.choice], layout={"width": "auto"})
        box.add_class("chatlab-answer")
        controls = widgets.HBox([self.sure, self.lock_button], layout={"flex_flow": "row wrap"})
        super().__init__([self.heading, box, controls, self.outcome])
        self.refresh()

    def lock_in(self) -> None:
        """Lock in what is chosen; what is missing is said in the status line."""
        try:
            self.guess.lock(self.choice.value or "", confidence=self.sure.value)
        except (LockedError, ValueError) as error:
            self.note(str(error) if self.choice.value else "Choose first, then lock it in.")
            return
        self.note("")
        self.refresh()

    def refresh(self) -> None:
        """Show the guess as it is now."""
        locked, revealed = self.guess.answer is not None, self.guess.revealed
        closed = locked or revealed is not None
        if locked:
            self.choice.value = self.guess.answer
            self.sure.value = self.sure.value if self.guess.confidence is None else round(self.guess.confidence)
        for control in (self.choice, self.sure, self.lock_button):
            control.disabled = closed
        self.outcome.value = "" if not locked else "<div>🔒 Locked in. Run the next cells to see what happens.</div>"
        if revealed is not None:
            self.outcome.value = revealed.html()

    def static_html(self) -> str:
        """Return the question as it stands, without controls."""
        return self.guess.html()

    def __repr__(self) -> str:
        return f"GuessPanel({'open' if self.guess.answer is None else 'locked in'})"
