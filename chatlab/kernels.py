"""Kernels: what the forward pass does to a few tokens, compiled as a whole.

In: arrays in float32, and packed weights. Out: arrays that are filled, or added to. Knows nothing of texts.

PyTorch's thirty operations for a layer took as long to call as to do, so numba compiles them; it needs no compiler on
the machine. Several threads share each of them: see `team`. (Loops over single numbers compile in a third of the time
that slices take.)
"""

from __future__ import annotations

import numpy as np
from numba import carray, float32, float64, int64, njit, types, uint32
from numba.extending import intrinsic
from tqdm.auto import tqdm

from chatlab.lanes import LANES, add_products, lanes, nothing, plus, total
from chatlab.products import GROUP, INNER, OPTIONS, OUTPUTS, multiply_block, room, rounded
from chatlab.team import finish, take, wait

__all__ = ["STEPS", "multiply", "prepare", "read", "unpack"]

STEPS = 7  # of a layer
QUERY_KEY_VALUE, ATTENTION_OUTPUT, GATE_UP, DOWN = range(4)  # the matrices of a layer
CHUNK = 256  # numbers that go through the gates as one part
NONE = np.empty(0, np.float32)


@njit(**INNER)
def _normal(vectors, norm, epsilon, normal):
    """Fill normal [n, hidden] with vectors brought to a common length, times the norm's weight [hidden]."""
    for number in range(len(vectors)):
        squares = _sum_of_squares(vectors[number])
        factor = np.float32(1 / np.sqrt(squares / len(norm) + epsilon))
        for place in range(len(norm)):
            normal[number, place] = vectors[number, place] * factor * norm[place]


@njit(**INNER)
def _sum_of_squares(vector):
    sums = nothing()
    for place in range(0, len(vector), LANES):
        numbers = lanes(vector, place)
        sums = add_products(sums, numbers, numbers)
    return total(sums)


@njit(**INNER)
def _multiply(words, scales, bias, vectors, products, added, space, work, step):
    """Do a share of the products [n, outputs] of vectors [n, inputs] and packed weights, plus a bias [outputs or 0].

    They are added to what is there, or take its place.
    """
    outputs = products.shape[1]
    block = take(work, step)
    if block < len(words):
        rounded(vectors, space)
    while block < len(words):
        totals = multiply_block(words, scales, block, len(vectors), space)
        start = block * OUTPUTS
        for number in range(len(vectors)):
            for output in range(min(OUTPUTS, outputs - start)):
                product = totals[number, output] + (bias[start + output] if len(bias) else np.float32(0))
                before = products[number, start + output] if added else np.float32(0)
                products[number, start + output] = before + product
        finish(work, step)
        block = take(work, step)
    wait(work, step, len(words))


@njit(**OPTIONS)
def multiply(words, scales, vectors, products, work):
    """Fill products [n, outputs] of vectors [n, inputs] and packed weights, in one step.

    `words` are [blocks, words, OUTPUTS] uint32, `scales` [blocks, groups, 2, OUTPUTS]: see `PackedLinear`.
    """
    space = room(len(vectors), vectors.shape[1])
    _multiply(words, scales, NONE, vectors, products, False, space, work, 0)


@njit(**OPTIONS)
def unpack(words, scales, weights, work):
    """Fill weights [inputs, blocks × OUTPUTS] with what packed weights stand for, in one step."""
    rows = words.shape[1] // scales.shape[1]  # of words in a group
    half = GROUP // 2 // rows  # of the numbers in a word
    bits = 16 // half
    mask = np.uint32(2**bits - 1)
    block = take(work, 0)
    while block < len(words):
        for place in range(scales.shape[1] * GROUP):
            group, later, number = place // GROUP, place // (GROUP // 2) % 2, place % (GROUP // 2)
            row, shift = group * rows + number // half, np.uint32(16 * later + number % half * bits)
            for output in range(OUTPUTS):
                whole = np.float32(np.int32((words[block, row, output] >> shift) & mask))
                scale, minimum = scales[block, group, 0, output], scales[block, group, 1, output]
                weights[place, block * OUTPUTS + output] = whole * scale + minimum
        finish(work, 0)
        block = take(work, 0)
    wait(work, 0, len(words))


