"""Building: the loops as machine code for one processor, to be kept in a file.

In: the loops, and which processor. Out: an object file with three functions that C could call. Knows nothing of where
it is kept or how it is called: see `chatlab.kernels`.

numba compiles the loops and needs no compiler on the machine. But to import it, and to have it find what it compiled,
takes half a second each time that a model is loaded; LLVM alone opens an object file in a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator

import llvmlite.binding as llvm
import numpy as np
from numba import float64, int64

from chatlab.loops import layers
from chatlab.loops.arrays import compiled, floats, integers
from chatlab.loops.processor import FEATURES, NAME, has
from chatlab.loops.sizes import GROUP, OUTPUTS

__all__ = ["build"]

NO_BIAS = np.int64(0)


def multiply(words, scales, bias, blocks, rows, groups, biases, vectors, n, products, outputs, own, counts):
    """Call `layers.multiply` with what lies at these addresses, but without the bias."""
    matrix = layers.matrix(words, scales, bias, blocks, rows, groups, NO_BIAS)
    vectors_, products_ = floats(vectors, (n, groups * GROUP)), floats(products, (n, outputs))
    layers.multiply(matrix, vectors_, products_, own, counts)


def unpack(words, scales, bias, blocks, rows, groups, biases, weights, own, counts):
    """Call `layers.unpack` with what lies at these addresses."""
    matrix = layers.matrix(words, scales, bias, blocks, rows, groups, biases)
    layers.unpack(matrix, floats(weights, (groups * GROUP, blocks * OUTPUTS)), counts)


def read(
    epsilon, vectors, n, hidden, first, last, matrices, layers_, norms, turns, head_dim, turning, memories, places,
    mixed, all_heads, gathered, heads, both, gated, width, own, counts,
):  # fmt: skip
    """Call `layers.read` with what lies at these addresses."""
    layers.read(
        floats(vectors, (n, hidden)),
        (first, last),
        integers(matrices, (layers_, 4, 7)),
        floats(norms, (layers_, 2, hidden)),
        epsilon,
        floats(turns, (n, head_dim // 2, 2)),
        turning,
        integers(memories, (n, layers_)),
        integers(places, (n, 4)),
        floats(mixed, (n, all_heads * head_dim)),
        floats(gathered, (n, heads * head_dim)),
        floats(both, (n, 2 * width)),
        floats(gated, (n, width)),
        own,
        counts,
    )


FUNCTIONS = (multiply, unpack, read)
# numba's arrays may own memory, which this frees. Ours never do.
NOTHING_TO_FREE = "define void @NRT_MemInfo_call_dtor(ptr %0) { ret void }"


def build() -> Iterator[bytes]:
    """Yield nothing for each function that is compiled, and at last the object file of all.

    In it they have their own names and numba's way to be called: see `chatlab.kernels`.
    """
    whole = llvm.parse_assembly(NOTHING_TO_FREE)
    for function in FUNCTIONS:
        code = function.__code__
        kinds = tuple(float64 if name == "epsilon" else int64 for name in code.co_varnames[: code.co_argcount])
        loop = compiled(function)
        loop.compile(kinds)
        module = llvm.parse_assembly(loop.inspect_llvm(kinds))
        [own] = (each for each in module.functions if each.linkage == llvm.Linkage.external and not each.is_declaration)
        own.name = function.__name__
        whole.link_in(module)
        yield b""
    triple = llvm.get_process_triple()
    reloc = "static" if "86" in triple else "default"
    # LLVM makes two instructions of vpdpwssd where it thinks that one would be waited for. See `products`.
    features = f"{FEATURES},+fast-dpwssd" if has("avx512vnni") else FEATURES
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=NAME, features=features, opt=3, reloc=reloc, jit=True)
    yield machine.emit_object(whole)
