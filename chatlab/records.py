"""Records: a small file of a learner's own, which several notebooks may change at once.

In: a name and changes. Out: a JSON file in the user's data folder, with a format number; one that cannot be read is
set aside, never lost. Knows nothing of what is in it.
"""

from __future__ import annotations

import atexit
import json
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from chatlab.files import write_whole

__all__ = ["FORMAT", "NAMES", "Record", "delete_records", "records_folder"]

FORMAT = 1
NAMES = ("progress", "placement", "predictions", "recall")  # what there may be records of
SECONDS_TO_WAIT = 10.0  # for another notebook that is writing


def records_folder() -> Path:
    """Return where a learner's records and saved chats are: the user's data folder, or where the environment says.

    `CHATLAB_RECORDS` is a folder, or "off": then nothing outlives this process. Without it they are in `CHATLAB_HOME`,
    if that is set. The folder may not exist yet.

    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, CHATLAB_RECORDS="/tmp/records"):
    ...     records_folder().as_posix()
    '/tmp/records'
    """
    chosen = os.environ.get("CHATLAB_RECORDS") or os.environ.get("CHATLAB_HOME")
    if chosen == "off":
        return _folder_of_this_process()
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("chatlab-classroom")


def delete_records(folder: Path) -> None:
    """Delete every record in a folder, and nothing else that is there, such as saved chats."""
    for name in NAMES:
        Record(name, field="", empty=dict, folder=folder).delete()


@cache
def _folder_of_this_process() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="chatlab-records-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


class Record:
    """One file of a list or dict called `field`, which `empty` makes when there is none.

    >>> folder = tempfile.TemporaryDirectory()
    >>> record = Record("marks", field="marks", empty=list, folder=Path(folder.name))
    >>> record.change(lambda marks: marks.append(1))
    >>> record.read()
    [1]
    >>> folder.cleanup()
    """

    def __init__(self, name: str, *, field: str, empty: Callable[[], Any], folder: Path | None = None) -> None:
        self.path = (folder or records_folder()) / f"{name}.json"
        self.field = field
        self.empty = empty

    def read(self) -> Any:
        """Return what is recorded. A file that cannot be read counts as empty; the next change sets it aside."""
        try:
            return self._read()[0]
        except (OSError, ValueError):
            return self.empty()

    def change(self, change: Callable[[Any], None]) -> None:
        """Read, let `change` alter what is there, and write, with no other notebook in between.

        Raises `OSError` where nothing can be written, or where the file is of a newer chatlab, which is left alone.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock():
            try:
                recorded, newer = self._read()
            except FileNotFoundError:
                recorded, newer = self.empty(), False
            except ValueError:
                self._set_aside()
                recorded, newer = self.empty(), False
            if newer:
                raise OSError(f"{self.path} was written by a newer chatlab. Update chatlab to go on with it.")
            change(recorded)
            text = json.dumps({"format": FORMAT, self.field: recorded}, ensure_ascii=False, indent=1)
            write_whole(self.path, text.encode())

    def delete(self) -> None:
        """Remove the file, and those that were set aside; the lock stays, since another notebook may hold it."""
        if self.path.parent.is_dir():
            with self._lock():
                for path in (self.path, *self.damaged()):
                    path.unlink(missing_ok=True)

    def damaged(self) -> list[Path]:
        """Return the files that could not be read and were set aside."""
        return sorted(self.path.parent.glob(f"{self.path.stem}.damaged-*.json"))

    def note(self) -> str:
        """Return what the learner should know about the file; an empty text if nothing."""
        try:
            newer = self._read()[1]
        except FileNotFoundError:
            newer = False
        except (OSError, ValueError):
            return f"{self.path} cannot be read. It is set aside when something new is recorded."
        if newer:
            return f"{self.path} was written by a newer chatlab. Update chatlab to go on with it."
        if aside := self.damaged():
            return f"A file that could not be read was set aside: {aside[-1]}."
        return ""

    def _lock(self) -> FileLock:
        return FileLock(self.path.with_suffix(".lock"), timeout=SECONDS_TO_WAIT)

    def _read(self) -> tuple[Any, bool]:
        """Return what is recorded and whether a newer chatlab wrote it; raises `ValueError` for anything else."""
        written = json.loads(self.path.read_text(encoding="utf-8"))
        number = written.get("format") if isinstance(written, dict) else None
        if isinstance(number, int) and number > FORMAT:
            return self.empty(), True
        recorded = written.get(self.field) if number == FORMAT else None
        kind = type(self.empty())
        if not isinstance(recorded, kind):
            raise ValueError(f"{self.path} holds no {self.field}")
        return recorded, False

    def _set_aside(self) -> None:
        number = len(self.damaged()) + 1
        os.replace(self.path, self.path.with_name(f"{self.path.stem}.damaged-{number}.json"))
