"""The panels of progress and recall as a learner meets them: mouse and keyboard, both themes."""

from __future__ import annotations

import pytest
from browser import button, check_accessible, needs_chromium, screenshot, set_theme, show_panel

pytestmark = needs_chromium

PROGRESS = """
import chatlab
quiz = chatlab.quiz("roles")
for answer in ("A", "C", "B", "A"):
    quiz.answer(answer)
from chatlab.panels import ProgressPanel
ProgressPanel()
"""
RECALL = """
import os, tempfile
os.environ["CHATLAB_RECORDS"] = tempfile.mkdtemp()  # the cards of a learner who has just begun
from chatlab.panels import RecallPanel
RecallPanel("roles")
"""


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_progress(page, lab, theme):
    panel = show_panel(page, lab, f"progress-{theme}", PROGRESS)
    set_theme(page, theme)
    panel.get_by_text("The reply takes the role of the last message.").wait_for()
    button(panel, "Refresh").click()
    check_accessible(page)
    screenshot(panel, f"panel-progress-{theme.lower()}")
    panel.get_by_label("Save as").select_option(index=1)
    button(panel, "Save").focus()
    page.keyboard.press("Enter")
    panel.get_by_text("Saved as chatlab-progress.json").wait_for()
    assert (lab.folder / "chatlab-progress.json").is_file()
    panel.get_by_role("checkbox").focus()
    page.keyboard.press("Space")
    button(panel, "Delete all").click()
    panel.get_by_text("Nothing is answered yet.").wait_for()
    assert page.console_errors == []


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_recall(page, lab, theme):
    panel = show_panel(page, lab, f"recall-{theme}", RECALL)
    set_theme(page, theme)
    panel.get_by_text("13 due of 13").wait_for()
    button(panel, "Show answer").focus()
    page.keyboard.press("Enter")
    panel.get_by_text("role and content").wait_for()
    check_accessible(page)
    screenshot(panel, f"panel-recall-{theme.lower()}")
    button(panel, "Easy").focus()
    page.keyboard.press("Space")
    panel.get_by_text("12 due of 13").wait_for()
    panel.get_by_text("Easy: that card comes back on").wait_for()
    button(panel, "Show answer").click()
    button(panel, "Again").click()
    panel.get_by_text("11 due of 13").wait_for()
    assert page.console_errors == []
