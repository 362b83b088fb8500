"""Kernels: the compiled loops, as functions to call with tensors and arrays.

In: tensors and arrays, of which each thread gets to know where they lie. Out: what the loops fill in there. Knows
nothing of what they compute: see `chatlab.loops`.

PyTorch's thirty operations for a layer took as long to call as to do. ctypes lets other threads go on during a call.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt
from torch import Tensor

from chatlab.loops.object_file import object_code
from chatlab.loops.sizes import STEPS, room_to_multiply, room_to_read
from chatlab.team import share

__all__ = ["multiply", "prepare", "read", "unpack"]

WHOLE = {"multiply": 13, "unpack": 10, "read": 22}  # how many whole numbers each function takes; `read` one more

_functions: dict[str, Callable[..., int]] = {}
_engines: list[Any] = []  # which hold the functions
_lock = threading.Lock()
_returned = (ctypes.c_void_p * 2)()  # where numba's functions put nothing, and an error that ours do not have


def multiply(place: tuple[int, ...], vectors: Tensor, products: Tensor) -> None:
    """Fill products [n, outputs] of vectors [n, inputs] and packed weights, without a bias: see `PackedLinear`."""
    n, inputs = vectors.shape
    room = room_to_multiply(n, inputs)
    share(_kernel("multiply"), *place, vectors, n, products, products.shape[1], steps=1, room=room)


def unpack(place: tuple[int, ...], weights: Tensor) -> None:
    """Fill weights [inputs, blocks × OUTPUTS] with what packed weights stand for."""
    share(_kernel("unpack"), *place, weights, steps=1)


def read(
    vectors: Tensor,
    layers: tuple[int, int],
    weights: tuple[npt.NDArray[np.int64], Tensor],
    epsilon: float,
    turns: Tensor,
    heads: tuple[int, int],
    texts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    width: int,
) -> None:
    """Let vectors [n, hidden] go through the layers from the first to before the last.

    `weights` are those of all layers: see `Llama.compiled`. Of `heads`, so many have queries, and so many share keys
    and values; `turns` [n, head_dim / 2, 2] are the cosines and sines that queries and keys turn by. `width` is that of
    the MLP. `texts` say of each token where the keys and values of its text lie [n, layers], and for how many texts and
    tokens there is room, which of these texts it is, and which token [n, 4].
    """
    (n, hidden), (matrices, norms), (memories, places) = vectors.shape, weights, texts
    (queries, shared), head_dim = heads, 2 * turns.shape[1]
    mixed, gathered, both, gated = (
        np.empty((n, size), np.float32)
        for size in ((queries + 2 * shared) * head_dim, queries * head_dim, 2 * width, width)
    )
    share(
        _kernel("read"),
        *(epsilon, vectors, n, hidden, *layers, matrices, len(matrices), norms),
        *(turns, head_dim, queries + shared, memories, places),
        *(mixed, queries + 2 * shared, gathered, queries, both, gated, width),
        steps=(layers[1] - layers[0]) * STEPS,
        room=room_to_read(
            *(n, hidden, max(hidden, queries * head_dim, width)),
            *(queries // shared, head_dim, int(places[:, 3].max()) + 1),
        ),
    )


def prepare() -> None:
    """Load the functions; build them, if that was not done for this processor. A bar tells what takes long."""
    with _lock:
        if not _functions:
            _load(object_code())


def _kernel(name: str) -> Callable[..., None]:
    """Return a function that takes numbers, and tensors and arrays for where they lie."""
    if not _functions:
        prepare()
    return partial(_call, _functions[name])


def _call(function: Callable[..., int], *arguments: Any) -> None:
    status = function(ctypes.addressof(_returned), ctypes.addressof(_returned) + 8, *map(_address, arguments))
    assert status == 0, "the loops raise no errors"


def _address(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        assert argument.is_contiguous(), "the loops take neighbours in memory for neighbours"
        return argument.data_ptr()
    return argument.ctypes.data if isinstance(argument, np.ndarray) else argument


def _load(code: bytes) -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    found = {}
    for name, number in WHOLE.items():
        kinds = [ctypes.c_void_p] * 2 + [ctypes.c_double] * (name == "read") + [ctypes.c_int64] * number
        found[name] = ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)(engine.get_function_address(name))
    _functions.update(found)  # at once, for others look whether there are any
