"""Question schema: what an author may write in a file of questions.

In: nothing. Out: a JSON schema, whose descriptions say what to write in each field. Knows nothing of files.
"""

from __future__ import annotations

from typing import Any

from chatlab.authoring import text_field
from chatlab.questions.question import KINDS, LETTERS

__all__ = ["DIFFICULTIES", "FIELDS_OF_KIND", "SCHEMA"]

DIFFICULTIES = ("easy", "medium", "hard")

# What a question of each kind has beside the fields that all have.
FIELDS_OF_KIND = {
    "single": ("choices",),
    "multiple": ("choices",),
    "order": ("choices", "explanation", "wrong"),
    "predict-output": ("code", "explanation", "wrong"),
    "number": ("explanation", "wrong"),
    "fix-the-request": ("request", "explanation", "wrong"),
    "function": ("function", "request", "explanation", "wrong"),
}


def _list(what: str, items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": what, **more}


def _object(what: str, required: tuple[str, ...], **fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
        "description": what,
    }


_NAME = "small letters, digits and hyphens, such as roles-reply"
_SLUG = {"pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}
_EXPLANATION = text_field("one to three short sentences that say why")
_MISCONCEPTION = text_field("a name from the file's own list of misconceptions", **_SLUG)
_EVIDENCE = text_field("the name of a function in the topic's evidence module", pattern="^[a-z_][a-z0-9_]*$")
_ANSWER = {"description": "the right answer, in the form that the kind asks for"}

_CHOICE = _object(
    "a text, its explanation, and for a wrong choice the misconception behind it",
    ("text",),
    text=text_field("what the learner reads; put it in quotes if it begins with [ or {"),
    explanation=_EXPLANATION,
    misconception=_MISCONCEPTION,
)
_WRONG = _object(
    "a typical wrong answer with its explanation and misconception",
    ("answer", "explanation", "misconception"),
    answer={"description": "the wrong answer, in the same form as the right one"},
    explanation=_EXPLANATION,
    misconception=_MISCONCEPTION,
)
_QUESTION = _object(
    "a question with id, kind, difficulty, concept, text, answer and evidence",
    ("id", "kind", "difficulty", "concept", "text", "answer", "evidence"),
    id=text_field(_NAME, **_SLUG),
    kind={"enum": list(KINDS), "description": f"one of {', '.join(KINDS)}"},
    difficulty={"enum": list(DIFFICULTIES), "description": f"one of {', '.join(DIFFICULTIES)}"},
    concept=text_field("what the question is about, in a few words, the same for all questions about it"),
    text=text_field("what is asked; Markdown may be used"),
    choices=_list("two to eight choices", _CHOICE, minItems=2, maxItems=len(LETTERS)),
    answer=_ANSWER,
    explanation=_EXPLANATION,
    wrong=_list("at least two typical wrong answers", _WRONG, minItems=2),
    code=text_field("the Python code whose output is to be predicted, after `code: |`"),
    request=text_field("what the learner begins with, after `request: |`"),
    function=text_field("the name of the function to write", pattern="^[a-z_][a-z0-9_]*$"),
    hints=_list("hints, each telling a little more than the one before", text_field("one short sentence"), minItems=1),
    evidence=_EVIDENCE,
)
_FACT = _object(
    "a key fact with id, concept, front, back and evidence",
    ("id", "concept", "front", "back", "evidence"),
    id=text_field(_NAME, **_SLUG),
    concept=text_field("what the fact is about, in a few words"),
    front=text_field("a question"),
    back=text_field("its answer, in a few words"),
    evidence=_EVIDENCE,
)

SCHEMA: dict[str, Any] = _object(
    "the fields topic, lesson, title, misconceptions and questions",
    ("topic", "lesson", "title", "misconceptions", "questions"),
    topic=text_field("the topic's name, which is the file's too", **_SLUG),
    lesson=text_field('the number of the lesson, in quotes: "02"', pattern="^[0-9]{2}$"),
    title=text_field("what the topic is called in words"),
    misconceptions={
        "type": "object",
        "propertyNames": _SLUG,
        "additionalProperties": text_field("the wrong belief, as one short sentence"),
        "description": "names of wrong beliefs, each with the belief as one sentence",
    },
    questions=_list("at least one question, each after a hyphen", _QUESTION, minItems=1),
    facts=_list("key facts, each after a hyphen", _FACT),
)
