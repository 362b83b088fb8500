"""Question files: read the questions of a topic, and tell an author what to mend.

In: `exercises/questions/<topic>.yaml`. Out: its questions and facts, or a `CourseFileError` that names the file, the
question, the field, what is wrong there and what to write. Knows nothing of learners.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatlab.authoring import CourseFileError, course_folder, read_course_file
from chatlab.checks import kind_of
from chatlab.questions.question import LETTERS, Choice, Fact, Question, Topic, Wrong
from chatlab.questions.question_schema import FIELDS_OF_KIND, SCHEMA

__all__ = ["read_topic", "topic_names", "topic_of"]

COMMON = {"id", "kind", "difficulty", "concept", "text", "answer", "evidence", "hints"}


def topic_names() -> list[str]:
    """Return the names of the topics that there are questions on.

    >>> "roles" in topic_names()
    True
    """
    return sorted(path.stem for path in course_folder("questions").glob("*.yaml"))


def topic_of(name: str) -> Topic:
    """Return a topic by its name; raises `ValueError` with the names there are.

    >>> topic_of("roles")
    Topic(name='roles', lesson='02', title='Messages and roles')
    """
    names = topic_names()
    if name not in names:
        raise ValueError(f"There are no questions on {name!r}. There are some on: {', '.join(names)}.")
    return read_topic(course_folder("questions") / f"{name}.yaml")


def read_topic(path: Path) -> Topic:
    """Return the topic that a file holds; raises `CourseFileError` with all that is wrong in it, a line for each."""
    written = read_course_file(path, SCHEMA)
    faults = list(_faults(written, path.stem))
    if faults:
        raise CourseFileError("\n".join(f"{path.name}, {fault}" for fault in faults))
    questions = tuple(_question(each, written["topic"]) for each in written["questions"])
    facts = tuple(Fact(topic=written["topic"], **each) for each in written.get("facts", []))
    return Topic(
        written["topic"], written["lesson"], written["title"], questions, facts, dict(written["misconceptions"])
    )


def _faults(written: dict[str, Any], stem: str) -> Iterator[str]:
    """Yield what a schema cannot say: names that must agree, fields that a kind needs, and the form of a key."""
    if written["topic"] != stem:
        yield f"field 'topic' is {written['topic']!r}, but the file is called {stem!r}. Write the same name in both."
    ids = Counter(each["id"] for each in [*written["questions"], *written.get("facts", [])])
    for name in (name for name, count in ids.items() if count > 1):
        yield f"question {name!r}, field 'id' is used {ids[name]} times. Write a name that no other has."
    for each in written["questions"]:
        for field, fault in _question_faults(each, written["misconceptions"]):
            yield f"question {each['id']!r}, field {field!r} {fault}"
    named = {each.get("misconception") for one in written["questions"] for each in _explained(one)}
    for name in written["misconceptions"]:
        if name not in named:
            yield f"field 'misconceptions.{name}' is named by no wrong answer. Use it, or take it out."


def _explained(question: dict[str, Any]) -> list[dict[str, Any]]:
    return [*question.get("choices", []), *question.get("wrong", [])]


def _question_faults(question: dict[str, Any], misconceptions: dict[str, str]) -> Iterator[tuple[str, str]]:
    kind, key = question["kind"], question["answer"]
    for field in FIELDS_OF_KIND[kind]:
        if field not in question:
            wanted = SCHEMA["properties"]["questions"]["items"]["properties"][field]["description"]
            yield field, f"is missing, and the kind {kind} needs it. Write {wanted}."
    for field in question:
        if field not in COMMON and field not in FIELDS_OF_KIND[kind]:
            yield field, f"does not belong to the kind {kind}. Take it out."
    letters = list(LETTERS[: len(question.get("choices", []))])
    fault = _key_fault(kind, key, letters)
    if fault:
        yield "answer", fault
        return
    for place, wrong in enumerate(question.get("wrong", [])):
        fault = _key_fault(kind, wrong["answer"], letters)
        if fault or wrong["answer"] == key:
            yield f"wrong[{place}].answer", fault or "is the right answer. Write a wrong one."
    for place, (letter, choice) in enumerate(zip(letters, question.get("choices", []), strict=False)):
        yield from _choice_faults(f"choices[{place}]", letter, choice, kind, key)
    for each in _explained(question):
        name = each.get("misconception")
        if name is not None and name not in misconceptions:
            yield "misconception", f"is {name!r}, which the file's list does not have. Write it there, with the belief."


def _choice_faults(place: str, letter: str, choice: dict[str, Any], kind: str, key: Any) -> Iterator[tuple[str, str]]:
    if kind == "order":
        for field in ("explanation", "misconception"):
            if field in choice:
                yield f"{place}.{field}", "does not belong to something to put in order. Write it under 'wrong'."
        return
    if "explanation" not in choice:
        yield f"{place}.explanation", "is missing. Write one to three short sentences that say why."
    if letter in key and "misconception" in choice:
        yield f"{place}.misconception", f"stands beside {letter}, which is right. Take it out, or mend 'answer'."
    if letter not in key and "misconception" not in choice:
        yield f"{place}.misconception", f"is missing, and {letter} is wrong. Write a name from the file's own list."


def _key_fault(kind: str, key: Any, letters: list[str]) -> str | None:
    """Return what is wrong with the form of a key, and what to write; None if nothing is."""
    several = isinstance(key, list) and all(isinstance(each, str) for each in key)
    if kind == "single":
        ok, wanted = isinstance(key, str) and key in letters, f"one of {', '.join(letters)}"
    elif kind == "multiple":
        ok = several and bool(key) and key == sorted(set(key) & set(letters))
        wanted = f"some of [{', '.join(letters)}], in this order"
    elif kind == "order":
        ok, wanted = several and sorted(key) == letters, f"each of [{', '.join(letters)}] once, in the right order"
    elif kind == "number":
        ok, wanted = isinstance(key, (int, float)) and not isinstance(key, bool), "a number"
    else:
        ok, wanted = isinstance(key, str) and bool(key.strip()), "a text; put it in quotes, or after a |"
    return None if ok else f"is {kind_of(key)}. Write {wanted}."


def _question(written: dict[str, Any], topic: str) -> Question:
    fields = {name: value for name, value in written.items() if name not in ("answer", "choices", "wrong", "hints")}
    return Question(
        topic=topic,
        key=written["answer"],
        choices=tuple(
            Choice(letter, **each) for letter, each in zip(LETTERS, written.get("choices", []), strict=False)
        ),
        wrong=tuple(Wrong(**each) for each in written.get("wrong", [])),
        hints=tuple(written.get("hints", [])),
        **fields,
    )
