"""Generation: one token after another until the reply is complete.

In: a prompt, a model, settings. Out: a generator of `Step`s, each with the token chosen, its probability, what else was
likely, and the text that is now certain. Knows nothing of requests or HTTP.

Who only wants the text takes what is drawn as it is: to measure how a token was chosen takes as long as to choose it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer, check_stop
from chatlab.constraints import Constraint
from chatlab.errors import BadRequestError
from chatlab.messages import Message
from chatlab.model import resolve
from chatlab.reading import Prefill, Reading, Results, Work, check_room, drive, next_item, prefill, remember
from chatlab.sampling import SamplingParams, entropy, process_logits, sample
from chatlab.steps import Step, token_name
from chatlab.stop_strings import StopStrings
from chatlab.tokens import Detokenizer, decode, encode

__all__ = [
    "Drawn",
    "check_bias",
    "draw_tokens",
    "generate",
    "likeliest",
    "read_prompt",
    "step_of",
    "steps_of",
]


def generate(
    prompt: str | Sequence[Message],
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    logit_bias: Mapping[int, float] | None = None,
    max_completion_tokens: int | None = None,
    stop: str | Sequence[str] | None = None,
    seed: int | None = None,
    top_logprobs: int = 5,
    model: ChatModel | str | Path | None = None,
) -> Iterator[Step]:
    """Return the steps of the reply to a prompt (or to messages), one per token, as the model makes them.

    `max_completion_tokens` None means until the model ends the reply or its context is full, `seed` None a new one
    each time, `top_logprobs` is how many alternatives a step holds. Raises `BadRequestError` for a value out of range,
    `ContextLengthError` when the prompt leaves no room.

    >>> from chatlab.testing import ScriptedModel
    >>> [step.text for step in generate("Hi", model=ScriptedModel("Hey!"), temperature=0)]
    ['H', 'e', 'y', '!', '']
    """
    model = resolve(model)
    params = SamplingParams(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=logit_bias or {},
    )
    check_bias(model, params)
    if max_completion_tokens is not None:
        check_integer("max_completion_tokens", max_completion_tokens, minimum=1)
    if seed is not None:
        check_integer("seed", seed, minimum=-(2**63))
    check_integer("top_logprobs", top_logprobs, minimum=0, maximum=model.vocab_size)
    stop_strings = check_stop(stop)
    input_ids = read_prompt(prompt, model=model)

    def steps() -> Iterator[Step]:
        drawn = draw_tokens(
            model,
            prefill(model, input_ids),
            params=params,
            max_tokens=max_completion_tokens,
            stop=stop_strings,
            seed=seed,
        )
        yield from drive(model, steps_of(drawn, top_logprobs=top_logprobs, model=model))

    return steps()


def read_prompt(prompt: str | Sequence[Message], *, model: ChatModel) -> list[int]:
    """Return the token ids of a prompt, or of messages once rendered; raise unless a reply has room after them."""
    input_ids = encode(prompt, model=model)
    check_room(model, len(input_ids))
    return input_ids


def check_bias(model: ChatModel, params: SamplingParams) -> None:
    """Raise `BadRequestError` where `logit_bias` names tokens that the model does not have."""
    outside = [token_id for token_id in params.logit_bias if token_id >= model.vocab_size]
    if outside:
        raise BadRequestError(
            f"logit_bias names tokens that {model.name} does not have: {', '.join(map(str, outside))}. "
            f"Its ids are 0 to {model.vocab_size - 1}.",
            param="logit_bias",
            code="invalid_value",
        )


@dataclass(frozen=True, eq=False)
class Drawn:
    """A token that was drawn, and the model's own logits [vocab_size] for it, before temperature and the like.

    `text`, `offset` and `finish_reason` are those of its `Step`, which `started` at that time of `time.perf_counter`.
    """

    token_id: int
    logits: Tensor
    text: str
    offset: int
    started: float
    finish_reason: Literal["stop", "length"] | None

    @cached_property
    def log_probabilities(self) -> Tensor:
        """The natural logarithms of the model's own probabilities, [vocab_size]."""
        return self.logits.log_softmax(dim=-1)

    @cached_property
    def probabilities(self) -> Tensor:
        """The model's own probabilities, [vocab_size]."""
        return self.log_probabilities.exp()

    @cached_property
    def entropy(self) -> float:
        """How uncertain the model was, in bits."""
        return entropy(self.probabilities, self.log_probabilities)


