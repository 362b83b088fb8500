"""Layers: what the forward pass does to a few tokens, as loops to be compiled.

In: where vectors in float32 and packed weights are. Out: numbers that are filled in, or added to. Knows nothing of
texts.

Several threads go through each of the three loops at the end together, with room of their own at an address `own`, and
the counts of the work they share. (Loops over single numbers compile in a third of the time that slices take.)
"""

from __future__ import annotations

import numpy as np

from chatlab.loops.arrays import compiled, floats, inlined, stretch, words_at
from chatlab.loops.attention import attend, memory_of, turn
from chatlab.loops.lanes import add_products, exp, lanes, nothing, total
from chatlab.loops.parts import finish, take, wait
from chatlab.loops.products import multiply_block, rounded, space
from chatlab.loops.sizes import GROUP, LANES, OUTPUTS, STEPS, room_to_multiply

__all__ = ["matrix", "multiply", "read", "unpack"]

QUERY_KEY_VALUE, ATTENTION_OUTPUT, GATE_UP, DOWN = np.arange(4)  # the matrices of a layer
ADDED, INSTEAD = np.array([True, False])  # what products do to what is there before
FIRST = np.int64(0)  # of the steps
CHUNK = 256  # numbers that go through the gates as one part

_room_to_multiply = compiled(room_to_multiply)


@compiled
def _normal(vectors, norm, epsilon, normal):
    """Fill normal [n, hidden] with vectors brought to a common length, times the norm's weight [hidden]."""
    for number in range(len(vectors)):
        squares = _sum_of_squares(vectors[number])
        factor = np.float32(1 / np.sqrt(squares / len(norm) + epsilon))
        for place in range(len(norm)):
            normal[number, place] = vectors[number, place] * factor * norm[place]


@inlined
def _sum_of_squares(vector):
    sums = nothing()
    for place in range(0, len(vector), LANES):
        numbers = lanes(vector, place)
        sums = add_products(sums, numbers, numbers)
    return total(sums)


@compiled
def _multiply(matrix, vectors, products, added, room, counts, step):
    """Do a share of the products [n, outputs] of vectors [n, inputs] and packed weights, plus a bias [outputs or 0].

    They are added to what is there, or take its place.
    """
    words, scales, bias = matrix
    outputs = products.shape[1]
    block = take(counts, step)
    if block < len(words):
        rounded(vectors, room)
    while block < len(words):
        totals = multiply_block(words, scales, block, len(vectors), room)
        start = block * OUTPUTS
        some = min(OUTPUTS, outputs - start)
        for number in range(len(vectors)):
            made, product = stretch(totals, number * OUTPUTS, some), stretch(products, number * outputs + start, some)
            if len(bias):
                each_bias = stretch(bias, start, some)
                for output in range(some):
                    made[output] += each_bias[output]
            if added:
                for output in range(some):
                    product[output] += made[output]
            else:
                for output in range(some):
                    product[output] = made[output]
        finish(counts, step)
        block = take(counts, step)
    wait(counts, step, len(words))


@compiled
def matrix(words, scales, bias, blocks, rows, groups, biases):
    """Return words, scales and bias of packed weights: see `PackedLinear.place`."""
    return (
        words_at(words, (blocks, rows, OUTPUTS)),
        floats(scales, (blocks, groups, 2, OUTPUTS)),
        floats(bias, (biases,)),
    )


@compiled
def _matrix_of(matrices, layer, kind):
    """Return words, scales and bias of a layer's matrix, given those of all layers [layers, 4, 7]."""
    place = matrices[layer, kind]
    return matrix(place[0], place[1], place[2], place[3], place[4], place[5], place[6])


