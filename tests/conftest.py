"""What several test files share: the real model, tiny random ones, a scripted one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
import torch
from browser import lab as lab
from browser import page as page
from hypothesis import settings
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import chatlab
from chatlab.anatomy import network_of
from chatlab.chat_model import ChatModel
from chatlab.testing import byte_tokenizer
from chatlab.transformers_model import TransformersModel

# A shell that starts the tests in the background makes them ignore Ctrl-C, and so every process they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nobody learns here: what tests and nbval's kernels answer in a quiz is not to stand among a learner's own answers.
os.environ["CHATLAB_RECORDS"] = "off"

TINY_VOCABULARY = 258  # the bytes and two control tokens of chatlab.testing.byte_tokenizer

settings.register_profile("chatlab", deadline=None)  # how fast an example runs says nothing on a busy machine
settings.load_profile("chatlab")


def _tiny_llama() -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=TINY_VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
        )
    )


def _tiny_qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=TINY_VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
        )
    )


def _tiny_gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=TINY_VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=1024))


TINY: dict[str, Callable[[], PreTrainedModel]] = {"llama": _tiny_llama, "qwen2": _tiny_qwen2, "gpt2": _tiny_gpt2}


@pytest.fixture(scope="session")
def model() -> ChatModel:
    """The real default model."""
    return chatlab.load()


@pytest.fixture(scope="session")
def exact_model(model: ChatModel) -> TransformersModel:
    """The real default model as Transformers runs it, on the exact weights: what chatlab's own engine is held to."""
    return TransformersModel(model.name, network_of(model), model.tokenizer)


@pytest.fixture(scope="session", params=TINY)
def tiny_model(request: pytest.FixtureRequest) -> TransformersModel:
    """A tiny random model of each of three architectures, over the byte tokenizer."""
    torch.manual_seed(0)
    network = TINY[request.param]()
    network.generation_config.eos_token_id = 257
    # Random weights of the default size make all tokens equally likely; larger ones give each prompt an opinion.
    for parameter in network.parameters():
        parameter.data.mul_(5)
    model = TransformersModel(request.param, network, byte_tokenizer())
    model.threads.number = 1  # for results that are equal to the last bit, whatever else the machine does
    return model
