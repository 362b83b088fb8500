"""Kernels: the loops of the forward pass that numba compiles, for a few tokens at a time.

In: arrays in float32, and weights in whole numbers of 4 or 8 bits. Out: arrays that are filled. Knows nothing of texts.

A product with one vector takes as long as the weights need to come from memory and to be unpacked. PyTorch's kernels do
so only with vectors that are rounded to 8 bits of precision, and to call thirty small operations for a layer took as
long as their work. So what a layer does to a token is compiled as a whole; numba needs no compiler on the machine.

A processor multiplies eight or sixteen neighbouring numbers at once. So weights lie in blocks of 96 outputs, in which
the weights of one input are neighbours. (Loops over single numbers, without slices, compile in a third of the time.)
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from threading import RLock
from typing import Any

import numba
import numpy as np
from numba import float32, float64, int64, njit, prange, uint32
from tqdm.auto import tqdm

__all__ = ["GROUP", "OUTPUTS", "attend", "mix", "multiply", "prepare", "think", "turn_taking", "unpack", "use_threads"]

GROUP = 32  # how many neighbouring weights of an output share a scale, in GGUF's blocks
OUTPUTS = 96  # in a block
OPTIONS: dict[str, Any] = {
    "cache": True,  # compiled once, when chatlab is first used on a machine
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},  # a * b + c may be rounded once in place of twice
}
INNER: dict[str, Any] = OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
SUMS: dict[str, Any] = OPTIONS | {"fastmath": {"contract", "reassoc"}}  # sums in any order, eight at a time


def _is_threadsafe() -> bool:
    """Whether two threads may run parallel loops at once: not in numba's own pool, its last resort."""
    pools = [] if numba.config.THREADING_LAYER == "workqueue" else ["tbbpool", "omppool"]
    for pool in pools:
        with suppress(ImportError):  # a library of the system is missing
            import_module(f"numba.np.ufunc.{pool}")
            return True
    return False


# Hold it while you call a kernel: where two may not run at once, it lets one after the other.
turn_taking: AbstractContextManager[Any] = nullcontext() if _is_threadsafe() else RLock()


def use_threads(number: int) -> None:
    """Let the kernels that this thread calls use so many threads."""
    numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))