@compiled
def _gate(both, gated, part):
    """Fill a part of gated [n, width] with what the gates, the first half of both, let through of the other half."""
    width = gated.shape[1]
    parts = -(-width // CHUNK)
    number, start = part // parts, part % parts * CHUNK
    some = min(CHUNK, width - start)
    gates = stretch(both, 2 * number * width + start, some)
    ups = stretch(both, (2 * number + 1) * width + start, some)
    through = stretch(gated, number * width + start, some)
    for place in range(some):
        gate = gates[place]
        through[place] = gate / (np.float32(1) + exp(-gate)) * ups[place]


@inlined
def multiply(matrix, vectors, products, own, counts):
    """Fill products [n, outputs] of vectors [n, inputs] and packed weights, in one step."""
    _multiply(matrix, vectors, products, INSTEAD, space(own, len(vectors), vectors.shape[1]), counts, FIRST)


@inlined
def unpack(matrix, weights, counts):
    """Fill weights [inputs, blocks × OUTPUTS] with what packed weights stand for, in one step."""
    words, scales, _ = matrix
    rows = words.shape[1] // scales.shape[1]  # of words in a group
    half = GROUP // 2 // rows  # of the numbers in a word
    bits = 16 // half
    mask = np.uint32((1 << bits) - 1)
    group = take(counts, FIRST)
    while group < scales.shape[1]:  # a group's inputs are neighbours in memory, a block's are not
        for block in range(len(words)):
            for place in range(GROUP):
                later, number = place // (GROUP // 2), place % (GROUP // 2)
                row, shift = group * rows + number // half, np.uint32(16 * later + number % half * bits)
                for output in range(OUTPUTS):
                    whole = np.float32(np.int32((words[block, row, output] >> shift) & mask))
                    scale, minimum = scales[block, group, 0, output], scales[block, group, 1, output]
                    weights[group * GROUP + place, block * OUTPUTS + output] = whole * scale + minimum
        finish(counts, FIRST)
        group = take(counts, FIRST)
    wait(counts, FIRST, scales.shape[1])


@inlined
def read(
    vectors,
    layers,
    matrices,
    norms,
    epsilon,
    turns,
    turning,
    memories,
    places,
    mixed,
    gathered,
    both,
    gated,
    own,
    counts,
):
    """Let vectors [n, hidden] go through the layers from the first of a pair to before the second, in `STEPS` each.

    `matrices` [layers, 4, 7] and `norms` [layers, 2, hidden] are those of all layers: see `Llama.compiled`. Of heads,
    the first `turning` are queries and keys, and are turned by cosines and sines `turns` [n, head_dim / 2, 2].

    `memories` [n, layers] say where the keys and values of each token's text lie, and `places` [n, 4] for how many
    texts and tokens there is room, which of these texts it is, and which token. The rest is room for what is made on
    the way: mixed [n, all heads × head_dim], gathered [n, heads × head_dim], both [n, 2 × width], gated [n, width].
    """
    head_dim = 2 * turns.shape[1]
    groups = mixed.shape[1] // head_dim - turning  # of heads that share keys and values
    heads = turning - groups
    n, hidden = vectors.shape
    together = heads // groups if n > 1 else 1  # heads that go through the same keys at once
    widest = max(hidden, gathered.shape[1], gated.shape[1])
    normal = floats(own, (n, hidden))
    own += n * hidden * 4
    room = space(own, n, widest)
    own += _room_to_multiply(n, widest) * 4
    step = FIRST
    for layer in range(layers[0], layers[1]):
        _normal(vectors, norms[layer, 0], epsilon, normal)
        _multiply(_matrix_of(matrices, layer, QUERY_KEY_VALUE), normal, mixed, INSTEAD, room, counts, step)

        part = take(counts, step + 1)
        while part < n:
            memory = memory_of(memories[part, layer], places[part], groups, head_dim)
            turn(mixed, part, turns, memory, places[part], turning)
            finish(counts, step + 1)
            part = take(counts, step + 1)
        wait(counts, step + 1, n)

        parts = n * heads // together
        part = take(counts, step + 2)
        while part < parts:
            number, first = part * together // heads, part * together % heads
            memory = memory_of(memories[number, layer], places[number], groups, head_dim)
            attend(mixed, number, first, together, first // (heads // groups), memory, places[number], gathered, own)
            finish(counts, step + 2)
            part = take(counts, step + 2)
        wait(counts, step + 2, parts)

        _multiply(_matrix_of(matrices, layer, ATTENTION_OUTPUT), gathered, vectors, ADDED, room, counts, step + 3)

        _normal(vectors, norms[layer, 1], epsilon, normal)
        _multiply(_matrix_of(matrices, layer, GATE_UP), normal, both, INSTEAD, room, counts, step + 4)

        parts = n * -(-gated.shape[1] // CHUNK)
        part = take(counts, step + 5)
        while part < parts:
            _gate(both, gated, part)
            finish(counts, step + 5)
            part = take(counts, step + 5)
        wait(counts, step + 5, parts)

        _multiply(_matrix_of(matrices, layer, DOWN), gated, vectors, ADDED, room, counts, step + 6)
        step += STEPS
