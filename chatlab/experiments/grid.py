"""Grid: every combination of prompts, settings and seeds, as single requests.

In: prompts and lists of settings, as a caller wrote them. Out: a `Run` for each reply that is to be made, checked, in
the order in which the table will show it. Knows nothing of how replies are made or stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias, cast

from chatlab.checks import check_integer, check_list, kind_of
from chatlab.engines import Engine
from chatlab.errors import BadRequestError
from chatlab.messages import Message, system, user
from chatlab.requests import SEED_RANGE, ChatOptions, check_request

__all__ = ["Expected", "Prompts", "Run", "plan"]

Prompts: TypeAlias = str | Sequence[str | Sequence[Message]] | Mapping[str, str | Sequence[Message]]
Expected: TypeAlias = str | Sequence[str | Sequence[str] | None] | Mapping[str, str | Sequence[str]]

NOT_SWEPT = {
    "seed": "Give seeds=, a number or a list.",
    "n": "A row is one reply: give seeds=, a number or a list.",
    "stream": "A row is a whole reply.",
    "stream_options": "A row is a whole reply.",
    "logprobs": "The table has the entropy of a local model's replies.",
    "top_logprobs": "The table has the entropy of a local model's replies.",
}


@dataclass(frozen=True)
class Run:
    """One reply to be made: its place in the table (column → value, the seed last), its request, who replies.

    `expected` are the replies that count as right, None where nothing is expected.
    """

    place: Mapping[str, Any]
    model: Engine
    messages: Sequence[Message]
    options: ChatOptions
    expected: tuple[str, ...] | None


def plan(
    prompts: Prompts,
    models: Mapping[str, Engine],
    grid: Mapping[str, Any],
    *,
    seeds: int | Iterable[int],
    expected: Expected | None,
) -> list[Run]:
    """Return a run for each prompt, model, combination of settings and seed, the seed changing fastest.

    A list in the `grid` is an axis, anything else holds for all. Raises `BadRequestError` for what no request may hold.

    >>> from chatlab.testing import ScriptedModel
    >>> runs = plan("Hi", {"a": ScriptedModel("")}, {"temperature": [0, 1], "top_p": 0.9}, seeds=2, expected=None)
    >>> [dict(run.place) for run in runs][1:3]
    [{'prompt': 'Hi', 'temperature': 0, 'seed': 1}, {'prompt': 'Hi', 'temperature': 1, 'seed': 0}]
    """
    named_prompts = _named_prompts(prompts)
    answers = _answers(expected, list(named_prompts))
    _check_names(grid)
    axes = {name: _axis(name, value) for name, value in grid.items() if _is_axis(name, value)}
    fixed = {name: value for name, value in grid.items() if name not in axes}
    numbers = _seeds(seeds)
    runs = []
    for (prompt, messages), (model_name, model), *values in product(
        named_prompts.items(), models.items(), *axes.values()
    ):
        labels = {name: label for name, (label, _) in zip(axes, values, strict=True)}
        options = {**fixed, **{name: value for name, (_, value) in zip(axes, values, strict=True)}}
        whole = _with_system(messages, options.pop("system", None))
        check_request(whole, **cast(ChatOptions, options))
        place = {"prompt": prompt, **({"model": model_name} if len(models) > 1 else {}), **labels}
        runs += [
            Run({**place, "seed": seed}, model, whole, cast(ChatOptions, {**options, "seed": seed}), answers[prompt])
            for seed in numbers
        ]
    return runs


def _named_prompts(prompts: Prompts) -> dict[str, Sequence[Message]]:
    """Return each prompt's messages by its name: the key of a dict, or the text that was said last."""
    if isinstance(prompts, Mapping):
        named = list(prompts.items())
    else:
        alone = isinstance(prompts, str) or (
            isinstance(prompts, Sequence) and bool(prompts) and all(isinstance(each, Mapping) for each in prompts)
        )
        listed = [prompts] if alone else check_list("prompts", prompts, example="['What is 2+2?']")
        named = [(_name(prompt), prompt) for prompt in cast(list[Any], listed)]
    if not named:
        raise BadRequestError("prompts is empty. Give at least one.", param="prompts", code="empty_array")
    _check_different("prompts", [name for name, _ in named])
    return {name: [user(prompt)] if isinstance(prompt, str) else prompt for name, prompt in named}


