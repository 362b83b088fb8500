"""The sampling panel as a learner uses it: real JupyterLab, the real model, mouse and keyboard."""

from __future__ import annotations

import time

import pytest
from browser import button, check_accessible, needs_chromium, screenshot, set_theme, show_panel
from controls import check_every_control, press, step, type_into
from playwright.sync_api import expect

pytestmark = needs_chromium

PAYLOAD = "<img src=x onerror=document.title='hacked'><script>document.title='hacked'</script>"


@pytest.fixture(scope="module")
def panel(page, lab):
    return show_panel(page, lab, "sampling", "from chatlab.panels import SamplingPanel\nSamplingPanel()")


def field(panel, name):
    return panel.get_by_role("spinbutton", name=name)


def wait_for(panel, text):
    panel.locator(f"text={text}").first.wait_for()


def test_bars_of_the_model_are_there(panel):
    wait_for(panel, "What SmolLM2-135M-Instruct expects after")
    assert panel.locator("tbody tr").count() == 16 and panel.locator("text=ruled out").count() == 0
    assert panel.locator(".chatlab-bar").count() == 32


def test_settings_by_keyboard_and_by_arrow(panel, page):
    for name in ("Temperature", "Top-k", "Top-p", "Min-p"):
        field(panel, name).click()
    type_into(field(panel, "Top-k"), "5")
    wait_for(panel, "✕ ruled out by top_k 5")
    assert panel.locator("text=✕ ruled out by top_k 5").count() == 10 and panel.locator("text=✕ all ruled out").count()
    step(field(panel, "Temperature"), "ArrowDown")
    wait_for(panel, "after temperature 0.9, top_k 5")
    type_into(field(panel, "Top-p"), "0.5")
    wait_for(panel, "top_p 0.5")
    field(panel, "Top-p").fill("1")
    box = field(panel, "Min-p").bounding_box()
    field(panel, "Min-p").hover()
    page.mouse.click(box["x"] + box["width"] - 9, box["y"] + box["height"] / 4)  # the arrow for more
    step(field(panel, "Min-p"), "ArrowUp", times=9)
    wait_for(panel, "min_p 0.5")
    press(button(panel, "Reset settings"))
    wait_for(panel, "after the settings (they change nothing)")
    field(panel, "Top-k").fill("3")
    wait_for(panel, "✕ ruled out by top_k 3")
    button(panel, "Reset settings").click()
    wait_for(panel, "after the settings (they change nothing)")
    for name, off in zip(("Temperature", "Top-k", "Top-p", "Min-p"), "1010", strict=True):
        expect(field(panel, name)).to_have_value(off)


def test_draws_by_mouse_and_by_keyboard(panel, page):
    field(panel, "Top-k").fill("5")
    wait_for(panel, "✕ ruled out by top_k 5")
    button(panel, "Draw 1").click()
    wait_for(panel, "Drawn: ")
    press(button(panel, "Draw 100"))
    wait_for(panel, "101 draws: their shares differ")
    press(button(panel, "Draw 1,000"), "Space")
    wait_for(panel, "1101 draws: their shares differ")
    wait_for(panel, "as close as one can expect")
    field(panel, "Seed").click()
    type_into(field(panel, "Seed"), "7")
    wait_for(panel, "1101 draws forgotten")
    button(panel, "Draw 100").click()
    wait_for(panel, "100 draws: their shares differ")
    button(panel, "Draw 1,000").click()
    press(button(panel, "Draw 1"))
    wait_for(panel, "1101 draws: their shares differ")
    press(button(panel, "Forget draws"))
    wait_for(panel, "1101 draws forgotten")
    button(panel, "Draw 100").click()
    button(panel, "Forget draws").click()
    wait_for(panel, "100 draws forgotten")


def test_prompt_is_read_as_text_and_as_a_message(panel, page):
    prompt = panel.get_by_role("textbox", name="Prompt")
    prompt.click()
    type_into(prompt, "The capital of France is")
    prompt.press("Tab")
    wait_for(panel, "␣Paris")
    press(panel.get_by_role("checkbox"), "Space")
    wait_for(panel, "The model has read 3")
    panel.get_by_role("checkbox").click()
    wait_for(panel, "␣Paris")
    prompt.fill("whole " * 1500)
    prompt.press("Tab")  # a new prompt is read as soon as Tab leaves it
    wait_for(panel, r"/The model has read 1.?50\d tokens/")
    prompt.fill("in part " * 1500)
    read, stop = button(panel, "Read the prompt"), button(panel, "Stop")
    for begin, end in ((read.click, stop.click), (lambda: press(read), lambda: press(stop))):
        begin()
        wait_for(panel, "The model reads the prompt")
        end()
        wait_for(panel, "Stopped: the bars are still those")
    prompt.fill(PAYLOAD)
    button(panel, "Read the prompt").click()
    wait_for(panel, "The model has read")
    panel.locator("caption:has-text('hacked')").wait_for()
    assert "hacked" not in page.title() and panel.locator("img").count() == 0
    check_every_control(panel)


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_accessible_in_both_themes(panel, page, theme):
    set_theme(page, theme)
    prompt = panel.get_by_role("textbox", name="Prompt")
    prompt.fill("My favourite animal is the")
    prompt.press("Tab")
    field(panel, "Top-k").fill("8")
    wait_for(panel, "✕ ruled out by top_k 8")
    wait_for(panel, "␣dog")
    button(panel, "Forget draws").click()
    button(panel, "Draw 100").click()
    wait_for(panel, "100 draws: ")
    time.sleep(0.5)
    check_accessible(page)
    screenshot(panel, f"panel-sampling-{theme.lower()}")


def test_narrow_and_no_errors(panel, page):
    page.set_viewport_size({"width": 700, "height": 1600})
    time.sleep(0.5)
    screenshot(page, "panel-sampling-narrow")
    page.set_viewport_size({"width": 1280, "height": 1600})
    assert page.console_errors == []
