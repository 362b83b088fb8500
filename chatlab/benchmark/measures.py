"""Measures: what is timed or weighed, sample by sample, each engine in its turn.

In: a plan: the model, its peers, how long the texts are. Out: `Sample`s, run by run. Knows nothing of medians or
tables.

Engines take turns, so that a machine that gets busy disturbs them alike, and each may use as many threads as cores are
free just then: with more of them every engine crawls.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from chatlab.benchmark.peers import Peer, fresh
from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.generation import draw_tokens
from chatlab.reading import drive, prefill
from chatlab.sampling import SamplingParams
from chatlab.weights.home import home

__all__ = ["MEASURES", "TAKES", "Plan", "Runs", "Sample"]

BUSY = "one core taken"
QUIET = "quiet"
SETTLED = 0.6  # seconds after which chatlab looks at the machine again
NEW_TOKENS = 16  # of a short reply, and of what a next turn adds


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and how often: `text_ids` are a long text, of which each measure takes what it needs.

    `name` is what `chatlab.load` knows the model by, None if it does not; `gguf_path` the file that it is converted
    from, None if it is not; `curve` are the lengths of the histories.
    """

    model: ChatModel
    name: str | None
    gguf_path: Path | None
    peers: Sequence[Peer]
    runs: int
    prompt_tokens: int
    reply_tokens: int
    history_tokens: int
    curve: Sequence[int]
    text_ids: list[int]


@dataclass(frozen=True)
class Sample:
    """One figure: of which measure, of which of its lines, and how many threads an engine might use."""

    measure: str
    line: str
    value: float
    threads: int


Runs: TypeAlias = Generator[list[Sample], None, None]  # one list a run

MEASURES = {  # key → title and unit
    "decode": ("one reply to a short prompt", "tokens/s"),
    "busy": ("the same while another program takes a core", "tokens/s"),
    "cold": ("a long prompt, read for the first time", "tokens/s"),
    "next_turn": ("the first token after a long history", "s"),
    "reused": ("the next turn's prompt", "% of its tokens"),
    "several": ("eight replies to one prompt, and one", "s"),
    "curve": ("the network alone, as the history grows", "tokens/s"),
    "load": ("loading the model in a new process, after `import torch`", "s"),
    "first_load": ("the same for the first time, after its download", "s"),
    "memory": ("memory above a bare `import torch`", "MB"),
}


def _adapt(plan: Plan) -> int:
    """Let chatlab see how busy the machine is now, and give every engine as many threads as cores are free."""
    threads = getattr(plan.model, "threads", None)
    free: int = torch.get_num_threads()
    if threads is not None:
        for _ in range(2):  # the first look still sees what was before, an engine in another process for instance
            time.sleep(SETTLED)
            free = threads.adapt()
    for peer in plan.peers:
        peer.use_threads(free)
    return free


def decode(plan: Plan) -> Runs:
    """Let each engine make a reply to a short prompt: tokens a second, the first one apart."""
    prompt_ids = plan.text_ids[: plan.prompt_tokens]
    _adapt(plan)
    for peer in plan.peers:
        peer.reply(prompt_ids, 2)  # the first call of every engine has things to set up
    for _ in range(plan.runs):
        samples = []
        for peer in plan.peers:
            free = _adapt(plan)
            samples.append(Sample("decode", peer.name, 1 / peer.reply(prompt_ids, plan.reply_tokens).later, free))
        yield samples


def busy(plan: Plan) -> Runs:
    """Do the same with one core taken by another program, and without: all but Transformers, which is too slow."""
    prompt_ids = plan.text_ids[: plan.prompt_tokens]
    for _ in range(plan.runs):
        samples = []
        for state in (BUSY, QUIET):
            with _other_program(running=state == BUSY):
                for peer in plan.peers:
                    free = _adapt(plan)
                    if peer.name != "Transformers":
                        rate = 1 / peer.reply(prompt_ids, plan.reply_tokens).later
                        samples.append(Sample("busy", f"{peer.name}, {state}", rate, free))
        yield samples


def cold(plan: Plan) -> Runs:
    """Let each engine read a long prompt of which it knows nothing: tokens a second, until the reply's first token."""
    prompt_ids = plan.text_ids[: plan.history_tokens]
    for _ in range(plan.runs):
        samples = []
        for peer in plan.peers:
            free = _adapt(plan)
            rate = len(prompt_ids) / peer.reply(prompt_ids, 2).first
            samples.append(Sample("cold", peer.name, rate, free))
        yield samples


def next_turn(plan: Plan) -> Runs:
    """Read a long history, reply, and read the next turn, which begins with both: seconds to the first token."""
    for _ in range(plan.runs):
        free = _adapt(plan)
        model = fresh(plan.model)
        history = plan.text_ids[: plan.history_tokens]
        history_seconds, reply, _ = _turn(model, history)
        prompt_ids = [*history, *reply, *plan.text_ids[:NEW_TOKENS]]
        seconds, _, cached_tokens = _turn(model, prompt_ids)
        yield [
            Sample("next_turn", "the next turn", seconds, free),
            Sample("next_turn", "the history, for the first time", history_seconds, free),
            Sample("reused", "read before", 100 * cached_tokens / len(prompt_ids), free),
        ]


