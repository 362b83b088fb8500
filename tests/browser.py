"""What the tests in a browser share: a lab that `chatlab lab` opened, and a page of Chromium to look at it."""

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
IDLE = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
SECONDS_OF_REST = 20  # after which a kernel that does nothing has nothing left to do
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

needs_chromium = [
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
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        # A kernel that is restarted while it starts may lose the cells it was to run: they are run again then.
        page.wait_for_selector(IDLE)
        page.click("text=Kernel >> visible=true")
        page.click("text=Restart Kernel and Run All Cells")
        page.click(".jp-Dialog button.jp-mod-accept")
        idle = 0
        while idle < SECONDS_OF_REST and time.monotonic() < deadline:
            time.sleep(1)
            idle = idle + 1 if page.locator(IDLE).count() else 0
            page.keyboard.press("Control+s")
            try:
                cells = code_cells(nbformat.read(path, as_version=4))
            except nbformat.reader.NotJSONError:  # it is being written at this moment
                continue
            if all(cell.execution_count for cell in cells):
                return cells
    screenshot(page, "not-every-cell-was-run")
    raise AssertionError("not every cell was run within three minutes")


def screenshot(shown, name):
    """Keep a picture of a page or a part of it where `CHATLAB_SCREENSHOTS` says, to look at."""
    if folder := os.environ.get("CHATLAB_SCREENSHOTS"):
        shown.screenshot(path=Path(folder) / f"{name}.png")
