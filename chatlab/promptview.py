"""Prompt view: how a prompt looks, in a notebook and in a terminal.

In: a prompt's text, its spans and its forged control tokens. Out: HTML or plain text, owner by owner, every role and
state in words. Knows nothing of templates or models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from chatlab.display import control_token_html, escape
from chatlab.spans import Span

__all__ = ["Part", "parts", "prompt_html", "prompt_text"]

FORGED = "read as text"


@dataclass(frozen=True)
class Part:
    """Neighbouring spans with one owner: its `name` in words, its `role` for colour ("" where it has none)."""

    name: str
    role: str
    spans: tuple[Span, ...]


def parts(spans: Sequence[Span], roles: Sequence[str]) -> list[Part]:
    """Return the spans in groups, one for each message and for each stretch that belongs to none.

    >>> [part.name for part in parts([Span(0, 2, "content", 0), Span(2, 9, "generation")], ["user"])]
    ['messages[0] user', 'generation prompt']
    """
    generation = next((index for index, span in enumerate(spans) if span.kind == "generation"), len(spans))
    while 0 < generation < len(spans) and (spans[generation - 1].kind, spans[generation - 1].message) == (
        "control",
        None,
    ):
        generation -= 1  # the control tokens that open it

    def owner(numbered: tuple[int, Span]) -> tuple[str, str]:
        index, span = numbered
        if span.message is not None:
            role = roles[span.message] if span.message < len(roles) else ""
            return f"messages[{span.message}] {role}".rstrip(), role
        if span.kind == "content":
            return "text", ""
        return ("generation prompt", "") if index >= generation else ("template", "")

    return [
        Part(name, role, tuple(span for _, span in group))
        for (name, role), group in groupby(enumerate(spans), key=owner)
    ]


def prompt_html(
    text: str, parts: Sequence[Part], *, forged: Sequence[tuple[int, int]], picked: tuple[int, int] | None = None
) -> str:
    """Return the parts as blocks; all of the text is escaped, line ends show, and added text says "injected".

    The `picked` place (start, end) is marked; a forged control token that it touches is marked as a whole.
    """
    first, last = picked or (0, 0)
    touched = [place for place in forged if place[0] < last and first < place[1]]
    first, last = min([first, *(start for start, _ in touched)]), max([last, *(end for _, end in touched)])
    blocks = []
    for part in parts:
        pieces = []
        for span in [piece for whole in part.spans for piece in _cut(whole, first, last)]:
            content = "".join(_pieces(text, span, forged, escape=_visible_html, forged_as=_forged_html))
            if span.kind == "control":
                content = control_token_html(text[span.start : span.end])
            elif span.kind == "injected":
                content = f'<mark class="chatlab-injected"><span class="chatlab-note">injected</span> {content}</mark>'
            if first <= span.start < span.end <= last:
                content = f'<mark class="chatlab-picked">{content}</mark>'
            pieces.append(content)
        blocks.append(
            f'<div class="chatlab-message {escape(part.role)}"><div class="chatlab-note">{escape(part.name)}</div>'
            f"{''.join(pieces)}</div>"
        )
    return "".join(blocks)


def prompt_text(text: str, parts: Sequence[Part], *, forged: Sequence[tuple[int, int]]) -> str:
    """Return the parts as lines, each after its owner's name; line ends show, and added text says "injected"."""
    width = max((len(part.name) for part in parts), default=0)
    lines = []
    for part in parts:
        shown = ""
        for span in part.spans:
            content = "".join(_pieces(text, span, forged, escape=_visible, forged_as=_forged_text))
            shown += f"[injected: {content}]" if span.kind == "injected" else content
        for number, line in enumerate(shown.removesuffix("\n").split("\n")):
            lines.append(f"{'' if number else part.name:{width}} |{' ' if line else ''}{line}")
    return "\n".join(lines)


def _cut(span: Span, first: int, last: int) -> list[Span]:
    """Return the span in pieces, cut where a place begins and where it ends.

    >>> [(piece.start, piece.end) for piece in _cut(Span(0, 9, "content"), 3, 20)]
    [(0, 3), (3, 9)]
    """
    edges = [span.start, *(edge for edge in (first, last) if span.start < edge < span.end), span.end]
    return [replace(span, start=start, end=end) for start, end in pairwise(edges) if start < end]


def _pieces(
    text: str,
    span: Span,
    forged: Sequence[tuple[int, int]],
    *,
    escape: Callable[[str], str],
    forged_as: Callable[[str], str],
) -> Iterator[str]:
    """Yield the span's text piece by piece, ordinary text and forged control tokens each in its own way."""
    position = span.start
    for start, end in forged:
        if span.start <= start and end <= span.end:
            yield escape(text[position:start])
            yield forged_as(text[start:end])
            position = end
    yield escape(text[position : span.end])


def _visible(text: str) -> str:
    r"""Return the text with its line ends visible, and other control characters written out, as a terminal needs.

    >>> print(_visible("red: \x1b[31m"))
    red: \x1b[31m
    """
    written = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", lambda match: repr(match.group())[1:-1], text)
    return written.replace("\n", "↵\n")


def _visible_html(text: str) -> str:
    return escape(text).replace("\n", '<span class="chatlab-note">↵</span>\n')


def _forged_text(token: str) -> str:
    return f"[{FORGED}: {_visible(token)}]"


def _forged_html(token: str) -> str:
    return control_token_html(token, forged=True)
