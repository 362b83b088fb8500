"""The object file: the compiled loops, built once for a processor and kept.

In: the loops' source. Out: machine code. Knows nothing of how it is called: see `chatlab.kernels`.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import llvmlite.binding as llvm
import platformdirs
from tqdm.auto import tqdm

from chatlab.files import write_whole
from chatlab.weights.home import home

__all__ = ["is_kept", "object_code"]

SOURCES = Path(__file__).parent
CHECKED = 32  # bytes of a hash, which come first in the file: to load what is broken would end the process
PARTS = 4  # that building yields


def is_kept() -> bool:
    """Whether the loops were built for this processor."""
    return _kept() is not None


def object_code() -> bytes:
    """Return the object file's content; build it, if that was not done yet. A bar tells what takes long."""
    return _kept() or _built()


def _files() -> list[Path]:
    """Return where the object file may be: beside the models, or, where nobody may write there, in the user's cache."""
    processor = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    hashed = hashlib.sha256(f"{processor} {home()}".encode())  # what stands in for one home is not another's
    for source in sorted(SOURCES.glob("*.py")):
        hashed.update(source.read_bytes())
    name = f"{hashed.hexdigest()[:16]}.o"
    return [folder / "loops" / name for folder in (home(), platformdirs.user_cache_path("chatlab-classroom"))]


def _kept() -> bytes | None:
    """Return the object file if it was kept and is whole."""
    for file in _files():
        if file.is_file():
            content = file.read_bytes()
            if hashlib.sha256(content[CHECKED:]).digest() == content[:CHECKED]:
                return content[CHECKED:]
    return None


def _built() -> bytes:
    """Build the object file, and keep it where that can be done."""
    from chatlab.loops.building import build  # numba takes long to import

    bar = tqdm(build(), desc="Compiling chatlab's kernels, once", total=PARTS, delay=1, leave=False)
    *_, code = bar
    for file in _files():
        with contextlib.suppress(OSError):
            write_whole(file, hashlib.sha256(code).digest() + code)
            break
    return bytes(code)
