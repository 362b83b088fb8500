"""The chat model: what every language model that chats on this machine can do.

In: token ids. Out: the logits of the next token, with a key-value cache that the caller keeps; the tokenizer, the chat
template, the limits. Knows nothing of how a network computes, nor of messages or OpenAI's shapes.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from chatlab.engines import Engine
from chatlab.prefixes import PrefixCache

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["PREFILL_CHUNK", "ChatModel"]

PREFILL_CHUNK = 512


class ChatModel(Engine):
    """A language model that can chat: a tokenizer with a chat template, and logits for the next token.

    `name` is what a response calls it, `context_length` the most tokens that prompt and reply may have together,
    `end_token_ids` the tokens that end a reply.
    """

    context_length: int
    prefixes: PrefixCache | None = None  # what it has read lately, where its cache can be cut
    loaded_as: tuple[str, str, str | None] | None = None  # what `chatlab.load` was given: name, device, template
    reads_together = False  # whether `next_logits_of_many` is one pass
    prefill_chunk = PREFILL_CHUNK  # tokens of a prompt that it reads at a time: after each, others get their turn

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

    def next_logits_of_many(self, texts: Sequence[tuple[Sequence[int], Any]]) -> list[tuple[Tensor, Any]]:
        """Read more tokens of several texts, each with its own cache; return what `next_token_logits` does, for each.

        A model that can reads them in one pass, which takes little longer than one text does.
        """
        return [self.next_token_logits(input_ids, past_key_values) for input_ids, past_key_values in texts]

    def cache_bytes(self, past_key_values: Any) -> int:
        """Return how much memory a cache takes."""
        raise NotImplementedError(f"The cache of a {type(self).__name__} cannot be measured.")

    def fork(self, past_key_values: Any, length: int | None = None) -> Any:
        """Return a copy of the cache, so that two replies can go on from one prompt; of its first `length` tokens only.

        Raises `NotImplementedError` for a length, where a model's cache cannot be cut.
        """
        if length is not None:
            raise NotImplementedError(f"The cache of a {type(self).__name__} cannot be cut.")
        return copy.deepcopy(past_key_values)

    def forks(self, past_key_values: Any, number: int) -> list[Any]:
        """Return so many copies of the cache, for replies that are made side by side."""
        return [self.fork(past_key_values) for _ in range(number)]

    def fingerprint(self) -> str:
        """Return a hash that tells the weights from all others, so that nothing they made is taken for another's."""
        raise NotImplementedError(f"The weights of a {type(self).__name__} cannot be told from others.")

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
