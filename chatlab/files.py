"""Files: put a file in its place whole, or not at all; tell one large file from another.

In: a path and what shall stand there. Out: the file. Knows nothing of what is in it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

__all__ = ["fingerprint", "write_whole"]


def fingerprint(path: Path) -> str:
    """Hash a file's size, its first 16 MiB and 64 pieces of the rest: 20 ms whatever the size.

    The time of change would not do: a copy of the file has another, and a class may share a cache of converted models
    that it cannot write to.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        hashed = hashlib.sha256(size.to_bytes(8, "little") + file.read(2**24))
        for piece in range(1, 65):
            file.seek(max(0, size * piece // 64 - 2**14))
            hashed.update(file.read(2**14))
    return hashed.hexdigest()[:12]


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file by way of a temporary one beside it, so that a crash or a full disk leaves the old one as it was.

    `mode` says who may read it: by default everyone on the machine, so that a teacher can.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "new" / "a.txt", b"hello")
    ...     (Path(folder) / "new" / "a.txt").read_bytes()
    b'hello'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, mode)  # a temporary file is its owner's alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
