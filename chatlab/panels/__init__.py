"""Panels: ipywidgets over everything else, for a notebook.

Each panel is a view on Python state that can be read, driven and tested without a browser.
"""

from chatlab.panels.chat import ChatPanel
from chatlab.panels.quiz import QuizPanel

__all__ = ["ChatPanel", "QuizPanel"]
