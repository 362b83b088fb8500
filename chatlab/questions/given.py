"""Given: read what a learner gives as an answer.

In: a letter, letters, a number, a text, a list or a function, as typed or as a Python value. Out: the same in the form
of a key, or `NotAnAnswer` with what to write. Knows nothing of what is right.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from chatlab.checks import kind_of
from chatlab.errors import ChatlabError

__all__ = ["SOURCE", "NotAnAnswer", "callable_of", "letters_of", "messages_of", "number_of", "text_of"]

SOURCE = "your answer"  # the file that a function names as its own where its source was given


class NotAnAnswer(ChatlabError):
    """What was given is no answer to this kind of question; the text says what one looks like."""


def letters_of(given: object, letters: Sequence[str]) -> list[str]:
    """Return the letters that were given, as a list or in one text, in the order in which they were given.

    >>> letters_of("b", "ABC"), letters_of(["A", "C"], "ABC"), letters_of("A, c", "ABC")
    (['B'], ['A', 'C'], ['A', 'C'])
    >>> letters_of("D", "ABC")
    Traceback (most recent call last):
    chatlab.questions.given.NotAnAnswer: 'D' is no choice here. Choose from A, B, C.
    """
    parts = re.findall(r"\w+", given) if isinstance(given, str) else given
    if not isinstance(parts, Iterable) or not all(isinstance(part, str) for part in parts):
        raise NotAnAnswer(f"An answer is made of letters, not {kind_of(given)}. Choose from {', '.join(letters)}.")
    found = [part.strip().upper() for part in parts]
    if not found:
        raise NotAnAnswer(f"Nothing is chosen yet. Choose from {', '.join(letters)}.")
    for part in found:
        if part not in letters:
            raise NotAnAnswer(f"{part[:20]!r} is no choice here. Choose from {', '.join(letters)}.")
    if len(set(found)) < len(found):
        raise NotAnAnswer("A letter is there twice. Give each at most once.")
    return found


def number_of(given: object) -> float:
    """Return the number that was given, as a number or as text.

    >>> number_of("8"), number_of(2.5)
    (8, 2.5)
    >>> number_of("many")
    Traceback (most recent call last):
    chatlab.questions.given.NotAnAnswer: An answer here is a number, such as 8, not str 'many'.
    """
    try:
        number = json.loads(given.strip()) if isinstance(given, str) else given
    except ValueError:
        number = None
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        return number
    raise NotAnAnswer(f"An answer here is a number, such as 8, not {kind_of(given)}.")


def text_of(given: object) -> str:
    """Return the text that was given, without white space around it and at the ends of lines.

    >>> text_of(" a  ") == text_of("a")
    True
    """
    if not isinstance(given, str):
        raise NotAnAnswer(f"An answer here is a text, in quotes, not {kind_of(given)}.")
    if not given.strip():
        raise NotAnAnswer("Nothing is written yet.")
    return "\n".join(line.rstrip() for line in given.strip().splitlines())


def messages_of(given: object) -> Any:
    """Return the request that was given, as Python values or as text of Python or JSON.

    >>> messages_of('[{"role": "user", "content": null}]')
    [{'role': 'user', 'content': None}]
    """
    if not isinstance(given, str):
        return given
    for read in (json.loads, ast.literal_eval):  # in this order: Python reads JSON's escapes in another way
        try:
            return read(given.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
            fault = getattr(error, "msg", "not Python data")
            line = getattr(error, "lineno", None)
    raise NotAnAnswer(
        f"This cannot be read as a list{f': line {line}' if line else ''} ({fault}). "
        "Look for a missing quote, comma or bracket."
    )


def callable_of(given: object, name: str) -> Callable[..., Any]:
    """Return the function that was given, itself or as the source that defines it by its name.

    >>> callable_of("def double(x): return 2 * x", "double")(4)
    8
    """
    if callable(given):
        return given
    if not isinstance(given, str):
        raise NotAnAnswer(f"An answer here is the function {name}, or its source, not {kind_of(given)}.")
    defined: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(given, SOURCE, "exec"), defined)  # a learner's own code, in the learner's own kernel
    except SyntaxError as error:
        raise NotAnAnswer(f"Line {error.lineno} cannot be read as Python: {error.msg}.") from error
    except Exception as error:
        raise NotAnAnswer(f"The code does not run: {type(error).__name__}: {error}") from error
    made: Callable[..., Any] | None = defined.get(name)
    if not callable(made):
        raise NotAnAnswer(f"The code does not define {name}. Write `def {name}(...):` and what it does.")
    return made
