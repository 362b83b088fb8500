"""Where there are no widgets, a panel is a page: nbconvert's HTML, GitHub, an e-mail."""

from __future__ import annotations

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbconvert import HTMLExporter

import chatlab.panels
from chatlab.display import view

# How each panel is made, and what a page shows of it.
SHOWN = {
    "ChatPanel": (
        "ChatPanel(Conversation([user('Hi'), assistant('**Hello!**')], model=model))",
        "Hello!",
    ),
    "ComparePanel": ("ComparePanel(Conversation(model=model), names=('one', 'other'))", "other"),
    "ContextPanel": ("ContextPanel(model=model)", "My name is Ana."),
    "GlassBox": ("GlassBox('What is the capital of France?', model=model)", "What is the capital of France?"),
    "GuessPanel": ("GuessPanel(chatlab.predict('How many messages?', ['one', 'two']))", "B, two"),
    "ProgressPanel": ("ProgressPanel()", "answer"),
    "QuizPanel": ("QuizPanel('roles')", "1 of 10"),
    "RecallPanel": ("RecallPanel('roles')", "Which two keys does every message have?"),
    "SamplingPanel": ("SamplingPanel('My favourite animal is the', model=model)", "My favourite animal is the"),
    "StreamPanel": ("StreamPanel('Tell me about the sea.', model=model)", "Tell me about the sea."),
    "TemplatePanel": ("TemplatePanel([user('What is the capital?')], model=model)", "What is the capital?"),
    "TokenPanel": ("TokenPanel('abc', model=model)", "a 97 b 98 c 99"),
}
SETUP = """
import os, tempfile
import chatlab
os.environ["CHATLAB_RECORDS"] = tempfile.mkdtemp()  # the progress of a learner who has just begun
from chatlab import Conversation, assistant, user
from chatlab.panels import *
from chatlab.testing import ScriptedModel
model = ScriptedModel("Hello!")
"""


def words(html):
    """The text of a page as a reader sees it."""
    page = BeautifulSoup(html, "html.parser")
    for style in page(["style", "script"]):
        style.decompose()
    return " ".join(page.get_text(" ").split())


def test_every_panel_is_tried():
    assert set(SHOWN) == set(chatlab.panels.__all__)


@pytest.fixture(scope="module")
def outputs():
    """What each panel leaves in a notebook that was run, and the page that nbconvert makes of it."""
    cells = [SETUP, *(code for code, _ in SHOWN.values())]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=False).execute()
    kept = [cell.outputs[-1].data for cell in notebook.cells[1:]]
    page, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    return dict(zip(SHOWN, kept, strict=True)), page


@pytest.mark.parametrize("name", SHOWN)
def test_nbconvert_shows_the_static_form(outputs, name):
    kept, page = outputs
    html, text = kept[name]["text/html"], kept[name]["text/plain"]
    assert SHOWN[name][1] in words(html) and words(html) in words(page)
    assert text.startswith(f"{name}(") and "0x" not in text and len(text) < 200
    assert "<script" not in html and "onerror" not in html and "<button" not in html
    assert html.startswith(view("")[:20])
