"""What a learner does with a TokenPanel in real JupyterLab, with the real model."""

from __future__ import annotations

import pytest
from browser import check_accessible, needs_chromium, screenshot, set_theme, show_panel
from controls import check_every_control, choose, pick, press, step, type_into
from test_browser_views import CONTRAST
from test_views import PAYLOADS

pytestmark = needs_chromium

CODE = "from chatlab.panels import TokenPanel\npanel = TokenPanel()\npanel"


@pytest.fixture(scope="module")
def panel(lab, page):
    return show_panel(page, lab, "panel-tokens", CODE)


def rows(panel):
    return [row.locator("td").all_inner_texts() for row in panel.locator(".chatlab-words tr").all()[1:]]


def wait_for(panel, text):
    panel.locator(f"text={text}").first.wait_for()


def test_typing_shows_pieces_ids_and_counts(panel, page):
    wait_for(panel, "<|im_end|>: typed into a text")
    for theme in ("Light", "Dark"):
        set_theme(page, theme)
        check_accessible(page)
        shown = panel.locator(".chatlab-note, .chatlab-piece, .chatlab-id, .chatlab-control, td, th, label, button")
        assert min(shown.evaluate_all(f"elements => elements.map({CONTRAST})")) >= 4.5, theme
        screenshot(panel, f"panel-tokens-{theme.lower()}")
    field = panel.get_by_label("Text", exact=True)
    field.click()
    type_into(field, "The  end\n日")
    wait_for(panel, "10 characters")
    assert [row[:2] for row in rows(panel)][-1] == ["bytes (one token for each byte)", "12"]
    assert panel.locator(".chatlab-piece").first.inner_text() == "The"
    assert "·" in panel.locator(".chatlab-tokens").inner_text() and "↵" in panel.locator(".chatlab-tokens").inner_text()


def test_white_space_and_tokenizer_by_keyboard_and_by_mouse(panel):
    box = panel.get_by_label("Show spaces and line ends as signs")
    press(box, "Space")
    panel.locator(".chatlab-tokens:not(:has-text('·'))").wait_for()
    box.click()
    panel.locator(".chatlab-tokens:has-text('·')").wait_for()
    choice = panel.get_by_label("Show the pieces of")
    pick(choice, "cl100k_base")
    wait_for(panel, "tokens of cl100k_base")
    choose(choice, "SmolLM2-135M-Instruct (the model's own)")
    wait_for(panel, "tokens of SmolLM2-135M-Instruct")


def test_price_by_choice_and_by_number(panel):
    choice = panel.get_by_label("Example price")
    pick(choice, "in between: 1.00")
    choose(choice, "a dear model: 10.00")
    wait_for(panel, "10 USD per million tokens is")
    price = panel.get_by_label("USD per million tokens")
    assert price.input_value() == "10"
    price.click()
    type_into(price, "2.5")
    wait_for(panel, "2.5 USD per million tokens is")
    assert choice.evaluate("element => element.selectedOptions[0].text").split() == ["my", "own"]
    times = panel.get_by_label("Times sent")
    times.click()
    step(times, "ArrowUp")
    wait_for(panel, "sent 1,001 times")
    assert rows(panel)[-1][3:] == ["0.030030"]


def test_every_control_was_used_by_mouse_and_by_keyboard(panel):
    check_every_control(panel)


def test_a_long_text_stays_smooth_and_says_what_is_drawn(panel, page):
    field = panel.get_by_label("Text", exact=True)
    field.fill("So many words. " * 10_000)
    wait_for(panel, "of 150,000 characters are drawn")
    assert panel.locator(".chatlab-token").count() <= 500
    wait_for(panel, "150,000 characters, 150,000 bytes.")
    field.press("Control+Home")
    page.keyboard.type("Now ")
    wait_for(panel, "of 150,004 characters are drawn")
    assert panel.locator(".chatlab-piece").first.inner_text() == "Now"


def test_markup_is_only_text_and_nothing_went_wrong(panel, page):
    page.evaluate("() => { window.alert = () => { window.attacked = true } }")
    field = panel.get_by_label("Text", exact=True)
    for payload in PAYLOADS:
        field.fill(payload)
        wait_for(panel, f"{len(payload)} characters,")
    assert panel.locator("script, img, svg, iframe, a, [onerror], [onload]").count() == 0
    page.wait_for_timeout(500)  # what a payload sets off, it may set off a little later
    assert page.evaluate("window.attacked") is None
    check_accessible(page)
    page.set_viewport_size({"width": 700, "height": 1600})
    field.fill("A narrow window.")
    wait_for(panel, "16 characters")
    screenshot(panel, "panel-tokens-narrow")
    overflow = panel.evaluate("element => element.scrollWidth - element.clientWidth")
    page.set_viewport_size({"width": 1280, "height": 1600})
    assert overflow <= 0
    assert page.console_errors == []
