"""Draws: tokens drawn from a prediction, beside what its probabilities let expect.

In: a prediction, a seed, how many tokens to draw. Out: `Draws`, the counts as a table with bars, and how close they
come to the probabilities. Knows nothing of how the model made them.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

from chatlab.checks import check_integer
from chatlab.display import bar_cell, count_of, escape, table_text, view
from chatlab.prediction import Prediction, Row
from chatlab.steps import percent

__all__ = ["Draws", "total_variation", "total_variation_by_chance"]

MUCH = 1.5  # times the difference that chance makes on the average


class Draws:
    """Tokens drawn from a prediction as generation draws them: the first is the first of a reply with that seed.

    `counts` says how often each token id was drawn, `last` is the one drawn last, or None.

    >>> from chatlab.prediction import next_token
    >>> from chatlab.testing import ScriptedModel
    >>> draws = Draws(next_token("Hi", model=ScriptedModel("Hello"), top=1), seed=1)
    >>> draws.draw(100)
    >>> draws
    token       model    after    drawn          expected
    H           100.0 %  100.0 %  100 (100.0 %)  100.0
    257 others    0.0 %    0.0 %  0 (0.0 %)      0.0
    100 draws: their shares differ from the probabilities by 0.0 % (total variation distance). Chance alone makes \
about 0.0 % with so many draws: as close as one can expect.
    """

    def __init__(self, prediction: Prediction, *, seed: int = 0) -> None:
        self.prediction = prediction
        self.seed = check_integer("seed", seed, minimum=-(2**63))
        self.counts: Counter[int] = Counter()
        self.last: int | None = None
        self._dice = random.Random(self.seed % 2**64)  # Random(-1) would be Random(1)

    def draw(self, number: int = 1) -> None:
        """Draw so many tokens more, each with the next throw of the dice."""
        check_integer("number", number, minimum=1)
        token_ids = self.prediction.draw([self._dice.random() for _ in range(number)])
        self.counts.update(token_ids)
        self.last = token_ids[-1]

    @property
    def number(self) -> int:
        """How many tokens were drawn."""
        return self.counts.total()

    @property
    def expected(self) -> list[float]:
        """The probability of each row's token after the settings, and of all others together; they add up to 1."""
        shown = [row.probabilities[-1] for row in self.prediction.rows]
        return [*shown, max(0.0, 1 - sum(shown))]

    @property
    def shares(self) -> list[float]:
        """The share of the draws that fell on each row's token, and on all others; zeros before the first draw."""
        shown = [self.counts[row.token_id] for row in self.prediction.rows]
        return [count / max(1, self.number) for count in [*shown, self.number - sum(shown)]]

    @property
    def distance(self) -> float:
        """How far the shares are from what was expected: the total variation distance over the rows, 0–1."""
        return total_variation(self.shares, self.expected)

    @property
    def distance_by_chance(self) -> float:
        """The distance that so many draws have on the average."""
        return total_variation_by_chance(self.expected, self.number)

    def in_words(self) -> str:
        """Say how close the draws come to the probabilities."""
        if not self.number:
            return "Nothing drawn yet."
        distance, chance = self.distance, self.distance_by_chance
        verdict = (
            "further off than chance usually is" if distance > MUCH * chance + 0.001 else "as close as one can expect"
        )
        return (
            f"{count_of(self.number, 'draw')}: their shares differ from the probabilities by {_percent(distance)} "
            f"(total variation distance). Chance alone makes about {_percent(chance)} with so many draws: "
            f"{verdict}."
        )

    def uncertainty(self) -> str:
        """Say how open the choice is before and after the settings."""
        before, after = self.prediction.before, self.prediction.after
        told = [
            f"{when}: {stage.entropy:.2f} bits of entropy, as open as a choice among {stage.effective_choices:,.1f} "
            "equally likely tokens"
            for when, stage in (("Before", before), ("After", after))
        ]
        return f"{told[0]}. {told[1]}; {after.tokens_left:,} of {len(after.logits):,} tokens may be drawn."

    def __repr__(self) -> str:
        columns = 5 if self.number else 3
        head = ["token", "model", "after", "drawn", "expected"][:columns]
        return f"{table_text(head, [cells[:columns] for cells in self._cells()])}\n{self.in_words()}"

    def table_html(self) -> str:
        """Return the bars, before and after the settings, and the draws beside them; without a frame."""
        settings = ", ".join(stage.name for stage in self.prediction.stages[1:]) or "the settings (they change nothing)"
        heads = ["token", "the model's own", f"after {settings}", *(["drawn", "expected"] if self.number else [])]
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
        body = ""
        for cells, before, after, share in zip(self._cells(), self._before(), self.expected, self.shares, strict=True):
            drawn = bar_cell(share, cells[3]) + f"<td>{cells[4]}</td>" if self.number else ""
            bars = bar_cell(before, cells[1]) + bar_cell(after, cells[2])
            body += f'<tr><th scope="row"><code>{escape(cells[0])}</code></th>{bars}{drawn}</tr>'
        return (
            '<div role="region" aria-label="Next tokens" tabindex="0" style="overflow-x: auto">'
            f'<table class="chatlab-table chatlab-bars chatlab-draws">'
            f"<caption>{escape(self.prediction.title)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
            f'<div class="chatlab-note">{escape(self.uncertainty())}</div>'
            f'<div class="chatlab-note">{escape(self.in_words())}</div>'
        )

    def _repr_html_(self) -> str:
        return view(self.table_html())

    def _before(self) -> list[float]:
        shown = [row.probabilities[0] for row in self.prediction.rows]
        return [*shown, max(0.0, 1 - sum(shown))]

    def _cells(self) -> list[list[str]]:
        """Return each row in words: token, before, after, drawn, expected."""
        names = [row.token for row in self.prediction.rows]
        after = [self._after(row) for row in self.prediction.rows]
        others = len(self.prediction.after.logits) - len(names)
        left = self.prediction.after.tokens_left - sum(row.probabilities[-1] > 0 for row in self.prediction.rows)
        return [
            [
                name,
                percent(before),
                said or percent(expected),
                f"{round(share * self.number)} ({_percent(share)})",
                f"{expected * self.number:,.1f}",
            ]
            for name, before, said, expected, share in zip(
                [*names, f"{others:,} others"],
                self._before(),
                [*after, "" if left else "✕ all ruled out"],
                self.expected,
                self.shares,
                strict=True,
            )
        ]

    def _after(self, row: Row) -> str:
        """Say which setting has ruled a token out; nothing where it may be drawn."""
        for stage in self.prediction.stages:
            if stage.logits[row.token_id] == float("-inf"):
                return f"✕ ruled out by {stage.name}"
        return ""


