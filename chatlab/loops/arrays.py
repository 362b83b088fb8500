"""Arrays: memory that somebody else has, as arrays for compiled loops; and how loops are compiled.

In: addresses. Out: arrays. Knows nothing of what is in them.
"""

from __future__ import annotations

from typing import Any

from numba import float32, int32, int64, njit, types, uint32
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

__all__ = ["compiled", "floats", "inlined", "integers", "stretch", "whole_numbers", "words_at"]

OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": {"nnan", "nsz"},  # of which no result is rounded differently
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
compiled = njit(**OPTIONS)  # a loop that other loops use
# One that becomes part of another before either is compiled: for what is used once, that takes less time.
inlined = njit(inline="always", **OPTIONS)


def _at(kind: Any) -> Any:
    """Return a function of an address and a shape, which returns the numbers of a kind that lie there as an array.

    It does what `numba.carray` does for any pointer, and is itself part of each loop in place of a loop of its own for
    each shape: a loop takes a tenth of a second to compile.
    """

    @intrinsic
    def array_at(typing, address, shape):
        array = types.Array(kind, len(shape), "C")

        def code(context, builder, signature, args):
            sizes = cgutils.unpack_tuple(builder, args[1])
            strides: list[Any] = []
            step = context.get_constant(types.intp, kind.bitwidth // 8)
            for size in reversed(sizes):
                strides.insert(0, step)
                step = builder.mul(step, size)
            made = context.make_array(array)(context, builder)
            data = builder.inttoptr(args[0], context.get_data_type(kind).as_pointer())
            populate_array(made, data, sizes, strides, itemsize=kind.bitwidth // 8, meminfo=None)
            return made._getvalue()

        return array(types.int64, types.UniTuple(types.int64, len(shape))), code

    return array_at


floats, words_at, whole_numbers, integers = (_at(kind) for kind in (float32, uint32, int32, int64))


@intrinsic
def stretch(typing, array, start, size):
    """Return so many neighbours of a contiguous array of any shape, from so many numbers after its first one.

    Their places begin at 0, so a compiler need not think of places that count from the end, as Python's may, and takes
    many numbers at once.
    """
    view = types.Array(array.dtype, 1, "C")

    def code(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        made, width = context.make_array(view)(context, builder), array.dtype.bitwidth // 8
        strides = [context.get_constant(types.intp, width)]
        populate_array(made, builder.gep(data, [args[1]]), [args[2]], strides, itemsize=width, meminfo=None)
        return made._getvalue()

    return view(array, types.int64, types.int64), code
