"""Linear layers: a matrix of weights, in float32 or quantised, times vectors.

In: vectors [n, inputs] in float32. Out: vectors [n, outputs] in float32. Knows nothing of what the numbers mean, nor of
where weights are stored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["GROUP", "MANY", "DenseLinear", "Int4Linear", "Int8Linear", "Linear", "RefinedLinear"]

ALIGNMENT = 16  # bytes
TINY = 1e-30  # a row of zeros would have no scale to divide by
MANY = 96  # vectors for which unpacking the weights first is faster than doing so while multiplying
LARGEST = 64  # how many products of a vector are computed again by finer weights
GROUP = 32  # how many neighbouring weights of a row share a scale, in GGUF's 4-bit blocks as in PyTorch's kernel


class Linear(ABC):
    """A matrix that vectors are multiplied by, [outputs, inputs]; with a `bias` [outputs] or without."""

    bias: Tensor | None = None
    outputs: int

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


class Int4Linear(Linear):
    """Weights of 4 bits: each is `(nibble − 8) × scale + zero`, with one scale and one zero for a group of 32.

    `nibbles` are the whole numbers 0–15, two to a byte (the lower half first), [outputs, inputs / 2] uint8. `scales`
    hold scale and zero, [inputs / 32, outputs, 2] bfloat16. PyTorch's kernel for CPUs unpacks them while it multiplies,
    in bfloat16 because it is fast in nothing else. For many vectors, as a prompt has, they are unpacked once for all.
    """

    def __init__(self, nibbles: Tensor, scales: Tensor, bias: Tensor | None = None) -> None:
        self.nibbles = nibbles
        whole = torch.stack([nibbles & 15, nibbles >> 4], dim=-1).flatten(1)  # [outputs, inputs]
        self.packed = torch._convert_weight_to_int4pack_for_cpu(whole.int(), 1)
        self.scales = scales.contiguous()
        self.bias = bias
        self.outputs = len(nibbles)

    def multiply(self, vectors: Tensor) -> Tensor:
        """Return the products [n, outputs] of vectors [n, inputs]."""
        vectors = vectors.bfloat16()
        if len(vectors) < MANY:
            return torch._weight_int4pack_mm_for_cpu(vectors, self.packed, GROUP, self.scales).float()
        # Rounded as the kernel does, so that the company a vector is in changes next to nothing.
        halves = vectors.float().view(len(vectors), -1, 2).transpose(1, 2).flatten(1)  # as `unpacked` has its columns
        return torch.nn.functional.linear(halves, self.unpacked()).bfloat16().float()

    def unpacked(self) -> Tensor:
        """Return the weights [outputs, inputs] float32: the columns of even number, then those of odd number."""
        scale, zero = self.scales.float().permute(2, 1, 0)[..., None]  # [outputs, groups, 1]
        bytes_ = self.nibbles.view(self.outputs, -1, GROUP // 2)
        weights = torch.empty(self.outputs, 2, *bytes_.shape[1:])
        torch.mul(bytes_ & 15, scale, out=weights[:, 0])
        torch.mul(bytes_ >> 4, scale, out=weights[:, 1])
        return weights.add_((zero - 8 * scale)[:, None]).flatten(1)

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """Return the rows of these numbers, [n, inputs] float32."""
        return self.unpacked()[torch.tensor(numbers)].view(len(numbers), 2, -1).transpose(1, 2).flatten(1)


class Int8Linear(Linear):
    """Weights of 8 bits: whole numbers [outputs, inputs] int8, and one scale for each row, [outputs] bfloat16.

    Raises `ValueError` unless the inputs are a multiple of 16: PyTorch's kernel crashes where a row does not begin at
    a multiple of 16 bytes.
    """

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        if weight.shape[1] % ALIGNMENT:
            raise ValueError(f"The inputs of 8-bit weights must be a multiple of {ALIGNMENT}, not {weight.shape[1]}.")
        # What is mapped from a file may begin anywhere; what PyTorch allocates begins where it should.
        self.weight = weight.clone() if weight.data_ptr() % ALIGNMENT else weight
        self.scales = scales
        self.outputs = len(weight)

    @classmethod
    def quantised(cls, weight: Tensor) -> Int8Linear:
        """Return the nearest 8-bit weights to those given, [outputs, inputs] float32."""
        scales = (weight.abs().amax(dim=1).clamp(min=TINY) / 127).bfloat16()
        return cls((weight / scales[:, None].float()).round_().clamp_(-127, 127).to(torch.int8), scales)

    def multiply(self, vectors: Tensor) -> Tensor:
        """Return the products [n, outputs] of vectors [n, inputs]."""
        return torch._weight_int8pack_mm(vectors.bfloat16(), self.weight, self.scales).float()

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """Return the rows of these numbers, [n, inputs] float32."""
        index = torch.tensor(numbers)
        return self.weight[index].float() * self.scales[index, None].float()


class RefinedLinear(Linear):
    """8-bit weights for every product, and finer ones, [outputs, inputs] float16, for the 64 largest of each vector.

    So a head costs a quarter of a plain one, and the tokens that may come next still have the logits they should. With
    8 bits and the kernel's bfloat16 alone two likely tokens may be equal, and the choice between them arbitrary.

    >>> coarse = Int8Linear.quantised(torch.tensor([[1.0, 0.001], [1.0, 0.002]]).repeat(1, 8))
    >>> fine = torch.tensor([[1.0, 0.001], [1.0, 0.002]]).repeat(1, 8).half()
    >>> vector = torch.ones(1, 16)
    >>> coarse(vector).tolist(), RefinedLinear(coarse, fine)(vector).argmax().item()
    ([[8.0, 8.0]], 1)
    """

    def __init__(self, coarse: Int8Linear, fine: Tensor) -> None:
        self.coarse = coarse
        self.fine = fine
        self.outputs = coarse.outputs

    def multiply(self, vectors: Tensor) -> Tensor:
        """Return the products [n, outputs] of vectors [n, inputs]."""
        products = self.coarse.multiply(vectors)
        for vector, row in zip(vectors, products, strict=True):
            largest = row.topk(min(LARGEST, self.outputs), sorted=False).indices
            row[largest] = torch.mv(self.fine[largest].float(), vector)
        return products

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """Return the finer rows of these numbers, [n, inputs] float32."""
        return self.fine[torch.tensor(numbers)].float()
