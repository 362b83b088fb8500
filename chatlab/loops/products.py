"""Products of a few vectors and packed weights, in whole numbers: what a token's time is spent on.

In: vectors in float32, and weights in whole numbers of 4 or 8 bits. Out: their products in float32, of one block of the
weights at a time. Knows nothing of layers or threads.

A processor multiplies two small whole numbers by two others, and adds up both, in the time that it takes to multiply
two long ones. So a vector is rounded to 16 bits, with a scale for each of its groups, as llama.cpp does with 8 bits.
Two of its numbers lie in a pair of 32 bits, and a shift of a word brings two weights into the same places.

It also does so for sixteen outputs at once. So weights lie in blocks of 96 outputs, in which the weights of one input
are neighbours. Sums of whole numbers do not depend on the order, so a product is the same in any company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from chatlab.loops.arrays import compiled, floats, inlined, whole_numbers
from chatlab.loops.lanes import called, fused, let_send
from chatlab.loops.processor import has
from chatlab.loops.sizes import GROUP, OUTPUTS

__all__ = ["multiply_block", "rounded", "space"]

PAIRS = GROUP // 2
SIDE_BY_SIDE = 16  # outputs that are multiplied at once, in one or in a few instructions
# Numbers from what is multiplied to what is asked for from memory: a page, beyond which processors do not look.
AHEAD = 1024
LARGEST = 2**15 - 1  # of a rounded vector

# Vectors that go with a word while it is in a register, at most. A processor begins with the next product before it has
# added the last one, so where they are fewer some sums are added up beside each other.
MOST = 8 if has("avx512f") else 4
WHOLE, NUMBER = ir.IntType(32), ir.FloatType()
SIXTEEN, NUMBERS = ir.VectorType(WHOLE, SIDE_BY_SIDE), ir.VectorType(NUMBER, SIDE_BY_SIDE)


def _adding(words_of_group: int, bits: int, vectors: int) -> Any:
    """Return a function that adds a group's share to the totals of `SIDE_BY_SIDE` outputs and so many vectors.

    Each word holds numbers of so many bits; the two that are 16 bits apart go with one pair. What is given is where the
    words, the scales, the pairs, the factors and the totals of these outputs and vectors start: see `multiply_block`.
    """
    shifts = range(0, PAIRS // words_of_group * bits, bits)
    mask = _sixteen((2**bits - 1) * 0x10001)

    @intrinsic
    def add(typing, words, word, scales, scale, pairs, pair, factors, factor, totals, total):
        def code(context, builder, signature, args):
            words, scales, pairs, factors, totals = _places(context, builder, signature, args)
            beside = max(1, min(MOST // vectors, 4))
            parts = [[_sixteen(0)] * beside for _ in range(vectors)]
            for number in range(words_of_group):
                let_send(builder, words(number * OUTPUTS + AHEAD))
                word = _load(builder, words(number * OUTPUTS), SIXTEEN)
                for index, shift in enumerate(shifts):
                    two = builder.and_(builder.lshr(word, _sixteen(shift)), mask)
                    for vector, sums in enumerate(parts):
                        place = number * len(shifts) + index
                        pair = _repeated(builder, builder.load(pairs(vector * PAIRS + place)))
                        sums[place % beside] = _added(builder, sums[place % beside], two, pair)
            for each in range(2):
                let_send(builder, scales(each * OUTPUTS + AHEAD * 3 // 4))
            scale, minimum = (_load(builder, scales(each * OUTPUTS), NUMBERS) for each in range(2))
            for vector, sums in enumerate(parts):
                factor, input_ = (_repeated(builder, builder.load(factors(vector * 2 + each))) for each in range(2))
                place = builder.bitcast(totals(vector * OUTPUTS), NUMBERS.as_pointer())
                whole = builder.sitofp(reduce(builder.add, sums), NUMBERS)
                total = fused(builder, whole, builder.fmul(factor, scale), builder.load(place, align=4))
                builder.store(fused(builder, input_, minimum, total), place, align=4)
            return context.get_dummy_value()

        where = (words, types.int64, scales, types.int64, pairs, types.int64, factors, types.int64, totals, types.int64)
        return types.void(*where), code

    return add


def _places(context: Any, builder: Any, signature: Any, args: Any) -> Iterator[Callable[[int], Any]]:
    """Yield for each array, with the start that is given after it, a function: so many after the start, its address."""
    for kind, array, start in zip(signature.args[::2], args[::2], args[1::2], strict=True):
        yield partial(_at, builder, context.make_array(kind)(context, builder, array).data, start)


def _at(builder: Any, array: Any, start: Any, number: int) -> Any:
    """Return the address of an array's element so many after a start."""
    return builder.gep(array, [builder.add(start, start.type(number))])


def _load(builder: Any, address: Any, kind: Any) -> Any:
    """Return the sixteen numbers that begin at an address."""
    return builder.load(builder.bitcast(address, kind.as_pointer()), align=4)


def _sixteen(whole: int) -> Any:
    """Return sixteen times the same whole number, which is known now."""
    return SIXTEEN([whole] * SIDE_BY_SIDE)


def _repeated(builder: Any, number: Any) -> Any:
    """Return sixteen times the same number."""
    none = ir.VectorType(number.type, SIDE_BY_SIDE)(ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(none, number, WHOLE(0)), none, _sixteen(0))


