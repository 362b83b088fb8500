"""SamplingPanel: what temperature, top-k, top-p and min-p do to the next token.

In: a prompt, and what the learner sets and clicks. Out: the model's own probabilities beside those after the settings,
and tokens drawn from them. The prompt is read once; a setting only changes what is made of it. Knows nothing of
replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from chatlab.chat_model import ChatModel
from chatlab.display import count_of
from chatlab.draws import Draws
from chatlab.errors import ReplyStoppedError
from chatlab.messages import Message, user, validate
from chatlab.model import resolve
from chatlab.panels.panel import LABELLED, Panel, number_field
from chatlab.prediction import Prediction, next_token
from chatlab.sampling import SamplingParams
from chatlab.steps import token_name

__all__ = ["SamplingPanel"]

HINT = (
    "Temperature: below 1 favours the likeliest, above 1 the others; 0 takes the likeliest always. Top-k keeps the k "
    "likeliest (0: all). Top-p keeps the fewest that reach p together (1: all). Min-p drops what is less likely than p "
    "times the likeliest (0: nothing). They apply in this order. ␣ is a space."
)
MANY = (1, 100, 1000)


class SamplingPanel(Panel):
    """Real next-token probabilities as bars, before and after the settings, and tokens drawn from them.

    `prompt` is a text to go on from, or messages to reply to. `prediction` and `draws` are what the panel shows;
    `draw`, `forget`, `reset` and `stop` do what the buttons do. A changed setting forgets the draws, for they were
    drawn from other bars.

    >>> from chatlab.testing import ScriptedModel
    >>> panel = SamplingPanel("Hi", model=ScriptedModel("Hello!"))
    >>> panel.draw(100)
    >>> panel
    SamplingPanel(temperature=1, top_k=0, top_p=1, min_p=0, 100 draws)
    """

    def __init__(
        self,
        prompt: str | Sequence[Message] = "My favourite animal is the",
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int = 0,
        top: int = 15,
        model: ChatModel | str | Path | None = None,
    ) -> None:
        self.model = resolve(model)
        self.top = min(top, self.model.vocab_size)
        params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        self._messages = [user(prompt)] if isinstance(prompt, str) else validate(prompt)
        self._build(str(self._messages[-1]["content"]), params, seed, chat=not isinstance(prompt, str))
        self._read = self.prompt  # what the model has read
        self.draws = Draws(self._with_settings(next_token(self.prompt, model=self.model)), seed=seed)
        super().__init__(
            children=[
                self.prompt_box,
                widgets.HBox([self.chat_box, self.read_button, self.stop_button], layout={"flex_flow": "row wrap"}),
                widgets.HBox([*self.fields, self.reset_button], layout={"flex_flow": "row wrap"}),
                widgets.HTML(f'<div class="chatlab-note">{HINT}</div>'),
                widgets.HBox(
                    [self.seed_field, *self.draw_buttons, self.forget_button], layout={"flex_flow": "row wrap"}
                ),
                self.view,
            ]
        )
        self._show()

    def _build(self, text: str, params: SamplingParams, seed: int, *, chat: bool) -> None:
        """Make the controls and connect them."""
        self.prompt_box = widgets.Textarea(
            value=text, description="Prompt", rows=2, continuous_update=False, style=LABELLED, layout={"width": "auto"}
        )
        self.chat_box = widgets.Checkbox(value=chat, description="Read it as a chat message", indent=False)
        self.chat_box.layout.width = "auto"
        self.read_button = widgets.Button(description="Read the prompt", tooltip="Let the model read the prompt")
        self.stop_button = widgets.Button(description="Stop", disabled=True, tooltip="Stop reading")
        self.temperature_field = number_field("Temperature", params.temperature, minimum=0, maximum=2, step=0.1)
        self.top_k_field = number_field("Top-k", params.top_k, minimum=0, maximum=self.model.vocab_size, step=1)
        self.top_p_field = number_field("Top-p", params.top_p, minimum=0, maximum=1, step=0.05)
        self.min_p_field = number_field("Min-p", params.min_p, minimum=0, maximum=1, step=0.05)
        self.fields = [self.temperature_field, self.top_k_field, self.top_p_field, self.min_p_field]
        self.reset_button = widgets.Button(description="Reset settings", tooltip="Switch every setting off")
        self.seed_field = number_field("Seed", seed, minimum=-(2**31), maximum=2**31, step=1)
        self.draw_buttons = [
            widgets.Button(description=f"Draw {number:,}", button_style="primary", tooltip="Draw from the bars after")
            for number in MANY
        ]
        self.forget_button = widgets.Button(description="Forget draws", tooltip="Start again from the seed")
        self.view = widgets.HTML()
        self.prompt_box.observe(self._on_prompt, "value")
        self.chat_box.observe(self._on_prompt, "value")
        self.read_button.on_click(self._on_prompt)
        self.stop_button.on_click(lambda _: self.stop())
        for field in self.fields:
            field.observe(self._on_setting, "value")
        self.reset_button.on_click(lambda _: self.reset())
        self.seed_field.observe(lambda _: self.forget(), "value")
        for button, number in zip(self.draw_buttons, MANY, strict=True):
            button.on_click(lambda _, number=number: self.draw(number))
        self.forget_button.on_click(lambda _: self.forget())

    @property
    def prompt(self) -> str | list[Message]:
        """What the model reads: the text of the field, or messages that end with it."""
        text = str(self.prompt_box.value)
        return [*self._messages[:-1], {**self._messages[-1], "content": text}] if self.chat_box.value else text

    @property
    def params(self) -> SamplingParams:
        """The settings."""
        return SamplingParams(
            temperature=self.temperature_field.value,
            top_k=self.top_k_field.value,
            top_p=self.top_p_field.value,
            min_p=self.min_p_field.value,
        )

    @property
    def prediction(self) -> Prediction:
        """What the model expects, before and after the settings."""
        return self.draws.prediction

    def draw(self, number: int = 1) -> None:
        """Draw so many tokens more from the bars after the settings."""
        self.draws.draw(number)
        name = token_name(self.draws.last or 0, model=self.model)
        self.note(f"Drawn: {name}" if number == 1 else f"{number:,} tokens drawn, the last of them {name}")
        self._show()

    def forget(self) -> None:
        """Forget the draws, and start again from the seed."""
        self._begin(self.prediction, "Back to the seed.")

    def reset(self) -> None:
        """Switch every setting off, so that the bars are the model's own."""
        for field, off in zip(self.fields, (1.0, 0, 1.0, 0.0), strict=True):
            field.value = off

    def _begin(self, prediction: Prediction, said: str) -> None:
        forgotten = f" {count_of(self.draws.number, 'draw')} forgotten." if self.draws.number else ""
        self.draws = Draws(prediction, seed=self.seed_field.value)
        self.note(f"{said}{forgotten}")
        self._show()

    def _on_setting(self, _: Any) -> None:
        self._begin(self._with_settings(self.prediction), "New bars after the settings.")

    def _on_prompt(self, _: Any) -> None:
        if self.prompt != self._read and not self.running:  # a change meanwhile is seen once this one has been read
            self.run(self._read_on)

    def _with_settings(self, prediction: Prediction) -> Prediction:
        return prediction.with_settings(self.params, top=self.top)

    def _read_on(self) -> None:
        """Read the prompt, and again where it has changed meanwhile; runs in a thread of its own."""
        while self.prompt != self._read:
            self.note("The model reads the prompt …")
            prompt = self.prompt
            try:
                prediction = next_token(prompt, interrupted=self.stopping.is_set, model=self.model)
            except ReplyStoppedError:
                self.note("Stopped: the bars are still those of the earlier prompt.")
                return
            self._read = prompt
            said = f"The model has read {count_of(len(prediction.prompt_ids), 'token')}."
            self._begin(self._with_settings(prediction), said)

    def on_running(self, running: bool) -> None:
        """While the prompt is read there is nothing to draw from."""
        for control in (self.read_button, self.forget_button, *self.draw_buttons):
            control.disabled = running
        self.stop_button.disabled = not running

    def static_html(self) -> str:
        """Return the bars and the draws as HTML without controls."""
        return self.draws.table_html()

    def _show(self) -> None:
        self.view.value = f'<div class="chatlab">{self.static_html()}</div>'

    def __repr__(self) -> str:
        params = self.params
        settings = ", ".join(f"{name}={getattr(params, name):g}" for name in ("temperature", "top_k", "top_p", "min_p"))
        return f"SamplingPanel({settings}, {count_of(self.draws.number, 'draw')})"
