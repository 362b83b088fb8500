"""Key-value memory: what the forward pass keeps of the tokens that it has read.

In: keys and values of new tokens, per layer. Out: those of all tokens of a text, or of texts that lie side by side.
Knows nothing of what they are multiplied by, nor of who keeps a cache for later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["KVCache", "KVMemory", "Run"]

FIRST_CAPACITY = 256  # tokens; a cache that is full grows by so many, or by a quarter


class KVMemory:
    """Room for the keys and values of texts that lie side by side: per layer [2, texts, heads, capacity, head_dim].

    It is reserved ahead, a quarter more when it is full, so that a new token costs one small copy.
    """

    def __init__(self, layers: int, texts: int, heads: int, head_dim: int, capacity: int = FIRST_CAPACITY) -> None:
        self.texts = texts
        self.capacity = capacity  # tokens a text may have
        self.layers = [torch.empty(2, texts, heads, capacity, head_dim) for _ in range(layers)]
        self.addresses = self._addresses()  # of each layer, for the kernels

    def reserve(self, tokens: int) -> None:
        """Make room for texts of so many tokens."""
        if tokens <= self.capacity:
            return
        used, self.capacity = self.capacity, max(self.capacity + FIRST_CAPACITY, self.capacity * 5 // 4, tokens)
        for layer, old in enumerate(self.layers):
            self.layers[layer] = old.new_empty(*old.shape[:3], self.capacity, old.shape[4])
            self.layers[layer][..., :used, :] = old
        self.addresses = self._addresses()

    def _addresses(self) -> npt.NDArray[np.int64]:
        return np.array([layer.data_ptr() for layer in self.layers], np.int64)


@dataclass(eq=False)
class KVCache:
    """The keys and values of the tokens of one text that were read so far: `length` of them, at its place in a memory.

    Texts that began alike lie side by side in one (see `copies`), so that attention goes through them as one.
    """

    memory: KVMemory
    place: int = 0
    length: int = 0

    def copies(self, number: int, length: int | None = None) -> list[KVCache]:
        """Return so many caches of the first tokens (None: of all), side by side, each of which can go its own way."""
        kept = self.length if length is None else min(self.length, length)
        layers = self.memory.layers
        _, _, heads, _, head_dim = layers[0].shape
        memory = KVMemory(len(layers), number, heads, head_dim, capacity=kept + FIRST_CAPACITY)
        for new, old in zip(memory.layers, layers, strict=True):
            new[..., :kept, :] = old[:, self.place, None, :, :kept]
        return [KVCache(memory, place, kept) for place in range(number)]

    @property
    def bytes(self) -> int:
        """How much memory is reserved, for the texts beside this one as well."""
        return sum(layer.nbytes for layer in self.memory.layers)


@dataclass
class Run:
    """Texts that attention goes through as one: side by side in one memory, so many new tokens each after `start`.

    Those of several texts are one token each; otherwise it is a text alone.
    """

    memory: KVMemory
    place: int
    start: int
    tokens: int
    texts: int = 1

    def goes_on_with(self, cache: KVCache, tokens: int) -> bool:
        """Whether the next text belongs to the run."""
        here = (self.memory, self.place + self.texts, self.start)
        return self.tokens == tokens == 1 and (cache.memory, cache.place, cache.length) == here

    def add(self, layer: int, keys_values: Tensor) -> Tensor:
        """Store the keys and values [texts × tokens, 2 × heads, head_dim] of the new tokens; return those of all.

        These are [2, texts, heads, length, head_dim].
        """
        end = self.start + self.tokens
        stored = self.memory.layers[layer][:, self.place : self.place + self.texts, :, :end]
        _, texts, heads, _, head_dim = stored.shape
        new = keys_values.view(texts, self.tokens, 2, heads, head_dim)
        stored[:, :, :, self.start :] = new.permute(2, 0, 3, 1, 4)
        return stored
