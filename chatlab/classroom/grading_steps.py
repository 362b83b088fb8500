"""Grading steps: what chatlab changes in the way nbgrader works.

In: nbgrader's settings. Out: the same, with submissions rebuilt before they are graded, run to their end, and hidden
tests kept out of the feedback. Knows nothing of folders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.preprocessors import Execute, NbGraderPreprocessor
from nbgrader.utils import is_grade

from chatlab.classroom.execution import ExecuteAll
from chatlab.classroom.rebuilding import rebuilt
from chatlab.exercises.notebooks import HIDDEN

__all__ = ["HideTests", "Rebuild", "configure"]


class Rebuild(NbGraderPreprocessor):  # type: ignore[misc]
    """Puts a submission's answers into the teacher's notebook, before anything else looks at it."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Return the notebook to grade; `resources` say which one it is."""
        course, names = self.parent.parent.coursedir, resources["nbgrader"]  # of the exporter's converter
        folder = Path(course.format_path(course.source_directory, ".", names["assignment"]))
        text = (folder / f"{names['notebook']}.ipynb").read_text(encoding="utf-8")
        source: Any = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
        return rebuilt(source, nb), resources


class HideTests(NbGraderPreprocessor):  # type: ignore[misc]
    """Takes hidden tests out of the feedback, and says in one line what came of each test."""

    def preprocess_cell(self, cell: Any, resources: Any, index: int) -> tuple[Any, Any]:
        """Return the cell as a learner may see it."""
        if cell.cell_type != "code" or not is_grade(cell):
            return cell, resources
        errors = [each for each in cell.outputs if each.output_type == "error"]
        for each in errors:
            each.traceback = [f"{each.ename}: {each.evalue}"]
        before, hidden, _ = cell.source.partition(HIDDEN[0])
        if hidden:
            cell.source, cell.outputs = before.rstrip(), errors
        return cell, resources


def configure(settings: Any) -> None:
    """Set nbgrader's steps; called in a course's `nbgrader_config.py` with nbgrader's settings.

    >>> from traitlets.config import Config
    >>> settings = Config()
    >>> configure(settings)
    >>> settings.Autograde.sanitize_preprocessors[0].__name__
    'Rebuild'
    """
    sanitize = Autograde.class_traits()["sanitize_preprocessors"].default()
    autograde = Autograde.class_traits()["autograde_preprocessors"].default()
    settings.ClearSolutions.code_stub = {"python": ""}  # what a learner begins with stands before the solution
    settings.Execute.extra_arguments = ["--HistoryManager.hist_file=:memory:", "--IPKernelApp.log_level=40"]
    settings.Autograde.sanitize_preprocessors = [Rebuild, *sanitize]
    settings.Autograde.autograde_preprocessors = [ExecuteAll if each is Execute else each for each in autograde]
    settings.GenerateFeedback.preprocessors = [HideTests, *GenerateFeedback.class_traits()["preprocessors"].default()]
