"""Matrices, plain and packed, against plain products."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab.linear import MANY, DenseLinear, PackedLinear, packed
from chatlab.loops.sizes import GROUP, OUTPUTS
from chatlab.team import use_threads


def random_packed(outputs, inputs, *, bits, bias=None, seed=0):
    """A random packed matrix, and the float64 one that it stands for."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randint(0, 2**bits, (outputs, inputs), dtype=torch.uint8, generator=generator)
    scales = torch.rand(outputs, inputs // GROUP, 2, generator=generator) - torch.tensor([0.3, 0.5])
    scale, minimum = scales.double().repeat_interleave(GROUP, dim=1).unbind(-1)
    return PackedLinear(*packed(whole, scales, bits=bits), outputs, bias), whole.double() * scale + minimum


def close(products, vectors, weights, bias=0.0):
    """Whether products are right, but for float32's rounding, which goes with the sizes of the numbers that are summed.

    A few vectors are rounded to 16 bits as well: each number at most by half of a step, of its group's highest number.
    """
    vectors, sizes = vectors.double(), weights.abs()
    highest = vectors.abs().unflatten(1, (-1, GROUP)).amax(-1).repeat_interleave(GROUP, dim=1)
    half_steps = highest / (2**16 - 2) if len(vectors) < MANY else torch.zeros_like(highest)
    bound = 2e-6 * (vectors.abs() @ sizes.T) + half_steps @ sizes.T + 1e-6
    return ((products - (vectors @ weights.T + bias)).abs() <= bound).all()


@given(
    st.integers(1, 2 * OUTPUTS + 1), st.integers(1, 4), st.integers(1, 2 * MANY), st.booleans(), st.sampled_from([4, 8])
)
@settings(max_examples=60, deadline=None)
def test_packed_is_the_product_with_what_its_blocks_stand_for(outputs, groups, n, with_bias, bits):
    bias = torch.randn(outputs) if with_bias else None
    linear, weights = random_packed(outputs, GROUP * groups, bits=bits, bias=bias, seed=n)
    vectors = torch.randn(n, GROUP * groups, generator=torch.Generator().manual_seed(n))
    products = linear(vectors)
    assert products.dtype == torch.float32 and products.shape == (n, outputs) and linear.outputs == outputs
    assert close(products, vectors, weights, 0.0 if bias is None else bias)
    assert torch.equal(linear(vectors), products), "the bias is not added to the weights' own memory"


@given(st.integers(1, MANY - 1), st.sampled_from([4, 8]))
@settings(max_examples=20, deadline=None)
def test_nothing_is_rounded_of_numbers_that_have_16_bits(n, bits):
    linear, weights = random_packed(OUTPUTS + 1, 2 * GROUP, bits=bits)
    vectors = torch.randint(1 - 2**15, 2**15, (n, 2 * GROUP), generator=torch.Generator().manual_seed(n)).float()
    vectors[:, ::GROUP] = 2**15 - 1
    vectors[:, GROUP:] *= 2.0**-20  # each group has a scale of its own
    expected = vectors.double() @ weights.T
    sizes = vectors.double().abs() @ weights.abs().T
    assert ((linear(vectors) - expected).abs() <= 1e-6 * sizes).all()


def test_nothing_times_anything_is_nothing():
    linear, _ = random_packed(OUTPUTS, GROUP, bits=4)
    assert torch.equal(linear(torch.zeros(1, GROUP)), torch.zeros(1, OUTPUTS))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_vector_has_the_same_product_in_any_company_to_the_last_bit(bits, threads):
    linear, _ = random_packed(300, 192, bits=bits)
    vectors = torch.randn(MANY - 1, 192)
    use_threads(threads)
    together = linear(vectors)
    for number in (0, 1, 63, 64, MANY - 2):
        assert torch.equal(linear(vectors[number : number + 1])[0], together[number])
    assert torch.equal(linear(vectors[10:40]), together[10:40])


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_are_the_matrix(bits):
    linear, weights = random_packed(OUTPUTS + 5, 96, bits=bits)
    rows = linear.rows([3, 0, OUTPUTS + 4, OUTPUTS, 3])
    assert rows.shape == (5, 96) and rows.dtype == torch.float32
    torch.testing.assert_close(rows.double(), weights[[3, 0, OUTPUTS + 4, OUTPUTS, 3]], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(linear.unpacked()[:, : OUTPUTS + 5].T.double(), weights, rtol=1e-6, atol=1e-6)


def test_dense_is_pytorchs_own():
    weight, bias, vectors = torch.randn(5, 7), torch.randn(5), torch.randn(4, 7)
    linear = DenseLinear(weight, bias)
    torch.testing.assert_close(linear(vectors), torch.nn.functional.linear(vectors, weight, bias))
    assert torch.equal(linear.rows([4, 1]), weight[[4, 1]]) and linear.outputs == 5
