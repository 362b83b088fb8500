"""Chat progress: how a reply came along.

In: the chunks of a reply. Out: a line that says how many tokens they were, how fast they came and how it ended. Knows
nothing of widgets.
"""

from __future__ import annotations

import time

from openai.types.chat import ChatCompletionChunk

from chatlab.display import count_of

__all__ = ["Progress"]


class Progress:
    """What the chunks of a reply have told so far: how many had text, how fast they came, how it ended."""

    def __init__(self) -> None:
        self.pieces = 0
        self.finish_reason: str | None = None
        self._started = time.perf_counter()
        self._first: float | None = None
        self._tokens: int | None = None

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Take in the next chunk."""
        self._tokens = chunk.usage.completion_tokens if chunk.usage else self._tokens
        for choice in chunk.choices:
            self.pieces += bool(choice.delta.content)
            self.finish_reason = choice.finish_reason or self.finish_reason
        if self.pieces and self._first is None:
            self._first = time.perf_counter() - self._started

    def in_words(self) -> str:
        """Return it as a line for people."""
        if self.finish_reason is None:
            return f"stopped after {count_of(self.pieces, 'piece')} of text"
        parts = ["cut off: the token limit is reached" if self.finish_reason == "length" else "done"]
        if self._tokens is not None:  # not every server counts
            seconds = time.perf_counter() - self._started
            parts += [count_of(self._tokens, "token"), f"{self._tokens / seconds:.1f} tokens a second"]
        if self._first is not None:
            parts.append(f"first text after {self._first:.2f} s")
        return " · ".join(parts)
