"""The chat panel as a learner meets it: JupyterLab in Chromium, the real model, mouse and keyboard."""

from __future__ import annotations

import time

import pytest
from browser import (
    IDLE,
    button,
    check_accessible,
    needs_chromium,
    open_lesson,
    open_notebook,
    other_app,
    run_cell,
    screenshot,
    set_theme,
    show_panel,
    write_notebook,
)

pytestmark = needs_chromium

PANEL = """
from chatlab.panels import ChatPanel
panel = ChatPanel(system="You are a helpful assistant.", temperature=0)
panel
"""
STORY = "Tell me a long story about the sea."


def field(panel):
    return panel.locator(".chatlab-message-box textarea")


def turns(panel, role="assistant"):
    return panel.locator(f".chatlab-message.{role} .chatlab-text")


def done(panel):
    panel.locator("[role=status]:has-text('tokens a second')").wait_for()


def test_every_control_by_keyboard(page, lab):
    panel = show_panel(page, lab, "keyboard", PANEL)
    field(panel).click()
    page.keyboard.type("What is the capital")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("of France?")
    assert field(panel).input_value() == "What is the capital\nof France?"
    page.keyboard.press("Enter")
    done(panel)
    assert (
        turns(panel, "user").inner_text() == "What is the capital\nof France?" and "Paris" in turns(panel).inner_text()
    )
    assert field(panel).evaluate("field => field === document.activeElement"), "one can go on typing"

    button(panel, "Hide system message").focus()
    page.keyboard.press("Space")
    button(panel, "Show system message").focus()
    page.keyboard.press("Space")
    panel.get_by_label("System", exact=True).press_sequentially(" Be brief.")
    button(panel, "Show settings").focus()
    page.keyboard.press("Enter")
    panel.get_by_label("Temperature").focus()
    page.keyboard.press("ArrowUp")
    panel.get_by_label("Max tokens").fill("5")
    panel.get_by_label("Seed").fill("7")
    page.keyboard.press("Tab")
    button(panel, "Regenerate").focus()
    page.keyboard.press("Enter")
    panel.locator("[role=status]:has-text('cut off')").wait_for()
    button(panel, "Reset settings").focus()
    page.keyboard.press("Enter")
    panel.get_by_label("Max tokens").wait_for()
    button(panel, "Show export").focus()
    page.keyboard.press("Enter")
    panel.get_by_label("Format").focus()
    page.keyboard.press("ArrowDown")
    panel.locator("pre").get_by_text('"messages"').wait_for()
    button(panel, "Undo").focus()
    page.keyboard.press("Enter")
    panel.locator("text=Say hello.").wait_for()
    assert "of France?" in field(panel).input_value()
    assert page.console_errors == []


def test_every_control_by_mouse(page, lab):
    panel = show_panel(page, lab, "mouse", PANEL)
    field(panel).fill("What is the capital of Japan?")
    button(panel, "Send").click()
    done(panel)
    assert "Tokyo" in turns(panel).inner_text()
    button(panel, "Show settings").click()
    panel.get_by_label("Max tokens").fill("4")
    button(panel, "Regenerate").click()
    panel.locator("[role=status]:has-text('cut off')").wait_for()
    button(panel, "Reset settings").click()
    panel.get_by_label("Turn").select_option(index=0)
    button(panel, "Edit").click()
    panel.locator("[role=status]:has-text('takes the place')").wait_for()
    field(panel).fill("What is the capital of France?")
    button(panel, "Send").click()
    done(panel)
    assert turns(panel, "user").all_inner_texts() == ["What is the capital of France?"]
    assert "Paris" in turns(panel).inner_text()
    screenshot(panel, "panel-chat")

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button(panel, "Show export").click()
    for name, mark in {"Python": "from openai import OpenAI", "curl": "curl http", "JSON": '"messages"'}.items():
        panel.get_by_label("Format").select_option(name)
        panel.locator("pre").get_by_text(mark).first.wait_for()
    button(panel, "Copy").click()
    assert '"messages"' in page.evaluate("navigator.clipboard.readText()")
    button(panel, "Save as a file").click()
    panel.locator("text=Saved as").wait_for()
    assert list(lab.folder.glob("chat*.json"))
    button(panel, "Hide export").click()

    button(panel, "Hide system message").click()
    panel.get_by_label("System", exact=True).wait_for(state="hidden")
    button(panel, "Clear").click()
    panel.locator("text=Say hello.").wait_for()
    assert page.console_errors == []


