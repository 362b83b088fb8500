"""Steps: one token of a reply, and all that is known of its choice.

In: a token id, probabilities, a text. Out: a `Step` that shows itself, as text and in a notebook; a name that one can
read for any token, half an emoji included. Knows nothing of how tokens are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from chatlab.chat_model import ChatModel
from chatlab.display import bar_cell, escape, view, visible
from chatlab.tokens import decode, token_bytes

__all__ = ["Step", "percent", "probability_cell", "token_name"]


def percent(probability: float) -> str:
    """Return a probability as a percentage of one width.

    >>> percent(0.5), percent(1.0), percent(0.0001), percent(0.0)
    (' 50.0 %', '100.0 %', '< 0.1 %', '  0.0 %')
    """
    return "< 0.1 %" if 0 < probability < 0.001 else f"{probability:>6.1%}".replace("%", " %").rjust(7)


def probability_cell(probability: float) -> str:
    """Return a cell of a table with a probability, and a bar behind it that is as long.

    >>> probability_cell(0.5)
    '<td><span class="chatlab-bar" style="width:50.0%"></span><span class="chatlab-value"> 50.0 %</span></td>'
    """
    return bar_cell(probability, percent(probability))


def token_name(token_id: int, *, model: ChatModel) -> str:
    """Return what a token looks like alone, white space made visible; bytes that are no character in hexadecimal.

    >>> from chatlab.testing import ScriptedModel
    >>> [token_name(token_id, model=ScriptedModel("")) for token_id in [32, 65, 0xF0, 257]]
    ['␣', 'A', '<F0>', '<|im_end|>']
    """
    text = decode([token_id], model=model)
    spelled = token_bytes(token_id, model.tokenizer) if "\N{REPLACEMENT CHARACTER}" in text else None
    return visible(text) if spelled is None else f"<{spelled.hex(' ').upper()}>"


@dataclass(frozen=True)
class Step:
    """One token of a reply.

    `token` is what the token looks like alone, `text` what the reply gained by it: nothing while a character is half
    done or while the text may still become a stop string. `offset` is how many characters of the reply came before.
    `probability` (0–1), `alternatives` (token id → probability, likeliest first) and `entropy` (in bits: 0 when the
    model is sure of the token, 1 when it is as open as a coin) are the model's own, before temperature and the like;
    `names` are the alternatives' tokens as text. `seconds` is the time the step took. `finish_reason` is None until
    the last step.

    >>> from chatlab import generate
    >>> from chatlab.testing import ScriptedModel
    >>> next(generate("Hi", model=ScriptedModel("Hey!"), temperature=0, top_logprobs=0))
    Step 'H' (id 72): 100.0 % of 0.0 bits
    """

    token_id: int
    token: str
    text: str
    offset: int
    probability: float
    alternatives: Mapping[int, float]
    entropy: float
    names: tuple[str, ...] = field(compare=False)
    seconds: float = field(compare=False)
    finish_reason: Literal["stop", "length"] | None = None

    @property
    def milliseconds(self) -> float:
        """The time the step took, in the unit that suits it."""
        return self.seconds * 1000

    def likeliest(self) -> str:
        """Return the alternatives with their probabilities, on one line."""
        pairs = zip(self.names, self.alternatives.values(), strict=True)
        return " | ".join(f"{name} {percent(probability).strip()}" for name, probability in pairs)

    def __repr__(self) -> str:
        likeliest = f"; likeliest: {self.likeliest()}" if self.alternatives else ""
        end = f"; finish_reason: {self.finish_reason}" if self.finish_reason else ""
        chance = percent(self.probability).strip()
        return f"Step {self.token!r} (id {self.token_id}): {chance} of {self.entropy:.1f} bits{likeliest}{end}"

    def _repr_html_(self) -> str:
        """Show the token and what else was likely, as a table."""
        rows = "".join(
            f"<tr><td>{'chosen' if token_id == self.token_id else ''}</td><td><code>{escape(name)}</code></td>"
            f"<td>{token_id}</td><td>{percent(probability)}</td></tr>"
            for name, (token_id, probability) in zip(self.names, self.alternatives.items(), strict=True)
        )
        heads = "<tr><th></th><th>token</th><th>id</th><th>probability</th></tr>"
        table = f'<table class="chatlab-table">{heads}{rows}</table>' if rows else ""
        end = f", finish_reason: {self.finish_reason}" if self.finish_reason else ""
        return view(
            f"<div><code>{escape(visible(self.token))}</code> (id {self.token_id}): probability "
            f"{percent(self.probability)}, entropy {self.entropy:.2f} bits, {self.milliseconds:.0f} ms{end}"
            f"</div>{table}"
        )
