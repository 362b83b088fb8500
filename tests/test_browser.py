"""The lab as a learner meets it: real JupyterLab, real Chromium, the real model."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

CHROMIUM = shutil.which("chromium")
LESSON = "notebooks/01-what-a-chat-completions-endpoint-is.ipynb"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium (or your system's way)"
    ),
]


@pytest.fixture(scope="module")
def lab(model, tmp_path_factory):
    """The address and the folder of a lab that `chatlab lab` opened on a learner's own copy of the lessons."""
    folder = tmp_path_factory.mktemp("learner") / "lessons"
    with socket.socket() as taken:  # the port asked for is in use: the lab must take the next free one
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "chatlab", "lab", "--no-browser", f"--port={port}", f"--folder={folder}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder.parent,
            # A configuration folder of its own, so that no tabs of an earlier session are opened again.
            env={**os.environ, "PYTHONUNBUFFERED": "1", "JUPYTER_CONFIG_DIR": str(folder.parent / "jupyter")},
        )
        printed = ""
        while not (address := re.search(r"http://\S+token=\S+", printed)):
            line = process.stdout.readline()
            assert line, f"the lab ended: {printed}"
            printed += line
    assert (folder / LESSON).is_file() and "ready" in printed
    try:
        yield SimpleNamespace(address=address.group(), folder=folder)
    finally:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="module")
def page(lab):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def open_lesson(page, lab, lesson):
    address, token = re.match(r"(http://[^/]+)/.*(token=\S+)", lab.address).groups()
    page.goto(f"{address}/lab/tree/{lesson}?reset&{token}")
    page.wait_for_selector(".jp-Notebook .jp-Cell")


def clear_outputs(path):
    """Take every output and number out of a notebook, so that those found later are new."""
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run_all_cells(page, path):
    """Run every cell by the menu, save until all have a number in the file, and return the code cells."""
    page.click("text=Kernel >> visible=true")
    page.click("text=Restart Kernel and Run All Cells")
    page.click(".jp-Dialog button.jp-mod-accept")
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        time.sleep(1)
        page.keyboard.press("Control+s")
        cells = code_cells(nbformat.read(path, as_version=4))
        if all(cell.execution_count for cell in cells):
            return cells
    raise AssertionError("not every cell was run within three minutes")


def screenshot(shown, name):
    """Keep a picture of a page or a part of it where `CHATLAB_SCREENSHOTS` says, to look at."""
    if folder := os.environ.get("CHATLAB_SCREENSHOTS"):
        shown.screenshot(path=Path(folder) / f"{name}.png")


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
    cells = run_all_cells(page, lab.folder / LESSON)
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    panel = page.locator(".jp-OutputArea-output:has(.chatlab-log)").last
    panel.scroll_into_view_if_needed()
    message = panel.locator("input[type=text][placeholder^='Ask something']")

    message.fill("Tell me a long story about the sea.")
    message.press("Enter")
    panel.locator(".chatlab-message.assistant").first.wait_for()
    lengths = []
    for _ in range(8):
        lengths.append(len(reply_text(panel)))
        time.sleep(0.25)
    assert len(set(lengths)) >= 3 and lengths == sorted(lengths), f"the text did not grow: {lengths}"
    screenshot(panel, "chat-panel-streaming")

    stop = panel.get_by_role("button", name="Stop")
    send = panel.get_by_role("button", name="Send")
    assert stop.is_enabled() and send.is_disabled()
    stop.click()
    panel.locator("text=/stopped after \\d+ pieces/").wait_for(timeout=5_000)
    stopped = reply_text(panel)
    time.sleep(1)
    assert reply_text(panel) == stopped and len(stopped) >= lengths[-1]
    screenshot(panel, "chat-panel-stopped")

    panel.get_by_role("button", name="Clear").click()
    message.fill("What is the capital of Japan?")
    send.click()
    panel.locator("text=/done · \\d+ tokens|cut off/").wait_for(timeout=60_000)
    assert len(reply_text(panel)) > 0
    assert panel.locator(".chatlab-message.user").count() == 1
    screenshot(panel, "chat-panel-answered")
