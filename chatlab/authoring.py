"""Course files: read what an author wrote as YAML, and say what to mend in it.

In: a file and the schema that it should keep to. Out: its content, or a `CourseFileError` that names the file, the
item, the field, what is wrong there and what to write. Knows nothing of what is in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from chatlab.checks import kind_of
from chatlab.course import packaged_course
from chatlab.errors import ChatlabError

__all__ = ["CourseFileError", "course_folder", "read_course_file", "text_field"]

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C reads ten times as fast, where there is one
ITEMS = {"questions": "question", "facts": "fact", "exercises": "exercise"}  # a list in a file, and one of it


class CourseFileError(ChatlabError):
    """A file of the course cannot be used; the text says where, why, and what to write."""


def course_folder(name: str) -> Path:
    """Return a folder of the exercises, such as "questions", as it was installed.

    >>> course_folder("questions").name
    'questions'
    """
    return packaged_course() / "exercises" / name


def text_field(what: str, **more: Any) -> dict[str, Any]:
    """Return the schema of a text that is not empty; `what` tells an author what to write.

    >>> text_field("a title")
    {'type': 'string', 'minLength': 1, 'description': 'a title'}
    """
    return {"type": "string", "minLength": 1, "description": what, **more}


def read_course_file(path: Path, schema: dict[str, Any]) -> dict[str, Any]:
    """Return what a file holds; raises `CourseFileError` with all that the schema finds wrong, a line for each."""
    try:
        written = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise CourseFileError(
            f"{path.name}{place}: this is no YAML ({problem}). Put texts that hold a colon, a quote, [ or {{ in "
            "quotes, and begin the fields of one item in the same column."
        ) from error
    faults = [_told(error, written) for error in Draft202012Validator(schema).iter_errors(written)]
    if faults:
        raise CourseFileError("\n".join(f"{path.name}, {fault}" for fault in faults))
    read: dict[str, Any] = written
    return read


def _told(error: ValidationError, written: Any) -> str:
    """Return what a schema found, in words: where, what is wrong, what to write."""
    path, wanted = list(error.absolute_path), error.schema.get("description", "")
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        path, wrong = [*path, missing], "is missing"
        wanted = error.schema["properties"][missing]["description"]
    elif error.validator == "additionalProperties":
        unknown = next(name for name in error.instance if name not in error.schema["properties"])
        path, wrong = [*path, unknown], "is no field here"
        wanted = f"one of {', '.join(error.schema['properties'])}"
    elif error.validator in ("minItems", "minLength"):
        wrong = "is empty" if not error.instance else f"has only {len(error.instance)}"
    elif error.validator == "maxItems":
        wrong = f"has {len(error.instance)}"
    else:
        wrong = f"is {kind_of(error.instance)}"
        wanted = wanted or "a name of small letters, digits and hyphens"
    return f"{_place(path, written)} {wrong}. Write {wanted}."


def _place(path: list[Any], written: Any) -> str:
    """Return a path in words: the item by its id, then the field; the file's own field without an item."""
    within = ""
    if len(path) > 1 and path[0] in ITEMS and isinstance(path[1], int):
        item, kind = written[path[0]][path[1]], ITEMS[path[0]]
        name = item.get("id") if isinstance(item, dict) else None
        within = f"{kind} {name!r}, " if name else f"{kind} number {path[1] + 1}, "
        path = path[2:]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return f"{within}field {field!r}" if field else f"{within}it" if within else "the file"
