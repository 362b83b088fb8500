"""The cache folder: where chatlab keeps what it downloads and converts.

In: the environment. Out: one folder, and a way to put a file or folder there whole or not at all.
Knows nothing of what the files mean.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = ["home"]


def home() -> Path:
    """Return chatlab's cache folder: `CHATLAB_HOME` if set, else the user's cache folder. It may not exist yet.

    >>> import os
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, CHATLAB_HOME="/tmp/lab"):
    ...     home().as_posix()
    '/tmp/lab'
    """
    chosen = os.environ.get("CHATLAB_HOME")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("chatlab-classroom")
