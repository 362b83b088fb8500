"""Sizes: what the compiled loops and those who call them have to agree on.

In: nothing. Out: numbers. Knows nothing of compiling.
"""

from __future__ import annotations

__all__ = ["APART", "GROUP", "LANES", "OUTPUTS", "STEPS", "room_to_multiply", "room_to_read"]

GROUP = 32  # how many neighbouring weights of an output share a scale, in GGUF's blocks
OUTPUTS = 96  # in a block of weights
LANES = 8  # numbers that go through the same sums at once
STEPS = 7  # of a layer
APART = 8  # numbers from one count to the next: threads that write into neighbours hinder each other


def room_to_multiply(n: int, inputs: int) -> int:
    """Return how many numbers of 4 bytes a thread writes while it multiplies n vectors of so many inputs."""
    pairs, factors, totals = n * inputs // 2, n * inputs // GROUP * 2, n * OUTPUTS
    return pairs + factors + totals


def room_to_read(n: int, hidden: int, widest: int, heads: int, head_dim: int, longest: int) -> int:
    """Return how many numbers of 4 bytes a thread writes while it reads n tokens of texts up to so many tokens long.

    `widest` are the inputs of the widest matrix, `heads` those that share keys and values.
    """
    weights = longest + LANES
    return n * hidden + room_to_multiply(n, widest) + heads * (2 * head_dim + weights)
