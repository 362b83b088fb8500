"""Logprobs: how likely the model held each token of a reply, as OpenAI writes it.

In: a `Step` and the model that made it. Out: the official client's `ChatCompletionTokenLogprob`. Knows nothing of
chunks or requests.
"""

from __future__ import annotations

import math
from typing import Any

from openai.types.chat.chat_completion_token_logprob import ChatCompletionTokenLogprob, TopLogprob

from chatlab.chat_model import ChatModel
from chatlab.steps import Step
from chatlab.tokens import decode, token_bytes

__all__ = ["token_logprob"]


def token_logprob(step: Step, *, model: ChatModel) -> ChatCompletionTokenLogprob:
    """Return the natural logarithms of the step's probabilities; −9999 stands for a probability of 0.

    `bytes` are those of the token's text, None for a control token.

    >>> from chatlab import generate
    >>> from chatlab.testing import ScriptedModel
    >>> model = ScriptedModel("Hey!")
    >>> item = token_logprob(next(generate("Hi", model=model, top_logprobs=1)), model=model)
    >>> item.token, item.logprob, item.bytes, len(item.top_logprobs)
    ('H', 0.0, [72], 1)
    """
    top = [
        TopLogprob(**_token(token_id, model), logprob=_log(probability))
        for token_id, probability in step.alternatives.items()
    ]
    return ChatCompletionTokenLogprob(**_token(step.token_id, model), logprob=_log(step.probability), top_logprobs=top)


def _token(token_id: int, model: ChatModel) -> dict[str, Any]:
    spelled = token_bytes(token_id, model.tokenizer)
    return {"token": decode([token_id], model=model), "bytes": None if spelled is None else list(spelled)}


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -9999.0
