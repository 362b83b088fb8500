"""Attention: what a token's queries find in the tokens up to its own.

In: queries, keys and values of a token, and the memory of its text. Out: the memory with its keys and values, and what
each query finds. Knows nothing of layers or threads.
"""

from __future__ import annotations

import numpy as np

from chatlab.loops.arrays import compiled, floats, inlined, stretch
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
def attend(mixed, number, first_head, heads, group, memory, place, gathered, own):
    """Fill what some heads, which share keys and values, have of gathered: what each finds up to the query's own token.

    It goes through four tokens at once; where the last four are fewer, the last token stands in with no weight.
    """
    head_dim, text, last = memory.shape[4], place[2], place[3]
    room = last + 1 + LANES
    queries, found = floats(own, (heads, head_dim)), floats(own + heads * head_dim * 4, (heads, head_dim))
    weights = floats(own + heads * head_dim * 8, (heads, room))
    start = number * mixed.shape[1] + first_head * head_dim
    _scale(stretch(mixed, start, heads * head_dim), np.float32(1 / np.sqrt(head_dim)), queries, found)
    keys = (text * memory.shape[2] + group) * memory.shape[3] * head_dim  # where they start
    values = keys + memory.shape[1] * memory.shape[2] * memory.shape[3] * head_dim
    for token in range(0, last + 1, 4):
        first, second, third, fourth = _four(memory, keys, token, last, head_dim)
        for head in range(heads):
            a = b = c = d = nothing()
            for each in range(0, head_dim, LANES):
                numbers = lanes(queries, head * head_dim + each)
                a = add_products(a, numbers, lanes(memory, first + each))
                b = add_products(b, numbers, lanes(memory, second + each))
                c = add_products(c, numbers, lanes(memory, third + each))
                d = add_products(d, numbers, lanes(memory, fourth + each))
            four = stretch(weights, head * room + token, 4)
            four[0], four[1], four[2], four[3] = total(a), total(b), total(c), total(d)
    for head in range(heads):
        _soften(stretch(weights, head * room, last + 1), stretch(weights, head * room + last + 1, LANES))
    for token in range(0, last + 1, 4):
        first, second, third, fourth = _four(memory, values, token, last, head_dim)
        for head in range(heads):
            four = stretch(weights, head * room + token, 4)
            a, b, c, d = repeated(four[0]), repeated(four[1]), repeated(four[2]), repeated(four[3])
            for each in range(0, head_dim, LANES):
                sums = add_products(lanes(found, head * head_dim + each), a, lanes(memory, first + each))
                sums = add_products(sums, b, lanes(memory, second + each))
                sums = add_products(sums, c, lanes(memory, third + each))
                keep(found, head * head_dim + each, add_products(sums, d, lanes(memory, fourth + each)))
    for head in range(heads):
        sums = nothing()
        for token in range(0, last + 1, LANES):
            sums = plus(sums, lanes(weights, head * room + token))
        whole = total(sums)
        filled = stretch(gathered, number * gathered.shape[1] + (first_head + head) * head_dim, head_dim)
        its = stretch(found, head * head_dim, head_dim)
        for each in range(head_dim):
            filled[each] = its[each] / whole


@inlined
def _scale(numbers, scale, queries, found):
    """Fill queries with numbers times a scale, and found with zeros."""
    scaled, none = stretch(queries, 0, len(numbers)), stretch(found, 0, len(numbers))
    for each in range(len(numbers)):
        scaled[each] = numbers[each] * scale
        none[each] = 0


@inlined
def _four(memory, start, token, last, head_dim):
    """Return where the vectors of four tokens are, from a token on, and ask for those that come later."""
    for each in range(0, 4 * head_dim, 16):
        ask_for(memory, start + (token + AHEAD) * head_dim + each)
    return (
        start + token * head_dim,
        start + min(token + 1, last) * head_dim,
        start + min(token + 2, last) * head_dim,
        start + min(token + 3, last) * head_dim,
    )


@inlined
def _soften(weights, after):
    """Let weights be e to their power, or less by the same factor; those after the last one are zeros."""
    highest = weights[0]
    for token in range(len(weights)):
        highest = max(highest, weights[token])
    for token in range(len(weights)):
        weights[token] = exp(weights[token] - highest)
    for token in range(LANES):
        after[token] = 0
