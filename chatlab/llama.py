"""Llama: the forward pass of the most common kind of language model, in a hundred lines.

In: token ids, and the key-value cache of what was read before. Out: the logits after them. Many conversations go
through at once: the matrices are read from memory once for all, and attention alone is done for each by itself. Knows
nothing of text, nor of how weights are stored.

    token ids ─► embeddings ─► layer 0 ─► … ─► layer 29 ─► norm ─► head ─► logits
                                  │
         ┌── norm ─► queries, keys, values ─► attention ─► output ──┐
    ──►──┴──────────────────────────────────────────────────────────+──┬── norm ─► gate, up ─► down ──┐
                                                                       └──────────────────────────────+──►

Of a token's time, about 60 % goes to the 4-bit products, 15 % to the head, 7 % each to attention and norms; the rest to
copies and Python. Eight texts at once take three times as long as one, because the 4-bit products do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from chatlab.linear import Linear

__all__ = ["KVCache", "Layer", "Llama", "Shape"]

FIRST_CAPACITY = 256  # tokens; a cache that is full grows by so many, or by a quarter


@dataclass(frozen=True)
class Shape:
    """The sizes of a network. `heads` share `key_value_heads`; each head has `head_dim` numbers."""

    hidden: int
    heads: int
    key_value_heads: int
    head_dim: int
    context_length: int
    norm_epsilon: float
    rope_theta: float


@dataclass(frozen=True)
class Layer:
    """The weights of one layer. Rows of queries and keys are in pairs that turn together (see `rotations`)."""

    attention_norm: Tensor  # [hidden]
    query_key_value: Linear  # hidden → (heads + 2 × key_value_heads) × head_dim
    attention_output: Linear  # heads × head_dim → hidden
    mlp_norm: Tensor  # [hidden]
    gate_up: Linear  # hidden → 2 × mlp width
    down: Linear  # mlp width → hidden


class KVCache:
    """The keys and values of every token read so far, per layer: [key_value_heads, capacity, head_dim].

    The memory is reserved ahead, a quarter more when it is full, so that a new token costs one small copy.
    """

    def __init__(self, layers: int, key_value_heads: int, head_dim: int, capacity: int = FIRST_CAPACITY) -> None:
        self.length = 0
        self.capacity = capacity
        self.keys = [torch.empty(key_value_heads, capacity, head_dim) for _ in range(layers)]
        self.values = [torch.empty(key_value_heads, capacity, head_dim) for _ in range(layers)]

    def reserve(self, tokens: int) -> None:
        """Make room for so many more tokens."""
        if self.length + tokens <= self.capacity:
            return
        self.capacity = max(self.capacity + FIRST_CAPACITY, self.capacity * 5 // 4, self.length + tokens)
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                tensors[layer] = old.new_empty(old.shape[0], self.capacity, old.shape[2])
                tensors[layer][:, : self.length] = old[:, : self.length]

    def add(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values [n, key_value_heads, head_dim] of n tokens; return those of all."""
        end = self.length + len(keys)
        self.keys[layer][:, self.length : end] = keys.transpose(0, 1)
        self.values[layer][:, self.length : end] = values.transpose(0, 1)
        return self.keys[layer][:, :end], self.values[layer][:, :end]  # [key_value_heads, length, head_dim]

    def copy(self, length: int | None = None) -> KVCache:
        """Return a cache of the first tokens (None: all) that can go its own way."""
        kept = self.length if length is None else min(self.length, length)
        heads, _, head_dim = self.keys[0].shape
        twin = KVCache(len(self.keys), heads, head_dim, capacity=kept + FIRST_CAPACITY)
        twin.length = kept
        for new, old in zip((*twin.keys, *twin.values), (*self.keys, *self.values), strict=True):
            new[:, :kept] = old[:, :kept]
        return twin

    @property
    def bytes(self) -> int:
        """How much memory is reserved."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))


class Llama:
    """A network: embeddings, layers, a last norm, and the head that turns a vector into logits."""

    def __init__(self, shape: Shape, embeddings: Linear, layers: Sequence[Layer], norm: Tensor, head: Linear) -> None:
        self.shape = shape
        self.embeddings = embeddings
        self.layers = tuple(layers)
        self.norm = norm
        self.head = head
        self.rotations = rotations(shape)

    @property
    def vocab_size(self) -> int:
        """How many tokens the network knows."""
        return self.head.outputs

    def new_cache(self) -> KVCache:
        """Return a cache that has read nothing."""
        return KVCache(len(self.layers), self.shape.key_value_heads, self.shape.head_dim)

    @torch.inference_mode()
    def read(self, texts: Sequence[tuple[Sequence[int], KVCache]]) -> Tensor:
        """Read more tokens of several texts, each with its own cache; return the last layer's vectors [n, hidden].

        The n tokens of all texts go through the matrices together. Each cache grows by what was read.
        """
        lengths, caches = [len(token_ids) for token_ids, _ in texts], [cache for _, cache in texts]
        for length, cache in zip(lengths, caches, strict=True):
            cache.reserve(length)
        turns = [self.rotations[cache.length : cache.length + n] for n, cache in zip(lengths, caches, strict=True)]
        turn = torch.cat(turns)[:, None]  # [n, 1, head_dim / 2]
        vectors = self.embeddings.rows([token_id for token_ids, _ in texts for token_id in token_ids])  # [n, hidden]
        for number, layer in enumerate(self.layers):
            vectors = vectors + self._attention(number, layer, vectors, turn, lengths, caches)
            vectors = vectors + self._mlp(layer, vectors)
        for length, cache in zip(lengths, caches, strict=True):
            cache.length += length
        return vectors

    @torch.inference_mode()
    def logits(self, vectors: Tensor) -> Tensor:
        """Return the logits [n, vocab_size] of the tokens that follow these vectors [n, hidden]."""
        return self.head(self._norm(vectors, self.norm))

    def _norm(self, vectors: Tensor, weight: Tensor) -> Tensor:
        """Bring every vector to a common length, then stretch each of its numbers by a learnt weight."""
        return rms_norm(vectors, weight.shape, weight, self.shape.norm_epsilon)

    def _attention(
        self, number: int, layer: Layer, vectors: Tensor, turn: Tensor, lengths: list[int], caches: list[KVCache]
    ) -> Tensor:
        """Return what each token gathers from itself and those before it: [n, hidden]."""
        shape = self.shape
        turning = shape.heads + shape.key_value_heads
        mixed = layer.query_key_value(self._norm(vectors, layer.attention_norm)).view(len(vectors), -1, shape.head_dim)
        turned = rotate(mixed[:, :turning], turn)  # [n, turning, head_dim]
        queries, keys, values = turned[:, : shape.heads], turned[:, shape.heads :], mixed[:, turning:]
        if len(caches) == 1:
            return layer.attention_output(attend(queries, *caches[0].add(number, keys, values)))
        texts = zip(*(torch.split(each, lengths) for each in (queries, keys, values)), caches, strict=True)
        return layer.attention_output(torch.cat([attend(q, *cache.add(number, k, v)) for q, k, v, cache in texts]))

    def _mlp(self, layer: Layer, vectors: Tensor) -> Tensor:
        """Return what each token, by itself, makes of what it gathered: [n, hidden]."""
        gate, up = layer.gate_up(self._norm(vectors, layer.mlp_norm)).chunk(2, dim=-1)
        return layer.down(silu(gate).mul_(up))


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return, for each of the last n tokens, the values that its queries find, weighed: [n, heads × head_dim].

    `queries` are [n, heads, head_dim]; `keys` and `values` [key_value_heads, length, head_dim] are those of all tokens.
    From "Attention Is All You Need" (Vaswani et al., 2017) and "GQA" (Ainslie et al., 2023): heads share keys.

    >>> keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]) * 100
    >>> values = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> attend(torch.tensor([[[1.0, 0.0]]]), keys, values).tolist()  # looks for what the first token can be found by
    [[1.0, 2.0]]
    """
    n, heads, head_dim = queries.shape
    groups, length, _ = keys.shape
    grouped = queries.view(n, groups, heads // groups, head_dim).permute(1, 2, 0, 3).reshape(groups, -1, head_dim)
    # From here on a row is one head's query of one token: heads / groups × n rows in each group.
    scores = torch.bmm(grouped, keys.transpose(1, 2)).mul_(1 / math.sqrt(head_dim))  # [groups, rows, length]
    if n > 1:  # a token must not look at those after it
        later = torch.ones(n, length, dtype=torch.bool).triu_(length - n + 1)
        scores.view(groups, -1, n, length).masked_fill_(later, float("-inf"))
    found = torch.bmm(scores.softmax(dim=-1), values)  # [groups, rows, head_dim]
    return found.view(groups, -1, n, head_dim).permute(2, 0, 1, 3).reshape(n, heads * head_dim)


def rotations(shape: Shape) -> Tensor:
    """Return how far each pair of numbers turns at each place in the text: complex [context_length, head_dim / 2].

    A key turned by its place and a query turned by its own differ by how far apart they are, which is how attention
    knows of order. From "RoFormer" (Su et al., 2021).
    """
    pairs = torch.arange(0, shape.head_dim, 2, dtype=torch.float32)
    speeds = 1.0 / shape.rope_theta ** (pairs / shape.head_dim)  # the first pair turns fastest
    angles = torch.outer(torch.arange(shape.context_length, dtype=torch.float32), speeds)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(vectors: Tensor, turn: Tensor) -> Tensor:
    """Turn each pair of neighbouring numbers [..., head_dim], read as a complex one: to multiply is to turn.

    >>> quarter = torch.polar(torch.ones(1), torch.full((1,), math.pi / 2))
    >>> rotate(torch.tensor([1.0, 0.0]), quarter).round().tolist()
    [-0.0, 1.0]
    """
    pairs = torch.view_as_complex(vectors.view(*vectors.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(-2)
