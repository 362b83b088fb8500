"""The quiz panel as a learner meets it: three notebook apps in Chromium, mouse and keyboard."""

from __future__ import annotations

import json

import pytest
from browser import (
    button,
    check_accessible,
    needs_chromium,
    open_notebook,
    other_app,
    run_cell,
    screenshot,
    set_theme,
    show_panel,
    write_notebook,
)

from chatlab.questions.question_files import topic_of

pytestmark = needs_chromium

PANEL = 'import chatlab\nchatlab.quiz("roles")'
ROLES = topic_of("roles")
KEYS = {question.kind: question.key for question in ROLES.questions}


def verdict(panel, words):
    panel.locator("[role=status]", has_text=words).first.wait_for()


def press(page, control, key):
    control.focus()
    page.keyboard.press(key)


def answer_by_keyboard(page, panel, question):
    """Answer the question that is shown, with no mouse."""
    panel = panel.locator(f".chatlab-{question.id}")
    if question.kind == "single":
        panel.get_by_role("radio").first.focus()
        for _ in range(question.letters.index(question.key)):
            page.keyboard.press("Tab")
        page.keyboard.press("Space")
    elif question.kind == "multiple":
        for letter in question.key:
            press(page, panel.get_by_role("checkbox").nth(question.letters.index(letter)), "Space")
    elif question.kind == "order":
        for place, letter in enumerate(question.key):
            panel.get_by_role("combobox").nth(place).focus()
            page.keyboard.type(letter)
    else:
        field = panel.get_by_role("textbox").first
        field.focus()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(str(question.key))


def test_the_whole_quiz_by_keyboard(page, lab):
    panel = show_panel(page, lab, "quiz-keyboard", PANEL)
    for number, question in enumerate(ROLES.questions, start=1):
        panel.get_by_text(f"Question {number} of 10, {number - 1} right").wait_for()
        press(page, button(panel, "Check"), "Enter")
        panel.locator("[role=status]:not(:empty)").first.wait_for()
        press(page, button(panel, "Hint"), "Enter")
        verdict(panel, "Hint.")
        answer_by_keyboard(page, panel, question)
        if question.kind in ("order", "multiple", "function"):
            screenshot(panel, f"panel-quiz-{question.kind}")
        press(page, button(panel, "Check"), "Enter")
        verdict(panel, "✓ Right.")
        press(page, button(panel, "Next"), "Space")
    panel.get_by_text("10 of 10 right, 10 answered").wait_for()
    press(page, button(panel, "Back"), "Enter")
    panel.get_by_text("Question 10 of 10, 10 right").wait_for()
    assert page.console_errors == []


def test_wrong_answers_by_mouse_and_no_key_in_the_page_or_the_file(page, lab):
    panel = show_panel(page, lab, "quiz-mouse", PANEL)
    secret = [ROLES.questions[0].choices[place].explanation for place in range(4)]

    def page_and_file():
        page.keyboard.press("Control+s")
        page.wait_for_timeout(1000)
        return page.content() + json.dumps(json.loads((lab.folder / "quiz-mouse.ipynb").read_text()))

    seen = page_and_file()
    assert "Question 1 of 10" in seen and not any(text in seen for text in [*secret, *ROLES.misconceptions.values()])
    panel.get_by_role("radio").first.check()
    button(panel, "Check").click()
    verdict(panel, "✗ Not yet.")
    verdict(panel, "The reply takes the role of the last message.")
    screenshot(panel, "panel-quiz-wrong")
    assert not any(text in page_and_file() for text in secret[1:])
    button(panel, "Next").click()
    button(panel, "Back").click()
    panel.get_by_text("Question 1 of 10").wait_for()
    panel.get_by_role("radio", checked=True).wait_for()
    assert panel.get_by_role("radio").first.is_checked()
    panel.get_by_role("radio").nth(2).check()
    button(panel, "Check").click()
    verdict(panel, "✓ Right.")
    for number in range(2, 12):
        button(panel, "Next").click()
        panel.get_by_text(f"Question {number} of 10" if number < 11 else "1 of 10 right").first.wait_for()
    panel.get_by_text("not answered").first.wait_for()
    screenshot(panel, "panel-quiz-result")
    assert page.console_errors == []


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_accessible_in_both_themes(page, lab, theme):
    panel = show_panel(page, lab, f"quiz-{theme}", PANEL)
    set_theme(page, theme)
    for number, question in enumerate(ROLES.questions, start=1):
        panel.get_by_text(f"Question {number} of 10").first.wait_for()
        if question.kind in KEYS and KEYS[question.kind] == question.key:
            if question.kind == "single":
                panel.get_by_role("radio").first.check()
                button(panel, "Check").click()
                panel.locator("[role=status] strong").first.wait_for()
            check_accessible(page)
            screenshot(panel, f"panel-quiz-{theme.lower()}-{question.kind}")
        button(panel, "Next").click()
    panel.get_by_text("answered").first.wait_for()
    check_accessible(page)


def test_readable_when_narrow(page, lab):
    panel = show_panel(page, lab, "quiz-narrow", PANEL)
    for _ in range(4):
        button(panel, "Next").click()
    panel.get_by_role("checkbox").first.wait_for()
    size = page.viewport_size
    page.set_viewport_size({"width": 700, "height": 1200})
    try:
        screenshot(panel, "panel-quiz-700")
        assert panel.evaluate("panel => panel.scrollWidth - panel.clientWidth") <= 1, "something is cut off"
    finally:
        page.set_viewport_size(size)


def test_the_text_form_answers_in_a_cell(page, lab):
    open_notebook(page, lab, "quiz-answers", 'import chatlab\nquiz = chatlab.quiz("roles")\nquiz.answer("A")')
    run_cell(page).get_by_text("A common belief: The reply takes the role").wait_for()


@pytest.mark.parametrize("app", ["notebook", "voila"])
def test_in_other_apps_too(page, tmp_path, model, app):
    path = write_notebook(tmp_path / "quiz.ipynb", PANEL)
    with other_app(app, path) as address:
        page.goto(address)
        if app == "notebook":
            page.locator(".jp-CodeCell .jp-InputArea-editor").first.click()
            page.keyboard.press("Control+Enter")
        panel = page.locator(".chatlab-panel").first
        panel.wait_for()
        page.console_errors.clear()  # those of the app itself, as it starts
        for number, question in enumerate(ROLES.questions, start=1):
            panel.get_by_text(f"Question {number} of 10, {number - 1} right").wait_for()
            answer_by_keyboard(page, panel, question)
            press(page, button(panel, "Check"), "Enter")
            verdict(panel, "✓ Right.")
            press(page, button(panel, "Next"), "Enter")
        panel.get_by_text("10 of 10 right").wait_for()
        check_accessible(page)
        screenshot(panel, f"panel-quiz-{app}")
        assert [each for each in page.console_errors if "ERR_NAME_NOT_RESOLVED" not in each] == []
        page.goto("about:blank")
