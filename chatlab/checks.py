"""Checks: what a value given by a caller must be.

In: a parameter's name and the value received. Out: the value as a plain Python number, list or tuple, or the error a
server would answer, with the range and the value. Knows nothing of what a parameter does.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard, TypeVar

from chatlab.errors import BadRequestError

__all__ = [
    "LOOPBACK_NAMES",
    "check_flag",
    "check_integer",
    "check_list",
    "check_logit_bias",
    "check_number",
    "check_stop",
    "kind_of",
]

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")  # by which a machine calls itself
MAX_STOP_STRINGS = 4
MAX_STOP_LENGTH = 1000
MAX_BIASES = 1024
MAX_ID_DIGITS = 12

Item = TypeVar("Item")


def kind_of(value: object) -> str:
    """Name a value for an error message: its type, and the value itself where it is short.

    >>> kind_of("hot"), kind_of(None), kind_of("x" * 100)
    ("str 'hot'", 'None', 'str')
    """
    if value is None:
        return "None"
    shown = repr(value)
    return f"{type(value).__name__} {shown}" if len(shown) <= 40 else type(value).__name__


def check_number(name: str, value: object, minimum: float, maximum: float) -> float:
    """Return the value as a float; raise `BadRequestError` unless it is a number in the range, both ends included.

    >>> check_number("temperature", 3, 0, 2)
    Traceback (most recent call last):
    chatlab.errors.BadRequestError: temperature must be between 0 and 2, but is 3.
    """
    if not _is_number(value):
        raise BadRequestError(f"{name} must be a number, not {kind_of(value)}.", param=name, code="invalid_type")
    if not minimum <= value <= maximum:  # also when it is not a number (NaN)
        code = "decimal_below_min_value" if value < minimum else "decimal_above_max_value"
        raise BadRequestError(
            f"{name} must be between {minimum:g} and {maximum:g}, but is {str(value)[:40]}.", param=name, code=code
        )
    return float(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_integer(name: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """Return the value as an int; raise `BadRequestError` unless it is a whole number in the range."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise BadRequestError(f"{name} must be a whole number, not {kind_of(value)}.", param=name, code="invalid_type")
    number = int(value)
    if number < minimum:
        raise BadRequestError(
            f"{name} must be at least {minimum}, but is {number}.", param=name, code="integer_below_min_value"
        )
    if maximum is not None and number > maximum:
        raise BadRequestError(
            f"{name} must be at most {maximum}, but is {number}.", param=name, code="integer_above_max_value"
        )
    return number


def check_list(name: str, value: Iterable[Item], *, example: str, empty: bool = False) -> list[Item]:
    """Return the value as a list; raise `BadRequestError` for what is none, and for one without items unless `empty`.

    >>> check_list("temperatures", (0.5, 1), example="[0.5, 1.0]")
    [0.5, 1]
    >>> check_list("temperatures", 5, example="[0.5, 1.0]")
    Traceback (most recent call last):
    chatlab.errors.BadRequestError: temperatures must be a list such as [0.5, 1.0], not int 5.
    """
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping)):
        raise BadRequestError(
            f"{name} must be a list such as {example}, not {kind_of(value)}.", param=name, code="invalid_type"
        )
    items = list(value)
    if not items and not empty:
        raise BadRequestError(f"{name} is empty. Give at least one, as in {example}.", param=name, code="empty_array")
    return items


def check_logit_bias(name: str, value: object) -> dict[int, float]:
    """Return the value as a dict from token id to a bias of −100 to 100; ids may be written as text, as in JSON.

    >>> check_logit_bias("logit_bias", {"42": -100})
    {42: -100.0}
    """
    if not isinstance(value, Mapping):
        raise BadRequestError(
            f"{name} must be a dict from token id to bias, not {type(value).__name__}.",
            param=name,
            code="invalid_type",
        )
    if len(value) > MAX_BIASES:
        raise BadRequestError(
            f"{name} may hold at most {MAX_BIASES:,} tokens, but holds {len(value):,}.",
            param=name,
            code="object_above_max_properties",
        )
    bad = [key for key in value if not str(key).isdecimal() or len(str(key)) > MAX_ID_DIGITS]
    if bad:
        raise BadRequestError(
            f"The keys of {name} must be token ids, but these are not: {', '.join(repr(key)[:40] for key in bad)}.",
            param=name,
            code="invalid_value",
        )
    return {int(key): check_number(name, bias, -100, 100) for key, bias in value.items()}


def check_flag(name: str, value: object) -> bool:
    """Return the value as a bool, None as False; raise `BadRequestError` for anything else."""
    if value is not None and not isinstance(value, bool):
        raise BadRequestError(f"{name} must be True or False, not {kind_of(value)}.", param=name, code="invalid_type")
    return bool(value)


def check_stop(stop: object) -> tuple[str, ...]:
    """Return the stop strings, of which there may be four, none of them empty; one alone may stand without a list.

    >>> check_stop("END"), check_stop(None)
    (('END',), ())
    """
    strings = [stop] if isinstance(stop, str) else () if stop is None else stop
    if not isinstance(strings, Sequence) or not all(isinstance(string, str) for string in strings):
        raise BadRequestError(
            f"stop must be a string or a list of strings, not {kind_of(stop)}.", param="stop", code="invalid_type"
        )
    if len(strings) > MAX_STOP_STRINGS:
        raise BadRequestError(
            f"stop may hold at most {MAX_STOP_STRINGS} strings, but holds {len(strings)}.",
            param="stop",
            code="array_above_max_length",
        )
    for string in strings:
        if not string:
            raise BadRequestError(
                "stop holds an empty string, at which every reply would end at once. Leave it out.",
                param="stop",
                code="invalid_value",
            )
        if len(string) > MAX_STOP_LENGTH:
            raise BadRequestError(
                f"A stop string may have at most {MAX_STOP_LENGTH:,} characters, but one has {len(string):,}.",
                param="stop",
                code="string_above_max_length",
            )
    return tuple(strings)
