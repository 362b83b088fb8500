"""Threads: as many as there are free cores, and never more.

In: what the machine is doing. Out: how many threads PyTorch is to use now. Knows nothing of models.

A matrix product waits for the slowest of its threads. One thread that has to share a core with another program makes
each of the hundred products of a token wait for it, which is far slower than one thread less.
"""

from __future__ import annotations

import os
import time

import psutil
import torch

__all__ = ["Threads"]

SECONDS = 0.5  # between two looks at the machine
MOST = 8  # the products of a small model are too small to share among more


class Threads:
    """How many threads to use: `number` if it is set, else the cores that no other program uses.

    `adapt` is called before each piece of work, looks at the machine at most twice a second, and sets PyTorch's number
    of threads where it has to change.

    >>> threads = Threads()
    >>> 1 <= threads.adapt() <= os.cpu_count()
    True
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._process = psutil.Process()
        self._looked_at = self._look()
        self._free = self.cores

    def adapt(self) -> int:
        """Return the number of threads to use now, and let PyTorch use so many."""
        wanted = self.number or self._free_cores()
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)
        return wanted

    def _free_cores(self) -> int:
        now, others = self._look()
        since = now - self._looked_at[0]
        if since >= SECONDS:
            busy = (others - self._looked_at[1]) / since  # cores that other programs use, on average
            # A core that is used for a fifth of the time counts as free: something small runs on every machine.
            self._free = int(max(1, min(self.cores - busy + 0.2, self.cores, MOST)))
            self._looked_at = now, others
        return self._free

    def _look(self) -> tuple[float, float]:
        """Return the time, and how many seconds of all cores other programs have used until now."""
        now = time.monotonic()
        if hasattr(self, "_looked_at") and now - self._looked_at[0] < SECONDS:
            return self._looked_at
        used, own = psutil.cpu_times(), self._process.cpu_times()
        busy = sum(used) - used.idle - getattr(used, "iowait", 0.0) - getattr(used, "guest", 0.0)
        return now, busy - own.user - own.system
