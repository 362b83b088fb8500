"""Interruption: long work asks, where nothing is lost by it, whether it is still wanted.

In: a function that says so, from whoever may change their mind while a block runs. Out: the answer, to whoever does
the work, however deep below. Knows nothing of what the work is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["interrupted", "interruptible"]

_ASKED: ContextVar[Callable[[], bool]] = ContextVar("interrupted", default=lambda: False)


@contextmanager
def interruptible(asked: Callable[[], bool]) -> Iterator[None]:
    """Let work in this block ask `asked`, and whatever the blocks around it ask; other threads are not concerned.

    >>> with interruptible(lambda: True):
    ...     interrupted()
    True
    >>> interrupted()
    False
    """
    outer = _ASKED.get()
    token = _ASKED.set(lambda: asked() or outer())
    try:
        yield
    finally:
        _ASKED.reset(token)


def interrupted() -> bool:
    """Whether the work that is being done in this thread is no longer wanted."""
    return _ASKED.get()()
