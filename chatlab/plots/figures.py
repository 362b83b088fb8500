"""Figures: how every picture of chatlab is made and shown.

In: a Matplotlib figure and its description in words. Out: a `Plot` that shows itself in a notebook and saves itself.
Uses Matplotlib's objects, never pyplot: no state is shared between two pictures. Knows nothing of what is drawn.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from chatlab.display import escape, view
from chatlab.errors import BadRequestError

__all__ = ["ACCENT", "INK", "PALE", "Plot", "drawable", "new_figure"]

INK = "#1b1b1b"
ACCENT = "#1f5f99"  # dark enough to stand out from PALE in black and white
PALE = "#c9d7e6"
FONT = "DejaVu Sans"  # comes with Matplotlib, so that a picture is the same everywhere
DOTS_PER_INCH = 144


class Plot:
    """A picture and what it shows in words: `figure` is Matplotlib's, `alt_text` what a screen reader says.

    >>> figure, _ = new_figure()
    >>> Plot(figure, alt_text="An empty picture.")
    Plot: An empty picture.
    """

    def __init__(self, figure: Figure, alt_text: str) -> None:
        self.figure = figure
        self.alt_text = alt_text

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file, in the format of its ending (.png, .svg, .pdf), and return the path."""
        path = Path(path)
        formats = self.figure.canvas.get_supported_filetypes()
        if path.suffix.removeprefix(".") not in formats:
            raise BadRequestError(
                f"A picture cannot be saved as {str(path)!r}. Give a file name that ends in .png, .svg or .pdf.",
                param="path",
            )
        self._write(path, path.suffix.removeprefix("."))
        return path

    def png(self) -> bytes:
        """Return the picture as PNG."""
        picture = BytesIO()
        self._write(picture, "png")
        return picture.getvalue()

    def _write(self, target: Path | BytesIO, file_format: str) -> None:
        for text in self.figure.findobj(Text):
            text.set_parse_math(False)  # a model may well write a dollar sign
        self.figure.savefig(target, format=file_format, dpi=DOTS_PER_INCH, facecolor="white")

    def __repr__(self) -> str:
        return f"Plot: {self.alt_text}"

    def _repr_html_(self) -> str:
        """Show the picture, with its description for those who cannot see it."""
        width = round(self.figure.get_figwidth() * 96)
        data = base64.b64encode(self.png()).decode("ascii")
        return view(
            f'<img style="width:{width}px" alt="{escape(self.alt_text)}" src="data:image/png;base64,{data}">',
            css_class="chatlab-plot",
        )


def new_figure(
    *, width: float = 7.0, height: float = 3.5, columns: int = 1, rows: int = 1, title: str = ""
) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many inches and its axes, row by row, in chatlab's plain style.

    Colours are set one by one instead of through Matplotlib's global settings, which belong to the user.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for each in axes:
        each.set_facecolor("white")
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(INK)
        each.tick_params(colors=INK, labelsize=9, labelfontfamily=FONT)
        for text in (each.title, each.xaxis.label, each.yaxis.label):
            text.set(color=INK, fontfamily=FONT, fontsize=10)
    if title:
        figure.suptitle(drawable(title), color=INK, fontfamily=FONT, fontsize=11, x=0.01, ha="left")
    return figure, axes


def drawable(text: str) -> str:
    """Return a text as it can be drawn: characters that the font lacks become their number.

    >>> drawable("a 🎉")
    'a U+1F389'
    """
    known = _characters()
    return "".join(character if ord(character) in known else f"U+{ord(character):X}" for character in text)


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())
