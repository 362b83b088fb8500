"""Cases of the exercises on sampling.

In: nothing. Out: the calls by which each exercise is checked. Knows nothing of learners.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from chatlab.display import count_of
from chatlab.exercises.case import Case, Judge, equals
from chatlab.messages import user
from chatlab.sampling import apply_top_p
from chatlab.testing import ScriptedModel

__all__ = ["most_common_reply", "nucleus"]


def nucleus() -> list[Case]:
    """Return three tokens, a sure one, four in no order, and all of them: each held to the engine's own top_p."""
    three = {"cat": 0.2, "dog": 0.7, "eel": 0.1}
    four = {"a": 0.15, "b": 0.05, "c": 0.5, "d": 0.3}
    return [
        _nucleus_case(three, 0.8, shown="with cat 20 %, dog 70 %, eel 10 % and top_p 0.8"),
        _nucleus_case(three, 0.3, shown="with the same tokens and top_p 0.3"),
        _nucleus_case(four, 0.9, hidden=True),
        _nucleus_case(four, 1.0, hidden=True),
        _nucleus_case(four, 0.0, hidden=True),
    ]


def most_common_reply() -> list[Case]:
    """Return replies that agree, replies that do not, and replies with white space at their ends."""
    return [
        _replies_case("Rome", "Paris", "Paris", shown="where the model says Rome, Paris, Paris"),
        _replies_case("Yes", "Yes", "Yes", "No", shown="where it says Yes, Yes, Yes, No"),
        _replies_case("Rome", "Rome", "Lima ", "Lima", "Lima\n", shown="where some replies end in white space"),
        _replies_case("42", hidden=True),
    ]


def _nucleus_case(probabilities: dict[str, float], top_p: float, *, shown: str = "", hidden: bool = False) -> Case:
    likeliest = sorted(probabilities, key=lambda token: -probabilities[token])
    logits = torch.tensor([math.log(probabilities[token]) for token in likeliest], dtype=torch.float64)
    kept = apply_top_p(logits, top_p) > float("-inf")
    wanted = [token for token, stays in zip(likeliest, kept.tolist(), strict=True) if stays]
    return Case((probabilities, top_p), equals(wanted), shown=shown, hidden=hidden)


def _replies_case(*replies: str, shown: str = "", hidden: bool = False) -> Case:
    model = ScriptedModel(*replies)
    texts = [reply.strip() for reply in replies]
    wanted = max(((text, texts.count(text)) for text in texts), key=lambda pair: pair[1])
    return Case(([user("Well?")], model, len(replies)), _asked_and_equal(model, wanted, len(replies)), shown, hidden)


def _asked_and_equal(model: ScriptedModel, wanted: tuple[str, int], times: int) -> Judge:
    def judge(result: Any) -> str | None:
        asked = len(model.prompts)
        if asked != times:
            return f"the model should be asked {count_of(times, 'time')}, but was asked {count_of(asked, 'time')}"
        found = tuple(result) if isinstance(result, list) else result
        return None if found == wanted else f"it should be {wanted!r}, but is {result!r}"

    return judge
