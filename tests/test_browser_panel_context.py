"""The context panel as a learner uses it: real JupyterLab, the real model, mouse and keyboard."""

from __future__ import annotations

import time

import pytest
from browser import button, check_accessible, needs_chromium, screenshot, set_theme, show_panel
from controls import check_every_control, choose, pick, press, step, type_into

pytestmark = needs_chromium

PAYLOAD = "<img src=x onerror=document.title='hacked'><script>document.title='hacked'</script>"


# The real model, as slow as on a small machine: else its short answer is there before a key is pressed.
PANEL = """
import time, chatlab
from chatlab.panels import ContextPanel
model = chatlab.load()
read = model.next_logits_of_many
model.next_logits_of_many = lambda texts: (time.sleep(0.05), read(texts))[1]
ContextPanel(model=model)
"""


@pytest.fixture(scope="module")
def panel(page, lab):
    return show_panel(page, lab, "context", PANEL)


def field(panel, name):
    return panel.get_by_role("spinbutton", name=name)


def strategy(panel):
    return panel.get_by_role("combobox", name="Strategy")


def wait_for(panel, text):
    panel.locator(f"text={text}").first.wait_for()


def answers(panel):
    return panel.locator("table:has(th:text-is('answer')) tr td:last-child").all_inner_texts()


def ask(panel, press):
    number = len(answers(panel))
    press()
    panel.locator(f"table:has(th:text-is('answer')) tr >> nth={number + 1}").wait_for()
    wait_for(panel, "Answered with")
    return answers(panel)[-1]


def test_the_name_is_known_until_its_turn_has_gone(panel, page):
    wait_for(panel, "13 of 13 turns are sent: nothing has to go")
    assert panel.locator("text=not sent").count() == 0
    assert "Ana." in ask(panel, button(panel, "Ask").click)
    presets = panel.locator(".widget-toggle-buttons button")
    presets.nth(2).click()
    wait_for(panel, "the first is not among them")
    panel.locator("td del:has-text('My name is Ana.')").wait_for()
    assert panel.locator("text=✕ not sent").count() >= 2
    question = panel.get_by_role("textbox", name="Question")
    assert "Ana." not in ask(panel, lambda: press(question))
    for use in (lambda preset: preset.click(), press):
        for preset in reversed(presets.all()):
            use(preset)
            panel.locator(f"text=/limit {preset.inner_text().split(':')[0]}/").first.wait_for()
    assert "Ana." not in ask(panel, lambda: press(button(panel, "Ask")))
    assert len(answers(panel)) == 3


def test_limit_reserve_and_turns_to_keep_by_keyboard(panel):
    limit, reserve, keep = (field(panel, name) for name in ("Token limit", "Reserved for the reply", "Turns to keep"))
    limit.click()
    type_into(limit, "320")
    wait_for(panel, "limit 320")
    assert limit.input_value() == "320"
    step(limit, "ArrowUp")
    wait_for(panel, "limit 336")
    type_into(limit, "20")
    wait_for(panel, "Nothing can be sent: the limit is too low.")
    type_into(limit, "600")
    reserve.click()
    step(reserve, "ArrowUp")
    wait_for(panel, "40 reserved for the reply")
    assert keep.is_disabled()
    choose(strategy(panel), "keep-last")
    wait_for(panel, "4 of 13 turns are sent")
    keep.click()
    type_into(keep, "2")
    wait_for(panel, "2 of 13 turns are sent")


def test_summary_is_made_and_stopped(panel, page):
    pick(strategy(panel), "summarise")
    for limit in range(420, 440, 4):  # the model may have written all of it before the click arrives
        field(panel, "Token limit").fill(str(limit))
        wait_for(panel, "The model summarises what does not fit …")
        started = time.monotonic()
        panel.locator("button:has-text('Stop')").click()
        panel.locator("text=/Stopped: there is no summary|a summary is/").first.wait_for()
        if panel.locator("text=Stopped: there is no summary.").count():
            break
    assert panel.locator("text=Stopped: there is no summary.").count() == 1
    assert time.monotonic() - started < 1
    field(panel, "Token limit").fill("400")
    panel.locator("th:text-is('summary')").wait_for()
    wait_for(panel, "a summary is")
    screenshot(panel, "panel-context-summary")


def test_answer_streams_and_stops_by_keyboard(panel, page):
    strategy(panel).select_option("drop-oldest")
    field(panel, "Reserved for the reply").fill("40")
    question = panel.get_by_role("textbox", name="Question")
    question.click()
    type_into(question, "Tell me a long story about all that I have said.")
    field(panel, "Token limit").fill("610")
    stop = panel.locator("button:has-text('Stop')")
    button(panel, "Ask").click()
    panel.locator("button:has-text('Stop'):enabled").wait_for()
    press(stop)
    started = time.monotonic()
    wait_for(panel, "Stopped with")
    assert time.monotonic() - started < 1
    button(panel, "Forget answers").click()
    wait_for(panel, "No answers yet.")
    question.fill(PAYLOAD)
    ask(panel, button(panel, "Ask").click)
    assert "hacked" not in page.title() and panel.locator("img, script").count() == 0
    assert panel.locator("td:has-text('onerror=')").count() >= 2
    press(button(panel, "Forget answers"))
    wait_for(panel, "No answers yet.")
    check_every_control(panel)


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_accessible_in_both_themes(panel, page, theme):
    set_theme(page, theme)
    panel.get_by_role("textbox", name="Question").fill("What is my name?")
    panel.locator(".widget-toggle-buttons button").nth(2).click()
    ask(panel, button(panel, "Ask").click)
    time.sleep(0.5)
    check_accessible(page)
    screenshot(panel, f"panel-context-{theme.lower()}")


def test_narrow_and_no_errors(panel, page):
    page.set_viewport_size({"width": 700, "height": 1600})
    time.sleep(0.5)
    screenshot(page, "panel-context-narrow")
    page.set_viewport_size({"width": 1280, "height": 1600})
    assert page.console_errors == []
