"""Exercise notebooks: the exercises of a topic as a notebook in nbgrader's format, and the learner's copy of it.

In: exercises. Out: a source notebook (solutions, hidden tests, points) and the copy without them. Knows nothing of who
gets it. The format is nbgrader's, version 3: https://nbgrader.readthedocs.io/en/stable/contributor_guide/metadata.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import nbformat

from chatlab.exercises.exercise import Exercise
from chatlab.exercises.exercises import GIVEN
from chatlab.exercises.task_files import exercises_of

__all__ = ["file_of", "learners_copy", "source_notebook"]

v4: Any = nbformat.v4  # it has no types

KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
SOLUTION = ("### BEGIN SOLUTION", "### END SOLUTION")
HIDDEN = ("### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS")


def file_of(topic: str) -> str:
    """Return where a topic's notebook lies in nbgrader's folders: one assignment for each lesson.

    >>> file_of("roles")
    '02-roles/roles.ipynb'
    """
    return f"{exercises_of(topic)[0].lesson}-{topic}/{topic}.ipynb"


def source_notebook(topic: str) -> Any:
    """Return the teacher's notebook of a topic: for each exercise its text, its solution, and tests with points.

    >>> [cell.id for cell in source_notebook("roles").cells][:4]
    ['title', 'setup', 'roles-1', 'roles-1-answer']
    """
    exercises = exercises_of(topic)
    cells = [
        _markdown("title", _title(topic, exercises)),
        _code("setup", GIVEN.rstrip(), grade_id="setup", locked=True),
    ]
    for each in exercises:
        cells += _cells(each)
    notebook = v4.new_notebook(cells=cells, metadata=KERNEL)
    notebook.nbformat_minor = 5
    return notebook


def learners_copy(source: Any) -> Any:
    """Return a copy of a source notebook without solutions and hidden tests, as nbgrader releases it."""
    copy = deepcopy(source)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(rf"\n{HIDDEN[0]}.*?{HIDDEN[1]}", "", cell.source, flags=re.DOTALL)
            cell.source = re.sub(rf"\n+{SOLUTION[0]}.*?{SOLUTION[1]}", "", cell.source, flags=re.DOTALL)
            cell.outputs, cell.execution_count = [], None
    return copy


def _title(topic: str, exercises: Sequence[Exercise]) -> str:
    first = exercises[0]
    return (
        f"# Exercises {first.lesson} · {topic.replace('-', ' ').capitalize()}\n\n"
        "Write your code in the cell below each exercise and run it, then run the check. It says one of four things: "
        "*correct*, *incorrect* with the first case that fails, *not attempted*, or *could not check* with the "
        f'reason. Stuck? `chatlab.exercise("{first.id}").hint()` helps a little, `.solution()` shows one way.'
    )


def _cells(each: Exercise) -> list[Any]:
    ask = f'chatlab.exercise("{each.id}")'
    public, hidden = (each.points + 1) // 2, each.points // 2
    written = f"{each.starter.rstrip()}\n\n\n{SOLUTION[0]}\n{each.solution.rstrip()}\n{SOLUTION[1]}"
    cells = [
        _markdown(each.id, f"## ✏️ {each.title}\n\n{each.text.strip()}"),
        _code(f"{each.id}-answer", written, grade_id=f"{each.id}-answer", solution=True),
        _code(f"{each.id}-check", f"{ask}.check()"),
        _code(f"{each.id}-public", f"{ask}.grade({each.name})", grade_id=f"{each.id}-public", points=public),
    ]
    if hidden:
        note = "# When the work is graded, more cases are tried here."
        test = f"{note}\n{HIDDEN[0]}\n{ask}.grade({each.name}, hidden=True)\n{HIDDEN[1]}"
        cells.append(_code(f"{each.id}-hidden", test, grade_id=f"{each.id}-hidden", points=hidden))
    return cells


def _markdown(cell_id: str, source: str) -> Any:
    cell = v4.new_markdown_cell(source)
    cell["id"] = cell_id
    return cell


def _code(
    cell_id: str,
    source: str,
    *,
    grade_id: str = "",
    points: int = 0,
    solution: bool = False,
    locked: bool = False,
) -> Any:
    cell = v4.new_code_cell(source)
    cell["id"] = cell_id
    if grade_id:
        cell.metadata["nbgrader"] = {
            "schema_version": 3,
            "grade_id": grade_id,
            "grade": bool(points),
            "solution": solution,
            "locked": locked or bool(points),
            "task": False,
            **({"points": points} if points else {}),
        }
    return cell
