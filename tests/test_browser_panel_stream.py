"""StreamPanel in real JupyterLab, with the real model: each control by mouse and by keyboard, both themes."""

from __future__ import annotations

import re
import time

import pytest
from browser import button, check_accessible, needs_chromium, screenshot, set_theme, show_panel
from controls import check_every_control, press, type_into
from playwright.sync_api import expect

pytestmark = needs_chromium

CODE = "from chatlab.panels import StreamPanel\npanel = StreamPanel()\npanel"


@pytest.fixture(scope="module")
def panel(lab, page):
    return show_panel(page, lab, "stream", CODE)


def status(panel):
    return panel.locator("[role=status]")


def test_both_by_mouse(page, panel):
    button(panel, "Send both").click()
    expect(status(panel)).to_contain_text("The same text in both")
    texts = panel.locator(".chatlab-text").all_inner_texts()
    assert texts[0] == texts[1] and len(texts[0]) > 50
    assert panel.locator(".chatlab-raw").count() == 0
    panel.get_by_label("Show raw events").check()
    expect(panel.locator(".chatlab-raw").first).to_contain_text("data: [DONE]")
    screenshot(panel, "panel-stream-raw")


def test_cut_by_mouse_and_by_keyboard(page, panel):
    typed = {
        "Max completion tokens": "1500",
        "Seed": "3",
        "Prompt": "Tell me everything about <img src=x onerror=window.hacked=1> the sea.",
    }
    for label, text in typed.items():
        panel.get_by_label(label).click()
        type_into(panel.get_by_label(label), text)
    for by_keyboard in (False, True):
        if by_keyboard:
            press(panel.get_by_label("Prompt"))
        else:
            button(panel, "Send both").click()
        expect(panel).to_contain_text("time so far")
        expect(panel.locator(".chatlab-text").first).to_have_text(re.compile(".{21,}", re.DOTALL))
        screenshot(panel, "panel-stream-running")
        if by_keyboard:
            press(button(panel, "Cut the connection"))
        else:
            button(panel, "Cut the connection").click()
        expect(panel).to_contain_text("missing: it never came")  # the whole reply takes longer than it waits
        expect(status(panel)).to_contain_text("The server noticed and stopped as well")
        assert len(panel.locator(".chatlab-text").first.inner_text()) > 20
        expect(status(panel)).to_contain_text("on the right 0")
    assert page.evaluate("window.hacked") is None and panel.locator("img").count() == 0
    press(panel.get_by_label("Show raw events"), "Space")
    expect(panel.locator(".chatlab-raw")).to_have_count(0)
    page.keyboard.press("Space")
    expect(panel.locator(".chatlab-raw")).to_have_count(2)


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_accessible_in_both_themes_and_narrow(page, panel, theme):
    set_theme(page, theme)
    panel.get_by_label("Max completion tokens").fill("20")
    panel.get_by_label("Prompt").fill("Tell me about the sea.")
    press(button(panel, "Send both"))
    expect(status(panel)).to_contain_text("The same text in both")
    time.sleep(1)  # the theme's colours come with a style sheet that is loaded now
    check_accessible(page)
    screenshot(panel, f"panel-stream-{theme.lower()}")
    page.set_viewport_size({"width": 700, "height": 1600})
    time.sleep(1)  # JupyterLab lays its parts out anew
    assert panel.evaluate("element => element.scrollWidth <= element.clientWidth + 1")
    screenshot(panel, f"panel-stream-narrow-{theme.lower()}")
    page.set_viewport_size({"width": 1280, "height": 1600})


def test_every_control_was_used_and_nothing_went_wrong(page, panel):
    check_every_control(panel)
    assert page.console_errors == []
