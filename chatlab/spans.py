"""Spans: where each piece of a prompt came from.

In: a rendered prompt, its messages, and a way to render others by the same template. Out: spans that cover the prompt
from end to end: each message's own text, what the template writes around it, what it adds of its own. Knows nothing of
models, tokens or HTML, and never reads the template: it renders the messages again with marks in them and looks where
the marks come out.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Literal, TypeAlias

from chatlab.errors import ChatlabError
from chatlab.messages import ROLES, Message

__all__ = ["Span", "cover", "find_spans", "private_characters"]

Kind: TypeAlias = Literal["control", "header", "content", "injected", "generation"]
Render: TypeAlias = Callable[[list[Message], bool], str]


@dataclass(frozen=True)
class Span:
    """The characters from `start` up to, not including, `end` of a prompt, and where they came from.

    `kind` is "content" (a message's own text), "header" (what the template writes around it, such as the role's name),
    "control" (a control token), "injected" (text that the template adds and no message holds) or "generation" (what
    begins the reply). `message` is the index of the message it belongs to, None where it belongs to none.
    """

    start: int
    end: int
    kind: Kind
    message: int | None = None


def private_characters(used: str) -> Iterator[str]:
    """Yield private-use characters that the text does not use: no writer means anything by them.

    >>> next(private_characters("a\U000f0000")) == "\U000f0001"
    True
    """
    taken = set(used)
    return (chr(code) for code in chain(range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)) if chr(code) not in taken)


def cover(
    spans: Iterable[Span], text: str, *, control_tokens: Sequence[str] = (), forged: Sequence[tuple[int, int]] = ()
) -> tuple[Span, ...]:
    """Return the spans, cut where control tokens begin and end, each of which becomes a span of its own.

    A forged control token is read as ordinary text, so it stays what it stands in. What no span covers is "content".

    >>> cover([Span(0, 7, "content", 0)], "Hi<end>", control_tokens=["<end>"])
    (Span(start=0, end=2, kind='content', message=0), Span(start=2, end=7, kind='control', message=0))
    """
    pattern = any_of(control_tokens)
    controls, begin = [], 0
    for start, end in [*forged, (len(text), len(text))]:  # the same pieces as the tokenizer is given
        controls += [(begin + match.start(), begin + match.end()) for match in pattern.finditer(text[begin:start])]
        begin = end
    whole = [span for span in spans if span.start < span.end]
    if not whole or whole[-1].end < len(text):
        whole.append(Span(whole[-1].end if whole else 0, len(text), "content"))
    cuts = [cut for control in controls for cut in control]
    ends = dict(controls)
    covered: list[Span] = []
    end = 0  # a control token may reach over several spans
    for span in whole:
        edges = [span.start, *cuts[bisect_right(cuts, span.start) : bisect_left(cuts, span.end)], span.end]
        for start, stop in pairwise(edges):
            if start < end or start == stop:
                continue
            end = ends.get(start, stop)
            kind = "control" if start in ends else span.kind
            if covered and kind != "control" and (covered[-1].kind, covered[-1].message) == (kind, span.message):
                covered[-1] = replace(covered[-1], end=end)
            else:
                covered.append(Span(start, end, kind, span.message))
    return tuple(covered)


def any_of(control_tokens: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of the control tokens (none: a pattern that never matches)."""
    return re.compile("|".join(map(re.escape, control_tokens)) or r"(?!)")


def find_spans(
    rendered: str,
    messages: Sequence[Message],
    render: Render,
    *,
    add_generation_prompt: bool = True,
    control_tokens: Sequence[str] = (),
) -> list[Span]:
    r"""Return spans that cover the rendered prompt exactly and in order; `cover` then cuts out the control tokens.

    `render(messages, add_generation_prompt)` is the template at work; it may raise a `ChatlabError`. Marks are put
    around the contents, just inside white space that a template trims. A mark that changes anything else is taken
    back, and that message's text counts as "header". Added text is recognised before the first message only, by
    comparison with what stands before a later message of the same role; elsewhere it counts as "header".

    >>> def arrows(messages, add_generation_prompt):
    ...     return "Be kind.\n" + "".join(f"> {each['content']}\n" for each in messages)
    >>> for span in find_spans("Be kind.\n> Hi\n", [{"role": "user", "content": "Hi"}], arrows):
    ...     print(span)
    Span(start=0, end=8, kind='injected', message=None)
    Span(start=8, end=9, kind='header', message=None)
    Span(start=9, end=11, kind='header', message=0)
    Span(start=11, end=13, kind='content', message=0)
    Span(start=13, end=14, kind='header', message=0)
    """
    marks = _marks(rendered, messages)
    contents, marked = _contents(rendered, messages, render, marks, add_generation_prompt=add_generation_prompt)
    spans: list[Span] = []
    end, before = 0, None
    heads: dict[str, str | None] = {}
    for content in contents:
        role = messages[content.message or 0]["role"]
        if role not in heads:
            heads[role] = _head(role, render, marks)
        gap = rendered[end : content.start]
        head = content.start - _common_suffix(gap, heads[role])
        if before is None and content.message == 0 and heads[role] is not None:
            spans += _prelude(rendered[:head], control_tokens)
        else:
            follows = before is not None and before + 1 == content.message
            spans.append(Span(end, head, "header", before if follows else None))
        spans += [Span(head, content.start, "header", content.message), content]
        end, before = content.end, content.message
    generation = len(rendered)
    if add_generation_prompt:
        generation = _generation_start(rendered, marked, render, marks, end=end, control_tokens=control_tokens)
    owner = before if before == len(messages) - 1 else None
    spans += [Span(end, generation, "header", owner), Span(generation, len(rendered), "generation")]
    return [span for span in spans if span.start < span.end]


