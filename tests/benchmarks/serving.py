"""What the way over HTTP costs, and what the server makes of many clients. Prints a table; asserts nothing.

Run it with `python tests/benchmarks/serving.py`. The same greedy reply is made in process and over HTTP in turns, in
one run, so that a busy machine disturbs both alike; of each, the median counts. The overhead is the median ratio of
neighbours, by the clock and by this process's processor time, which other programs disturb less. Where Transformers can
serve (`transformers serve`), it is asked the same afterwards, with the same weights.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai

import chatlab
from chatlab import chat_completions, system, user

TOKENS = 64
RUNS = 7
CROWDS = (1, 4, 16)
CROWD_TOKENS = 16
MESSAGES = [system("You are a helpful assistant."), user("Tell me a long story about the sea.")]


def seconds(work: Callable[[], object]) -> float:
    """Return how long the work took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def first_piece(stream: Iterator[openai.types.chat.ChatCompletionChunk]) -> str:
    """Return the first text of a stream."""
    return next(chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content)


def whole(client: openai.OpenAI, name: str, tokens: int) -> int:
    """Ask for a whole reply and return how many tokens it has."""
    response = client.chat.completions.create(model=name, messages=MESSAGES, temperature=0, max_tokens=tokens)
    return response.usage.completion_tokens


def streamed(client: openai.OpenAI, name: str) -> str:
    """Ask for a streamed reply and return its first text; the rest is not waited for."""
    with client.chat.completions.create(
        model=name, messages=MESSAGES, temperature=0, max_tokens=TOKENS, stream=True
    ) as stream:
        return first_piece(iter(stream))


def in_process(model: chatlab.ChatModel) -> int:
    """Make the whole reply in this process."""
    response = chat_completions(MESSAGES, model, temperature=0, max_tokens=TOKENS)
    return response.usage.completion_tokens


def streamed_in_process(model: chatlab.ChatModel) -> str:
    """Make the streamed reply in this process up to its first text."""
    with chat_completions(MESSAGES, model, temperature=0, max_tokens=TOKENS, stream=True) as stream:
        return first_piece(stream)


def throughput(client: openai.OpenAI, name: str, clients: int) -> float:
    """Return the tokens per second of so many clients that ask at the same time, for four replies or more in all."""
    made: list[int] = []

    def ask() -> None:
        made.extend(whole(client, name, CROWD_TOKENS) for _ in range(max(1, 4 // clients)))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made) / (time.perf_counter() - started)


def both_times(work: Callable[[], object]) -> tuple[float, float]:
    """Return how long the work took, and how much processor time this process used for it."""
    busy = time.process_time()
    return seconds(work), time.process_time() - busy


def chatlab_served(model: chatlab.ChatModel) -> tuple[dict[str, float], float, float]:
    """Return the numbers of chatlab's server, and of the same work in process: whole, and to the first text."""
    over_http, here, first_over_http, first_here = [], [], [], []
    with chatlab.serve(model) as server, server.client() as client:
        whole(client, model.name, 4)  # once before it counts
        for run in range(RUNS):
            order = [(over_http, lambda: whole(client, model.name, TOKENS)), (here, lambda: in_process(model))]
            for times, work in order if run % 2 else reversed(order):
                times.append(both_times(work))
            first_over_http.append(seconds(lambda: streamed(client, model.name)))
            first_here.append(seconds(lambda: streamed_in_process(model)))
        numbers = {
            "reply": statistics.median(clock for clock, _ in over_http),
            "first": statistics.median(first_over_http),
            **{f"crowd {clients}": throughput(client, model.name, clients) for clients in CROWDS},
            "overhead": statistics.median(a / b - 1 for (a, _), (b, _) in zip(over_http, here, strict=True)),
            "work": statistics.median(a / b - 1 for (_, a), (_, b) in zip(over_http, here, strict=True)),
        }
    return numbers, statistics.median(clock for clock, _ in here), statistics.median(first_here)


@contextlib.contextmanager
def transformers_serve(model: Path) -> Iterator[openai.OpenAI]:
    """Start `transformers serve` with the model in a folder; yield a client once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(shutil.which("transformers", path=str(Path(sys.executable).parent))), "serve", str(model)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*command, f"--port={port}", "--device=cpu"], stdout=log, stderr=subprocess.STDOUT)
        try:
            client = openai.OpenAI(
                base_url=f"http://127.0.0.1:{port}/v1",
                api_key="any",
                http_client=openai.DefaultHttpxClient(trust_env=False),
                timeout=600,
            )
            deadline = time.monotonic() + 120
            while True:
                try:
                    whole(client, str(model), 4)
                    break
                except openai.OpenAIError as error:
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise RuntimeError(f"it does not answer: {error}\n{log.read()[-1000:]}") from error
                    time.sleep(1)
            yield client
        finally:
            process.terminate()
            process.wait(20)


def peer_served() -> dict[str, float] | str:
    """Return the same numbers for `transformers serve`, or why there are none."""
    command = shutil.which("transformers", path=str(Path(sys.executable).parent))
    if command is None or subprocess.run([command, "serve", "--help"], capture_output=True).returncode:
        return "`transformers serve` is not installed here (pip install 'transformers[serving]')"
    printed = subprocess.run([sys.executable, "-m", "chatlab", "models", "path"], capture_output=True, text=True)
    model = Path(printed.stdout.strip().splitlines()[-1])
    try:
        with transformers_serve(model) as client:
            return {
                "reply": statistics.median(seconds(lambda: whole(client, str(model), TOKENS)) for _ in range(3)),
                "first": statistics.median(seconds(lambda: streamed(client, str(model))) for _ in range(3)),
                **{f"crowd {clients}": throughput(client, str(model), clients) for clients in CROWDS},
            }
    except (RuntimeError, openai.OpenAIError) as error:
        return f"`transformers serve` could not be measured: {error}"


def main() -> None:
    """Measure and print the table."""
    model = chatlab.load()
    ours, here, first_here = chatlab_served(model)
    peer = peer_served()
    theirs = peer if isinstance(peer, dict) else {}
    print(f"{'':<40}{'in process':>12}{'chatlab':>12}{'transformers':>14}")
    rows = [
        (f"a reply of {TOKENS} tokens, ms", here, "reply", 1000),
        ("to the first text of a stream, ms", first_here, "first", 1000),
        *((f"tokens/s, {clients} clients at once", None, f"crowd {clients}", 1) for clients in CROWDS),
    ]
    for label, local, key, factor in rows:
        cells = [local, ours[key], theirs.get(key)]
        widths = (12, 12, 14)
        shown = ["–" if cell is None else f"{factor * cell:.1f}" for cell in cells]
        print(f"{label:<40}" + "".join(f"{cell:>{width}}" for cell, width in zip(shown, widths, strict=True)))
    print(
        f"HTTP adds {ours['overhead']:+.1%} to a reply of {TOKENS} tokens by the clock, "
        f"{ours['work']:+.1%} in processor time (goal: under +5 %)."
    )
    if isinstance(peer, str):
        print(f"No numbers beside them: {peer}.")


if __name__ == "__main__":
    main()
