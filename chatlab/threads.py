"""Threads: as many as there are free cores, never more, and fewer where that is faster.

In: what the machine is doing, and how much there is to read. Out: how many threads PyTorch, or chatlab's own compiled
loops, are to use now. Knows nothing of models.

A matrix product waits for the slowest of its threads. One thread that has to share a core with another program makes
each of the hundred products of a token wait for it, which is far slower than one thread less. And for a single token
the products are so small that to hand them over may take longer than to compute them.

PyTorch's threads stay busy for a while after they have done their work, in case there is more. So where the compiled
loops have the cores, PyTorch has one thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from chatlab import linear
from chatlab.team import use_threads

__all__ = ["Threads"]

FIRST_LOOK = 0.05  # seconds, when a model is loaded
SECONDS = 0.5  # between two later looks at the machine
MOST = 8  # the products of a small model are too small to share among more
MANY = 16  # tokens, from which on work is shared out among all free cores
CGROUP = Path("/sys/fs/cgroup/cpu.max")  # where Linux says how much of the processor a container may use
TRIALS = 4  # how many single tokens tell how fast a number of threads is
FORGET = 200  # single tokens, after which all numbers are tried anew


class Threads:
    """How many threads to use: `number` if it is set, else the cores that no other program uses.

    `adapt` looks at the machine, at most twice a second, and lets PyTorch use all free cores. `reading` does so for a
    piece of work, with fewer threads where a few tokens have shown that to be faster. The numbers take turns in it, for
    a token takes longer the longer its text is. All numbers are tried again every two hundred tokens, for what else the
    machine does changes, and one bad moment must not count for ever.

    >>> threads = Threads()
    >>> 1 <= threads.adapt() <= os.cpu_count()
    True
    >>> with threads.reading(tokens=1):
    ...     torch.get_num_threads() <= os.cpu_count()
    True
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.cores = min(allowed, _quota(CGROUP))
        self._seen = self._look()
        time.sleep(FIRST_LOOK)
        self._free = self._free_cores(after=FIRST_LOOK)
        self._seconds: dict[tuple[int, int], list[float]] = {}  # (free cores, threads) → of the tokens that tell
        self._tokens = 0

    def adapt(self) -> int:
        """Return how many cores are free, and let PyTorch use them all."""
        return _use(self.number or self._free_cores(after=SECONDS))

    @contextmanager
    def reading(self, tokens: int) -> Iterator[None]:
        """Let the best number of threads be used while so many tokens are read by `chatlab.llama`."""
        free = self.number or self._free_cores(after=SECONDS)
        number = free if self.number or tokens >= MANY else self._fastest(free, tokens)
        use_threads(number)
        _use(number if tokens >= linear.MANY else 1)
        started = time.monotonic()
        yield
        if tokens == 1:
            self._tokens += 1
            seconds = self._seconds.setdefault((free, number), [])
            if len(seconds) < TRIALS:
                seconds.append(time.monotonic() - started)
            if self._tokens % FORGET == 0:
                self._seconds = {}

    def _fastest(self, free: int, tokens: int) -> int:
        """Return the number of threads that is fastest for a few tokens; for a single one perhaps the next to try."""
        numbers = [number for number in (1, 2, 4) if number < free] + [free]
        tried = {number: self._seconds.get((free, number), ()) for number in numbers}
        untried = [number for number in numbers if len(tried[number]) < TRIALS]
        if untried:  # in turns, so that a text that ends meanwhile tells something of each
            return min(untried, key=lambda number: len(tried[number])) if tokens == 1 else free
        return min(numbers, key=lambda number: min(tried[number]))

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
        used, own = psutil.cpu_times(), os.times()
        busy = sum(used) - used.idle - getattr(used, "iowait", 0.0) - getattr(used, "guest", 0.0)
        return time.monotonic(), busy - own.user - own.system


def _use(number: int) -> int:
    """Let PyTorch use so many threads, and return the number."""
    if torch.get_num_threads() != number:
        torch.set_num_threads(number)
    return number


def _quota(path: Path) -> int:
    """Return how many whole cores a container's limit allows, at least one: "150000 100000" are one and a half."""
    try:
        quota, period = path.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # there is none, or it says "max"
        return MOST
