"""Samples: many replies to one prompt, to see how varied they are.

In: a prompt, temperatures, a number of replies. Out: `Samples`, the replies at each temperature and measures of how
much they differ, as a table and a drawing. The prompt is read once. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer, check_list
from chatlab.display import escape, view
from chatlab.generation import draw_tokens, read_prompt, steps_of
from chatlab.messages import Message
from chatlab.model import resolve
from chatlab.reading import Prefill, copies, drive_together, prefill, remember
from chatlab.sampling import SamplingParams
from chatlab.steps import Step

if TYPE_CHECKING:
    from chatlab.plots.figures import Plot

__all__ = ["Sample", "Samples", "distinct", "sample_replies"]

SIDE_BY_SIDE = 8  # each reply has a key-value cache of its own


@dataclass(frozen=True)
class Sample:
    """One reply: its text and its token ids, the end token included."""

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Samples:
    """Replies to one prompt, by temperature: the same number at each, drawn with the same seeds."""

    replies: Mapping[float, tuple[Sample, ...]]

    def distinct_first_tokens(self, temperature: float) -> int:
        """Return how many different tokens the replies at a temperature begin with."""
        return len({reply.token_ids[0] for reply in self.replies[temperature]})

    def distinct_replies(self, temperature: float) -> int:
        """Return how many different replies there are at a temperature."""
        return len({reply.token_ids for reply in self.replies[temperature]})

    def distinct(self, temperature: float, *, n: int = 2) -> float:
        """Return the share (0–1) of different n-grams of tokens among all those of the replies at a temperature."""
        return distinct([reply.token_ids for reply in self.replies[temperature]], n=n)

    def plot(self) -> Plot:
        """Draw the measures over the temperature."""
        from chatlab.plots.sampling import diversity_bars  # Matplotlib only when something is drawn

        number = self._number()
        return diversity_bars(
            list(self.replies),
            {
                "distinct replies": [self.distinct_replies(each) / number for each in self.replies],
                "distinct pairs of tokens": [self.distinct(each) for each in self.replies],
                "distinct first tokens": [self.distinct_first_tokens(each) / number for each in self.replies],
            },
            samples=number,
            title="How varied the replies are",
        )

    def _number(self) -> int:
        return len(next(iter(self.replies.values())))

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                f"{temperature:g}",
                str(self.distinct_first_tokens(temperature)),
                str(self.distinct_replies(temperature)),
                f"{self.distinct(temperature):.2f}",
                replies[0].text,
            )
            for temperature, replies in self.replies.items()
        ]

    def __repr__(self) -> str:
        lines: list[tuple[str, ...]] = [("temperature", "first tokens", "replies", "distinct-2", "first reply")]
        lines += [(*row[:-1], repr(row[-1])) for row in self._rows()]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        table = ["  ".join([*(c.rjust(w) for c, w in zip(line, widths, strict=False)), line[4]]) for line in lines]
        return "\n".join([f"{self._number()} replies at each temperature; how many are different:", *table])

    def _repr_html_(self) -> str:
        """Show the measures as a table, with the replies of each temperature to unfold."""
        heads = ["temperature", "different first tokens", "different replies", "distinct-2", "replies"]
        body = ""
        for row, replies in zip(self._rows(), self.replies.values(), strict=True):
            cells = "".join(f"<td>{cell}</td>" for cell in row[1:-1])
            items = "".join(f'<li class="chatlab-text">{escape(reply.text)}</li>' for reply in replies)
            body += (
                f'<tr><th scope="row">{row[0]}</th>{cells}<td><details><summary>{len(replies)} replies</summary>'
                f"<ol>{items}</ol></details></td></tr>"
            )
        head = "".join(f'<th scope="col">{name}</th>' for name in heads)
        return view(f'<table class="chatlab-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def sample_replies(
    prompt: str | Sequence[Message],
    *,
    temperatures: Sequence[float] = (0.0, 0.5, 1.0, 1.5),
    samples: int = 8,
    max_completion_tokens: int = 8,
    seed: int = 0,
    model: ChatModel | str | Path | None = None,
) -> Samples:
    """Return several replies to a prompt (or messages) at each temperature.

    The seeds are `seed`, `seed + 1` and so on. Raises `BadRequestError` for a value out of range.

    >>> from chatlab.testing import ScriptedModel
    >>> samples = sample_replies("Hi", temperatures=[0, 1], samples=2, model=ScriptedModel("Hey!"))
    >>> samples.distinct_replies(0), samples.replies[0][0].text
    (1, 'Hey!')
    """
    model = resolve(model)
    check_integer("samples", samples, minimum=1)
    check_integer("max_completion_tokens", max_completion_tokens, minimum=1)
    check_integer("seed", seed, minimum=-(2**63))
    temperatures = check_list("temperatures", temperatures, example="[0.5, 1.0]")
    settings = [SamplingParams(temperature=temperature) for temperature in temperatures]
    read = prefill(model, read_prompt(prompt, model=model))
    remember(model, read)
    return Samples(
        {
            params.temperature: _replies(model, read, params, max_completion_tokens, range(seed, seed + samples))
            for params in settings
        }
    )


def distinct(sequences: Sequence[Sequence[Hashable]], *, n: int = 2) -> float:
    """Return the share (0–1) of different n-grams among all n-grams of the sequences; 0 where there are none.

    Distinct-n, from "A Diversity-Promoting Objective Function for Neural Conversation Models" (Li et al., 2016).

    >>> distinct([[1, 2, 3], [1, 2, 4]])
    0.75
    """
    check_integer("n", n, minimum=1)
    grams = [tuple(each[start : start + n]) for each in sequences for start in range(len(each) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _replies(
    model: ChatModel, read: Prefill, params: SamplingParams, max_tokens: int, seeds: Sequence[int]
) -> tuple[Sample, ...]:
    """Return a reply for each seed; the model reads for several of them together."""
    replies: list[list[Step]] = []
    for start in range(0, len(seeds), SIDE_BY_SIDE):
        together = seeds[start : start + SIDE_BY_SIDE]
        works = [
            steps_of(
                draw_tokens(model, prompt, params=params, max_tokens=max_tokens, seed=seed, keep=False), model=model
            )
            for prompt, seed in zip(copies(model, read, len(together)), together, strict=True)
        ]
        replies += drive_together(model, works)
    return tuple(
        Sample("".join(step.text for step in steps), tuple(step.token_id for step in steps)) for steps in replies
    )
