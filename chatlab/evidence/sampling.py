"""Evidence on the topic sampling: each answer is drawn, measured or computed by the engine.

In: a question or a fact, and a model. Out: the answer that the engine gives to it; for a function that a learner wrote,
the name of the misconception in it, or None if it is right. Knows nothing of the author's key.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.evidence.common import the_one, what_the_code_prints
from chatlab.messages import system, user
from chatlab.prediction import Prediction, next_token
from chatlab.questions.question import Fact, Question
from chatlab.sampling import (
    SamplingParams,
    apply_presence_and_frequency_penalty,
    apply_temperature,
    apply_top_p,
)

__all__ = [
    "change_that_varies",
    "from_narrow_to_open",
    "logit_after_penalties",
    "reason_of_a_cut_reply",
    "replies_at_zero",
    "settings_that_repeat",
    "softmax_is_right",
    "the_greedy_temperature",
    "the_seed_elsewhere",
    "tokens_in_the_nucleus",
    "what_a_repeated_sum_shows",
    "what_the_code_prints",
    "what_the_temperature_divides",
    "what_top_p_keeps",
    "where_a_seed_holds",
]

ANIMAL = [system("You are a helpful assistant."), user("Name an animal.")]


@cache
def _replies(model: ChatModel, settings: str, times: int) -> frozenset[str]:
    """Return the different replies to the same request, sent several times; asked once for each settings."""
    return frozenset(_said(model, **_settings(settings)) for _ in range(times))


def _said(model: ChatModel, messages: Any = ANIMAL, *, tokens: int = 4, **settings: Any) -> str:
    reply = chat_completions(messages, model, max_completion_tokens=tokens, **settings)
    return reply.choices[0].message.content or ""


def _settings(text: str) -> dict[str, Any]:
    """Read `temperature=1, top_k=1` as settings."""
    return {name: ast.literal_eval(value) for name, value in re.findall(r"(\w+)=([\d.]+)", text)}


def change_that_varies(question: Question, model: ChatModel) -> str:
    """Make each change, and see whether the choice of the next token is more open after it than before."""
    own = next_token(ANIMAL, model=model)

    def opens(text: str) -> bool:
        [(name, before, after)] = re.findall(r"`(\w+)` from ([\d.]+) to ([\d.]+)", text)
        if name == "max_completion_tokens":  # the first four tokens come out the same under either limit
            replies = [_said(model, tokens=limit, temperature=0.7, seed=1) for limit in (4, 8)]
            assert replies[1].startswith(replies[0].rstrip("\ufffd"))
            return False
        settings: list[dict[str, Any]] = [{"temperature": 0.7, name: float(value)} for value in (before, after)]
        old, new = (own.with_settings(SamplingParams(**each)).after.entropy for each in settings)
        return new > old

    return the_one(question, opens)


def replies_at_zero(question: Question, model: ChatModel) -> int:
    """Ask five times, and count the different replies."""
    return len(_replies(model, "temperature=0", 5))


def tokens_in_the_nucleus(question: Question, model: ChatModel) -> int:
    """Cut the question's own probabilities, and count what is left."""
    probabilities = torch.tensor([float(number) / 100 for number in re.findall(r"(\d+) %", question.text)])
    [top_p] = re.findall(r"`top_p` ([\d.]+)", question.text)
    return int((apply_top_p(probabilities.log(), float(top_p)) > float("-inf")).sum())


def from_narrow_to_open(question: Question, model: ChatModel) -> list[str]:
    """Order the settings by how uncertain the next token is under them."""
    own = next_token(ANIMAL, model=model)
    bits = {
        choice.letter: own.with_settings(SamplingParams(**_settings(choice.text))).after.entropy
        for choice in question.choices
    }
    assert len(set(bits.values())) == len(bits)
    return sorted(bits, key=lambda letter: bits[letter])


def settings_that_repeat(question: Question, model: ChatModel) -> list[str]:
    """Ask four times with each, and keep those whose replies are all the same."""
    return [choice.letter for choice in question.choices if len(_replies(model, choice.text, 4)) == 1]


@cache
def _sums(model: ChatModel, asked: str) -> tuple[list[str], list[str]]:
    """Return three replies at temperature 0 and three at 1, each with a seed of its own."""
    messages = [user(f"What is {asked}?")]
    cold = [_said(model, messages, tokens=12, temperature=0, seed=seed) for seed in (None, 1, 2)]
    return cold, [_said(model, messages, tokens=4, temperature=1, seed=seed) for seed in range(3)]


def what_a_repeated_sum_shows(question: Question, model: ChatModel) -> str:
    """Ask for the sum several times, with other seeds, and at a higher temperature."""
    [sum_asked] = re.findall(r"`(\d+ \* \d+) =", question.text)
    (first, second, third), warm = _sums(model, sum_asked)
    right = str(eval(sum_asked)) in first
    claims = {
        "is right": right,
        "hands it out again": len(set(warm)) == 1,
        "a wrong sum": first == second == third and not right,
        "another one would give": second != third,
    }
    return the_one(question, lambda text: any(true and words in text for words, true in claims.items()))


