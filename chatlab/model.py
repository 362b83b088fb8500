"""The model: token ids in, the logits of the next token out.

In: a name (nothing for the default model, a hub id, a folder, a GGUF file). Out: a `ChatModel`: tokenizer, chat
template, limits, and `next_token_logits` with a key-value cache that the caller keeps. Knows nothing of messages or
OpenAI's shapes.
"""

from __future__ import annotations

import copy
import inspect
import os
import re
import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from chatlab.engines import Engine
from chatlab.errors import LocalModelNeededError, ModelFilesError, ModelNotFoundError
from chatlab.weights.conversion import converted
from chatlab.weights.download import DEFAULT_MODEL, fetch
from chatlab.weights.home import home
from chatlab.weights.hub import hub_folder

__all__ = ["ChatModel", "TransformersModel", "cache_argument", "engine_of", "load", "resolve"]


class ChatModel(Engine):
    """A language model that can chat: a tokenizer with a chat template, and logits for the next token.

    `name` is what a response calls it, `context_length` the most tokens that prompt and reply may have together,
    `end_token_ids` the tokens that end a reply.
    """

    context_length: int

    def __init__(
        self,
        name: str,
        *,
        tokenizer: PreTrainedTokenizerFast,
        context_length: int,
        end_token_ids: Sequence[int],
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.end_token_ids = tuple(end_token_ids)

    @abstractmethod
    def next_token_logits(self, input_ids: Sequence[int], past_key_values: Any = None) -> tuple[Tensor, Any]:
        """Read more tokens and return the logits of the one that follows: float32 [vocab_size], on the CPU.

        `past_key_values` is the cache that an earlier call returned, or None to start afresh; the call extends it in
        place and returns it as well.
        """

    def logits(self, input_ids: Sequence[int], past_key_values: Any = None) -> tuple[Tensor, Any]:
        """Read more tokens and return the logits after each one: float32 [len(input_ids), vocab_size], on the CPU.

        The last row is what `next_token_logits` returns, and the cache is as there.
        """
        rows = []
        for token_id in input_ids:
            row, past_key_values = self.next_token_logits([token_id], past_key_values)
            rows.append(row)
        return torch.stack(rows), past_key_values

    def fork(self, past_key_values: Any) -> Any:
        """Return a copy of the cache, so that two replies can go on from one prompt."""
        return copy.deepcopy(past_key_values)

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many tokens the model knows, which is the length of its logits."""

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that turns messages into one prompt, or None."""
        template: str | None = self.tokenizer.chat_template
        return template

    @cached_property
    def control_tokens(self) -> tuple[str, ...]:
        """The tokens that steer the model instead of being read as text, such as `<|im_end|>`; longest first."""
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(sorted((token.content for token in added if token.special), key=len, reverse=True))

    @cached_property
    def plain_text_tokenizer(self) -> Tokenizer:
        """A copy of the tokenizer that reads control tokens as the ordinary characters they are written with."""
        tokenizer: Tokenizer = copy.deepcopy(self.tokenizer.backend_tokenizer)
        tokenizer.encode_special_tokens = True
        return tokenizer

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, context_length={self.context_length})"


