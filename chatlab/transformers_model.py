"""The Transformers model: any architecture, run by Hugging Face's library.

In: a network and its tokenizer. Out: a `ChatModel` on CPU, CUDA or MPS. Knows nothing of where the files are.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    DynamicLayer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from chatlab.chat_model import ChatModel
from chatlab.errors import ModelFilesError
from chatlab.prefixes import PrefixCache
from chatlab.threads import Threads

__all__ = ["TransformersModel", "cache_argument", "load_folder"]


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
        self.threads = Threads()
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

    def fork(self, past_key_values: Any, length: int | None = None) -> Any:
        """Return a copy of the cache, or of its first `length` tokens."""
        twin = copy.deepcopy(past_key_values)
        left_out = 0 if length is None else twin.get_seq_length() - length
        if left_out > 0:
            twin.crop(-left_out)  # how many to remove: Transformers 5.23 takes no length any more
        return twin

    @property
    def cuttable(self) -> bool:
        """Whether a cache can be cut: where every layer keeps all tokens, not those of a sliding window or a state."""
        return all(type(layer) is DynamicLayer for layer in DynamicCache(config=self.network.config).layers)

    def cache_bytes(self, past_key_values: Any) -> int:
        """Return how much memory a cache takes."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in past_key_values.layers if layer.is_initialized)

    def fingerprint(self) -> str:
        """Return a hash of the network's configuration and of up to 1,000 numbers of each of its tensors."""
        hashed = hashlib.sha256(self.network.config.to_json_string().encode())
        for name, tensor in self.network.state_dict().items():
            numbers = tensor.flatten()
            some = numbers[:: max(1, len(numbers) // 1000)].float().cpu()
            hashed.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + some.numpy().tobytes())
        return hashed.hexdigest()[:12]

    @torch.inference_mode()
    def _read(self, input_ids: Sequence[int], past_key_values: Any, *, logits_to_keep: int) -> tuple[Tensor, Any]:
        cache = DynamicCache(config=self.network.config) if past_key_values is None else past_key_values
        ids = torch.tensor([list(input_ids)], device=self.device)  # [1, n]
        self.threads.adapt()  # no trials: its sums are rounded differently by another number of threads
        output = self.network(ids, use_cache=True, logits_to_keep=logits_to_keep, **{self._cache_argument: cache})
        return output.logits[0].float().cpu(), cache  # [logits_to_keep, vocab_size]


def cache_argument(network: PreTrainedModel) -> str:
    """Return the name of the argument that takes the key-value cache: Transformers 5.24 changed it to `cache`."""
    return "cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values"


def _end_token_ids(network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return every token that ends a reply: those the model declares, and the tokenizer's end of sequence."""
    declared = network.generation_config.eos_token_id if network.generation_config else None
    ids = declared if isinstance(declared, list) else [declared]
    return list(dict.fromkeys(token_id for token_id in [*ids, tokenizer.eos_token_id] if token_id is not None))


def load_folder(
    folder: Path, title: str, *, device: str = "cpu", chat_template: str | None = None, converted: bool = False
) -> TransformersModel:
    """Return the model whose files are in the folder; `converted` tells that chatlab wrote them.

    Raises `ModelFilesError` for files that cannot be read, or that do not hold every weight.
    """
    # AutoTokenizer builds some models' tokenizers from its own idea of them; a converted one is right as it is stored.
    tokenizer_class = PreTrainedTokenizerFast if converted else AutoTokenizer
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
    model = TransformersModel(title, network.to(device), tokenizer)
    if model.cuttable:
        model.prefixes = PrefixCache()
    return model


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
