"""Panels: ipywidgets over everything else, for a notebook.

Each panel is a view on Python state that can be read, driven and tested without a browser.
"""

from chatlab.panels.chat import ChatPanel
from chatlab.panels.compare import ComparePanel
from chatlab.panels.context import ContextPanel
from chatlab.panels.glass_box import GlassBox
from chatlab.panels.guess import GuessPanel
from chatlab.panels.progress import ProgressPanel
from chatlab.panels.quiz import QuizPanel
from chatlab.panels.recall import RecallPanel
from chatlab.panels.sampling import SamplingPanel
from chatlab.panels.stream import StreamPanel
from chatlab.panels.template import TemplatePanel
from chatlab.panels.tokens import TokenPanel

__all__ = [
    "ChatPanel",
    "ComparePanel",
    "ContextPanel",
    "GlassBox",
    "GuessPanel",
    "ProgressPanel",
    "QuizPanel",
    "RecallPanel",
    "SamplingPanel",
    "StreamPanel",
    "TemplatePanel",
    "TokenPanel",
]
