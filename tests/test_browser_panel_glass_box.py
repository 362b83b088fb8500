"""GlassBox in real JupyterLab, with the real model: each control by mouse and by keyboard, both themes."""

from __future__ import annotations

import re
import time

import pytest
from browser import check_accessible, needs_chromium, screenshot, set_theme, show_panel
from controls import check_every_control, press, type_into
from playwright.sync_api import expect

pytestmark = needs_chromium

CODE = "from chatlab.panels import GlassBox\nbox = GlassBox(max_completion_tokens=30, temperature=0)\nbox"
# What is cut off at the panel's right edge.
TOO_WIDE = """panel => { const right = each => each.getBoundingClientRect().right;
  return [...panel.querySelectorAll('*')].filter(each => right(each) > right(panel) + 1)
    .map(each => `${right(each)} > ${right(panel)}: ${each.outerHTML.slice(0, 200)}`) }"""
ROOMS = ["Messages", "Prompt", "Tokens", "Probabilities", "Chunks", "Response"]


@pytest.fixture(scope="module")
def box(lab, page):
    return show_panel(page, lab, "glass-box", CODE)


def button(box, name):
    return box.get_by_role("button", name=name, exact=True)


def row(box, label):
    return box.locator(f".chatlab-token-row:has(label:text-is('{label}')) button:visible")


def status(box):
    return box.locator("[role=status]")


def facts(box):
    return box.locator(".chatlab", has_text="Picked: ").first


def test_a_reply_token_by_token_by_mouse(page, box):
    button(box, "Step").click()
    expect(status(box)).to_contain_text("One token more: reply token 0, “The”")
    button(box, "Step").click()
    expect(row(box, "Reply tokens")).to_have_text(["The", "␣capital"])
    expect(status(box)).to_contain_text("One token more: reply token 1, “␣capital”")
    button(box, "Back").click()
    expect(row(box, "Reply tokens")).to_have_text(["The"])
    expect(status(box)).to_contain_text("One token back.")
    button(box, "Run").click()
    expect(status(box)).to_contain_text("complete after 8 tokens")
    row(box, "Reply tokens").nth(5).click()
    expect(facts(box)).to_contain_text("reply token 5, “␣Paris”")
    expect(facts(box)).to_contain_text("Text so far: The capital of France is Paris")
    row(box, "Prompt tokens").filter(has_text="France").click()
    expect(facts(box)).to_contain_text("it comes from the text of messages[0] (user)")
    row(box, "Prompt tokens").filter(has_text="helpful").click()
    expect(facts(box)).to_contain_text("the chat template adds it: no message holds it")
    expect(facts(box)).to_contain_text("It was given, not chosen. Probability")
    row(box, "Prompt tokens").filter(has_text="France").click()
    expect(facts(box).locator("tr", has_text="in the prompt")).to_contain_text("␣France")
    assert facts(box).locator("tbody tr").count() >= 8, "what else the model expected there"
    screenshot(box, "panel-glass-box-prompt-token")


def test_the_picked_token_is_marked_in_each_room(page, box):
    row(box, "Reply tokens").nth(5).click()
    marked = {
        "Messages": " Paris",
        "Prompt": " Paris",
        "Tokens": "·Paris",
        "Probabilities": "␣Paris",
        "Chunks": '"content":" Paris"',
        "Response": " Paris",
    }
    for room in ROOMS:
        button(box, room).click()
        view = box.locator(".chatlab", has_text=f"{room}. Picked: reply token 5")
        expect(view.locator(".chatlab-picked")).to_have_count(1)
        expect(view.locator(".chatlab-picked")).to_contain_text(marked[room])
        screenshot(box, f"panel-glass-box-{room.lower()}")


