"""The key-value cache: how much memory a conversation takes.

In: a number of tokens and a model that Transformers runs. Out: bytes, from the model's configuration alone, and a table
of them. Knows nothing of the cache's contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import DynamicCache, PreTrainedModel

from chatlab.anatomy import network_of
from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer, check_list
from chatlab.display import count_of, escape, table_html, table_text, view
from chatlab.model import resolve

__all__ = ["KVCacheTable", "kv_cache_size", "kv_cache_table", "readable_bytes"]


@dataclass(frozen=True, repr=False)
class KVCacheTable:
    """How the cache grows: `sizes` maps numbers of tokens to bytes.

    `layers`, `key_value_heads`, `head_dim` and `bytes_per_number` are the factors of the formula: every token adds two
    vectors, a key and a value, to each of these heads of each layer.
    """

    model_name: str
    context_length: int
    layers: int
    key_value_heads: int
    head_dim: int
    bytes_per_number: int
    sizes: dict[int, int]

    @property
    def formula(self) -> str:
        """The bytes of one token, multiplied out in words."""
        return (
            f"{count_of(self.layers, 'layer')} × 2 (key and value) × {count_of(self.key_value_heads, 'head')} × "
            f"{self.head_dim} numbers × {self.bytes_per_number} bytes = {self.bytes_per_token:,} bytes per token"
        )

    @property
    def bytes_per_token(self) -> int:
        """What one token takes."""
        return self.layers * 2 * self.key_value_heads * self.head_dim * self.bytes_per_number

    def _rows(self) -> list[list[str]]:
        beyond = f"more than {self.model_name} can hold"
        return [
            [f"{tokens:,}", f"{size:,}", readable_bytes(size), beyond if tokens > self.context_length else ""]
            for tokens, size in self.sizes.items()
        ]

    def __repr__(self) -> str:
        return f"{self.model_name}: {self.formula}\n{table_text(_HEADER, self._rows())}"

    def _repr_html_(self) -> str:
        return view(f"<div>{escape(self.model_name)}: {self.formula}</div>{table_html(_HEADER, self._rows())}")


_HEADER = ["tokens", "bytes", "size", ""]
_GIGA = (10**9, "GB")


def kv_cache_size(tokens: int, *, model: ChatModel | str | Path | None = None) -> int:
    """Return the bytes of the keys and values that the model keeps of so many tokens.

    Layers × 2 × key-value heads × head dimension × bytes per number × tokens; a layer with a sliding window of w keeps
    the last w − 1 tokens only, as Transformers' cache does. Raises `ChatlabError` for a model that Transformers does
    not run, `BadRequestError` for a number below 0.

    >>> kv_cache_size(1000)
    46080000
    """
    network = network_of(resolve(model))
    tokens = check_integer("tokens", tokens, minimum=0)
    layers, heads, head_dim, bytes_per_number = _factors(network)
    windows = [getattr(layer, "sliding_window", None) for layer in DynamicCache(config=network.config).layers]
    kept = sum(tokens if window is None else min(tokens, window - 1) for window in windows or [None] * layers)
    return kept * 2 * heads * head_dim * bytes_per_number


def kv_cache_table(
    tokens: Sequence[int] = (1, 10, 100, 1000, 8192), *, model: ChatModel | str | Path | None = None
) -> KVCacheTable:
    """Return the cache's size for each number of tokens, with the formula it comes from.

    >>> kv_cache_table([1, 1000])
    SmolLM2-135M-Instruct: 30 layers × 2 (key and value) × 3 heads × 64 numbers × 4 bytes = 46,080 bytes per token
    tokens  bytes       size
    1       46,080      46.1 kB
    1,000   46,080,000  46.1 MB
    """
    model = resolve(model)
    layers, heads, head_dim, bytes_per_number = _factors(network_of(model))
    numbers = check_list("tokens", tokens, example="[1, 10, 100]")
    sizes = {number: kv_cache_size(number, model=model) for number in numbers}
    return KVCacheTable(model.name, model.context_length, layers, heads, head_dim, bytes_per_number, sizes)


def readable_bytes(size: float) -> str:
    """Return a number of bytes with a unit that suits it, in powers of 1,000.

    >>> readable_bytes(999), readable_bytes(46_080), readable_bytes(377_487_360)
    ('999 bytes', '46.1 kB', '377.5 MB')
    """
    if size < 1000:
        return f"{size:.0f} bytes"
    factor, unit = next(((10**power, unit) for power, unit in ((3, "kB"), (6, "MB")) if size < 1000 * 10**power), _GIGA)
    return f"{size / factor:,.1f} {unit}"


def _factors(network: PreTrainedModel) -> tuple[int, int, int, int]:
    """Return layers, key-value heads, head dimension and bytes per number, as the configuration states them."""
    config = network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers, heads, head_dim, network.dtype.itemsize
