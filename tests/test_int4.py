"""4-bit weights: out of GGUF's blocks, to a file and back, into a network that is the original's equal."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file
from test_conversion import tiny_model, write_gguf
from transformers import AutoConfig

import chatlab.model
from chatlab.linear import Int4Linear, RefinedLinear
from chatlab.llama_model import LlamaModel
from chatlab.transformers_model import TransformersModel
from chatlab.weights.conversion import converted
from chatlab.weights.int4 import build_llama, has_int4, load_int4


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CHATLAB_HOME", str(tmp_path / "home"))


@pytest.fixture(params=[("llama", {}), ("llama", {"attention_bias": True}), ("qwen2", {}), ("qwen2", {"tied": False})])
def original(request):
    architecture, options = request.param
    return tiny_model(architecture, **options)


def dense(weights, name):
    """The float32 matrix that a matrix in the file stands for, [outputs, inputs]."""
    nibbles, scales = weights[f"{name}.nibbles"], weights[f"{name}.scales"].float()
    whole = torch.stack([nibbles & 15, nibbles >> 4], dim=-1).flatten(1).float()
    scale, zero = (scales[..., each].T.repeat_interleave(32, dim=1) for each in (0, 1))
    return (whole - 8) * scale + zero


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1])
def test_the_blocks_stand_for_what_gguf_says(tmp_path, original, kind):
    """`write_gguf` leaves in the original what `gguf.dequantize` makes of the blocks; only scales may be rounded."""
    folder = converted(write_gguf(tmp_path / "tiny.gguf", original, kind=kind))
    weights, expected = load_file(folder / "int4.safetensors"), original.state_dict()
    matrices = [name.removesuffix(".nibbles") for name in weights if name.endswith(".nibbles")]
    assert len(matrices) == 2 * 7
    for name in matrices:
        scales = weights[f"{name}.scales"].float().abs().sum(dim=-1).T.repeat_interleave(32, dim=1)
        # A scale is rounded by at most 2**-8 of itself, and counts 8 times at most; a zero is rounded likewise.
        assert ((dense(weights, name) - expected[name]).abs() <= 8 * 2**-8 * scales).all(), name
        assert (dense(weights, name) - expected[name]).norm() < 0.004 * expected[name].norm(), name
    others = {name for name in expected if "norm" in name or name.endswith("bias")}
    for name in others:
        assert torch.equal(weights[name], expected[name]), name
    tables = {name for name in expected if "embed_tokens" in name or name == "lm_head.weight"}
    head = "model.embed_tokens.weight" if original.config.tie_word_embeddings else "lm_head.weight"
    tables -= {"lm_head.weight"} if original.config.tie_word_embeddings else set()
    assert set(weights) - {f"{name}.{part}" for name in matrices for part in ("nibbles", "scales")} == {
        *others,
        *tables,
        f"{head}.int8",
        f"{head}.scales",
    }
    for name in tables:
        torch.testing.assert_close(weights[name].float(), expected[name], rtol=2**-11, atol=1e-7)


def test_scales_that_bfloat16_can_hold_are_exact(tmp_path):
    original = tiny_model("llama")
    for name, parameter in original.named_parameters():
        if "proj" in name:  # whole numbers from −7 to 8 in each block: scale 1, minimum −7
            block = torch.arange(-7.0, 9.0).repeat(2)
            parameter.data.copy_(block.repeat(parameter.numel() // 32).view_as(parameter) / 64)
    folder = converted(write_gguf(tmp_path / "tiny.gguf", original, kind=Kind.Q4_1))
    weights = load_file(folder / "int4.safetensors")
    for name in (name.removesuffix(".nibbles") for name in weights if name.endswith(".nibbles")):
        assert torch.equal(dense(weights, name), original.state_dict()[name])


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1])
def test_the_network_is_the_original_up_to_bfloat16(tmp_path, original, kind):
    path = write_gguf(tmp_path / "tiny.gguf", original, kind=kind)
    model = chatlab.model.load(path)
    assert isinstance(model, LlamaModel)
    ids = torch.arange(100, 140).tolist()
    with torch.no_grad():
        expected = original(torch.tensor([ids])).logits[0]
    logits, _ = model.logits(ids)
    assert (logits - expected).norm() < 0.04 * expected.norm()
    with torch.no_grad():
        exact = model.network(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(exact, expected, rtol=1e-5, atol=1e-5)


def test_save_and_load_give_the_same_network(tmp_path, original):
    folder = converted(write_gguf(tmp_path / "tiny.gguf", original, kind=Kind.Q4_1))
    config = AutoConfig.from_pretrained(folder)
    assert has_int4(folder)
    loaded, built = load_int4(folder, config), build_llama(load_file(folder / "int4.safetensors"), config)
    logits = [net.logits(net.read([([1, 2, 3], net.new_cache())])) for net in (loaded, built)]
    assert torch.equal(*logits)
    assert isinstance(loaded.layers[0].down, Int4Linear) and isinstance(loaded.head, RefinedLinear)
    assert (loaded.head is loaded.embeddings) == original.config.tie_word_embeddings


def test_a_matrix_of_a_width_that_the_kernel_refuses_is_left_to_transformers(tmp_path):
    original = tiny_model("llama", num_key_value_heads=1, head_dim=8)  # keys of 8 outputs
    path = write_gguf(tmp_path / "tiny.gguf", original, kind=Kind.Q4_1, edit=lambda writer: writer.add_key_length(8))
    assert type(chatlab.model.load(path)) is TransformersModel


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q5_1])
def test_other_weights_are_left_to_transformers(tmp_path, kind):
    original = tiny_model("llama")
    path = write_gguf(tmp_path / "tiny.gguf", original, kind=kind)
    assert not has_int4(converted(path))
    model = chatlab.model.load(path)
    assert type(model) is TransformersModel
    with torch.no_grad():
        expected = original(torch.tensor([[1, 2, 3]])).logits[0, -1]
    torch.testing.assert_close(model.next_token_logits([1, 2, 3])[0], expected, rtol=1e-5, atol=1e-5)


def test_one_matrix_of_another_kind_is_enough_to_leave_all_to_transformers(tmp_path, monkeypatch):
    real = gguf.GGUFWriter.add_tensor

    def mixed(self, name, tensor, raw_dtype=None, **options):
        if name == "blk.1.ffn_down.weight":
            raw_dtype, tensor = Kind.F16, np.zeros((64, 96), dtype=np.float16)
        return real(self, name, tensor, raw_dtype=raw_dtype, **options)

    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", mixed)
    assert not has_int4(converted(write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), kind=Kind.Q4_1)))
