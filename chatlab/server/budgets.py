"""Budgets: how much each learner may use in a minute and in a day.

In: whose key asks, and the replies that are asked for, made and done. Out: leave to go on, or a refusal that says when
to try again. Knows nothing of HTTP but the headers in which hosted services tell what is left.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from chatlab.errors import RateLimitError
from chatlab.server.api_keys import KeyHolder
from chatlab.server.scheduler import Job
from chatlab.server.usage import Usage
from chatlab.streaming import ChatCompletionStream

__all__ = ["LIMIT_HEADERS", "Allowance", "Budgets", "duration"]

MINUTE = 60
LONGEST_RETRY = 120  # seconds; told to wait longer, the official client would try again at once
LIMIT_HEADERS = [
    f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
]
REFUSED = "rate_limit_exceeded"


@dataclass(frozen=True)
class Allowance:
    """One limit: how much it allows, how much of it is left, and in how many seconds all of it is there again."""

    per: str  # minute, day
    limit: int
    left: int
    seconds: float


class Budgets:
    """Counts what each learner uses, and refuses what goes beyond a budget.

    A minute begins with the first request in it (a fixed window). What a minute holds is forgotten when the server
    stops; a day is summed from the usage table, so it outlives a restart. The tokens of a reply are known when it has
    ended; until then its prompt counts, and what it asked for as its longest reply.
    """

    def __init__(self, usage: Usage) -> None:
        self.usage = usage
        self._minutes = FixedWindowRateLimiter(MemoryStorage())

    def count_request(self, holder: KeyHolder) -> None:
        """Count a request; raise `RateLimitError` when the minute has none left, and then do not count it."""
        limit = holder.budget.requests_per_minute
        if limit is None:
            return
        item = RateLimitItemPerMinute(limit)
        if not self._minutes.test(item, "requests", holder.name):
            allowance = self._in_minute("requests", limit, holder.name)
            seconds = max(1, math.ceil(allowance.seconds))
            raise RateLimitError(
                f"{holder.name} has asked {limit:,} times within a minute, which is the budget. Try again in "
                f"{duration(seconds)}.",
                code=REFUSED,
                headers=_retry_after(seconds),
            )
        self._minutes.hit(item, "requests", holder.name)

    def check_tokens(self, holder: KeyHolder, stream: ChatCompletionStream, under_way: Iterable[Job]) -> None:
        """Raise `RateLimitError` where a reply may need more tokens than are left, beside the same key's others."""
        prompt, reply = stream.prompt_tokens, _longest_reply(stream)
        for allowance in self.tokens(holder, under_way):
            if prompt + reply <= allowance.left:
                continue
            need = f"{prompt + reply:,} ({prompt:,} in the prompt, {reply:,} for the reply)"
            if prompt + reply > allowance.limit:
                raise RateLimitError(
                    f"This request may need {need} tokens, more than {holder.name}'s whole budget of "
                    f"{allowance.limit:,} a {allowance.per}. Shorten the messages, or ask for fewer max_tokens.",
                    code=REFUSED,
                    headers={"x-should-retry": "false"},
                )
            seconds = max(1, math.ceil(allowance.seconds))
            raise RateLimitError(
                f"{holder.name} has {allowance.left:,} tokens left of {allowance.limit:,} a {allowance.per}, and this "
                f"request may need {need}. Try again in {duration(seconds)}.",
                code=REFUSED,
                headers=_retry_after(seconds),
            )

    def charge(self, holder: KeyHolder, tokens: int) -> None:
        """Take the tokens that a reply has used from its minute; the usage table does so from the day."""
        if (limit := holder.budget.tokens_per_minute) is not None and tokens:
            self._minutes.hit(RateLimitItemPerMinute(limit), "tokens", holder.name, cost=tokens)

    def requests(self, holder: KeyHolder) -> Allowance | None:
        """Return how many requests are left in the minute; None where there is no limit."""
        limit = holder.budget.requests_per_minute
        return None if limit is None else self._in_minute("requests", limit, holder.name)

    def tokens(self, holder: KeyHolder, under_way: Iterable[Job]) -> list[Allowance]:
        """Return how many tokens are left in the minute and in the day, as far as those are limited."""
        reserved = sum(job.stream.prompt_tokens + _longest_reply(job.stream) for job in under_way)
        allowances = []
        if (limit := holder.budget.tokens_per_minute) is not None:
            minute = self._in_minute("tokens", limit, holder.name)
            # Tokens that are reserved now will count for a minute when they have been used.
            seconds = minute.seconds or (MINUTE if reserved else 0)
            allowances.append(Allowance("minute", limit, max(0, minute.left - reserved), seconds))
        if (limit := holder.budget.tokens_per_day) is not None:
            left = max(0, limit - self.usage.tokens_today(holder.name) - reserved)
            allowances.append(Allowance("day", limit, left, _seconds_to_midnight()))
        return allowances

    def headers(self, holder: KeyHolder, under_way: Iterable[Job]) -> dict[str, str]:
        """Return what is left, in the headers of hosted services; of two limits on tokens, the one with less left."""
        tokens = min(self.tokens(holder, under_way), key=lambda allowance: allowance.left, default=None)
        headers = {}
        for name, allowance in {"requests": self.requests(holder), "tokens": tokens}.items():
            if allowance is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(allowance.limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(allowance.left)
                headers[f"x-ratelimit-reset-{name}"] = duration(allowance.seconds)
        return headers

    def _in_minute(self, what: str, limit: int, name: str) -> Allowance:
        reset, left = self._minutes.get_window_stats(RateLimitItemPerMinute(limit), what, name)
        return Allowance("minute", limit, left, max(0.0, reset - time.time()) if left < limit else 0.0)


def duration(seconds: float) -> str:
    """Return a time as hosted services write it.

    >>> duration(0.12), duration(59.2), duration(360), duration(7325)
    ('120ms', '1m0s', '6m0s', '2h2m5s')
    """
    if 0 < seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    hours, rest = divmod(math.ceil(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _longest_reply(stream: ChatCompletionStream) -> int:
    """Return how many tokens a reply may still come to have; where it sets itself no limit, those it has."""
    longest = (stream.request.max_tokens or 1) * stream.request.n
    return max(longest, stream.completion_tokens)


def _retry_after(seconds: int) -> dict[str, str]:
    headers = {"Retry-After": str(seconds)}
    return headers if seconds <= LONGEST_RETRY else {**headers, "x-should-retry": "false"}


def _seconds_to_midnight() -> float:
    now = datetime.now()
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - now).total_seconds()
