"""Chunks: what each token of a reply sends to whoever waits for it.

In: a request, and the parts that its tokens add to a choice. Out: the official client's `ChatCompletionChunk`s, all
with one id. Knows nothing of how tokens are made.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta, ChoiceLogprobs
from openai.types.completion_usage import CompletionUsage, PromptTokensDetails

from chatlab.chat_model import ChatModel
from chatlab.choices import FinishReason, Part
from chatlab.requests import ChatRequest

__all__ = ["ChunkMaker"]


class ChunkMaker:
    """Makes the chunks of one reply: the opening of each choice, what each token adds, the usage at the end.

    >>> from chatlab.requests import check_request
    >>> from chatlab.testing import ScriptedModel
    >>> request = check_request([{"role": "user", "content": "Hi"}], stream=True)
    >>> maker = ChunkMaker(request, ScriptedModel("Hey"))
    >>> [chunk.choices[0].delta.content for chunk in maker.of_part(0, Part("H", [], None, "length"))]
    ['H', None]
    """

    def __init__(self, request: ChatRequest, model: ChatModel) -> None:
        # "usage": null stands on every chunk when usage was asked for, and is absent when it was not.
        self._usage: dict[str, Any] = {"usage": None} if request.include_usage else {}
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model.name,
            "object": "chat.completion.chunk",
        }

    def opening(self, index: int) -> ChatCompletionChunk:
        """Return the first chunk of a choice, which carries the role."""
        return self._chunk(index, ChoiceDelta(role="assistant", content=""))

    def of_part(self, index: int, part: Part) -> Iterator[ChatCompletionChunk]:
        """Yield what one token sends: nothing while a character is half done, two chunks where it ends the reply."""
        if part.text or part.logprobs:
            content = ChoiceLogprobs(content=part.logprobs) if part.logprobs is not None else None
            yield self._chunk(index, ChoiceDelta(content=part.text), logprobs=content)
        for call in part.calls:
            yield self._chunk(index, ChoiceDelta(tool_calls=[call]))
        if part.finish_reason:
            yield self._chunk(index, ChoiceDelta(), finish_reason=part.finish_reason)

    def usage(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> ChatCompletionChunk:
        """Return the last chunk, which has no choice and tells how many tokens there were."""
        usage = CompletionUsage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=cached_tokens),
        )
        return ChatCompletionChunk(choices=[], usage=usage, **self._head)

    def _chunk(
        self,
        index: int,
        delta: ChoiceDelta,
        *,
        logprobs: ChoiceLogprobs | None = None,
        finish_reason: FinishReason | None = None,
    ) -> ChatCompletionChunk:
        choice = Choice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason)
        return ChatCompletionChunk(choices=[choice], **self._usage, **self._head)