def test_stop_is_quick_and_other_cells_run_meanwhile(page, lab):
    open_notebook(page, lab, "stop", PANEL, "print(6 * 7)")
    panel = run_cell(page).locator(".chatlab-panel").first
    panel.wait_for()
    field(panel).fill(STORY)
    button(panel, "Send").click()
    turns(panel).first.wait_for()
    lengths = []
    for _ in range(6):
        lengths.append(len(turns(panel).inner_text()))
        time.sleep(0.1)
    assert len(set(lengths)) >= 3 and lengths == sorted(lengths), f"the text did not grow: {lengths}"
    output = run_cell(page, 1)
    output.locator("text=42").wait_for(timeout=5000)
    assert button(panel, "Stop").is_enabled(), "the other cell ran only after the reply"
    button(panel, "Stop").click()
    started = time.monotonic()
    panel.locator("text=/stopped after \\d+ pieces/").wait_for(timeout=5000)
    assert time.monotonic() - started < 2.0  # half a second is what was seen; the rest is for a busy machine
    stopped = turns(panel).inner_text()
    time.sleep(0.5)
    assert turns(panel).inner_text() == stopped
    assert page.console_errors == []


def test_no_transcript_is_lost_and_two_panels_do_not_mix(page, lab):
    open_notebook(page, lab, "kept", PANEL, PANEL)
    first, second = (run_cell(page, number).locator(".chatlab-panel").first for number in (0, 1))
    for panel, question in ((first, "What is the capital of France?"), (second, "What is the capital of Japan?")):
        panel.wait_for()
        field(panel).fill(question)
        button(panel, "Send").click()
    for panel, answer in ((first, "Paris"), (second, "Tokyo")):
        done(panel)
        assert answer in turns(panel).inner_text() and turns(panel).count() == 1

    def both_are_there():
        for number, answer in enumerate(("Paris", "Tokyo")):
            shown = page.locator(".jp-Notebook .jp-CodeCell").nth(number).locator(".chatlab-panel").first
            shown.locator(f".chatlab-message.assistant:has-text('{answer}')").wait_for()
            assert turns(shown).count() == 1

    run_cell(page, 0)  # the cell again
    both_are_there()
    page.keyboard.press("Control+s")
    time.sleep(1)
    page.reload()  # the page, with the kernel alive
    page.wait_for_selector(IDLE)
    both_are_there()
    page.click("text=Kernel >> visible=true")  # the kernel
    page.click("text=Restart Kernel and Run All Cells")
    page.click(".jp-Dialog button.jp-mod-accept")
    time.sleep(1)
    both_are_there()
    page.keyboard.press("Control+s")
    page.goto("about:blank")  # the notebook is closed and opened again
    open_lesson(page, lab, "kept.ipynb")
    page.wait_for_selector(IDLE)
    for number in (0, 1):
        run_cell(page, number)
    both_are_there()


MANY = """
from chatlab import Conversation, user, assistant
from chatlab.panels import ChatPanel
answer = assistant("**Answer**\\n\\n- a\\n- b")
turns = [turn for number in range(100) for turn in (user(f"Question {number}"), answer)]
ChatPanel(Conversation(turns, temperature=0, max_completion_tokens=60))
"""


def test_a_hundred_turns_stay_smooth(page, lab):
    panel = show_panel(page, lab, "many", MANY)
    assert turns(panel).count() == 100
    page.evaluate(
        "() => { window.longest = 0; let last = performance.now();"
        "const tick = now => { window.longest = Math.max(window.longest, now - last); last = now;"
        "requestAnimationFrame(tick); }; requestAnimationFrame(tick); }"
    )
    field(panel).fill("Tell me a story.")
    button(panel, "Send").click()
    panel.locator("[role=status]:has-text('tokens')").wait_for()
    assert turns(panel).count() == 101
    longest = page.evaluate("window.longest")
    print(f"longest frame {longest:.0f} ms")
    assert longest < 1000, "the page stood still"
    log = panel.locator(".chatlab-log")
    assert log.evaluate("log => Math.abs(log.scrollTop) < 5"), "the newest line is in view"


EVIL = """
from chatlab import Conversation
from chatlab.panels import ChatPanel
from chatlab.testing import ScriptedModel
evil = "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script>[x](javascript:window.harmed=1)</div>"
ChatPanel(Conversation(system=evil, model=ScriptedModel(evil, evil)))
"""


