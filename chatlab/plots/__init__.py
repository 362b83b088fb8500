"""Plots: what can be drawn of one turn of a chat.

In: plain numbers and names. Out: a `Plot`. The results of other modules draw themselves with these functions.
Knows nothing of models.
"""

from chatlab.plots.budget import budget_bar
from chatlab.plots.calibration import calibration_plot
from chatlab.plots.facets import Point, facet_lines
from chatlab.plots.figures import Plot, new_figure
from chatlab.plots.forward import attention_map, hidden_norms_plot, kv_cache_plot, logit_lens_plot
from chatlab.plots.reply import stream_timing, token_strip
from chatlab.plots.sampling import diversity_bars, next_token_bars, temperature_panels

__all__ = [
    "Plot",
    "Point",
    "attention_map",
    "budget_bar",
    "calibration_plot",
    "diversity_bars",
    "facet_lines",
    "hidden_norms_plot",
    "kv_cache_plot",
    "logit_lens_plot",
    "new_figure",
    "next_token_bars",
    "stream_timing",
    "temperature_panels",
    "token_strip",
]
