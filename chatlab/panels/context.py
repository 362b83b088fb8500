"""ContextPanel: a long conversation against a limit of tokens.

In: a conversation, a limit, a strategy, a question. Out: what of the conversation is sent and what is left out, and
what the model answers to it. Fitting and answering are `chatlab.fit` and a chat completion. Knows nothing of how
tokens are counted.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import ipywidgets as widgets

from chatlab.completions import open_stream
from chatlab.context import STRATEGIES, Fitted, fit
from chatlab.display import count_of
from chatlab.engines import Engine, ReplyStream
from chatlab.errors import ChatlabError, ReplyStoppedError
from chatlab.messages import Message, user, validate
from chatlab.panels.asking import Answer, answer_html, answers_html
from chatlab.panels.garden import CONVERSATION
from chatlab.panels.panel import LABELLED, WIDE, Panel, Throttle, number_field
from chatlab.remote import engine_of, vocabulary_of
from chatlab.tokens import count_tokens, tokens_per_message

__all__ = ["ContextPanel"]

STEP = 16  # tokens
SECONDS_OF_REST = 0.4  # without a change, after which a summary is worth its time
MAX_REPLY = 32  # tokens: room for a name, and little for rambling
HIGHEST = 1_000_000  # for a server that does not tell its limit
Settings: TypeAlias = tuple[int, int, str, int | None, str]
HINT = "The model knows only what is sent. Ask for the name while all fits, then lower the limit and ask again."
ROW = {"flex_flow": "row wrap"}


class ContextPanel(Panel):
    """A conversation against a limit: lower the limit, change the strategy, see turns go, and ask for the name.

    `messages` are the conversation, a long one of the panel's own unless given. `fitted` is what would be sent, or
    None where nothing fits; `answers` is what was answered. `ask` and `stop` do what the buttons do. The answers are
    made at temperature 0, so that only what is sent makes a difference.

    >>> from chatlab.testing import ScriptedModel
    >>> panel = ContextPanel(model=ScriptedModel("Your name is Bob."), token_limit=400)
    >>> panel
    ContextPanel(limit 400, drop-oldest, 2 of 13 turns sent, 0 answers)
    >>> panel.ask("What is my name?")
    >>> panel.wait()
    >>> panel.answers[0].text
    'Your name is Bob.'
    """

    def __init__(
        self,
        messages: Sequence[Message] = CONVERSATION,
        *,
        question: str = "What is my name?",
        token_limit: int | None = None,
        reserve: int = MAX_REPLY,
        strategy: str = "drop-oldest",
        keep_last: int = 4,
        model: Engine | str | Path | None = None,
    ) -> None:
        self.model = engine_of(model)
        self.messages = validate(messages)
        self.fitted: Fitted | None = None
        self.answers: list[Answer] = []
        self._vocabulary = vocabulary_of(self.model)
        self._stream: ReplyStream | None = None
        self._fitted_for: Settings | None = None  # the settings that `fitted` belongs to
        self._lock = threading.Lock()
        self._working = self._asked = False  # whether there is a thread that sees to changes, and to a question
        self._build(question, token_limit, reserve, strategy, keep_last)
        super().__init__(
            children=[
                widgets.HTML(f'<div class="chatlab-note">{HINT}</div>'),
                self.limit_field,
                self.presets,
                widgets.HBox([self.strategy_box, self.keep_last_field, self.reserve_field], layout=ROW),
                self.view,
                widgets.HBox([self.question_box, self.ask_button, self.stop_button], layout=ROW),
                self.answer,
                self.history,
                self.forget_button,
            ]
        )
        self.forget()
        self._update()

    def _build(self, question: str, token_limit: int | None, reserve: int, strategy: str, keep_last: int) -> None:
        """Make the controls and connect them."""
        whole = count_tokens([*self.messages, user(question)], encoding=self._vocabulary) + reserve
        highest = self.model.context_length or HIGHEST
        steps = sorted({min(highest, -(-whole * part // 4 // STEP) * STEP) for part in (1, 2, 3)})
        enough = min(highest, -(-whole // STEP) * STEP)
        self.limit_field = number_field(
            "Token limit", token_limit or enough, minimum=0, maximum=highest, step=STEP, tooltip="Prompt and reply"
        )
        self.presets = widgets.ToggleButtons(
            options=[*((f"{step:,}", step) for step in steps if step < enough), (f"{enough:,}: all fits", enough)],
            description="Try a limit of",
            style={**LABELLED, "button_width": "auto"},
            value=None,
        )
        self.reserve_field = number_field(
            "Reserved for the reply", reserve, minimum=0, maximum=highest, step=8, tooltip="Tokens kept free"
        )
        self.strategy_box = widgets.Dropdown(
            options=list(STRATEGIES), value=strategy, description="Strategy", style=LABELLED, layout={"width": "24ch"}
        )
        self.keep_last_field = number_field("Turns to keep", keep_last, minimum=1, maximum=1000, step=1)
        self.view = widgets.HTML()
        self.question_box = widgets.Text(value=question, description="Question", style=LABELLED, layout=WIDE)
        self.ask_button = widgets.Button(description="Ask", button_style="primary", tooltip="Ask the model")
        self.stop_button = widgets.Button(description="Stop", disabled=True, tooltip="Stop the summary or the answer")
        self.answer = widgets.HTML()
        self.history = widgets.HTML()
        self.forget_button = widgets.Button(description="Forget answers", layout={"align_self": "flex-start"})
        fields = [self.limit_field, self.reserve_field, self.strategy_box, self.keep_last_field, self.question_box]
        for control in fields:
            control.observe(self._update, "value")
        self.presets.observe(self._on_preset, "value")
        self.question_box.on_msg(self._on_message)
        self.ask_button.on_click(lambda _: self.ask())
        self.stop_button.on_click(lambda _: self.stop())
        self.forget_button.on_click(lambda _: self.forget())

    @property
    def settings(self) -> Settings:
        """What decides on what is sent: the limit, the reserve, the strategy, the turns to keep, the question."""
        strategy = self.strategy_box.value
        keep_last = self.keep_last_field.value if strategy == "keep-last" else None
        return self.limit_field.value, self.reserve_field.value, strategy, keep_last, self.question_box.value

    def ask(self, question: str | None = None) -> None:
        """Ask the model (None: what stands in the question field) with what is sent; returns at once."""
        if question is not None:
            self.question_box.value = question
        if self.question_box.value.strip() and self._stream is None:
            self._asked = True
            self._work()

    def stop(self) -> None:
        """Stop the summary or the answer that is being made."""
        super().stop()
        if self._stream is not None:
            self._stream.close()

    def forget(self) -> None:
        """Empty the table of answers."""
        self.answers.clear()
        self.history.value = _framed(answers_html(self.answers))

    def _on_preset(self, change: dict[str, Any]) -> None:
        if change["new"] is not None:
            self.limit_field.value = change["new"]

    def _on_message(self, _: Any, content: dict[str, Any], __: Any) -> None:
        if content.get("event") == "submit":  # what the text field sends when Enter is pressed
            self.ask()

    def _update(self, _: Any = None) -> None:
        """Show what is sent under the settings; a summary is made in the background, once they rest."""
        settings = limit, _, strategy, _, _ = self.settings
        self.presets.value = limit if limit in [value for _, value in self.presets.options] else None
        self.keep_last_field.disabled = strategy != "keep-last"
        self._keep(settings, self._fit(settings, strategy="drop-oldest" if strategy == "summarise" else strategy))
        if strategy == "summarise" and self.fitted and self.fitted.dropped:
            self._fitted_for = None
            self._work()

    def _fit(self, settings: Settings, *, strategy: str) -> Fitted | None:
        """Return what is sent under the settings; None, and a note, where nothing can be."""
        limit, reserve, _, keep_last, question = settings
        try:
            return fit(
                [*self.messages, user(question)],
                limit,
                reserve=reserve,
                strategy=strategy,
                keep_last=keep_last,
                interrupted=lambda: self.stopping.is_set() or self.settings != settings,
                model=self.model,
            )
        except ReplyStoppedError:
            raise
        except ChatlabError as error:
            self.note(f"{type(error).__name__}: {error}")
            return None

    def _keep(self, settings: Settings, fitted: Fitted | None) -> None:
        """Keep and show what is sent, unless the settings have changed meanwhile."""
        with self._lock:
            if settings == self.settings:
                self.fitted, self._fitted_for = fitted, settings
        self.view.value = _framed(self._turns_html())
        if fitted is not None:
            self.note(fitted.turns_in_words())

    def _work(self) -> None:
        """Let a thread see to what takes long, unless there is one: it looks again before it ends."""
        with self._lock:
            if self._working:
                return
            self._working = True
        self.wait()
        self.run(self._see_to_it)

    def _see_to_it(self) -> None:
        """Summarise, and answer, until neither is left to do; runs in a thread of its own."""
        try:
            while True:
                self._settle()
                if self._asked and not self.stopping.is_set():
                    self._answer()
                with self._lock:
                    if self.stopping.is_set() or not (self._asked or self._fitted_for != self.settings):
                        self._working = self._asked = False
                        return
        finally:
            self._working = self._asked = False

    def _settle(self) -> None:
        """Make the summary once the settings have rested for a moment; begin again when they change."""
        while self._fitted_for != (settings := self.settings) and not self.stopping.is_set():
            if settings[2] == "summarise":
                self.note("The model summarises what does not fit …")
                if self.stopping.wait(SECONDS_OF_REST) or settings != self.settings:
                    continue
            try:
                self._keep(settings, self._fit(settings, strategy=settings[2]))
            except ReplyStoppedError:
                continue
        if self._fitted_for is None:
            self.note("Stopped: there is no summary. Change a setting, or ask, and it is made anew.")

    def _answer(self) -> None:
        """Let the model answer with what is sent, and show the text as it grows."""
        self._asked = False
        with self._lock:
            fitted, (limit, _, strategy, keep_last, question) = self.fitted, self.settings
        if fitted is None:
            return
        how = f"{strategy} {keep_last}" if keep_last else strategy
        room = min(MAX_REPLY, fitted.token_limit - fitted.tokens_after)
        if room < 1:
            self.note("There is no room for a reply: reserve some tokens for it, or raise the limit.")
            return
        self.note("The model reads what is sent …")
        text, due, finish_reason = "", Throttle(), None
        self._stream = open_stream(fitted, self.model, temperature=0, max_completion_tokens=room, stream=True)
        try:
            with self._stream as stream:
                for chunk in stream.pieces():
                    for choice in chunk.choices if chunk else ():
                        text += choice.delta.content or ""
                        finish_reason = choice.finish_reason or finish_reason
                    if self.stopping.is_set():
                        break
                    if text and due.due():
                        self.answer.value = _framed(answer_html(question, text, busy=True))
        finally:
            self._stream = None
        ended = {None: " … (stopped)", "length": " … (cut off)"}.get(finish_reason, "")
        self.answer.value = _framed(answer_html(question, text + ended))
        if text:
            self.answers.append(Answer(limit, how, fitted.turns_sent, question, text + ended))
            self.history.value = _framed(answers_html(self.answers))
        self.note(f"{'Stopped' if finish_reason is None else 'Answered'} with {fitted.turns_sent} turns sent.")

    def on_running(self, running: bool) -> None:
        """One summary or answer at a time; the settings may be changed meanwhile."""
        self.ask_button.disabled = running
        self.stop_button.disabled = not running

    def static_html(self) -> str:
        """Return the budget, the turns and the answers as HTML without controls."""
        return f"{self._turns_html()}{answers_html(self.answers)}"

    def _turns_html(self) -> str:
        if self.fitted is None:
            return "<div>Nothing can be sent: the limit is too low.</div>"
        history = [*self.messages, user(self.settings[-1])]
        tokens = tokens_per_message(history, encoding=self._vocabulary)
        return f"{self.fitted.bar_html()}{self.fitted.history_html(history, tokens)}"

    def __repr__(self) -> str:
        limit, _, strategy, _, _ = self.settings
        sent = "nothing sent" if self.fitted is None else f"{self.fitted.turns_sent} turns sent"
        return f"ContextPanel(limit {limit}, {strategy}, {sent}, {count_of(len(self.answers), 'answer')})"


def _framed(inner_html: str) -> str:
    return f'<div class="chatlab">{inner_html}</div>'
