"""Choices: one of the replies that a request asks for, token by token.

In: a request, and its prompt as the model has read it. Out: parts: the text, tool calls and logprobs that each token
adds. The model is left to whoever drives the choice, which can let it read for several at once. Knows nothing of
chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall
from openai.types.chat.chat_completion_token_logprob import ChatCompletionTokenLogprob
from torch import Tensor

from chatlab.chat_model import ChatModel
from chatlab.constraints import Constraint
from chatlab.generation import Drawn, draw_tokens, step_of
from chatlab.logprobs import token_logprob
from chatlab.reading import Prefill, Reading, Results, next_item
from chatlab.requests import ChatRequest
from chatlab.steps import Step
from chatlab.tool_calls import CallReader

__all__ = ["Choice", "FinishReason", "Part"]

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


@dataclass
class Part:
    """What one token adds to a choice; `logprobs` is None where none are wanted."""

    text: str
    calls: list[ChoiceDeltaToolCall]
    logprobs: list[ChatCompletionTokenLogprob] | None
    finish_reason: FinishReason | None


class Choice:
    """One choice: in turns, `next_part` chooses a token, the model reads `text`, and `go_on` takes what came of it."""

    def __init__(
        self, index: int, request: ChatRequest, model: ChatModel, read: Prefill, constraint: Constraint | None
    ) -> None:
        self._model = model
        self._draws = draw_tokens(
            model,
            read,
            params=request.sampling,
            max_tokens=request.max_tokens,
            stop=request.stop,
            seed=None if request.seed is None else request.seed + index,
            constraint=constraint,
            keep=request.n == 1,
        )
        self._results: Results | None = None
        self._reader = CallReader() if request.tools and request.tools.choice != "none" else None
        self._top_logprobs = request.top_logprobs
        self._waiting: list[Step] = []  # whose text is not shown yet
        self._shown = 0

    def next_part(self) -> Part:
        """Choose the next token and return what it adds."""
        self._drawn = cast(Drawn, next_item(self._draws, self._results))
        return self._part(self._drawn)

    @property
    def entropy(self) -> float:
        """How uncertain the model was of the token chosen last, in bits."""
        return self._drawn.entropy

    @property
    def text(self) -> tuple[Sequence[int], Any]:
        """What the model has to read before the next part: the token chosen last, and the cache before it."""
        return cast(Reading, next(self._draws)).texts[0]

    def go_on(self, result: tuple[Tensor, Any]) -> None:
        """Take the logits and the cache that reading led to."""
        self._results = [result]

    def _part(self, drawn: Drawn) -> Part:
        """Return what a token adds: text, calls, and the logprobs of the tokens whose text it shows."""
        reader = self._reader
        text, calls = (drawn.text, []) if reader is None else reader.push(drawn.text, last=bool(drawn.finish_reason))
        called = reader is not None and reader.called
        reason: FinishReason | None = drawn.finish_reason
        if reader is not None and reader.complete and reason == "stop":
            reason = "tool_calls"
        if self._top_logprobs is None:
            return Part(text, calls, None, reason)
        self._shown += len(text)
        if drawn.token_id not in self._model.end_token_ids:
            self._waiting.append(step_of(drawn, top_logprobs=self._top_logprobs, model=self._model))
        flush = reason == "length" and not called  # a call's tokens are no part of the content
        ready = [each for each in self._waiting if each.offset < self._shown or flush]
        self._waiting = self._waiting[len(ready) :]
        logprobs = [token_logprob(each, model=self._model) for each in ready]
        return Part(text, calls, logprobs, reason)
