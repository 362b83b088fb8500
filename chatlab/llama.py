"""Llama: the forward pass of the most common kind of language model, in a hundred lines.

In: token ids, and the key-value cache of what was read before. Out: the logits after them. Many conversations go
through at once: the matrices are read from memory once for all, and attention alone is done for each that did not begin
like its neighbour. Knows nothing of text, nor of how weights are stored.

    token ids ─► embeddings ─► layer 0 ─► … ─► layer 29 ─► norm ─► head ─► logits
                                  │
         ┌── norm ─► queries, keys, values ─► attention ─► output ──┐
    ──►──┴──────────────────────────────────────────────────────────+──┬── norm ─► gate, up ─► down ──┐
                                                                       └──────────────────────────────+──►

A prompt goes through PyTorch, as it is written in `_many`. A few tokens go through loops that are compiled and do the
same, in `_few`: of a token's time, two thirds go to the layers, a quarter to the head, and a tenth to the choice of the
token and to Python. Of the time of eight tokens at once, a sixth does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from chatlab import kernels
from chatlab.errors import ReplyStoppedError
from chatlab.kv_memory import KVCache, KVMemory, Run
from chatlab.linear import MANY, Linear
from chatlab.loops.sizes import LANES

__all__ = ["Layer", "Llama", "Shape"]

Text = tuple[Sequence[int], KVCache]  # new tokens of a text, and what was read of it before
AT_ONCE = 240  # how many layers tokens go through in compiled loops before it is asked whether to go on, added up


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

    @property
    def turning(self) -> int:
        """How many heads turn with their place: queries and keys do, values do not."""
        return self.heads + self.key_value_heads


@dataclass(frozen=True)
class Layer:
    """The weights of one layer. Rows of queries and keys are in pairs that turn together (see `rotations`)."""

    attention_norm: Tensor  # [hidden]
    query_key_value: Linear  # hidden → (heads + 2 × key_value_heads) × head_dim
    attention_output: Linear  # heads × head_dim → hidden
    mlp_norm: Tensor  # [hidden]
    gate_up: Linear  # hidden → 2 × mlp width
    down: Linear  # mlp width → hidden

    @property
    def matrices(self) -> tuple[Linear, ...]:
        """The four linear layers."""
        return self.query_key_value, self.attention_output, self.gate_up, self.down


class Llama:
    """A network: embeddings, layers, a last norm, and the head that turns a vector into logits."""

    def __init__(self, shape: Shape, embeddings: Linear, layers: Sequence[Layer], norm: Tensor, head: Linear) -> None:
        self.shape = shape
        self.embeddings = embeddings
        self.layers = tuple(layers)
        self.norm = norm
        self.head = head
        self.rotations = rotations(shape)
        places = [[matrix.place for matrix in layer.matrices] for layer in self.layers]
        self.compiled: tuple[npt.NDArray[np.int64], Tensor] | None = None
        if shape.head_dim % LANES == 0 and all(all(place) for place in places):
            norms = [torch.stack([layer.attention_norm, layer.mlp_norm]) for layer in self.layers]
            # For the kernels: where the matrices lie [layers, 4, 7], and the norms' weights [layers, 2, hidden].
            self.compiled = (np.array(places, np.int64), torch.stack(norms))

    @property
    def vocab_size(self) -> int:
        """How many tokens the network knows."""
        return self.head.outputs

    def new_cache(self) -> KVCache:
        """Return a cache that has read nothing."""
        return KVCache(KVMemory(len(self.layers), 1, self.shape.key_value_heads, self.shape.head_dim))

    @torch.inference_mode()
    def read(self, texts: Sequence[Text], *, interrupted: Callable[[], bool] = lambda: False) -> Tensor:
        """Read more tokens of several texts, each with its own cache; return the last layer's vectors [n, hidden].

        The n tokens of all texts go through the matrices together, as far as none changes another's last bit. Each
        cache grows by what was read. `interrupted` is asked before each layer; once it says yes, `ReplyStoppedError`
        is raised and the caches are as they were.
        """
        vectors = _together([self._read(group, interrupted) for group in groups(texts)])
        for token_ids, cache in texts:
            cache.length += len(token_ids)
        return vectors

    def _read(self, texts: Sequence[Text], interrupted: Callable[[], bool]) -> Tensor:
        """Return the vectors of texts that are read as one, and leave in their caches what comes after their ends."""
        for token_ids, cache in texts:
            cache.memory.reserve(cache.length + len(token_ids))
        turn = torch.cat([self.rotations[cache.length : cache.length + len(ids)] for ids, cache in texts])
        vectors = self.embeddings.rows([token_id for token_ids, _ in texts for token_id in token_ids])  # [n, hidden]
        read = self._few if self.compiled and len(vectors) < MANY else self._many
        for _ in read(vectors, turn, texts):
            if interrupted():
                raise ReplyStoppedError("The model was stopped while it was reading.")
        return vectors

    @torch.inference_mode()
    def logits(self, vectors: Tensor) -> Tensor:
        """Return the logits [n, vocab_size] of the tokens that follow these vectors [n, hidden].

        A vector's logits do not depend on how many there are: a few go through the head at a time.
        """
        return _together([self.head(few) for few in self._norm(vectors, self.norm).split(MANY - 1)])  # type: ignore[no-untyped-call]

    def _norm(self, vectors: Tensor, weight: Tensor) -> Tensor:
        """Bring every vector to a common length, then stretch each of its numbers by a learnt weight."""
        return rms_norm(vectors, weight.shape, weight, self.shape.norm_epsilon)

    def _many(self, vectors: Tensor, turn: Tensor, texts: Sequence[Text]) -> Iterator[None]:
        """Let vectors [n, hidden] go through the layers; yield before each is begun.

        `turn` [n, head_dim / 2] says how far each token turns.
        """
        runs: list[Run] = []
        for token_ids, cache in texts:
            if runs and runs[-1].goes_on_with(cache, len(token_ids)):
                runs[-1].texts += 1
            else:
                runs.append(Run(cache.memory, cache.place, cache.length, len(token_ids)))
        for number, layer in enumerate(self.layers):
            yield
            vectors += self._attention(number, layer, vectors, turn, runs)
            vectors += self._mlp(layer, vectors)

    def _attention(self, number: int, layer: Layer, vectors: Tensor, turn: Tensor, runs: list[Run]) -> Tensor:
        """Return what each token gathers from itself and those before it: [n, hidden]."""
        mixed = layer.query_key_value(self._norm(vectors, layer.attention_norm))
        heads = mixed.view(len(vectors), -1, self.shape.head_dim)  # [n, all heads, head_dim]
        rotate(heads[:, : self.shape.turning], turn[:, None])
        gathered = [
            self._gather(number, run, own)
            for run, own in zip(runs, torch.split(heads, [run.texts * run.tokens for run in runs]), strict=True)
        ]
        return layer.attention_output(_together(gathered))

    def _gather(self, number: int, run: Run, heads: Tensor) -> Tensor:
        """Store the keys and values of a run's tokens, and return what they gather: [texts × tokens, hidden]."""
        queries, keys_values = heads[:, : self.shape.heads], heads[:, self.shape.heads :]
        keys, values = run.add(number, keys_values)
        return attend(queries, keys, values)

    def _mlp(self, layer: Layer, vectors: Tensor) -> Tensor:
        """Return what each token, by itself, makes of what it gathered: [n, hidden]."""
        gate, up = layer.gate_up(self._norm(vectors, layer.mlp_norm)).chunk(2, dim=-1)
        return layer.down(silu(gate).mul_(up))

    def _few(self, vectors: Tensor, turn: Tensor, texts: Sequence[Text]) -> Iterator[None]:
        """Do what `_many` does, for a few tokens and packed weights, in compiled loops; yield now and then."""
        shape, layers = self.shape, len(self.layers)
        assert self.compiled is not None
        memories = np.array([cache.memory.addresses for ids, cache in texts for _ in ids])
        places = [
            (cache.memory.texts, cache.memory.capacity, cache.place, cache.length + number)
            for ids, cache in texts
            for number in range(len(ids))
        ]
        at_once = max(1, AT_ONCE // len(vectors))
        for first in range(0, layers, at_once):
            yield
            kernels.read(
                vectors,
                (first, min(first + at_once, layers)),
                self.compiled,
                shape.norm_epsilon,
                torch.view_as_real(turn),
                (shape.heads, shape.key_value_heads),
                (memories, np.array(places, np.int64)),
                self.layers[0].gate_up.outputs // 2,
            )


def _together(parts: list[Tensor]) -> Tensor:
    """Return the rows of all parts; those of a single one without copying them."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def groups(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """Yield texts to be read as one: fewer than `MANY` tokens together, or a longer text alone.

    Many vectors are multiplied in another way than a few (see `PackedLinear`), and nobody's logits shall depend on how
    many others are being answered.
    """
    group: list[Text] = []
    tokens = 0
    for text in texts:
        tokens += len(text[0])
        if group and tokens >= MANY:
            yield group
            group, tokens = [], len(text[0])
        group.append(text)
    yield group


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return the values that the queries of each text's last n tokens find: [texts × n, heads × head_dim].

    `queries` are [texts × n, heads, head_dim]; `keys` and `values`, [texts, key_value_heads, length, head_dim], are
    those of all tokens. From "Attention Is All You Need" (Vaswani et al., 2017) and "GQA" (Ainslie et al., 2023): heads
    share keys.

    >>> keys = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]]) * 100
    >>> values = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> attend(torch.tensor([[[1.0, 0.0]]]), keys, values).tolist()  # looks for what the first token can be found by
    [[1.0, 2.0]]
    """
    texts, groups, length, head_dim = keys.shape
    heads, n = queries.shape[1], len(queries) // texts
    if n > 1:  # the same for a whole prompt, by PyTorch in pieces that fit into the processor's own memory
        by_head = queries.view(texts, n, heads, head_dim).transpose(1, 2)
        # A token must not look at those after it. Where nothing came before, PyTorch leaves out that half by itself.
        earlier = torch.ones(n, length, dtype=torch.bool).tril(length - n) if n < length else None
        found = scaled_dot_product_attention(
            by_head, keys, values, attn_mask=earlier, is_causal=earlier is None, enable_gqa=True
        )
        return found.transpose(1, 2).reshape(texts * n, heads * head_dim)
    # From here on a row is one head's query of one token: heads / groups rows in each group of each text.
    rows = queries.reshape(texts * groups, heads // groups, head_dim)
    scores = torch.bmm(rows, keys.flatten(0, 1).transpose(1, 2)).mul_(1 / math.sqrt(head_dim))  # [.., rows, length]
    return torch.bmm(scores.softmax(dim=-1), values.flatten(0, 1)).view(texts, heads * head_dim)


def rotations(shape: Shape) -> Tensor:
    """Return how far each pair of numbers turns at each place in the text: complex [context_length, head_dim / 2].

    A key turned by its place and a query turned by its own differ by how far apart they are, which is how attention
    knows of order. From "RoFormer" (Su et al., 2021).
    """
    pairs = torch.arange(0, shape.head_dim, 2, dtype=torch.float32)
    speeds = 1.0 / shape.rope_theta ** (pairs / shape.head_dim)  # the first pair turns fastest
    angles = torch.outer(torch.arange(shape.context_length, dtype=torch.float32), speeds)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(vectors: Tensor, turn: Tensor) -> None:
    """Turn each pair of neighbouring numbers [..., head_dim], read as a complex one: to multiply is to turn.

    >>> quarter, vector = torch.polar(torch.ones(1), torch.full((1,), math.pi / 2)), torch.tensor([1.0, 0.0])
    >>> rotate(vector, quarter)
    >>> vector.round().tolist()
    [-0.0, 1.0]
    """
    torch.view_as_complex(vectors.view(*vectors.shape[:-1], -1, 2)).mul_(turn)
