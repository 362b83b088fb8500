"""The hub: a model's files from Hugging Face's hub, or from its cache on this machine.

In: a hub id such as `owner/model`. Out: the folder with its files; only safe formats are fetched. Knows nothing of what
is in them. The hub's own library does the work, and keeps them in its own cache folder.
"""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from tqdm.auto import tqdm

from chatlab.errors import ModelNotFoundError

__all__ = ["hub_folder"]

WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt", "vocab.txt"]


def hub_folder(hub_id: str) -> Path:
    """Return the folder with the model's files; the first call downloads them, with a progress bar.

    A complete copy in the cache is used without asking the hub, so that it works offline and at once. Raises
    `ModelNotFoundError` when there is none and the hub does not give one.
    """
    try:
        cached = Path(snapshot_download(hub_id, local_files_only=True))
        if _complete(cached):
            return cached
    except (OSError, ValueError):
        pass  # nothing in the cache
    tqdm.write(f"Looking for {hub_id} on the Hugging Face hub ...")
    try:
        return Path(snapshot_download(hub_id, allow_patterns=WANTED, ignore_patterns=["*/*"]))
    except Exception as error:  # the hub's library raises its own errors, its transport's and the system's
        reason = str(error).strip().split("\n")[0]
        raise ModelNotFoundError(
            f"The model {hub_id!r} is not in the local cache and could not be had from the hub: {reason} Check the "
            "name and the connection, or give a folder or a GGUF file; without a name you get the default model.",
            param="model",
        ) from error


def _complete(folder: Path) -> bool:
    """Return whether configuration, tokenizer and every piece of the weights are there."""
    index = folder / "model.safetensors.index.json"
    weights = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    has_tokenizer = any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))
    return has_tokenizer and all((folder / name).exists() for name in ("config.json", *weights))
