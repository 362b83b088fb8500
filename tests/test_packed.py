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
from chatlab.linear import PackedLinear
from chatlab.llama_model import LlamaModel
from chatlab.transformers_model import TransformersModel
from chatlab.weights.conversion import converted
from chatlab.weights.packed import build_llama, has_packed, load_packed


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CHATLAB_HOME", str(tmp_path / "home"))


@pytest.fixture(params=[("llama", {}), ("llama", {"attention_bias": True}), ("qwen2", {}), ("qwen2", {"tied": False})])
def original(request):
    architecture, options = request.param
    return tiny_model(architecture, **options)


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1])
def test_the_matrices_are_what_gguf_says_to_the_last_bit_but_one(tmp_path, original, kind):
    """`write_gguf` leaves in the original what `gguf.dequantize` makes of the blocks."""
    folder = converted(write_gguf(tmp_path / "tiny.gguf", original, kind=kind))
    config, expected = AutoConfig.from_pretrained(folder), original.state_dict()
    loaded, plain = load_packed(folder, config), build_llama(expected, config)
    for layer, exact in zip(loaded.layers, plain.layers, strict=True):
        for name, matrix in vars(exact).items():
            mine = getattr(layer, name)
            if isinstance(matrix, torch.Tensor):
                assert torch.equal(mine, matrix), name
            else:
                assert isinstance(mine, PackedLinear) and mine.words.shape[1] == mine.inputs // 8, "4 bits"
                torch.testing.assert_close(mine.rows(range(mine.outputs)), matrix.weight, rtol=1e-6, atol=1e-7)
                assert (mine.bias is None) == (matrix.bias is None)
                assert mine.bias is None or torch.equal(mine.bias, matrix.bias)


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.F16, Kind.F32])
def test_a_table_is_kept_in_8_bits_exactly_or_nearly(tmp_path, original, kind):
    """GGUF's own blocks stay as they are; others become the nearest: half a step, and the step is in float16."""
    folder = converted(write_gguf(tmp_path / "tiny.gguf", original, kind=Kind.Q4_1, tables=kind))
    loaded = load_packed(folder, AutoConfig.from_pretrained(folder))
    written = load_file(folder / "model.safetensors")
    for table, name in ((loaded.embeddings, "model.embed_tokens.weight"), (loaded.head, "lm_head.weight")):
        weight = written.get(name, written["model.embed_tokens.weight"])
        rows = table.rows(range(table.outputs))
        step = weight.view(len(weight), -1, 32).abs().amax(dim=-1).repeat_interleave(32, dim=1) / 127
        assert ((rows - weight).abs() <= (1e-6 * step if kind == Kind.Q8_0 else 0.55 * step) + 1e-9).all()
        assert table.words.shape[1] == table.inputs // 4, "8 bits"


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1])
def test_the_network_is_the_original(tmp_path, original, kind):
    path = write_gguf(tmp_path / "tiny.gguf", original, kind=kind, tables=Kind.Q8_0)
    model = chatlab.model.load(path)
    assert isinstance(model, LlamaModel)
    ids = torch.arange(100, 140).tolist()
    with torch.no_grad():
        expected = original(torch.tensor([ids])).logits[0]
    logits, _ = model.logits(ids)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        exact = model.network(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(exact, expected, rtol=1e-5, atol=1e-5)


def test_save_and_load_give_the_same_network(tmp_path, original):
    folder = converted(write_gguf(tmp_path / "tiny.gguf", original, kind=Kind.Q4_1))
    config = AutoConfig.from_pretrained(folder)
    assert has_packed(folder)
    loaded, built = load_packed(folder, config), build_llama(load_file(folder / "packed.safetensors"), config)
    logits = [net.logits(net.read([([1, 2, 3], net.new_cache())])) for net in (loaded, built)]
    assert torch.equal(*logits)
    assert loaded.compiled and isinstance(loaded.head, PackedLinear)
    assert (loaded.head is loaded.embeddings) == original.config.tie_word_embeddings


def test_a_matrix_of_any_number_of_outputs_can_be_packed(tmp_path):
    original = tiny_model("llama", num_key_value_heads=1, head_dim=8)  # keys of 8 outputs
    path = write_gguf(
        tmp_path / "tiny.gguf", original, kind=Kind.Q4_1, tables=Kind.Q8_0, edit=lambda writer: writer.add_key_length(8)
    )
    model = chatlab.model.load(path)
    assert isinstance(model, LlamaModel)
    with torch.no_grad():
        expected = original(torch.tensor([[1, 2, 3]])).logits[0, -1]
    found = model.next_token_logits([1, 2, 3])[0]
    torch.testing.assert_close(found, expected, rtol=5e-4, atol=5e-4)  # its vectors are rounded to 16 bits


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q5_1])
def test_other_weights_are_left_to_transformers(tmp_path, kind):
    original = tiny_model("llama")
    path = write_gguf(tmp_path / "tiny.gguf", original, kind=kind)
    assert not has_packed(converted(path))
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
    assert not has_packed(converted(write_gguf(tmp_path / "tiny.gguf", tiny_model("llama"), kind=Kind.Q4_1)))
