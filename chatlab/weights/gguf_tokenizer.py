"""The tokenizer inside a GGUF file, as a Transformers tokenizer.

In: a GGUF file's metadata (a plain dict). Out: a `PreTrainedTokenizerFast` with its chat template, and the
ids of the tokens that end a reply. Knows nothing of weights or of where files are kept.

Transformers' own conversion drops `tokenizer.ggml.pre`, the rule that splits text before merging, and so
gives wrong ids without a word (for SmolLM2, 42 of 250 test strings). Here an unknown rule is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from chatlab.errors import ModelFilesError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["end_token_ids", "gguf_tokenizer"]

CONTROL, USER_DEFINED = 3, 4  # gguf.TokenType
END_TOKENS = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
)
ORIGINAL_INSTEAD = "Load the original model instead: its Hugging Face folder or hub id."


class Splitting(NamedTuple):
    """How a model splits text before merging byte pairs, as its own tokenizer.json says it."""

    steps: tuple[pre_tokenizers.PreTokenizer, ...]
    normalizer: normalizers.Normalizer | None = None
    ignore_merges: bool = False  # a piece that is a token as a whole is taken whole
    add_bos: bool = False  # what llama.cpp does when the file does not say


def _by_regex(digits: str) -> tuple[pre_tokenizers.PreTokenizer, ...]:
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return (
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    )


_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
_LLAMA3 = Splitting(_by_regex(r"\p{N}{1,3}"), ignore_merges=True, add_bos=True)
# "default" is missing on purpose: it is what a converter writes that did not know the model's rule.
SPLITTINGS = {
    "smollm": Splitting((pre_tokenizers.Digits(individual_digits=True), _GPT2)),
    "gpt-2": Splitting((_GPT2,)),
    # Qwen's tokenizer.json normalises to NFC; llama.cpp does not, so decomposed accents differ there.
    "qwen2": Splitting(_by_regex(r"\p{N}"), normalizer=normalizers.NFC()),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
}


def gguf_tokenizer(metadata: dict[str, Any], gguf_path: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer that a GGUF file describes, chat template included.

    `metadata` maps each key of the file to its value; `gguf_path` is only named in errors. Raises
    ModelFilesError when the vocabulary is not byte-level BPE, or its text is split by a rule that chatlab does
    not know.

    >>> gguf_tokenizer({"tokenizer.ggml.model": "bert"}, Path("a.gguf"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    chatlab.errors.ModelFilesError: a.gguf has a tokenizer of kind 'bert', which chatlab cannot convert. ...
    """
    from transformers import PreTrainedTokenizerFast

    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        # "llama" (SentencePiece) too: Transformers' conversion loses leading spaces that llama.cpp keeps.
        raise ModelFilesError(
            f"{gguf_path.name} has a tokenizer of kind {kind!r}, which chatlab cannot convert. " + ORIGINAL_INSTEAD
        )
    missing = {"tokens", "token_type", "merges"} - {key.removeprefix("tokenizer.ggml.") for key in metadata}
    if missing:
        raise ModelFilesError(
            f"{gguf_path.name} has no tokenizer.ggml.{min(missing)}, so no tokenizer. {ORIGINAL_INSTEAD}"
        )
    options: dict[str, Any] = {
        f"{role}_token": metadata["tokenizer.ggml.tokens"][index]
        for role, index in _named_ids(metadata).items()
        if role in ("bos", "eos", "unk", "pad")
    }
    options["clean_up_tokenization_spaces"] = False
    context = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    if context:
        options["model_max_length"] = int(context)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_byte_level_bpe(metadata, gguf_path), **options)
    tokenizer.chat_template = metadata.get("tokenizer.chat_template")
    return tokenizer


def end_token_ids(metadata: dict[str, Any]) -> list[int]:
    """Return the ids of every token that ends a reply, the file's own end token first.

    >>> end_token_ids({"tokenizer.ggml.tokens": ["a", "<|im_end|>", "<|endoftext|>"],
    ...                "tokenizer.ggml.token_type": [1, 3, 3], "tokenizer.ggml.eos_token_id": 2})
    [2, 1]
    """
    named = _named_ids(metadata)
    ids = [named[role] for role in ("eos", "eot", "eom") if role in named]
    control = {
        token: index
        for index, (token, kind) in enumerate(
            zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True)
        )
        if kind == CONTROL
    }
    ids += [control[token] for token in END_TOKENS if token in control]
    return list(dict.fromkeys(ids))


def _named_ids(metadata: dict[str, Any]) -> dict[str, int]:
    keys = {"bos": "bos", "eos": "eos", "eot": "eot", "eom": "eom", "unk": "unknown", "pad": "padding"}
    found = {role: metadata.get(f"tokenizer.ggml.{key}_token_id") for role, key in keys.items()}
    return {role: int(index) for role, index in found.items() if index is not None}


def _byte_level_bpe(metadata: dict[str, Any], gguf_path: Path) -> Tokenizer:
    rule = metadata.get("tokenizer.ggml.pre")
    if rule not in SPLITTINGS:
        raise ModelFilesError(
            f"{gguf_path.name} splits text by the rule tokenizer.ggml.pre = {rule!r}; chatlab knows "
            f"{', '.join(SPLITTINGS)}. A wrong rule gives wrong tokens without a word. {ORIGINAL_INSTEAD}"
        )
    splitting = SPLITTINGS[rule]
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ModelFilesError(f"{gguf_path.name} lists a token twice in its vocabulary. {ORIGINAL_INSTEAD}")
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    try:
        bpe = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=splitting.ignore_merges)
    except Exception as error:  # all that the tokenizers library raises
        raise ModelFilesError(f"{gguf_path.name} has unusable merges ({error}). {ORIGINAL_INSTEAD}") from error
    tokenizer = Tokenizer(bpe)
    if splitting.normalizer:
        tokenizer.normalizer = splitting.normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(splitting.steps))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == CONTROL, normalized=False)
            for token, kind in zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
    )
    named = _named_ids(metadata)
    add_bos = metadata.get("tokenizer.ggml.add_bos_token", splitting.add_bos) and "bos" in named
    add_eos = metadata.get("tokenizer.ggml.add_eos_token", False) and "eos" in named
    before = [tokens[named["bos"]]] if add_bos else []
    after = [tokens[named["eos"]]] if add_eos else []
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after],
        special_tokens=[(token, vocabulary[token]) for token in {*before, *after}],
    )
    return tokenizer
