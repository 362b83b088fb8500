"""Prediction: what the model makes of the next token, before and after each setting.

In: a prompt and the settings of a request. Out: a `Prediction`, a table of the likeliest tokens that shows itself and
draws itself. Takes the same steps as generation does, and draws nothing at random. Knows nothing of replies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer, check_list
from chatlab.display import count_of, escape, view, visible
from chatlab.errors import BadRequestError, ReplyStoppedError
from chatlab.generation import check_bias, read_prompt
from chatlab.messages import Message
from chatlab.model import resolve
from chatlab.reading import prefill_chunks
from chatlab.sampling import SamplingParams, entropy, sample_many, sampling_steps
from chatlab.steps import percent, probability_cell, token_name
from chatlab.tokens import encode

if TYPE_CHECKING:
    from chatlab.plots.figures import Plot

__all__ = ["Prediction", "Row", "Stage", "next_token", "temperature_family"]


@dataclass(frozen=True, eq=False)
class Stage:
    """The choice of the next token at one point: `name` is the setting applied last, "model" before any.

    `logits` [vocab_size] is what the setting leaves; a token that it rules out has −inf.
    """

    name: str
    logits: Tensor

    @cached_property
    def probabilities(self) -> Tensor:
        """The probability of each token, [vocab_size]; they add up to 1."""
        return self.logits.softmax(dim=-1)

    @cached_property
    def entropy(self) -> float:
        """How uncertain the choice is, in bits."""
        return entropy(self.probabilities)

    @property
    def effective_choices(self) -> float:
        """How many equally likely tokens would be as uncertain: 2 to the power of the entropy."""
        return float(2**self.entropy)

    @cached_property
    def tokens_left(self) -> int:
        """How many tokens may still be drawn."""
        return int((self.logits > float("-inf")).sum())

    def __repr__(self) -> str:
        return f"Stage({self.name!r}: {self.entropy:.2f} bits, {count_of(self.tokens_left, 'token')} left)"


@dataclass(frozen=True)
class Row:
    """One token of the table: its id, its name, its logit of the model's own, its probability at each stage."""

    token_id: int
    token: str
    logit: float
    probabilities: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What may come next: `stages` are the model's own choice and the choice after each setting that changed it.

    `rows` are the likeliest tokens, those of the first and of the last stage, in the model's own order.
    """

    prompt: str
    prompt_ids: tuple[int, ...]
    reply_ids: tuple[int, ...]
    model: ChatModel
    stages: tuple[Stage, ...]
    rows: tuple[Row, ...] = ()

    @property
    def before(self) -> Stage:
        """The model's own choice."""
        return self.stages[0]

    @property
    def after(self) -> Stage:
        """The choice after every setting: what generation draws from."""
        return self.stages[-1]

    @property
    def probabilities(self) -> Tensor:
        """The probabilities to draw from, [vocab_size]; those of the model alone are `before.probabilities`."""
        return self.after.probabilities

    @property
    def title(self) -> str:
        """What is predicted: the model's name and the end of the prompt."""
        shown = visible(self.prompt[-40:]).replace("␣", " ")
        return f"What {self.model.name} expects after “{'…' if len(self.prompt) > 40 else ''}{shown}”"

    def with_settings(self, params: SamplingParams, *, top: int = 10) -> Prediction:
        """Return the same prediction under other settings; the model does not read the prompt again.

        >>> from chatlab.testing import ScriptedModel
        >>> next_token("Hi", model=ScriptedModel("Hello")).with_settings(SamplingParams(temperature=0)).after
        Stage('temperature 0': 0.00 bits, 1 token left)
        """
        check_bias(self.model, params)
        check_integer("top", top, minimum=1, maximum=self.model.vocab_size)
        stages = _stages(self.before.logits, params, self.prompt_ids, self.reply_ids)
        return replace(self, stages=stages, rows=_rows(stages, top, self.model))

    def draw(self, random_numbers: Sequence[float]) -> list[int]:
        """Return the token id that generation would draw for each random number (0 ≤ it < 1)."""
        return sample_many(self.after.logits, temperature=1, random_numbers=random_numbers)

    def __repr__(self) -> str:
        heads = ["token", "id", "logit", *(stage.name for stage in self.stages)]
        lines = [heads]
        for row in self.rows:
            lines.append([row.token, str(row.token_id), f"{row.logit:.2f}", *map(percent, row.probabilities)])
        lines += [
            [name, "", "", *(cell if "%" in cell else f"{cell}  " for cell in cells)] for name, cells in self._totals()
        ]
        widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
        table = [
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, "", *table])

    def _repr_html_(self) -> str:
        """Show the table with a bar in each cell, as long as the token is probable."""
        heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in ["token", "id", "logit", *self._names()])
        rows = "".join(
            f'<tr><th scope="row"><code>{escape(row.token)}</code></th><td>{row.token_id}</td><td>{row.logit:.2f}</td>'
            + "".join(map(probability_cell, row.probabilities))
            + "</tr>"
            for row in self.rows
        )
        foot = "".join(
            f'<tr><th scope="row" colspan="3">{name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
            for name, cells in self._totals()
        )
        return view(
            f'<table class="chatlab-table chatlab-bars"><caption>{escape(self.title)}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody><tfoot>{foot}</tfoot></table>"
        )

    def plot(self) -> Plot:
        """Draw the rows as bars: the model's own probabilities, and those after the settings."""
        from chatlab.plots.sampling import next_token_bars  # Matplotlib only when something is drawn

        return next_token_bars(
            [row.token for row in self.rows],
            [row.probabilities[0] for row in self.rows],
            [row.probabilities[-1] for row in self.rows] if len(self.stages) > 1 else None,
            settings=", ".join(self._names()[1:]),
            title=self.title,
        )

    def _names(self) -> list[str]:
        return [stage.name for stage in self.stages]

    def _totals(self) -> list[tuple[str, list[str]]]:
        """Return what stands below the tokens: what the others have together, and how open each stage is."""
        shown = [sum(row.probabilities[index] for row in self.rows) for index in range(len(self.stages))]
        return [
            ("all other tokens", [percent(max(0.0, 1 - each)) for each in shown]),
            ("entropy in bits", [f"{stage.entropy:.2f}" for stage in self.stages]),
            ("effective choices", [f"{stage.effective_choices:.1f}" for stage in self.stages]),
            ("tokens left", [str(stage.tokens_left) for stage in self.stages]),
        ]


