"""The lessons: complete, executed, checked, and free of what belongs to one machine only.

nbval runs the cells; these tests see to what nbval does not: that there is an output to compare with, that the form is
kept, and that links lead somewhere. The notebooks of exercises have tests of their own, in test_exercises.py.
"""

from __future__ import annotations

import re
import socket
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
import pytest

from chatlab.questions.question_files import topic_of

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))

CHECKED, GENERATED = "nbval-check-output", "nbval-ignore-output"
MODES = [
    "💡 Explain",
    "🔮 Predict",
    "▶️ Run",
    "🔍 Look inside",
    "🎛️ Play",
    "🧪 Myth",
    "🔧 Fix it",
    "❓ Quiz",
    "✏️ Exercise",
    "🔁 Recall",
]
MAX_BYTES = 300_000
# A path that only one machine has: under a home folder, a temporary or a working folder, or on a Windows drive.
MACHINE_PATH = re.compile(r"(?<![\w.~/])/(?:home|Users|root|tmp|work|var|mnt|private|opt|usr|etc)/\w|\b[A-Z]:\\{1,2}\w")
MARKDOWN_LINK = re.compile(r"\]\(([^)\s]+)\)")


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def headings(notebook: Any, marks: str) -> list[str]:
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found += re.findall(
                rf"^{marks} (.+)$", re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL), re.MULTILINE
            )
    return found


