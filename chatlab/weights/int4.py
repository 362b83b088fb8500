"""The weights of a GGUF file as PyTorch's kernels want them: 4 bits for the layers, 8 bits for the head.

In: GGUF tensors, still quantised. Out: a safetensors file of them, and a `Llama` built from such a file. Knows nothing
of tokenizers or prompts.

The nibbles are GGUF's own, so nothing is quantised a second time; scales are rounded to bfloat16, which the kernel
needs. The head's 8 bits get one scale a row in place of one for each 32 weights; beside them the embeddings and the
head are kept in float16, of which only the rows that are asked for are read from disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file, save_file
from torch import Tensor

from chatlab.linear import GROUP, DenseLinear, Int4Linear, Int8Linear, Linear, RefinedLinear
from chatlab.llama import Layer, Llama, Shape

__all__ = ["FILE", "build_llama", "has_int4", "load_int4", "save_int4"]

FILE = "int4.safetensors"
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"  # one and the same where there is no second
OUTPUTS = 16  # PyTorch's kernel wants a multiple of so many


def save_int4(
    tensors: Mapping[str, gguf.ReaderTensor], folder: Path, *, reorder: Callable[[str, npt.NDArray[Any]], Any]
) -> bool:
    """Write the tensors, keyed by Transformers' names, into the folder.

    `reorder` puts the rows of a tensor of that name into Transformers' order. Returns False, and writes nothing, where
    a matrix is none that `Int4Linear` can hold.

    Each matrix becomes `NAME.nibbles` and `NAME.scales` (see `Int4Linear`), the embedding and the head `NAME` in
    float16, the head `NAME.int8` and `NAME.scales` as well (see `RefinedLinear`), everything else float32.
    """
    written: dict[str, Tensor] = {}
    head = HEAD if HEAD in tensors else EMBEDDINGS
    for name, tensor in tensors.items():
        if len(tensor.shape) == 1:
            written[name] = torch.from_numpy(reorder(name, _dense(tensor)))
        elif name in (EMBEDDINGS, HEAD):
            weight = torch.from_numpy(_dense(tensor))
            written[name] = weight.half()
            if name == head:
                linear = Int8Linear.quantised(weight)
                written |= {f"{name}.int8": linear.weight, f"{name}.scales": linear.scales}
        elif tensor.tensor_type in (Kind.Q4_0, Kind.Q4_1) and tensor.shape[1] % OUTPUTS == 0:
            nibbles, scales = (
                torch.from_numpy(np.ascontiguousarray(reorder(name, each))) for each in _unpacked(tensor)
            )
            written[f"{name}.nibbles"] = nibbles
            written[f"{name}.scales"] = scales.transpose(0, 1).bfloat16().contiguous()  # [groups, outputs, 2]
        else:
            return False
    save_file(written, folder / FILE)
    return True


def _dense(tensor: gguf.ReaderTensor) -> npt.NDArray[np.float32]:
    """Return the numbers that a tensor's blocks stand for, in memory of their own."""
    return np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)


def has_int4(folder: Path) -> bool:
    """Whether `save_int4` has written into the folder."""
    return (folder / FILE).is_file()


def _unpacked(tensor: gguf.ReaderTensor) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return nibbles [outputs, inputs / 2] and scales [outputs, groups, 2] of a matrix in GGUF's blocks.

    A block is a scale, with Q4_1 a minimum, and 16 bytes that hold 32 nibbles. The first 16 weights are the lower
    halves of the bytes, the others the upper halves. Q4_1's weights are `nibble × scale + minimum`, Q4_0's
    `(nibble − 8) × scale`.
    """
    outputs, inputs = tensor.shape.tolist()[::-1]
    with_minimum = tensor.tensor_type == Kind.Q4_1
    blocks = np.asarray(tensor.data).reshape(outputs, inputs // GROUP, -1)  # [outputs, groups, bytes]
    head = blocks[..., : 4 if with_minimum else 2].copy().view(np.float16).astype(np.float32)
    scale = head[..., 0]
    zero = head[..., 1] + 8 * scale if with_minimum else np.zeros_like(scale)
    halves = blocks[..., -GROUP // 2 :]
    whole = np.concatenate([halves & 15, halves >> 4], axis=-1).reshape(outputs, inputs)
    return whole[:, ::2] | (whole[:, 1::2] << 4), np.stack([scale, zero], axis=-1)


def load_int4(folder: Path, config: Any) -> Llama:
    """Return the network that `save_int4` wrote, with the sizes that Transformers' configuration states."""
    return build_llama(load_file(folder / FILE), config)


def build_llama(weights: Mapping[str, Tensor], config: Any) -> Llama:
    """Return a network from weights under Transformers' names: plain ones, or those of `save_int4`."""
    shape = Shape(
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        context_length=config.max_position_embeddings,
        norm_epsilon=config.rms_norm_eps,
        rope_theta=config.rope_parameters["rope_theta"],
    )
    paired = _pairs(shape)

    def linear(prefix: str, *names: str, order: Tensor | None = None) -> Linear:
        """Return several matrices as one, below one another, so that one product does for all."""
        full = [f"{prefix}.{name}.weight" for name in names]
        biases = [weights.get(f"{prefix}.{name}.bias") for name in names]
        bias = None if any(each is None for each in biases) else torch.cat(biases)  # type: ignore[arg-type]
        bias = bias if bias is None or order is None else bias[order]
        if f"{full[0]}.nibbles" in weights:
            nibbles = torch.cat([weights[f"{name}.nibbles"] for name in full])
            scales = torch.cat([weights[f"{name}.scales"] for name in full], dim=1)
            if order is not None:
                nibbles, scales = nibbles[order], scales[:, order]
            return Int4Linear(nibbles, scales, bias)
        weight = torch.cat([weights[name] for name in full])
        return DenseLinear(weight if order is None else weight[order], bias)

    def table(name: str) -> Linear:
        coarse = weights.get(f"{name}.int8")
        if coarse is None:
            return DenseLinear(weights[name])
        return RefinedLinear(Int8Linear(coarse, weights[f"{name}.scales"]), weights[name])

    layers = []
    for number in range(config.num_hidden_layers):
        prefix = f"model.layers.{number}"
        layers.append(
            Layer(
                attention_norm=weights[f"{prefix}.input_layernorm.weight"],
                query_key_value=linear(f"{prefix}.self_attn", "q_proj", "k_proj", "v_proj", order=paired),
                attention_output=linear(f"{prefix}.self_attn", "o_proj"),
                mlp_norm=weights[f"{prefix}.post_attention_layernorm.weight"],
                gate_up=linear(f"{prefix}.mlp", "gate_proj", "up_proj"),
                down=linear(f"{prefix}.mlp", "down_proj"),
            )
        )
    embeddings = table(EMBEDDINGS)
    head = table(HEAD) if HEAD in weights else embeddings
    return Llama(shape, embeddings, layers, weights["model.norm.weight"], head)


def _pairs(shape: Shape) -> Tensor:
    """Return the order of the rows of queries, keys and values in which those that turn together are neighbours.

    Transformers keeps the two halves of a head apart, so row i turns with row i + head_dim / 2; values do not turn.
    """
    turning = shape.heads + shape.key_value_heads
    rows = torch.arange((turning + shape.key_value_heads) * shape.head_dim).view(-1, shape.head_dim)
    turned = rows[:turning].view(turning, 2, -1).transpose(1, 2).reshape(turning, -1)
    return torch.cat([turned, rows[turning:]]).flatten()
