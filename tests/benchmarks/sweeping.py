"""How a sweep scales: replies a second in this process, and on Ray with one worker and with two.

Each figure is of a second sweep: the first one starts the workers and loads their models.
Run it with `python tests/benchmarks/sweeping.py`; it needs Ray and two free cores.
"""

from __future__ import annotations

import time
from typing import Any

import ray

import chatlab

PROMPTS = [f"Tell me something about the number {number}." for number in range(4)]
OPTIONS: dict[str, Any] = {"temperature": 1, "max_completion_tokens": 32, "store": False, "progress": False}


def replies_a_second(seeds: int, cluster: str | None) -> float:
    started = time.perf_counter()
    sweep = chatlab.sweep(PROMPTS, seeds=range(1, seeds + 1), cluster=cluster, **OPTIONS)
    return len(sweep) / (time.perf_counter() - started)


def main() -> None:
    print(f"{'workers':<16}{'replies/s':>10}")
    replies_a_second(2, None)
    print(f"{'this process':<16}{replies_a_second(8, None):>10.2f}", flush=True)
    for workers in (1, 2):
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error")
        replies_a_second(8, "local")
        print(f"{workers:<16}{replies_a_second(16, 'local'):>10.2f}", flush=True)
        ray.shutdown()


if __name__ == "__main__":
    main()
