"""The course folder: where a learner's lessons and exercises are.

In: the course that comes with chatlab. Out: a folder with the learner's own copy, in which nothing the learner changed
is ever overwritten. Knows nothing of Jupyter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chatlab.files import write_whole

__all__ = ["Copied", "checkout", "copy_course", "copy_files", "packaged_course"]

PARTS = ("notebooks", "exercises")
# These stay where they were installed: they hold the answers, or are for those who check or teach the course.
KEPT_BACK = (
    "notebooks/conftest.py",
    "exercises/conftest.py",
    "exercises/questions/",
    "exercises/tasks/",
    "exercises/source/",
    "exercises/coverage/",
    "exercises/placement.yaml",
    "exercises/nbgrader_config.py",
    "exercises/README.md",
    "exercises/classroom.md",
)
RECORD = ".chatlab-course.json"  # file -> SHA-256 of the version that was copied, so that a changed file shows


@dataclass
class Copied:
    """What was copied: files that were written, and files that were kept because they had been changed there."""

    folder: Path
    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def checkout(start: Path | None = None) -> Path | None:
    """Return the source checkout of chatlab that the folder (None: the current one) is in, or None."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        project = folder / "pyproject.toml"
        if project.is_file() and (folder / "notebooks").is_dir():
            name = re.search(r'^name *= *"chatlab-classroom"$', project.read_text(encoding="utf-8"), re.MULTILINE)
            return folder if name else None
    return None


def packaged_course() -> Path:
    """Return the folder of the lessons and exercises that were installed with chatlab.

    Raises `FileNotFoundError` where they were not, as in an editable install.
    """
    folder = Path(__file__).parent / "course_files"
    if not folder.is_dir():
        folder = Path(__file__).parent.parent  # an editable install: the checkout itself
    if not (folder / "notebooks").is_dir():
        raise FileNotFoundError("The lessons are not installed. Install chatlab again: pip install chatlab-classroom.")
    return folder


def copy_course(folder: Path, *, source: Path | None = None) -> Copied:
    """Copy the lessons and exercises to the learner's folder, as `copy_files` does."""
    return copy_files(folder, source or packaged_course(), PARTS, kept_back=KEPT_BACK)


def copy_files(folder: Path, source: Path, parts: Sequence[str], *, kept_back: tuple[str, ...] = ()) -> Copied:
    """Copy files and folders from the source, but none whose name begins as one that is kept back.

    A file that was changed in the folder is kept, even when a newer version of it exists; a file that was deleted there
    is written again, and one that was not changed is brought up to date.
    """
    record = folder / RECORD
    known = _read_record(record)
    result = Copied(folder)
    found = [path for part in parts for path in [source / part, *(source / part).rglob("*")]]
    for path in sorted(path for path in found if path.is_file()):
        if ".ipynb_checkpoints" in path.parts or "__pycache__" in path.parts:
            continue
        name = path.relative_to(source).as_posix()
        if name.startswith(kept_back):
            continue
        target = folder / name
        newest = path.read_bytes()
        if target.exists():
            mine = target.read_bytes()
            if mine == newest:
                known[name] = _hash(newest)
                continue
            if _hash(mine) != known.get(name):
                result.kept.append(name)
                continue
        write_whole(target, newest)
        known[name] = _hash(newest)
        result.written.append(name)
    write_whole(record, json.dumps(known, indent=1, sort_keys=True).encode())
    return result


def _read_record(record: Path) -> dict[str, str]:
    """Return what was copied when; a damaged record counts as empty, so that every file counts as changed."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