def draw_tokens(
    model: ChatModel,
    read: Prefill,
    *,
    params: SamplingParams,
    max_tokens: int | None = None,
    stop: Sequence[str] = (),
    seed: int | None = None,
    forced: Sequence[int] = (),
    constraint: Constraint | None = None,
    keep: bool = True,
) -> Work[Drawn]:
    """Draw the tokens of one reply to a prompt the model has read, as work to `drive`.

    It extends the prompt's cache in place, and lets the model `keep` it for the conversation's next turn. The reply
    begins with the `forced` token ids, whatever the dice say, which are thrown all the same. A `constraint` keeps the
    reply to its grammar; probabilities stay the model's own, as if there were none.
    The loop that everything else stands on: logits → settings → one token → text → the logits after it.
    """
    room = model.context_length - len(read.input_ids)
    limit = room if max_tokens is None else min(max_tokens, room)
    dice = random.Random(seed if seed is None else seed % 2**64)  # Random(-1) would be Random(1)
    detokenizer, stop_strings = Detokenizer(model.tokenizer), StopStrings(stop)
    logits, past_key_values = read.logits, read.past_key_values
    reply_ids: list[int] = []  # those that the model has read too
    offset = 0
    started = time.perf_counter()
    try:
        for number in range(1, limit + 1):
            scores = process_logits(
                logits,
                params,
                prompt_ids=read.input_ids,
                reply_ids=reply_ids,
                constraint=constraint.apply if constraint else None,
            )
            token_id = sample(scores, temperature=params.temperature, random_number=dice.random())
            if number <= len(forced):
                token_id = forced[number - 1]
            if constraint:
                constraint.accept(token_id)
            ended = token_id in model.end_token_ids
            piece = detokenizer.flush() if ended else detokenizer.decode(token_id)
            if number == limit and not ended:
                piece += detokenizer.flush()
            text = stop_strings.push(piece)
            finish_reason: Literal["stop", "length"] | None = None
            if ended or stop_strings.found:
                finish_reason = "stop"
            elif number == limit:
                finish_reason = "length"
            if finish_reason:
                text += stop_strings.flush()
            yield Drawn(token_id, logits, text, offset, started, finish_reason)
            if finish_reason:
                return
            offset += len(piece)
            started = time.perf_counter()
            [(logits, past_key_values)] = yield Reading([([token_id], past_key_values)])
            reply_ids.append(token_id)
    finally:  # however the reply ended, the next turn of the conversation begins with what has been read
        if keep:
            remember(model, read, reply_ids, past_key_values)


def steps_of(drawn: Work[Drawn], *, top_logprobs: int = 0, model: ChatModel) -> Work[Step]:
    """Make a step of each token that is drawn, with so many alternatives."""
    results: Results | None = None
    with closing(drawn):
        while (item := next_item(drawn, results)) is not None:
            results = None
            if isinstance(item, Reading):
                results = yield item
            else:
                yield step_of(item, top_logprobs=top_logprobs, model=model)


def step_of(drawn: Drawn, *, top_logprobs: int = 0, model: ChatModel) -> Step:
    """Measure how a token was chosen, with so many alternatives."""
    alternatives = likeliest(drawn.probabilities, top_logprobs)
    return Step(
        drawn.token_id,
        decode([drawn.token_id], model=model),
        drawn.text,
        drawn.offset,
        float(drawn.probabilities[drawn.token_id]),
        alternatives,
        drawn.entropy,
        tuple(token_name(each, model=model) for each in alternatives),
        time.perf_counter() - drawn.started,
        drawn.finish_reason,
    )


def likeliest(probabilities: Tensor, number: int) -> dict[int, float]:
    """Return so many token ids with their probabilities [vocab_size], likeliest first.

    >>> likeliest(torch.tensor([0.25, 0.5, 0.25]), 1)
    {1: 0.5}
    """
    if number == 0:
        return {}
    top = torch.topk(probabilities, number)
    return dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
