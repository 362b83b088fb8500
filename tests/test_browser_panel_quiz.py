"""The quiz panel as a learner meets it: three notebook apps in Chromium, mouse and keyboard."""

from __future__ import annotations

import json

import pytest
from browser import (
    IDLE,
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
from controls import check_every_control, choose, pick, press, type_into

from chatlab.questions.question_files import topic_of

pytestmark = needs_chromium

PANEL = 'import chatlab\nchatlab.quiz("roles")'
SLOW_TO_HEAR = """
import chatlab, pathlib, time
from chatlab.panels import QuizPanel

def wait_for_the_test(_):
    print("waiting")
    while not pathlib.Path("go-on").exists():
        time.sleep(0.1)

panel = QuizPanel("roles")
panel.fields.controls[0].observe(wait_for_the_test, "index")
panel
"""
PAYLOAD = "<img src=x onerror=window.harmed=1><script>window.harmed=1</script>"
ROLES = topic_of("roles")
KEYS = {question.kind: question.key for question in ROLES.questions}


def verdict(panel, words):
    panel.locator("[role=status]", has_text=words).first.wait_for()


def answer_by_keyboard(panel, question):
    """Answer the question that is shown, with no mouse."""
    panel = panel.locator(f".chatlab-{question.id}")
    if question.kind == "single":
        choose(panel.get_by_role("radio").nth(question.letters.index(question.key)))
    elif question.kind == "multiple":
        for number, letter in enumerate(question.letters):  # each may be drawn a moment after the one before
            box = panel.get_by_role("checkbox").nth(number)
            press(box, "Space")
            if letter not in question.key:
                press(box, "Space")
    elif question.kind == "order":
        for place, letter in enumerate(question.key):
            press(panel.get_by_role("combobox").nth(place), letter)
    else:
        type_into(panel.get_by_role("textbox").first, str(question.key))


def touch_by_mouse(panel, question):
    """Click on every control of the question that is shown; in the end nothing is chosen that was not at first."""
    panel = panel.locator(f".chatlab-{question.id}")
    if question.kind == "multiple":
        for box in panel.get_by_role("checkbox").all():
            box.click()
            box.click()
    elif question.kind == "order":
        for place in panel.get_by_role("combobox").all():
            pick(place, "choose")
    else:
        panel.get_by_role("radio" if question.kind == "single" else "textbox").first.click()


def test_the_whole_quiz_by_mouse_and_by_keyboard(page, lab):
    panel = show_panel(page, lab, "quiz-keyboard", PANEL)
    for number, question in enumerate(ROLES.questions, start=1):
        panel.get_by_text(f"Question {number} of 10, {number - 1} right").wait_for()
        press(button(panel, "Check"))
        panel.locator("[role=status]:not(:empty)").first.wait_for()
        press(button(panel, "Hint"))
        verdict(panel, "Hint.")
        touch_by_mouse(panel, question)
        if question.kind in ("predict-output", "number", "fix-the-request", "function"):
            panel.get_by_role("textbox").first.fill(PAYLOAD)
            button(panel, "Check").click()
            panel.locator("[role=status]:not(:has-text('Hint.'))").first.wait_for()
        answer_by_keyboard(panel, question)
        if question.kind in ("order", "multiple", "function"):
            screenshot(panel, f"panel-quiz-{question.kind}")
        press(button(panel, "Check"))
        verdict(panel, "✓ Right.")
        press(button(panel, "Next"), "Space")
    panel.get_by_text("10 of 10 right, 10 answered").wait_for()
    button(panel, "Back").and_(page.locator(":focus")).wait_for()  # a script brings the keyboard's place here
    press(button(panel, "Back"))
    panel.get_by_text("Question 10 of 10, 10 right").wait_for()
    button(panel, "Back").click()
    button(panel, "Hint").click()
    button(panel, "Next").click()
    panel.get_by_text("Question 10 of 10, 10 right").wait_for()
    check_every_control(panel)
    assert page.evaluate("window.harmed") is None and panel.locator("img, script").count() == 0
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


def test_the_answer_that_stood_there_when_check_was_pressed_is_marked(page, lab):
    panel = show_panel(page, lab, "quiz-slow", SLOW_TO_HEAR)
    for letter in ("A", "B", "C"):  # Python is at work on the first; the page holds the others back
        panel.get_by_role("radio").nth("ABCD".index(letter)).check()
    button(panel, "Check").click()
    page.wait_for_timeout(1000)
    (lab.folder / "go-on").touch()
    panel.locator("[role=status] strong").first.wait_for()
    verdict(panel, "✓ Right.")
    panel.get_by_text("Question 1 of 10, 1 right").wait_for()


def test_it_answers_while_a_cell_runs(page, lab):
    open_notebook(page, lab, "quiz-meanwhile", PANEL, "print('begun')\ninput()")
    panel = run_cell(page).locator(".chatlab-panel").first
    panel.wait_for()
    cell = run_cell(page, 1)
    cell.get_by_text("begun").wait_for()
    panel.get_by_role("radio").nth(2).check()
    button(panel, "Check").click()
    verdict(panel, "✓ Right.")
    cell.get_by_role("textbox").fill("over")
    page.keyboard.press("Enter")
    page.wait_for_selector(IDLE)


def test_accessible_in_both_themes_and_readable_when_narrow(page, lab):
    panel = show_panel(page, lab, "quiz-themes", PANEL)
    for number, question in enumerate(ROLES.questions, start=1):
        panel.get_by_text(f"Question {number} of 10").first.wait_for()
        if KEYS[question.kind] == question.key:  # one of each kind
            if question.kind == "single":  # its own radio: those of the question before may still be drawn
                panel.locator(f".chatlab-{question.id}").get_by_role("radio").first.check()
                button(panel, "Check").click()
                panel.locator("[role=status] strong").first.wait_for()
            for theme in ("Dark", "Light"):
                set_theme(page, theme)
                check_accessible(page)
                screenshot(panel, f"panel-quiz-{theme.lower()}-{question.kind}")
        if question.kind == "multiple":
            page.set_viewport_size({"width": 700, "height": 1200})
            screenshot(panel, "panel-quiz-700")
            cut_off = panel.evaluate("panel => panel.scrollWidth - panel.clientWidth")
            page.set_viewport_size({"width": 1280, "height": 1600})
            assert cut_off <= 1, "something is cut off"
        button(panel, "Next").click()
    panel.get_by_text("answered").first.wait_for()
    check_accessible(page)


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
            answer_by_keyboard(panel, question)
            press(button(panel, "Check"))
            verdict(panel, "✓ Right.")
            press(button(panel, "Next"))
        panel.get_by_text("10 of 10 right").wait_for()
        check_accessible(page)
        screenshot(panel, f"panel-quiz-{app}")
        assert [each for each in page.console_errors if "ERR_NAME_NOT_RESOLVED" not in each] == []
        page.goto("about:blank")
