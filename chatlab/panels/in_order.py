"""InOrder: no button of a panel overtakes what was typed or chosen before it.

In: the page's clicks. Out: the same clicks, each once Python knows of every change before it. Knows nothing of what the
controls are for.

While Python is at work on a change, ipywidgets holds back the next one of the same control, but never a button. So on a
busy machine Check could come before the answer, and Send before the end of the message. The page holds a button back
too: it asks for an echo, and what was held back is sent before the echo comes, since the kernel answers in order. That
it does so takes a word to ipykernel.
"""

from __future__ import annotations

import ipywidgets as widgets

from chatlab.panels.page_scripts import on_page

__all__ = ["InOrder", "keep_in_one_queue"]

_HOLD_BACK = on_page(
    "chatlab-panel",
    """if (box.parentElement.closest('.chatlab-panel')) return;
const echo = box.querySelector(':scope > .chatlab-in-order'), heard = () => Number(echo.textContent), held = [];
let changed = false, asked = 0, passing = null;
for (const type of ['input', 'change']) box.addEventListener(type, () => { changed = true; }, true);
box.addEventListener('click', event => {
  const button = event.target.closest('.widget-button'), ask = echo.querySelector('button');
  if (!button || button === ask || button === passing || !(changed || held.length)) return;
  event.preventDefault(); event.stopImmediatePropagation();
  changed = false;
  asked = Math.max(asked, heard()) + 1;
  held.push([asked, button]);
  ask.click();
}, true);
new MutationObserver(() => {
  while (held.length && held[0][0] <= heard()) { passing = held.shift()[1]; passing.click(); passing = null; }
}).observe(echo, { childList: true, subtree: true, characterData: true });""",
)


class InOrder(widgets.HBox):  # type: ignore[misc]
    """Echoes what the page asks: the number of times that it has asked. Nobody sees it.

    >>> in_order = InOrder()
    >>> in_order.ask.click()
    >>> in_order.echo.value
    '1'
    """

    def __init__(self) -> None:
        self.ask, self.echo = widgets.Button(), widgets.HTML("0")
        self.ask.on_click(self._answer)
        super().__init__(children=[self.ask, self.echo, widgets.HTML(_HOLD_BACK)], layout={"display": "none"})
        self.add_class("chatlab-in-order")

    def _answer(self, _: widgets.Button) -> None:
        self.echo.value = str(int(self.echo.value) + 1)


def keep_in_one_queue(box: widgets.Widget) -> None:
    """Let the kernel take what the page sends to these controls in one queue, in the order in which it was sent.

    ipykernel 7 has two, one for cells and one for controls, each with a thread. It puts a message where its control
    last sent something itself, so that two controls of one panel could be answered at the same time. The attribute is
    ipykernel's own: one that does not know it takes no notice.
    """
    if box.comm is not None:
        box.comm._reply_subshell_for = None
    for child in getattr(box, "children", ()):
        keep_in_one_queue(child)
