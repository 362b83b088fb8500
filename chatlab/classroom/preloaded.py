"""Preloaded: what the process holds that graders' kernels are copies of. To import this module is to load it all.

One thread only, for a copy of a process has none of the others, and would wait for them for ever.
"""

from __future__ import annotations

import os
from contextlib import suppress

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import ipykernel.ipkernel
import ipykernel.kernelapp  # noqa: F401
import torch
from tqdm import tqdm

import chatlab.exercises.exercises
import chatlab.streaming
from chatlab.errors import ChatlabError
from chatlab.weights.download import is_fetched

__all__: list[str] = []

torch.set_num_threads(1)
tqdm.monitor_interval = 0  # else the first progress bar begins a thread that looks after all of them
if is_fetched():
    with suppress(ChatlabError):  # whoever asks for the model is told why there is none
        chatlab.load()
