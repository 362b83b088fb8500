"""The lab as a learner meets it: real JupyterLab, real Chromium, the real model."""

from __future__ import annotations

import time

from browser import LESSON, clear_outputs, needs_chromium, open_lesson, run_all_cells, screenshot

pytestmark = needs_chromium


def reply_text(panel):
    return panel.locator(".chatlab-message.assistant .chatlab-text").last.inner_text()


def test_lab_opens_on_the_first_lesson(page, lab):
    page.goto(lab.address)
    page.wait_for_selector(".lm-TabBar-tab.jp-mod-current:has-text('00-start-here')")
    page.wait_for_selector(".jp-Notebook h1:has-text('Start here')")
    time.sleep(1)
    assert page.locator("text=Jupyter news").count() == 0, "a question pops up before the learner has begun"
    screenshot(page, "lab")


def test_lesson_runs_and_the_panel_chats(page, lab):
    clear_outputs(lab.folder / LESSON)
    open_lesson(page, lab, LESSON)
    run_all_cells(page, lab.folder / LESSON)
    panel = page.locator(".chatlab-panel", has=page.locator(".chatlab-message-box")).first
    panel.scroll_into_view_if_needed()
    message = panel.locator(".chatlab-message-box textarea")

    message.fill("Tell me a long story about the sea.")
    message.press("Enter")
    panel.locator(".chatlab-message.assistant").first.wait_for()
    stop = panel.get_by_role("button", name="Stop")
    send = panel.get_by_role("button", name="Send")
    lengths = []
    while len(set(lengths)) < 3 and stop.is_enabled():
        lengths.append(len(reply_text(panel)))
        time.sleep(0.1)
    assert len(set(lengths)) >= 3 and lengths == sorted(lengths), f"the text did not grow: {lengths}"
    screenshot(panel, "chat-panel-streaming")

    assert stop.is_enabled() and send.is_disabled()
    stop.click()
    panel.locator("text=/stopped after \\d+ pieces/").wait_for()
    stopped = reply_text(panel)
    time.sleep(1)
    assert reply_text(panel) == stopped and len(stopped) >= lengths[-1]
    screenshot(panel, "chat-panel-stopped")

    panel.get_by_role("button", name="Clear").click()
    message.fill("What is the capital of Japan?")
    send.click()
    panel.locator("text=/done · \\d+ tokens|cut off/").wait_for()
    assert len(reply_text(panel)) > 0
    assert panel.locator(".chatlab-message.user").count() == 1
    screenshot(panel, "chat-panel-answered")
