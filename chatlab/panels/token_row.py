"""TokenRow: tokens in a row, each a button to pick it.

In: token ids and the place of the first. Out: the place of the one that is picked, as the row's `value`. Knows nothing
of what is shown for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from chatlab.chat_model import ChatModel
from chatlab.panels.page_scripts import on_page
from chatlab.panels.panel import LABELLED
from chatlab.steps import token_name

__all__ = ["ROW_KEYS", "TokenRow"]

MOST_BUTTONS = 400  # a browser is slow with thousands

# A row is one stop for Tab, as a toolbar is, and the arrow keys move along it: nobody wants to go by 400 buttons. A
# panel with such rows needs it once. Buttons are made anew as a reply grows, so the page is watched.
ROW_KEYS = on_page(
    "chatlab-panel",
    """const tokensOf = row => [...row.querySelectorAll('button')];
const oneStop = () => {
  for (const row of box.querySelectorAll('.chatlab-token-row')) {
    const tokens = tokensOf(row), focused = tokens.find(token => token === document.activeElement);
    const stop = focused ?? row.querySelector('button.mod-active') ?? tokens[0];
    for (const token of tokens) {
      token.tabIndex = token === stop ? 0 : -1;
      token.setAttribute('data-lm-suppress-shortcuts', 'true');
    }
  }
};
box.addEventListener('focusin', oneStop);
box.addEventListener('keydown', event => {
  const row = event.target.closest('.chatlab-token-row');
  if (!row || event.ctrlKey || event.altKey || event.metaKey) return;
  const tokens = tokensOf(row), at = tokens.indexOf(event.target), last = tokens.length - 1;
  const there = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: last };
  const next = tokens[there[event.key]];
  if (at < 0 || !(event.key in there)) return;
  event.preventDefault();
  next?.focus();
});
new MutationObserver(oneStop).observe(box, {
  childList: true, subtree: true, attributes: true, attributeFilter: ['class'],
});
oneStop();""",
)


class TokenRow(widgets.ToggleButtons):  # type: ignore[misc]
    """A row of buttons, one for each token, white space visible; of very many tokens it holds the last ones.

    >>> from chatlab.testing import ScriptedModel
    >>> row = TokenRow("Tokens")
    >>> row.fill([72, 32], model=ScriptedModel(""), picked=1)
    >>> row.options, row.value
    ((('H', 0), ('␣', 1)), 1)
    """

    def __init__(self, label: str) -> None:
        self._filled_by: int | None = None  # the thread that fills the row now
        super().__init__(options=[], description=label, style={**LABELLED, "button_width": "auto"})
        self.add_class("chatlab-token-row")

    def on_pick(self, act: Callable[[int], None]) -> None:
        """Call `act` with the place of each token that is picked, though not of those that `fill` presses.

        >>> row = TokenRow("Tokens")
        >>> row.on_pick(print)
        >>> from chatlab.testing import ScriptedModel
        >>> row.fill([72, 32], model=ScriptedModel(""), picked=1)
        >>> row.value = 0
        0
        """

        def changed(change: dict[str, Any]) -> None:
            if threading.get_ident() != self._filled_by and change["new"] is not None:
                act(change["new"])

        self.observe(changed, "value")

    def fill(self, token_ids: Sequence[int], *, model: ChatModel, picked: int, first: int = 0) -> None:
        """Show these tokens, whose places begin at `first`, and press the picked one if it is among them."""
        left_out = max(0, len(token_ids) - MOST_BUTTONS)
        options = tuple(
            (token_name(token_id, model=model), first + left_out + number)
            for number, token_id in enumerate(token_ids[left_out:])
        )
        self._filled_by = threading.get_ident()
        try:
            if options != tuple(self._options_full):  # else the browser makes the buttons anew, and the focus is lost
                self.options = options
            # Given no options, ipywidgets leaves the last ones there.
            self.layout.display = None if options else "none"
            self.value = picked if first + left_out <= picked < first + len(token_ids) else None
        finally:
            self._filled_by = None
