"""Figures: a picture that shows itself in a notebook, with its description.

In: a matplotlib figure and an alternative text. Out: a `Plot`. Knows nothing of what is drawn.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from chatlab.display import escape

__all__ = ["Plot"]


@dataclass(frozen=True, repr=False, eq=False)
class Plot:
    """A matplotlib `figure` and `alt_text`, its description for people who cannot see it."""

    figure: Figure
    alt_text: str

    def png(self) -> bytes:
        """Return the picture as a PNG file."""
        buffer = io.BytesIO()
        FigureCanvasAgg(self.figure).print_png(buffer)
        return buffer.getvalue()

    def __repr__(self) -> str:
        return f"Plot({self.alt_text!r})"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png()).decode()
        return f'<img alt="{escape(self.alt_text)}" src="data:image/png;base64,{data}">'
