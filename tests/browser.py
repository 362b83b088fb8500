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
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from controls import watch
from playwright.sync_api import Error, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
LESSON = "notebooks/01-what-a-chat-completions-endpoint-is.ipynb"
IDLE = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
# What JupyterLab asks where the machine is too busy to answer it in time: which kernel, and whether it knows that.
LATE = ".jp-Dialog:has-text('Select Kernel'), .jp-Dialog:has-text('Server Connection Error')"
PATIENCE = 180_000  # ms, for whatever is waited for: a busy machine takes its time, and is no fault
SECONDS_OF_REST = 60  # after which a notebook in which nothing happens has lost what it was to run
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


def folders_of_its_own(folder):
    """Return the environment of a Jupyter that opens no tab, chat or record of an earlier session, and leaves none."""
    return {"JUPYTER_CONFIG_DIR": str(folder / "jupyter"), "CHATLAB_RECORDS": str(folder / "records")}


@pytest.fixture(scope="session")
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
            env={**os.environ, "PYTHONUNBUFFERED": "1", **folders_of_its_own(folder.parent)},
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
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        page.set_default_timeout(PATIENCE)
        page.console_errors = []
        page.on("console", lambda message: message.type == "error" and page.console_errors.append(told(message)))
        page.on("pageerror", lambda error: page.console_errors.append(str(error)))
        page.add_locator_handler(page.locator(LATE), lambda dialog: dialog.locator("button.jp-mod-accept").click())
        yield page
        end_sessions(page, lab)
        browser.close()


def told(message):
    """Return what a line of the browser's console says, and where it comes from."""
    return f"{message.text} {message.location['url'].partition('?')[0]}"


def open_lesson(page, lab, lesson):
    address, token = re.match(r"(http://[^/]+)/.*(token=\S+)", lab.address).groups()
    page.goto("about:blank")
    end_sessions(page, lab, but=lesson)
    page.console_errors.clear()
    page.goto(f"{address}/lab/tree/{lesson}?reset&{token}")
    page.wait_for_selector(".jp-Notebook .jp-Cell")


def end_sessions(page, lab, but=None):
    """Shut down every kernel but that of one notebook: each that has loaded a model holds 700 MB."""
    address, token = re.match(r"(http://[^/]+)/.*(token=\S+)", lab.address).groups()
    sessions = f"{address}/api/sessions"
    for session in page.request.get(f"{sessions}?{token}").json():
        if session["path"] != but:
            page.request.delete(f"{sessions}/{session['id']}?{token}")


def open_notebook(page, lab, name, *cells):
    """Write a notebook of these code cells into the lab's folder and open it."""
    write_notebook(lab.folder / f"{name}.ipynb", *cells)
    open_lesson(page, lab, f"{name}.ipynb")
    page.wait_for_selector(IDLE)


def write_notebook(path, *cells):
    """Write a notebook of these code cells; return its path."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    nbformat.write(notebook, path)
    return path


@contextmanager
def other_app(app, notebook):
    """Serve a notebook with "notebook" (Notebook 7) or "voila"; yield the address that shows it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    commands = {
        "notebook": ["notebook", "--no-browser", f"--port={port}", "--IdentityProvider.token=", "--allow-root"],
        "voila": ["voila", str(notebook), "--no-browser", f"--port={port}"],
    }
    process = subprocess.Popen(
        [sys.executable, "-m", *commands[app]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=notebook.parent,
        env={**os.environ, **folders_of_its_own(notebook.parent)},
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert process.poll() is None, f"{app} ended"
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        yield f"{address}/notebooks/{notebook.name}" if app == "notebook" else address
    finally:
        process.terminate()
        process.wait(20)


def run_cell(page, number=0):
    """Run one cell of the notebook on the page by the keyboard; return its output."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputPrompt")
    before = prompt.inner_text()
    for _ in range(5):  # a notebook that is still being opened may not hear it
        cell.locator(".jp-InputArea-editor").click()
        page.keyboard.press("Control+Enter")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if prompt.inner_text() != before:
                time.sleep(0.5)  # a kernel that had not quite started may lose what it was to run
                if prompt.inner_text() != "[ ]:":
                    return cell.locator(".jp-OutputArea")
            time.sleep(0.05)
    raise AssertionError(f"cell {number} was not run")


def show_panel(page, lab, name, code):
    """Open a notebook whose one cell shows a panel, run it, and return the panel, whose controls are watched."""
    open_notebook(page, lab, name, code)
    panel = run_cell(page).locator(".chatlab-panel").first
    panel.wait_for()
    watch(panel)
    return panel


def button(panel, name):
    """Return the panel's button of just that name."""
    return panel.get_by_role("button", name=name, exact=True)


def set_theme(page, theme):
    """Switch JupyterLab to its "Light" or "Dark" theme."""
    page.click("text=Settings >> visible=true")
    page.hover(".lm-Menu-item:has-text('Theme')")
    page.click(f".lm-Menu-item:has-text('JupyterLab {theme}') >> visible=true")
    page.wait_for_selector(f"body[data-jp-theme-name='JupyterLab {theme}']", state="attached")


def check_accessible(page, context=".chatlab-panel"):
    """Let axe look at a part of the page: nothing serious, contrast included."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=context).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert serious == [], "\n".join(f"{each['id']}: {node['html']}" for each in serious for node in each["nodes"])


def clear_outputs(path):
    """Take every output and number out of a notebook, so that those found later are new."""
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run_all_cells(page, path):
    """Run every cell by the menu, save until all have a number in the file, and return the code cells.

    A kernel whose connection comes late may lose what it was to run. Where nothing happens for long, it is restarted.
    """
    page.wait_for_selector(IDLE)
    page.click("text=Run >> visible=true")
    page.locator(".lm-Menu-item").get_by_text("Run All Cells", exact=True).click()
    deadline = time.monotonic() + 3 * PATIENCE / 1000
    seen, at = None, time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(1)
        page.keyboard.press("Control+s")
        with suppress(nbformat.reader.NotJSONError):  # it is being written at this moment
            cells = code_cells(nbformat.read(path, as_version=4))
            errors = [output for cell in cells for output in cell.outputs if output.output_type == "error"]
            assert not errors, "\n".join(errors[0].traceback)
            if all(cell.execution_count for cell in cells):
                return cells
        if (shown := state(page)) != seen:
            seen, at = shown, time.monotonic()
        elif time.monotonic() - at > SECONDS_OF_REST:
            at = time.monotonic()
            page.click("text=Kernel >> visible=true")
            page.click("text=Restart Kernel and Run All Cells")
            page.click(".jp-Dialog button.jp-mod-accept")
    screenshot(page, "not-every-cell-was-run")
    raise AssertionError(f"not every cell was run: {seen}")


def state(page):
    """Return what the page shows of the kernel's state, the cells' numbers, and JupyterLab's questions."""
    kernel = page.locator(".jp-Notebook-ExecutionIndicator").get_attribute("data-status")
    return kernel, page.locator(".jp-InputPrompt").all_inner_texts(), page.locator(".jp-Dialog").all_inner_texts()


def text_of(page):
    """Return all that a page shows as text, and the errors in its console."""
    try:
        return "\n".join([page.locator("body").inner_text(timeout=10_000), *page.console_errors])
    except Error as error:  # it may be gone
        return str(error)


def screenshot(shown, name):
    """Keep a picture of a page or a part of it where `CHATLAB_SCREENSHOTS` says, to look at."""
    if folder := os.environ.get("CHATLAB_SCREENSHOTS"):
        shown.screenshot(path=Path(folder) / f"{name}.png")
