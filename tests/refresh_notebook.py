"""Run notebooks from a fresh kernel and keep what a reader should see: `python tests/refresh_notebook.py NOTEBOOK...`

In: notebooks. Out: the same files with the outputs of one run from top to bottom: texts, HTML and pictures. Left out
are widgets, which live only while a kernel does, progress bars, and how long a cell took: they would change each time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

KEPT = {"text/plain", "text/html", "text/markdown", "image/png", "image/svg+xml"}
METADATA = {"tags", "jupyter", "collapsed", "nbgrader"}


def refresh(path: Path) -> None:
    """Run a notebook, and write it with its outputs; raises nbclient's `CellExecutionError` where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=120, coalesce_streams=True, resources=place).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info.pop("version", None)
    notebook.metadata.language_info.pop("codemirror_mode", None)
    notebook.metadata.language_info.pop("nbconvert_exporter", None)
    for cell in notebook.cells:
        cell.metadata = {name: value for name, value in cell.metadata.items() if name in METADATA}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _kept(output)]
    nbformat.write(notebook, path)


def _kept(output: Any) -> bool:
    """Take out of an output what is not for keeps, and say whether anything is left."""
    if output.output_type == "stream":
        return bool(output.name == "stdout")
    if output.output_type not in ("display_data", "execute_result"):
        return bool(output.output_type == "error")
    widget = "application/vnd.jupyter.widget-view+json" in output.data
    output.data = {kind: value for kind, value in output.data.items() if kind in KEPT}
    output.metadata = {}
    return bool(output.data) and not (widget and set(output.data) == {"text/plain"})


if __name__ == "__main__":
    os.environ.setdefault("CHATLAB_RECORDS", "off")  # nobody learns here
    for name in sys.argv[1:]:
        refresh(Path(name))
        print(f"{name}: run and written")
