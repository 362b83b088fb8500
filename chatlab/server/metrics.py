"""Metrics: what a server has done and is doing, in numbers.

In: each request that was answered, each reply that was made. Out: Prometheus' text format. Knows nothing of what was
said.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from chatlab.server.scheduler import Job, Scheduler

__all__ = ["Metrics"]

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The counters of one server; each server has its own, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("chatlab_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self._tokens = Counter("chatlab_tokens", "Tokens read and made.", ["kind"], registry=self.registry)
        self._first_token = Histogram(
            "chatlab_time_to_first_token_seconds",
            "From the request to the first token of its reply.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._duration = Histogram(
            "chatlab_reply_seconds",
            "From the request to the end of its reply.",
            buckets=SECONDS,
            registry=self.registry,
        )

    def watch(self, scheduler: Scheduler) -> None:
        """Tell from now on how many replies the scheduler makes, and how many wait."""
        running = Gauge("chatlab_replies_running", "Replies being made.", registry=self.registry)
        waiting = Gauge("chatlab_replies_waiting", "Requests that wait for their turn.", registry=self.registry)
        running.set_function(lambda: scheduler.running)
        waiting.set_function(lambda: scheduler.waiting)

    def count_request(self, path: str, status: int) -> None:
        """Count one answer; `path` is a route's, not a caller's, of which there is no end."""
        self._requests.labels(path, str(status)).inc()

    def count_reply(self, job: Job) -> None:
        """Count one reply that has ended, complete or not."""
        self._tokens.labels("prompt").inc(job.stream.tokens_read)
        self._tokens.labels("completion").inc(job.stream.completion_tokens)
        self._duration.observe(job.seconds)
        if job.seconds_to_first_token is not None:
            self._first_token.observe(job.seconds_to_first_token)

    def text(self) -> bytes:
        """Return all numbers in Prometheus' text format."""
        return generate_latest(self.registry)
