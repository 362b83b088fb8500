"""Asking: one question, put again under other limits, and its answers side by side.

In: what was sent, what was asked, and the text of the answer. Out: an `Answer`, its HTML while it grows, and a table of
all of them. Knows nothing of widgets or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatlab.display import table_html, transcript_html
from chatlab.messages import assistant, user

__all__ = ["Answer", "answer_html", "answers_html"]


@dataclass(frozen=True)
class Answer:
    """What the model answered to a question, under which limit and strategy; `turns` is how many of how many it saw."""

    token_limit: int
    strategy: str
    turns: str
    question: str
    text: str


def answer_html(question: str, text: str, *, busy: bool = False) -> str:
    """Return a question and its answer, `busy` as long as it grows; without a frame, and all text is escaped."""
    return (
        f'<div role="log" aria-live="polite" aria-busy="{str(busy).lower()}" aria-label="Answer">'
        f"{transcript_html([user(question), assistant(text)])}</div>"
    )


def answers_html(answers: Sequence[Answer]) -> str:
    """Return the answers as a table, without a frame.

    >>> answers_html([])
    '<div class="chatlab-note">No answers yet.</div>'
    """
    if not answers:
        return '<div class="chatlab-note">No answers yet.</div>'
    rows = [[f"{each.token_limit:,}", each.strategy, each.turns, each.question, each.text] for each in answers]
    table = table_html(["limit", "strategy", "turns sent", "question", "answer"], rows)
    return (
        '<div class="chatlab-answers" role="region" aria-label="Answers so far" tabindex="0" style="overflow-x: auto">'
        f"{table}</div>"
    )
