"""Exchange: what a server sends for a streamed request, and what the official client makes of such bytes.

In: nothing, or the bytes of a stream. Out: the bytes, and what the client read in them. Knows nothing of questions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import httpx2
import openai

from chatlab.chat_model import PREFILL_CHUNK
from chatlab.messages import user
from chatlab.server.running import serve
from chatlab.testing import ScriptedModel

__all__ = ["REPLY", "USAGE", "Exchange", "events_in", "exchange", "read_by_official_client", "text_in"]

REPLY = "A party 🎉, a café."
USAGE = {"include_usage": True}
ASKED = [user("Tell me more. " * (PREFILL_CHUNK // 10))]  # long enough that the server comments on how far it has read


@dataclass(frozen=True)
class Exchange:
    """A stream's content type and its bytes `raw`, and `cut`, the bytes up to the middle of its text.

    Of another stream, on which the client hung up: how many replies the server was still making soon after, and the
    status that it answers when asked for the stream's id.
    """

    content_type: str
    raw: bytes
    cut: bytes
    still_at_work: int
    status_by_id: int


@lru_cache(maxsize=1)
def exchange() -> Exchange:
    """Have a streamed exchange with a server that replies `REPLY`, and one that is broken off.

    >>> exchange().content_type, exchange().status_by_id
    ('text/event-stream; charset=utf-8', 404)
    """
    model = ScriptedModel(REPLY)
    body = {"model": model.name, "messages": ASKED, "stream": True, "stream_options": USAGE}
    with serve(model) as server, httpx2.Client(base_url=server.base_url, trust_env=False) as client:
        with client.stream("POST", "chat/completions", json=body) as response:
            content_type, raw = response.headers["content-type"], b"".join(response.iter_raw())
        model.seconds_per_token = 0.05
        with client.stream("POST", "chat/completions", json=body) as response:
            lines = (line for line in response.iter_lines() if line.startswith("data: "))
            broken = json.loads(next(lines).removeprefix("data: "))["id"]
        deadline = time.monotonic() + 5
        while at_work := client.get(f"{server.url}/health").json()["running"]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        by_id = client.get(f"chat/completions/{broken}").status_code
    return Exchange(content_type, raw, raw[: raw.index(b'"c"')], at_work, by_id)


def events_in(raw: bytes) -> list[dict[str, Any]]:
    """Return the chunks in the bytes of a stream; raises `ValueError` for an event that is no JSON."""
    data = [line.removeprefix("data: ") for line in raw.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def text_in(chunks: Sequence[dict[str, Any]]) -> str:
    """Return the text that the chunks add up to."""
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def read_by_official_client(raw: bytes) -> tuple[str, list[str], int]:
    """Let the official client read the bytes; return the text, the finish reasons, and how often it asked.

    >>> read_by_official_client(exchange().cut)
    ('A party 🎉, a ', [], 1)
    """
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw)

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(base_url="http://chatlab.local/v1", api_key="none", http_client=transport)
    chunks = list(client.chat.completions.create(model="any", messages=[{"role": "user", "content": "?"}], stream=True))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    text = "".join(choice.delta.content or "" for choice in choices)
    return text, [choice.finish_reason for choice in choices if choice.finish_reason], len(asked)
