"""Sampling: from logits to one token, each step a pure function.

In: logits, a float tensor [vocab_size], and settings. Out: changed logits, probabilities, a token id. The order is
that of Transformers' `generate`: bias and penalties, a constraint, then temperature, top-k, top-p, min-p. Randomness is
an argument. Knows nothing of text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from chatlab.checks import check_integer, check_logit_bias, check_number

__all__ = [
    "SamplingParams",
    "apply_logit_bias",
    "apply_min_p",
    "apply_presence_and_frequency_penalty",
    "apply_repetition_penalty",
    "apply_temperature",
    "apply_top_k",
    "apply_top_p",
    "entropy",
    "process_logits",
    "sample",
    "sample_many",
    "sampling_steps",
]

GREEDY_BELOW = 1e-6
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 10),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
MASKED = float("-inf")  # the logit of a token that may not be drawn: its probability is 0


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen; checks itself and raises `BadRequestError` with the range and the value received.

    temperature 0–2 (0: always the likeliest token), top_p 0–1, presence_penalty and frequency_penalty −2…2 and
    logit_bias (token id → −100…100) are OpenAI's; top_k (0: off), min_p 0–1 and repetition_penalty (1: off) are
    common extras that OpenAI lacks.

    >>> SamplingParams(temperature=3)
    Traceback (most recent call last):
    chatlab.errors.BadRequestError: temperature must be between 0 and 2, but is 3.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked: dict[str, object] = {
            name: check_number(name, getattr(self, name), *limits) for name, limits in RANGES.items()
        }
        checked["top_k"] = check_integer("top_k", self.top_k, minimum=0)
        checked["logit_bias"] = check_logit_bias("logit_bias", self.logit_bias)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken: at temperature 0, or so near it that dividing would overflow."""
        return self.temperature < GREEDY_BELOW


def apply_logit_bias(logits: Tensor, logit_bias: Mapping[int, float]) -> Tensor:
    """Add each token's bias to its logit: −100 all but bans a token, 100 all but forces it.

    >>> apply_logit_bias(torch.tensor([1.0, 2.0, 3.0]), {2: -100}).tolist()
    [1.0, 2.0, -97.0]
    """
    if not logit_bias:
        return logits
    biased = logits.clone()  # [vocab_size]
    biased[list(logit_bias)] += torch.tensor(list(logit_bias.values()), dtype=logits.dtype)
    return biased


def apply_repetition_penalty(logits: Tensor, token_ids: Sequence[int], penalty: float) -> Tensor:
    """Divide the positive logits of the tokens seen so far (prompt and reply) by the penalty, multiply the negative.

    From "CTRL: A Conditional Transformer Language Model" (Keskar et al., 2019).

    >>> apply_repetition_penalty(torch.tensor([1.0, -2.0, 3.0]), [0, 1], 2.0).tolist()
    [0.5, -4.0, 3.0]
    """
    if penalty == 1.0 or not token_ids:
        return logits
    seen = torch.tensor(sorted(set(token_ids)))
    scores = logits[seen]
    penalised = logits.clone()  # [vocab_size]
    penalised[seen] = torch.where(scores < 0, scores * penalty, scores / penalty)
    return penalised


def apply_presence_and_frequency_penalty(
    logits: Tensor, reply_ids: Sequence[int], presence_penalty: float, frequency_penalty: float
) -> Tensor:
    """Subtract from each token of the reply so far: presence once, frequency once per occurrence.

    OpenAI's formula; the prompt's tokens do not count.

    >>> apply_presence_and_frequency_penalty(torch.zeros(3), [1, 1, 2], 0.5, 1.0).tolist()
    [0.0, -2.5, -1.5]
    """
    if not reply_ids or (presence_penalty == 0 and frequency_penalty == 0):
        return logits
    counts = Counter(reply_ids)
    ids = list(counts)
    penalised = logits.clone()  # [vocab_size]
    occurrences = torch.tensor([float(counts[token_id]) for token_id in ids], dtype=logits.dtype)
    penalised[ids] -= presence_penalty + frequency_penalty * occurrences
    return penalised


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide the logits by the temperature: below 1 the favourites gain, above 1 the outsiders do.

    At temperature 0, which nothing can be divided by, the likeliest token alone stays: what ever lower ones tend to.

    >>> apply_temperature(torch.tensor([1.0, 2.0]), 0.5).tolist()
    [2.0, 4.0]
    >>> apply_temperature(torch.tensor([1.0, 2.0]), 0).tolist()
    [-inf, 2.0]
    """
    if temperature < GREEDY_BELOW:
        likeliest = logits.argmax()
        return torch.full_like(logits, MASKED).index_copy(0, likeliest.reshape(1), logits[likeliest].reshape(1))
    return logits if temperature == 1.0 else logits / temperature


def apply_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Keep the k highest logits (and any equal to the last of them), mask the rest; 0 keeps all.

    >>> apply_top_k(torch.tensor([1.0, 2.0, 3.0]), 2).tolist()
    [-inf, 2.0, 3.0]
    """
    if top_k == 0 or top_k >= len(logits):
        return logits
    kth_highest = torch.topk(logits, top_k).values[-1]
    return logits.masked_fill(logits < kth_highest, MASKED)


