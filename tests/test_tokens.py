from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab import BadRequestError
from chatlab.encodings import encoding as tiktoken_encoding
from chatlab.messages import system, user
from chatlab.templating import Prompt, render
from chatlab.testing import ScriptedModel
from chatlab.token_table import Token, TokenTable
from chatlab.tokens import Detokenizer, count_tokens, decode, encode, token_bytes, tokenize

HARD = [
    "",
    "naïve café",
    "한국어 テスト",
    "👩‍👩‍👧‍👦 🎉🏳️‍🌈",
    "e\u0301 a\u0308",
    "x = 10  **  20",
    "hello  12345 1st a1b",
    "\n\n\t  end ",
]

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</style><script>alert(1)</script>",
    "<|im_end|><b>",
    "<!-- --><iframe srcdoc='<script>'>",
]


def stream(ids, tokenizer):
    detokenizer = Detokenizer(tokenizer)
    return [detokenizer.decode(token_id) for token_id in ids], detokenizer.flush()


@pytest.mark.parametrize("text", HARD)
def test_real_tokenizer_round_trip_streamed_and_whole(model, text):
    ids = encode(text, model=model)
    pieces, rest = stream(ids, model.tokenizer)
    assert decode(ids, model=model) == "".join(pieces) + rest == text
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)


@settings(max_examples=200)
@given(st.text())
def test_streamed_text_is_the_whole_text_and_never_half_a_character(text):
    pieces, rest = stream(list(text.encode()), ScriptedModel("").tokenizer)
    assert "".join(pieces) + rest == text
    assert rest == "" or text.endswith("\N{REPLACEMENT CHARACTER}")


@given(st.binary())
def test_broken_bytes_come_out_as_a_decoder_would_write_them(data):
    pieces, rest = stream(list(data), ScriptedModel("").tokenizer)
    assert "".join(pieces) + rest == data.decode(errors="replace")


def test_flush_gives_what_was_held_back_once():
    detokenizer = Detokenizer(ScriptedModel("").tokenizer)
    assert [detokenizer.decode(byte) for byte in "🎉".encode()[:3]] == ["", "", ""]
    assert detokenizer.flush() == "\N{REPLACEMENT CHARACTER}"
    assert detokenizer.flush() == ""


def test_known_reference(model):
    assert encode("hello  12345 1st a1b", model=model) == [28120, 256, 33, 34, 35, 36, 37, 216, 33, 302, 253, 33, 82]


@pytest.mark.parametrize("text", HARD)
def test_token_bytes_add_up_to_the_text(model, text):
    pieces = [token_bytes(token_id, model.tokenizer) for token_id in encode(text, model=model)]
    assert b"".join(pieces) == text.encode()


def test_control_token_has_no_bytes(model):
    assert token_bytes(model.end_token_ids[0], model.tokenizer) is None


def test_count_of_messages_counts_the_whole_prompt(model):
    messages = [system("You are a helpful assistant."), user("What is the capital of France?")]
    ids = model.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert count_tokens(messages, model=model) == len(ids)
    assert count_tokens("Hello", model=model) == len(encode("Hello", model=model))


@pytest.mark.parametrize("encoding", [None, "cl100k_base"])
@pytest.mark.parametrize("text", HARD)
def test_table_has_the_same_ids_and_covers_the_text(model, text, encoding):
    table = tokenize(text, encoding=encoding, model=model)
    expected = encode(text, model=model) if encoding is None else tiktoken_encoding(encoding).encode(text)
    assert table.ids == [token.id for token in table] == expected
    assert count_tokens(text, encoding=encoding, model=model) == len(table) == len(expected)
    assert b"".join(token.bytes for token in table) == text.encode()
    assert {place for token in table for place in range(token.start, token.end)} == set(range(len(text)))
    for token in table:
        assert token.bytes in text[token.start : token.end].encode()
        assert (token.piece == text[token.start : token.end]) == token.is_whole or not token.is_whole


def test_parts_of_a_character_are_placed_on_that_character(model):
    table = tokenize("a🏳b", model=model)
    assert len(table) > 3 and {(token.start, token.end) for token in table} == {(0, 1), (1, 2), (2, 3)}
    parts = [token for token in table if not token.is_whole]
    assert len(parts) > 1 and b"".join(token.bytes for token in parts) == "🏳".encode()
    assert "part of a character" in repr(table) and ">part " in table._repr_html_()


def test_control_tokens_and_forged_ones(model):
    table = tokenize([user("a<|im_end|>b")], model=model)
    assert [token.piece for token in table if token.is_control].count("<|im_end|>") == 2, "of system and user"
    assert table.ids == encode(render([user("a<|im_end|>b")], model=model), model=model)
    rendered = render([user("a<|im_end|>b")], model=model)
    assert tokenize(rendered, model=model) == table
    assert "".join(rendered[token.start : token.end] for token in table) == rendered
    assert "control token" in repr(table) and ">control 2<" in table._repr_html_()


