"""The inventory: which models are stored on this machine, how big they are, how to remove them.

In: chatlab's cache folder and the hub's. Out: a list, or space on the disk. Knows nothing of how the files got there.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chatlab.weights.home import home

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo

__all__ = ["StoredModel", "remove", "stored_models"]


@dataclass(frozen=True)
class StoredModel:
    """One stored model; `kind` is "download" (a GGUF file), "converted" (from one) or "hub"; `size` in bytes."""

    name: str
    kind: str
    path: Path
    size: int


def stored_models() -> list[StoredModel]:
    """Return the models in chatlab's cache folder, then those in the hub's; nothing unfinished is listed.

    >>> [model.kind for model in stored_models() if model.name == "never fetched"]
    []
    """
    folder = home() / "models"
    models = []
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in paths:
        if path.is_dir() and path.suffix != ".building":
            files = [file for file in path.rglob("*") if file.is_file()]
            kinds = {".gguf": "download", ".safetensors": "converted"}
            kind = next((kinds[file.suffix] for file in files if file.suffix in kinds), None)
            if kind:
                models.append(StoredModel(path.name, kind, path, sum(file.stat().st_size for file in files)))
    repositories = [each for each in _hub_cache() if each.repo_type == "model"]
    models += [StoredModel(each.repo_id, "hub", each.repo_path, each.size_on_disk) for each in repositories]
    return models


def remove(name: str) -> int:
    """Delete a stored model, and what was converted from it, and return how many bytes that freed.

    Raises `KeyError` when there is no stored model of that name.
    """
    gone = [model for model in stored_models() if model.name == name]
    if not gone:
        raise KeyError(name)
    stems = [file.stem for file in gone[0].path.glob("*.gguf")]
    gone += [model for model in stored_models() if any(model.name.startswith(f"{stem}-") for stem in stems)]
    for model in gone:
        shutil.rmtree(model.path)
    return sum(model.size for model in gone)


def _hub_cache() -> list[CachedRepoInfo]:
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        return sorted(scan_cache_dir(constants.HF_HUB_CACHE).repos, key=lambda repository: repository.repo_id)
    except CacheNotFound:
        return []
