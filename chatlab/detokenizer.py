"""Detokenizer: token ids to bytes and text, one id at a time.

In: a tokenizer and the ids of a reply as they come. Out: text that is whole, never half a character. Knows nothing of
models, prompts or messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

__all__ = ["Detokenizer", "byte_of_character", "token_bytes"]


def token_bytes(token_id: int, tokenizer: PreTrainedTokenizerFast) -> bytes | None:
    """Return the bytes a token stands for, or None for a control token. One character may need several tokens."""
    added = tokenizer.added_tokens_decoder.get(token_id)
    if added is not None:
        return None if added.special else str(added.content).encode()
    piece = str(tokenizer.convert_ids_to_tokens(token_id) or "")
    decoder = tokenizer.backend_tokenizer.decoder
    if decoder is not None and b'"ByteLevel"' in decoder.__getstate__():  # as of GPT-2, Llama 3, Qwen, SmolLM
        return bytes(byte_of_character()[character] for character in piece)
    if len(piece) == 6 and piece.startswith("<0x"):  # SentencePiece's way of writing a single byte
        return bytes([int(piece[3:5], 16)])
    return str(tokenizer.decode([token_id])).encode()


@lru_cache(maxsize=1)
def byte_of_character() -> Mapping[str, int]:
    """Return which byte each character of a byte-level vocabulary stands for: GPT-2's table, such as Ġ for a space."""
    return {character: byte for byte, character in bytes_to_unicode().items()}


class Detokenizer:
    """Turn token ids into text one by one, holding back what is not yet a whole character.

    An emoji may be four tokens: the first three give nothing, the last all of it. `flush` gives what is left at the
    end. Control tokens give nothing.

    >>> from chatlab.testing import ScriptedModel
    >>> detokenizer = Detokenizer(ScriptedModel("").tokenizer)
    >>> [detokenizer.decode(token_id) for token_id in "é!".encode()]
    ['', 'é', '!']
    >>> detokenizer.flush()
    ''
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # a few shown tokens, since some decoders look back, and the ones not yet shown
        self._shown = 0  # how many of them are shown

    def decode(self, token_id: int) -> str:
        """Take the next token and return the text that is now whole, often one word, sometimes nothing."""
        self._ids.append(token_id)
        text = self._new_text()
        if not text or text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        self._ids, self._shown = self._ids[self._shown :], len(self._ids) - self._shown
        return text

    def flush(self) -> str:
        """Return what was held back, broken characters as U+FFFD, and start anew."""
        text = self._new_text()
        self._ids, self._shown = [], 0
        return text

    def _new_text(self) -> str:
        before = self._tokenizer.decode(self._ids[: self._shown], skip_special_tokens=True)
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True)[len(before) :])
