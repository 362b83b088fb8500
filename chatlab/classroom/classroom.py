"""Classroom: a course folder, from handing out to the scores, by way of nbgrader's own interface.

In: a folder with `source/` and `submitted/<student>/<assignment>/`. Out: `release/`, scores in nbgrader's gradebook,
`feedback/`, a CSV file. Knows nothing of how an answer is checked.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nbgrader.apps import NbGraderAPI
from nbgrader.plugins import CsvExportPlugin
from tqdm import tqdm
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from chatlab.classroom.on_cluster import Submission, run_on
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

    def grade(
        self,
        assignments: Sequence[str] = (),
        students: Sequence[str] = (),
        *,
        cluster: str | bool | None = None,
    ) -> list[Graded]:
        """Grade what is in `submitted/` and write the feedback; a submission that cannot be graded stops no other.

        With `cluster`, Ray's workers run the notebooks, one for each core: "local" for the cores of this machine, the
        address of a cluster, or True for the one at hand. The scores are the same. Each machine needs chatlab and
        nbgrader.
        """
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
        graded = {}
        with (
            warnings.catch_warnings(),
            TemporaryDirectory() as executed,
            tqdm(total=len(found), unit="submission", file=sys.stderr, leave=False) as bar,
        ):
            warnings.filterwarnings("ignore", module="nbgrader")  # of its database library, on how nbgrader uses it
            runs = ((each, "") for each in found) if cluster is None else self._run(found, cluster, Path(executed))
            nbgrader = self.nbgrader if cluster is None else self._with(ExecuteAll={"executed": executed})
            for (student, assignment), fault in runs:
                bar.set_postfix_str(f"{student}, {assignment}")
                graded[student, assignment] = self._grade(student, assignment, nbgrader, fault)
                bar.update()
        return [graded[each] for each in found]

    def export(self, path: Path) -> None:
        """Write the scores of all learners as a CSV file."""
        with self.nbgrader.gradebook as gradebook:
            CsvExportPlugin(to=str(path), parent=self.nbgrader).export(gradebook)

    def _run(self, found: Sequence[Submission], cluster: str | bool, to: Path) -> Iterator[tuple[Submission, str]]:
        """Yield each submission once it was run on a cluster, its notebooks in a folder, and what went wrong with it.

        What is to be run is what nbgrader would run. What nbgrader cannot read is left to it, to say so.
        """
        with TemporaryDirectory() as place:
            nbgrader = self._with(
                CourseDirectory={"autograded_directory": place}, Autograde={"autograde_preprocessors": []}
            )

            def folders() -> Iterator[tuple[Submission, Path]]:
                for student, assignment in found:
                    if not (self._missing(student, assignment) or _fault(nbgrader.autograde(assignment, student))):
                        yield (student, assignment), Path(nbgrader.coursedir.format_path(place, student, assignment))

            left = set(found)
            for submission, notebooks, fault in run_on(cluster, folders(), self.nbgrader.config):
                for name, text in notebooks.items():
                    path = to.joinpath(*submission, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
                left.remove(submission)
                yield submission, fault
            yield from ((each, "") for each in found if each in left)

    def _with(self, **settings: dict[str, Any]) -> NbGraderAPI:
        """Return nbgrader with some settings changed."""
        changed = deepcopy(self.nbgrader.config)
        changed.merge(Config(settings))
        return NbGraderAPI(config=changed)

    def _grade(self, student: str, assignment: str, nbgrader: NbGraderAPI, fault: str) -> Graded:
        with self.nbgrader.gradebook as gradebook:
            gradebook.update_or_create_student(student)  # so that the scores name a student whose work is unreadable
        fault = fault or self._missing(student, assignment) or _fault(nbgrader.autograde(assignment, student))
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
    if result["error"].rstrip().endswith("KeyboardInterrupt"):  # nbgrader takes it for one more fault
        raise KeyboardInterrupt
    log = result.get("log", "")
    raised = re.findall(r"^ *((?:\w+\.)*\w*(?:Error|Exception|Entry): .*)", log, re.MULTILINE)
    told = re.findall(r"^\[ERROR\] (.*)", log, re.MULTILINE)
    return str((raised[-1:] or told or result["error"].splitlines()[-1:])[0])
