"""Rebuilding: the teacher's notebook with a learner's answers in it.

In: a source notebook and what a learner made of its copy. Out: a notebook to grade, in which each answer stands before
its own tests, whatever was deleted, copied, moved or edited. Knows nothing of scores.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import nbformat

from chatlab.exercises.notebooks import learners_copy

__all__ = ["rebuilt"]

v4: Any = nbformat.v4  # it has no types

FUNCTION = re.compile(r"^(?:async +)?(?:def|class) +(\w+)|^(\w+) *(?::[^=\n]+)?= *lambda\b", re.MULTILINE)
VARIABLE = re.compile(r"^(\w+) *(?::[^=\n]+)?=(?! *lambda\b|=)", re.MULTILINE)
ASIDE = re.compile(r"""\s*chatlab\.exercise\(["'][\w-]+["']\)\.(check|hint|solution)\(\w*\)\s*""")


def rebuilt(source: Any, submission: Any) -> Any:
    """Return the source notebook with the submission's answers in place of its solutions.

    An answer is found by its cell's metadata or id; where these are lost, or that cell is as it was handed out, by the
    function or variable that it writes. Of several, the last counts, as in the learner's own notebook. Further cells
    stay where the learner has them, since an answer may need them. All else is the source's: tests, points, metadata.
    What only asks for a check, a hint or a solution is left out.

    >>> from chatlab.exercises.notebooks import source_notebook
    >>> cell = v4.new_code_cell("def build_messages(*given): return 'mine'")
    >>> copy = rebuilt(source_notebook("roles"), v4.new_notebook(cells=[cell]))
    >>> [each.source for each in copy.cells if each.id == "roles-1-answer"]
    ["def build_messages(*given): return 'mine'"]
    """
    places = _Places(source)
    cells = [(cell, places.of(cell)) for cell in submission.cells if not ASIDE.fullmatch(cell.source)]
    claimed = {place for cell, place in cells if places.is_new(cell, place)} & places.answers
    answers: dict[int, list[Any]] = defaultdict(list)
    more: dict[int, list[Any]] = defaultdict(list)
    written: set[int] = set()
    here = max(min(places.answers, default=0) - 1, 0)
    for cell, place in cells:
        here = here if place is None else place
        if not places.is_new(cell, place):
            continue
        written |= places.written(cell)
        answered = (places.written(cell) - claimed) | ({here} & claimed if place is not None else set())
        if answered:
            here = min(answered)
            answers[here].append(cell)
        elif place is None or not _is_locked(source.cells[place]):
            more[here].append(cell)
    copy = learners_copy(source)
    released, copy.cells = copy.cells, []
    for place, cell in enumerate(source.cells):
        if place not in places.answers:
            copy.cells += [] if ASIDE.fullmatch(cell.source) else [cell]
        elif place in answers:
            copy.cells += _answer(cell, answers[place])
        else:
            copy.cells.append(_like(cell, "") if place in written else released[place])
        copy.cells += map(_plain, more[place])
    return copy


class _Places:
    """Which cell of the source a learner's cell is, or was."""

    def __init__(self, source: Any) -> None:
        numbered = list(enumerate(source.cells))
        self.answers = {place for place, cell in numbered if _nbgrader(cell).get("solution")}
        self._released = [cell.source.strip() for cell in learners_copy(source).cells]
        self._grade_ids = {str(_nbgrader(cell).get("grade_id")): place for place, cell in numbered if _nbgrader(cell)}
        self._ids = {cell.get("id"): place for place, cell in numbered}
        self._texts = {text: place for place, text in enumerate(self._released)}
        names = [(name, place) for place in self.answers for name in _defined(self._released[place])]
        often = Counter(name for name, _ in names)
        self._names = {name: place for name, place in names if often[name] == 1}

    def of(self, cell: Any) -> int | None:
        """Return the number of the source's cell, or None for a cell of the learner's own."""
        for known, mark in [
            (self._grade_ids, str(_nbgrader(cell).get("grade_id"))),
            (self._ids, str(cell.get("id"))),
            (self._texts, cell.source.strip()),
        ]:
            if mark in known:
                return known[mark]
        return None

    def is_new(self, cell: Any, place: int | None) -> bool:
        """Return whether a cell has anything in it that was not handed out."""
        text = cell.source.strip()
        return bool(text) and (place is None or text != self._released[place])

    def written(self, cell: Any) -> set[int]:
        """Return the answers whose function or variable a cell writes."""
        names = _defined(cell.source) if cell.cell_type == "code" else set()
        return {self._names[name] for name in names if name in self._names}


def _answer(source: Any, written: list[Any]) -> Iterator[Any]:
    """Yield the cells of one answer; the last takes the place of the source's, with its metadata."""
    yield from map(_plain, written[:-1])
    yield _like(source, written[-1].source)


def _like(cell: Any, text: str) -> Any:
    made = _new(cell.cell_type, text)
    made.update(id=cell.id, metadata=cell.metadata)
    return made


def _plain(cell: Any) -> Any:
    """Return a learner's cell without metadata, so that it cannot be taken for another."""
    return _new(cell.cell_type, cell.source)


def _new(cell_type: str, text: str) -> Any:
    make = {"code": v4.new_code_cell, "markdown": v4.new_markdown_cell}.get(cell_type, v4.new_raw_cell)
    return make(text)


def _defined(text: str) -> set[tuple[str, str]]:
    functions = {("function", defined or named) for defined, named in FUNCTION.findall(text)}
    return functions | {("variable", name) for name in VARIABLE.findall(text)}


def _is_locked(cell: Any) -> bool:
    return bool(_nbgrader(cell).get("locked") or _nbgrader(cell).get("grade"))


def _nbgrader(cell: Any) -> dict[str, Any]:
    """Return nbgrader's metadata of a cell; anything of another form that a learner's notebook has counts as none."""
    found = cell.get("metadata", {}).get("nbgrader")
    return found if isinstance(found, dict) else {}
