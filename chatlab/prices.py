"""Prices: what a number of tokens would cost at a hosted service.

In: counts of tokens and a price table that the caller gives; chatlab knows no prices, as they change. Out: an
estimate. Knows nothing of models or tokenizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatlab.checks import check_integer, check_number, kind_of
from chatlab.errors import BadRequestError

__all__ = ["Cost", "Prices", "cost"]

PER = 1_000_000
HIGHEST = 1e9


@dataclass(frozen=True)
class Prices:
    """Prices per million tokens: of the prompt, of the reply, and of the part of the prompt that was cached.

    `cached` None means that a cached prompt costs as much as another.
    """

    prompt: float
    completion: float
    cached: float | None = None
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "cached"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_number(name, getattr(self, name), 0, HIGHEST))


@dataclass(frozen=True)
class Cost:
    """An estimate, in `currency`: what the prompt costs, its cached part, and the completion."""

    prompt: float
    cached: float
    completion: float
    currency: str

    @property
    def total(self) -> float:
        """All of it."""
        return self.prompt + self.cached + self.completion

    def __float__(self) -> float:
        return self.total

    def __repr__(self) -> str:
        cached = f" + cached {self.cached:.6f}" if self.cached else ""
        parts = f"prompt {self.prompt:.6f}{cached} + completion {self.completion:.6f}"
        return f"about {self.total:.6f} {self.currency} ({parts})"


def cost(usage: Any, prices: Prices) -> Cost:
    """Return what a completion would cost.

    `usage` is a completion, its `usage`, or a dict of counts named as in one: `prompt_tokens`, and where there are
    any `completion_tokens` and `cached_tokens` (which are part of the prompt's). Raises `BadRequestError` for
    anything else.

    >>> cost({"prompt_tokens": 1000, "completion_tokens": 500}, Prices(prompt=2.5, completion=10))
    about 0.007500 USD (prompt 0.002500 + completion 0.005000)
    """
    counts = _counts(usage)
    prompt, completion = (_count(counts, name) for name in ("prompt_tokens", "completion_tokens"))
    cached = _count(counts, "cached_tokens", maximum=prompt)
    of_cached = prices.prompt if prices.cached is None else prices.cached
    return Cost(
        prompt=(prompt - cached) * prices.prompt / PER,
        cached=cached * of_cached / PER,
        completion=completion * prices.completion / PER,
        currency=prices.currency,
    )


def _counts(usage: Any) -> Mapping[str, Any]:
    usage = getattr(usage, "usage", None) or usage
    counts = usage.model_dump() if hasattr(usage, "model_dump") else usage
    if not isinstance(counts, Mapping) or "prompt_tokens" not in counts:
        raise BadRequestError(
            "usage must be a completion, its usage, or a dict such as {'prompt_tokens': 12, 'completion_tokens': 34}, "
            f"not {kind_of(usage)}.",
            param="usage",
            code="invalid_type",
        )
    details = counts.get("prompt_tokens_details") or {}
    return {"cached_tokens": details.get("cached_tokens"), **counts}


def _count(counts: Mapping[str, Any], name: str, *, maximum: int | None = None) -> int:
    return check_integer(name, counts.get(name) or 0, minimum=0, maximum=maximum)
