"""Experiments: what a model replies to many prompts with many settings, as a table.

In: prompts, lists of settings, seeds. Out: a `Sweep`. Knows nothing of widgets.
"""

from chatlab.experiments.sweeps import Sweep, sweep

__all__ = ["Sweep", "sweep"]