def test_all_by_keyboard(page, box):
    message = box.get_by_label("User message")
    type_into(message, "Say hello.")
    page.keyboard.press("Enter")
    expect(status(box)).to_contain_text("Press Step")
    expect(row(box, "Reply tokens")).to_have_count(0)
    for _ in range(2):  # the focus stays where it is, so that Enter alone goes on
        count = row(box, "Reply tokens").count()
        press(button(box, "Step")) if count == 0 else page.keyboard.press("Enter")
        expect(row(box, "Reply tokens")).to_have_count(count + 1)
        expect(status(box)).to_contain_text(f"One token more: reply token {count}")
    press(button(box, "Back"))
    expect(row(box, "Reply tokens")).to_have_count(1)
    press(button(box, "Run"))
    expect(status(box)).to_contain_text("complete after")
    press(row(box, "Reply tokens").nth(1), "Space")
    expect(facts(box)).to_contain_text("reply token 1")
    page.keyboard.press("End")
    expect(row(box, "Reply tokens").last).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(row(box, "Reply tokens").nth(1)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(facts(box)).to_contain_text("reply token 0")
    page.keyboard.press("Tab")  # the row is one stop: this leaves it
    expect(box.locator(".chatlab-token-row:has(label:text-is('Another token')) button:focus")).to_have_count(1)
    press(row(box, "Prompt tokens").nth(1), "Space")
    expect(facts(box)).to_contain_text("prompt token 1")
    press(row(box, "Reply tokens").first, "Space")
    expect(facts(box)).to_contain_text("reply token 0")
    other = row(box, "Another token").nth(1)
    chosen = other.inner_text().rsplit(None, 2)[0]
    press(other)
    press(button(box, "Choose another"))
    expect(row(box, "Reply tokens").first).to_have_text(chosen)
    expect(status(box)).to_contain_text("complete after")
    expect(facts(box)).to_contain_text("exchanged by hand")
    press(button(box, "Chunks"), "Space")
    expect(box).to_contain_text("data: [DONE]")


def test_the_settings_and_stop(page, box):
    for label, value in [("Temperature", "1"), ("Seed", "7"), ("Max completion tokens", "1000")]:
        box.get_by_label(label).click()
        type_into(box.get_by_label(label), value)
    for label, text in [
        ("System message", "You are a <b>pirate</b>.<img src=x onerror=window.hacked=1>"),
        ("User message", "Tell me a very long story <script>window.hacked=1</script>"),
    ]:
        box.get_by_label(label).click()
        type_into(box.get_by_label(label), text)
    button(box, "Prompt").click()
    for number, stop in [(10, button(box, "Stop").click), (20, lambda: press(button(box, "Stop")))]:
        button(box, "Run").click()
        expect(row(box, "Reply tokens").nth(number)).to_be_visible()
        stop()
        expect(status(box)).to_have_text(re.compile("Stopped after"))
    for room in ROOMS:
        press(button(box, room))
        expect(box).to_contain_text(f"{room}. Picked")
    assert page.evaluate("window.hacked") is None and box.locator("img, script, b:text('pirate')").count() == 0


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_accessible_in_both_themes_and_narrow(page, box, theme):
    set_theme(page, theme)
    box.get_by_label("Max completion tokens").fill("12")
    box.get_by_label("User message").fill("What is the capital of France?")
    box.get_by_label("User message").press("Enter")
    button(box, "Run").click()
    expect(status(box)).to_contain_text("complete after")
    for room in ROOMS:
        button(box, room).click()
        expect(box).to_contain_text(f"{room}. Picked")
        check_accessible(page)
    button(box, "Prompt").click()
    screenshot(box, f"panel-glass-box-{theme.lower()}")
    page.set_viewport_size({"width": 700, "height": 1600})
    button(box, "Chunks").click()
    expect(box).to_contain_text("Chunks. Picked")
    time.sleep(1)  # JupyterLab lays its parts out anew
    assert box.evaluate(TOO_WIDE) == []
    screenshot(box, f"panel-glass-box-narrow-{theme.lower()}")
    page.set_viewport_size({"width": 1280, "height": 1600})


def test_another_token_by_mouse(box):
    row(box, "Reply tokens").first.click()
    row(box, "Another token").first.click()
    button(box, "Choose another").click()
    expect(facts(box)).to_contain_text("exchanged by hand")
    expect(status(box)).to_contain_text("complete after")


def test_every_control_was_used_and_nothing_went_wrong(page, box):
    check_every_control(box)
    assert page.console_errors == []
