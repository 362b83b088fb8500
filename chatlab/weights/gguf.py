"""What a GGUF file says, in Transformers' terms: metadata, configuration, weights.

In: the path of a GGUF file. Out: its metadata as a dict, a model.safetensors file and its config.json.
Knows nothing of tokenizers, nor of which folder the files go to.

The weights are written as float32: exactly what the quantised blocks stand for, mapped into memory without a
copy by any later load, and so shared by every kernel on the machine that uses the model.
"""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gguf
import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from chatlab.errors import ModelFilesError
from chatlab.weights.gguf_tokenizer import ORIGINAL_INSTEAD
from chatlab.weights.packed import save_packed

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["read_gguf", "save_model"]

# GGUF's tensor names and Transformers', the same for Llama and Qwen2.
TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# GGUF's settings (after "llama." or "qwen2.") and Transformers'; None: checked or not needed.
SETTINGS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "attention.value_length": None,
    "rope.dimension_count": None,
    "rope.freq_base": None,
    "vocab_size": None,
}


def read_gguf(gguf_path: Path) -> tuple[dict[str, Any], list[gguf.ReaderTensor]]:
    """Return a GGUF file's metadata, key to value, and its tensors, still quantised and mapped from the file.

    Raises ModelFilesError when the file is not GGUF, is cut short or is damaged.
    """
    try:
        reader = _Reader(gguf_path)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ModelFilesError(
            f"{gguf_path} is not a whole GGUF file ({error}). If a download or a copy broke off, delete "
            "it and fetch it again."
        ) from error
    return metadata, list(reader.tensors)


class _Reader(gguf.GGUFReader):  # type: ignore[misc]
    """The gguf package's reader, on a plain array: it takes 200,000 slices, and those of a mapped file are slow."""

    data: npt.NDArray[np.uint8]

    def _get(
        self,
        offset: int,
        dtype: npt.DTypeLike,
        count: int = 1,
        override_order: Literal["I", "S", "<"] | None = None,
    ) -> npt.NDArray[Any]:
        self.data = np.asarray(self.data)  # still mapped from the file
        numbers: npt.NDArray[Any] = super()._get(offset, dtype, count, override_order)
        return numbers