def apply_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Keep the fewest tokens whose probabilities reach top_p together, mask the rest; at least one stays.

    From "The Curious Case of Neural Text Degeneration" (Holtzman et al., 2020).

    >>> apply_top_p(torch.log(torch.tensor([0.5, 0.3, 0.2])), 0.7).exp().isclose(torch.tensor([0.5, 0.3, 0.0])).all()
    tensor(True)
    """
    if top_p == 1.0:
        return logits
    ascending, order = torch.sort(logits)  # both [vocab_size]
    cumulated = ascending.softmax(dim=-1).cumsum(dim=-1)  # [vocab_size]
    outside = cumulated <= 1 - top_p
    outside[-1] = False
    return logits.masked_fill(torch.zeros_like(outside).scatter(0, order, outside), MASKED)


def apply_min_p(logits: Tensor, min_p: float) -> Tensor:
    """Mask the tokens less probable than min_p times the likeliest one.

    From "Turning Up the Heat: Min-p Sampling" (Nguyen et al., 2024).

    >>> apply_min_p(torch.log(torch.tensor([0.5, 0.4, 0.1])), 0.5).exp().isclose(torch.tensor([0.5, 0.4, 0.0])).all()
    tensor(True)
    """
    if min_p == 0.0:
        return logits
    probabilities = logits.softmax(dim=-1)  # [vocab_size]
    return logits.masked_fill(probabilities < min_p * probabilities.max(), MASKED)


def sampling_steps(
    logits: Tensor,
    params: SamplingParams,
    *,
    prompt_ids: Sequence[int] = (),
    reply_ids: Sequence[int] = (),
    constraint: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of each setting and the logits [vocab_size] after it, in the order in which they apply.

    A setting that is off yields what it was given. At temperature 0 there is nothing left to cut after it. A
    `constraint` masks the tokens that may not come next, whatever bias and penalties did to them.

    >>> steps = sampling_steps(torch.tensor([1.0, 2.0, 3.0]), SamplingParams(temperature=0.5, top_k=2))
    >>> [(name, logits.tolist()) for name, logits in steps if name in ("temperature", "top_k")]
    [('temperature', [2.0, 4.0, 6.0]), ('top_k', [-inf, 4.0, 6.0])]
    """
    logits = apply_logit_bias(logits, params.logit_bias)
    yield "logit_bias", logits
    logits = apply_repetition_penalty(logits, [*prompt_ids, *reply_ids], params.repetition_penalty)
    yield "repetition_penalty", logits
    logits = apply_presence_and_frequency_penalty(logits, reply_ids, params.presence_penalty, params.frequency_penalty)
    yield "presence_and_frequency_penalty", logits
    if constraint is not None:
        logits = constraint(logits)
        yield "constraint", logits
    logits = apply_temperature(logits, params.temperature)
    yield "temperature", logits
    if params.greedy:
        return
    logits = apply_top_k(logits, params.top_k)
    yield "top_k", logits
    logits = apply_top_p(logits, params.top_p)
    yield "top_p", logits
    yield "min_p", apply_min_p(logits, params.min_p)


def process_logits(
    logits: Tensor,
    params: SamplingParams,
    *,
    prompt_ids: Sequence[int] = (),
    reply_ids: Sequence[int] = (),
    constraint: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Apply every setting in order and return the logits [vocab_size] to draw from: the last of `sampling_steps`."""
    for _name, changed in sampling_steps(
        logits, params, prompt_ids=prompt_ids, reply_ids=reply_ids, constraint=constraint
    ):
        logits = changed
    return logits


def entropy(probabilities: Tensor, log_probabilities: Tensor | None = None) -> float:
    """Return how uncertain a choice by these probabilities [vocab_size] is, in bits: 0 for a sure one, 1 for a coin.

    2 to the power of it is how many equally likely tokens would be as uncertain. Natural logarithms that are known
    already need not be taken again. From "A Mathematical Theory of Communication" (Shannon, 1948).

    >>> entropy(torch.tensor([0.5, 0.5, 0.0])), entropy(torch.tensor([1.0, 0.0, 0.0]))
    (1.0, 0.0)
    """
    logs = probabilities.log() if log_probabilities is None else log_probabilities
    terms = probabilities * logs.clamp(min=-1000)  # an impossible token, infinitely surprising 0 times, counts as 0
    # PyTorch would share the sum out among threads, whose number shows in the last bit; NumPy has only one.
    nats = -terms.numpy(force=True).sum()
    return float(nats / nats.dtype.type(math.log(2))) + 0.0  # adding 0 turns −0 into 0


def sample(logits: Tensor, *, temperature: float, random_number: float) -> int:
    """Return the id of the next token: the likeliest at temperature 0, else drawn by probability.

    Drawing walks along the probabilities, added up one after another, until it has passed `random_number` (0 ≤ it < 1),
    so the same number always gives the same token.

    >>> logits = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    >>> [sample(logits, temperature=1, random_number=u) for u in (0.0, 0.49, 0.51, 0.79, 0.99)]
    [0, 0, 1, 1, 2]
    >>> sample(logits, temperature=0, random_number=0.99)
    0
    """
    return sample_many(logits, temperature=temperature, random_numbers=[random_number])[0]


def sample_many(logits: Tensor, *, temperature: float, random_numbers: Sequence[float]) -> list[int]:
    """Return a token id for each random number, drawn as `sample` does; the probabilities are added up only once.

    >>> sample_many(torch.log(torch.tensor([0.5, 0.3, 0.2])), temperature=1, random_numbers=[0.99, 0.0, 0.51])
    [2, 0, 1]
    """
    if temperature < GREEDY_BELOW:
        return [int(logits.argmax())] * len(random_numbers)
    cumulated = logits.softmax(dim=-1).double().cumsum_(dim=-1).numpy(force=True)  # [vocab_size]
    # Rounding may leave the last sum a hair off 1; scaling by it keeps the walk inside the drawable tokens.
    points = np.asarray(random_numbers) * cumulated[-1]  # [numbers]
    token_ids: list[int] = np.searchsorted(cumulated, points, side="right").clip(max=len(logits) - 1).tolist()
    return token_ids
