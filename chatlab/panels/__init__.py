"""Panels: ipywidgets over everything else, for a notebook.

Each panel is a view on Python state that can be read, driven and tested without a browser.
"""

from chatlab.panels.chat import ChatPanel
from chatlab.panels.glass_box import GlassBox
from chatlab.panels.stream import StreamPanel

__all__ = ["ChatPanel", "GlassBox", "StreamPanel"]
