"""Time limits: stop code that somebody else wrote and that may never end.

In: so many seconds, and the file that the code names as its own. Out: an error in the code that takes longer.
Knows nothing of what the code is for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["OutOfTimeError", "at_most"]


class OutOfTimeError(BaseException):
    """What `at_most` may raise in code that catches every `Exception`, and would go on after a `TimeoutError`."""


@contextmanager
def at_most(seconds: float, *, file: str, raises: type[BaseException] = TimeoutError) -> Iterator[None]:
    """Raise an error in the code of that file, where it runs in this thread for longer.

    It is stopped at its next step: a single call that never ends, or a bare `except:`, is beyond this.

    >>> with at_most(0.1, file="endless"):
    ...     exec(compile("while True: pass", "endless", "exec"))
    Traceback (most recent call last):
    TimeoutError: it takes longer than 0.1 s
    """
    end = time.monotonic() + seconds

    def at_step(frame: FrameType, event: str, argument: Any) -> Any:
        if time.monotonic() > end:
            raise raises(f"it takes longer than {seconds} s")
        return at_step

    def at_call(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != file:
            return None
        frame.f_trace_opcodes = True  # `while True: pass` never comes to another line
        return at_step

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        yield
    finally:
        sys.settrace(before)
