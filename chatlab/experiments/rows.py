"""Rows: replies on disk, each a line of JSON, written as it comes.

In: rows, each with a key. Out: the rows of a file by key; of a process that was killed, all but the line it was
writing. Knows nothing of what is in a row but its key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock

__all__ = ["Row", "RowsFile"]

Row: TypeAlias = Mapping[str, Any]


class RowsFile:
    """A file of rows, which several processes may add to; where a key comes twice, the later row counts.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = RowsFile(Path(folder) / "rows.jsonl")
    ...     rows.add({"key": "a", "reply": "Hello!"})
    ...     rows.read()
    {'a': {'key': 'a', 'reply': 'Hello!'}}
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Row]:
        """Return the rows by key; a line that is no row is passed over."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return {}
        rows = filter(None, map(_row, lines))
        return {row["key"]: row for row in rows}

    def add(self, row: Row) -> None:
        """Write a row at the end, below half a line that a killed process may have left."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(self.path.name + ".lock")), self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(row).encode() + b"\n")


def _row(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("key"), str) else None
