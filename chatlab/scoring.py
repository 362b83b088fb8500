"""Scoring: how probable a model finds a text that it did not write.

In: a text, and the prompt before it. Out: its perplexity, or a score for each of its tokens, from the logits before it.
Nothing is drawn. Knows nothing of settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer, kind_of
from chatlab.display import count_of
from chatlab.errors import BadRequestError, ReplyStoppedError
from chatlab.generation import likeliest, read_prompt
from chatlab.messages import Message
from chatlab.model import resolve
from chatlab.reading import check_room
from chatlab.sampling import entropy
from chatlab.tokens import encode

__all__ = ["Score", "perplexity", "score_tokens"]

SCORED_CHUNK = 128  # tokens read at a time, for there are logits of the whole vocabulary for each


@dataclass(frozen=True)
class Score:
    """What a model expected where a token stands, from all that stands before it.

    `probability` is that of the token itself (0–1), `alternatives` the likeliest tokens (id → probability), `entropy`
    how open the choice was, in bits.
    """

    token_id: int
    probability: float
    alternatives: Mapping[int, float]
    entropy: float


def score_tokens(
    prompt: str | Sequence[Message],
    *,
    top_logprobs: int = 8,
    interrupted: Callable[[], bool] = lambda: False,
    model: ChatModel | str | Path | None = None,
) -> list[Score]:
    """Return how probable the model finds each token of a prompt (or messages) but the first, which nothing precedes.

    `interrupted` is asked between two pieces of a long prompt. Raises `BadRequestError` for a value out of range,
    `ContextLengthError` for a prompt that does not fit, `ReplyStoppedError` when interrupted.

    >>> from chatlab.testing import ScriptedModel
    >>> [score.alternatives for score in score_tokens("Hi!", top_logprobs=1, model=ScriptedModel(""))]
    [{257: 1.0}, {257: 1.0}]
    """
    model = resolve(model)
    check_integer("top_logprobs", top_logprobs, minimum=0, maximum=model.vocab_size)
    scores = []
    for logits, expected in _read(model, read_prompt(prompt, model=model)):
        if interrupted():
            raise ReplyStoppedError("The prompt was not read to its end: it was stopped.")
        log_probabilities = logits.log_softmax(dim=-1)  # [tokens, vocab_size]
        for token_id, logs in zip(expected, log_probabilities, strict=True):
            probabilities = logs.exp()  # [vocab_size]
            alternatives = likeliest(probabilities, top_logprobs)
            scores.append(Score(token_id, float(probabilities[token_id]), alternatives, entropy(probabilities, logs)))
    return scores


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
    surprise, place = 0.0, 1  # the place of the first token that the next piece expects
    for logits, expected in _read(model, input_ids):
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(expected), reduction="none")  # [tokens]
        surprise += float(losses[max(first - place, 0) :].double().sum())
        place += len(expected)
    return math.exp(surprise / counted)


def _read(model: ChatModel, input_ids: list[int]) -> Iterator[tuple[Tensor, list[int]]]:
    """Let the model read; yield piece by piece the logits [tokens, vocab_size] and the ids that come after them."""
    past_key_values = None
    for start in range(0, len(input_ids) - 1, SCORED_CHUNK):
        chunk = input_ids[start : min(start + SCORED_CHUNK, len(input_ids) - 1)]
        logits, past_key_values = model.logits(chunk, past_key_values)  # [len(chunk), vocab_size]
        yield logits, input_ids[start + 1 : start + 1 + len(chunk)]
