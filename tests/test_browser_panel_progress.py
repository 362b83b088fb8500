"""The panels of progress and recall as a learner meets them: mouse and keyboard, both themes."""

from __future__ import annotations

from browser import button, check_accessible, needs_chromium, screenshot, set_theme, show_panel
from controls import check_every_control, choose, pick, press

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


def click(control):
    control.click()


def test_progress(page, lab):
    panel = show_panel(page, lab, "progress", PROGRESS)
    panel.get_by_text("The reply takes the role of the last message.").wait_for()
    for theme in ("Dark", "Light"):
        set_theme(page, theme)
        check_accessible(page)
        screenshot(panel, f"panel-progress-{theme.lower()}")
    form = panel.get_by_label("Save as")
    pick(form, "JSON, as in xAPI")
    click(button(panel, "Save"))
    panel.get_by_text("Saved as chatlab-progress.json").wait_for()
    choose(form, "CSV, for a spreadsheet")
    press(button(panel, "Save"))
    panel.get_by_text("Saved as chatlab-progress.csv").wait_for()
    assert all((lab.folder / f"chatlab-progress.{kind}").is_file() for kind in ("json", "csv"))
    for use in (click, press):
        use(button(panel, "Refresh"))
        panel.get_by_text("Saved as").wait_for(state="detached")
    click(panel.get_by_role("checkbox"))
    click(button(panel, "Delete all"))
    panel.get_by_text("Nothing is answered yet.").wait_for()
    press(panel.get_by_role("checkbox"), "Space")
    press(button(panel, "Delete all").and_(panel.locator(":enabled")))
    panel.get_by_text("All your answers and predictions are deleted.").wait_for()
    check_every_control(panel)
    assert page.console_errors == []


def test_recall(page, lab):
    panel = show_panel(page, lab, "recall", RECALL)
    panel.get_by_text("13 due of 13").wait_for()
    button(panel, "Show answer").click()
    panel.get_by_text("role and content").wait_for()
    for theme in ("Dark", "Light"):
        set_theme(page, theme)
        check_accessible(page)
        screenshot(panel, f"panel-recall-{theme.lower()}")
    due = 13
    for rating in ("Again", "Hard", "Good", "Easy"):
        for use in (click, press):
            if due < 13:  # the first card is turned over already
                use(button(panel, "Show answer"))
            use(button(panel, rating))
            due -= 1
            panel.get_by_text(f"{due} due of 13").wait_for()
            panel.get_by_text(f"{rating}: that card comes back on").wait_for()
    check_every_control(panel)
    assert page.console_errors == []
