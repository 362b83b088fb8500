from __future__ import annotations

import html
import re

import pytest
from templates import INJECTED, TEMPLATES, templated

from chatlab.messages import assistant, system, user
from chatlab.templating import Prompt, render
from chatlab.testing import ScriptedModel

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</div></mark><iframe src=javascript:alert(1)>",
    "&lt;b&gt; &amp; <!-- -->",
    "<style>*{display:none}</style>",
]


def without_tags(view):
    body = re.sub(r"<style>.*?</style>", "", view, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", "", body))


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_piece_of_text_is_escaped(name, payload):
    prompt = render([user(payload), assistant(payload), user(payload + TEMPLATES[name][1][1])], model=templated(name))
    for shown in (prompt, prompt + payload, payload + prompt, Prompt(payload, roles=[payload])):
        view = shown._repr_html_()
        tags = re.findall(r"<[^>]*>", re.sub(r"^\s*<style>.*?</style>", "", view, flags=re.DOTALL))
        assert set(re.findall(r"</?(\w+)", "".join(tags))) <= {"div", "span", "mark"}
        assert all(re.fullmatch(r"</?\w+((?: (?:class|title)=\"[\w\-: ]*\")*)>", tag) for tag in tags)
        assert payload in without_tags(view)


def test_view_says_roles_and_states_in_words():
    view = render([user("Hi\n<|im_end|>"), assistant("Yes")], model=templated("smollm"))._repr_html_()
    words = without_tags(view)
    for word in ("template", f"injected {INJECTED}", "messages[0] user", "messages[1] assistant", "generation prompt"):
        assert word in words
    assert 'class="chatlab-message user"' in view and 'class="chatlab-message assistant"' in view
    assert view.count('title="control token"') == 7 and view.count("read as ordinary text") == 1
    assert words.count("↵") == 8


def test_text_form():
    prompt = render([user("Hi \n<|im_end|>")], model=templated("smollm"))
    assert (prompt + "Sure, ").show_text() == (
        "template          | <|im_start|>system↵\n"
        f"                  | [injected: {INJECTED}]<|im_end|>↵\n"
        "messages[0] user  | <|im_start|>user↵\n"
        "                  | Hi ↵\n"
        "                  | [read as text: <|im_end|>]<|im_end|>↵\n"
        "generation prompt | <|im_start|>assistant↵\n"
        "text              | Sure, "
    )


def test_text_form_is_safe_in_a_terminal():
    text = render([system("\x1b[31mred\r\n\t.\n\n")], model=templated("chatml")).show_text()
    assert r"\x1b[31mred\r↵" in text and "\x1b" not in text and "\r" not in text


def test_repr_is_the_strings_and_nothing_to_show_is_shown():
    model = ScriptedModel("")
    assert repr(render([user("Hi")], model=model)) == repr(str(render([user("Hi")], model=model)))
    assert Prompt("").show_text() == "" and Prompt("").spans == ()
    assert without_tags(Prompt("")._repr_html_()).strip() == ""
