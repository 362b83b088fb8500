"""Tracing: a whole reply, token by token, to look at and to change.

In: a prompt and settings. Out: a `Trace`, the sequence of a reply's `Step`s, coloured by probability in a notebook;
another trace with one token exchanged (what if?). Knows nothing of requests or HTTP.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer, check_stop
from chatlab.display import count_of, escape, view
from chatlab.errors import BadRequestError
from chatlab.generation import check_bias, draw_tokens, read_prompt, steps_of
from chatlab.messages import Message
from chatlab.model import resolve
from chatlab.reading import drive, prefill
from chatlab.sampling import SamplingParams
from chatlab.steps import Step, percent, token_name
from chatlab.tokens import encode

if TYPE_CHECKING:
    from chatlab.plots.figures import Plot

__all__ = ["Trace", "TraceSettings", "trace"]

# From sure to surprising: the lowest probability of each, its name and style, and what the legend says.
_BANDS = [
    (0.9, "sure", "90 % and more"),
    (0.5, "likely", "50 to 90 %"),
    (0.1, "open", "10 to 50 %"),
    (0.01, "unlikely", "1 to 10 %"),
    (0.0, "surprising", "under 1 %"),
]


@dataclass(frozen=True)
class TraceSettings:
    """What a trace was made with, so that another one can be made alike; `seed` is the one that was used."""

    params: SamplingParams
    max_completion_tokens: int | None
    stop: tuple[str, ...]
    seed: int
    top_logprobs: int


@dataclass(frozen=True, eq=False)
class Trace(Sequence[Step]):
    """The steps of one reply, a sequence: `len(trace)`, `trace[0]`, `for step in trace`.

    `forced` are the numbers of the steps whose token was not drawn but given (see `what_if`). `prefill_seconds` is how
    long the model read the prompt before the first step began.
    """

    model: ChatModel
    prompt_ids: tuple[int, ...]
    settings: TraceSettings
    steps: tuple[Step, ...]
    prefill_seconds: float
    forced: tuple[int, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Step: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Step, ...]: ...

    def __getitem__(self, index: int | slice) -> Step | tuple[Step, ...]:
        return self.steps[index]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def text(self) -> str:
        """The reply."""
        return "".join(step.text for step in self.steps)

    @property
    def perplexity(self) -> float:
        """How surprised the model is by the reply: as if it had chosen among so many equally likely tokens each time.

        exp of the mean of −ln p over all steps, the end token's too, by the model's own probabilities.
        """
        if any(step.probability == 0 for step in self.steps):
            return math.inf
        return math.exp(-sum(math.log(step.probability) for step in self.steps) / len(self.steps))

    @property
    def seconds(self) -> float:
        """How long the reply took, the reading of the prompt included."""
        return self.prefill_seconds + sum(step.seconds for step in self.steps)

    def what_if(self, step: int, token: str | int) -> Trace:
        """Return the reply that follows when step number `step` takes another token: a text of one token, or an id.

        Everything before it stays, and so do settings and seed: each later step draws with the same random number.
        Raises `BadRequestError` for a step that is not there or a text that is not exactly one token.
        """
        number = check_integer("step", step, minimum=0, maximum=len(self.steps) - 1)
        token_id = _one_token(token, self.model)
        earlier = [each.token_id for each in self.steps[:number]]
        marks = (*(each for each in self.forced if each < number), number)
        return _trace(self.model, self.prompt_ids, self.settings, forced_ids=[*earlier, token_id], forced=marks)

    def show(self) -> None:
        """Show the reply where it runs: coloured in a notebook, as a table in a terminal."""
        from IPython.display import display

        display(self)

    def plot(self) -> Plot:
        """Draw each token's probability along the reply."""
        from chatlab.plots.reply import token_strip  # Matplotlib only when something is drawn

        return token_strip(
            [self._name(step) for step in self.steps], [step.probability for step in self.steps], forced=self.forced
        )

    def plot_timing(self) -> Plot:
        """Draw how long each token took, the first one with the reading of the prompt before it."""
        from chatlab.plots.reply import stream_timing  # Matplotlib only when something is drawn

        return stream_timing(
            [self._name(step) for step in self.steps],
            [step.seconds for step in self.steps],
            prefill_seconds=self.prefill_seconds,
            prompt_tokens=len(self.prompt_ids),
        )

    def __repr__(self) -> str:
        names = [self._name(step) for step in self.steps]
        width = max(map(len, [*names, "token"]))
        lines = [f"   #  {'token'.ljust(width)}  probability  entropy  likeliest"]
        for number, (step, name) in enumerate(zip(self.steps, names, strict=True)):
            note = " (forced)" if number in self.forced else ""
            lines.append(
                f"{number:>4}  {name.ljust(width)}  {percent(step.probability):>11}  {step.entropy:>7.2f}  "
                f"{step.likeliest()}{note}"
            )
        return "\n".join([repr(self.text), "", *lines, "", self._summary()])

    def _repr_html_(self) -> str:
        """Show the reply with each token marked by its probability; its alternatives on hover, focus and below."""
        tokens = "".join(self._token_html(number, step) for number, step in enumerate(self.steps))
        legend = " ".join(f'<span class="chatlab-step {name}">{name}: {label}</span>' for _, name, label in _BANDS)
        rows = "".join(
            f'<tr><th scope="row">{number}</th><td><code>{escape(self._name(step))}</code></td>'
            f"<td>{percent(step.probability)} {_band(step.probability)}{_mark(number in self.forced)}</td>"
            f"<td>{step.entropy:.2f}</td><td>{escape(step.likeliest())}</td></tr>"
            for number, step in enumerate(self.steps)
        )
        heads = "".join(
            f'<th scope="col">{name}</th>' for name in ["step", "token", "probability", "bits", "likeliest"]
        )
        return view(
            '<div class="chatlab-reply"><span class="chatlab-role">assistant</span>'
            f'<span class="chatlab-text">{tokens}</span></div>'
            f'<div class="chatlab-note">How probable the model itself found each token: {legend}. Point at one, '
            "or move to it with the Tab key, to see what else was likely.</div>"
            f'<div class="chatlab-note">{escape(self._summary())}</div>'
            f"<details><summary>All {count_of(len(self.steps), 'step')} as a table</summary>"
            f'<table class="chatlab-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></details>'
        )

    def _token_html(self, number: int, step: Step) -> str:
        name, forced = self._name(step), number in self.forced
        about = (
            f"step {number}, {name}: {percent(step.probability).strip()}, {_band(step.probability)}{_mark(forced)}; "
            f"entropy {step.entropy:.2f} bits" + (f"; likeliest: {step.likeliest()}" if step.alternatives else "")
        )
        shown = escape(self._shown(step, name))
        css_class = f"chatlab-step {_band(step.probability)}{' forced' if forced else ''}"
        ending = "\n" * step.token.count("\n")  # a token of a line end shows itself, and ends the line as well
        return f'<span class="{css_class}" tabindex="0" role="note" aria-label="{escape(about)}">{shown}</span>{ending}'

    def _shown(self, step: Step, name: str) -> str:
        """Return the token as it stands in the reply; a broken character as its bytes, the piece that ends it whole."""
        broken = "\N{REPLACEMENT CHARACTER}"
        if broken in step.token and step.text and broken not in step.text:
            return step.text
        return name if broken in step.token or not step.token.isprintable() else step.token

    def _name(self, step: Step) -> str:
        return token_name(step.token_id, model=self.model)

    def _summary(self) -> str:
        forced = f", forced at {', '.join(map(str, self.forced))}" if self.forced else ""
        return (
            f"{self.model.name}: {count_of(len(self.steps), 'step')}, perplexity {self.perplexity:.2f}, "
            f"finish_reason {self.steps[-1].finish_reason}, seed {self.settings.seed}{forced}"
        )


