"""ProgressPanel: what a learner has answered, and what to do next.

In: the learner's progress. Out: its tables, a file of it, or nothing left of it. Knows nothing of questions.
"""

from __future__ import annotations

from pathlib import Path

import ipywidgets as widgets

from chatlab.panels.panel import LABELLED, Panel
from chatlab.progress import Progress

__all__ = ["ProgressPanel"]

FILES = {"CSV, for a spreadsheet": "chatlab-progress.csv", "JSON, as in xAPI": "chatlab-progress.json"}


class ProgressPanel(Panel):
    """Lessons, topics, concepts, beliefs met and what next; Refresh, Save as a file, and Delete all.

    `refresh`, `save` and `delete` do what the buttons do. Deleting also forgets predictions, what the placement test
    said, and when the flash cards are due.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> ProgressPanel(Progress(Path(folder.name)))
    ProgressPanel(0 answers)
    >>> folder.cleanup()
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress or Progress()
        self.tables = widgets.HTML()
        self.refresh_button = widgets.Button(description="Refresh", tooltip="Show what was answered meanwhile")
        self.form = widgets.Dropdown(
            options=list(FILES.items()), description="Save as", style=LABELLED, layout={"width": "32ch"}
        )
        self.save_button = widgets.Button(description="Save", tooltip="Write the answers to a file beside the notebook")
        self.sure = widgets.Checkbox(
            description="Yes, delete all my answers and predictions",
            indent=False,
            style=LABELLED,
            layout={"width": "auto"},
        )
        self.delete_button = widgets.Button(description="Delete all", tooltip="Delete every answer", disabled=True)
        self.refresh_button.on_click(lambda _: self.refresh())
        self.save_button.on_click(lambda _: self.save(self.form.value))
        self.delete_button.on_click(lambda _: self.delete())
        self.sure.observe(lambda change: setattr(self.delete_button, "disabled", not change["new"]), "value")
        row = {"flex_flow": "row wrap"}
        super().__init__(
            [
                self.tables,
                widgets.HBox([self.refresh_button, self.form, self.save_button], layout=row),
                widgets.HBox([self.sure, self.delete_button], layout=row),
            ]
        )
        self.refresh()

    def refresh(self) -> None:
        """Show the progress as it is now."""
        self.tables.value = f'<div class="chatlab">{self.static_html()}</div>'
        self.note("")

    def save(self, path: Path | str) -> None:
        """Write the answers to a .csv or .json file, and say where it is."""
        try:
            self.progress.export(path)
        except (OSError, ValueError) as error:
            self.note(f"The file cannot be written: {error}")
        else:
            self.note(f"Saved as {path}.")

    def delete(self) -> None:
        """Delete every answer and prediction, the placement, and when each flash card is due."""
        self.progress.delete()
        self.sure.value = False
        self.refresh()
        self.note("All your answers and predictions are deleted.")

    def static_html(self) -> str:
        """Return the tables, and what to do next."""
        return self.progress.summary().html()

    def __repr__(self) -> str:
        return f"ProgressPanel({len(self.progress.answers)} answers)"
