"""Usage: what each learner has used, day by day, in a table that outlives the server.

In: each reply that was made, each request that was refused. Out: sums, and the whole table as CSV. Knows nothing of
keys, nor of what was said.
"""

from __future__ import annotations

import csv
import io
import logging
import sqlite3
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

from chatlab.errors import KeyFileError

__all__ = ["COLUMNS", "Row", "Usage", "usage_path"]

Row: TypeAlias = dict[str, Any]  # column -> value

logger = logging.getLogger("chatlab.server")

COUNTS = ("requests", "refused", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds")
COLUMNS = ("day", "name", *COUNTS)
CREATE = f"""CREATE TABLE IF NOT EXISTS usage (day TEXT, name TEXT, {", ".join(f"{each} NOT NULL" for each in COUNTS)},
PRIMARY KEY (day, name))"""
ADD = f"""INSERT INTO usage VALUES ({", ".join("?" * len(COLUMNS))})
ON CONFLICT DO UPDATE SET {", ".join(f"{each} = {each} + excluded.{each}" for each in COUNTS)}"""


def usage_path(key_file: Path) -> Path:
    """Return where the usage of a key file's learners is kept: beside it.

    >>> usage_path(Path("room/api-keys.yaml")).as_posix()
    'room/api-keys.usage.db'
    """
    return key_file.with_suffix(".usage.db")


class Usage:
    """What was used, one row a day and name, in an SQLite file; a day is the calendar day of this machine's clock.

    May be used from any thread. What cannot be written (a full disk) is told in the log, and no reply fails for it.
    Raises `KeyFileError` where the file cannot be opened.

    >>> usage = Usage(":memory:")
    >>> usage.add("ada", requests=1, prompt_tokens=30, completion_tokens=12)
    >>> usage.add("ada", refused=1)
    >>> usage.tokens_today("ada"), usage.tokens_today("bob")
    (42, 0)
    >>> usage.close()
    """

    def __init__(self, path: str | Path, *, today: Callable[[], date] = date.today) -> None:
        self._today = today
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            self._database.execute("PRAGMA journal_mode=WAL")  # who reads does not hold up who writes
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(CREATE)
        except sqlite3.Error as error:
            raise KeyFileError(f"The usage table {path} cannot be opened: {error}.") from error

    def add(
        self,
        name: str,
        *,
        requests: int = 0,
        refused: int = 0,
        prompt_tokens: int = 0,
        cached_tokens: int = 0,
        completion_tokens: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Add to what someone has used today."""
        counts = (requests, refused, prompt_tokens, cached_tokens, completion_tokens, seconds)
        try:
            with self._lock:
                self._database.execute(ADD, (self._today().isoformat(), name, *counts))
        except sqlite3.Error as error:
            logger.error("What %s used could not be noted: %s", name, error)

    def tokens_today(self, name: str) -> int:
        """Return how many tokens someone has used today, in prompts and replies together."""
        query = "SELECT prompt_tokens + completion_tokens FROM usage WHERE day = ? AND name = ?"
        with self._lock:
            row = self._database.execute(query, (self._today().isoformat(), name)).fetchone()
        return int(row[0]) if row else 0

    def rows(self, *, today: bool = False) -> list[Row]:
        """Return the table, or today's part of it, as dicts of `COLUMNS`, by day and name."""
        query = f"SELECT * FROM usage{' WHERE day = ?' if today else ''} ORDER BY day, name"
        with self._lock:
            rows = self._database.execute(query, (self._today().isoformat(),) if today else ()).fetchall()
        return [{**dict(zip(COLUMNS, row, strict=True)), "seconds": round(row[-1], 2)} for row in rows]

    def to_csv(self) -> str:
        """Return the table as CSV, with its column names first; tokens are counts, seconds are from request to end."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
