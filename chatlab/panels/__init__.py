"""Panels: ipywidgets over everything else, for a notebook.

Each panel is a view on Python state that can be read, driven and tested without a browser.
"""

from chatlab.panels.chat import ChatPanel
from chatlab.panels.progress import ProgressPanel
from chatlab.panels.quiz import QuizPanel
from chatlab.panels.recall import RecallPanel

__all__ = ["ChatPanel", "ProgressPanel", "QuizPanel", "RecallPanel"]
