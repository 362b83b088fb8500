"""Python's garbage collector at rest, while large libraries and files are loaded.

In: a piece of work that makes many objects and throws few away. Out: the same, faster. Knows nothing of what is loaded.

The collector goes through all objects again and again while they pile up. Without it `chatlab.load()` takes a third
less time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["garbage_kept"]


@contextmanager
def garbage_kept() -> Iterator[None]:
    """Let the collector rest meanwhile, unless it rests already; it goes on afterwards, after an error too.

    >>> with garbage_kept():
    ...     gc.isenabled()
    False
    >>> gc.isenabled()
    True
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
