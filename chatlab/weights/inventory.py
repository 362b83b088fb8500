"""The inventory: which models the cache folder holds, how big they are, how to remove them.

In: the cache folder. Out: a list, or space on the disk. Knows nothing of how the files got there.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from chatlab.weights.home import home

__all__ = ["StoredModel", "remove", "stored_models"]


@dataclass(frozen=True)
class StoredModel:
    """One folder of the cache: a downloaded GGUF file, or the standard files converted from one; `size` in bytes."""

    name: str
    kind: str
    path: Path
    size: int


def stored_models() -> list[StoredModel]:
    """Return what the cache folder holds, by name; an unfinished download or conversion is not listed.

    >>> [model.kind for model in stored_models() if model.name == "never fetched"]
    []
    """
    folder = home() / "models"
    if not folder.is_dir():
        return []
    models = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and path.suffix != ".building"):
        files = [file for file in path.rglob("*") if file.is_file()]
        kinds = {".gguf": "download", ".safetensors": "converted"}
        kind = next((kinds[file.suffix] for file in files if file.suffix in kinds), None)
        if kind:
            models.append(StoredModel(path.name, kind, path, sum(file.stat().st_size for file in files)))
    return models


def remove(name: str) -> int:
    """Delete a stored model and what was converted from it, and return how many bytes that freed.

    Raises `KeyError` when there is no stored model of that name.
    """
    gone = [model for model in stored_models() if model.name == name or model.name.startswith(f"{name}.")]
    if not gone:
        raise KeyError(name)
    for model in gone:
        shutil.rmtree(model.path)
    return sum(model.size for model in gone)
