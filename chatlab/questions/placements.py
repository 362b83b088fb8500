"""Placements: the questions of the placement test, and what came of it.

In: `exercises/placement.yaml`, which names questions, and which of them were answered rightly. Out: the questions; a
level with the lessons to take; a file of the results. Knows nothing of how they are asked.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from chatlab.authoring import CourseFileError, course_folder, read_course_file, text_field
from chatlab.display import escape, view
from chatlab.questions.question import Question, Topic
from chatlab.questions.question_files import topic_names, topic_of
from chatlab.questions.question_schema import DIFFICULTIES
from chatlab.records import Record

__all__ = ["LEVELS", "Placed", "Placements", "placement_questions", "read_placement"]

LEVELS = {"strong": 0.8, "getting there": 0.4, "start here": 0.0}  # each with the part of the answers that it takes
LENGTH = 10  # questions
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["questions"],
    "description": "questions: and below it the ids of ten questions",
    "properties": {
        "questions": {
            "type": "array",
            "minItems": LENGTH,
            "maxItems": LENGTH,
            "items": text_field("the id of a question, such as roles-reply"),
            "description": f"the ids of {LENGTH} questions, each after a hyphen",
        }
    },
}


def placement_questions() -> list[tuple[Topic, Question]]:
    """Return the questions of the placement test, from easy to hard, each with its topic.

    >>> [topic.lesson for topic, _ in placement_questions()][:3]
    ['02', '05', '09']
    """
    return read_placement(course_folder("placement.yaml"))


def read_placement(path: Path) -> list[tuple[Topic, Question]]:
    """Return the questions that a file names, each with its topic; raises `CourseFileError` with all that is wrong."""
    names = read_course_file(path, SCHEMA)["questions"]
    known = _all_questions()
    faults = list(_faults(names, known))
    if faults:
        raise CourseFileError("\n".join(f"{path.name}, {fault}" for fault in faults))
    return [known[name] for name in names]


def _all_questions() -> dict[str, tuple[Topic, Question]]:
    topics = [topic_of(name) for name in topic_names()]
    return {question.id: (topic, question) for topic in topics for question in topic.questions}


def _faults(names: list[str], known: dict[str, tuple[Topic, Question]]) -> Iterator[str]:
    for number, name in enumerate(names, start=1):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"Is it {' or '.join(near)}?" if near else "Write an id from a file in questions/."
            yield f"question number {number}, {name!r}: there is no such question. {hint}"
    found = [known[name] for name in names if name in known]
    for topic, count in Counter(topic.name for topic, _ in found).items():
        if count > 1:
            yield f"the topic {topic!r} has {count} questions. Choose one from each, so that a lesson shows."
    ranks = [DIFFICULTIES.index(question.difficulty) for _, question in found]
    for (_, question), rank, before in zip(found[1:], ranks[1:], ranks, strict=False):
        if rank < before:
            yield f"question {question.id!r} is {question.difficulty}, after a harder one. Put them from easy to hard."


@dataclass(frozen=True)
class Placed:
    """What a placement test says, from its topics and whether the question on each was answered rightly.

    >>> Placed([(topic_of("roles"), True), (topic_of("tokens"), False)])
    getting there: 1 of 2 right
    Lessons to take: 05 · Tokens
    """

    answers: Sequence[tuple[Topic, bool]]

    @property
    def right(self) -> int:
        """How many answers are right."""
        return sum(right for _, right in self.answers)

    @property
    def level(self) -> str:
        """The level: "strong", "getting there" or "start here"."""
        return next(level for level, part in LEVELS.items() if self.right >= part * len(self.answers))

    @property
    def known(self) -> set[str]:
        """The names of topics that need not come first; none of them for one who is to start at the beginning."""
        return set() if self.level == "start here" else {topic.name for topic, right in self.answers if right}

    @property
    def score(self) -> str:
        """The level, and how many are right."""
        return f"{self.level}: {self.right} of {len(self.answers)} right"

    @property
    def lessons(self) -> list[str]:
        """The lessons whose question was missed; none for one who is to start at the beginning."""
        missed = sorted(f"{topic.lesson} · {topic.title}" for topic, right in self.answers if not right)
        return [] if self.level == "start here" else missed

    @property
    def advice(self) -> str:
        """Which lessons to take."""
        return f"Lessons to take: {', '.join(self.lessons)}" if self.lessons else self._advice_without_lessons

    @property
    def _advice_without_lessons(self) -> str:
        if self.level == "start here":
            return "Take the lessons in order, from 00. Each is short."
        return "You missed none. Go for the exercises."

    def __repr__(self) -> str:
        return f"{self.score}\n{self.advice}"

    def html(self) -> str:
        """Return the level and the advice as HTML; all text in it is escaped."""
        return f"<div><strong>{escape(self.score)}</strong></div>{self.advice_html()}"

    def advice_html(self) -> str:
        """Return the advice as HTML, a line for each lesson."""
        if not self.lessons:
            return f"<div>{escape(self._advice_without_lessons)}</div>"
        return f"<div>Lessons to take:</div><ul>{''.join(f'<li>{escape(each)}</li>' for each in self.lessons)}</ul>"

    def _repr_html_(self) -> str:
        return view(self.html())


class Placements:
    """The results of the placement test, in `placement.json` beside the progress, and apart from it.

    Its answers count in no quiz: they were given before the lessons, each only once.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> placements = Placements(Path(folder.name))
    >>> placements.record({"roles-format": True, "tokens-read": False})
    >>> placements.latest()
    getting there: 1 of 2 right
    Lessons to take: 05 · Tokens
    >>> folder.cleanup()
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._record = Record("placement", field="results", empty=list, folder=folder)

    def record(self, answers: dict[str, bool]) -> None:
        """Add a result: the id of each question and whether its answer was right; raises `OSError` if it cannot."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._record.change(lambda results: results.append({"time": now, "answers": answers}))

    def latest(self) -> Placed | None:
        """Return the last result, None if there is none; a question that the course has no more does not count."""
        results = [each for each in self._record.read() if isinstance(each, dict)]
        given = results[-1].get("answers") if results else None
        if not isinstance(given, dict):
            return None
        known = _all_questions()
        answers = [(known[name][0], bool(right)) for name, right in given.items() if name in known]
        return Placed(answers) if answers else None
