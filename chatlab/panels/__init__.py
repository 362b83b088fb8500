"""Panels: ipywidgets over everything else, for a notebook.

Each panel is a view on Python state that can be read, driven and tested without a browser.
"""

from chatlab.panels.chat import ChatPanel
from chatlab.panels.context import ContextPanel
from chatlab.panels.sampling import SamplingPanel

__all__ = ["ChatPanel", "ContextPanel", "SamplingPanel"]