def _marks(rendered: str, messages: Sequence[Message]) -> list[str]:
    """Return a mark for each message and two more; a mark stands before and after a content."""
    texts = [rendered, *(message["content"] for message in messages)]
    return [mark for mark, _ in zip(private_characters("".join(texts)), range(len(messages) + 2), strict=False)]


def _contents(
    rendered: str, messages: Sequence[Message], render: Render, marks: list[str], *, add_generation_prompt: bool
) -> tuple[list[Span], list[Message]]:
    """Return the spans of the contents, in the prompt's order, and the messages with the marks that found them."""
    found: list[Span] = []
    chosen = list(messages)

    def try_out(edges: dict[int, tuple[int, int]]) -> bool:
        nonlocal found, chosen
        marked = list(chosen)
        for index, (start, end) in edges.items():
            text, mark = messages[index]["content"], marks[index]
            marked[index] = {**messages[index], "content": text[:start] + mark + text[start:end] + mark + text[end:]}
        try:
            spans = _between_marks(render(marked, add_generation_prompt), marks, rendered)
        except ChatlabError:
            return False
        if spans is not None:
            found, chosen = spans, marked
        return spans is not None

    edges = {index: _edges(message["content"]) for index, message in enumerate(messages)}
    tight = {index: options[0] for index, options in edges.items() if len(set(options)) == 1}
    left = [index for index in edges if index not in tight] if try_out(tight) else list(edges)
    for role in dict.fromkeys(messages[index]["role"] for index in left):  # a template treats a role alike
        group = [index for index in left if messages[index]["role"] == role]
        if not any(try_out({index: edges[index][way] for index in group}) for way in range(4)):
            for index in group:
                any(try_out({index: option}) for option in dict.fromkeys(edges[index]))
    return found, chosen


def _edges(text: str) -> list[tuple[int, int]]:
    """Return where a content may begin and end, in four ways: with its outer white space first, then without it."""
    first = len(text) - len(text.lstrip())
    last = max(first, len(text.rstrip()))
    return [(0, len(text)), (first, last), (0, last), (first, len(text))]


def _between_marks(marked: str, marks: list[str], rendered: str) -> list[Span] | None:
    """Return the spans between pairs of marks; None where without its marks this is not the rendered prompt."""
    number = {mark: index for index, mark in enumerate(marks)}
    spans, begin, position, opened = [], 0, 0, None
    for piece in re.split(f"([{''.join(marks)}])", marked):
        if piece not in number:
            if not rendered.startswith(piece, position):
                return None
            position += len(piece)
        elif opened is None:
            begin, opened = position, number[piece]
        elif opened == number[piece]:
            spans.append(Span(begin, position, "content", opened))
            opened = None
        else:
            return None
    return spans if opened is None and position == len(rendered) else None


def _head(role: str, render: Render, marks: list[str]) -> str | None:
    """Return what the template writes before a message of this role in mid-conversation; None where it cannot."""
    before, mark = marks[-2:]
    roles = ["user", "assistant"] if role == "assistant" else ["user", "assistant", role]
    probe: list[Message] = [{"role": each, "content": "x"} for each in roles]
    probe[-2]["content"], probe[-1]["content"] = before * 2, mark * 2
    try:
        gap = render(probe, False).partition(mark)[0].rpartition(before)[2]
    except ChatlabError:
        return None
    try:
        tail = render(probe[:-1], False).rpartition(before)[2]
    except ChatlabError:
        return gap
    return gap.removeprefix(tail)


def _prelude(text: str, control_tokens: Sequence[str]) -> Iterator[Span]:
    """Tell added text from headers in what stands before the first message; a line with only a role is a header."""
    begin = 0
    controls = [match.span() for match in any_of(control_tokens).finditer(text)]
    for start, end in [*controls, (len(text), len(text))]:
        run = text[begin:start]
        header = re.match(rf"\s*(?:[^\w\s]*(?:{'|'.join(ROLES)}|model)[^\w\s]*\s*(?:\n\s*|$))?", run)
        first = header.end() if header else 0
        last = max(first, len(run.rstrip()))
        yield Span(begin, begin + first, "header")
        yield Span(begin + first, begin + last, "injected")
        yield Span(begin + last, end, "header")
        begin = end


def _generation_start(
    rendered: str,
    marked: list[Message],
    render: Render,
    marks: list[str],
    *,
    end: int,
    control_tokens: Sequence[str],
) -> int:
    """Return where the prompt goes on differently because a reply is to follow; its length where it does not."""
    try:
        without = re.sub(f"[{''.join(marks)}]", "", render(marked, False))
    except ChatlabError:
        return len(rendered)
    start = _common_prefix(rendered, without)
    for token in any_of(control_tokens).finditer(rendered):
        if token.start() < start < token.end():  # the beginning of a token is no common ground
            start = token.start()
    return start if start >= end else len(rendered)


def _common_prefix(first: str, second: str) -> int:
    """Return how many characters both begin with."""
    shorter = min(len(first), len(second))
    return next((index for index in range(shorter) if first[index] != second[index]), shorter)


def _common_suffix(text: str, suffix: str | None) -> int:
    """Return how many characters both end with; all of the text where nothing is known of the suffix."""
    return len(text) if suffix is None else _common_prefix(text[::-1], suffix[::-1])
