"""Classroom: a course folder, from handing out to the scores, by way of nbgrader's own interface.

In: a folder with `source/` and `submitted/<student>/<assignment>/`. Out: `release/`, scores in nbgrader's gradebook,
`feedback/`, a CSV file. Knows nothing of how an answer is checked.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbgrader.apps import NbGraderAPI
from nbgrader.plugins import CsvExportPlugin
from tqdm import tqdm
from traitlets.config.loader import PyFileConfigLoader

from chatlab.course import Copied, copy_files, packaged_course
from chatlab.errors import ChatlabError

__all__ = ["Classroom", "ClassroomError", "Graded", "make_course"]

SETTINGS = "nbgrader_config.py"
GUIDE = "classroom.md"
HELP = {"source": "", "release": " Make the learners' copies first: `chatlab classroom release`."}


class ClassroomError(ChatlabError):
    """A course folder is not as it must be, or nbgrader refused something; the text says what to do."""


@dataclass(frozen=True)
class Graded:
    """What came of one submission: its points, or what went wrong with it.

    >>> Graded("ana", "02-roles", 5.0, 7.0)
    ana, 02-roles: 5 of 7
    """

    student: str
    assignment: str
    score: float
    out_of: float
    fault: str = ""

    def __repr__(self) -> str:
        points = f"{self.student}, {self.assignment}: {self.score:g} of {self.out_of:g}"
        return f"{points}, not graded: {self.fault}" if self.fault else points


def make_course(folder: Path) -> Copied:
    """Make a course folder, or bring one up to date; a file that the teacher changed is kept as it is."""
    source = packaged_course() / "exercises"
    return copy_files(folder, source, [SETTINGS, GUIDE, "source"])


class Classroom:
    """A course folder that `make_course` made; raises `ClassroomError` for any other."""

    def __init__(self, folder: Path, *, seconds: int | None = None) -> None:
        """`seconds` is the longest that one cell may take when it is graded (None: as the course's settings say)."""
        self.folder = folder.resolve()
        if not (self.folder / SETTINGS).is_file():
            raise ClassroomError(
                f"{folder} has no {SETTINGS}. Make a course folder with `chatlab classroom init {folder}`."
            )
        settings = PyFileConfigLoader(SETTINGS, path=str(self.folder)).load_config()
        settings.CourseDirectory.root = str(self.folder)
        if seconds is not None:
            settings.Execute.timeout = seconds
        self.nbgrader = NbGraderAPI(config=settings)

    def release(self, assignments: Sequence[str] = ()) -> list[str]:
        """Make the learners' copies in `release/`, of all assignments or of some; return their names."""
        wanted = self._known(assignments, self.nbgrader.get_source_assignments(), "source")
        for assignment in wanted:
            _done(self.nbgrader.generate_assignment(assignment), assignment)
        return wanted

    def grade(self, assignments: Sequence[str] = (), students: Sequence[str] = ()) -> list[Graded]:
        """Grade what is in `submitted/` and write the feedback; a submission that cannot be graded stops no other."""
        found = [
            (student, assignment)
            for assignment in self._known(assignments, self._released(), "release")
            for student in sorted(self.nbgrader.get_submitted_students(assignment))
            if not students or student in students
        ]
        if not found:
            raise ClassroomError(
                f"There is nothing to grade in {self.folder}. Put what each student handed in into "
                "submitted/<student>/<assignment>/, such as submitted/ana/02-roles/roles.ipynb."
            )
        os.environ["CHATLAB_RECORDS"] = "off"  # what a submission does is not the teacher's own progress
        with warnings.catch_warnings(), tqdm(found, unit="submission", file=sys.stderr, leave=False) as bar:
            warnings.filterwarnings("ignore", module="nbgrader")  # of its database library, on how nbgrader uses it
            return [self._grade(student, assignment, bar) for student, assignment in bar]

    def export(self, path: Path) -> None:
        """Write the scores of all learners as a CSV file."""
        with self.nbgrader.gradebook as gradebook:
            CsvExportPlugin(to=str(path), parent=self.nbgrader).export(gradebook)

    def _grade(self, student: str, assignment: str, bar: Any) -> Graded:
        bar.set_postfix_str(f"{student}, {assignment}")
        with self.nbgrader.gradebook as gradebook:
            gradebook.update_or_create_student(student)  # so that the scores name a student whose work is unreadable
        fault = self._missing(student, assignment) or _fault(self.nbgrader.autograde(assignment, student))
        with self.nbgrader.gradebook as gradebook:
            out_of = gradebook.find_assignment(assignment).max_score
            score = 0.0 if fault else gradebook.find_submission(assignment, student).score
        fault = fault or _fault(self.nbgrader.generate_feedback(assignment, student))
        return Graded(student, assignment, score, out_of, fault)

    def _missing(self, student: str, assignment: str) -> str:
        """Return what is wrong with a submission that has none of the assignment's notebooks, or nothing."""
        with self.nbgrader.gradebook as gradebook:
            wanted = {f"{each.name}.ipynb" for each in gradebook.find_assignment(assignment).notebooks}
        found = {path.name for path in (self.folder / "submitted" / student / assignment).glob("*.ipynb")}
        if wanted & found:
            return ""
        there = f", but {', '.join(sorted(found))}. Rename it" if found else ""
        return f"it has no {' or '.join(sorted(wanted))}{there}"

    def _released(self) -> set[str]:
        return {path.parent.name for path in self.folder.glob("release/*/*.ipynb")}

    def _known(self, wanted: Sequence[str], known: set[str], place: str) -> list[str]:
        """Return the assignments that are wanted, or all there are, in order."""
        missing = sorted(set(wanted) - known)
        if missing or not known:
            what = f"no assignment {', '.join(missing)}" if missing else "no assignment"
            there = f" There is: {', '.join(sorted(known))}." if known else ""
            raise ClassroomError(f"{self.folder} has {what} in {place}/.{there}{HELP[place]}")
        return sorted(wanted or known)


def _done(result: dict[str, Any], what: str) -> None:
    fault = _fault(result)
    if fault:
        raise ClassroomError(f"{what}: {fault}")


def _fault(result: dict[str, Any]) -> str:
    """Return what nbgrader says went wrong, in a line, or nothing."""
    if result["success"]:
        return ""
    log = result.get("log", "")
    raised = re.findall(r"^ *((?:\w+\.)*\w*(?:Error|Exception|Entry): .*)", log, re.MULTILINE)
    told = re.findall(r"^\[ERROR\] (.*)", log, re.MULTILINE)
    return str((raised[-1:] or told or result["error"].splitlines()[-1:])[0])
