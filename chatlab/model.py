"""The model: a name becomes a model that is ready to chat.

In: a name (nothing for the default model, a hub id, a folder, a GGUF file). Out: a `ChatModel`: run by chatlab's own
forward pass where the weights are of 4 bits and there is no GPU, else by Transformers. Knows nothing of messages or
OpenAI's shapes.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from pathlib import Path

import torch

from chatlab.chat_model import ChatModel
from chatlab.engines import Engine
from chatlab.errors import LocalModelNeededError, ModelFilesError, ModelNotFoundError
from chatlab.garbage import garbage_kept
from chatlab.weights.conversion import converted
from chatlab.weights.download import DEFAULT_MODEL, fetch
from chatlab.weights.home import home
from chatlab.weights.hub import hub_folder

__all__ = ["ChatModel", "chosen", "load", "resolve", "use"]


def load(name: str | Path | None = None, *, device: str = "auto", chat_template: str | None = None) -> ChatModel:
    """Return a model ready to chat; a second call with the same arguments returns the same object.

    `name` is None for the default model (SmolLM2-135M-Instruct, downloaded once), a Hugging Face hub id such as
    `"Qwen/Qwen2.5-0.5B-Instruct"`, a folder, or a GGUF file. `device` is "auto" (CUDA or MPS where present, else the
    CPU) or a torch device. `chat_template` is a Jinja template for a model that has none, or in place of its own.

    Only safe formats are read (safetensors, GGUF), never pickles, and no code that a model brings along is run.
    Raises `ModelNotFoundError` for a name that leads nowhere, `ModelFilesError` for files that cannot be had or read,
    `ValueError` for a device that is not there.
    """
    key = (_canonical(name), _device(device), chat_template)
    if key in _loaded:  # without the lock: a download in another thread must not keep a loaded model waiting
        return _loaded[key]
    with _loading:
        if key not in _loaded:
            with garbage_kept():
                _loaded[key] = _load(*key)
                _loaded[key].loaded_as = key
        return _loaded[key]


def use(model: Engine | str | Path | None) -> Engine | None:
    """Make a model the default one, here or on a server, for everything that is not given another; return it.

    What needs tokens, logits or weights cannot ask a server: it goes on with the default model on this machine, and
    warns once where that is another model. None goes back to the beginning.

    >>> from chatlab.testing import ScriptedModel
    >>> use(ScriptedModel("Hello!"))
    ScriptedModel('scripted', context_length=8192)
    >>> use(None)
    """
    global _chosen
    _chosen = None if model is None else model if isinstance(model, Engine) else load(model)
    _told.clear()
    return _chosen


def chosen() -> Engine | None:
    """Return the model that `use` made the default one, or None."""
    return _chosen


def resolve(model: Engine | str | Path | None) -> ChatModel:
    """Return a model on this machine: the one given, or the one that a name (None: the default) leads to.

    Raises `LocalModelNeededError` for a model on a server, which shows neither its tokens nor its weights.
    """
    if model is None:
        if isinstance(_chosen, ChatModel):
            return _chosen
        model = load()
        if _chosen is not None and _chosen.name != model.name and _chosen.name not in _told:
            _told.add(_chosen.name)
            warnings.warn(
                f"{_chosen!r} does not show its tokens, logits and weights. What you see of those here is of "
                f"{model.name}, on this machine.",
                stacklevel=3,
            )
    engine = model if isinstance(model, Engine) else load(model)
    if isinstance(engine, ChatModel):
        return engine
    raise LocalModelNeededError(
        f"{engine!r} only answers chat completions: a server does not show the tokens, logits and weights that this "
        "needs. Use a model on this machine for it, such as model=chatlab.load(). With a server work "
        "chat_completions, Conversation, ChatPanel, %%chat, and fit with a token_limit."
    )


_chosen: Engine | None = None
_told: set[str] = set()
_loaded: dict[tuple[str, str, str | None], ChatModel] = {}
_loading = threading.Lock()


def _canonical(name: str | Path | None) -> str:
    """Return one spelling for each model: the default's name, an absolute path, or a hub id."""
    if name is None or str(name).lower() == DEFAULT_MODEL.name.lower():
        return DEFAULT_MODEL.name
    path = Path(name).expanduser() if str(name).startswith("~/") else Path(str(name))
    return str(path.resolve()) if str(name) and os.path.exists(path) else str(name)


def _load(name: str, device: str, chat_template: str | None) -> ChatModel:
    folder, title = _locate(name)
    # Imported here: it takes half a second, in which the compiler that a conversion starts can be at work already.
    from chatlab.llama_model import LlamaModel
    from chatlab.weights.packed import has_packed

    if device == "cpu" and has_packed(folder):
        return LlamaModel(title, folder, chat_template=chat_template)
    # Imported here: Transformers' networks take longer to import than a model of chatlab's own takes to load.
    from chatlab.transformers_model import load_folder

    return load_folder(
        folder, title, device=device, chat_template=chat_template, converted=folder.is_relative_to(home())
    )


def _locate(name: str) -> tuple[Path, str]:
    """Return the folder to load from, and the model's name."""
    if name == DEFAULT_MODEL.name:
        return converted(fetch()), name
    path = Path(name)
    if name and os.path.isdir(path):
        weights = sorted(path.glob("*.gguf"))
        if len(weights) == 1 and not (path / "config.json").exists():
            return converted(weights[0]), weights[0].stem
        return path, path.name
    if name and os.path.isfile(path):
        if path.suffix != ".gguf":
            raise ModelFilesError(f"{path} is not a GGUF file. Give a GGUF file, or a folder with safetensors.")
        return converted(path), path.stem
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not name.endswith(".gguf"):
        return hub_folder(name), name
    raise ModelNotFoundError(
        f"There is no model {name[:80]!r} here. Give None for {DEFAULT_MODEL.name}, a hub id such as 'owner/model', "
        "a folder, or a GGUF file.",
        param="model",
    )


def _device(device: str) -> str:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present.get(device.partition(":")[0]):
        there = ", ".join(name for name, is_there in present.items() if is_there)
        raise ValueError(f"device must be 'auto' or one that this machine has ({there}), but is {device!r}.")
    return device