def _turn(model: ChatModel, prompt_ids: list[int]) -> tuple[float, list[int], int]:
    """Return the seconds to the first token of a short reply, the reply, and how much of the prompt was known."""
    started = time.perf_counter()
    read = prefill(model, prompt_ids)
    drawn = drive(model, draw_tokens(model, read, params=SamplingParams(temperature=0), max_tokens=NEW_TOKENS))
    first = next(drawn).token_id
    seconds = time.perf_counter() - started
    return seconds, [first, *(each.token_id for each in drawn)], read.cached_tokens


def several(plan: Plan) -> Runs:
    """Ask for eight replies to one prompt, and for one: seconds."""
    for run in range(plan.runs):
        samples = []
        for number in (8, 1):
            free = _adapt(plan)
            started = time.perf_counter()
            chat_completions(
                [{"role": "user", "content": "Tell me a story."}],
                fresh(plan.model),
                n=number,
                seed=run,
                max_completion_tokens=plan.reply_tokens,
            )
            samples.append(Sample("several", f"n={number}", time.perf_counter() - started, free))
        yield samples


def curve(plan: Plan) -> Runs:
    """Make tokens after histories of growing length: tokens a second, of the network alone."""
    model = fresh(plan.model)
    read = prefill(model, plan.text_ids[: max(plan.curve)])
    for _ in range(plan.runs):
        samples = []
        for length in plan.curve:
            free = _adapt(plan)
            cache = model.fork(read.past_key_values, length)
            model.next_token_logits(plan.text_ids[:1], cache)  # the first makes room
            started = time.perf_counter()
            for token_id in plan.text_ids[:NEW_TOKENS]:
                model.next_token_logits([token_id], cache)
            rate = NEW_TOKENS / (time.perf_counter() - started)
            samples.append(Sample("curve", f"after {length:,} tokens", rate, free))
        yield samples


def new_process(plan: Plan) -> Runs:
    """Load the model in a new process that has imported PyTorch: seconds, and megabytes after a short reply."""
    if plan.name is None:
        raise NotImplementedError("another process can load only a model that has a name")
    for _ in range(plan.runs):
        figures = _in_new_process(plan.name)
        free = torch.get_num_threads()
        yield [
            Sample("load", "chatlab.load()", figures["load"], free),
            Sample("memory", "chatlab", figures["memory"], free),
        ]


def first_load(plan: Plan) -> Runs:
    """Do so where nothing has been converted or compiled yet: seconds."""
    if plan.gguf_path is None:
        raise NotImplementedError("only a GGUF file is converted when it is loaded for the first time")
    home().mkdir(parents=True, exist_ok=True)
    for _ in range(plan.runs):
        with tempfile.TemporaryDirectory(prefix="first-load-", dir=home()) as empty:
            figures = _in_new_process(str(plan.gguf_path), CHATLAB_HOME=empty)
        yield [Sample("first_load", "chatlab.load()", figures["load"], torch.get_num_threads())]


def _in_new_process(name: str, **environment: str) -> dict[str, float]:
    """Return the seconds that it took to load the model there, and the megabytes after a short reply."""
    output = subprocess.run(
        [sys.executable, "-c", _NEW_PROCESS, name],
        env=os.environ | {"TQDM_DISABLE": "1"} | environment,  # its bars would run into the benchmark's own
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


_NEW_PROCESS = """
import json, sys, time, psutil, torch
def megabytes(): return psutil.Process().memory_info().rss / 1e6
before, started = megabytes(), time.perf_counter()
import chatlab
model = chatlab.load(sys.argv[1])
seconds = time.perf_counter() - started
for _ in chatlab.generate("Hello", model=model, max_completion_tokens=8): pass
print(json.dumps({"load": seconds, "memory": megabytes() - before}))
"""


_BUSY = """
import os, time
parent, end = os.getppid(), time.monotonic() + 600
while os.getppid() == parent and time.monotonic() < end: pass
"""


@contextmanager
def _other_program(*, running: bool) -> Iterator[None]:
    """Let another program keep one core busy meanwhile; it ends by itself if this one dies."""
    if not running:
        yield
        return
    program = subprocess.Popen([sys.executable, "-c", _BUSY])
    try:
        yield
    finally:
        program.kill()
        program.wait()


TAKES: tuple[tuple[str, Callable[[Plan], Runs]], ...] = (
    ("decode", decode),
    ("busy", busy),
    ("several", several),
    ("next_turn", next_turn),
    ("cold", cold),
    ("curve", curve),
    ("load", new_process),
    ("first_load", first_load),
)
