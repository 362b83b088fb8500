"""Schemas: what a JSON schema must be before a reply is held to it.

In: a JSON schema, as a caller wrote it. Out: the rule of a grammar whose texts are the JSON that the schema allows, or
the reason why there is none. Knows nothing of requests, models or tools.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from llguidance import LLMatcher

from chatlab.constraints import grammar_fault

__all__ = ["MAX_SCHEMA_BYTES", "SchemaFault", "json_rule"]

MAX_SCHEMA_BYTES = 100_000
MAX_SCHEMA_DEPTH = 64
MAX_MULTIPLE = 100_000  # a grammar for multiples of n counts up to n: it takes that many states
MAX_INTEGER = 2**53  # beyond it, what reads the schema rounds
# As Python's json.dumps writes it. Free white space would let a small model write blanks for ever.
STYLE = {"key_separator": ": ", "item_separator": ", ", "whitespace_flexible": False}
STRICT = {"lenient": False, "coerce_one_of": False, "whitespace_pattern": None}


class SchemaFault(ValueError):
    """A schema cannot be used; the text says why."""


def json_rule(schema: Mapping[str, Any]) -> str:
    r"""Return the right-hand side of a grammar's rule for the JSON that the schema allows.

    The JSON has a blank after each comma and colon of its structure and no other white space. Raises `SchemaFault` for
    what is no JSON schema, for keywords that cannot be held (`not`, `uniqueItems`, some `format`s and patterns), and
    for a schema that is too large.

    >>> json_rule({"type": "array", "items": {"type": "integer"}})[:40]
    '%json {"type": "array", "items": {"type"'
    >>> json_rule({"type": "banana"})
    Traceback (most recent call last):
    chatlab.schemas.SchemaFault: 'banana' is not valid under any of the given schemas
    """
    plain = _plain(schema)
    try:
        draft = validator_for(plain if isinstance(plain.get("$schema"), str) else {}, default=Draft202012Validator)
        draft.check_schema(plain)
    except SchemaError as error:
        raise SchemaFault(error.message[:300]) from error
    except ValueError as error:  # a $schema that is no address
        raise SchemaFault(f"its $schema is no address ({error})") from error
    _check_numbers(plain)
    plain["x-guidance"] = {**STYLE, **STRICT}
    text = json.dumps(plain)
    # Alone first, since the reason is then not wrapped in the grammar's own words.
    fault = grammar_fault(LLMatcher.grammar_from_json_schema(text)) or grammar_fault(f"start: %json {text}")
    if fault:
        raise SchemaFault(fault)
    return f"%json {text}"


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy made of JSON's own types only; refuse what JSON cannot say, and what is too large."""
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaFault(f"it is not JSON ({error})") from error
    if len(text) > MAX_SCHEMA_BYTES:
        raise SchemaFault(f"it has {len(text):,} bytes, and at most {MAX_SCHEMA_BYTES:,} are allowed")
    plain: dict[str, Any] = json.loads(text)
    if max(depth for depth, _key, _value in _walk(plain)) > MAX_SCHEMA_DEPTH:
        raise SchemaFault(f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels")
    return plain


def _walk(schema: object) -> Iterator[tuple[int, str, object]]:
    """Yield every value in a schema with its depth and its key."""
    waiting: list[tuple[int, str, object]] = [(1, "", schema)]
    while waiting:
        depth, key, value = waiting.pop()
        yield depth, key, value
        if isinstance(value, dict):
            waiting += [(depth + 1, name, each) for name, each in value.items()]
        elif isinstance(value, list):
            waiting += [(depth + 1, key, each) for each in value]


def _check_numbers(schema: dict[str, Any]) -> None:
    """Refuse integers that a grammar would round, and steps whose common multiple (as of `allOf`) is too large."""
    large = [value for _depth, _key, value in _walk(schema) if isinstance(value, int) and abs(value) > MAX_INTEGER]
    if large:
        raise SchemaFault(
            f"it holds a number of {len(str(large[0]))} digits; integers up to {MAX_INTEGER:,} are allowed"
        )
    steps = [
        Fraction(str(value))
        for _depth, key, value in _walk(schema)
        if key == "multipleOf" and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    numerators, denominators = ([getattr(step, part) for step in steps] for part in ("numerator", "denominator"))
    if math.lcm(*numerators) * math.lcm(*denominators) > MAX_MULTIPLE:
        raise SchemaFault(f"its multipleOf needs too many states; a common multiple up to {MAX_MULTIPLE:,} is allowed")
