"""Testing: a model that says what it is told to, for tests without weights.

In: canned replies. Out: a `ChatModel` whose tokens are single bytes, with a real tokenizer and a real chat template.
For unit tests only: lessons and measurements use a real model. Knows nothing of language.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from chatlab.chat_model import ChatModel

__all__ = ["CHATML", "ScriptedModel", "byte_tokenizer"]

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer(chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose ids 0–255 are the bytes of UTF-8, with `<|im_start|>` 256 and `<|im_end|>` 257.

    >>> byte_tokenizer().encode("Hi<|im_end|>")
    [72, 105, 257]
    """
    vocabulary = {character: byte for byte, character in bytes_to_unicode().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = chat_template
    return fast


class ScriptedModel(ChatModel):
    """A model that gives canned replies, one for each prompt, the last one again when they run out.

    `seconds_per_token` slows it down; `prompts` lists what it has read, one text per reply.

    >>> import chatlab
    >>> model = ScriptedModel("Hello!", "Bye!")
    >>> chatlab.chat_completions([chatlab.user("Hi")], model).choices[0].message.content
    'Hello!'
    >>> chatlab.chat_completions([chatlab.user("Hi")], model).choices[0].message.content
    'Bye!'
    """

    def __init__(
        self,
        *replies: str,
        name: str = "scripted",
        context_length: int = 8192,
        seconds_per_token: float = 0.0,
        chat_template: str | None = CHATML,
    ) -> None:
        tokenizer = byte_tokenizer(chat_template)
        super().__init__(
            name, tokenizer=tokenizer, context_length=context_length, end_token_ids=[tokenizer.eos_token_id]
        )
        self.replies: Sequence[str] = replies
        self.seconds_per_token = seconds_per_token
        self._read: list[list[int]] = []

    @property
    def vocab_size(self) -> int:
        """How many tokens the model knows: the 256 bytes and two control tokens."""
        return len(self.tokenizer)

    @property
    def prompts(self) -> list[str]:
        """What the model has read, one text per reply: the prompt and the reply so far."""
        return [str(self.tokenizer.decode(ids)) for ids in self._read]

    def next_token_logits(self, input_ids: Sequence[int], past_key_values: Any = None) -> tuple[Tensor, Any]:
        """Return logits [vocab_size] that make the next byte of the reply all but certain."""
        time.sleep(self.seconds_per_token)
        if past_key_values is None:
            reply = self.replies[min(len(self._read), len(self.replies) - 1)]
            past_key_values = {
                "reply": [*reply.encode(), self.tokenizer.eos_token_id],
                "ids": [],
                "single_tokens": 0,
            }
            self._read.append(past_key_values["ids"])
        else:
            past_key_values["single_tokens"] += len(input_ids) == 1
        past_key_values["ids"].extend(input_ids)
        position = self._replied(past_key_values["ids"], otherwise=past_key_values["single_tokens"])
        logits = torch.zeros(self.vocab_size)
        logits[past_key_values["reply"][min(position, len(past_key_values["reply"]) - 1)]] = 50.0
        return logits, past_key_values

    def fingerprint(self) -> str:
        """Return a hash of the replies."""
        return hashlib.sha256(repr(tuple(self.replies)).encode()).hexdigest()[:12]

    def _replied(self, ids: list[int], *, otherwise: int) -> int:
        """Return how many tokens of the reply have been read: those after the last header, if there is one."""
        header = self.tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
        for start in range(len(ids) - len(header), -1, -1):
            if ids[start : start + len(header)] == header:
                return len(ids) - start - len(header)
        return otherwise
