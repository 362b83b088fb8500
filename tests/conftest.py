"""What several test files share: the real model, tiny random ones, a scripted one."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from browser import lab as lab
from browser import page as page
from browser import text_of
from hypothesis import settings
from tiny_networks import TINY

import chatlab
from chatlab.anatomy import network_of
from chatlab.chat_model import ChatModel
from chatlab.testing import byte_tokenizer
from chatlab.transformers_model import TransformersModel

# A shell that starts the tests in the background makes them ignore Ctrl-C, and so every process they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nobody learns here: what tests and nbval's kernels answer in a quiz is not to stand among a learner's own answers.
os.environ["CHATLAB_RECORDS"] = "off"

settings.register_profile("chatlab", deadline=None)  # how fast an example runs says nothing on a busy machine
settings.load_profile("chatlab")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Say also what the page showed where a test in the browser failed."""
    report = yield
    if report.failed and "page" in getattr(item, "funcargs", {}):
        report.sections.append(("what the page showed", text_of(item.funcargs["page"])))
    return report


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
