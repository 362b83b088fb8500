"""A team: threads that share a piece of compiled work, part by part.

In: a compiled function. Out: what it does, done by several threads at once. Knows nothing of what the parts are.

A token takes two hundred steps, each of which needs what the one before it has made, and all of which take as long as a
thread takes to wake up twice. So a thread is woken once for all of them. In each step whoever is there takes the next
part, until none is left, and waits until the last is finished. Nobody waits for who comes late: who finds all parts of
a step finished goes on to the next one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from chatlab.loops.sizes import APART

__all__ = ["share", "use_threads"]

_number = 1
_helpers: list[_Helper] = []


def use_threads(number: int) -> None:
    """Let so many threads share what is to be done from now on, that of the caller among them."""
    global _number
    _number = number


def share(kernel: Callable[..., None], *arguments: Any, steps: int, room: int = 0) -> None:
    """Call a compiled function of so many steps in several threads; return when all of it is done.

    It gets the arguments, float32 numbers [room] for each thread to write what it likes, and the counts of its work
    [steps, 2, APART]. It goes through all steps, counted from 0: see `chatlab.loops.parts`. The arguments must hold
    everything that it reads or writes, for a thread may look at them when all is done.
    """
    counts = np.zeros((steps, 2, APART), np.int64)

    def work() -> None:
        kernel(*arguments, np.empty(room, np.float32), counts)

    while len(_helpers) < _number - 1:
        _helpers.append(_Helper())
    for helper in _helpers[: _number - 1]:
        helper.works.put(work)
    work()


class _Helper(Thread):
    """A thread that does its share of each work it is given."""

    def __init__(self) -> None:
        super().__init__(name="chatlab-team", daemon=True)
        self.works: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            work = self.works.get()
            work()
            del work  # it holds arrays


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.clear)  # a copy of a process has no thread but the one that made it
