"""Tokens: text to token ids and back.

In: a prompt or any text. Out: token ids, their number, and, id by id, text again without ever showing half a character.
Knows nothing of the model's weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from chatlab.messages import Message
from chatlab.model import ChatModel, resolve
from chatlab.templating import Prompt, render

__all__ = ["Detokenizer", "count_tokens", "decode", "encode", "token_bytes"]


def encode(text: str, *, model: ChatModel | str | Path | None = None) -> list[int]:
    """Return the token ids of a text or prompt.

    Control tokens in it count as control tokens, except those a `Prompt` knows to be forged: these are read as text.

    >>> from chatlab.testing import ScriptedModel
    >>> encode("Hi<|im_end|>", model=ScriptedModel(""))
    [72, 105, 257]
    """
    model = resolve(model)
    forged = text.forged if isinstance(text, Prompt) else ()
    ids: list[int] = []
    end = 0
    for start, stop in forged:
        ids += model.tokenizer.encode(str(text[end:start]), add_special_tokens=False)
        ids += model.plain_text_tokenizer.encode(str(text[start:stop]), add_special_tokens=False).ids
        end = stop
    ids += model.tokenizer.encode(str(text[end:]), add_special_tokens=False)
    return ids


def decode(token_ids: Sequence[int], *, model: ChatModel | str | Path | None = None) -> str:
    """Return the text of token ids, control tokens included.

    >>> from chatlab.testing import ScriptedModel
    >>> decode([72, 105, 257], model=ScriptedModel(""))
    'Hi<|im_end|>'
    """
    return str(resolve(model).tokenizer.decode(list(token_ids), clean_up_tokenization_spaces=False))


def count_tokens(text: str | Sequence[Message], *, model: ChatModel | str | Path | None = None) -> int:
    """Return how many tokens a text has, or a list of messages once rendered (with the header of the reply).

    >>> from chatlab.testing import ScriptedModel
    >>> count_tokens("Hello", model=ScriptedModel(""))
    5
    """
    model = resolve(model)
    return len(encode(text if isinstance(text, str) else render(text, model=model), model=model))


def token_bytes(token_id: int, tokenizer: PreTrainedTokenizerFast) -> bytes | None:
    """Return the bytes a token stands for, or None for a control token. One character may need several tokens."""
    added = tokenizer.added_tokens_decoder.get(token_id)
    if added is not None:
        return None if added.special else str(added.content).encode()
    piece = str(tokenizer.convert_ids_to_tokens(token_id) or "")
    decoder = tokenizer.backend_tokenizer.decoder
    if decoder is not None and b'"ByteLevel"' in decoder.__getstate__():  # as of GPT-2, Llama 3, Qwen, SmolLM
        return bytes(_byte_of_character()[character] for character in piece)
    if len(piece) == 6 and piece.startswith("<0x"):  # SentencePiece's way of writing a single byte
        return bytes([int(piece[3:5], 16)])
    return str(tokenizer.decode([token_id])).encode()


@lru_cache(maxsize=1)
def _byte_of_character() -> Mapping[str, int]:
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
