"""Progress: what a learner has answered and solved, kept on this machine only.

In: answers to questions and exercises, each with its verdict. Out: a file; a summary by lesson, topic and concept, with
the misconceptions met and what to do next; the same as CSV and as JSON in the manner of xAPI. Knows nothing of
notebooks.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from chatlab.display import escape, table_html, table_text, view
from chatlab.exercises.exercise import Exercise
from chatlab.exercises.task_files import all_exercises
from chatlab.files import write_whole
from chatlab.questions.placements import Placed, Placements
from chatlab.questions.question import Question, Topic
from chatlab.questions.question_files import topic_names, topic_of
from chatlab.questions.verdict import Verdict
from chatlab.records import Record, delete_records

__all__ = ["Progress", "Score", "Summary"]

FIELDS = ("time", "question", "topic", "lesson", "concept", "kind", "correct", "misconception")
GOOD = 0.8  # of a topic's questions right: time for something new
EXERCISE = "exercise"  # the kind of an answer that is to an exercise: `question` is then the id of the exercise
ACTIVITY = "https://chatlab.invalid/questions/"  # xAPI wants an address as a name; .invalid leads nowhere, by design
EXERCISE_ACTIVITY = "https://chatlab.invalid/exercises/"
VERBS = "http://adlnet.gov/expapi/verbs/"


@dataclass(frozen=True)
class Score:
    """How many of the questions of a lesson, topic or concept were answered, and are right by now.

    A lesson has `exercises` as well, of which some are `solved`.
    """

    name: str
    answered: int
    right: int
    questions: int
    solved: int = 0
    exercises: int = 0


@dataclass(frozen=True)
class Summary:
    """Scores and misconceptions, as tables; `placed` is what the placement test said, `next` what to do next.

    >>> Summary([], [], [], [], "Begin: chatlab.quiz('roles')", "")
    Nothing is answered yet.
    Next: Begin: chatlab.quiz('roles')
    """

    lessons: list[Score]
    topics: list[Score]
    concepts: list[Score]
    misconceptions: list[tuple[str, int]]  # the belief, and how often it was met
    next: str
    note: str
    placed: Placed | None = None

    def tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """Return the header and rows of each table that has any."""
        tables = []
        for what, scores in (("lesson", self.lessons), ("topic", self.topics), ("concept", self.concepts)):
            header = [what, "answered", "right"]
            rows = [[each.name, f"{each.answered} of {each.questions}", str(each.right)] for each in scores]
            if what == "lesson":
                header = [*header, "exercises solved"]
                rows = [[*row, f"{score.solved} of {score.exercises}"] for row, score in zip(rows, scores, strict=True)]
            if scores:
                tables.append((header, rows))
        if self.misconceptions:
            tables.append((["belief met", "times"], [[belief, str(count)] for belief, count in self.misconceptions]))
        return tables

    def __repr__(self) -> str:
        parts = [table_text(header, rows) for header, rows in self.tables()] or ["Nothing is answered yet."]
        blank = "\n\n" if self.tables() else "\n"
        end = [self._placed(), f"Next: {self.next}", self.note]
        return blank.join([*parts, "\n".join(filter(None, end))])

    def html(self) -> str:
        """Return the tables as HTML; all text in them is escaped."""
        parts = [table_html(header, rows) for header, rows in self.tables()] or ["<p>Nothing is answered yet.</p>"]
        note = f'<div class="chatlab-note">{escape(self.note)}</div>' if self.note else ""
        placed = f"<div>{escape(self._placed())}</div>" if self.placed else ""
        return f"{''.join(parts)}{placed}<div><strong>Next:</strong> {escape(self.next)}</div>{note}"

    def _placed(self) -> str:
        return f"Placement test: {self.placed.score}. {self.placed.advice}" if self.placed else ""

    def _repr_html_(self) -> str:
        return view(self.html())


class Progress:
    """The answers of one learner, in `progress.json`; several notebooks may write at once.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> progress = Progress(Path(folder.name))
    >>> topic = topic_of("roles")
    >>> progress.record(topic, topic.questions[0], Verdict(True, "Yes."))
    >>> [(each["question"], each["correct"]) for each in progress.answers]
    [('roles-reply', True)]
    >>> folder.cleanup()
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._record = Record("progress", field="answers", empty=list, folder=folder)

    @classmethod
    def trial(cls) -> Progress:
        """Return progress apart from the learner's own, which is gone when it is used no more.

        >>> Progress.trial()
        Progress(0 answers)
        """
        folder = tempfile.mkdtemp(prefix="chatlab-trial-")
        progress = cls(Path(folder))
        weakref.finalize(progress, shutil.rmtree, folder, ignore_errors=True)
        return progress

    @property
    def path(self) -> Path:
        """The file."""
        return self._record.path

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Every answer, the oldest first: time, question, topic, lesson, concept, kind, correct, misconception.

        One to an exercise is of the kind "exercise"; its `question` is the id of the exercise, its concept the title.
        """
        found: list[dict[str, Any]] = self._record.read()
        return [each for each in found if isinstance(each, dict) and all(name in each for name in FIELDS)]

    def record(self, topic: Topic, question: Question, verdict: Verdict) -> None:
        """Add an answer; raises `OSError` where the file cannot be written."""
        about = (question.id, topic.name, topic.lesson, question.concept, question.kind)
        self._add(*about, verdict.correct, verdict.misconception_name)

    def record_exercise(self, exercise: Exercise, correct: bool) -> None:
        """Add an answer to an exercise; raises `OSError` where the file cannot be written."""
        self._add(exercise.id, exercise.topic, exercise.lesson, exercise.title, EXERCISE, correct, None)

    def _add(self, *values: str | bool | None) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        answer = dict(zip(FIELDS, (now, *values), strict=True))
        self._record.change(lambda answers: answers.append(answer))

    def summary(self) -> Summary:
        """Return scores by lesson, topic and concept, the misconceptions met, and what to do next.

        The last answer to a question counts. An exercise that was once solved stays solved.
        """
        answers = self.answers
        latest = {each["question"]: bool(each["correct"]) for each in answers if each["kind"] != EXERCISE}
        tried = [each for each in answers if each["kind"] == EXERCISE]
        solved = {each["question"]: False for each in tried} | {e["question"]: True for e in tried if e["correct"]}
        exercises, placed = all_exercises(), Placements(self.path.parent).latest()
        topics = sorted(map(topic_of, topic_names()), key=lambda topic: topic.lesson)
        asked = [(topic, question) for topic in topics for question in topic.questions]
        titles = {topic.name: f"{topic.lesson} · {topic.title}" for topic in topics}
        met = Counter((each["topic"], each["misconception"]) for each in answers if each["misconception"])
        beliefs = {(topic.name, name): said for topic in topics for name, said in topic.misconceptions.items()}
        return Summary(
            lessons=_scores(
                [(titles[topic.name], question.id) for topic, question in asked],
                latest,
                [(titles.get(each.topic, each.lesson), each.id) for each in exercises],
                solved,
            ),
            topics=_scores([(topic.name, question.id) for topic, question in asked], latest),
            concepts=_scores([(question.concept, question.id) for _, question in asked], latest),
            misconceptions=[(beliefs.get(key, str(key[1])), count) for key, count in met.most_common()],
            next=_next(topics, latest, [each for each in exercises if not solved.get(each.id)], placed),
            note=self._record.note(),
            placed=placed,
        )

    def to_csv(self) -> str:
        """Return the answers as CSV, with a header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, FIELDS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.answers)
        return text.getvalue()

    def to_xapi(self) -> str:
        """Return the answers as JSON: a list of statements in the manner of xAPI, which learning systems read."""
        return json.dumps([_statement(each) for each in self.answers], ensure_ascii=False, indent=1)

    def export(self, path: Path | str) -> None:
        """Write the answers to a file, as CSV or as JSON by its ending; raises `ValueError` for another ending."""
        path = Path(path)
        forms = {".csv": self.to_csv, ".json": self.to_xapi}
        if path.suffix not in forms:
            raise ValueError(f"The file must end in .csv or .json, but it is {path.name!r}.")
        write_whole(path, forms[path.suffix]().encode())

    def delete(self) -> None:
        """Delete every answer, and all that is recorded beside them: placement, predictions, dates of the cards."""
        delete_records(self.path.parent)

    def __repr__(self) -> str:
        return f"Progress({len(self.answers)} answers)"


