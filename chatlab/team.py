"""A team: threads that share a piece of compiled work, part by part.

In: a compiled function. Out: what it does, done by several threads at once. Knows nothing of what the parts are.

A token takes two hundred steps, each of which needs what the one before it has made, and all of which take as long as a
thread takes to wake up twice. So a thread is woken once for all of them. In each step whoever is there takes the next
part, until none is left, and waits until the last is finished. Nobody waits for who comes late: who finds all parts of
a step finished goes on to the next one.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from llvmlite import ir
from numba import int64, njit, types, void
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

__all__ = ["finish", "share", "take", "use_threads", "wait"]

TAKEN, FINISHED = 0, 1  # what is counted of a step
APART = 8  # numbers from one count to the next: threads that write into neighbours hinder each other
PATIENCE = 2000  # looks, some 50 µs, until a thread that waits lets others have its core
PAUSES = {"x86_64": ("llvm.x86.sse2.pause", []), "aarch64": ("llvm.aarch64.hint", [1])}  # LLVM's names and arguments
PAUSE = PAUSES.get({"amd64": "x86_64", "arm64": "aarch64"}.get(machine := platform.machine().lower(), machine))

_number = 1
_helpers: list[_Helper] = []


def use_threads(number: int) -> None:
    """Let so many threads share what is to be done from now on, that of the caller among them."""
    global _number
    _number = number


def share(kernel: Callable[..., None], *arguments: Any, steps: int) -> None:
    """Call a compiled function of so many steps with the arguments and the counts of its work, in several threads.

    It goes through all steps, counted from 0, with `take`, `finish` and `wait`; the arguments must hold everything that
    it reads or writes. It returns when all of it is done.
    """
    work = partial(kernel, *arguments, np.zeros((steps, 2, APART), np.int64))
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


def _count(context: Any, builder: Any, counts: Any, args: Any) -> Any:
    """Return the address of a count, given the type of the counts, and the counts, a step and a kind."""
    array, step, kind = args
    index = builder.add(builder.mul(step, ir.Constant(step.type, 2)), kind)
    data = context.make_array(counts)(context, builder, array).data
    return builder.gep(data, [builder.mul(index, ir.Constant(step.type, APART))])


@intrinsic
def _add_one(typing, counts, step, kind):
    """Add one to a count in one go, so that no two threads find the same number; return what it was."""

    def code(context, builder, signature, args):
        address = _count(context, builder, signature.args[0], args)
        return builder.atomic_rmw("add", address, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return int64(counts, int64, int64), code


@intrinsic
def _look(typing, counts, step, kind):
    """Return a count, and see whatever was written before it was raised."""

    def code(context, builder, signature, args):
        return builder.load_atomic(_count(context, builder, signature.args[0], args), "acquire", 8)

    return int64(counts, int64, int64), code


@intrinsic
def _pause(typing):
    """Tell the processor that this thread only waits."""

    def code(context, builder, signature, args):
        if PAUSE is not None:
            name, numbers = PAUSE
            whole = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [whole] * len(numbers))
            builder.call(get_or_insert_function(builder.module, kind, name), [whole(number) for number in numbers])
        return context.get_dummy_value()

    return void(), code


if sys.platform == "win32":
    _let_others = _pause
else:
    _let_others = types.ExternalFunction("sched_yield", types.int32())


@njit(inline="always")
def take(work, step):
    """Return the number of the next part of a step; where there are no more, one that is too high."""
    return _add_one(work, step, TAKEN)


@njit(inline="always")
def finish(work, step):
    """Tell that a part of a step is finished."""
    _add_one(work, step, FINISHED)


@njit(nogil=True, cache=True)
def wait(work, step, parts):
    """Wait until so many parts of a step are finished; what others have written can be read then."""
    looks = 0
    while _look(work, step, FINISHED) < parts:
        _pause()
        looks += 1
        if looks > PATIENCE:
            _let_others()
