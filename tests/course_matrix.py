"""The course beside its curriculum: `python tests/course_matrix.py` prints which cells and questions prove each line.

In: `exercises/coverage/*.yaml`, the lessons and their questions. Out: a table, and the faults in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import yaml

from chatlab.questions.question import Topic
from chatlab.questions.question_files import topic_names, topic_of

ROOT = Path(__file__).resolve().parent.parent
COVERAGE = sorted((ROOT / "exercises" / "coverage").glob("*.yaml"))


@dataclass(frozen=True)
class Line:
    """One line of the curriculum, with the ids of the cells and the questions that teach and prove it."""

    lesson: str
    line: str
    cells: tuple[str, ...]
    questions: tuple[str, ...]


def lines_of(path: Path) -> list[Line]:
    """Return the lines that a file of the coverage lists."""
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        Line(written["lesson"], each["line"], tuple(each["cells"]), tuple(each.get("questions", ())))
        for each in written["lines"]
    ]


def faults(path: Path) -> Iterator[str]:
    """Yield what is wrong with the coverage of a lesson."""
    lines = lines_of(path)
    cells = cells_of(path.stem)
    known = {each.id for topic in topics() for each in (*topic.questions, *topic.facts)}
    for line in lines:
        where = f"lesson {line.lesson}, {line.line!r}"
        if line.lesson != path.stem:
            yield f"{where}: the file is called {path.name}"
        for cell_id in line.cells:
            if cell_id not in cells:
                yield f"{where}: there is no cell {cell_id!r}"
        for question in line.questions:
            if question not in known:
                yield f"{where}: there is no question {question!r}"
        if not any(cells[each].get("outputs") for each in line.cells if each in cells):
            yield f"{where}: no cell with an output shows it"
    listed = {question for line in lines for question in line.questions}
    for question in sorted(asked_in(path.stem) - listed):
        yield f"lesson {path.stem}: the question {question!r} belongs to no line. Name it in one, under 'questions'"


@cache
def topics() -> list[Topic]:
    """Return every topic, read once."""
    return [topic_of(name) for name in topic_names()]


def cells_of(lesson: str) -> dict[str, Any]:
    """Return the cells of a lesson by their ids."""
    [path] = (ROOT / "notebooks").glob(f"{lesson}-*.ipynb")
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


def asked_in(lesson: str) -> set[str]:
    """Return the ids of the questions on a lesson."""
    return {question.id for topic in topics() if topic.lesson == lesson for question in topic.questions}


def matrix() -> str:
    """Return the table: a line of the curriculum, how many cells show it, how many questions ask for it."""
    rows = [line for path in COVERAGE for line in lines_of(path)]
    width = max(len(row.line) for row in rows)
    head = f"lesson  {'line of the curriculum'.ljust(width)}  cells  questions"
    return "\n".join(
        [
            head,
            *(f"{r.lesson:6}  {r.line.ljust(width)}  {len(r.cells):5}  {len(r.questions):9}" for r in rows),
        ]
    )


if __name__ == "__main__":
    print(matrix())
    found = [fault for path in COVERAGE for fault in faults(path)]
    print("\n".join(found) or "Each line is shown by a cell, and each question belongs to a line.")
    raise SystemExit(bool(found))
