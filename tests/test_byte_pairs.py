"""The local model's vocabulary for tiktoken, held against the Hugging Face tokenizer and against tiktoken's own."""

import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from chatlab import BadRequestError, encodings
from chatlab.byte_pairs import BETWEEN_DIGITS, GPT2, PROBE, encoding_of
from chatlab.testing import byte_tokenizer

SCRIPTS = {
    "latin": "naïve café, Straße ÄÖÜ œuvre — “quoted” …",
    "cyrillic": "Съешь же ещё этих мягких французских булок",
    "greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "arabic": "نص حكيم له سر قاطع ١٢٣٤",
    "hebrew": "דג סקרן שט בים",
    "devanagari": "ऋषियों को सताने वाले १२३",
    "thai": "เป็นมนุษย์สุดประเสริฐ ๑๒๓",
    "chinese": "天地玄黄，宇宙洪荒。 一二三",
    "japanese": "いろはにほへと カタカナ 123",
    "korean": "키스의 고유조건은 입술끼리 만나야",
    "emoji": "👩‍👩‍👧‍👦 🎉🏳️‍🌈 👍🏽 🇫🇷 1️⃣",
    "combining": "e\u0301 a\u0308 Z\u0335\u0321 n\u0303",
    "digits": "hello  12345 1st a1b 3.14 1,000,000 x2 ½ ² Ⅷ ①  7\n 8\t9",
    "code": "def f(x):\n    return x  ** 2  # it's\n\n\n\tif (a != b) { ++i; }\r\n",
    "contractions": "it's IT'S we'll WE'LL don't y'all'd've 'tis ''s",
    "white space": " a  b   c \t d \u00a0 e \u3000\u2003 f \u2028 g \x85 h\n \n  \n",
    "markup": "<b>&amp;</b> <|im_start|>user\nHi<|im_end|>\n<|endoftext|><im_end>",
}
CORPUS = [*SCRIPTS.values(), PROBE, "", " ", "  ", "\n\n", "1", "a" * 3000, " " * 200, "12" * 300]
MIXED = st.lists(
    st.sampled_from(["  ", " ", "\n", "\t", "1", "42", "'s", "'LL", "a", "Ab", "é", "한", "🎉", "\u200d", "!", "¾"])
)


def mixed_corpus(number=3000):
    """Return random cuts of all scripts, put together in random order."""
    dice = random.Random(0)
    everything = list(SCRIPTS.values())
    for _ in range(number):
        texts = dice.choices(everything, k=3)
        yield dice.choice(["", " ", "  ", "\n"]).join(text[dice.randrange(len(text)) :][:20] for text in texts)


def test_equals_the_real_tokenizer_on_a_large_mixed_corpus(model):
    own = encodings.encoding(model)
    for text in [*CORPUS, *mixed_corpus()]:
        assert own.encode(text, allowed_special="all") == model.tokenizer.encode(text), text
        assert own.encode_ordinary(text) == model.plain_text_tokenizer.encode(text).ids, text
        assert own.decode(own.encode_ordinary(text)) == text


@settings(max_examples=300, deadline=None)
@given(text=MIXED.map("".join) | st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=["C"])))
@example("hello  12345 1st a1b")
def test_equals_the_real_tokenizer_on_any_text(model, text):
    assert encodings.encoding(model).encode(text, allowed_special="all") == model.tokenizer.encode(text)


def test_byte_that_the_vocabulary_lacks_gets_an_id_past_its_end(model):
    own = encodings.encoding(model)
    assert model.tokenizer.encode("a\x04b") == model.tokenizer.encode("a") + model.tokenizer.encode("b")
    first, lacking, last = own.encode("a\x04b")
    assert [first, last] == model.tokenizer.encode("a") + model.tokenizer.encode("b")
    assert lacking >= model.vocab_size and own.decode([first, lacking, last]) == "a\x04b"


def test_encoding_is_made_once(model):
    assert encodings.encoding(model) is encodings.encoding(model.with_context_length(9))


