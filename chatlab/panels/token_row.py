"""TokenRow: tokens in a row, each a button to pick it.

In: token ids and the place of the first. Out: the place of the one that is picked, as the row's `value`. Knows nothing
of what is shown for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets

from chatlab.chat_model import ChatModel
from chatlab.panels.panel import LABELLED
from chatlab.steps import token_name

__all__ = ["TokenRow"]

MOST_BUTTONS = 400  # a browser is slow with thousands


class TokenRow(widgets.ToggleButtons):  # type: ignore[misc]
    """A row of buttons, one for each token, white space visible; of very many tokens it holds the last ones.

    >>> from chatlab.testing import ScriptedModel
    >>> row = TokenRow("Tokens")
    >>> row.fill([72, 32], model=ScriptedModel(""), picked=1)
    >>> row.options, row.value
    ((('H', 0), ('␣', 1)), 1)
    """

    def __init__(self, label: str) -> None:
        super().__init__(options=[], description=label, style={**LABELLED, "button_width": "auto"})
        self.add_class("chatlab-token-row")

    def fill(self, token_ids: Sequence[int], *, model: ChatModel, picked: int, first: int = 0) -> None:
        """Show these tokens, whose places begin at `first`, and press the picked one if it is among them."""
        left_out = max(0, len(token_ids) - MOST_BUTTONS)
        options = tuple(
            (token_name(token_id, model=model), first + left_out + number)
            for number, token_id in enumerate(token_ids[left_out:])
        )
        if list(options) != list(
            self._options_full
        ):  # else the browser would make the buttons anew, and the focus would be lost
            self.options = options
        self.layout.display = None if options else "none"  # given no options, ipywidgets leaves the last ones there
        self.value = picked if first + left_out <= picked < first + len(token_ids) else None
