"""GlassBox: one turn of a chat in all its rooms, linked by one token that is picked.

In: a message, settings, and what the learner picks. Out: the way of that turn from messages to response, one token
forward, one back, another one chosen. Knows nothing of how any room makes its part.
"""

from __future__ import annotations

import threading
from pathlib import Path

import ipywidgets as widgets

from chatlab.chat_model import ChatModel
from chatlab.display import count_of, escape, transcript_html, view
from chatlab.errors import ChatlabError, ReplyStoppedError
from chatlab.messages import system as system_message
from chatlab.messages import user
from chatlab.model import resolve
from chatlab.panels.panel import LABELLED, WIDE, Panel, Throttle, number_field
from chatlab.panels.rooms import ROOMS, facts_html, origin, others, token_title
from chatlab.panels.token_row import ROW_KEYS, TokenRow
from chatlab.turn import Turn

__all__ = ["GlassBox"]

EXPLANATION = (
    "One turn, looked at from each room it passes: messages → prompt → tokens → probabilities → chunks → response. "
    "Make the reply one token at a time, then pick any token: it is marked in every room. "
    "With the keyboard, Tab goes to a row of tokens and the arrow keys along it."
)


class GlassBox(Panel):
    """One turn in all its rooms: pick a token to see where it came from, what else was likely, and what it became.

    `turn` is the turn it shows (None while its settings are refused), `picked` the place of the picked token among
    `turn.tokens`. `finish`, `step`, `back`, `pick`, `exchange` and `show_room` do what the controls do; the first two
    and `exchange` work in the background: `wait` for them.

    >>> from chatlab.testing import ScriptedModel
    >>> box = GlassBox("Hi", seed=1, model=ScriptedModel("Hey!"))
    >>> box.step()
    >>> box.wait()
    >>> box.turn.text, box
    ('H', GlassBox(21 tokens of prompt, 1 of reply, token 21 picked))
    """

    def __init__(
        self,
        message: str = "What is the capital of France?",
        *,
        system: str = "",
        temperature: float = 1.0,
        seed: int = 1,
        max_completion_tokens: int = 60,
        model: ChatModel | str | Path | None = None,
    ) -> None:
        self.model = resolve(model)
        self.turn: Turn | None = None
        self.picked = 0
        self._show_lock = threading.Lock()  # the work and a click may both have something to show
        self._build(message, system, temperature, seed, max_completion_tokens)
        super().__init__(
            [
                widgets.HTML(f'<div class="chatlab-note">{EXPLANATION}</div>{ROW_KEYS}'),
                self.message_box,
                self.system_box,
                widgets.HBox(
                    [self.temperature_field, self.seed_field, self.limit_field], layout={"flex_flow": "row wrap"}
                ),
                widgets.HBox(
                    [self.run_button, self.step_button, self.back_button, self.stop_button],
                    layout={"flex_flow": "row wrap"},
                ),
                self.prompt_row,
                self.reply_row,
                self.facts,
                self.other_box,
                self.exchange_button,
                self.room_buttons,
                self.room,
            ]
        )
        self._renew()

    def _build(self, message: str, system: str, temperature: float, seed: int, limit: int) -> None:
        """Make the controls and connect them."""
        # Told when the field is left or Enter is pressed: a new question begins a new turn.
        self.message_box = widgets.Text(
            message, description="User message", style=LABELLED, layout=WIDE, continuous_update=False
        )
        self.system_box = widgets.Text(
            system,
            description="System message",
            placeholder="none",
            style=LABELLED,
            layout=WIDE,
            continuous_update=False,
        )
        self.temperature_field = number_field("Temperature", temperature, minimum=0, maximum=2, step=0.1)
        self.seed_field = number_field("Seed", seed, minimum=0, maximum=2**31 - 1, step=1)
        self.limit_field = number_field("Max completion tokens", limit, minimum=1, maximum=2000, step=1)
        self.run_button = widgets.Button(
            description="Run", button_style="primary", tooltip="Make the reply up to its end"
        )
        self.step_button = widgets.Button(description="Step", tooltip="Make one token more")
        self.back_button = widgets.Button(description="Back", tooltip="Take the last token away")
        self.stop_button = widgets.Button(description="Stop", tooltip="Stop; what was made stays")
        self.prompt_row = TokenRow("Prompt tokens")
        self.reply_row = TokenRow("Reply tokens")
        self.facts = widgets.HTML()
        self.other_box = widgets.ToggleButtons(  # a list to fold out would leave the arrow keys to JupyterLab
            options=[], description="Another token", style={**LABELLED, "button_width": "auto"}
        )
        self.other_box.add_class("chatlab-token-row")
        self.exchange_button = widgets.Button(
            description="Choose another",
            tooltip="Put this token in place of the picked one, and let the reply go on from there",
        )
        self.room_buttons = widgets.ToggleButtons(
            options=list(ROOMS), description="Room", style={**LABELLED, "button_width": "auto"}
        )
        self.room = widgets.HTML()
        settings = [self.temperature_field, self.seed_field, self.limit_field]
        for field in (self.message_box, self.system_box, *settings):
            field.observe(lambda _: self._renew(), "value")
        self.run_button.on_click(lambda _: self.finish())
        self.step_button.on_click(lambda _: self.step())
        self.back_button.on_click(lambda _: self.back())
        self.stop_button.on_click(lambda _: self.stop())
        self.exchange_button.on_click(lambda _: self.exchange())
        for row in (self.prompt_row, self.reply_row):
            row.on_pick(self.pick)
        self.room_buttons.observe(lambda _: self._show_room(), "value")

    def finish(self) -> None:
        """Make the reply up to its end, in the background."""
        self.run(lambda: self._go_on(to_end=True))

    def step(self) -> None:
        """Make one token more, in the background, and pick it."""
        self.run(lambda: self._go_on(to_end=False))

    def back(self) -> None:
        """Take the last token away; the one before it is picked."""
        if self.turn is None or self.running:
            return
        if not self.turn.steps:
            self.note("There is no reply yet: this is where it begins.")
            return
        self.turn.back()
        self._show(len(self.turn.tokens) - 1)
        self.note("One token back. Step makes the same one again; Choose another makes a different reply.")

    def pick(self, position: int) -> None:
        """Pick the token at this place among `turn.tokens`, of the prompt or of the reply.

        For the first one of the prompt, the model says in the background how probable it finds each of these.
        """
        turn = self.turn
        if turn is not None and 0 <= position < len(turn.tokens):
            self._show(position)
            self.note(f"Picked: {token_title(turn, position)}.")
            if position < len(turn.prompt_tokens) and turn.prompt_scores is None:
                self.run(lambda: self._score_prompt(turn))

    def exchange(self, token_id: int | None = None) -> None:
        """Put another token in the place of the picked one, and let the reply go on from there to its end.

        `token_id` None takes the one that is pressed among the alternatives.
        """
        turn, other = self.turn, self.other_box.value if token_id is None else token_id
        if turn is None or self.running:
            return
        number = self.picked - len(turn.prompt_tokens)
        if number < 0 or other is None:
            self.note("Pick a token of the reply first: the prompt was given, not chosen.")
            return

        def work() -> None:
            turn.exchange(number, other)
            self._go_on(to_end=True, pick=len(turn.prompt_tokens) + number)

        self.run(work)

    def show_room(self, name: str) -> None:
        """Show one room: "Messages", "Prompt", "Tokens", "Probabilities", "Chunks" or "Response"."""
        self.room_buttons.value = name

    def static_html(self) -> str:
        """Return the question, the reply so far, and what is known of the picked token."""
        if self.turn is None:
            return '<div class="chatlab-note">There is no turn: its settings were refused.</div>'
        reply = [{"role": "assistant", "content": self.turn.text}] if self.turn.steps else []
        rooms = " → ".join(ROOMS)
        return (
            f'<div class="chatlab-note">GlassBox: one turn in all its rooms: {rooms}.</div>'
            f"{transcript_html([*self.turn.messages, *reply])}{facts_html(self.turn, self.picked)}"
        )

    def _renew(self) -> None:
        """Begin a new turn with what stands in the fields."""
        self.stop()
        self.wait(2)
        told = [system_message(self.system_box.value)] if self.system_box.value else []
        try:
            self.turn = Turn(
                [*told, user(self.message_box.value)],
                temperature=self.temperature_field.value,
                seed=self.seed_field.value,
                max_completion_tokens=self.limit_field.value,
                model=self.model,
            )
        except ChatlabError as error:
            self.turn = None
            self._show(0)
            self.note(f"{type(error).__name__}: {error}")
            return
        self._show(len(self.turn.prompt_tokens) - 1)
        self.note("Press Step to make the first token of the reply, or Run for all of it.")

    def _go_on(self, *, to_end: bool, pick: int | None = None) -> None:
        """Make one token or all that are left; runs in a thread of its own."""
        turn = self.turn
        if turn is None:
            self.note("There is no turn to make: its settings were refused.")
            return
        if pick is None:
            pick = len(turn.tokens) - bool(turn.complete)
        self.note("working …")
        throttle = Throttle()
        while not (turn.complete or self.stopping.is_set()):
            try:
                step = turn.advance()
            except ReplyStoppedError:
                break
            if step is not None and not to_end:
                break
            if step is not None and throttle.due():
                self._show(min(pick, len(turn.tokens) - 1))
        self._show(min(pick, len(turn.tokens) - 1))
        made = count_of(len(turn.steps), "token")
        if turn.complete:
            reason = turn.steps[-1].finish_reason
            why = "the model ended it" if reason == "stop" else "the limit is reached"
            self.note(f"The reply is complete after {made}: finish_reason {reason}, {why}.")
        elif self.stopping.is_set():
            self.note(f"Stopped after {made}. Step or Run goes on from here.")
        else:
            self.note(f"One token more: {token_title(turn, self.picked)}: {origin(turn, self.picked)}.")

    def _score_prompt(self, turn: Turn) -> None:
        """Find out how probable the model finds each token of the prompt; runs in a thread of its own."""
        self.note("The model reads the prompt …")
        try:
            turn.score_prompt(interrupted=self.stopping.is_set)
        except ReplyStoppedError:
            self.note("Stopped: how probable the tokens of the prompt are is not known yet.")
            return
        if turn is self.turn:
            self._show(self.picked)
            self.note(f"Picked: {token_title(turn, self.picked)}.")

    def _show(self, picked: int) -> None:
        """Show the turn as it is now, with this token picked."""
        with self._show_lock:
            self.picked, turn = picked, self.turn
            before, ids = (len(turn.prompt_tokens), turn.tokens.ids) if turn else (0, [])
            self.prompt_row.fill(ids[:before], model=self.model, picked=picked)
            self.reply_row.fill(ids[before:], model=self.model, picked=picked, first=before)
            found = others(turn, picked) if turn else []
            if list(self.other_box.options) != found:
                self.other_box.options = found
                self.other_box.index = 0 if found else None
                self.other_box.layout.display = None if found else "none"
            self.facts.value = view(facts_html(turn, picked)) if turn else ""
        self._show_room()

    def _show_room(self) -> None:
        if self.turn is None:
            self.room.value = ""
            return
        name = self.room_buttons.value
        title = escape(f"{name}. Picked: {token_title(self.turn, self.picked)}.")
        self.room.value = view(f'<div class="chatlab-note">{title}</div>{ROOMS[name](self.turn, self.picked)}')

    def __repr__(self) -> str:
        if self.turn is None:
            return "GlassBox(no turn)"
        prompt, reply = len(self.turn.prompt_tokens), len(self.turn.steps)
        return f"GlassBox({count_of(prompt, 'token')} of prompt, {reply} of reply, token {self.picked} picked)"
