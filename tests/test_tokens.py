import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab.messages import system, user
from chatlab.testing import ScriptedModel
from chatlab.tokens import Detokenizer, count_tokens, decode, encode, token_bytes

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
