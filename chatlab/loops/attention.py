"""Attention: what a token's queries find in the tokens up to its own.

In: queries, keys and values of a token, and the memory of its text. Out: the memory with its keys and values, and what
each query finds. Knows nothing of layers or threads.
"""

from __future__ import annotations

import numpy as np

from chatlab.loops.arrays import compiled, floats, stretch
from chatlab.loops.lanes import add_products, ask_for, exp, keep, lanes, nothing, plus, repeated, total
from chatlab.loops.sizes import LANES

__all__ = ["attend", "memory_of", "turn"]

AHEAD = 16  # tokens from the one that is looked at to the one that is asked for from memory


@compiled
def memory_of(address, place, groups, head_dim):
    """Return the keys and values of a layer [2, texts, groups, capacity, head_dim] that lie at an address."""
    return floats(address, (2, place[0], groups, place[1], head_dim))


@compiled
def turn(mixed, number, turns, memory, place, turning):
    """Turn the queries and keys of a token, and store its keys and values."""
    groups, capacity, head_dim = memory.shape[2:]
    angles, first = stretch(turns, number * head_dim, head_dim), number * mixed.shape[1]
    for head in range(turning):
        vector = stretch(mixed, first + head * head_dim, head_dim)
        for pair in range(head_dim // 2):
            x, y = vector[2 * pair], vector[2 * pair + 1]
            cosine, sine = angles[2 * pair], angles[2 * pair + 1]
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
def attend(mixed, number, head, group, memory, place, gathered, own):
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
        weights[token] = exp(weights[token] - highest)
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