def test_messages_are_told_by_the_spans_of_a_prompt():
    class Spanned(Prompt):
        spans = (
            SimpleNamespace(start=0, end=2, kind="header", message=None),
            SimpleNamespace(start=2, end=4, kind="content", message=0),
            SimpleNamespace(start=4, end=6, kind="content", message=1),
        )

    table = tokenize(Spanned("abcdef"), model=ScriptedModel(""))
    assert [token.message for token in table] == [None, None, 0, 0, 1, 1]
    assert "message 1" in table._repr_html_()


def test_own_encoding_object_reads_control_tokens_as_the_model_does(model):
    prompt = render([user("a<|im_end|>b")], model=model)
    assert tokenize(prompt, encoding=tiktoken_encoding(model)).ids == tokenize(prompt, model=model).ids
    assert count_tokens(prompt, encoding=model) == count_tokens(prompt, encoding=tiktoken_encoding(model))


def test_messages_for_a_hosted_model_are_counted_by_openais_rule():
    """The example of OpenAI's cookbook, where its API reported 129 prompt tokens for gpt-4."""
    translate = "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."
    example = [
        ("system", None, translate),
        ("system", "example_user", "New synergies will help drive top-line growth."),
        ("system", "example_assistant", "Things working well together will increase revenue."),
        (
            "system",
            "example_user",
            "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        ),
        ("system", "example_assistant", "Let's talk later when we're less busy about how to do better."),
        (
            "user",
            None,
            "This late pivot means we don't have time to boil the ocean for the client deliverable.",
        ),
    ]
    messages = [
        {"role": role, "content": content} | ({"name": name} if name else {}) for role, name, content in example
    ]
    assert count_tokens(messages, encoding="gpt-4") == 129


def test_messages_have_no_table_for_a_hosted_model():
    with pytest.raises(BadRequestError, match="is not public, so they have no table"):
        tokenize([user("Hi")], encoding="cl100k_base")


@pytest.mark.parametrize("function", [tokenize, count_tokens])
@pytest.mark.parametrize("encoding", [None, "cl100k_base"])
def test_what_is_no_text_is_refused(function, encoding):
    for bad in (5, None, b"bytes", [], ["Hi"], "half \ud83d"):
        with pytest.raises(BadRequestError):
            function(bad, encoding=encoding, model=ScriptedModel(""))


def test_messages_are_encoded_as_their_prompt_and_nothing_else_is():
    model, messages = ScriptedModel(""), [user("Hi <|im_end|>")]
    assert encode(messages, model=model) == encode(render(messages, model=model), model=model)
    for bad in (5, None, b"bytes", [], ["Hi"], "half \ud83d"):
        with pytest.raises(BadRequestError):
            encode(bad, model=model)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (None, "must be a list such as .*, not None"),
        ("Hi", "must be a list such as .*, not str 'Hi'"),
        ([72, "a"], r"token_ids\[1\] must be a whole number"),
        ([-1], "must be at least 0"),
        ([258], "must be at most 257, but is 258"),
    ],
)
def test_what_are_no_token_ids_is_refused(bad, says):
    with pytest.raises(BadRequestError, match=says):
        decode(bad, model=ScriptedModel(""))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_table_escapes_the_text(payload):
    for table in (tokenize(payload, encoding="cl100k_base"), tokenize(payload, model=ScriptedModel(""))):
        page = table._repr_html_().partition("</style>")[2]
        for opening in ("<script", "<img", "<svg", "<iframe", "<b>", "</style", "<!--"):
            assert opening not in page
    named = TokenTable((Token(1, payload, None, 0, 1),), payload)._repr_html_().partition("</style>")[2]
    assert "<script" not in named and "<svg" not in named and "<img" not in named


def test_long_tables_are_cut_in_the_middle():
    table = tokenize("ab" * 1000, model=ScriptedModel(""))
    lines = repr(table).splitlines()
    assert len(lines) == 63 and lines[0] == "2000 tokens of scripted" and lines[52] == " … 1940 more …"
    assert lines[51].split()[0] == "49" and lines[53].split()[0] == "1990"
    assert "… and 1000 more tokens" in table._repr_html_()
    assert repr(tokenize("", model=ScriptedModel(""))) == "0 tokens of scripted"
    assert table[:2].ids == [97, 98] and table[-1].piece == "b"


def test_white_space_is_visible():
    table = tokenize(" \n\t", model=ScriptedModel(""))
    assert all(shown in repr(table) for shown in ("' '", r"'\n'", r"'\t'"))
    assert all(f">{shown}<" in table._repr_html_() for shown in "·↵→")


@pytest.mark.parametrize("encoding", [None, "cl100k_base"])
@given(text=st.lists(st.sampled_from(["<|im_end|>", "<|endoftext|>", "a", " ", "é"])).map("".join))
def test_control_tokens_are_ordinary_text_where_they_are_not_allowed(encoding, text):
    options = {"encoding": encoding, "model": ScriptedModel(""), "allow_control_tokens": False}
    table = tokenize(text, **options)
    assert b"".join(token.bytes for token in table) == text.encode()
    assert count_tokens(text, **options) == len(table)
