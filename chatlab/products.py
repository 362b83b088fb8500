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

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

__all__ = ["GROUP", "INNER", "OPTIONS", "OUTPUTS", "multiply_block", "room", "rounded", "unpack_group"]

GROUP = 32  # how many neighbouring weights of an output share a scale, in GGUF's blocks
PAIRS = GROUP // 2
OUTPUTS = 96  # in a block
LANES = 16  # outputs that are multiplied at once, in one or in a few instructions
AHEAD = (
    1024  # numbers from what is multiplied to what is asked for from memory: a page, where processors look no further
)
LARGEST = np.float32(2**15 - 1)  # of a rounded vector
OPTIONS: dict[str, Any] = {
    "cache": True,  # compiled once, when chatlab is first used on a machine
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"nnan", "nsz"},  # of which no result is rounded differently
}
INNER: dict[str, Any] = OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


WHOLE = ir.IntType(32)
SIXTEEN = ir.VectorType(WHOLE, LANES)


def _adding(words_of_group: int, bits: int) -> Any:
    """Return a function that adds to sums [OUTPUTS] the products of a group's words and the pairs of a vector.

    Each word holds numbers of so many bits; the two that are 16 bits apart go with one pair.
    """
    shifts = range(0, PAIRS // words_of_group * bits, bits)

    @intrinsic
    def add(typing, words, word, pairs, pair, sums):
        def code(context, builder, signature, args):
            words, pairs, sums = (
                context.make_array(signature.args[number])(context, builder, args[number]).data for number in (0, 2, 4)
            )
            vector = [_repeated(builder, builder.load(_at(builder, pairs, args[3], each))) for each in range(PAIRS)]
            for output in range(0, OUTPUTS, LANES):
                place = _sixteen(builder, sums, args[1].type(0), output)
                total = builder.load(place, align=4)
                for number in range(words_of_group):
                    if bits < 16:  # as they come from memory
                        _ask_for(builder, _at(builder, words, args[1], number * OUTPUTS + output + AHEAD))
                    word = builder.load(_sixteen(builder, words, args[1], number * OUTPUTS + output), align=4)
                    for index, shift in enumerate(shifts):
                        two = word
                        if bits < 16:
                            mask = SIXTEEN([(2**bits - 1) * 0x10001] * LANES)
                            two = builder.and_(builder.lshr(two, SIXTEEN([shift] * LANES)), mask)
                        total = builder.add(total, _two(builder, two, vector[number * len(shifts) + index]))
                builder.store(total, place, align=4)
            return context.get_dummy_value()

        return types.void(words, types.int64, pairs, types.int64, sums), code

    return add


def _at(builder: Any, array: Any, start: Any, number: int) -> Any:
    """Return the address of an array's element so many after a start."""
    return builder.gep(array, [builder.add(start, start.type(number))])


def _sixteen(builder: Any, array: Any, start: Any, number: int) -> Any:
    """Return the address of sixteen elements."""
    return builder.bitcast(_at(builder, array, start, number), SIXTEEN.as_pointer())


def _ask_for(builder: Any, address: Any) -> None:
    """Let memory send what is at an address, for it will be needed soon; an address of nothing is no mistake."""
    byte = ir.IntType(8).as_pointer()
    prefetch = ir.FunctionType(ir.VoidType(), [byte, WHOLE, WHOLE, WHOLE])
    function = get_or_insert_function(builder.module, prefetch, "llvm.prefetch.p0")
    builder.call(function, [builder.bitcast(address, byte), WHOLE(0), WHOLE(3), WHOLE(1)])  # to be read, kept, data


@intrinsic
def _ask_for_scales(typing, scales, start):
    """Let memory send the scales of one of the next groups, given where those of this one start."""

    def code(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        for number in range(0, 2 * OUTPUTS, LANES):
            _ask_for(builder, _at(builder, data, args[1], number + AHEAD * 3 // 4))
        return context.get_dummy_value()

    return types.void(scales, types.int64), code


def _repeated(builder: Any, number: Any) -> Any:
    """Return sixteen times the same number."""
    none = SIXTEEN(None)
    return builder.shuffle_vector(builder.insert_element(none, number, WHOLE(0)), none, SIXTEEN([0] * LANES))


def _two(builder: Any, left: Any, right: Any) -> Any:
    """Return the products of two numbers of 16 bits each and their sum, which processors have an instruction for."""
    narrow, wide = ir.VectorType(ir.IntType(16), 2 * LANES), ir.VectorType(WHOLE, 2 * LANES)
    products = builder.mul(*(builder.sext(builder.bitcast(side, narrow), wide) for side in (left, right)))
    return builder.add(
        *(
            builder.shuffle_vector(products, wide(ir.Undefined), SIXTEEN([*range(first, 2 * LANES, 2)]))
            for first in (0, 1)
        )
    )


_add_nibbles, _add_bytes, _add_unpacked = _adding(GROUP // 8, 4), _adding(GROUP // 4, 8), _adding(PAIRS, 16)


@njit(**INNER)
def room(n, inputs):
    """Return room for n vectors as `rounded` fills it, and for what `multiply_block` needs besides."""
    pairs, factors = np.empty((n, inputs // 2), np.int32), np.empty((n, inputs // GROUP), np.float32)
    sums, totals = np.zeros(OUTPUTS, np.int32), np.empty((n, OUTPUTS), np.float32)
    return pairs, factors, np.empty_like(factors), np.empty((PAIRS, OUTPUTS), np.uint32), sums, totals


@njit(**INNER)
def rounded(vectors, each, space):
    """Round vectors [n, inputs] to 16 bits, for words that hold so many numbers each.

    Fills pairs [n, inputs / 2], and for each group of each vector its scale and the sum of what it was rounded to.
    """
    pairs, factors, inputs = space[:3]
    apart = each // 2
    for number in range(len(vectors)):
        for group in range(vectors.shape[1] // GROUP):
            start = group * GROUP
            highest = np.float32(0)
            for place in range(GROUP):
                highest = max(highest, abs(vectors[number, start + place]))
            scale = LARGEST / highest if highest > 0 else np.float32(0)
            total = np.int32(0)
            for word in range(GROUP // each):
                for place in range(apart):
                    here = start + word * each + place
                    low = np.int32(np.rint(vectors[number, here] * scale))
                    high = np.int32(np.rint(vectors[number, here + apart] * scale))
                    total += low + high
                    pairs[number, start // 2 + word * apart + place] = (low & np.int32(0xFFFF)) | (high << np.int32(16))
            factors[number, group] = highest / LARGEST
            inputs[number, group] = np.float32(total) * factors[number, group]


@njit(**INNER)
def unpack_group(words, scales, block, group, tile):
    """Fill a tile [PAIRS, OUTPUTS] with pairs of a group's whole numbers: see `rounded` for which two are one."""
    each = scales.shape[1] * GROUP // words.shape[1]
    apart, bits = each // 2, 32 // each
    mask = np.uint32((2**bits - 1) * 0x10001)
    for number in range(GROUP // each):
        for place in range(apart):
            shift = np.uint32(bits * place)
            for output in range(OUTPUTS):
                whole = words[block, group * (GROUP // each) + number, output]
                tile[number * apart + place, output] = (whole >> shift) & mask


@njit(**INNER)
def _add_group(scales, block, group, space, number, sums, totals):
    """Add to totals [n, OUTPUTS] what the sums [OUTPUTS] of a group's whole numbers stand for, and clear the sums."""
    if number == 0:
        _ask_for_scales(scales, (block * scales.shape[1] + group) * 2 * OUTPUTS)
    factor, inputs = space[1][number, group], space[2][number, group]
    for output in range(OUTPUTS):
        weight = factor * scales[block, group, 0, output]
        totals[number, output] += np.float32(sums[output]) * weight + inputs * scales[block, group, 1, output]
        sums[output] = 0


@njit(**INNER)
def multiply_block(words, scales, block, n, space):
    """Return a block's products [n, OUTPUTS] with the n vectors that `rounded` has filled the space with.

    Of one vector, weights are unpacked as they are multiplied; of several, once for all.
    """
    pairs, _, _, tile, sums, totals = space
    totals[:n] = 0
    each = scales.shape[1] * GROUP // words.shape[1]
    for group in range(scales.shape[1]):
        word = block * words.shape[1] + group * (GROUP // each)
        if n > 1:
            unpack_group(words, scales, block, group, tile)
            for number in range(n):
                _add_unpacked(tile, 0, pairs, number * pairs.shape[1] + group * PAIRS, sums)
                _add_group(scales, block, group, space, number, sums, totals)
        else:
            if each == 8:
                _add_nibbles(words, word * OUTPUTS, pairs, group * PAIRS, sums)
            else:
                _add_bytes(words, word * OUTPUTS, pairs, group * PAIRS, sums)
            _add_group(scales, block, group, space, 0, sums, totals)
    return totals
