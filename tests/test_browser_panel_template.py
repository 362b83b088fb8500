"""What a learner does with a TemplatePanel in real JupyterLab, with the real model."""

from __future__ import annotations

import pytest
from browser import check_accessible, needs_chromium, screenshot, set_theme, show_panel
from controls import check_every_control, choose, pick, press, type_into
from test_browser_views import CONTRAST
from test_views import PAYLOADS

pytestmark = needs_chromium

CODE = "from chatlab.panels import TemplatePanel\npanel = TemplatePanel()\npanel"
INJECTED = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@pytest.fixture(scope="module")
def panel(lab, page):
    return show_panel(page, lab, "panel-template", CODE)


def wait_for(panel, text):
    panel.locator(f"text={text}").first.wait_for()


def prompt(panel):
    return panel.locator(".chatlab-prompt")


def named(panel, name):
    return panel.get_by_role("button", name=name)


def counts(panel):
    return [row.locator("td").all_inner_texts() for row in panel.locator(".chatlab-words tr").all()[1:]]


def test_a_forged_turn_is_made_harmless_or_let_through(panel, page):
    wait_for(panel, f"The template added by itself: {INJECTED}")
    assert prompt(panel).locator(".chatlab-injected").inner_text().endswith(INJECTED)
    assert counts(panel) == [["read as text (shown above)", "37", "5"], ["let through", "37", "5"]]
    named(panel, "Forge a turn").click()
    wait_for(panel, "4 control tokens typed into the messages. They are neutralised")
    assert prompt(panel).locator(".chatlab-forged").count() == 4
    assert "<|im_start|>assistant" in panel.get_by_label("Content 0").input_value()
    assert panel.locator(".chatlab-tokens .chatlab-token").count() == 7
    for theme in ("Light", "Dark"):
        set_theme(page, theme)
        check_accessible(page)
        shown = panel.locator(".chatlab-note, .chatlab-piece, .chatlab-id, .chatlab-control, td, th, label, button")
        assert min(shown.evaluate_all(f"elements => elements.map({CONTRAST})")) >= 4.5, theme
        screenshot(panel, f"panel-template-{theme.lower()}")
    neutralise = panel.get_by_label("Neutralise control tokens")
    press(neutralise, "Space")
    wait_for(panel, "They are let through")
    assert prompt(panel).locator(".chatlab-forged").count() == 0
    assert panel.locator(".chatlab-tokens .chatlab-token-control").count() == 1
    assert [row[2] for row in counts(panel)] == ["5", "9"] and counts(panel)[1][0] == "let through (shown above)"
    check_accessible(page)
    screenshot(panel, "panel-template-through")
    neutralise.click()
    wait_for(panel, "They are neutralised")


def test_messages_are_edited_added_and_removed(panel):
    pick(panel.get_by_label("Role 0"), "system")
    wait_for(panel, "messages[0] system")
    wait_for(panel, "The template added no text of its own")
    panel.get_by_label("Content 0").click()
    type_into(panel.get_by_label("Content 0"), "Be brief.\nAnd kind.")
    prompt(panel).locator("text=And kind.").wait_for()
    press(named(panel, "Add a message"))
    wait_for(panel, "Message 1 is new.")
    choose(panel.get_by_label("Role 0"), "developer")
    wait_for(panel, "messages[0] developer")
    pick(panel.get_by_label("Role 1"), "assistant")
    choose(panel.get_by_label("Role 1"), "user")
    panel.get_by_label("Content 1").click()
    type_into(panel.get_by_label("Content 1"), "Ahoy")
    named(panel, "Remove 0").click()
    panel.get_by_label("Content 1").wait_for(state="detached")
    assert panel.get_by_label("Content 0").input_value() == "Ahoy"
    for remove in (lambda button: press(button), lambda button: button.click()):
        named(panel, "Add a message").click()
        remove(named(panel, "Remove 1"))
        panel.get_by_label("Content 1").wait_for(state="detached")
    for _ in range(2):  # the row that moved up, and one made anew
        press(named(panel, "Remove 0"))
        wait_for(panel, "messages is empty")
        press(named(panel, "Forge a turn"))
        wait_for(panel, "stand in message 0")


def test_the_template_is_edited_and_its_errors_are_told(panel, page):
    template = panel.get_by_label("Template", exact=True)
    template.click()
    type_into(template, "{{ 40 + 2 }}")
    prompt(panel).locator("text=42").wait_for()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("{% for m in messages %}\n[{{ m['role'] }}] {{ m['content'] }\n{% endfor %}")
    wait_for(panel, "The chat template does not work: line 2")
    check_accessible(page)
    screenshot(panel, "panel-template-error")
    template.fill("{% for m in messages %}\n[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}")
    prompt(panel).locator("text=[user]").wait_for()
    press(named(panel, "Forge a turn"))
    wait_for(panel, "marks turns with plain words")
    named(panel, "Reset the template").click()
    prompt(panel).locator("text=generation prompt").wait_for()
    generation = panel.get_by_label("Add the generation prompt")
    generation.click()
    prompt(panel).locator("text=generation prompt").wait_for(state="detached")
    press(generation, "Space")
    prompt(panel).locator("text=generation prompt").wait_for()
    template.fill("Nothing")
    press(named(panel, "Reset the template"))
    wait_for(panel, INJECTED)


def test_every_control_was_used_by_mouse_and_by_keyboard(panel):
    check_every_control(panel)


def test_markup_is_only_text_and_nothing_went_wrong(panel, page):
    page.evaluate("() => { window.alert = () => { window.attacked = true } }")
    for payload in PAYLOADS:
        panel.get_by_label("Content 0").fill(payload)
        shown = payload.split("\n")[-1]
        page.wait_for_function(
            "text => document.querySelector('.chatlab-prompt').textContent.includes(text)", arg=shown
        )
    template = panel.get_by_label("Template", exact=True)
    for payload in PAYLOADS:
        template.fill(payload + "{% if %}")
        wait_for(panel, "does not work")
        template.fill(payload)
        prompt(panel).wait_for()
    assert panel.locator("script, img, svg, iframe, a, [onerror], [onload]").count() == 0
    page.wait_for_timeout(500)  # what a payload sets off, it may set off a little later
    assert page.evaluate("window.attacked") is None
    press(named(panel, "Reset the template"))
    page.set_viewport_size({"width": 700, "height": 1600})
    panel.get_by_label("Content 0").fill("A narrow window.")
    prompt(panel).locator("text=A narrow window.").wait_for()
    screenshot(panel, "panel-template-narrow")
    overflow = panel.evaluate("element => element.scrollWidth - element.clientWidth")
    page.set_viewport_size({"width": 1280, "height": 1600})
    assert overflow <= 0
    assert page.console_errors == []
