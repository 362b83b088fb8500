"""Prefixes: what a model has read is kept, so that a prompt which begins alike is not read again from its start.

In: token ids with the cache that holds them. Out: for a new prompt, a copy of the cache as far as the two agree: a
conversation's next turn, an edit in its middle, a reply made anew. Knows nothing of what tokens mean.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Prefix", "PrefixCache", "WholePrompts"]

MAX_BYTES = 400_000_000  # the longest conversation that the default model can hold, and a little more
SHORTEST = 8  # tokens: what is shorter is read sooner than copied


@dataclass(frozen=True)
class Prefix:
    """The first `length` tokens of a prompt, read before; `logits` [vocab_size] where that is the whole prompt."""

    length: int
    past_key_values: Any
    logits: Tensor | None


@dataclass
class _Entry:
    """Tokens that were read, their cache, and the logits after the first `prompt_length` of them."""

    token_ids: list[int]
    past_key_values: Any
    prompt_length: int
    logits: Tensor
    size: int


class PrefixCache:
    """What one model has read lately, at most `max_bytes` of it; what was not used longest goes first.

    It belongs to one model with one set of weights, since a cache means nothing to another.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._entries: list[_Entry] = []  # the one used last is the last
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """How much memory is in use."""
        return sum(entry.size for entry in self._entries)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def find(self, token_ids: Sequence[int], *, fork: Callable[[Any, int], Any]) -> Prefix | None:
        """Return the longest beginning of the tokens that was read before, None where there is none worth copying.

        `fork` copies so many tokens of a cache. The last token is always left to be read, for the logits after it,
        unless just these are known.
        """
        with self._lock:
            shared = [_shared(entry.token_ids, token_ids) for entry in self._entries]
            if not shared:
                return None
            length = max(shared)
            candidates = [entry for entry, each in zip(self._entries, shared, strict=True) if each == length]
            whole = [entry for entry in candidates if length == len(token_ids) == entry.prompt_length]
            entry = (whole or candidates)[-1]
            if not whole:
                length = min(length, len(token_ids) - 1)
            if length < SHORTEST:
                return None
            self._entries.remove(entry)
            self._entries.append(entry)
        return Prefix(length, fork(entry.past_key_values, length), entry.logits if whole else None)

    def keep(
        self, token_ids: Sequence[int], past_key_values: Any, *, prompt_length: int, logits: Tensor, size: int
    ) -> None:
        """Keep tokens and the cache that holds them, which must not be changed any more.

        What is larger than `max_bytes` by itself is not kept, and drives nothing else out.
        """
        if size > self.max_bytes:
            return
        entry = _Entry(list(token_ids), past_key_values, prompt_length, logits, size)
        with self._lock:
            self._entries = [each for each in self._entries if not _begins(each, entry)]
            self._entries.append(entry)
            while self.bytes > self.max_bytes:
                self._entries.pop(0)


class WholePrompts(PrefixCache):
    """A store that knows a prompt only where the very same one was read, and keeps no reply.

    What was read in other pieces is rounded differently, in the last bit: with this store a reply depends on nothing
    that was asked before.
    """

    def find(self, token_ids: Sequence[int], *, fork: Callable[[Any, int], Any]) -> Prefix | None:
        """Return the whole prompt, or None."""
        with self._lock:
            if not any(entry.token_ids == list(token_ids) for entry in self._entries):
                return None
        return super().find(token_ids, fork=fork)

    def keep(
        self, token_ids: Sequence[int], past_key_values: Any, *, prompt_length: int, logits: Tensor, size: int
    ) -> None:
        """Keep a prompt; what holds a reply as well is not kept."""
        if len(token_ids) == prompt_length:
            super().keep(token_ids, past_key_values, prompt_length=prompt_length, logits=logits, size=size)


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _begins(old: _Entry, new: _Entry) -> bool:
    """Whether the old entry tells nothing that the new one does not."""
    return old.prompt_length == new.prompt_length and new.token_ids[: len(old.token_ids)] == old.token_ids
