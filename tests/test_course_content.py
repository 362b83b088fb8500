"""The course as a whole: it holds every line of its curriculum, takes the time it says, and is spelled right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from course_matrix import COVERAGE, ROOT, faults, matrix

LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WORDS_A_MINUTE = 200
SECONDS_A_CODE_CELL = 12  # to read a few lines, run them and look
SHORTEST, LONGEST = 8, 16  # minutes
TEXTS = ["README.md", "CHANGELOG.md", "chatlab", "exercises/questions", "exercises/tasks", "exercises/coverage"]
MEANT = "temprature,nd"  # misspelled on purpose in a request that is refused; Hindi's short name


@pytest.mark.parametrize("path", COVERAGE, ids=lambda path: path.stem)
def test_each_line_of_the_curriculum_is_shown_and_each_question_belongs_to_one(path: Path) -> None:
    assert list(faults(path)) == []


def test_the_matrix_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print(matrix())
    assert len(capsys.readouterr().out.splitlines()) > 40


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_takes_about_as_long_as_it_says(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    words = sum(len(re.findall(r"\w+", cell.source)) for cell in cells if cell.cell_type == "markdown")
    code = sum(cell.cell_type == "code" for cell in cells)
    minutes = words / WORDS_A_MINUTE + code * SECONDS_A_CODE_CELL / 60
    assert SHORTEST <= minutes <= LONGEST, f"{minutes:.0f} minutes: {words} words and {code} code cells"


def spelled_wrong(*paths: Path | str) -> str:
    command = [sys.executable, "-m", "codespell_lib", "--ignore-words-list", MEANT, *map(str, paths)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False).stdout


def test_the_texts_are_spelled_right() -> None:
    assert spelled_wrong(*TEXTS) == ""


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_spelled_right(path: Path, tmp_path: Path) -> None:
    """What the author wrote, that is: a small model at a high temperature may spell as it likes."""
    written = "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    (tmp_path / "lesson.md").write_text(written, encoding="utf-8")
    assert spelled_wrong(tmp_path / "lesson.md") == ""


def test_a_misspelling_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "lesson.md").write_text("The modle recieves a promt.", encoding="utf-8")
    assert spelled_wrong(tmp_path / "lesson.md").count("==>") >= 2
