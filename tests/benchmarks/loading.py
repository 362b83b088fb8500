"""How long chatlab takes to start, and how much memory it needs. Prints a table; asserts nothing.

Run it with `python tests/benchmarks/loading.py`. Each figure is the median of several fresh processes; the first load
includes the conversion, with the download done beforehand. Loading is measured without importing PyTorch, Transformers
and the client library, which has its own row.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

IMPORT_CHATLAB = """
import time; started = time.perf_counter()
import chatlab
result = {"seconds": time.perf_counter() - started, "torch": "torch" in __import__("sys").modules}
"""
IMPORT_LIBRARIES = """
import time; started = time.perf_counter()
import openai, torch, transformers
result = {"seconds": time.perf_counter() - started}
"""
LOAD = """
import time, openai, torch, chatlab
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
started = time.perf_counter()
model = chatlab.load()
result = {"seconds": time.perf_counter() - started}
"""
REPLY = (
    LOAD
    + """
started = time.perf_counter()
response = chatlab.chat_completions([chatlab.user("Tell me a story.")], temperature=0, max_tokens=64)
result = {"seconds": time.perf_counter() - started, "tokens": response.usage.completion_tokens}
"""
)
PRINT = """
import json, resource
result["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(result))
"""


def measure(code: str, home: Path, *, runs: int) -> dict[str, float]:
    """Run the code in fresh processes and return the median of each figure it reports."""
    results = []
    for _ in range(runs):
        output = subprocess.run(
            [sys.executable, "-c", code + PRINT],
            env={**os.environ, "CHATLAB_HOME": str(home)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        results.append(json.loads(output))
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def first_load(gguf: Path) -> dict[str, float]:
    """Measure a load whose download is there and whose conversion is not."""
    with tempfile.TemporaryDirectory() as folder:
        downloaded = Path(folder) / "models" / gguf.parent.name
        downloaded.mkdir(parents=True)
        shutil.copy(gguf, downloaded)
        return measure(LOAD, Path(folder), runs=1)


def main() -> None:
    """Measure everything and print the table."""
    from chatlab.weights.conversion import converted
    from chatlab.weights.download import fetch
    from chatlab.weights.home import home

    gguf = fetch()
    converted(gguf)
    first = [first_load(gguf) for _ in range(3)]
    rows = [
        ("import chatlab", measure(IMPORT_CHATLAB, home(), runs=5), "under 0.2 s, free of torch"),
        ("import openai, torch, transformers", measure(IMPORT_LIBRARIES, home(), runs=3), ""),
        ("first load after the download", sorted(first, key=lambda row: row["seconds"])[1], "under 15 s"),
        ("later loads", measure(LOAD, home(), runs=5), "under 2 s"),
        ("a reply of 64 tokens", measure(REPLY, home(), runs=3), "memory under 1,500 MB"),
    ]
    print(f"{'':<36}{'seconds':>9}{'peak MB':>9}  goal")
    for name, figures, goal in rows:
        print(f"{name:<36}{figures['seconds']:>9.2f}{figures['megabytes']:>9.0f}  {goal}")
    print(f"torch imported by `import chatlab`: {'yes' if rows[0][1]['torch'] else 'no'}")
    reply = rows[-1][1]
    print(f"tokens a second: {reply['tokens'] / reply['seconds']:.1f}")


if __name__ == "__main__":
    main()
