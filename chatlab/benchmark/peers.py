"""Peers: the engines that are compared, each asked for the same greedy reply in the same way.

In: token ids. Out: when each token of the reply was there. Knows nothing of what is made of the times.

llama.cpp reads the same GGUF file, and is compared where `xllamacpp` or `llama-cpp-python` is installed. It runs in a
process of its own, for in one with PyTorch they share OpenMP's threads, and each is half as fast.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import torch

from chatlab.chat_model import ChatModel
from chatlab.generation import draw_tokens, steps_of
from chatlab.prefixes import PrefixCache
from chatlab.reading import drive, prefill
from chatlab.sampling import SamplingParams

__all__ = [
    "ChatlabPeer",
    "LlamaCppPeer",
    "Peer",
    "PeerApart",
    "Timing",
    "TransformersPeer",
    "XllamacppPeer",
    "find_peers",
    "fresh",
]


@dataclass(frozen=True)
class Timing:
    """How long the first token of a reply took, the prompt with it, and each later one; in seconds."""

    first: float
    later: float

    @classmethod
    def of(cls, times: Sequence[float]) -> Timing:
        """Return the timing of a reply that began at the first of these times and whose tokens came at the others.

        A token that waited for another program counts as every other: the average is what a user sees.

        >>> Timing.of([10.0, 12.0, 12.5, 13.5])
        Timing(first=2.0, later=0.75)
        """
        gaps = [after - before for before, after in pairwise(times)]
        return cls(gaps[0], sum(gaps[1:]) / max(1, len(gaps) - 1))


class Peer(ABC):
    """An engine: `use_threads` says how many threads it may have, `reply` makes a reply and tells how long it took."""

    name: str

    @abstractmethod
    def use_threads(self, number: int) -> None:
        """Use so many threads from now on."""

    @abstractmethod
    def reply(self, prompt_ids: Sequence[int], tokens: int) -> Timing:
        """Read the prompt, of which nothing may be known, and make a greedy reply of exactly so many tokens."""


def fresh(model: ChatModel) -> ChatModel:
    """Return a view of the model that remembers no prompt and never ends a reply; its weights are shared."""
    view = copy.copy(model)
    view.end_token_ids = ()
    if model.prefixes is not None:
        view.prefixes = PrefixCache()
    return view


class ChatlabPeer(Peer):
    """The model as chatlab runs it, with all that a reply needs beside the network: settings, text, probabilities.

    >>> from chatlab.testing import ScriptedModel
    >>> 0 < ChatlabPeer(ScriptedModel("Hello")).reply([72, 105], 3).later < 1
    True
    """

    name = "chatlab"

    def __init__(self, model: ChatModel) -> None:
        self.model = model

    def use_threads(self, number: int) -> None:
        """Do nothing: chatlab sees for itself how many cores are free."""

    def reply(self, prompt_ids: Sequence[int], tokens: int) -> Timing:
        """Make a greedy reply of exactly so many tokens."""
        model, times = fresh(self.model), [time.perf_counter()]
        params = SamplingParams(temperature=0)
        drawn = draw_tokens(model, prefill(model, list(prompt_ids)), params=params, max_tokens=tokens)
        for _ in drive(model, steps_of(drawn, model=model)):
            times.append(time.perf_counter())
        return Timing.of(times)


class TransformersPeer(Peer):
    """Transformers' `generate` on the same weights, in float32 on a CPU."""

    name = "Transformers"

    def __init__(self, model: ChatModel) -> None:
        self.network = model.network  # type: ignore[attr-defined]  # `find_peers` has looked

    def use_threads(self, number: int) -> None:
        """Use so many threads from now on."""
        torch.set_num_threads(number)

    def reply(self, prompt_ids: Sequence[int], tokens: int) -> Timing:
        """Make a greedy reply of exactly so many tokens."""
        clock = _Clock()
        ids = torch.tensor([list(prompt_ids)], device=self.network.device)
        self.network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            streamer=clock,
        )
        return Timing.of(clock.times)


