"""The panels of progress and recall, driven from Python."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from test_panel_quiz import page

import chatlab
from chatlab.panels import ProgressPanel, RecallPanel
from chatlab.progress import Progress
from chatlab.recall import Recall

PAYLOAD = "<img src=x onerror=alert(1)><script>alert(1)</script>"


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("CHATLAB_RECORDS", str(tmp_path / "records"))
    monkeypatch.chdir(tmp_path)


def test_progress_shows_saves_and_deletes(tmp_path):
    panel = ProgressPanel()
    assert "Nothing is answered yet." in panel.tables.value and repr(panel) == "ProgressPanel(0 answers)"
    chatlab.quiz("roles").answer("A")
    panel.refresh_button.click()
    assert "The reply takes the role of the last message." in panel.tables.value and "9 to go" in panel.static_html()
    panel.save_button.click()
    assert "roles-reply" in (tmp_path / "chatlab-progress.csv").read_text() and "Saved as" in panel.status.value
    panel.form.index = 1
    panel.save_button.click()
    assert len(json.loads((tmp_path / "chatlab-progress.json").read_text())) == 1
    panel.save("x.doc")
    assert "cannot be written" in panel.status.value
    assert panel.delete_button.disabled, "one has to say yes first"
    panel.sure.value = True
    panel.delete_button.click()
    assert Progress().answers == [] and panel.delete_button.disabled and "Nothing is answered" in panel.tables.value


def test_recall_shows_the_back_only_when_asked_and_goes_on():
    panel = RecallPanel("roles")
    card = panel.card
    assert card.front in panel.face.value and card.back not in page(panel) + panel.static_html()
    panel.rate("Good")
    assert panel.card is card, "nothing is rated unseen"
    panel.show_button.click()
    assert card.back in panel.face.value and panel.show_button.disabled
    panel.rating_buttons["Easy"].click()
    assert panel.card != card and "12 due of 13" in panel.heading.value and "Easy: that card" in panel.status.value
    assert all(button.disabled for button in panel.rating_buttons.values())


def test_recall_ends_with_the_next_date():
    panel = RecallPanel("roles")
    for _ in panel.recall.cards:
        panel.show_answer()
        panel.rate("Easy")
    assert panel.card is None and "The next one is due on" in panel.face.value and panel.show_button.disabled
    panel.show_answer()
    assert repr(panel) == "RecallPanel(0 due of 13)"


def test_nothing_becomes_markup(records):
    recall = Recall("roles")
    recall.cards = [replace(recall.cards[0], front=PAYLOAD, back=PAYLOAD)]
    panel = RecallPanel(recall=recall)
    panel.show_answer()
    shown = panel.face.value + panel.static_html()
    assert "<script" not in shown and "<img" not in shown and shown.count("&lt;script") == 4