def texts(notebook: Any) -> Iterator[str]:
    """Yield everything a reader may see: sources, and outputs of every kind."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield from (str(value) for value in output.get("data", {}).values())
            yield "\n".join(output.get("traceback", []))


def by_name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


every_lesson = pytest.mark.parametrize("path", LESSONS, ids=by_name)


def test_there_are_lessons() -> None:
    assert len(LESSONS) >= 3


@every_lesson
def test_the_notebook_is_valid_and_small(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor >= 5) == (4, True), "cell ids need nbformat 4.5"
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < MAX_BYTES


@every_lesson
def test_every_cell_has_an_id_of_its_own(path: Path) -> None:
    ids = [cell.get("id") for cell in read(path).cells]
    assert all(ids)
    assert sorted(ids) == sorted(set(ids))
    # nbformat and Jupyter make up random ids where one is missing; those in the repository are words.
    assert not [cell_id for cell_id in ids if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", cell_id)]


@every_lesson
def test_every_code_cell_ran_from_top_to_bottom_without_error(path: Path) -> None:
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not [output for output in cell.outputs if output.output_type == "error"], cell.id
        assert not [output for output in cell.outputs if output.get("name") == "stderr"], cell.id


@every_lesson
def test_checked_cells_have_an_output_to_compare_with(path: Path) -> None:
    checked = [cell for cell in code_cells(read(path)) if CHECKED in tags(cell)]
    assert checked, "nothing in this notebook is checked"
    for cell in checked:
        assert cell.outputs, f"{cell.id}: nbval passes a checked cell without outputs, whatever it prints"
        assert GENERATED not in tags(cell), cell.id


@every_lesson
def test_a_lesson_shows_generated_text_and_does_not_compare_it(path: Path) -> None:
    generated = [cell for cell in code_cells(read(path)) if GENERATED in tags(cell)]
    assert generated
    assert all(cell.outputs for cell in generated)


@every_lesson
def test_no_output_is_silently_unchecked(path: Path) -> None:
    """nbval compares what is tagged as checked. What is not compared says so: a text or picture that a model made, or
    that differs from machine to machine."""
    for cell in code_cells(read(path)):
        if cell.outputs:
            assert len({CHECKED, GENERATED} & set(tags(cell))) == 1, f"{cell.id}: tag it {CHECKED} or {GENERATED}"


@every_lesson
def test_only_known_tags_are_used(path: Path) -> None:
    assert {tag for cell in read(path).cells for tag in tags(cell)} <= {CHECKED, GENERATED}


@every_lesson
def test_nothing_of_one_machine_is_left(path: Path) -> None:
    notebook = read(path)
    everything = "\n".join(texts(notebook))
    found = MACHINE_PATH.search(everything)
    assert not found, everything[max(0, found.start() - 40) : found.end() + 40]
    host = socket.gethostname()
    assert not re.search(rf"\b{re.escape(host)}\b", everything) or host == "localhost"
    assert not re.search(r"\b0x[0-9a-f]{6,}", everything), "the address of an object differs each time"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags", "jupyter", "collapsed"}, cell.id


@every_lesson
def test_a_lesson_has_its_ten_parts_in_order(path: Path) -> None:
    parts = headings(read(path), "##")
    assert [part for part in parts if part in MODES] == MODES
    assert parts == [*MODES, "Summary"]


@every_lesson
def test_a_lesson_begins_with_objectives_and_contents_and_ends_with_a_summary(path: Path) -> None:
    first, contents, *_, last = read(path).cells
    assert first.source.startswith(f"# {path.name[:2]} · ")
    assert "After this lesson you can" in first.source
    by_id = {cell.id: cell.source for cell in read(path).cells}
    linked = re.findall(r"\[([^\]]+)\]\(#cell-id=([\w-]+)\)", contents.source)
    assert [mode for mode, _ in linked] == MODES
    for mode, cell_id in linked:
        assert by_id[cell_id].startswith(f"## {mode}")
    assert last.source.startswith("## Summary")


@every_lesson
def test_code_cells_are_short(path: Path) -> None:
    lengths = [len(cell.source.splitlines()) for cell in code_cells(read(path))]
    assert statistics.median(lengths) < 8


@every_lesson
def test_relative_links_lead_to_a_file(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type != "markdown":
            continue
        for link in MARKDOWN_LINK.findall(cell.source):
            if link.startswith("#"):
                # JupyterLab finds a cell by its id; links to headings with an emoji it does not follow.
                assert link.removeprefix("#cell-id=") in [cell.id for cell in read(path).cells], link
            elif "://" not in link:
                assert (path.parent / unquote(link.partition("#")[0])).is_file(), link


@every_lesson
def test_lessons_are_linked_in_a_row(path: Path) -> None:
    source = "\n".join(cell.source for cell in read(path).cells)
    for neighbour in LESSONS:
        if abs(int(neighbour.name[:2]) - int(path.name[:2])) == 1:
            assert f"]({neighbour.name})" in source


def test_the_readme_lists_the_lessons_that_there_are() -> None:
    rows = re.findall(r"^\| (\d\d) \| \[(.+?)\]\((.+?)\) \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert [(number, link) for number, _, link in rows] == [(path.name[:2], by_name(path)) for path in LESSONS]
    for _, title, link in rows:
        assert read(ROOT / link).cells[0].source.splitlines()[0].partition(" · ")[2].startswith(title), link


def asks(path: Path, call: str) -> list[Any]:
    """Return the code cells of a lesson that make a call."""
    return [cell for cell in code_cells(read(path)) if re.search(rf"^(\w+ = )?{call}", cell.source, re.MULTILINE)]


@every_lesson
def test_a_lesson_asks_for_a_prediction_and_compares_it(path: Path) -> None:
    assert asks(path, r"chatlab\.predict\(")
    reveals = asks(path, r"\w+\.reveal\(")
    assert reveals and all(CHECKED in tags(cell) for cell in reveals)


@every_lesson
def test_a_lesson_has_a_quiz_an_exercise_and_cards(path: Path) -> None:
    quizzes = asks(path, r"chatlab\.(quiz|placement)\(")
    topic = topic_of(re.search(r'quiz\("([\w-]+)"\)', quizzes[0].source)[1])  # type: ignore[index]
    assert topic.lesson == path.name[:2] and all(CHECKED in tags(cell) for cell in quizzes)
    checks = asks(path, r"chatlab\.exercise\(")
    assert checks and all(CHECKED in tags(cell) for cell in checks)
    assert any(f'exercise("{topic.name}-1").check()' in cell.source for cell in checks)
    assert any(f'RecallPanel("{topic.name}")' in cell.source for cell in code_cells(read(path)))


@every_lesson
def test_folded_parts_are_closed(path: Path) -> None:
    for cell in read(path).cells:
        assert cell.source.count("<details>") == cell.source.count("</details>"), cell.id