def _dice(prediction: Prediction, seed: int, *, other_engine: bool) -> list[int]:
    """Draw thirty tokens as chatlab does with a seed, or with the dice that PyTorch makes of it."""
    if other_engine:
        dice = torch.Generator().manual_seed(seed)
        drawn: list[int] = torch.multinomial(prediction.probabilities, 30, replacement=True, generator=dice).tolist()
        return drawn
    own_dice = random.Random(seed)
    return prediction.draw([own_dice.random() for _ in range(30)])


def the_seed_elsewhere(question: Question, model: ChatModel) -> str:
    """Draw from the same probabilities with the same seed and other dice, twice."""
    prediction = next_token(ANIMAL, temperature=1.5, model=model)
    here = _dice(prediction, 7, other_engine=False)
    there, again = (_dice(prediction, 7, other_engine=True) for _ in range(2))
    greedy = [int(prediction.before.logits.argmax())] * 30
    claims = {
        "the same poem": there == here,
        "but the same one each time": there != here and there == again,
        "another poem each time": there != again,
        "the likeliest": there == greedy,
    }
    return the_one(question, lambda text: any(true and words in text for words, true in claims.items()))


def logit_after_penalties(question: Question, model: ChatModel) -> float:
    """Apply the question's penalties to the question's token."""
    numbers = [re.findall(pattern, question.text) for pattern in (r"logit (\d+)", r"(\d+) times")]
    [[logit], [times]] = numbers
    penalties = dict(re.findall(r"`(\w+_penalty)` is (\d+(?:\.\d+)?)", question.text))
    after = apply_presence_and_frequency_penalty(
        torch.tensor([float(logit), 0.0]),
        [0] * int(times),
        float(penalties["presence_penalty"]),
        float(penalties["frequency_penalty"]),
    )
    return float(after[0])


def softmax_is_right(function: Callable[[list[float], float], Any]) -> str | None:
    """Compare with the engine's own temperature and softmax; the last case is the one that cannot be divided."""
    logits = [2.0, 1.0, -1.0]
    for temperature in (1.0, 0.5, 2.0, 0.0):
        wanted = apply_temperature(torch.tensor(logits), temperature).softmax(dim=-1)
        try:
            result = function(list(logits), temperature)
        except ZeroDivisionError:
            return "zero-can-divide"
        if not isinstance(result, list):
            return "no-sum-needed"
        found = torch.tensor(result)
        if not torch.allclose(found, wanted, atol=1e-5):
            return "temperature-multiplies" if abs(float(found.sum()) - 1) < 1e-5 else "no-sum-needed"
    return None


def what_the_temperature_divides(fact: Fact, model: ChatModel) -> str:
    """Divide both, and see which gives the probabilities of the engine."""
    own = next_token(ANIMAL, model=model)
    engine = own.with_settings(SamplingParams(temperature=0.5)).probabilities
    divided = {
        "logits": (own.before.logits / 0.5).softmax(dim=-1),
        "probabilities": own.before.probabilities / 0.5,
    }
    [name] = [name for name, probabilities in divided.items() if torch.allclose(probabilities, engine, atol=1e-6)]
    return name


def the_greedy_temperature(fact: Fact, model: ChatModel) -> str:
    """Look for the one that leaves a single token to draw, and see that it is the likeliest."""
    own = next_token(ANIMAL, model=model)
    stages = {heat: own.with_settings(SamplingParams(temperature=heat)).after for heat in (0.0, 0.7, 1.5)}
    [heat] = [heat for heat, stage in stages.items() if stage.tokens_left == 1]
    assert stages[heat].logits.argmax() == own.before.logits.argmax()
    return f"{heat:g}"


def what_top_p_keeps(fact: Fact, model: ChatModel) -> str:
    """Count what is kept, and add up the likeliest: one fewer would not reach it."""
    [top_p] = [float(number) for number in re.findall(r"top_p ([\d.]+)", fact.front)]
    prediction = next_token(ANIMAL, top_p=top_p, model=model)
    likeliest = prediction.before.probabilities.sort(descending=True).values
    kept = prediction.after.tokens_left
    assert float(likeliest[:kept].sum()) >= top_p > float(likeliest[: kept - 1].sum())
    return f"the fewest that reach {100 * top_p:g} %"


def reason_of_a_cut_reply(fact: Fact, model: ChatModel) -> str:
    """Cut a reply after one token, and look."""
    return chat_completions(ANIMAL, model, temperature=0, max_completion_tokens=1).choices[0].finish_reason


def where_a_seed_holds(fact: Fact, model: ChatModel) -> str:
    """Throw the dice of two engines with one seed, each twice."""
    prediction = next_token(ANIMAL, temperature=1.5, model=model)
    here, there = ([_dice(prediction, 7, other_engine=other) for _ in range(2)] for other in (False, True))
    assert here[0] == here[1] and there[0] == there[1]
    return "within one engine" if here[0] != there[0] else "everywhere"