def test_markup_and_scripts_execute_nothing(page, lab):
    panel = show_panel(page, lab, "evil", EVIL)
    evil = "<img src=x onerror='window.harmed=1'><svg onload='window.harmed=1'>"
    field(panel).fill(evil)
    button(panel, "Send").click()
    done(panel)
    assert evil in turns(panel, "user").inner_text() and "<script>" in turns(panel).inner_text()
    button(panel, "Show settings").click()
    panel.get_by_label("Seed").fill(evil)
    button(panel, "Show export").click()
    for name in ("Markdown", "JSON", "Python", "curl"):
        panel.get_by_label("Format").select_option(name)
        time.sleep(0.2)
    panel.get_by_label("Turn").select_option(index=0)
    button(panel, "Edit").click()
    time.sleep(0.3)
    assert page.evaluate("window.harmed") is None
    assert page.console_errors == []


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_accessible_in_both_themes(page, lab, theme):
    panel = show_panel(page, lab, f"accessible-{theme}", PANEL)
    set_theme(page, theme)
    for name in ("Show settings", "Show export"):
        button(panel, name).click()
    field(panel).fill("List three colours, as a Markdown list with **bold** names.")
    button(panel, "Send").click()
    done(panel)
    check_accessible(page)
    screenshot(panel, f"panel-chat-{theme.lower()}")


COMPARE = """
from chatlab import Conversation
from chatlab.panels import ComparePanel
systems = ["You are a helpful assistant.", "You are Captain Byte, a friendly robot."]
chats = [Conversation(system=system, temperature=0, max_completion_tokens=80) for system in systems]
ComparePanel(*chats, names=("assistant", "robot"))
"""


def test_two_chats_side_by_side(page, lab):
    panel = show_panel(page, lab, "compare", COMPARE)
    box = panel.locator(".chatlab-message-box textarea >> visible=true")
    box.fill("Who are you?")
    box.press("Enter")
    panel.locator("[role=status]:has-text('tokens a second')").nth(1).wait_for()
    left, right = turns(panel).all_inner_texts()
    assert "Byte" in right and left != right
    box.fill(STORY)
    panel.get_by_role("button", name="Send").locator("visible=true").click()
    turns(panel).nth(3).wait_for()
    panel.get_by_role("button", name="Stop").locator("visible=true").click()
    panel.locator("text=/stopped after/").nth(1).wait_for(timeout=5000)
    check_accessible(page)
    screenshot(panel, "panel-compare")
    button(panel, "Clear both").click()
    panel.locator("text=Say hello.").nth(1).wait_for()
    assert page.console_errors == []


def test_readable_at_twice_the_size(page, lab):
    """At 200 % a page of 1,280 pixels has room for 640."""
    panel = show_panel(page, lab, "zoom", PANEL)
    page.set_viewport_size({"width": 640, "height": 800})
    try:
        button(panel, "Show settings").click()
        field(panel).fill("What is the capital of France?")
        button(panel, "Send").click()
        done(panel)
        screenshot(panel, "panel-chat-zoom")
        for name in ("Send", "Stop", "Clear", "Edit", "Reset settings"):
            box, around = button(panel, name).bounding_box(), panel.bounding_box()
            assert box["x"] + box["width"] <= around["x"] + around["width"] + 1, f"{name} is cut off"
    finally:
        page.set_viewport_size({"width": 1280, "height": 1600})


@pytest.mark.parametrize("app", ["notebook", "voila"])
def test_in_other_apps_too(page, tmp_path, model, app):
    path = write_notebook(tmp_path / "chat.ipynb", PANEL)
    with other_app(app, path) as address:
        page.goto(address)
        if app == "notebook":
            page.locator(".jp-CodeCell .jp-InputArea-editor").first.click()
            page.keyboard.press("Control+Enter")
        panel = page.locator(".chatlab-panel").first
        panel.wait_for()
        page.console_errors.clear()  # those of the app itself, as it starts
        field(panel).click()
        page.keyboard.type("What is the capital of France?")
        page.keyboard.press("Enter")
        done(panel)
        assert "Paris" in turns(panel).inner_text()
        field(panel).fill(STORY)
        button(panel, "Send").click()
        turns(panel).nth(1).wait_for()
        button(panel, "Stop").click()
        panel.locator("text=/stopped after \\d+ pieces/").wait_for(timeout=5000)
        button(panel, "Undo").click()
        panel.locator(f".chatlab-message.user:has-text('{STORY}')").wait_for(state="detached")
        check_accessible(page)
        screenshot(panel, f"panel-chat-{app}")
        # Voila asks a server elsewhere for its own parts, which a machine without a network does not reach.
        assert [each for each in page.console_errors if "ERR_NAME_NOT_RESOLVED" not in each] == []
        page.goto("about:blank")