def save_model(gguf_path: Path, metadata: dict[str, Any], tensors: list[gguf.ReaderTensor], folder: Path) -> None:
    """Write config.json and model.safetensors for a GGUF file into a folder, in float32.

    Llama and Qwen2 are read; any other architecture is refused, because Transformers' own GGUF loader fills a tensor
    that does not fit with random numbers and goes on. Raises ModelFilesError for an unknown tensor or setting, too.
    """
    architecture = metadata.get("general.architecture")
    if architecture not in ("llama", "qwen2"):
        raise ModelFilesError(
            f"{gguf_path.name} is of architecture {architecture!r}; chatlab reads llama and qwen2. {ORIGINAL_INSTEAD}"
        )
    config = _config(metadata, tensors, gguf_path)
    config.save_pretrained(folder)
    _write_weights(tensors, config, gguf_path, folder / "model.safetensors")

    def reorder(name: str, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return _in_order(name, rows, config)

    save_packed({_name(tensor.name, gguf_path): tensor for tensor in tensors}, config, folder, reorder=reorder)


def _config(metadata: dict[str, Any], tensors: list[gguf.ReaderTensor], gguf_path: Path) -> PreTrainedConfig:
    """Return the Transformers configuration; refuse settings that it cannot express."""
    from transformers import LlamaConfig, Qwen2Config

    architecture: str = metadata["general.architecture"]
    prefix = f"{architecture}."
    settings = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    odd = {
        key: value
        for key, value in settings.items()
        if isinstance(value, list) or (key not in SETTINGS and value not in (0, "none"))
    }
    options = {name: settings[key] for key, name in SETTINGS.items() if name and key in settings}
    try:
        head_size = settings.get(
            "attention.key_length", settings["embedding_length"] // settings["attention.head_count"]
        )
        # GGUF stores float32: 9.999999747378752e-06 is the float32 nearest 1e-05, which the original said.
        epsilon = float(str(np.float32(settings["attention.layer_norm_rms_epsilon"])))
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ModelFilesError(
            f"{gguf_path.name} has no usable {prefix}* settings ({error}). {ORIGINAL_INSTEAD}"
        ) from error
    for key in ("attention.value_length", "rope.dimension_count"):
        if settings.get(key, head_size) != head_size:
            odd[key] = settings[key]
    if odd:
        raise ModelFilesError(
            f"{gguf_path.name} has settings that chatlab cannot convert: "
            f"{', '.join(f'{prefix}{key} = {value!r}' for key, value in odd.items())}. {ORIGINAL_INSTEAD}"
        )
    names = {tensor.name: tensor for tensor in tensors}
    options |= {
        "rms_norm_eps": epsilon,
        "head_dim": head_size,
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "rope_parameters": {"rope_type": "default", "rope_theta": settings.get("rope.freq_base", 10_000.0)},
        "tie_word_embeddings": "output.weight" not in names,
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
        "dtype": "float32",
    }
    if architecture == "qwen2":
        return Qwen2Config(architectures=["Qwen2ForCausalLM"], **options)
    return LlamaConfig(architectures=["LlamaForCausalLM"], attention_bias="blk.0.attn_q.bias" in names, **options)


def _write_weights(
    tensors: list[gguf.ReaderTensor], config: PreTrainedConfig, gguf_path: Path, safetensors_path: Path
) -> None:
    """Write the tensors one by one as safetensors: 8 bytes of header length, a JSON header, raw float32.

    One by one, so that the memory needed is that of the largest tensor, not of the model.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in tensors:
        end = position + tensor.n_elements * 4
        header[_name(tensor.name, gguf_path)] = {
            "dtype": "F32",
            "shape": tensor.shape.tolist()[::-1],
            "data_offsets": [position, end],
        }
        position = end
    _check_shapes({name: entry["shape"] for name, entry in header.items() if "shape" in entry}, config, gguf_path)
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # so that the numbers start aligned
    title = re.sub(r"[.-](I?Q\d\w*|B?F16|F32)$", "", gguf_path.stem, flags=re.IGNORECASE)
    with safetensors_path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in tqdm(tensors, desc=f"Converting {title}", unit="tensor", leave=False):
            try:
                weights = gguf.dequantize(tensor.data, tensor.tensor_type)
            except NotImplementedError as error:
                raise ModelFilesError(
                    f"{gguf_path.name} stores {tensor.name} as {tensor.tensor_type.name}, which the gguf "
                    f"package cannot unpack. {ORIGINAL_INSTEAD}"
                ) from error
            weights = _in_order(_name(tensor.name, gguf_path), weights, config)
            file.write(np.ascontiguousarray(weights, dtype="<f4").data)
        file.flush()
        os.fsync(file.fileno())  # else a power cut could keep the folder's new name and lose the data


def _name(gguf_name: str, gguf_path: Path) -> str:
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", gguf_name)
    if match is None or match[2] not in TENSORS:
        raise ModelFilesError(
            f"{gguf_path.name} has a tensor {gguf_name!r} that chatlab cannot place. {ORIGINAL_INSTEAD}"
        )
    return f"{f'model.layers.{match[1]}.' if match[1] else ''}{TENSORS[match[2]]}.{match[3]}"


def _check_shapes(shapes: dict[str, list[int]], config: PreTrainedConfig, gguf_path: Path) -> None:
    """Refuse a file whose tensors are not exactly those of the model that its settings describe."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        expected = {
            name: list(value.shape) for name, value in AutoModelForCausalLM.from_config(config).state_dict().items()
        }
    if config.tie_word_embeddings:
        del expected["lm_head.weight"]
    wrong = sorted(name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name))
    if wrong:
        raise ModelFilesError(
            f"{gguf_path.name}: {len(wrong)} tensors are missing, unknown or not of the shape that its settings "
            f"say ({wrong[0]}: {shapes.get(wrong[0])}, expected {expected.get(wrong[0])}). {ORIGINAL_INSTEAD}"
        )


def _in_order(name: str, weights: npt.NDArray[Any], config: PreTrainedConfig) -> npt.NDArray[Any]:
    """Return the rows of a tensor, here under its name in Transformers, as Transformers has them."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    rearranged = next((number for part, number in heads.items() if f".{part}." in name), None)
    return weights if rearranged is None or config.model_type != "llama" else _rows_in_order(weights, rearranged)


def _rows_in_order(weights: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Undo llama.cpp's interleaving of each head's two halves, made for its own rotary embedding.

    `weights` has `heads * head_dim` rows (a matrix or a bias); llama.cpp's convert_hf_to_gguf.py, `permute`.

    >>> _rows_in_order(np.array([0, 2, 1, 3], dtype=np.float32), heads=1)
    array([0., 1., 2., 3.], dtype=float32)
    """
    by_head = weights.reshape(heads, -1, 2, *weights.shape[1:])  # (heads, head_dim / 2, 2, ...)
    in_order: npt.NDArray[Any] = by_head.swapaxes(1, 2).reshape(weights.shape)
    return in_order
