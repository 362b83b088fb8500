"""Chat export: a conversation as a text to copy or to save.

In: a conversation and a format. Out: Markdown, JSON, or a program that asks for the last reply again, shown with a
button that copies it and one that saves it. Knows nothing of how any of them is written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets

from chatlab.conversation import Conversation
from chatlab.display import escape
from chatlab.files import write_whole
from chatlab.panels.panel import LABELLED
from chatlab.snippets import as_curl, as_python

__all__ = ["ChatExport"]

FORMATS: dict[str, tuple[str, Callable[[Conversation], str]]] = {  # name → file name, and what writes it
    "Markdown": ("chat.md", Conversation.to_markdown),
    "JSON": ("chat.json", Conversation.to_json),
    "Python": ("chat.py", as_python),
    "curl": ("chat.sh", as_curl),
}


class ChatExport(widgets.VBox):  # type: ignore[misc]
    """A choice of formats, and the conversation in the one that is chosen.

    >>> from chatlab.testing import ScriptedModel
    >>> chat = Conversation(model=ScriptedModel("Hello!"))
    >>> export = ChatExport(chat)
    >>> _ = chat("Hi")
    >>> export.refresh()
    >>> export.text.splitlines()[:3]
    ['**user**', '', 'Hi']
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.text = ""
        self.format_field = widgets.Dropdown(
            options=list(FORMATS), description="Format", style=LABELLED, layout={"width": "24ch"}
        )
        self.save_button = widgets.Button(description="Save as a file", tooltip="Beside this notebook")
        self.shown, self.told = widgets.HTML(), widgets.HTML()
        self.format_field.observe(lambda _: self.refresh(), "value")
        self.save_button.on_click(lambda _: self.save())
        row = widgets.HBox([self.format_field, self.save_button], layout={"flex_flow": "row wrap"})
        super().__init__(
            children=[row, self.shown, self.told],
            layout={"width": "auto"},
        )

    def refresh(self) -> None:
        """Write the conversation as it is now."""
        _, write = FORMATS[self.format_field.value]
        self.told.value = ""
        try:
            self.text = write(self.conversation)
        except ValueError as error:  # nothing has been asked yet
            self.text = str(error)
        self.shown.value = (
            '<div class="chatlab"><button class="jupyter-button" onclick="navigator.clipboard.writeText('
            "this.parentElement.querySelector('pre').textContent); this.textContent = 'Copied'\">Copy</button>"
            f'<pre class="chatlab-prompt" tabindex="0" aria-label="{escape(self.format_field.value)}">'
            f"{escape(self.text)}</pre></div>"
        )

    def save(self) -> Path:
        """Write the text into the folder of the notebook, beside an earlier one; return its path."""
        self.refresh()
        name = Path(FORMATS[self.format_field.value][0])
        number, path = 1, name
        while path.exists():
            number += 1
            path = name.with_stem(f"{name.stem}-{number}")
        write_whole(path, self.text.encode())
        self.told.value = f'<div class="chatlab-note" role="status">Saved as {escape(str(path))}.</div>'
        return path
