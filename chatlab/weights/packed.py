"""The weights of a GGUF file as chatlab's kernels want them: 4 bits for the layers, 8 bits for the head.

In: GGUF tensors, still quantised. Out: a safetensors file of them, and a `Llama` built from such a file, whose weights
are mapped into memory as they are. Knows nothing of tokenizers or prompts.

The whole numbers, scales and minima are GGUF's own, so nothing is quantised a second time, and nothing is rounded. Only
an embedding or a head in another format than Q8_0 becomes the nearest one in Q8_0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import gguf
import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file, save_file
from torch import Tensor

from chatlab.linear import DenseLinear, Linear, PackedLinear, packed
from chatlab.llama import Layer, Llama, Shape
from chatlab.loops.sizes import GROUP

__all__ = ["FILE", "build_llama", "has_packed", "load_packed", "save_packed"]

FILE = "packed.safetensors"
EMBEDDINGS, HEAD = "model.embed_tokens", "lm_head"  # one and the same where there is no second
MATRICES = {  # of a layer, by their names here: Transformers' matrices that lie below one another in them
    "query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
Rows = TypeVar("Rows", bound=Tensor | None)


def save_packed(
    tensors: Mapping[str, gguf.ReaderTensor],
    config: Any,
    folder: Path,
    *,
    reorder: Callable[[str, npt.NDArray[Any]], npt.NDArray[Any]],
) -> bool:
    """Write the tensors, keyed by Transformers' names, into the folder.

    `config` is Transformers' configuration; `reorder` puts the rows of a tensor of that name into Transformers' order.
    Returns False, and writes nothing, where a layer's matrix is in neither of GGUF's two 4-bit formats.

    A matrix becomes `NAME.words` and `NAME.scales` (see `PackedLinear`) and perhaps `NAME.bias`, under the names that
    it has in `Layer`; everything else is float32 and keeps its name.
    """
    matrices = {name for name, tensor in tensors.items() if len(tensor.shape) == 2}
    tables = {f"{EMBEDDINGS}.weight", f"{HEAD}.weight"} & matrices
    if not all(tensors[name].tensor_type in (Kind.Q4_0, Kind.Q4_1) for name in matrices - tables):
        return False
    vectors = {name: torch.from_numpy(reorder(name, _dense(tensors[name]))) for name in tensors.keys() - matrices}
    blocks = {
        name: [torch.from_numpy(np.ascontiguousarray(reorder(name, each))) for each in _blocks(tensors[name])]
        for name in matrices
    }
    written = {name: vector for name, vector in vectors.items() if "_proj" not in name}
    for name in tables:
        written |= _saved(name.removesuffix(".weight"), *blocks[name], bits=8)
    shape = shape_of(config)
    for number in range(config.num_hidden_layers):
        prefix = f"model.layers.{number}"
        for name in MATRICES:
            whole = _rows(prefix, name, lambda part: blocks[f"{part}.weight"][0], shape)
            scales = _rows(prefix, name, lambda part: blocks[f"{part}.weight"][1], shape)
            written |= _saved(f"{prefix}.{name}", whole, scales, bits=4)
            bias = _rows(prefix, name, lambda part: vectors.get(f"{part}.bias"), shape)
            if bias is not None:
                written[f"{prefix}.{name}.bias"] = bias
    save_file(written, folder / FILE)
    return True


def has_packed(folder: Path) -> bool:
    """Whether `save_packed` has written into the folder."""
    return (folder / FILE).is_file()


def _saved(name: str, whole: Tensor, scales: Tensor, *, bits: int) -> dict[str, Tensor]:
    words, in_blocks = packed(whole, scales, bits=bits)
    return {f"{name}.words": words, f"{name}.scales": in_blocks}


def _dense(tensor: gguf.ReaderTensor) -> npt.NDArray[np.float32]:
    """Return the numbers that a tensor's blocks stand for, in memory of their own."""
    return np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)


