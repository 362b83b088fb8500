"""The lab: JupyterLab, opened on the lessons.

In: a folder with lessons, a port. Out: a running JupyterLab, and its address in the terminal. Knows nothing of models.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FIRST_LESSON", "open_lab"]

FIRST_LESSON = "notebooks/00-start-here.ipynb"


def open_lab(folder: Path, *, port: int | None = None, browser: bool = True) -> None:
    """Run JupyterLab on the folder until it is interrupted, with the first lesson open.

    The next free port is taken when the one asked for (None: 8888) is in use. Only this machine can reach it, and only
    with the token in the address.
    """
    from jupyterlab.labapp import LabApp

    argv = [
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{FIRST_LESSON}",
        f"--ServerApp.open_browser={browser}",
        "--ServerApp.log_level=WARN",
        # No questions about news and no look for updates: the lab works offline and phones nobody.
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        # A learner in a container is often root, where JupyterLab refuses to start unless told otherwise.
        f"--ServerApp.allow_root={hasattr(os, 'geteuid') and os.geteuid() == 0}",
    ]
    if port is not None:
        argv.append(f"--ServerApp.port={port}")
    server = LabApp.initialize_server(argv=argv)
    print(f"\n  The lab is open at\n\n    {server.display_url}\n\n  Stop it with Ctrl-C.\n", flush=True)
    server.start()
