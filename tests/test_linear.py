"""Matrices in float32 and quantised, against plain products and against GGUF's own numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab.linear import GROUP, LARGEST, MANY, DenseLinear, Int4Linear, Int8Linear, RefinedLinear

# bfloat16 has 8 bits, so that rounding to it changes a number by at most 2**-8 of itself: vectors first, sums last.
BFLOAT16 = 2**-8


def int4(outputs, inputs, *, bias=None, seed=0):
    """A random 4-bit matrix, and the float32 one that it stands for."""
    generator = torch.Generator().manual_seed(seed)
    nibbles = torch.randint(0, 256, (outputs, inputs // 2), dtype=torch.uint8, generator=generator)
    scales = (torch.rand(inputs // GROUP, outputs, 2, generator=generator) - 0.3).bfloat16()
    whole = torch.stack([nibbles & 15, nibbles >> 4], dim=-1).flatten(1).float()  # [outputs, inputs]
    scale, zero = (scales[..., each].float().T.repeat_interleave(GROUP, dim=1) for each in (0, 1))
    return Int4Linear(nibbles, scales, bias), (whole - 8) * scale + zero


def close(product, vectors, dense, bias=0.0):
    """Whether a product is right up to rounding, which goes with the sizes of the numbers that are summed."""
    return ((product - (vectors @ dense.T + bias)).abs() <= 2 * BFLOAT16 * (vectors.abs() @ dense.abs().T)).all()


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 70), st.booleans())
@settings(max_examples=40, deadline=None)
def test_int4_is_the_product_with_what_its_blocks_stand_for(rows, groups, n, with_bias):
    outputs, inputs = 32 * rows, GROUP * groups
    bias = torch.randn(outputs) if with_bias else None
    linear, dense = int4(outputs, inputs, bias=bias, seed=n)
    vectors = torch.randn(n, inputs, generator=torch.Generator().manual_seed(n))
    products = linear(vectors)
    assert products.dtype == torch.float32 and products.shape == (n, outputs) and linear.outputs == outputs
    assert close(products, vectors, dense, 0.0 if bias is None else bias)
    assert torch.equal(linear(vectors), products), "the bias is not added to the weights' own memory"


def refined(outputs, inputs):
    """A matrix in 8 bits and finer, and the plain one that both stand for."""
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(outputs))
    return RefinedLinear(Int8Linear.quantised(weight), weight.half()), weight


LINEARS = {
    "int4": int4(64, 96)[0],
    "int8": Int8Linear.quantised(torch.randn(50, 96)),
    "refined": refined(300, 96)[0],
}


@pytest.mark.parametrize("linear", LINEARS.values(), ids=LINEARS)
def test_a_vector_has_the_same_product_in_any_company_to_the_last_bit(linear):
    company = MANY - 1 if isinstance(linear, Int4Linear) else 300
    vectors = torch.randn(company, 96)
    together = linear(vectors)
    for number in (0, 1, 63, 64, company - 1):
        assert torch.equal(linear(vectors[number : number + 1])[0], together[number])
    piece = slice(company // 3, company * 217 // 300)
    assert torch.equal(linear(vectors[piece]), together[piece])


def test_the_products_of_many_vectors_are_those_of_a_few_but_for_the_last_bit_of_one_in_a_thousand():
    linear, _ = int4(256, 576)
    vectors = torch.randn(3 * MANY, 576)
    many, few = linear(vectors), torch.cat([linear(each) for each in vectors.split(MANY - 1)])
    torch.testing.assert_close(many, few, rtol=2**-7, atol=1e-3)
    assert (many != few).float().mean() < 0.001
    assert len(linear(vectors[:MANY])) == MANY


def test_int4_rows_are_the_matrix():
    linear, dense = int4(64, 96)
    rows = linear.rows([3, 0, 63])
    assert rows.shape == (3, 96)
    torch.testing.assert_close(rows, dense[[3, 0, 63]], rtol=BFLOAT16, atol=BFLOAT16)


@given(st.integers(1, 70), st.integers(1, 4), st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_int8_is_near_what_it_was_made_from(outputs, groups, size):
    inputs = GROUP * groups
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(inputs)) * size
    linear = Int8Linear.quantised(weight)
    steps = weight.abs().amax(dim=1, keepdim=True) / 127
    # Half a step of rounding; and 127 steps may fall short of the largest weight by the rounding of their size.
    assert ((linear.rows(range(outputs)) - weight).abs() <= steps * (0.5 + 127 * BFLOAT16)).all()
    assert torch.equal(linear.rows([outputs - 1]), linear.rows(range(outputs))[-1:])
    vectors = torch.randn(3, inputs)
    assert close(linear(vectors), vectors, linear.rows(range(outputs)))


def test_int8_of_nothing_is_nothing():
    """A row of zeros, such as one of a token that was never trained, has no scale to divide by."""
    linear = Int8Linear.quantised(torch.tensor([[0.0], [1.0]]).expand(2, GROUP))
    assert not linear.rows([0]).any()
    torch.testing.assert_close(linear(torch.ones(1, GROUP)), torch.tensor([[0.0, GROUP]]), rtol=BFLOAT16, atol=0)


@pytest.mark.parametrize("offset", [1, 8, 16])
def test_int8_may_begin_anywhere_in_memory(offset):
    """As a tensor does that is mapped from a file: the kernel crashes the process where rows are not aligned."""
    memory = torch.randint(-127, 128, (offset + 64 * GROUP,), dtype=torch.int8)
    linear = Int8Linear(memory[offset:].view(64, GROUP), torch.ones(64, dtype=torch.bfloat16))
    assert torch.equal(linear(torch.eye(GROUP)).T, memory[offset:].view(64, GROUP).float())


def test_int8_of_a_width_that_crashes_the_kernel_is_refused():
    with pytest.raises(ValueError, match="must be a multiple of 16, not 33"):
        Int8Linear.quantised(torch.ones(4, 33))


@given(st.sampled_from([5, LARGEST, 1000]), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_the_largest_refined_products_are_those_of_the_finer_weights(outputs, n):
    linear, weight = refined(outputs, GROUP)
    vectors = torch.randn(n, GROUP, generator=torch.Generator().manual_seed(n))
    products, exact, coarse = linear(vectors), vectors @ weight.half().float().T, linear.coarse(vectors)
    torch.testing.assert_close(products.amax(dim=-1), exact.amax(dim=-1))
    assert torch.equal(products.argmax(dim=-1), exact.argmax(dim=-1))
    changed = (products != coarse).sum(dim=-1)
    assert (changed <= LARGEST).all() and (changed >= min(outputs, LARGEST) * 0.8).all()
    assert ((products - exact).norm() < (coarse - exact).norm()) and torch.equal(
        linear.rows([0, outputs - 1]), weight[[0, outputs - 1]].half().float()
    )


def test_dense_is_pytorchs_own():
    weight, bias, vectors = torch.randn(5, 7), torch.randn(5), torch.randn(4, 7)
    linear = DenseLinear(weight, bias)
    torch.testing.assert_close(linear(vectors), torch.nn.functional.linear(vectors, weight, bias))
    assert torch.equal(linear.rows([4, 1]), weight[[4, 1]]) and linear.outputs == 5
