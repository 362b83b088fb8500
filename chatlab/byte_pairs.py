"""Byte pairs: a Hugging Face tokenizer's vocabulary as a `tiktoken.Encoding`.

In: a byte-level BPE tokenizer. Out: the same vocabulary for tiktoken, once it is certain that both cut text alike:
tiktoken merges whatever pair has the lowest rank, a Hugging Face tokenizer the pairs on its list, in their order.
Knows nothing of models or messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import tiktoken
from transformers import PreTrainedTokenizerFast

from chatlab.detokenizer import byte_of_character
from chatlab.errors import BadRequestError

__all__ = ["encoding_of"]

# The pattern that GPT-2 splits text with, from OpenAI's encoder.py.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# The same on the text between digits, which were split off first: blanks before a digit are blanks at an end.
BETWEEN_DIGITS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
PROBE = (
    "It's 12345 o'clock,  we'LL go!\n\n\tx = 10  **  20;\r\n  for i in range(3): # café, Ünï \u00a0 Straße ½ ² Ⅷ "
    "한국어 テスト 中文 русский हिन्दी العربية ไทย 👩‍👩‍👧‍👦🎉 "
    "\u3000 <b>&amp;</b> http://a.b/c?d=1 \u2028 …“quote” __init__ end  "
)

_made: WeakKeyDictionary[PreTrainedTokenizerFast, tiktoken.Encoding] = WeakKeyDictionary()


def encoding_of(tokenizer: PreTrainedTokenizerFast, name: str) -> tiktoken.Encoding:
    """Return the tokenizer's vocabulary as a `tiktoken.Encoding`, its added tokens as special tokens.

    A byte that the vocabulary lacks gets an id past its end. Raises `BadRequestError` for a tokenizer whose cuts
    tiktoken cannot be certain to make.

    >>> from chatlab.testing import byte_tokenizer
    >>> encoding_of(byte_tokenizer(), "bytes").encode("Hi<|im_end|>", allowed_special="all")
    [72, 105, 257]
    """
    if tokenizer not in _made:
        _made[tokenizer] = _encoding_of(tokenizer, name)
    return _made[tokenizer]


def _encoding_of(tokenizer: PreTrainedTokenizerFast, name: str) -> tiktoken.Encoding:
    backend = tokenizer.backend_tokenizer
    parts = json.loads(backend.to_str())
    model = parts["model"]
    if model["type"] != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        _refuse(name, f"its model is {model['type']}, not byte-level BPE")
    if parts["normalizer"] and parts["normalizer"]["type"] != "NFC":
        _refuse(name, f"it changes text first, by the normalizer {parts['normalizer']['type']}")
    special = {token["content"]: token["id"] for token in parts["added_tokens"]}
    for token in parts["added_tokens"]:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            _refuse(name, f"its token {token['content']!r} takes in the blanks beside it or wants to be a single word")
        if any(other != token["content"] and other.startswith(token["content"]) for other in special):
            _refuse(name, f"its token {token['content']!r} begins another token")
    vocabulary = {piece: rank for piece, rank in model["vocab"].items() if piece not in special}
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    ranks = _ranks(vocabulary, name)
    past_the_end = max([*ranks.values(), *special.values()]) + 1
    lacking = [bytes([byte]) for byte in range(256) if bytes([byte]) not in ranks]
    try:
        made = tiktoken.Encoding(
            name,
            pat_str=_pattern(parts["pre_tokenizer"], name),
            mergeable_ranks={**ranks, **{byte: past_the_end + place for place, byte in enumerate(lacking)}},
            special_tokens=special,
        )
    except ValueError as error:  # a regular expression that tiktoken cannot read
        _refuse(name, str(error))
    _check_merges(backend, vocabulary, merges, ignore_merges=model.get("ignore_merges", False), name=name)
    ids = [token_id for token_id in made.encode_ordinary(PROBE) if token_id < past_the_end]
    if ids != backend.encode(PROBE, add_special_tokens=False).ids:
        _refuse(name, "the two cut a text for trial differently")
    return made


def _ranks(vocabulary: Mapping[str, int], name: str) -> dict[bytes, int]:
    table = byte_of_character()
    try:
        return {bytes(table[character] for character in piece): rank for piece, rank in vocabulary.items()}
    except KeyError as error:
        _refuse(name, f"its vocabulary is not one of bytes: it holds the character {error.args[0]!r}")


def _pattern(pre_tokenizer: Mapping[str, Any] | None, name: str) -> str:
    """Return the one regular expression that splits as the pre-tokenizer does."""
    steps = [pre_tokenizer] if pre_tokenizer else []
    if pre_tokenizer and pre_tokenizer["type"] == "Sequence":
        steps = pre_tokenizer["pretokenizers"]
    kinds = [step["type"] for step in steps]
    if kinds and kinds[-1] == "ByteLevel" and not steps[-1]["add_prefix_space"]:
        by_regex = steps[-1]["use_regex"]
        if kinds == ["ByteLevel"]:
            return GPT2 if by_regex else r"[\s\S]+"
        if kinds == ["Digits", "ByteLevel"] and by_regex:
            return BETWEEN_DIGITS.replace("DIGITS", r"\p{N}" if steps[0]["individual_digits"] else r"\p{N}+")
        if kinds == ["Split", "ByteLevel"] and not by_regex:
            how = (steps[0]["behavior"], steps[0]["invert"])
            if how in (("Isolated", False), ("Removed", True)):
                pattern: dict[str, str] = steps[0]["pattern"]
                return pattern["Regex"] if "Regex" in pattern else re.escape(pattern["String"])
    _refuse(name, f"its pre-tokenizer is {' + '.join(kinds) or 'missing'} with settings not known here")


def _check_merges(
    backend: Any, vocabulary: Mapping[str, int], merges: list[tuple[str, ...]], *, ignore_merges: bool, name: str
) -> None:
    """Refuse a list of merges that tiktoken, which has only ranks, would not follow."""
    ranks = [vocabulary.get("".join(merge), -1) for merge in merges]
    if any(later < earlier for earlier, later in pairwise(ranks)):
        _refuse(name, "its merges are not in the order of their ids")
    if ignore_merges:  # pieces count as whole first, as for tiktoken: then every way to build a token must be listed
        listed = set(merges)
        ways = (
            (piece[:cut], piece[cut:])
            for piece in vocabulary
            for cut in range(1, len(piece))
            if piece[:cut] in vocabulary and piece[cut:] in vocabulary
        )
        unlisted = next((way for way in ways if way not in listed), None)
        if unlisted:
            _refuse(name, f"it does not merge {unlisted[0]!r} and {unlisted[1]!r}, though the result is a token")
        return
    # Else every token must come of its own bytes: then no other way to build it is ever met.
    for piece, rank in vocabulary.items():
        if [token.id for token in backend.model.tokenize(piece)] != [rank]:
            _refuse(name, f"its token {piece!r} is never the result of its merges")


def _refuse(name: str, reason: str) -> NoReturn:
    raise BadRequestError(
        f"The tokenizer of {name} cannot be a tiktoken encoding: {reason}. Count and encode with the model itself: "
        "leave encoding out.",
        param="encoding",
        code="unsupported_value",
    )
