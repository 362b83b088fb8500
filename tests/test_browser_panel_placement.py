"""The placement test as a newcomer takes it in JupyterLab: by keyboard alone, by mouse, in light and dark."""

from __future__ import annotations

import pytest
from browser import button, check_accessible, needs_chromium, screenshot, set_theme, show_panel

from chatlab.questions.placements import placement_questions

pytestmark = needs_chromium

PANEL = "import chatlab\nchatlab.placement(record=False)"
ASKED = [question for _, question in placement_questions()]


def standing(panel, number, right):
    panel.get_by_text(f"Question {number} of {len(ASKED)}, {right} right").first.wait_for()


def wait_for_focus(page, name):
    page.wait_for_function("name => document.activeElement.textContent.trim() === name", arg=name)


def test_the_keyboard_keeps_its_place_from_the_first_question_to_the_result(page, lab):
    panel = show_panel(page, lab, "placement-keyboard", PANEL)
    for number, question in enumerate(ASKED, start=1):
        standing(panel, number, number - 1)
        fields = panel.locator(f".chatlab-{question.id}")
        if question.kind == "number":
            fields.get_by_role("textbox").first.focus()
            page.keyboard.press("Control+a")
            page.keyboard.insert_text(str(question.key))
        else:
            for letter in question.key:
                role = "checkbox" if question.kind == "multiple" else "radio"
                fields.get_by_role(role).nth(question.letters.index(letter)).focus()
                page.keyboard.press("Space")
        button(panel, "Check").focus()
        page.keyboard.press("Enter")
        panel.locator("[role=status]", has_text="✓ Right.").first.wait_for()
        wait_for_focus(page, "Next")
        page.keyboard.press("Enter")
    panel.get_by_text("strong: 10 of 10 right").wait_for()
    panel.get_by_text("You missed none.").wait_for()
    wait_for_focus(page, "Back")
    assert page.console_errors == []


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_a_newcomer_is_told_where_to_begin(page, lab, theme):
    panel = show_panel(page, lab, f"placement-{theme}", PANEL)
    set_theme(page, theme)
    for number, question in enumerate(ASKED, start=1):
        standing(panel, number, min(number - 1, 6))
        if number <= 6:
            fields = panel.locator(f".chatlab-{question.id}")
            if question.kind == "number":
                fields.get_by_role("textbox").first.fill(str(question.key))
            for letter in question.key if question.kind in ("single", "multiple") else ():
                role = "checkbox" if question.kind == "multiple" else "radio"
                fields.get_by_role(role).nth(question.letters.index(letter)).check()
            button(panel, "Check").click()
            panel.locator("[role=status]", has_text="✓ Right.").first.wait_for()
        button(panel, "Next").click()
    panel.get_by_text("getting there: 6 of 10 right").wait_for()
    assert panel.get_by_role("listitem").all_inner_texts() == [
        "07 · Streaming",
        "08 · Under the hood",
        "10 · Pitfalls, and when not to use it",
        "11 · Production patterns",
    ]
    check_accessible(page)
    screenshot(panel, f"placement-{theme.lower()}")
