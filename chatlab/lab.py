"""The lab: JupyterLab, opened on the lessons.

In: a folder with lessons, a port. Out: a running JupyterLab, and its address in the terminal. Knows nothing of models.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["FIRST_LESSON", "open_lab"]

FIRST_LESSON = "notebooks/00-start-here.ipynb"


def open_lab(folder: Path, *, host: str = "localhost", port: int | None = None, browser: bool = True) -> None:
    """Run JupyterLab on the folder until it is interrupted, with the first lesson open.

    The next free port is taken when the one asked for (None: 8888) is in use. Only this machine can reach it, unless
    `host` says otherwise, and only with the token in the address.
    """
    from jupyterlab.labapp import LabApp

    argv = [
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{FIRST_LESSON}",
        f"--ServerApp.ip={host}",
        f"--ServerApp.open_browser={browser}",
        "--ServerApp.log_level=WARN",
        "--LabApp.log_level=WARN",
        # A learner in a container is often root, where JupyterLab refuses to start unless told otherwise.
        f"--ServerApp.allow_root={hasattr(os, 'geteuid') and os.geteuid() == 0}",
    ]
    if port is not None:
        argv.append(f"--ServerApp.port={port}")
    server = LabApp.initialize_server(argv=argv)
    server.web_app.settings["page_config_hook"] = _without_news
    print(f"\n  The lab is open at\n\n    {server.display_url}\n\n  Stop it with Ctrl-C.\n", flush=True)
    server.start()


def _without_news(_handler: object, page_config: dict[str, Any]) -> dict[str, Any]:
    """Switch off the question about news and the look for updates: the lab works offline and phones nobody."""
    disabled = [*page_config.get("disabledExtensions", []), "@jupyterlab/apputils-extension:announcements"]
    return {**page_config, "disabledExtensions": disabled}