def next_token(
    prompt: str | Sequence[Message],
    *,
    reply: str = "",
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    logit_bias: Mapping[int, float] | None = None,
    top: int = 10,
    interrupted: Callable[[], bool] = lambda: False,
    model: ChatModel | str | Path | None = None,
) -> Prediction:
    """Return what the model makes of the token after a prompt (or messages), before and after each setting.

    `reply` is what the model has said so far: it follows the prompt, and it is what the presence and the frequency
    penalty look at. `top` is how many tokens the table has. `interrupted` is asked between two pieces of a long prompt.
    Raises `BadRequestError` for a value out of range, `ContextLengthError` when the prompt leaves no room,
    `ReplyStoppedError` when interrupted.

    >>> from chatlab.testing import ScriptedModel
    >>> next_token("Hi", model=ScriptedModel("Hello"), logit_bias={72: -100}, top=1).rows[0].token
    'H'
    """
    model = resolve(model)
    params = SamplingParams(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=logit_bias or {},
    )
    if not isinstance(reply, str):
        raise BadRequestError(f"reply must be a string, not {type(reply).__name__}.", param="reply")
    prompt_ids, reply_ids = read_prompt(prompt, model=model), encode(reply, model=model)
    for read in prefill_chunks(model, [*prompt_ids, *reply_ids]):
        logits = read.logits  # [vocab_size]
        if interrupted():
            raise ReplyStoppedError("The prompt was not read to its end: it was stopped.")
    turn_ends = "\n" if reply and not isinstance(prompt, str) else ""  # the reply is a turn of its own
    text, stages = _text_of(prompt) + turn_ends + reply, (Stage("model", logits),)
    return Prediction(text, tuple(prompt_ids), tuple(reply_ids), model, stages).with_settings(params, top=top)


def temperature_family(
    prompt: str | Sequence[Message],
    *,
    temperatures: Sequence[float] = (0.2, 0.7, 1.0, 1.5, 2.0),
    top: int = 6,
    model: ChatModel | str | Path | None = None,
) -> Plot:
    """Draw what one prompt's likeliest tokens get at several temperatures, side by side."""
    from chatlab.plots.sampling import temperature_panels  # Matplotlib only when something is drawn

    temperatures = check_list("temperatures", temperatures, example="[0.5, 1.0, 2.0]")
    model = resolve(model)
    first = next_token(prompt, top=top, model=model)
    params = [SamplingParams(temperature=temperature) for temperature in temperatures]
    stages = [first.with_settings(each).after for each in params]
    return temperature_panels(
        [row.token for row in first.rows],
        {
            each.temperature: [float(stage.probabilities[row.token_id]) for row in first.rows]
            for each, stage in zip(params, stages, strict=True)
        },
        effective_choices=[stage.effective_choices for stage in stages],
        title=first.title,
    )


def _stages(
    logits: Tensor, params: SamplingParams, prompt_ids: Sequence[int], reply_ids: Sequence[int]
) -> tuple[Stage, ...]:
    """Return the model's own choice, and the choice after each setting that changes it."""
    stages = [Stage("model", logits)]
    for name, changed in sampling_steps(logits, params, prompt_ids=prompt_ids, reply_ids=reply_ids):
        if not torch.equal(changed, stages[-1].logits):
            value = getattr(params, name, None)
            stages.append(Stage(f"{name} {value:g}" if isinstance(value, float | int) else name, changed))
    return tuple(stages)


def _rows(stages: tuple[Stage, ...], top: int, model: ChatModel) -> tuple[Row, ...]:
    """Return the tokens likeliest before or after, in the order of the model's own logits."""
    best = torch.maximum(stages[0].probabilities, stages[-1].probabilities).topk(top).indices.tolist()
    best.sort(key=lambda token_id: (-float(stages[0].logits[token_id]), token_id))
    return tuple(
        Row(
            token_id,
            token_name(token_id, model=model),
            float(stages[0].logits[token_id]),
            tuple(float(stage.probabilities[token_id]) for stage in stages),
        )
        for token_id in best
    )


def _text_of(prompt: str | Sequence[Message]) -> str:
    return str(prompt) if isinstance(prompt, str) else str(prompt[-1]["content"])
