"""A GGUF file, converted once into the folder of standard files that Transformers reads fast.

In: the path of a GGUF file. Out: a folder with model.safetensors, config.json, generation_config.json and the
tokenizer's files, complete or absent. Knows nothing of where the GGUF came from, nor of prompts or replies.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

import chatlab
from chatlab.errors import ModelFilesError
from chatlab.files import fingerprint
from chatlab.loops.object_file import is_kept
from chatlab.weights.home import home

__all__ = ["converted"]

FORMAT = 5  # raise it when the files in the folder change, so that older folders are not used
MEGABYTE = 1_000_000
ELSEWHERE = "Free some space, or set CHATLAB_HOME to a folder on another disk."


def converted(gguf_path: Path) -> Path:
    """Return the folder of standard files for a GGUF file, converting it on the first call (seconds).

    The folder is in `home()/"models"`, complete or absent: it is built beside its final name under a lock
    and moved there in one step, so a killed process, a full disk or two processes at once never leave half a
    model. Its name carries a hash of the GGUF's content, so another file under the same name is converted
    anew, and a copy of the same file is not. Load the tokenizer with PreTrainedTokenizerFast: AutoTokenizer
    builds some models' tokenizers from its own idea of them.
    Raises ModelFilesError when the file cannot be read or understood, or the folder cannot be written.

    >>> converted(Path("missing.gguf"))
    Traceback (most recent call last):
    chatlab.errors.ModelFilesError: Cannot read missing.gguf: No such file or directory.
    """
    gguf_path = Path(gguf_path)
    models = home() / "models"
    folder = models / f"{gguf_path.stem}-{_fingerprint(gguf_path)}-v{FORMAT}"
    if folder.is_dir():
        return folder
    building = models / f"{folder.name}.building"
    with _writing(models):
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / ".conversion.lock"):
            if folder.is_dir():  # another process was first
                return folder
            for leftover in models.glob("*.building"):  # of a killed process: whoever builds holds the lock
                shutil.rmtree(leftover)
            try:
                building.mkdir()
                with _compiling_kernels():
                    _convert(gguf_path, building)
                os.replace(building, folder)
            finally:
                shutil.rmtree(building, ignore_errors=True)
            _remove_older(folder, building)
    return folder


def _remove_older(folder: Path, building: Path) -> None:
    """Remove what an earlier chatlab made of the same file; the lock is held, so nobody is making one now.

    Each is moved away in one step first, so that a killed process leaves no half of it under its name.
    """
    stem = folder.name.removesuffix(f"-v{FORMAT}")
    for version in range(1, FORMAT):
        with suppress(OSError):  # it is not there, or Windows keeps it because a process has it open
            os.replace(folder.with_name(f"{stem}-v{version}"), building)
        shutil.rmtree(building, ignore_errors=True)


def _fingerprint(gguf_path: Path) -> str:
    """Hash the file, whose first 16 MiB are its metadata."""
    try:
        return fingerprint(gguf_path)
    except OSError as error:
        raise ModelFilesError(f"Cannot read {gguf_path}: {error.strerror}.") from error


@contextmanager
def _writing(models: Path, needed: int | None = None) -> Iterator[None]:
    """Turn every way in which Python and Rust say that a disk cannot be written into one ModelFilesError."""
    try:
        yield
    except ModelFilesError:
        raise
    except Exception as error:  # the tokenizers library raises a plain Exception
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or re.search(r"\(os error (28|112|122)\)", str(error)):
            room = f": the conversion needs {needed // MEGABYTE:,} MB there" if needed else ""
            raise ModelFilesError(f"The disk of {models} is full{room}. {ELSEWHERE}") from error
        if isinstance(error, OSError):
            raise ModelFilesError(f"Cannot write to {models}: {error}. {ELSEWHERE}") from error
        raise


@contextmanager
def _compiling_kernels() -> Iterator[None]:
    """Let another process compile chatlab's kernels meanwhile, once for all: both take seconds.

    Where it cannot, or its work cannot be kept, whoever runs a model compiles them. The compiler's first level of
    optimisation takes less time than its last, and the kernels are as fast.
    """
    if is_kept():
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-c", "from chatlab.loops.object_file import object_code; object_code()"],
        env=os.environ | {"NUMBA_OPT": "1"},
        cwd=Path(chatlab.__file__).parents[1],  # a process finds the chatlab that lies where it begins before any other
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        process.wait()
    finally:
        process.kill()
        process.wait()


def _convert(gguf_path: Path, folder: Path) -> None:
    # Imported here: a model that is converted already needs none of this, and it takes a second.
    from transformers import GenerationConfig

    from chatlab.weights.gguf import read_gguf, save_model
    from chatlab.weights.gguf_tokenizer import end_token_ids, gguf_tokenizer

    metadata, tensors = read_gguf(gguf_path)
    needed = sum(tensor.n_elements for tensor in tensors) * 4 + 20 * MEGABYTE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelFilesError(
            f"Converting {gguf_path.name} needs {needed // MEGABYTE:,} MB in {folder.parent}, but only "
            f"{free // MEGABYTE:,} MB are free there. {ELSEWHERE}"
        )
    tokenizer = gguf_tokenizer(metadata, gguf_path)
    with _writing(folder.parent, needed):
        tokenizer.save_pretrained(folder)
        save_model(gguf_path, metadata, tensors, folder)
        GenerationConfig(  # last: Transformers may have written one without every end token
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end_token_ids(metadata),
            pad_token_id=tokenizer.pad_token_id,
        ).save_pretrained(folder)
