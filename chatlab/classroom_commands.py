"""Classroom commands: `chatlab classroom init`, `release`, `grade` and `export`.

In: what a teacher types in a terminal. Out: calls of the classroom. Knows nothing of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["classroom_app"]

Folder = Annotated[Path, typer.Option("--folder", help="The course folder; by default the one you are in.")]
Assignments = Annotated[list[str] | None, typer.Argument(help="Some assignments, such as 02-roles; by default all.")]
HERE = Path(".")

classroom_app = typer.Typer(help="Hand out the exercises to a class, and grade them.", no_args_is_help=True)


@classroom_app.command()
def init(folder: Annotated[Path, typer.Argument(help="Where the course is to be.")]) -> None:
    """Make a course folder, or bring one up to date; what you changed in it stays."""
    made = _classroom().make_course(folder)
    print(f"Course: {folder} ({len(made.written)} files written)")
    if made.kept:
        print(f"Kept as you changed them: {', '.join(made.kept)}")


@classroom_app.command()
def release(assignments: Assignments = None, folder: Folder = HERE) -> None:
    """Make the learners' copies, without solutions and hidden tests, in release/."""
    for name in _classroom().Classroom(folder).release(assignments or ()):
        print(f"release/{name}")


@classroom_app.command()
def grade(
    assignments: Assignments = None,
    folder: Folder = HERE,
    student: Annotated[list[str] | None, typer.Option(help="Only this student; may be given several times.")] = None,
    seconds: Annotated[
        int | None, typer.Option(min=1, help="The longest that one cell may take; default: as nbgrader_config.py says.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run the work on a Ray cluster; local: all cores here."),
    ] = None,
) -> None:
    """Grade everything in submitted/<student>/<assignment>/ and write the feedback."""
    graded = _classroom().Classroom(folder, seconds=seconds).grade(assignments or (), student or (), cluster=cluster)
    for each in graded:
        print(each)
    faults = sum(bool(each.fault) for each in graded)
    print(f"{len(graded) - faults} graded, {faults} not; feedback/<student>/<assignment>/ is for the learners.")
    if faults:
        raise typer.Exit(1)


@classroom_app.command()
def export(
    path: Annotated[Path, typer.Argument(help="The CSV file to write.")] = Path("scores.csv"),
    folder: Folder = HERE,
) -> None:
    """Write the scores of all learners as a CSV file."""
    _classroom().Classroom(folder).export(path)
    print(f"Written: {path}")


def _classroom() -> Any:
    """Return the classroom, which needs nbgrader."""
    try:
        from chatlab.classroom import classroom
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("chatlab"):
            raise
        raise typer.BadParameter(
            f"This needs {error.name}, which is not installed: pip install 'chatlab-classroom[classroom]'"
        ) from None
    return classroom