def trained(pre_tokenizer, normalizer=None, size=600):
    """Return a small vocabulary, trained here, with a given pre-tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS, *mixed_corpus(200)] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT_2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
KNOWN = {
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT_2]),
    "digits together": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), GPT_2]),
    "gpt-2": GPT_2,
    "bytes": BYTES,
    "llama-3": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA_3), "isolated"), BYTES]),
    "qwen-2": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA_3.replace("{1,3}", "")), "isolated"), BYTES]),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_known_pre_tokenizers_are_followed(kind):
    tokenizer = trained(KNOWN[kind])
    own = encoding_of(tokenizer, kind)
    for text in [*CORPUS, *mixed_corpus(500)]:
        assert own.encode_ordinary(text) == tokenizer.encode(text), text


def test_patterns_differ_before_a_digit():
    """Blanks before a digit are the end of a stretch for SmolLM: one pattern for both would split them."""
    assert BETWEEN_DIGITS != GPT2
    smollm = encoding_of(trained(KNOWN["smollm"]), "smollm")
    assert smollm.encode_ordinary("a  1") == [*smollm.encode_ordinary("a  "), *smollm.encode_ordinary("1")]


def test_tiktokens_own_vocabulary_survives_the_way_there_and_back():
    """cl100k_base as Transformers converts it to a tokenizer, and we back to an encoding: the same ids."""
    official = encodings.encoding("cl100k_base")

    class FromMemory(TikTokenConverter):
        def extract_vocab_merges_from_model(self, _):
            from transformers.convert_slow_tokenizer import bytes_to_unicode

            table = bytes_to_unicode()
            ranks = official._mergeable_ranks
            spell = {token: "".join(table[byte] for byte in token) for token in ranks}
            merges = [
                (spell[token[:cut]], spell[token[cut:]], rank)
                for token, rank in ranks.items()
                for cut in range(1, len(token))
                if token[:cut] in ranks and token[cut:] in ranks
            ]
            ordered = [(left, right) for left, right, _ in sorted(merges, key=lambda merge: merge[2])]
            return {spell[token]: rank for token, rank in ranks.items()}, ordered

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=FromMemory(vocab_file="memory", pattern=official._pat_str).converted()
    )
    own = encoding_of(tokenizer, "there-and-back")
    for text in CORPUS:
        assert own.encode_ordinary(text) == official.encode_ordinary(text)


def changed(change, pre_tokenizer=GPT_2):
    parts = json.loads(trained(pre_tokenizer).backend_tokenizer.to_str())
    change(parts)
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(parts)))


def swap_merges(parts):
    merges = parts["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def drop_merge(parts):
    parts["model"]["merges"].pop()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swap_merges, "not in the order of their ids"),
        (drop_merge, "is never the result of its merges"),
        (lambda parts: parts["model"].update(ignore_merges=True), "it does not merge"),
        (lambda parts: parts.update(normalizer={"type": "Lowercase"}), "normalizer Lowercase"),
        (lambda parts: parts.update(pre_tokenizer={"type": "Whitespace"}), "pre-tokenizer is Whitespace"),
        (lambda parts: parts.update(pre_tokenizer=None), "pre-tokenizer is missing"),
        (lambda parts: parts["pre_tokenizer"].update(add_prefix_space=True), "pre-tokenizer is ByteLevel"),
        (lambda parts: parts["model"].update(end_of_word_suffix="</w>"), "not byte-level BPE"),
        (lambda parts: parts["added_tokens"][0].update(lstrip=True), "takes in the blanks"),
        (lambda parts: parts["model"]["vocab"].update({"日": 999}), "not one of bytes: it holds the character '日'"),
    ],
)
def test_what_tiktoken_would_cut_differently_is_refused(change, reason):
    with pytest.raises(BadRequestError, match=reason):
        encoding_of(changed(change), "other")


def test_token_that_begins_another_is_refused():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken("<|im_start|>x", special=True)])
    with pytest.raises(BadRequestError, match="begins another token"):
        encoding_of(tokenizer, "other")


def test_pattern_that_does_not_cover_the_text_is_refused():
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), BYTES])
    with pytest.raises(BadRequestError, match="cut a text for trial differently"):
        encoding_of(trained(split), "other")


def test_text_is_normalised_by_the_caller():
    tokenizer = trained(GPT_2, normalizers.NFC())
    own = encoding_of(tokenizer, "nfc")
    assert own.encode_ordinary("é") == tokenizer.encode("e\u0301")