class _Clock:
    """What Transformers hands the prompt, then every new token: it notes when they came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


class XllamacppPeer(Peer):
    """llama.cpp on the same GGUF file, by way of the package `xllamacpp`, which comes built."""

    name = "llama.cpp"

    def __init__(self, gguf: Path, context_length: int) -> None:
        self._library: Any = importlib.import_module("xllamacpp")
        self._gguf, self._context_length = gguf, context_length
        self._server: Any = None
        self._threads = 0

    def use_threads(self, number: int) -> None:
        """Use so many threads from now on: the file is loaded anew, which takes a moment."""
        if number == self._threads:
            return
        params = self._library.CommonParams()
        params.model.path = str(self._gguf)
        params.n_ctx = self._context_length
        params.n_parallel = 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = number
        params.verbosity = -1
        self._server, self._threads = None, number  # the old one ends before the new one starts
        self._server = self._library.Server(params)

    def reply(self, prompt_ids: Sequence[int], tokens: int) -> Timing:
        """Make a greedy reply of exactly so many tokens."""
        request = {
            "prompt": list(prompt_ids),
            "n_predict": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        timings = self._server.handle_completions(request)["timings"]  # llama.cpp's own clock
        return Timing(timings["prompt_ms"] / 1000, timings["predicted_ms"] / 1000 / max(1, tokens - 1))


class LlamaCppPeer(Peer):
    """llama.cpp on the same GGUF file, by way of the package `llama-cpp-python`, which needs a compiler."""

    name = "llama.cpp"

    def __init__(self, gguf: Path, context_length: int) -> None:
        self._library: Any = importlib.import_module("llama_cpp")
        self._gguf, self._context_length = gguf, context_length
        self._llama: Any = None
        self._threads = 0

    def use_threads(self, number: int) -> None:
        """Use so many threads from now on: the file is loaded anew, which takes a moment."""
        if number == self._threads:
            return
        self._llama, self._threads = None, number  # the old one is freed before the new one is loaded
        self._llama = self._library.Llama(
            model_path=str(self._gguf),
            n_ctx=self._context_length,
            n_threads=number,
            n_threads_batch=number,
            verbose=False,
        )

    def reply(self, prompt_ids: Sequence[int], tokens: int) -> Timing:
        """Make a greedy reply of exactly so many tokens."""
        self._llama.reset()
        times = [time.perf_counter()]
        for _ in self._llama.generate(list(prompt_ids), temp=0.0, top_k=1, repeat_penalty=1.0):
            times.append(time.perf_counter())
            if len(times) > tokens:
                break
        return Timing.of(times)


LlamaCpp: TypeAlias = "type[XllamacppPeer] | type[LlamaCppPeer]"


class PeerApart(Peer):
    """A peer in a process of its own, which ends when nobody holds this object any more."""

    def __init__(self, kind: LlamaCpp, *arguments: Any) -> None:
        self.name = kind.name
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _begin, (kind, arguments))

    def use_threads(self, number: int) -> None:
        """Use so many threads from now on."""
        self._process.submit(_use_threads, number).result()

    def reply(self, prompt_ids: Sequence[int], tokens: int) -> Timing:
        """Make a greedy reply of exactly so many tokens."""
        return self._process.submit(_reply, prompt_ids, tokens).result()


def _begin(kind: LlamaCpp, arguments: tuple[Any, ...]) -> None:
    global _peer
    _peer = kind(*arguments)


def _use_threads(number: int) -> None:
    _peer.use_threads(number)


def _reply(prompt_ids: Sequence[int], tokens: int) -> Timing:
    return _peer.reply(prompt_ids, tokens)


_peer: Peer  # in a process of its own: the peer


def find_peers(model: ChatModel, gguf: Path | None) -> tuple[list[Peer], dict[str, str]]:
    """Return the engines that can be compared, chatlab first, and why each of the others cannot."""
    peers: list[Peer] = [ChatlabPeer(model)]
    absent: dict[str, str] = {}
    if hasattr(model, "network"):
        peers.append(TransformersPeer(model))
    else:
        absent["Transformers"] = f"a {type(model).__name__} has no network of its"
    packages: dict[str, LlamaCpp] = {"xllamacpp": XllamacppPeer, "llama_cpp": LlamaCppPeer}
    installed = [kind for package, kind in packages.items() if importlib.util.find_spec(package)]
    if gguf is None:
        absent["llama.cpp"] = "the model is not a GGUF file"
    elif not installed:
        absent["llama.cpp"] = "not installed: pip install xllamacpp"
    else:
        peers.append(PeerApart(installed[0], gguf, model.context_length))
    return peers, absent
