"""GuessPanel in real JupyterLab: predictions locked in by mouse and by keyboard, and compared with what happened."""

from __future__ import annotations

from browser import (
    button,
    check_accessible,
    needs_chromium,
    open_notebook,
    run_cell,
    screenshot,
    set_theme,
)
from controls import check_every_control, choose, press, step, type_into, watch
from playwright.sync_api import expect
from test_views import PAYLOADS

pytestmark = needs_chromium

CELLS = [
    f"""
import os, tempfile
os.environ["CHATLAB_RECORDS"] = tempfile.mkdtemp()  # nothing is locked in yet
import chatlab
among = chatlab.predict("How many messages does the model read? {PAYLOADS[0]}", ["one", "two", "none"])
among
""",
    'free = chatlab.predict("What does the model call itself?")\nfree',
    'among.reveal("B", "The chat template put one in."), free.reveal("SmolLM")',
]


def test_predictions_are_locked_in_and_compared(page, lab):
    open_notebook(page, lab, "guess", *CELLS)
    among, free = (run_cell(page, number).locator(".chatlab-panel").first for number in (0, 1))
    for panel in (among, free):
        panel.wait_for()
        watch(panel)
    page.evaluate("() => { window.alert = () => { window.attacked = true } }")
    for theme in ("Dark", "Light"):
        set_theme(page, theme)
        check_accessible(page)

    button(among, "Lock in").click()
    among.get_by_text("Choose first, then lock it in.").wait_for()
    among.get_by_text("C · none").click()
    expect(among.get_by_role("radio").nth(2)).to_be_checked()
    choose(among.get_by_role("radio").nth(1))
    expect(among.get_by_role("radio", checked=True)).to_have_count(1)
    sure = among.get_by_label("How sure, in %")
    sure.click()
    step(sure, "ArrowUp", times=2)
    assert sure.input_value() == "60"
    type_into(sure, "75")
    screenshot(among, "panel-guess-open")
    press(button(among, "Lock in"))
    among.get_by_text("Locked in.").wait_for()
    check_every_control(among)
    expect(among.locator(":is(input, button):enabled:visible")).to_have_count(0)

    text, sure = free.get_by_label("Your prediction"), free.get_by_label("How sure, in %")
    press(button(free, "Lock in"))
    free.get_by_text("Choose first, then lock it in.").wait_for()
    text.click()
    type_into(text, PAYLOADS[1])
    sure.click()
    step(sure, "ArrowDown")
    button(free, "Lock in").click()
    free.get_by_text("Locked in.").wait_for()
    check_every_control(free)

    run_cell(page, 2)
    among.get_by_text("You predicted: B, two, 75 % sure, and so it is.").wait_for()
    free.get_by_text("45 % sure, but it is: SmolLM.").wait_for()
    for theme in ("Dark", "Light"):
        set_theme(page, theme)
        check_accessible(page)
        screenshot(among, f"panel-guess-{theme.lower()}")
    for panel in (among, free):
        assert panel.locator("script, img, svg, iframe, a, [onerror], [onload]").count() == 0
    assert page.evaluate("window.attacked") is None
    assert page.console_errors == []
