"""The benchmark: how fast this machine runs this model, beside the other engines that are installed.

In: a model. Out: a `Report` on replies, long prompts, a growing history, loading, memory. Knows nothing of how an
engine works.

    >>> from chatlab.testing import ScriptedModel
    >>> run(ScriptedModel("Hello"), quick=True, runs=1, progress=False)
    Report of 6 measures, 9 samples
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

import chatlab
from chatlab.benchmark.measures import TAKES, Plan, Runs
from chatlab.benchmark.peers import find_peers
from chatlab.benchmark.report import Report
from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer
from chatlab.engines import Engine
from chatlab.errors import ChatlabError
from chatlab.model import resolve
from chatlab.tokens import encode
from chatlab.weights.download import DEFAULT_MODEL

__all__ = ["Report", "machine", "run"]

TEXT = (
    "The old lighthouse stood at the end of the bay, and every evening its keeper climbed up to light the lamp. "
    "Ships passed far out, small as toys, and he wrote their names in a book: the Maria, the Northern Star, the Hope. "
    "When the fog came in he rang the bell, once a minute, until he could see the water again. "
)


def run(
    model: Engine | str | Path | None = None, *, runs: int | None = None, quick: bool = False, progress: bool = True
) -> Report:
    """Measure a model on this machine, and return the report; five minutes, or with `quick` one.

    `model` is what `chatlab.load` takes, or a model. `runs` is how often each thing is measured: five times, twice with
    `quick`, which takes shorter texts too. Ctrl-C ends it with what was measured so far. Raises
    `LocalModelNeededError` for a model on a server.
    """
    runs = check_integer("runs", (2 if quick else 5) if runs is None else runs, minimum=1)
    name = None if isinstance(model, Engine) else str(model or DEFAULT_MODEL.name)
    local = resolve(model)
    gguf_path = _gguf(name)
    peers, absent = find_peers(local, gguf_path)
    lengths = [100, 500, 1000] if quick else [100, 1000, 2000, 4000]
    room = local.context_length - 64  # for what is read and made after a history
    plan = Plan(
        local,
        name,
        gguf_path,
        peers,
        runs,
        prompt_tokens=min(100, room),
        reply_tokens=16 if quick else 64,
        history_tokens=min(500 if quick else 2000, room),
        curve=[length for length in lengths if length <= room] or [room],
        text_ids=encode(TEXT * 100, model=local)[:4096],
    )
    report = Report(machine(local), absent=absent, history_tokens=plan.history_tokens)
    threads = torch.get_num_threads()
    try:
        with tqdm(total=runs * len(TAKES), disable=not progress, leave=False, file=sys.stderr) as bar:
            for key, take in TAKES:
                bar.set_description(key)
                _take(report, key, take, plan, bar)
    except KeyboardInterrupt:
        report.complete = False
    finally:
        torch.set_num_threads(threads)
    return report


def _take(report: Report, key: str, take: Callable[[Plan], Runs], plan: Plan, bar: tqdm) -> None:
    """Add the samples of every run to the report, or why there are none."""
    try:
        with closing(take(plan)) as taken:  # so that an interruption ends the other program as well
            for samples in taken:
                report.samples += samples
                bar.update()
    except (ChatlabError, NotImplementedError, subprocess.CalledProcessError) as error:
        report.absent[key] = str(error).rstrip(".")


def _gguf(name: str | None) -> Path | None:
    """Return the GGUF file that a name leads to, if it leads to one."""
    if name is None or name.lower() == DEFAULT_MODEL.name.lower():
        return DEFAULT_MODEL.path if name else None
    return Path(name) if name.endswith(".gguf") else None


def machine(model: ChatModel) -> dict[str, str]:
    """Return what the figures depend on: the model, the processor, its cores, the versions.

    >>> from chatlab.testing import ScriptedModel
    >>> list(machine(ScriptedModel("Hello")))
    ['model', 'processor', 'cores', 'system', 'versions']
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "model": model.name,
        "processor": f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "cores": str(allowed),
        "system": platform.platform(terse=True),
        "versions": f"chatlab {chatlab.__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
    }


def _processor() -> str:
    """Return the processor's name; where Python does not know it, Linux has it in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
