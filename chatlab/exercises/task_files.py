"""Task files: read the exercises of a topic, and tell an author what to mend.

In: `exercises/tasks/<topic>.yaml`. Out: its exercises, or a `CourseFileError`. Knows nothing of learners.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatlab.authoring import CourseFileError, course_folder, read_course_file, text_field
from chatlab.exercises.exercise import Exercise, WrongAnswer

__all__ = ["read_exercises", "task_topics"]

_CODE = "Python code, after a |"
_WRONG = {
    "type": "object",
    "additionalProperties": False,
    "required": ["answer", "says"],
    "description": "answer and says",
    "properties": {
        "answer": text_field(f"a typical wrong answer: {_CODE}"),
        "says": text_field("a part of what the check says to it"),
    },
}
_EXERCISE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "title", "points", "name", "text", "starter", "hints", "solution", "wrong"],
    "description": "an exercise",
    "properties": {
        "id": text_field("the topic, a hyphen and a number, such as roles-1", pattern="^[a-z0-9-]+-[0-9]+$"),
        "title": text_field("a short title"),
        "points": {"type": "integer", "minimum": 1, "description": "a whole number of points"},
        "name": text_field("the name of the function, class or variable to write", pattern="^[A-Za-z_][A-Za-z0-9_]*$"),
        "text": text_field("what to do, as Markdown"),
        "starter": text_field(f"what the learner begins with: {_CODE}"),
        "hints": {
            "type": "array",
            "minItems": 2,
            "maxItems": 3,
            "items": text_field("a hint"),
            "description": "two or three hints, each telling more",
        },
        "solution": text_field(f"a solution: {_CODE}"),
        "wrong": {"type": "array", "minItems": 2, "items": _WRONG, "description": "two or more typical wrong answers"},
    },
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["topic", "lesson", "exercises"],
    "description": "topic, lesson and exercises",
    "properties": {
        "topic": text_field("the file's own name"),
        "lesson": text_field('the number of the lesson, in quotes: "02"', pattern="^[0-9]{2}$"),
        "exercises": {"type": "array", "minItems": 2, "items": _EXERCISE, "description": "two or more exercises"},
    },
}


def task_topics() -> list[str]:
    """Return the names of the topics that have exercises, in the order of the lessons.

    >>> "roles" in task_topics()
    True
    """
    topics = {path.stem: read_exercises(path)[0].lesson for path in course_folder("tasks").glob("*.yaml")}
    return sorted(topics, key=lambda topic: (topics[topic], topic))


def read_exercises(path: Path) -> tuple[Exercise, ...]:
    """Return the exercises that a file holds; raises `CourseFileError` with all that is wrong in it."""
    written = read_course_file(path, SCHEMA)
    faults = list(_faults(written, path.stem))
    if faults:
        raise CourseFileError("\n".join(f"{path.name}, {fault}" for fault in faults))
    return tuple(
        Exercise(
            topic=written["topic"],
            lesson=written["lesson"],
            hints=tuple(each["hints"]),
            wrong=tuple(WrongAnswer(**wrong) for wrong in each["wrong"]),
            **{name: value for name, value in each.items() if name not in ("hints", "wrong")},
        )
        for each in written["exercises"]
    )


def _faults(written: dict[str, Any], stem: str) -> Iterator[str]:
    if written["topic"] != stem:
        yield f"field 'topic' is {written['topic']!r}, but the file is called {stem!r}. Write the same name in both."
    for field in ("id", "name"):
        for value, count in Counter(each[field] for each in written["exercises"]).items():
            if count > 1:
                yield f"exercise {value!r}, field {field!r} is used {count} times. Write one that no other has."
    for each in written["exercises"]:
        if each["id"].rpartition("-")[0] != written["topic"]:
            yield f"exercise {each['id']!r}, field 'id' must begin with the topic: {written['topic']}-1."
        for field, code in [("starter", each["starter"]), ("solution", each["solution"])]:
            try:
                compile(code, each["id"], "exec")
            except SyntaxError as error:
                yield f"exercise {each['id']!r}, field {field!r} is no Python: line {error.lineno}, {error.msg}."
