"""Receipts: what comes back for a request over HTTP, line by line, and when.

In: the address of an endpoint and the body of a request. Out: a `Receipt` that grows as bytes arrive: the raw lines,
the text in them, the times. Knows nothing of models or widgets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

__all__ = ["Receipt", "receive"]


@dataclass
class Receipt:
    """What one request has brought so far: `lines` as they came, and what they say; times in seconds since sending.

    `state` is "open" until the answer is "complete", the connection "cut", or the request "failed" (`error` says how).

    >>> receipt = Receipt()
    >>> receipt.add('data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": null}]}')
    >>> receipt.text, receipt.usage
    ('Hi', None)
    """

    state: str = "open"
    lines: list[str] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    error: str | None = None
    seconds_to_text: float | None = None
    seconds: float | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def events(self) -> list[str]:
        """The lines that carry something: no empty ones, no comments."""
        return [line for line in self.lines if line and not line.startswith(":")]

    @property
    def elapsed(self) -> float:
        """How long it took, or has taken so far."""
        return time.monotonic() - self.started if self.seconds is None else self.seconds

    def add(self, line: str) -> None:
        """Take in one line of an answer: an event of a stream, or a whole answer."""
        self.lines.append(line)
        data = line.removeprefix("data: ")
        if not data or line.startswith(":") or data == "[DONE]":
            return
        body = json.loads(data)
        if "error" in body:
            self.error = str(body["error"].get("message"))
        for choice in body.get("choices", ()):
            self.text += choice.get("delta", choice.get("message", {})).get("content") or ""
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.usage = body.get("usage") or self.usage
        if self.text and self.seconds_to_text is None:
            self.seconds_to_text = self.elapsed

    def end(self, state: str) -> None:
        """Stop the clock."""
        self.state, self.seconds = state, self.elapsed


async def receive(client: httpx2.AsyncClient, url: str, body: Mapping[str, Any], receipt: Receipt) -> None:
    """Send a request and take in its answer as it comes; however that ends, the receipt says so.

    Cancelled, it cuts the connection: what has come stays.
    """
    state = "cut"
    try:
        async with client.stream("POST", url, json=body) as response:
            if body["stream"] and response.is_success:
                async for line in response.aiter_lines():
                    receipt.add(line)
            else:
                receipt.add((await response.aread()).decode())
        state = "failed" if receipt.error else "complete"
    except (httpx2.HTTPError, ValueError) as error:
        receipt.error = f"{type(error).__name__}: {error}"
        state = "failed"
    finally:
        receipt.end(state)
