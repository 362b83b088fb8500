"""Lanes: eight numbers that go through the same sums at once, as processors have instructions for.

In: arrays in float32. Out: sums of them. Knows nothing of what they are for.

A compiler that may add in any order makes loops as fast as these, but chooses another order each time that it compiles
them, and for each processor. What is written here is added in the order that is written here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, int64, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, register_model

from chatlab.loops.arrays import compiled
from chatlab.loops.sizes import LANES

__all__ = [
    "add_products",
    "ask_for",
    "called",
    "exp",
    "fused",
    "keep",
    "lanes",
    "let_send",
    "nothing",
    "plus",
    "repeated",
    "total",
]

EIGHT = ir.VectorType(ir.FloatType(), LANES)


class _Lanes(types.Type):  # type: ignore[misc]
    """Eight numbers in float32, in a register of the processor."""

    def __init__(self) -> None:
        super().__init__("Lanes")


@register_model(_Lanes)
class _Register(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: _Lanes) -> None:
        super().__init__(manager, kind, EIGHT)


KIND = _Lanes()


@intrinsic
def nothing(typing):
    """Return eight zeros."""
    return KIND(), lambda context, builder, signature, args: EIGHT([0.0] * LANES)


@intrinsic
def lanes(typing, array, start):
    """Return eight neighbours of a contiguous array of any shape, from so many numbers after its first one."""

    def code(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), EIGHT.as_pointer())
        return builder.load(place, align=4)

    return KIND(array, int64), code


@intrinsic
def keep(typing, array, start, numbers):
    """Write eight numbers where `lanes` would find them."""

    def code(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        builder.store(args[2], builder.bitcast(builder.gep(data, [args[1]]), EIGHT.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, int64, KIND), code


@intrinsic
def repeated(typing, number):
    """Return eight times the same number."""

    def code(context, builder, signature, args):
        none, whole = EIGHT(ir.Undefined), ir.IntType(32)
        first = builder.insert_element(none, args[0], whole(0))
        return builder.shuffle_vector(first, none, ir.VectorType(whole, LANES)([0] * LANES))

    return KIND(float32), code


@intrinsic
def ask_for(typing, array, start):
    """Let memory send what is so many numbers after an array's first one, for it will be needed soon."""

    def code(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        let_send(builder, builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.void(array, int64), code


def let_send(builder: Any, address: Any) -> None:
    """Let memory send what is at an address; an address of nothing is no mistake."""
    byte, whole = ir.IntType(8).as_pointer(), ir.IntType(32)
    how = (whole(0), whole(3), whole(1))  # to be read, kept, data
    called(builder, "llvm.prefetch.p0", ir.VoidType(), builder.bitcast(address, byte), *how)


@intrinsic
def plus(typing, left, right):
    """Return the sums of the left and the right numbers."""
    return KIND(KIND, KIND), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def add_products(typing, sums, left, right):
    """Return sums, with the products of the left and the right numbers added to them."""
    return KIND(KIND, KIND, KIND), (lambda context, builder, signature, args: fused(builder, args[1], args[2], args[0]))


def fused(builder: Any, left: Any, right: Any, total: Any) -> Any:
    """Return a total of some numbers in float32 with the products of others added to it, rounded once."""
    return called(builder, f"llvm.fma.v{total.type.count}f32", total.type, left, right, total)


def called(builder: Any, name: str, kind: Any, *arguments: Any, flags: tuple[str, ...] = ()) -> Any:
    """Return what one of LLVM's own functions makes of its arguments."""
    function = get_or_insert_function(builder.module, ir.FunctionType(kind, [each.type for each in arguments]), name)
    return builder.call(function, arguments, fastmath=flags)


@intrinsic
def total(typing, sums):
    """Return the sum of the eight numbers: the halves are added to each other, then the halves of that, and so on."""

    def code(context, builder, signature, args):
        each = [builder.extract_element(args[0], ir.IntType(32)(number)) for number in range(LANES)]
        while (half := len(each) // 2) > 0:
            each = [builder.fadd(*pair) for pair in zip(each[:half], each[half:], strict=True)]
        return each[0]

    return float32(KIND), code


@compiled
def exp(x):
    """Return e^x for x from -87 to 88, but for rounding, in steps that can be taken for eight numbers at once.

    It is 2^whole × e^rest, with a rest of at most half of log 2: see "expf" in Moshier's Cephes library.
    """
    x = min(max(x, np.float32(-87)), np.float32(88))
    whole = np.rint(x * np.float32(1.44269504))
    rest = x - whole * np.float32(0.693359375) + whole * np.float32(2.12194440e-4)
    sum_ = np.float32(1.9875691500e-4)
    sum_ = sum_ * rest + np.float32(1.3981999507e-3)
    sum_ = sum_ * rest + np.float32(8.3334519073e-3)
    sum_ = sum_ * rest + np.float32(4.1665795894e-2)
    sum_ = sum_ * rest + np.float32(1.6666665459e-1)
    sum_ = sum_ * rest + np.float32(5.0000001201e-1)
    sum_ = sum_ * rest * rest + rest + np.float32(1)
    power = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))  # the bits of 2^whole
    return sum_ * power.view(np.float32)
