"""chatlab: learn how chat completions really work, on a real chat model on your own laptop.

One turn of a chat is a data item that flows through a row of small rooms, and you can stand in any room and look:

    messages → prompt → token ids → logits → probabilities → token → text → response

Importing chatlab is quick: a name is loaded, and PyTorch with it, when it is first used.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# public name -> the module that defines it
_HOME = {
    "BadRequestError": "errors",
    "ChatModel": "model",
    "ChatTemplateError": "errors",
    "ChatlabError": "errors",
    "ContextLengthError": "errors",
    "Conversation": "conversation",
    "ModelFilesError": "errors",
    "ModelNotFoundError": "errors",
    "ReplyStoppedError": "errors",
    "SamplingParams": "sampling",
    "assistant": "messages",
    "chat_completions": "completions",
    "count_tokens": "tokens",
    "developer": "messages",
    "generate": "generation",
    "lint": "linting",
    "load": "model",
    "render": "templating",
    "system": "messages",
    "user": "messages",
    "validate": "messages",
}

__all__ = [
    "BadRequestError",
    "ChatModel",
    "ChatTemplateError",
    "ChatlabError",
    "ContextLengthError",
    "Conversation",
    "ModelFilesError",
    "ModelNotFoundError",
    "ReplyStoppedError",
    "SamplingParams",
    "assistant",
    "chat_completions",
    "count_tokens",
    "developer",
    "generate",
    "lint",
    "load",
    "render",
    "system",
    "user",
    "validate",
]

if TYPE_CHECKING:
    from chatlab.completions import chat_completions
    from chatlab.conversation import Conversation
    from chatlab.errors import (
        BadRequestError,
        ChatlabError,
        ChatTemplateError,
        ContextLengthError,
        ModelFilesError,
        ModelNotFoundError,
        ReplyStoppedError,
    )
    from chatlab.generation import generate
    from chatlab.linting import lint
    from chatlab.messages import assistant, developer, system, user, validate
    from chatlab.model import ChatModel, load
    from chatlab.sampling import SamplingParams
    from chatlab.templating import render
    from chatlab.tokens import count_tokens


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(importlib.import_module(f"chatlab.{_HOME[name]}"), name)
    elif name.isidentifier() and importlib.util.find_spec(f"chatlab.{name}"):  # a module, as in `chatlab.messages??`
        value = importlib.import_module(f"chatlab.{name}")
    else:
        raise AttributeError(f"module 'chatlab' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


if "IPython" in sys.modules:
    from chatlab.display import register

    register()