class TransformersModel(ChatModel):
    """A model run by Hugging Face Transformers: any architecture it knows, on CPU, CUDA or MPS."""

    def __init__(self, name: str, network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        config = network.config.get_text_config()
        super().__init__(
            name,
            tokenizer=tokenizer,
            context_length=getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length,
            end_token_ids=_end_token_ids(network, tokenizer),
        )
        self.network = network.eval()
        self._cache_argument = cache_argument(network)

    @property
    def vocab_size(self) -> int:
        """How many tokens the model knows, which is the length of its logits."""
        return int(self.network.get_output_embeddings().weight.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the weights are: cpu, cuda or mps."""
        device: torch.device = self.network.device
        return device

    def next_token_logits(self, input_ids: Sequence[int], past_key_values: Any = None) -> tuple[Tensor, Any]:
        """Read more tokens and return the logits of the one that follows: float32 [vocab_size], on the CPU."""
        logits, past_key_values = self._read(input_ids, past_key_values, logits_to_keep=1)
        return logits[-1], past_key_values  # [vocab_size]

    def logits(self, input_ids: Sequence[int], past_key_values: Any = None) -> tuple[Tensor, Any]:
        """Read more tokens and return the logits after each one: float32 [len(input_ids), vocab_size], on the CPU."""
        return self._read(input_ids, past_key_values, logits_to_keep=len(input_ids))

    @torch.inference_mode()
    def _read(self, input_ids: Sequence[int], past_key_values: Any, *, logits_to_keep: int) -> tuple[Tensor, Any]:
        cache = DynamicCache(config=self.network.config) if past_key_values is None else past_key_values
        ids = torch.tensor([list(input_ids)], device=self.device)  # [1, n]
        output = self.network(ids, use_cache=True, logits_to_keep=logits_to_keep, **{self._cache_argument: cache})
        return output.logits[0].float().cpu(), cache  # [logits_to_keep, vocab_size]


def cache_argument(network: PreTrainedModel) -> str:
    """Return the name of the argument that takes the key-value cache: Transformers 5.24 changed it to `cache`."""
    return "cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values"


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
            _loaded[key] = _load(*key)
        return _loaded[key]


def engine_of(model: Engine | str | Path | None) -> Engine:
    """Return the model itself, on this machine or on a server, or the one that a name (None: the default) leads to."""
    return model if isinstance(model, Engine) else load(model)


def resolve(model: Engine | str | Path | None) -> ChatModel:
    """Return a model on this machine: the one given, or the one that a name (None: the default) leads to.

    Raises `LocalModelNeededError` for a model on a server, which shows neither its tokens nor its weights.
    """
    engine = engine_of(model)
    if isinstance(engine, ChatModel):
        return engine
    raise LocalModelNeededError(
        f"{engine!r} only answers chat completions: a server does not show the tokens, logits and weights that this "
        "needs. Use a model on this machine for it, such as model=chatlab.load(). With a server work "
        "chat_completions, Conversation, ChatPanel, %%chat, and fit with a token_limit."
    )


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
    # AutoTokenizer builds some models' tokenizers from its own idea of them; a converted one is right as it is stored.
    tokenizer_class = PreTrainedTokenizerFast if folder.is_relative_to(home()) else AutoTokenizer
    try:
        with _quiet_transformers():
            tokenizer = tokenizer_class.from_pretrained(folder, trust_remote_code=False)
            network, report = AutoModelForCausalLM.from_pretrained(
                folder,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32 if device == "cpu" else torch.bfloat16,
                output_loading_info=True,
            )
    except Exception as error:  # Transformers raises whatever it stumbles over
        raise ModelFilesError(
            f"{title} cannot be loaded as a chat model from {folder}: {_first_line(error)} It needs config.json, "
            "tokenizer.json and whole weights as safetensors; pickled weights (.bin, .pt) are never read."
        ) from error
    random_weights = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if random_weights:  # Transformers fills these with random numbers and goes on
        raise ModelFilesError(
            f"The weights in {folder} are not complete: {len(random_weights)} tensors are missing or do not fit, "
            f"such as {random_weights[0]}. Get the files again."
        )
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return TransformersModel(title, network.to(device), tokenizer)


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


def _end_token_ids(network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return every token that ends a reply: those the model declares, and the tokenizer's end of sequence."""
    declared = network.generation_config.eos_token_id if network.generation_config else None
    ids = declared if isinstance(declared, list) else [declared]
    return list(dict.fromkeys(token_id for token_id in [*ids, tokenizer.eos_token_id] if token_id is not None))


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence Transformers' own progress bars and advice while a model loads, and restore them."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
