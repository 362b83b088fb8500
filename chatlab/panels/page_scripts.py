"""Page scripts: a few lines that a page runs for what ipywidgets' own controls lack and a keyboard needs.

In: lines of JavaScript and the class of a box. Out: HTML that runs them once the box is there. Knows nothing of panels.
"""

from __future__ import annotations

from chatlab.display import escape

__all__ = ["on_page"]


def on_page(css_class: str, script: str) -> str:
    """Return HTML that runs a few lines once the box of that class around it is in the page, as `box`.

    What else the box will hold may not be there yet. The script is the author's, never a learner's. A page that does
    not run it loses a convenience, not the panel.
    """
    box = f"const box = image.closest('.{css_class}')"
    wait = f"{box}; if (!box?.isConnected) return setTimeout(wait, 50, image);"
    code = f"(function wait(image) {{ {wait} image.remove(); {script} }})(this)"
    return f'<img src="data:," alt="" hidden onerror="{escape(code)}">'