def _added(builder: Any, total: Any, left: Any, right: Any) -> Any:
    """Return a total with the products of two numbers of 16 bits each added to it: one instruction, two, or a few."""
    if has("avx512vnni"):
        return called(builder, "llvm.x86.avx512.vpdpwssd.512", SIXTEEN, total, left, right)
    narrow, wide = ir.VectorType(ir.IntType(16), 2 * SIDE_BY_SIDE), ir.VectorType(WHOLE, 2 * SIDE_BY_SIDE)
    products = builder.mul(*(builder.sext(builder.bitcast(side, narrow), wide) for side in (left, right)))
    for first in (0, 1):
        every_other = SIXTEEN([*range(first, 2 * SIDE_BY_SIDE, 2)])
        total = builder.add(total, builder.shuffle_vector(products, wide(ir.Undefined), every_other))
    return total


def _adding_some(words_of_group: int, bits: int) -> Any:
    """Return a function that does so for as many of the vectors that are left as it can, and tells how many."""
    one, four, most = (_adding(words_of_group, bits, vectors) for vectors in (1, 4, MOST))

    @inlined
    def add(left, words, word, scales, scale, pairs, pair, factors, factor, totals, total):
        if left >= MOST:
            most(words, word, scales, scale, pairs, pair, factors, factor, totals, total)
            return MOST
        if left >= 4:
            four(words, word, scales, scale, pairs, pair, factors, factor, totals, total)
            return 4
        one(words, word, scales, scale, pairs, pair, factors, factor, totals, total)
        return 1

    return add


_add_nibbles, _add_bytes = _adding_some(GROUP // 8, 4), _adding_some(GROUP // 4, 8)


@compiled
def space(own, n, inputs):
    """Return what `rounded` fills for n vectors, and room for the totals of a block, from an address on."""
    groups = inputs // GROUP
    factors = own + n * groups * PAIRS * 4
    totals = factors + n * groups * 2 * 4
    return (
        whole_numbers(own, (groups, n, PAIRS)),
        floats(factors, (groups, n, 2)),
        floats(totals, (n, OUTPUTS)),
    )


@intrinsic
def _round(typing, vectors, vector, pairs, pair, factors, factor):
    """Round a group of a vector, and fill what `rounded` does for it."""

    def code(context, builder, signature, args):
        vectors, pairs, factors = _places(context, builder, signature, args)
        halves = [_load(builder, vectors(start), NUMBERS) for start in (0, PAIRS)]
        sizes = (called(builder, "llvm.fabs.v16f32", NUMBERS, half) for half in halves)
        larger = called(builder, "llvm.maxnum.v16f32", NUMBERS, *sizes, flags=("nnan",))
        highest = called(builder, "llvm.vector.reduce.fmax.v16f32", NUMBER, larger, flags=("nnan",))
        zeros = builder.fcmp_ordered("==", highest, NUMBER(0))
        scale = _repeated(builder, builder.select(zeros, NUMBER(0), builder.fdiv(NUMBER(LARGEST), highest)))
        low, high = (
            builder.fptosi(called(builder, "llvm.rint.v16f32", NUMBERS, builder.fmul(half, scale)), SIXTEEN)
            for half in halves
        )
        whole = called(builder, "llvm.vector.reduce.add.v16i32", WHOLE, builder.add(low, high))
        both = builder.or_(builder.and_(low, _sixteen(0xFFFF)), builder.shl(high, _sixteen(16)))
        builder.store(both, builder.bitcast(pairs(0), SIXTEEN.as_pointer()), align=4)
        each = builder.fdiv(highest, NUMBER(LARGEST))
        builder.store(each, factors(0))
        builder.store(builder.fmul(builder.sitofp(whole, NUMBER), each), factors(1))
        return context.get_dummy_value()

    return types.void(vectors, types.int64, pairs, types.int64, factors, types.int64), code


@inlined
def rounded(vectors, space):
    """Round vectors [n, inputs] to 16 bits: the first half of each group are the low numbers of pairs, then the high.

    Fills pairs [groups, n, PAIRS], and for each group of each vector its scale and the sum of what it was rounded to.
    """
    pairs, factors = space[:2]
    n, inputs = vectors.shape
    for number in range(n):
        for group in range(inputs // GROUP):
            place = group * n + number
            _round(vectors, number * inputs + group * GROUP, pairs, place * PAIRS, factors, place * 2)


@inlined
def multiply_block(words, scales, block, n, space):
    """Return a block's products [n, OUTPUTS] with the n vectors that `rounded` has filled the space with.

    Weights are unpacked as they are multiplied, once for several vectors.
    """
    pairs, factors, totals = space
    for number in range(n):
        for output in range(OUTPUTS):
            totals[number, output] = 0
    room = factors.shape[1]
    rows = words.shape[1] // scales.shape[1]
    for group in range(scales.shape[1]):
        for output in range(0, OUTPUTS, SIDE_BY_SIDE):
            word = (block * words.shape[1] + group * rows) * OUTPUTS + output
            scale = (block * scales.shape[1] + group) * 2 * OUTPUTS + output
            number = 0
            while number < n:
                left, place = n - number, group * room + number
                pair, factor, total = place * PAIRS, place * 2, number * OUTPUTS + output
                if rows == GROUP // 8:
                    number += _add_nibbles(
                        left, words, word, scales, scale, pairs, pair, factors, factor, totals, total
                    )
                else:
                    number += _add_bytes(left, words, word, scales, scale, pairs, pair, factors, factor, totals, total)
    return totals