def _name(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    last = prompt[-1] if isinstance(prompt, Sequence) and prompt else None
    content = last.get("content") if isinstance(last, Mapping) else None
    if not isinstance(content, str):
        raise BadRequestError(f"A prompt must be a text or a list of messages, not {kind_of(prompt)}.", param="prompts")
    return content


def _answers(expected: Expected | None, names: list[str]) -> dict[str, tuple[str, ...] | None]:
    """Return the replies that count as right for each prompt."""
    if expected is None or isinstance(expected, str):
        given: Mapping[str, Any] = dict.fromkeys(names, expected)
    elif isinstance(expected, Mapping):
        given = expected
        if unknown := set(given) - set(names):
            raise BadRequestError(f"expected names prompts that there are not: {sorted(unknown)}.", param="expected")
    else:
        listed = check_list("expected", expected, example="['Paris', 'Rome']")
        if len(listed) != len(names):
            raise BadRequestError(
                f"expected has {len(listed)} answers for {len(names)} prompts. Give one for each, None for any reply.",
                param="expected",
            )
        given = dict(zip(names, listed, strict=True))
    return {name: _alternatives(given.get(name)) for name in names}


def _alternatives(answer: Any) -> tuple[str, ...] | None:
    if answer is None or isinstance(answer, str):
        return None if answer is None else (answer,)
    if not isinstance(answer, Sequence) or not all(isinstance(each, str) for each in answer):
        raise BadRequestError(
            f"An expected reply must be a text or a list of them, not {kind_of(answer)}.", param="expected"
        )
    return tuple(answer)


def _check_names(grid: Mapping[str, Any]) -> None:
    for name in grid:
        if name in NOT_SWEPT:
            raise BadRequestError(f"sweep takes no {name}. {NOT_SWEPT[name]}", param=name, code="unsupported_parameter")
        if name != "system" and name not in ChatOptions.__annotations__:
            raise BadRequestError(f"There is no parameter {name!r}.", param=name, code="unknown_parameter")


def _is_axis(name: str, value: object) -> bool:
    """Whether a value is a list of values; of `system` a dict is one too, with a name for each wording."""
    if isinstance(value, Mapping):
        return name == "system"
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def _axis(name: str, values: Any) -> list[tuple[Any, Any]]:
    """Return what the table shows and what the request gets for each value of an axis."""
    if isinstance(values, Mapping):
        pairs = list(values.items())
    else:
        listed = [_plain(each) for each in check_list(name, values, example="[0, 1]")]
        pairs = [(_label(each), each) for each in listed]
    _check_different(name, [label for label, _ in pairs])
    return pairs


def _label(value: Any) -> Any:
    if value is None:
        return "default"
    return value if isinstance(value, (str, int, float)) else json.dumps(value, ensure_ascii=False, default=repr)


def _plain(value: Any) -> Any:
    """Return a number of NumPy's as Python's own."""
    return value.item() if hasattr(value, "item") else value


def _seeds(seeds: int | Iterable[int]) -> list[int]:
    if isinstance(seeds, int):
        return list(range(check_integer("seeds", seeds, minimum=1)))
    listed = check_list("seeds", seeds, example="range(5)")
    numbers = [check_integer("seeds", seed, minimum=SEED_RANGE[0], maximum=SEED_RANGE[1]) for seed in listed]
    _check_different("seeds", numbers)
    return numbers


def _check_different(name: str, labels: Sequence[Any]) -> None:
    for index, label in enumerate(labels):
        if label in labels[:index]:
            raise BadRequestError(f"{name} holds {label!r} twice. Give each once.", param=name, code="invalid_value")


def _with_system(messages: Sequence[Message], wording: str | None) -> Sequence[Message]:
    """Return the messages with a system message before them."""
    if wording is None:
        return messages
    if messages[0].get("role") == "system":
        raise BadRequestError(
            "A prompt has a system message of its own already. Leave out either that or system=.", param="system"
        )
    return [system(wording), *messages]
