"""Room: everyone who has a key to one server, what they may use, and how busy it is.

In: a key file, and the replies that are asked for, made and done. Out: leave or refusal, the table of what was used,
and a page that shows a teacher all of it. Knows nothing of how a request arrives.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from chatlab.server.api_keys import KeyFile, KeyHolder
from chatlab.server.budgets import Budgets
from chatlab.server.scheduler import Job, Scheduler
from chatlab.server.usage import Row, Usage, usage_path
from chatlab.streaming import ChatCompletionStream

__all__ = ["PAGE_HEADERS", "Room"]

# What stands in the page is its own; nothing is fetched from elsewhere, and no other page may show it in a frame.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Room:
    """The keys of a file, their budgets and their usage, for as long as one server lives.

    Who has a key of no file (`--api-key`) has no budget; that such a key was used stands in the table too. Raises
    `KeyFileError` where the file is none.
    """

    def __init__(self, key_file: Path, model_name: str) -> None:
        self.keys = KeyFile(key_file)
        self.keys.holders()  # a file that is none is told now, not to the first learner
        self.usage = Usage(usage_path(key_file))
        self.budgets = Budgets(self.usage)
        self._model_name = model_name
        self._since = datetime.now()
        self._last_asked: dict[str, float] = {}
        self._scheduler: Scheduler | None = None
        templates = Environment(loader=PackageLoader("chatlab.server", "."), autoescape=True, undefined=StrictUndefined)
        self._template = templates.get_template("room.html")

    def watch(self, scheduler: Scheduler) -> None:
        """Look at what this scheduler has under way."""
        self._scheduler = scheduler

    def count_request(self, holder: KeyHolder | None) -> None:
        """Count a request; raise `RateLimitError` when there are too many in a minute."""
        if holder:
            self._last_asked[holder.name] = time.monotonic()
            self.budgets.count_request(holder)

    def check_tokens(self, holder: KeyHolder | None, stream: ChatCompletionStream) -> None:
        """Raise `RateLimitError` where a reply may need more tokens than are left."""
        if holder:
            self.budgets.check_tokens(holder, stream, self._under_way(holder.name))

    def count_refusal(self, client: str) -> None:
        """Note that a request was refused for being too much."""
        self.usage.add(client, refused=1)

    def charge(self, job: Job) -> None:
        """Note what a reply has used, complete or not."""
        stream = job.stream
        self.usage.add(
            job.client,
            requests=1,
            prompt_tokens=stream.tokens_read,
            cached_tokens=stream.cached_tokens,
            completion_tokens=stream.completion_tokens,
            seconds=job.seconds,
        )
        if holder := self.keys.current().get(job.client):
            self.budgets.charge(holder, stream.tokens_read + stream.completion_tokens)

    def headers(self, holder: KeyHolder | None) -> dict[str, str]:
        """Return what is left of a budget, as headers."""
        return self.budgets.headers(holder, self._under_way(holder.name)) if holder else {}

    def page(self) -> str:
        """Return the page that shows how busy the room is, as HTML: nothing in it says what anybody wrote."""
        jobs = self._under_way()
        used = {row["name"]: row for row in self.usage.rows(today=True)}
        learners = [self._learner(holder, jobs, used) for holder in self.keys.current().values()]
        # Who is at work stands first.
        learners.sort(key=lambda learner: (-learner["running"] - learner["waiting"], learner["name"].lower()))
        running = [job for job in jobs if job.begun]
        return self._template.render(
            model=self._model_name,
            now=datetime.now(),
            since=self._since,
            running=len(running),
            waiting=len(jobs) - len(running),
            active=sum(learner["active"] for learner in learners),
            pace=sum(map(_pace, running)),
            tokens=sum(map(_tokens, used.values())),
            learners=learners,
        )

    def _learner(self, holder: KeyHolder, jobs: Sequence[Job], used: Mapping[str, Row]) -> dict[str, Any]:
        own = [job for job in jobs if job.client == holder.name]
        running = [job for job in own if job.begun]
        today = used.get(holder.name, {})
        asked = self._last_asked.get(holder.name)
        ago = None if asked is None else time.monotonic() - asked
        allowances = {allowance.per: allowance for allowance in self.budgets.tokens(holder, own)}
        return {
            "name": holder.name,
            "teacher": holder.teacher,
            "running": len(running),
            "waiting": len(own) - len(running),
            "active": bool(own) or (ago is not None and ago < 60),
            "ago": ago,
            "pace": sum(map(_pace, running)),
            "requests": today.get("requests", 0),
            "refused": today.get("refused", 0),
            "tokens": _tokens(today),
            "allowances": [self.budgets.requests(holder), allowances.get("minute"), allowances.get("day")],
        }

    def _under_way(self, client: str | None = None) -> list[Job]:
        return self._scheduler.under_way(client) if self._scheduler else []


def _tokens(row: Row) -> int:
    return int(row.get("prompt_tokens", 0)) + int(row.get("completion_tokens", 0))


def _pace(job: Job) -> float:
    """Return how many tokens a second a reply is being made at."""
    if job.seconds_to_first_token is None:
        return 0.0
    return job.stream.completion_tokens / max(job.seconds - job.seconds_to_first_token, 0.1)