def _of_bits(bits: int) -> tuple[Any, Any]:
    """Return two functions for a group of weights of so many bits in a block: one adds products, one unpacks."""
    each = 32 // bits  # whole numbers in a word
    mask = np.uint32(2**bits - 1)

    @njit(inline="always", **OPTIONS)
    def add_products(words, block, group, vectors, sums):
        """Add the products of the group's whole numbers and the one vector to sums [OUTPUTS]."""
        for number in range(GROUP // each):
            word = group * (GROUP // each) + number
            for output in range(OUTPUTS):
                wholes, total = words[block, word, output], sums[output]
                for place in range(each):
                    weight = np.float32(np.int32((wholes >> np.uint32(bits * place)) & mask))
                    total += weight * vectors[0, word * each + place]
                sums[output] = total

    @njit(inline="always", **OPTIONS)
    def unpack_group(words, block, group, tile):
        """Fill a tile [GROUP, OUTPUTS] with the group's whole numbers."""
        for number in range(GROUP // each):
            word = group * (GROUP // each) + number
            for output in range(OUTPUTS):
                wholes = words[block, word, output]
                for place in range(each):
                    weight = np.float32(np.int32((wholes >> np.uint32(bits * place)) & mask))
                    tile[number * each + place, output] = weight

    return add_products, unpack_group


_add_nibbles, _unpack_nibbles = _of_bits(4)
_add_bytes, _unpack_bytes = _of_bits(8)


@njit(**INNER)
def _unpack_group(words, scales, block, group, tile):
    """Fill a tile [GROUP, OUTPUTS] with a group's whole numbers, of 4 or of 8 bits."""
    if words.shape[1] == scales.shape[1] * GROUP // 8:
        _unpack_nibbles(words, block, group, tile)
    else:
        _unpack_bytes(words, block, group, tile)


@njit(inline="always", **OPTIONS)
def _add_group(scales, block, group, vectors, number, sums, totals):
    """Add to totals [OUTPUTS] what the sums [OUTPUTS] of a group's whole numbers stand for, and clear the sums."""
    inputs = np.float32(0)
    for place in range(GROUP):
        inputs += vectors[number, group * GROUP + place]
    for output in range(OUTPUTS):
        product = sums[output] * scales[block, group, 0, output] + inputs * scales[block, group, 1, output]
        totals[number, output] += product
        sums[output] = 0


@njit(**INNER)
def _multiply_one(words, scales, block, vectors, totals):
    """Add a block's products of one vector to totals [1, OUTPUTS]; weights are unpacked as they are multiplied."""
    sums = np.zeros(OUTPUTS, np.float32)
    groups = scales.shape[1]
    if words.shape[1] == groups * GROUP // 8:
        for group in range(groups):
            _add_nibbles(words, block, group, vectors, sums)
            _add_group(scales, block, group, vectors, 0, sums, totals)
    else:
        for group in range(groups):
            _add_bytes(words, block, group, vectors, sums)
            _add_group(scales, block, group, vectors, 0, sums, totals)


@njit(**INNER)
def _multiply_few(words, scales, block, vectors, totals):
    """Add a block's products to totals [n, OUTPUTS]; the weights of a group are unpacked once for all vectors.

    They are added in the same order as for one vector, so that the products are the same to the last bit.
    """
    tile = np.empty((GROUP, OUTPUTS), np.float32)
    sums = np.zeros(OUTPUTS, np.float32)
    for group in range(scales.shape[1]):
        _unpack_group(words, scales, block, group, tile)
        for number in range(len(vectors)):
            for first in range(0, GROUP, 8):
                for output in range(OUTPUTS):
                    total = sums[output]
                    for place in range(8):
                        total += tile[first + place, output] * vectors[number, group * GROUP + first + place]
                    sums[output] = total
            _add_group(scales, block, group, vectors, number, sums, totals)


@njit(**INNER)
def _multiply_block(words, scales, bias, block, vectors, products):
    """Fill a block's part of the products."""
    totals = np.zeros((len(vectors), OUTPUTS), np.float32)
    if len(vectors) == 1:
        _multiply_one(words, scales, block, vectors, totals)
    else:
        _multiply_few(words, scales, block, vectors, totals)
    start = block * OUTPUTS
    for number in range(len(vectors)):
        for output in range(min(OUTPUTS, products.shape[1] - start)):
            added = bias[start + output] if len(bias) else np.float32(0)
            products[number, start + output] = totals[number, output] + added


@njit(parallel=True, **OPTIONS)
def multiply(words, scales, bias, vectors, products):
    """Fill products [n, outputs] of vectors [n, inputs] and packed weights, plus a bias [outputs, or 0 for none].

    `words` are [blocks, words, OUTPUTS] uint32, `scales` [blocks, groups, 2, OUTPUTS]: see `PackedLinear`.
    """
    for block in prange(len(words)):
        _multiply_block(words, scales, bias, np.intp(block), vectors, products)


@njit(parallel=True, **OPTIONS)
def unpack(words, scales, weights):
    """Fill weights [inputs, blocks × OUTPUTS] with what packed weights stand for."""
    for block in prange(len(words)):
        tile = np.empty((GROUP, OUTPUTS), np.float32)
        for group in range(scales.shape[1]):
            _unpack_group(words, scales, np.intp(block), group, tile)
            for place in range(GROUP):
                for output in range(OUTPUTS):
                    scale, minimum = scales[block, group, 0, output], scales[block, group, 1, output]
                    weights[group * GROUP + place, block * OUTPUTS + output] = tile[place, output] * scale + minimum


@njit(**SUMS)
def _normalise(vectors, weight, epsilon):
    """Return vectors [n, hidden] brought to a common length, times weight [hidden]."""
    normal = np.empty_like(vectors)
    for number in range(len(vectors)):
        squares = np.float32(0)
        for place in range(len(weight)):
            squares += vectors[number, place] * vectors[number, place]
        factor = np.float32(1 / np.sqrt(squares / len(weight) + epsilon))
        for place in range(len(weight)):
            normal[number, place] = vectors[number, place] * factor * weight[place]
    return normal


@njit(**INNER)
def _add(vectors, added):
    for number in range(vectors.shape[0]):
        for place in range(vectors.shape[1]):
            vectors[number, place] += added[number, place]


@njit(**OPTIONS)
def mix(vectors, norm, epsilon, query_key_value, turns, turning, mixed):
    """Fill mixed [n, all heads × head_dim] with queries, keys and values of vectors [n, hidden].

    `query_key_value` are words, scales and bias. The first `turning` heads are turned, pair by pair, by cosines and
    sines `turns` [n, head_dim / 2, 2].
    """
    words, scales, bias = query_key_value
    multiply(words, scales, bias, _normalise(vectors, norm, epsilon), mixed)
    pairs = turns.shape[1]
    for number in range(len(mixed)):
        for head in range(turning):
            for pair in range(pairs):
                place = 2 * (head * pairs + pair)
                x, y = mixed[number, place], mixed[number, place + 1]
                cosine, sine = turns[number, pair, 0], turns[number, pair, 1]
                mixed[number, place] = x * cosine - y * sine
                mixed[number, place + 1] = x * sine + y * cosine


@njit(parallel=True, **SUMS)
def attend(heads, memory, place, start, gathered):
    """Store the keys and values of one token of each text, and fill gathered [texts, heads × head_dim].

    `heads` [texts, all heads, head_dim] are queries, keys and values; `memory` [2, all texts, key_value_heads,
    capacity, head_dim] holds the keys and values of `start` tokens of each text, the first text's at `place`.
    """
    groups, head_dim = memory.shape[2], memory.shape[4]
    each = heads.shape[1] // groups - 2  # queries that share keys
    size = np.float32(1 / np.sqrt(head_dim))
    for text in range(len(heads)):
        for kind in range(2):
            for group in range(groups):
                for number in range(head_dim):
                    new = heads[text, (each + kind) * groups + group, number]
                    memory[kind, place + text, group, start, number] = new
    for part in prange(len(heads) * groups * each):
        text, head = part // (groups * each), part % (groups * each)
        group = head // each
        weights = np.empty(start + 1, np.float32)
        highest = np.float32(-np.inf)
        for token in range(start + 1):
            score = np.float32(0)
            for number in range(head_dim):
                score += heads[text, head, number] * memory[0, place + text, group, token, number]
            weights[token] = score * size
            highest = max(highest, weights[token])
        found = np.zeros(head_dim, np.float32)
        total = np.float32(0)
        for token in range(start + 1):
            weight = np.exp(weights[token] - highest)
            total += weight
            for number in range(head_dim):
                found[number] += weight * memory[1, place + text, group, token, number]
        for number in range(head_dim):
            gathered[text, head * head_dim + number] = found[number] / total


@njit(**OPTIONS)
def think(vectors, gathered, attention_output, norm, epsilon, gate_up, down):
    """Add to vectors [n, hidden] what attention gathered, and what the network makes of each by itself.

    `attention_output`, `gate_up` and `down` are words, scales and bias.
    """
    width = down[1].shape[1] * GROUP
    added = np.empty_like(vectors)
    both = np.empty((len(vectors), 2 * width), np.float32)
    gated = np.empty((len(vectors), width), np.float32)
    words, scales, bias = attention_output
    multiply(words, scales, bias, gathered, added)
    _add(vectors, added)
    words, scales, bias = gate_up
    multiply(words, scales, bias, _normalise(vectors, norm, epsilon), both)
    for number in range(len(vectors)):
        for place in range(width):
            gate = both[number, place]
            gated[number, place] = gate / (np.float32(1) + np.exp(-gate)) * both[number, width + place]
    words, scales, bias = down
    multiply(words, scales, bias, gated, added)
    _add(vectors, added)


def prepare() -> None:
    """Compile the kernels, or find them compiled: so no reply waits for it. A bar tells what takes long."""
    numbers, vectors, tensor = float32[::1], float32[:, ::1], float32[:, :, ::1]
    words, scales, memory = uint32[:, :, ::1], float32[:, :, :, ::1], float32[:, :, :, :, ::1]
    packed = numba.types.Tuple((words, scales, numbers))
    types = {
        unpack: (words, scales, vectors),
        attend: (tensor, memory, int64, int64, vectors),
        multiply: (words, scales, numbers, vectors, vectors),
        mix: (vectors, numbers, float64, packed, tensor, int64, vectors),
        think: (vectors, vectors, packed, numbers, float64, packed, packed),
    }
    for kernel, its in tqdm(types.items(), desc="Compiling chatlab's kernels, once", delay=1, leave=False):
        kernel.compile(its)
