"""Fitted: messages that fit, and the account of how they came to.

In: what a strategy kept and dropped, with the counts. Out: a list of messages that shows its budget as text and as a
bar. Knows nothing of models or of how anything was counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from chatlab.display import count_of, escape, transcript_html, view
from chatlab.messages import Message

__all__ = ["Dropped", "Fitted"]


@dataclass(frozen=True)
class Dropped:
    """A message that went: its index in the history, the message itself, and the reason."""

    index: int
    message: Message
    reason: str


class Fitted(list[Message]):
    """A list of messages that fit into a limit, to be sent as any list of messages is.

    `dropped` says what went and why; `tokens_before` and `tokens_after` are the tokens of the prompt with and without
    it, `token_limit` the limit that `tokens_after` and `reserve` keep to together. `summary` is what stands in for
    the dropped messages, or None. `estimated_with` names the encoding that the tokens were estimated with, or is None
    where they are exact.

    >>> fitted = Fitted([], dropped=(), tokens_before=40, tokens_after=40, token_limit=100, reserve=25)
    >>> fitted.free
    35
    """

    def __init__(
        self,
        messages: Iterable[Message],
        *,
        dropped: Sequence[Dropped],
        tokens_before: int,
        tokens_after: int,
        token_limit: int,
        reserve: int,
        summary: str | None = None,
        estimated_with: str | None = None,
    ) -> None:
        super().__init__(messages)
        self.dropped = tuple(dropped)
        self.tokens_before = tokens_before
        self.tokens_after = tokens_after
        self.token_limit = token_limit
        self.reserve = reserve
        self.summary = summary
        self.estimated_with = estimated_with

    @property
    def free(self) -> int:
        """How many tokens neither the prompt nor the reserve takes."""
        return self.token_limit - self.reserve - self.tokens_after

    @property
    def turns_sent(self) -> str:
        """How many of the turns are sent, such as "4 of 13"; the question that is asked now is a turn too."""
        kept = sum(message["role"] == "user" for message in self) - (self.summary is not None)
        return f"{kept} of {kept + sum(each.message['role'] == 'user' for each in self.dropped)}"

    def turns_in_words(self) -> str:
        """Say how many of the turns are sent, and what became of the first."""
        if not self.dropped:
            first = "nothing has to go"
        else:
            first = "the first is not among them" + (", a summary is" if self.summary is not None else "")
        return f"{self.turns_sent} turns are sent: {first}."

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (list(self), dict(vars(self)))

    def __repr__(self) -> str:
        lines = [f"Fitted: {self._in_words()}"]
        if self.summary is not None:
            lines.append(f"  summary {self.summary!r}")
        lines += [f"  dropped {_said(each)}" for each in self.dropped]
        return "\n".join(lines)

    def bar_html(self) -> str:
        """Return the budget as a bar of words and widths, with a sentence below."""
        parts = [("kept", self.tokens_after), ("reserved", self.reserve), ("free", self.free)]
        segments = "".join(
            f'<span class="chatlab-budget-{name}" style="flex: {tokens} 0 auto">{name} {tokens}</span>'
            for name, tokens in parts
            if tokens
        )
        words = escape(self._in_words())
        bar = f'<div class="chatlab-budget" role="img" aria-label="{words}">{segments}</div>'
        return f'{bar}<div class="chatlab-note">{words}</div>'

    def history_html(self, history: Sequence[Message], tokens: Sequence[int]) -> str:
        """Return the whole history as a table, without a frame: what is not sent is struck through and says so.

        `history` are the messages that were fitted, `tokens` how many each of them takes. A summary stands above what
        it takes the place of.
        """
        gone = {each.index for each in self.dropped}
        rows = [
            (str(message["role"]), str(message["content"]), f"{count:,}", index not in gone)
            for index, (message, count) in enumerate(zip(history, tokens, strict=True))
        ]
        if self.summary is not None:
            rows.insert(min(gone), ("summary", self.summary, "", True))
        body = "".join(
            f'<tr><th scope="row">{_struck(role, sent)}</th><td>{_struck(text, sent)}</td><td>{count}</td>'
            f"<td>{'sent' if sent else '✕ not sent'}</td></tr>"
            for role, text, count, sent in rows
        )
        heads = "".join(f'<th scope="col">{name}</th>' for name in ("role", "text", "tokens", "sent?"))
        return (
            '<div class="chatlab-scroll" role="region" aria-label="The conversation" tabindex="0">'
            f'<table class="chatlab-words"><tr>{heads}</tr>{body}</table></div>'
        )

    def _repr_html_(self) -> str:
        dropped = "".join(f"<li>{escape(_said(each))}{transcript_html([each.message])}</li>" for each in self.dropped)
        listed = (
            f"<details><summary>{count_of(len(self.dropped), 'message')} dropped</summary><ul>{dropped}</ul></details>"
        )
        return view(f"{self.bar_html()}{listed if dropped else ''}{transcript_html(self)}")

    def _in_words(self) -> str:
        summarised = self.summary is not None
        kept = len(self) - 2 * summarised  # a summary is a turn: a question and its answer
        total = kept + len(self.dropped)
        return (
            f"{kept} of {count_of(total, 'message')}{' and a summary' if summarised else ''}; {self.tokens_after} of "
            f"{self.tokens_before} tokens, {self.reserve} reserved for the reply, {self.free} free, limit "
            f"{self.token_limit}{f'; estimated with {self.estimated_with}' if self.estimated_with else ''}"
        )


def _said(each: Dropped) -> str:
    return f"messages[{each.index}] ({each.message['role']}): {each.reason}"


def _struck(text: str, sent: bool) -> str:
    return escape(text) if sent else f"<del>{escape(text)}</del>"


def _rebuilt(messages: list[Message], account: dict[str, Any]) -> Fitted:
    return Fitted(messages, **account)
