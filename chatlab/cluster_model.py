"""A model on its way to a worker of a cluster, which may be on another machine.

In: a model on this machine. Out: something small that can be sent, and becomes the model again over there; loaded once
in each process where `chatlab.load` knows it, and held to the same weights. Knows nothing of what it is to do there.
"""

from __future__ import annotations

from dataclasses import dataclass

from chatlab.chat_model import ChatModel
from chatlab.engines import Engine
from chatlab.errors import ModelFilesError
from chatlab.model import load, resolve

__all__ = ["TravellingModel"]


@dataclass(frozen=True)
class TravellingModel:
    """What `chatlab.load` is to be given over there, or the model itself where it does not come from there.

    `threads` is how many threads its sums are shared out among; a worker has one core.

    >>> from chatlab.testing import ScriptedModel
    >>> TravellingModel.of(ScriptedModel("Hello!")).get()
    ScriptedModel('scripted', context_length=8192)
    """

    arguments: tuple[str, str, str | None] | None
    itself: ChatModel | None
    context_length: int
    fingerprint: str
    threads: int

    @classmethod
    def of(cls, model: Engine, *, threads: int = 1) -> TravellingModel:
        """Return a model as it travels. Raises `LocalModelNeededError` for one on a server."""
        local = resolve(model)
        itself = None if local.loaded_as else local
        return cls(local.loaded_as, itself, local.context_length, local.fingerprint(), threads)

    def get(self) -> ChatModel:
        """Return the model, over there. Raises `ModelFilesError` where one of that name has other weights."""
        if self.itself is not None:
            return self.itself
        assert self.arguments is not None
        name, device, chat_template = self.arguments
        model = load(name, device=device, chat_template=chat_template)
        if model.fingerprint() != self.fingerprint:
            raise ModelFilesError(f"{name} has other weights on this machine of the cluster. Install the same ones.")
        if hasattr(model, "threads"):
            model.threads.number = self.threads
        return model.with_context_length(self.context_length)