def trace(
    prompt: str | Sequence[Message],
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    logit_bias: Mapping[int, float] | None = None,
    max_completion_tokens: int | None = None,
    stop: str | Sequence[str] | None = None,
    seed: int | None = None,
    top_logprobs: int = 5,
    model: ChatModel | str | Path | None = None,
) -> Trace:
    """Return the whole reply to a prompt (or to messages) with every step; settings and errors as in `generate`.

    >>> from chatlab.testing import ScriptedModel
    >>> reply = trace("Hi", model=ScriptedModel("Hey!"), temperature=0)
    >>> reply.text, len(reply), reply.perplexity
    ('Hey!', 5, 1.0)
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
    check_bias(model, params)
    if max_completion_tokens is not None:
        check_integer("max_completion_tokens", max_completion_tokens, minimum=1)
    settings = TraceSettings(
        params,
        max_completion_tokens,
        check_stop(stop),
        random.randrange(2**32) if seed is None else check_integer("seed", seed, minimum=-(2**63)),
        check_integer("top_logprobs", top_logprobs, minimum=0, maximum=model.vocab_size),
    )
    return _trace(model, tuple(read_prompt(prompt, model=model)), settings)


def _trace(
    model: ChatModel,
    prompt_ids: tuple[int, ...],
    settings: TraceSettings,
    *,
    forced_ids: Sequence[int] = (),
    forced: tuple[int, ...] = (),
) -> Trace:
    started = time.perf_counter()
    read = prefill(model, list(prompt_ids))
    prefill_seconds = time.perf_counter() - started
    drawn = draw_tokens(
        model,
        read,
        params=settings.params,
        max_tokens=settings.max_completion_tokens,
        stop=settings.stop,
        seed=settings.seed,
        forced=forced_ids,
    )
    work = steps_of(drawn, top_logprobs=settings.top_logprobs, model=model)
    return Trace(model, prompt_ids, settings, tuple(drive(model, work)), prefill_seconds, forced)


def _one_token(token: str | int, model: ChatModel) -> int:
    if not isinstance(token, str):
        return check_integer("token", token, minimum=0, maximum=model.vocab_size - 1)
    ids = encode(token, model=model)
    if len(ids) != 1:
        names = " ".join(token_name(token_id, model=model) for token_id in ids)
        raise BadRequestError(
            f"token must be exactly one token of {model.name}, but {token!r} is {len(ids)}{names and ': ' + names}. "
            "Most words are one token with their space before them, such as ' the'; or give a token id.",
            param="token",
        )
    return ids[0]


def _band(probability: float) -> str:
    """Name a probability: the word that stands beside every colour.

    >>> _band(1.0), _band(0.3), _band(0.0)
    ('sure', 'open', 'surprising')
    """
    return next(name for lowest, name, _ in _BANDS if probability >= lowest)


def _mark(forced: bool) -> str:
    return ", forced" if forced else ""
