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

FIRST_LOOK = 0.05  # seconds, when a model is loaded
SECONDS = 0.5  # between two later looks at the machine
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
        self._seen = self._look()
        time.sleep(FIRST_LOOK)
        self._free = self._free_cores(after=FIRST_LOOK)

    def adapt(self) -> int:
        """Return the number of threads to use now, and let PyTorch use so many."""
        wanted = self.number or self._free_cores(after=SECONDS)
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)
        return wanted

    def _free_cores(self, *, after: float) -> int:
        """Return how many cores are free, looking at the machine if the last look is long enough ago."""
        if time.monotonic() - self._seen[0] >= after:
            (then, before), (now, used) = self._seen, self._look()
            busy = (used - before) / (now - then)  # cores that other programs use, on average
            # A core that is used for a fifth of the time counts as free: something small runs on every machine.
            # Where this process may use only some of the machine's cores, the others are taken to be used first.
            free = (psutil.cpu_count() or self.cores) - busy + 0.2
            self._free = int(max(1, min(free, self.cores, MOST)))
            self._seen = now, used
        return self._free

    def _look(self) -> tuple[float, float]:
        """Return the time, and how many seconds of all cores other programs have used until now."""
        used, own = psutil.cpu_times(), self._process.cpu_times()
        busy = sum(used) - used.idle - getattr(used, "iowait", 0.0) - getattr(used, "guest", 0.0)
        return time.monotonic(), busy - own.user - own.system
