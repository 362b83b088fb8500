"""Engines: what can be asked for a chat completion, and how its reply arrives.

In: nothing yet. Out: the two base classes that a model on this machine and a server elsewhere have in common. Knows
nothing of tokens, weights or HTTP.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from chatlab.checks import check_integer

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
    from typing_extensions import Self

__all__ = ["Engine", "ReplyStream"]


class Engine(ABC):
    """What answers a chat completion: a `ChatModel` on this machine, or a `RemoteModel` on a server.

    `name` is what a response calls it, `context_length` the most tokens that prompt and reply may have together, or
    None where that is not known.
    """

    name: str
    context_length: int | None

    def with_context_length(self, context_length: int) -> Self:
        """Return the same model with a lower limit, as for a lesson: its weights are shared, not copied.

        Raises `BadRequestError` for a limit above the model's own, which it was not trained for.

        >>> from chatlab.testing import ScriptedModel
        >>> ScriptedModel("Hello!").with_context_length(128)
        ScriptedModel('scripted', context_length=128)
        """
        view = copy.copy(self)
        view.context_length = check_integer("context_length", context_length, minimum=1, maximum=self.context_length)
        return view


class ReplyStream(ABC):
    """The chunks of a reply, one by one as they come; like the official client's stream, it can be read once.

    `close()` may be called from another thread, and ends the reply wherever it is being made.
    """

    def start(self) -> None:  # noqa: B027 - a reply made in this process has nobody to wait for
        """Wait until the reply has been accepted; raise what it is refused with. Iterating does that by itself."""

    def __iter__(self) -> Self:
        return self

    @abstractmethod
    def __next__(self) -> ChatCompletionChunk: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def advance(self) -> ChatCompletionChunk | None:
        """Do one piece of work and return the next chunk, or None where it gave nothing to say yet.

        Raises `StopIteration` after the last chunk, or once closed.
        """
        return next(self)

    def pieces(self) -> Iterator[ChatCompletionChunk | None]:
        """Yield what each piece of work gives; between two of them one may stop, or do something else."""
        while True:
            try:
                yield self.advance()
            except StopIteration:
                return

    @abstractmethod
    def whole(self) -> ChatCompletion:
        """Return the whole reply, in place of its chunks."""

    @abstractmethod
    def close(self) -> None:
        """Stop making the reply."""