def _blocks(tensor: gguf.ReaderTensor) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return a matrix as whole numbers [outputs, inputs] uint8, and scales and minima [outputs, groups, 2] float32.

    A block holds 32 weights: a scale, with Q4_1 a minimum, and 16 bytes of nibbles or 32 of whole numbers. Of nibbles,
    the lower halves of all bytes come first. Q4_1's weights are `nibble × scale + minimum`, Q4_0's
    `(nibble − 8) × scale`, Q8_0's `byte × scale` with bytes from −128 to 127.
    """
    outputs, inputs = tensor.shape.tolist()[::-1]
    kind, data = tensor.tensor_type, np.asarray(tensor.data)
    if kind not in (Kind.Q4_0, Kind.Q4_1, Kind.Q8_0):
        kind, data = Kind.Q8_0, gguf.quantize(_dense(tensor), Kind.Q8_0)
    blocks = data.reshape(outputs, inputs // GROUP, -1)  # [outputs, groups, bytes]
    size = GROUP if kind == Kind.Q8_0 else GROUP // 2
    numbers = blocks[..., -size:]
    whole = numbers ^ 128 if kind == Kind.Q8_0 else np.concatenate([numbers & 15, numbers >> 4], axis=-1)
    head = blocks[..., :-size].copy().view(np.float16).astype(np.float32)
    scale = head[..., 0]
    minimum = head[..., 1] if kind == Kind.Q4_1 else -scale * (128 if kind == Kind.Q8_0 else 8)
    return whole.reshape(outputs, inputs), np.stack([scale, minimum], axis=-1)


def load_packed(folder: Path, config: Any) -> Llama:
    """Return the network that `save_packed` wrote, with the sizes that Transformers' configuration states."""
    return build_llama(load_file(folder / FILE), config)


def shape_of(config: Any) -> Shape:
    """Return the sizes that Transformers' configuration states."""
    return Shape(
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        context_length=config.max_position_embeddings,
        norm_epsilon=config.rms_norm_eps,
        rope_theta=config.rope_parameters["rope_theta"],
    )


def build_llama(weights: Mapping[str, Tensor], config: Any) -> Llama:
    """Return a network from weights: plain ones under Transformers' names, or those of `save_packed`."""
    shape = shape_of(config)

    def matrix(prefix: str, name: str, outputs: int) -> Linear:
        full = f"{prefix}.{name}"
        if f"{full}.words" in weights:
            words, scales, bias = (weights.get(f"{full}.{part}") for part in ("words", "scales", "bias"))
            return PackedLinear(words, scales, outputs, bias)  # type: ignore[arg-type]
        weight = _rows(prefix, name, lambda name: weights[f"{name}.weight"], shape)
        return DenseLinear(weight, _rows(prefix, name, lambda name: weights.get(f"{name}.bias"), shape))

    def table(name: str) -> Linear:
        if f"{name}.words" in weights:
            return PackedLinear(weights[f"{name}.words"], weights[f"{name}.scales"], config.vocab_size)
        return DenseLinear(weights[f"{name}.weight"])

    layers = []
    for number in range(config.num_hidden_layers):
        prefix = f"model.layers.{number}"
        layers.append(
            Layer(
                attention_norm=weights[f"{prefix}.input_layernorm.weight"],
                query_key_value=matrix(
                    prefix, "query_key_value", (shape.heads + 2 * shape.key_value_heads) * shape.head_dim
                ),
                attention_output=matrix(prefix, "attention_output", shape.hidden),
                mlp_norm=weights[f"{prefix}.post_attention_layernorm.weight"],
                gate_up=matrix(prefix, "gate_up", 2 * config.intermediate_size),
                down=matrix(prefix, "down", shape.hidden),
            )
        )
    embeddings = table(EMBEDDINGS)
    second = any(name.startswith(f"{HEAD}.") for name in weights)
    return Llama(shape, embeddings, layers, weights["model.norm.weight"], table(HEAD) if second else embeddings)


def _rows(prefix: str, name: str, part: Callable[[str], Rows], shape: Shape) -> Rows:
    """Return several of Transformers' matrices as one, below one another, so that one product does for all.

    `part` gives what the rows of one of them have, under its name: weights, scales, biases; None where they have none.
    Those of queries and keys that turn together become neighbours.
    """
    parts = [part(f"{prefix}.{each}") for each in MATRICES[name]]
    if any(each is None for each in parts):
        return parts[0]
    rows: Any = torch.cat(parts)  # type: ignore[arg-type]
    if name == "query_key_value":
        rows = rows[_pairs(shape)]
    return cast(Rows, rows)


def _pairs(shape: Shape) -> Tensor:
    """Return the order of the rows of queries, keys and values in which those that turn together are neighbours.

    Transformers keeps the two halves of a head apart, so row i turns with row i + head_dim / 2; values do not turn.
    """
    turning = shape.heads + shape.key_value_heads
    rows = torch.arange((turning + shape.key_value_heads) * shape.head_dim).view(-1, shape.head_dim)
    turned = rows[:turning].view(turning, 2, -1).transpose(1, 2).reshape(turning, -1)
    return torch.cat([turned, rows[turning:]]).flatten()
