"""Tiny random networks of three architectures, over the vocabulary of `chatlab.testing.byte_tokenizer`."""

from __future__ import annotations

from collections.abc import Callable

from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

TINY_VOCABULARY = 258  # the bytes and two control tokens of chatlab.testing.byte_tokenizer

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}


def _tiny_llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(vocab_size=TINY_VOCABULARY, **SIZES))


def _tiny_qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=TINY_VOCABULARY, **SIZES))


def _tiny_gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=TINY_VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=1024))


TINY: dict[str, Callable[[], PreTrainedModel]] = {"llama": _tiny_llama, "qwen2": _tiny_qwen2, "gpt2": _tiny_gpt2}
