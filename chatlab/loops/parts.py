"""Parts: how threads share out a step among each other, by counting together.

In: the counts of a piece of work, one pair for each step. Out: who does which part, and when all parts are done. Knows
nothing of what the parts are, nor where threads come from: see `chatlab.team`.
"""

from __future__ import annotations

import platform
import sys
from typing import Any

from llvmlite import ir
from numba import int64, types, void
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from chatlab.loops.arrays import compiled
from chatlab.loops.sizes import APART

__all__ = ["finish", "take", "wait"]

TAKEN, FINISHED = 0, 1  # what is counted of a step
PATIENCE = 2000  # looks, some 50 µs, until a thread that waits lets others have its core
PAUSES = {"x86_64": ("llvm.x86.sse2.pause", []), "aarch64": ("llvm.aarch64.hint", [1])}  # LLVM's names and arguments
PAUSE = PAUSES.get({"amd64": "x86_64", "arm64": "aarch64"}.get(machine := platform.machine().lower(), machine))


def _count(builder: Any, args: Any) -> Any:
    """Return the address of a count, given where the counts are, a step and a kind."""
    counts, step, kind = args
    index = builder.add(builder.mul(step, ir.Constant(step.type, 2)), kind)
    first = builder.inttoptr(counts, ir.IntType(64).as_pointer())
    return builder.gep(first, [builder.mul(index, ir.Constant(step.type, APART))])


@intrinsic
def _add_one(typing, counts, step, kind):
    """Add one to a count in one go, so that no two threads find the same number; return what it was."""

    def code(context, builder, signature, args):
        address = _count(builder, args)
        return builder.atomic_rmw("add", address, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return int64(int64, int64, int64), code


@intrinsic
def _look(typing, counts, step, kind):
    """Return a count, and see whatever was written before it was raised."""

    def code(context, builder, signature, args):
        return builder.load_atomic(_count(builder, args), "acquire", 8)

    return int64(int64, int64, int64), code


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


@compiled
def take(work, step):
    """Return the number of the next part of a step; where there are no more, one that is too high."""
    return _add_one(work, step, TAKEN)


@compiled
def finish(work, step):
    """Tell that a part of a step is finished."""
    _add_one(work, step, FINISHED)


@compiled
def wait(work, step, parts):
    """Wait until so many parts of a step are finished; what others have written can be read then."""
    looks = 0
    while _look(work, step, FINISHED) < parts:
        _pause()
        looks += 1
        if looks > PATIENCE:
            _let_others()
