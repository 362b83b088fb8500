"""What every panel does with work in the background."""

from __future__ import annotations

import subprocess
import sys
import threading

from chatlab.panels.panel import Panel

LEFT_AT_WORK = """
from chatlab.panels.panel import Panel

panel = Panel([])

def work():
    panel.stopping.wait()
    print("stopped")

panel.run(work)
"""


def test_work_is_stopped_where_python_ends():
    ended = subprocess.run([sys.executable, "-c", LEFT_AT_WORK], capture_output=True, text=True, timeout=180)
    assert (ended.returncode, ended.stdout) == (0, "stopped\n"), ended.stderr


def test_new_work_begins_as_soon_as_controls_are_enabled():
    enabled, clicked, done = threading.Event(), threading.Event(), []

    class Slow(Panel):
        def on_running(self, running):
            if not running and not done:
                enabled.set()
                clicked.wait(60)

    panel = Slow([])
    panel.run(lambda: None)
    enabled.wait(60)
    threading.Timer(0.1, clicked.set).start()  # a click comes while controls are still being enabled
    panel.run(lambda: done.append("second"))
    panel.wait()
    assert done == ["second"] and not panel.running
