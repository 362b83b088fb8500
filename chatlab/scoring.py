"""Scoring: how probable a model finds a text that it did not write.

In: a text, and the prompt before it. Out: its perplexity, from the logits after each of its tokens. Nothing is drawn.
Knows nothing of sampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from chatlab.chat_model import ChatModel
from chatlab.checks import kind_of
from chatlab.display import count_of
from chatlab.errors import BadRequestError
from chatlab.generation import read_prompt
from chatlab.messages import Message
from chatlab.model import resolve
from chatlab.reading import PREFILL_CHUNK, check_room
from chatlab.tokens import encode

__all__ = ["perplexity"]


def perplexity(
    text: str, *, prompt: str | Sequence[Message] = "", model: ChatModel | str | Path | None = None
) -> float:
    """Return how surprised the model is by a text: as if it chose among so many equally likely tokens each time.

    exp of the mean of −ln p of its tokens, each after the prompt (or messages) and the tokens before it. Without a
    prompt nothing stands before the first token, so that one does not count. Raises `BadRequestError` for a text with
    nothing to count, `ContextLengthError` for one that does not fit the context. From "Perplexity: a measure of the
    difficulty of speech recognition tasks" (Jelinek et al., 1977).

    >>> from chatlab import user
    >>> from chatlab.testing import ScriptedModel
    >>> perplexity("Hey!", prompt=[user("Hi")], model=ScriptedModel("Hey!"))
    1.0
    """
    model = resolve(model)
    if not isinstance(text, str):
        raise BadRequestError(f"text must be a string, not {kind_of(text)}.", param="text")
    prompt_ids = read_prompt(prompt, model=model) if prompt else []
    input_ids = [*prompt_ids, *encode(text, model=model)]
    first = max(len(prompt_ids), 1)  # the first token that is counted
    counted = len(input_ids) - first
    if counted <= 0:
        raise BadRequestError(
            f"The text has {count_of(len(input_ids) - len(prompt_ids), 'token')}, of which none can be counted: "
            "without a prompt, it needs at least two. Give a longer text, or a prompt.",
            param="text",
        )
    check_room(model, len(input_ids), 0)
    surprise, past_key_values = 0.0, None
    for start in range(0, len(input_ids) - 1, PREFILL_CHUNK):
        chunk = input_ids[start : min(start + PREFILL_CHUNK, len(input_ids) - 1)]
        logits, past_key_values = model.logits(chunk, past_key_values)  # [len(chunk), vocab_size]
        expected = torch.tensor(input_ids[start + 1 : start + 1 + len(chunk)])
        losses = torch.nn.functional.cross_entropy(logits, expected, reduction="none")  # [len(chunk)]
        surprise += float(losses[max(first - 1 - start, 0) :].double().sum())
    return math.exp(surprise / counted)
