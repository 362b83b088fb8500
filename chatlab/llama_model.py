"""The Llama model: chatlab's own forward pass as a model that chats, on a CPU and with 4-bit weights.

In: a folder that a GGUF file was converted to. Out: a `ChatModel` several times as fast as Transformers' on the same
machine, which reads many texts at once. Transformers' network on the same weights is its `network`, for who wants to
look inside. Knows nothing of messages or requests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from chatlab.chat_model import ChatModel
from chatlab.files import fingerprint
from chatlab.interruption import interrupted
from chatlab.kernels import prepare
from chatlab.kv_memory import KVCache
from chatlab.llama import Llama
from chatlab.prefixes import PrefixCache
from chatlab.threads import Threads
from chatlab.weights.packed import FILE, load_packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LlamaModel"]


class LlamaModel(ChatModel):
    """A model of the Llama family (Llama, SmolLM, Qwen2) with 4-bit weights, run by `chatlab.llama`.

    `llama` is the network, `threads` says how many threads it uses: `model.threads.number = 2` fixes it.
    """

    reads_together = True
    prefill_chunk = 2048  # the more, the faster; it can be stopped between two layers

    def __init__(self, name: str, folder: Path, *, chat_template: str | None = None) -> None:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        if chat_template is not None:
            tokenizer.chat_template = chat_template
        # chatlab has written these itself; Transformers' own reader of them takes half a second to import.
        config = SimpleNamespace(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
        ends = generation["eos_token_id"]  # one, or a list
        end_token_ids = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]
        super().__init__(
            name,
            tokenizer=tokenizer,
            context_length=config.max_position_embeddings,
            end_token_ids=list(dict.fromkeys(end_token_ids)),
        )
        self.folder = folder
        self.prefixes = PrefixCache()
        self.threads = Threads()
        self.llama: Llama = load_packed(folder, config)
        prepare()

    @property
    def vocab_size(self) -> int:
        """How many tokens the model knows, which is the length of its logits."""
        return self.llama.vocab_size

    @cached_property
    def network(self) -> PreTrainedModel:
        """Transformers' network on the same weights, in float32; loaded when it is first asked for."""
        # Imported here: it takes longer than loading this model does.
        from chatlab.transformers_model import load_folder

        return load_folder(self.folder, self.name, converted=True).network

    def next_token_logits(self, input_ids: Sequence[int], past_key_values: Any = None) -> tuple[Tensor, Any]:
        """Read more tokens and return the logits of the one that follows: float32 [vocab_size], on the CPU."""
        return self.next_logits_of_many([(input_ids, past_key_values)])[0]

    def logits(self, input_ids: Sequence[int], past_key_values: Any = None) -> tuple[Tensor, Any]:
        """Read more tokens and return the logits after each one: float32 [len(input_ids), vocab_size], on the CPU."""
        cache = self.llama.new_cache() if past_key_values is None else past_key_values
        with self.threads.reading(len(input_ids)):
            return self.llama.logits(self.llama.read([(input_ids, cache)], interrupted=interrupted)), cache

    def next_logits_of_many(self, texts: Sequence[tuple[Sequence[int], Any]]) -> list[tuple[Tensor, Any]]:
        """Read more tokens of several texts in one pass; see `ChatModel.next_logits_of_many`."""
        read = [(ids, self.llama.new_cache() if cache is None else cache) for ids, cache in texts]
        lengths = [len(ids) for ids, _ in read]
        with self.threads.reading(sum(lengths)):
            vectors = self.llama.read(read, interrupted=interrupted)  # [n, hidden]
            logits = self.llama.logits(vectors[torch.tensor(lengths).cumsum(0) - 1])  # [texts, vocab_size]
        return [(row, cache) for row, (_, cache) in zip(logits, read, strict=True)]

    def fork(self, past_key_values: KVCache, length: int | None = None) -> KVCache:
        """Return a copy of the cache, or of its first `length` tokens."""
        return past_key_values.copies(1, length)[0]

    def forks(self, past_key_values: KVCache, number: int) -> list[KVCache]:
        """Return so many copies of the cache, side by side in memory."""
        return past_key_values.copies(number)

    def cache_bytes(self, past_key_values: KVCache) -> int:
        """Return how much memory a cache takes."""
        return past_key_values.bytes

    def fingerprint(self) -> str:
        """Return a hash of the file of the weights."""
        return fingerprint(self.folder / FILE)
