"""Saved chats: a transcript outlives its kernel.

In: the cell that shows a panel, and its conversation. Out: a file of that cell's own, read again when the cell runs
again, in this kernel or the next. Knows nothing of widgets.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, ClassVar

from chatlab.conversation import Conversation
from chatlab.files import write_whole
from chatlab.messages import role_of
from chatlab.records import records_folder

__all__ = ["SavedChat"]


class SavedChat:
    """A file for one panel's chat; `path` None is none, as outside a notebook.

    `given` are the settings that the code asks for. As long as they stay the same, those changed in the panel since
    come back with the turns; when the code asks for others, these hold, and only the turns come back.

    >>> chat = SavedChat(None)
    >>> chat.restore(Conversation(), given={})
    False
    """

    shown: ClassVar[dict[tuple[Any, str], int]] = {}  # how many panels a cell has shown in one run

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @classmethod
    def here(cls, name: str | None = None) -> SavedChat:
        """Return the file of the cell that is running, the second one for its second panel; or the one of that name."""
        if name is not None:
            return cls(records_folder() / "chats" / f"{_file_name(name)}.json")
        place = _cell()
        if place is None:
            return cls(None)
        run, notebook, cell = place
        number = cls.shown[run, cell] = cls.shown.get((run, cell), 0) + 1
        return cls(records_folder() / "chats" / f"{_file_name(notebook)}-{_file_name(cell)}-{number}.json")

    def restore(self, conversation: Conversation, *, given: dict[str, Any]) -> bool:
        """Put the saved turns into a conversation that has none; return whether there were any.

        A file that cannot be read, or is no chat, is left alone.
        """
        if self.path is None or conversation.turns:
            return False
        try:
            saved = Conversation.load(self.path)
            same = json.loads(self.path.read_text(encoding="utf-8")).get("given") == given
        except (OSError, ValueError):
            return False
        if same:
            conversation.messages = saved.messages
            for setting in ("temperature", "top_p", "seed", "max_completion_tokens"):
                setattr(conversation, setting, getattr(saved, setting))
        else:
            turns = [each for each in saved.messages if role_of(each) not in ("system", "developer")]
            conversation.messages = [*conversation.messages, *turns]
        return conversation.turns > 0

    def save(self, conversation: Conversation, *, given: dict[str, Any]) -> None:
        """Write the chat, if there is a file for it; a disk that refuses does not end the chat."""
        if self.path is None:
            return
        text = json.dumps({"given": given, **json.loads(conversation.to_json())}, ensure_ascii=False, indent=2)
        try:
            write_whole(self.path, text.encode())
        except OSError:
            self.path = None

    def forget(self) -> None:
        """Remove the file."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _cell() -> tuple[Any, str, str] | None:
    """Return which run of which notebook's which cell this is; None where Jupyter does not say."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    notebook = os.environ.get("JPY_SESSION_NAME")
    if kernel is None or notebook is None:
        return None
    parent = kernel.get_parent("shell") or {}
    cell = parent.get("metadata", {}).get("cellId")
    return (parent.get("header", {}).get("msg_id"), notebook, cell) if cell else None


def _file_name(text: str) -> str:
    """Return a text as a name that every file system takes, different texts as different names.

    >>> _file_name("lessons/01.ipynb")
    'lessons-01-ipynb-e32febf7'
    """
    kept = "".join(character if character.isalnum() else "-" for character in text)[-60:]
    return f"{kept}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