def total_variation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the total variation distance of two distributions: how much of one must move to make it the other, 0–1.

    >>> total_variation([0.5, 0.5], [0.75, 0.25])
    0.25
    """
    return sum(abs(one - other) for one, other in zip(first, second, strict=True)) / 2


def total_variation_by_chance(probabilities: Sequence[float], draws: int) -> float:
    """Return the distance that the shares of so many draws have from the probabilities on the average.

    The mean deviation of a binomial count, found by de Moivre (1730), for each probability.

    >>> total_variation_by_chance([0.5, 0.5], 1), round(total_variation_by_chance([0.5, 0.5], 100), 4)
    (0.5, 0.0398)
    """
    return sum(_mean_deviation(each, draws) for each in probabilities) / 2


def _mean_deviation(probability: float, draws: int) -> float:
    """Return the mean of |count / draws − probability|, where the count is binomial."""
    if not 0 < probability < 1 or draws < 1:
        return 0.0
    above = math.floor(draws * probability) + 1  # the least count over the mean
    if above > draws:
        return 0.0
    logarithm = (
        math.lgamma(draws + 1)
        - math.lgamma(above + 1)
        - math.lgamma(draws - above + 1)
        + above * math.log(probability)
        + (draws - above + 1) * math.log1p(-probability)
    )
    return 2 * above * math.exp(logarithm) / draws


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
