"""chatlab: learn how chat completions really work, on a real chat model on your own laptop.

One turn of a chat is a data item that flows through a row of small rooms, and you can stand in any room and look:

    messages → prompt → token ids → logits → probabilities → token → text → response

Importing chatlab is quick: a name is loaded, and PyTorch with it, when it is first used.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from chatlab.garbage import garbage_kept

__version__ = "0.1.0"

# public name -> the module that defines it
_HOME = {
    "APIConnectionError": "errors",
    "APITimeoutError": "errors",
    "AuthenticationError": "errors",
    "BadRequestError": "errors",
    "ChatModel": "chat_model",
    "ChatTemplateError": "errors",
    "ChatlabError": "errors",
    "ContextLengthError": "errors",
    "Conversation": "conversation",
    "LocalModelNeededError": "errors",
    "ModelFilesError": "errors",
    "ModelNotFoundError": "errors",
    "Prices": "prices",
    "RateLimitError": "errors",
    "RemoteModel": "remote",
    "ReplyStoppedError": "errors",
    "SamplingParams": "sampling",
    "assistant": "messages",
    "calibration": "confidence",
    "chat_completions": "completions",
    "connect": "remote",
    "cost": "prices",
    "count_tokens": "tokens",
    "decode": "tokens",
    "developer": "messages",
    "encode": "tokens",
    "encoding": "encodings",
    "exercise": "exercises.exercises",
    "fit": "context",
    "generate": "generation",
    "inspect_forward": "forward",
    "kv_cache_size": "kv_cache",
    "kv_cache_table": "kv_cache",
    "lint": "linting",
    "load": "model",
    "next_token": "prediction",
    "perplexity": "scoring",
    "placement": "questions.placement_test",
    "predict": "guesses",
    "quiz": "questions.quizzes",
    "render": "templating",
    "sample_replies": "samples",
    "serve": "server.running",
    "system": "messages",
    "temperature_family": "prediction",
    "tokenize": "tokens",
    "trace": "tracing",
    "user": "messages",
    "validate": "messages",
}

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ChatModel",
    "ChatTemplateError",
    "ChatlabError",
    "ContextLengthError",
    "Conversation",
    "LocalModelNeededError",
    "ModelFilesError",
    "ModelNotFoundError",
    "Prices",
    "RateLimitError",
    "RemoteModel",
    "ReplyStoppedError",
    "SamplingParams",
    "assistant",
    "calibration",
    "chat_completions",
    "connect",
    "cost",
    "count_tokens",
    "decode",
    "developer",
    "encode",
    "encoding",
    "exercise",
    "fit",
    "generate",
    "inspect_forward",
    "kv_cache_size",
    "kv_cache_table",
    "lint",
    "load",
    "next_token",
    "perplexity",
    "placement",
    "predict",
    "quiz",
    "render",
    "sample_replies",
    "serve",
    "system",
    "temperature_family",
    "tokenize",
    "trace",
    "user",
    "validate",
]

if TYPE_CHECKING:
    from chatlab.chat_model import ChatModel
    from chatlab.completions import chat_completions
    from chatlab.confidence import calibration
    from chatlab.context import fit
    from chatlab.conversation import Conversation
    from chatlab.encodings import encoding
    from chatlab.errors import (
        APIConnectionError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ChatlabError,
        ChatTemplateError,
        ContextLengthError,
        LocalModelNeededError,
        ModelFilesError,
        ModelNotFoundError,
        RateLimitError,
        ReplyStoppedError,
    )
    from chatlab.exercises.exercises import exercise
    from chatlab.forward import inspect_forward
    from chatlab.generation import generate
    from chatlab.guesses import predict
    from chatlab.kv_cache import kv_cache_size, kv_cache_table
    from chatlab.linting import lint
    from chatlab.messages import assistant, developer, system, user, validate
    from chatlab.model import load
    from chatlab.prediction import next_token, temperature_family
    from chatlab.prices import Prices, cost
    from chatlab.questions.placement_test import placement
    from chatlab.questions.quizzes import quiz
    from chatlab.remote import RemoteModel, connect
    from chatlab.samples import sample_replies
    from chatlab.sampling import SamplingParams
    from chatlab.scoring import perplexity
    from chatlab.server.running import serve
    from chatlab.templating import render
    from chatlab.tokens import count_tokens, decode, encode, tokenize
    from chatlab.tracing import trace


def __getattr__(name: str) -> object:
    if name in _HOME:
        with garbage_kept():
            value = getattr(importlib.import_module(f"chatlab.{_HOME[name]}"), name)
    elif name.isidentifier() and importlib.util.find_spec(f"chatlab.{name}"):  # a module, as in `chatlab.messages??`
        value = importlib.import_module(f"chatlab.{name}")
    else:
        raise AttributeError(f"module 'chatlab' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


def load_ipython_extension(ipython: Any) -> None:
    """Add the magics `%%chat`, `%tokens` and `%%messages` to a notebook: what `%load_ext chatlab` calls."""
    from chatlab.magics import load_ipython_extension as load_magics

    load_magics(ipython)


if "IPython" in sys.modules:
    from chatlab.display import register

    register()
