"""Linear layers: a matrix of weights, plain or in few bits, times vectors.

In: vectors [n, inputs] in float32. Out: vectors [n, outputs] in float32. Knows nothing of what the numbers mean, nor of
where weights are stored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from chatlab import kernels
from chatlab.loops.sizes import GROUP, OUTPUTS

__all__ = ["MANY", "DenseLinear", "Linear", "PackedLinear"]

MANY = 96  # vectors for which unpacking the weights first is faster than doing so while multiplying


class Linear(ABC):
    """A matrix that vectors are multiplied by, [outputs, inputs]; with a `bias` [outputs] or without."""

    bias: Tensor | None = None
    outputs: int
    place: tuple[int, ...] = ()  # where packed weights lie, and their sizes, for the kernels

    @abstractmethod
    def multiply(self, vectors: Tensor) -> Tensor:
        """Return the products [n, outputs] of vectors [n, inputs]."""

    @abstractmethod
    def rows(self, numbers: Sequence[int]) -> Tensor:
        """Return the rows of these numbers, [n, inputs] float32: the embedding of a token is a row."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return the products, with the bias added where there is one."""
        products = self.multiply(vectors)
        return products if self.bias is None else products.add_(self.bias)


class DenseLinear(Linear):
    """Plain weights, in whatever precision they have.

    >>> DenseLinear(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))(torch.tensor([[1.0, 10.0]])).tolist()
    [[21.0, 43.0]]
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias
        self.outputs = len(weight)

    def multiply(self, vectors: Tensor) -> Tensor:
        """Return the products [n, outputs] of vectors [n, inputs]."""
        return torch.nn.functional.linear(vectors, self.weight)

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """Return the rows of these numbers, [n, inputs] float32."""
        return self.weight[torch.tensor(numbers)].float()


class PackedLinear(Linear):
    """Weights of 4 or 8 bits: each is `whole number × scale + minimum`, with both for a group of 32 inputs.

    `words` hold the whole numbers, 8 or 4 to a word of 32 bits: in its lower half some of the group's first 16, from
    the lowest bits on, and in its upper half those that come 16 later. They lie in the blocks that chatlab's kernels
    want: [blocks, inputs / 8 or 4, OUTPUTS] int32. `scales` are scale and minimum, float32 [blocks, groups, 2,
    OUTPUTS]. The last block is filled up with zeros.

    >>> whole = torch.arange(32, dtype=torch.uint8)[None]  # one output, 32 inputs
    >>> linear = PackedLinear(*packed(whole, torch.tensor([[[0.5, -1.0]]]), bits=8), outputs=1)
    >>> linear.rows([0])[0, :4].tolist(), linear(torch.ones(1, 32)).item()
    ([-1.0, -0.5, 0.0, 0.5], 216.0)
    """

    def __init__(self, words: Tensor, scales: Tensor, outputs: int, bias: Tensor | None = None) -> None:
        self.words = words
        self.scales = scales
        self.outputs = outputs
        self.bias = bias
        self.inputs = scales.shape[1] * GROUP
        self.arrays = (words.numpy().view(np.uint32), scales.numpy())
        sizes = (len(words), words.shape[1], scales.shape[1], 0 if bias is None else len(bias))
        self.place = (*(0 if part is None else part.data_ptr() for part in (words, scales, bias)), *sizes)

    def multiply(self, vectors: Tensor) -> Tensor:
        """Return the products [n, outputs] of vectors [n, inputs]; those of many are equal but for rounding."""
        if len(vectors) >= MANY:
            return torch.mm(vectors, self.unpacked())[:, : self.outputs].contiguous()
        products = torch.empty(len(vectors), self.outputs)
        kernels.multiply(self.place, vectors.contiguous(), products)
        return products

    def unpacked(self) -> Tensor:
        """Return the weights as they lie in the blocks, [inputs, outputs or a few more] float32."""
        weights = torch.empty(self.inputs, len(self.words) * OUTPUTS)
        kernels.unpack(self.place, weights)
        return weights

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """Return the rows of these numbers, [n, inputs] float32."""
        block, output = np.divmod(np.asarray(numbers), OUTPUTS)
        words, scales = self.arrays
        each = self.inputs // words.shape[1]  # numbers in a word
        shifts = np.arange(0, 32, 32 // each, dtype=np.uint32)
        whole = (words[block, :, output][..., None] >> shifts) & np.uint32(2 ** (32 // each) - 1)
        halves = whole.reshape(len(block), scales.shape[1], -1, 2, each // 2).swapaxes(2, 3)
        grouped = halves.reshape(len(block), -1, GROUP).astype(np.float32)
        scale, minimum = np.moveaxis(scales[block, :, :, output], -1, 0)[..., None]  # [n, groups, 1]
        return torch.from_numpy((grouped * scale + minimum).reshape(len(block), -1))


def packed(whole: Tensor, scales: Tensor, *, bits: int) -> tuple[Tensor, Tensor]:
    """Return words and scales as `PackedLinear` wants them.

    `whole` are the whole numbers [outputs, inputs] uint8, `scales` their scales and minima [outputs, groups, 2].
    """
    outputs, inputs = whole.shape
    missing = -outputs % OUTPUTS
    halves = np.pad(whole.numpy(), ((0, missing), (0, 0))).reshape(-1, inputs // GROUP, 2, bits, GROUP // 2 // bits)
    numbers = halves.swapaxes(2, 3).reshape(-1, inputs)
    bytes_ = numbers if bits == 8 else numbers[:, ::2] | numbers[:, 1::2] << 4
    words = np.ascontiguousarray(bytes_).view(np.int32)
    pairs = np.pad(scales.float().numpy(), ((0, missing), (0, 0), (0, 0)))
    return _in_blocks(words), _in_blocks(pairs.reshape(len(pairs), -1)).view(-1, inputs // GROUP, 2, OUTPUTS)


def _in_blocks(rows: npt.NDArray[Any]) -> Tensor:
    """Return rows [blocks × OUTPUTS, columns] as [blocks, columns, OUTPUTS]."""
    blocks = rows.reshape(-1, OUTPUTS, rows.shape[1]).transpose(0, 2, 1)
    return torch.from_numpy(np.ascontiguousarray(blocks))
