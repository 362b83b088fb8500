"""The cache's size, against the cache that the model really fills."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

from chatlab import BadRequestError, ChatlabError
from chatlab.kv_cache import kv_cache_size, kv_cache_table, readable_bytes
from chatlab.testing import ScriptedModel, byte_tokenizer
from chatlab.transformers_model import TransformersModel


def real_size(model, tokens):
    _, cache = model.next_token_logits([65] * tokens)
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("tokens", [1, 7, 100])
def test_equals_the_real_cache(tiny_model, tokens):
    assert kv_cache_size(tokens, model=tiny_model) == real_size(tiny_model, tokens)


def test_equals_the_cache_of_the_real_model(model, exact_model):
    assert kv_cache_size(5, model=model) == real_size(exact_model, 5)
    _, cache = model.next_token_logits([65] * 5)
    assert kv_cache_size(cache.memory.capacity, model=model) == model.cache_bytes(cache), "chatlab's own reserves ahead"


@pytest.mark.parametrize("tokens", [1, 7, 8, 30])
def test_layers_with_a_sliding_window_keep_no_more_than_it(tokens):
    config = MistralConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
    )
    model = TransformersModel("mistral", MistralForCausalLM(config).to(torch.bfloat16), byte_tokenizer())
    assert isinstance(DynamicCache(config=config).layers[0].sliding_window, int)
    assert kv_cache_size(tokens, model=model) == real_size(model, tokens)


def test_table(tiny_model):
    table = kv_cache_table(model=tiny_model)
    assert list(table.sizes) == [1, 10, 100, 1000, 8192]
    assert table.sizes == {tokens: kv_cache_size(tokens, model=tiny_model) for tokens in table.sizes}
    assert table.bytes_per_token == table.sizes[1] and f"= {table.sizes[1]:,} bytes per token" in repr(table)
    lines = repr(table).splitlines()
    assert lines[2].split()[:2] == ["1", f"{table.sizes[1]:,}"] and len(lines) == 7
    assert "more than" not in lines[5] and lines[6].endswith(f"more than {tiny_model.name} can hold")


def test_table_escapes_the_models_name(tiny_model, monkeypatch):
    monkeypatch.setattr(tiny_model, "name", "<script>alert(1)</script>")
    assert "<script" not in kv_cache_table(model=tiny_model)._repr_html_()


def test_wrong_arguments(tiny_model):
    assert kv_cache_size(0, model=tiny_model) == 0
    with pytest.raises(BadRequestError, match="tokens must be at least 0, but is -1"):
        kv_cache_size(-1, model=tiny_model)
    for bad, says in ((5, r"tokens must be a list such as \[1, 10, 100\], not int 5"), ([], "tokens is empty")):
        with pytest.raises(BadRequestError, match=says):
            kv_cache_table(bad, model=tiny_model)
    with pytest.raises(ChatlabError, match="has no network to look into"):
        kv_cache_table(model=ScriptedModel("Hi"))


def test_units():
    assert [readable_bytes(10**power) for power in (0, 3, 6, 9, 12)] == [
        "1 bytes",
        "1.0 kB",
        "1.0 MB",
        "1.0 GB",
        "1,000.0 GB",
    ]