def _scores(
    asked: Sequence[tuple[str, str]],
    latest: dict[str, bool],
    set_tasks: Sequence[tuple[str, str]] = (),
    solved: dict[str, bool] | None = None,
) -> list[Score]:
    """Return the score of each group of which something was answered."""
    scores = []
    for name in dict.fromkeys(name for name, _ in (*asked, *set_tasks)):
        questions = [question for group, question in asked if group == name]
        exercises = [exercise for group, exercise in set_tasks if group == name]
        done = [latest[question] for question in questions if question in latest]
        tried = [solved[exercise] for exercise in exercises if exercise in solved] if solved else []
        if done or tried:
            scores.append(Score(name, len(done), sum(done), len(questions), sum(tried), len(exercises)))
    return scores


def _next(topics: list[Topic], latest: dict[str, bool], unsolved: list[Exercise], placed: Placed | None) -> str:
    """Return what to do next: finish what was begun, mend what was wrong, then begin something new.

    What the placement test was answered rightly on comes last.
    """
    for topic in topics:
        answered = [latest[question.id] for question in topic.questions if question.id in latest]
        if answered and len(answered) < len(topic.questions):
            return f"go on with chatlab.quiz({topic.name!r}): {len(topic.questions) - len(answered)} to go"
        if answered and sum(answered) < GOOD * len(topic.questions):
            return f"read lesson {topic.lesson} again, then chatlab.quiz({topic.name!r})"
        if answered and (exercise := next((each.id for each in unsolved if each.topic == topic.name), None)):
            return f"write chatlab.exercise({exercise!r}), on lesson {topic.lesson}"
    known = placed.known if placed else ()
    for topic in sorted(topics, key=lambda topic: topic.name in known):
        if not any(question.id in latest for question in topic.questions):
            where = "" if latest or placed else ", or find out where: chatlab.placement()"
            return f"begin chatlab.quiz({topic.name!r}), on lesson {topic.lesson}{where}"
    return "keep it fresh: chatlab review"


def _statement(answer: dict[str, Any]) -> dict[str, Any]:
    verb, activity = "answered", ACTIVITY
    if answer["kind"] == EXERCISE:
        verb, activity = "passed" if answer["correct"] else "failed", EXERCISE_ACTIVITY
    extensions = {f"{ACTIVITY}{name}": answer[name] for name in ("topic", "lesson", "concept", "misconception")}
    return {
        "actor": {"objectType": "Agent", "account": {"homePage": ACTIVITY, "name": "learner"}},
        "verb": {"id": f"{VERBS}{verb}", "display": {"en": verb}},
        "object": {"objectType": "Activity", "id": f"{activity}{answer['question']}"},
        "result": {"success": answer["correct"], "extensions": extensions},
        "timestamp": answer["time"],
    }