@intrinsic
def _at(typing, address, example):
    """Return a pointer to numbers of the example's type at an address."""

    def code(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(example)(int64, example), code


@njit(**INNER)
def _matrix(matrices, layer, kind):
    """Return words, scales and bias of a layer's matrix, given `PackedLinear.place` of all matrices."""
    words, scales, bias, blocks, rows, groups, outputs = matrices[layer, kind]
    return (
        carray(_at(words, np.uint32(0)), (blocks, rows, OUTPUTS)),
        carray(_at(scales, np.float32(0)), (blocks, groups, 2, OUTPUTS)),
        carray(_at(bias, np.float32(0)), (outputs,)),
    )


@njit(**INNER)
def _memory(address, place, groups, head_dim):
    """Return the keys and values of a layer [2, texts, groups, capacity, head_dim] that lie at an address."""
    return carray(_at(address, np.float32(0)), (2, place[0], groups, place[1], head_dim))


@njit(**INNER)
def _turn(mixed, number, turns, memory, place, turning):
    """Turn the queries and keys of a token, and store its keys and values."""
    groups, head_dim = memory.shape[2], memory.shape[4]
    for head in range(turning):
        for pair in range(head_dim // 2):
            first = head * head_dim + 2 * pair
            x, y = mixed[number, first], mixed[number, first + 1]
            cosine, sine = turns[number, pair, 0], turns[number, pair, 1]
            mixed[number, first] = x * cosine - y * sine
            mixed[number, first + 1] = x * sine + y * cosine
    for kind in range(2):
        for group in range(groups):
            first = (turning + (kind - 1) * groups + group) * head_dim
            for each in range(head_dim):
                memory[kind, place[2], group, place[3], each] = mixed[number, first + each]


@njit(inline="always", **INNER)
def _exp(x):
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


@njit(**INNER)
def _attend(mixed, number, head, group, memory, place, gathered):
    """Fill a head's part of gathered with the values that its query finds in the tokens up to its own.

    It goes through four tokens at once; where the last four are fewer, the last token stands in with no weight.
    """
    head_dim, text, last = memory.shape[4], place[2], place[3]
    query, found = np.empty(head_dim, np.float32), np.zeros(head_dim, np.float32)
    weights = np.zeros(last + 1 + LANES, np.float32)
    for each in range(head_dim):
        query[each] = mixed[number, head * head_dim + each] * np.float32(1 / np.sqrt(head_dim))
    keys = (text * memory.shape[2] + group) * memory.shape[3] * head_dim  # where they start
    for first in range(0, last + 1, 4):
        second, third, fourth = min(first + 1, last), min(first + 2, last), min(first + 3, last)
        a = b = c = d = nothing()
        for each in range(0, head_dim, LANES):
            numbers = lanes(query, each)
            a = add_products(a, numbers, lanes(memory, keys + first * head_dim + each))
            b = add_products(b, numbers, lanes(memory, keys + second * head_dim + each))
            c = add_products(c, numbers, lanes(memory, keys + third * head_dim + each))
            d = add_products(d, numbers, lanes(memory, keys + fourth * head_dim + each))
        weights[first], weights[first + 1], weights[first + 2], weights[first + 3] = (
            total(a),
            total(b),
            total(c),
            total(d),
        )
    highest = weights[0]
    for token in range(last + 1):
        highest = max(highest, weights[token])
    for token in range(last + 1):
        weights[token] = _exp(weights[token] - highest)
    weights[last + 1 :] = 0
    sums = nothing()
    for token in range(0, last + 1, LANES):
        sums = plus(sums, lanes(weights, token))
    whole = total(sums)
    for first in range(0, last + 1, 4):
        second, third, fourth = min(first + 1, last), min(first + 2, last), min(first + 3, last)
        a, b, c, d = weights[first], weights[first + 1], weights[first + 2], weights[first + 3]
        for each in range(head_dim):
            found[each] += (
                a * memory[1, text, group, first, each]
                + b * memory[1, text, group, second, each]
                + c * memory[1, text, group, third, each]
                + d * memory[1, text, group, fourth, each]
            )
    for each in range(head_dim):
        gathered[number, head * head_dim + each] = found[each] / whole


@njit(**INNER)
def _gate(both, gated, part):
    """Fill a part of gated [n, width] with what the gates, the first half of both, let through of the other half."""
    width = gated.shape[1]
    parts = -(-width // CHUNK)
    number, start = part // parts, part % parts * CHUNK
    for place in range(start, min(start + CHUNK, width)):
        gate = both[number, place]
        gated[number, place] = gate / (np.float32(1) + _exp(-gate)) * both[number, width + place]


@njit(**OPTIONS)
def read(
    vectors, layers, matrices, norms, epsilon, turns, turning, memories, places, mixed, gathered, both, gated, work
):
    """Let vectors [n, hidden] go through the layers from the first of a pair to before the second, in `STEPS` each.

    `matrices` [layers, 4, 7] and `norms` [layers, 2, hidden] are those of all layers: see `Llama.compiled`. Of heads,
    the first `turning` are queries and keys, and are turned by cosines and sines `turns` [n, head_dim / 2, 2].

    `memories` [n, layers] say where the keys and values of each token's text lie, and `places` [n, 4] for how many
    texts and tokens there is room, which of these texts it is, and which token. The rest is room for what is made on
    the way: mixed [n, all heads × head_dim], gathered [n, heads × head_dim], both [n, 2 × width], gated [n, width].
    """
    n, head_dim = len(vectors), 2 * turns.shape[1]
    groups = mixed.shape[1] // head_dim - turning  # of heads that share keys and values
    heads = turning - groups
    normal = np.empty_like(vectors)
    space = room(n, max(vectors.shape[1], gathered.shape[1], gated.shape[1]))
    step = 0
    for layer in range(layers[0], layers[1]):
        words, scales, bias = _matrix(matrices, layer, QUERY_KEY_VALUE)
        _normal(vectors, norms[layer, 0], epsilon, normal)
        _multiply(words, scales, bias, normal, mixed, False, space, work, step)

        part = take(work, step + 1)
        while part < n:
            memory = _memory(memories[part, layer], places[part], groups, head_dim)
            _turn(mixed, part, turns, memory, places[part], turning)
            finish(work, step + 1)
            part = take(work, step + 1)
        wait(work, step + 1, n)

        part = take(work, step + 2)
        while part < n * heads:
            number, head = part // heads, part % heads
            memory = _memory(memories[number, layer], places[number], groups, head_dim)
            _attend(mixed, number, head, head // (heads // groups), memory, places[number], gathered)
            finish(work, step + 2)
            part = take(work, step + 2)
        wait(work, step + 2, n * heads)

        words, scales, bias = _matrix(matrices, layer, ATTENTION_OUTPUT)
        _multiply(words, scales, bias, gathered, vectors, True, space, work, step + 3)

        words, scales, bias = _matrix(matrices, layer, GATE_UP)
        _normal(vectors, norms[layer, 1], epsilon, normal)
        _multiply(words, scales, bias, normal, both, False, space, work, step + 4)

        parts = n * -(-gated.shape[1] // CHUNK)
        part = take(work, step + 5)
        while part < parts:
            _gate(both, gated, part)
            finish(work, step + 5)
            part = take(work, step + 5)
        wait(work, step + 5, parts)

        words, scales, bias = _matrix(matrices, layer, DOWN)
        _multiply(words, scales, bias, gated, vectors, True, space, work, step + 6)
        step += STEPS


def prepare() -> None:
    """Compile the kernels, or find them compiled: so no reply waits for it. A bar tells what takes long."""
    vectors, tensor, work = float32[:, ::1], float32[:, :, ::1], int64[:, :, ::1]
    words, scales, table = uint32[:, :, ::1], float32[:, :, :, ::1], int64[:, ::1]
    pair, matrices, room = types.UniTuple(int64, 2), int64[:, :, ::1], (vectors, vectors, vectors, vectors)
    signatures = {
        unpack: (words, scales, vectors, work),
        multiply: (words, scales, vectors, vectors, work),
        read: (vectors, pair, matrices, tensor, float64, tensor, int64, table, table, *room, work),
    }
    for kernel, its in tqdm(signatures.items(), desc="Compiling chatlab's kernels, once", delay=1, leave=False):
        kernel.compile(its)
