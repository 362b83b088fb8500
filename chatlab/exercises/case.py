"""Case: one call of what a learner wrote, and what must come of it.

In: arguments and a judge. Out: what is wrong, in words, or nothing. Knows nothing of exercises.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chatlab.engines import Engine

__all__ = ["Case", "Judge", "equals", "try_case"]

# Takes what the learner's function returned; returns what is wrong with it, or None.
Judge = Callable[[Any], "str | None"]
FAILED = object()  # what came of a call that raised an error
LONGEST = 300  # characters of a value in a message


def _call(answer: Callable[..., Any], *arguments: Any) -> Any:
    return answer(*arguments)


@dataclass(frozen=True)
class Case:
    """Call the learner's function with `arguments` (None: judge what was written itself), and judge what it returns.

    `shown` says in words which case it is, after "incorrect"; a hidden case never shows. Arguments that are changed by
    the function are a mistake, unless it `may_change` them. What takes more than a call, as a class or a generator
    does, has a `use`: it gets what was written and the arguments, and returns what is to be judged.
    """

    arguments: tuple[Any, ...] | None
    judge: Judge
    shown: str = ""
    hidden: bool = False
    may_change: bool = False
    use: Callable[..., Any] = _call

    @property
    def name(self) -> str:
        """Which case it is, in words."""
        if self.shown or self.arguments is None:
            return self.shown
        return f"for {', '.join(map(repr, self.arguments))}"[:LONGEST]


def equals(value: Any) -> Judge:
    """Return a judge that wants just this value.

    >>> equals(4)(5)
    'it should be 4, but is 5'
    """

    def judge(found: Any) -> str | None:
        same = found == value and isinstance(found, bool) == isinstance(value, bool)
        return None if same else f"it should be {_short(value)}, but is {_short(found)}"

    return judge


def try_case(case: Case, answer: Any) -> tuple[Any, str | None]:
    """Return what came of a case, and what is wrong with it (None: nothing).

    What is wrong may be an error in the learner's own code, or an answer of a form that the judge cannot look at. Any
    other error of the judge is raised, for it is not the learner's.
    """
    if case.arguments is None:
        return answer, _judged(case.judge, answer)
    arguments = _copied(case.arguments)
    try:
        found = case.use(answer, *arguments)
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {error}"
    fault = _judged(case.judge, found)
    if fault is None and not case.may_change and _plain(arguments) != _plain(case.arguments):
        fault = "it changed what was passed in; make something new instead"
    return found, fault


def _judged(judge: Judge, found: Any) -> str | None:
    """Return what a judge says; what it cannot even look at is of the wrong form."""
    try:
        return judge(found)
    except (TypeError, AttributeError, LookupError, ValueError) as error:
        return f"{_short(found)} is not of the form that is asked for ({type(error).__name__}: {error})"


def _copied(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a copy of all that could be changed; a model stays the same one."""
    kept = {id(each): each for each in arguments if isinstance(each, Engine) or callable(each)}
    copied: tuple[Any, ...] = copy.deepcopy(arguments, kept)
    return copied


def _plain(arguments: tuple[Any, ...]) -> list[Any]:
    return [each for each in arguments if isinstance(each, (list, dict, set))]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
