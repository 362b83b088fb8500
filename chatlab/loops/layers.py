"""Layers: what the forward pass does to a few tokens, as loops to be compiled.

In: where vectors in float32 and packed weights are. Out: numbers that are filled in, or added to. Knows nothing of
texts.

Several threads go through each of the three loops at the end together, with room of their own at an address `own`, and
the counts of the work they share. (Loops over single numbers compile in a third of the time that slices take.)
"""

from __future__ import annotations

import numpy as np

from chatlab.loops.arrays import compiled, floats, inlined, stretch, words_at
from chatlab.loops.lanes import add_products, ask_for, keep, lanes, nothing, plus, repeated, total
from chatlab.loops.parts import finish, take, wait
from chatlab.loops.products import multiply_block, rounded, space
from chatlab.loops.sizes import GROUP, LANES, OUTPUTS, STEPS, room_to_multiply

__all__ = ["matrix", "multiply", "read", "unpack"]

QUERY_KEY_VALUE, ATTENTION_OUTPUT, GATE_UP, DOWN = np.arange(4)  # the matrices of a layer
ADDED, INSTEAD = np.array([True, False])  # what products do to what is there before
FIRST = np.int64(0)  # of the steps
AHEAD = 16  # tokens
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


@compiled
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
def _memory(address, place, groups, head_dim):
    """Return the keys and values of a layer [2, texts, groups, capacity, head_dim] that lie at an address."""
    return floats(address, (2, place[0], groups, place[1], head_dim))


@compiled
def _turn(mixed, number, turns, memory, place, turning):
    """Turn the queries and keys of a token, and store its keys and values."""
    groups, capacity, head_dim = memory.shape[2:]
    turn, first = stretch(turns, number * head_dim, head_dim), number * mixed.shape[1]
    for head in range(turning):
        vector = stretch(mixed, first + head * head_dim, head_dim)
        for pair in range(head_dim // 2):
            x, y = vector[2 * pair], vector[2 * pair + 1]
            cosine, sine = turn[2 * pair], turn[2 * pair + 1]
            vector[2 * pair] = x * cosine - y * sine
            vector[2 * pair + 1] = x * sine + y * cosine
    for kind in range(2):
        for group in range(groups):
            token = ((kind * memory.shape[1] + place[2]) * groups + group) * capacity + place[3]
            vector = stretch(mixed, first + (turning + (kind - 1) * groups + group) * head_dim, head_dim)
            stored = stretch(memory, token * head_dim, head_dim)
            for each in range(head_dim):
                stored[each] = vector[each]


@compiled
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


@compiled
def _attend(mixed, number, head, group, memory, place, gathered, own):
    """Fill a head's part of gathered with the values that its query finds in the tokens up to its own.

    It goes through four tokens at once; where the last four are fewer, the last token stands in with no weight.
    """
    head_dim, text, last = memory.shape[4], place[2], place[3]
    query, found = floats(own, (head_dim,)), floats(own + head_dim * 4, (head_dim,))
    weights = floats(own + head_dim * 8, (last + 1 + LANES,))
    its, scale = stretch(mixed, number * mixed.shape[1] + head * head_dim, head_dim), np.float32(1 / np.sqrt(head_dim))
    for each in range(head_dim):
        found[each] = 0
        query[each] = its[each] * scale
    keys = (text * memory.shape[2] + group) * memory.shape[3] * head_dim  # where they start
    values = keys + memory.shape[1] * memory.shape[2] * memory.shape[3] * head_dim
    for first in range(0, last + 1, 4):
        second, third, fourth = min(first + 1, last), min(first + 2, last), min(first + 3, last)
        a = b = c = d = nothing()
        for ahead in range(0, 4 * head_dim, 16):
            ask_for(memory, keys + (first + AHEAD) * head_dim + ahead)
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
    for token in range(last + 1, last + 1 + LANES):
        weights[token] = 0
    sums = nothing()
    for token in range(0, last + 1, LANES):
        sums = plus(sums, lanes(weights, token))
    whole = total(sums)
    for first in range(0, last + 1, 4):
        second, third, fourth = min(first + 1, last), min(first + 2, last), min(first + 3, last)
        a, b, c, d = weights[first], weights[first + 1], weights[first + 2], weights[first + 3]
        for ahead in range(0, 4 * head_dim, 16):
            ask_for(memory, values + (first + AHEAD) * head_dim + ahead)
        first_values, second_values = values + first * head_dim, values + second * head_dim
        third_values, fourth_values = values + third * head_dim, values + fourth * head_dim
        for each in range(0, head_dim, LANES):
            sums = add_products(lanes(found, each), repeated(a), lanes(memory, first_values + each))
            sums = add_products(sums, repeated(b), lanes(memory, second_values + each))
            sums = add_products(sums, repeated(c), lanes(memory, third_values + each))
            keep(found, each, add_products(sums, repeated(d), lanes(memory, fourth_values + each)))
    filled = stretch(gathered, number * gathered.shape[1] + head * head_dim, head_dim)
    for each in range(head_dim):
        filled[each] = found[each] / whole


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
        through[place] = gate / (np.float32(1) + _exp(-gate)) * ups[place]


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
            memory = _memory(memories[part, layer], places[part], groups, head_dim)
            _turn(mixed, part, turns, memory, places[part], turning)
            finish(counts, step + 1)
            part = take(counts, step + 1)
        wait(counts, step + 1, n)

        part = take(counts, step + 2)
        while part < n * heads:
            number, head = part // heads, part % heads
            memory = _memory(memories[number, layer], places[number], groups, head_dim)
            _attend(mixed, number, head, head // (heads // groups), memory, places[number], gathered, own)
            finish(counts, step + 2)
            part = take(counts, step + 2)
        wait(counts, step + 2, n * heads)

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
