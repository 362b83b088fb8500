"""Panel: what all panels share: one look, work in the background, and a form for where there are no widgets.

In: controls. Out: a box of them that shows itself, in a notebook as widgets, on a page as HTML, elsewhere as text.
Knows nothing of what a panel is about.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from chatlab.display import STYLE, escape, view
from chatlab.errors import ChatlabError
from chatlab.interruption import interruptible
from chatlab.panels.in_order import InOrder, keep_in_one_queue
from chatlab.panels.page_scripts import on_page

__all__ = ["LABELLED", "WIDE", "Panel", "Throttle", "number_field"]

SECONDS_TO_END = 5.0  # more than the longest piece of work between two looks at whether to stop
SECONDS_BETWEEN_UPDATES = 0.1  # each update sends a whole text, so a browser gets at most ten a second

LABELLED = {"description_width": "initial"}  # the style of a control whose label is shown whole
WIDE = {"flex": "1 1 auto", "width": "auto"}  # the layout of a control that takes the room there is


def number_field(
    label: str, value: float, *, minimum: float, maximum: float, step: float, tooltip: str = ""
) -> widgets.BoundedFloatText | widgets.BoundedIntText:
    """Return a field for a number, whole where the step is; arrow keys and its arrows change it by a step.

    A slider would be nicer to the eye, but ipywidgets' own has no name that a screen reader could say.

    >>> number_field("Temperature", 0.7, minimum=0, maximum=2, step=0.1).value
    0.7
    """
    kind = widgets.BoundedIntText if isinstance(step, int) else widgets.BoundedFloatText
    return kind(
        value=value,
        min=minimum,
        max=maximum,
        step=step,
        description=label,
        tooltip=tooltip or None,
        continuous_update=True,
        style=LABELLED,
        layout={"width": f"{len(label) + 14}ch"},
    )


class Throttle:
    """Says when the next update is due, so that fast work does not flood the browser.

    >>> throttle = Throttle(seconds=60)
    >>> [throttle.due() for _ in range(3)]
    [True, False, False]
    """

    def __init__(self, seconds: float = SECONDS_BETWEEN_UPDATES) -> None:
        self.seconds = seconds
        self._next = 0.0

    def due(self) -> bool:
        """Whether it is time for an update; if so, the next one is due `seconds` later."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.seconds
        return True


# JupyterLab takes a letter or an arrow that is pressed in a list of choices for a command: D twice would delete the
# cell. An attribute tells it to leave them alone. And arrow keys move among radio buttons only where these share a
# name, which ipywidgets does not give them.
_KEYS = on_page(
    "chatlab-panel",
    """box.addEventListener('focusin', event => {
  if (event.target.matches('select, input[type=radio], input[type=checkbox]'))
    event.target.setAttribute('data-lm-suppress-shortcuts', 'true');
});
const name = () => {
  for (const radio of box.querySelectorAll('.widget-radio-box input:not([name])')) {
    const group = radio.closest('.widget-radio-box');
    group.id ||= `chatlab-${Math.random()}`;
    radio.name = group.id;
  }
};
new MutationObserver(name).observe(box, { childList: true, subtree: true });
name();""",
)


class Panel(widgets.VBox):  # type: ignore[misc]
    """A box of controls over Python state, with a line of `status` below.

    A panel says in `static_html` how it looks without widgets. Its long work goes through `run`, one piece at a time;
    `stop` and `wait` work for every panel, `on_running` enables and disables what may be used meanwhile.
    """

    def __init__(self, children: Sequence[widgets.Widget]) -> None:
        self.status = widgets.HTML()
        self.stopping = threading.Event()
        self._running = False
        self._thread: threading.Thread | None = None
        super().__init__(children=[widgets.HTML(STYLE + _KEYS), *children, self.status, InOrder()])
        self.add_class("chatlab-panel")

    def static_html(self) -> str:
        """Return the panel as it stands now, as HTML without controls; all text in it is escaped."""
        raise NotImplementedError

    def on_running(self, running: bool) -> None:
        """Work has begun or ended: enable and disable controls."""

    @property
    def running(self) -> bool:
        """Whether work is being done in the background."""
        return self._running

    def run(self, work: Callable[[], None]) -> None:
        """Do work in a thread of its own, so that other cells can run and Stop works at once.

        What goes wrong is told in the status line: a thread has nobody to raise to. Does nothing while other work is
        being done.
        """
        if self.running:
            return
        self.wait()  # the work before is done, but it may still be enabling controls
        self.stopping.clear()
        self._running = True
        self.on_running(True)

        def guarded() -> None:
            try:
                with interruptible(self.stopping.is_set):
                    work()
            except ChatlabError as error:
                self.note(f"{type(error).__name__}: {error}")
            except Exception as error:
                self.note(f"Something went wrong: {type(error).__name__}: {error}")
            finally:
                self._running = False  # first: a control that can be used works at once
                self.on_running(False)
                atexit.unregister(self._end)

        atexit.register(self._end)
        self._thread = threading.Thread(target=guarded, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the work at its next step; what it has done so far stays."""
        self.stopping.set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the work is done, at most `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _end(self) -> None:
        """Stop the work where Python ends: torch in a thread would abort the process."""
        self.stop()
        self.wait(SECONDS_TO_END)

    def note(self, text: str) -> None:
        """Say something in the status line, which a screen reader reads out."""
        self.status.value = f'<div class="chatlab-note" role="status">{escape(text)}</div>' if text else ""

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Add the static form to what a notebook keeps, for where the widgets are not at hand."""
        keep_in_one_queue(self)
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        return {**bundle, "text/plain": repr(self), "text/html": view(self.static_html())}
