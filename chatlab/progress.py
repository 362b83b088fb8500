"""Progress: what a learner has answered, kept on this machine only.

In: answers to questions, each with its verdict. Out: a file; a summary by lesson, topic and concept, with the
misconceptions met and what to do next; the same as CSV and as JSON in the manner of xAPI. Knows nothing of notebooks.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
import weakref
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from chatlab.display import escape, table_html, table_text, view
from chatlab.files import write_whole
from chatlab.questions.question import Question, Topic
from chatlab.questions.question_files import topic_names, topic_of
from chatlab.questions.verdict import Verdict
from chatlab.records import Record

__all__ = ["Progress", "Score", "Summary"]

FIELDS = ("time", "question", "topic", "lesson", "concept", "kind", "correct", "misconception")
GOOD = 0.8  # of a topic's questions right: time for something new
ACTIVITY = "https://chatlab.invalid/questions/"  # xAPI wants an address as a name; .invalid leads nowhere, by design
ANSWERED = "http://adlnet.gov/expapi/verbs/answered"


@dataclass(frozen=True)
class Score:
    """How many of the questions of a lesson, topic or concept were answered, and are right by now."""

    name: str
    answered: int
    right: int
    questions: int


@dataclass(frozen=True)
class Summary:
    """Scores and misconceptions, as a table; `next` says what to do next.

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

    def tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """Return the header and rows of each table that has any."""
        tables = []
        for what, scores in (("lesson", self.lessons), ("topic", self.topics), ("concept", self.concepts)):
            if scores:
                rows = [[each.name, f"{each.answered} of {each.questions}", str(each.right)] for each in scores]
                tables.append(([what, "answered", "right"], rows))
        if self.misconceptions:
            tables.append((["belief met", "times"], [[belief, str(count)] for belief, count in self.misconceptions]))
        return tables

    def __repr__(self) -> str:
        parts = [table_text(header, rows) for header, rows in self.tables()] or ["Nothing is answered yet."]
        notes = [self.note] if self.note else []
        blank = "\n\n" if self.tables() else "\n"
        return blank.join([*parts, "\n".join([f"Next: {self.next}", *notes])])

    def html(self) -> str:
        """Return the tables as HTML; all text in them is escaped."""
        parts = [table_html(header, rows) for header, rows in self.tables()] or ["<p>Nothing is answered yet.</p>"]
        note = f'<div class="chatlab-note">{escape(self.note)}</div>' if self.note else ""
        return f"{''.join(parts)}<div><strong>Next:</strong> {escape(self.next)}</div>{note}"

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
        """Every answer, the oldest first: time, question, topic, lesson, concept, kind, correct, misconception."""
        found: list[dict[str, Any]] = self._record.read()
        return [each for each in found if isinstance(each, dict) and all(name in each for name in FIELDS)]

    def record(self, topic: Topic, question: Question, verdict: Verdict) -> None:
        """Add an answer; raises `OSError` where the file cannot be written."""
        answer = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "question": question.id,
            "topic": topic.name,
            "lesson": topic.lesson,
            "concept": question.concept,
            "kind": question.kind,
            "correct": verdict.correct,
            "misconception": verdict.misconception_name,
        }
        self._record.change(lambda answers: answers.append(answer))

    def summary(self) -> Summary:
        """Return scores by lesson, topic and concept, the misconceptions met, and what to do next.

        The last answer to a question counts.
        """
        answers = self.answers
        latest = {each["question"]: bool(each["correct"]) for each in answers}
        topics = sorted(map(topic_of, topic_names()), key=lambda topic: topic.lesson)
        asked = [(topic, question) for topic in topics for question in topic.questions]
        met = Counter((each["topic"], each["misconception"]) for each in answers if each["misconception"])
        beliefs = {(topic.name, name): said for topic in topics for name, said in topic.misconceptions.items()}
        return Summary(
            lessons=_scores([(f"{topic.lesson} · {topic.title}", question.id) for topic, question in asked], latest),
            topics=_scores([(topic.name, question.id) for topic, question in asked], latest),
            concepts=_scores([(question.concept, question.id) for _, question in asked], latest),
            misconceptions=[(beliefs.get(key, str(key[1])), count) for key, count in met.most_common()],
            next=_next(topics, latest),
            note=self._record.note(),
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
        """Delete every answer."""
        self._record.delete()

    def __repr__(self) -> str:
        return f"Progress({len(self.answers)} answers)"


def _scores(asked: list[tuple[str, str]], latest: dict[str, bool]) -> list[Score]:
    """Return the score of each group of which something was answered."""
    names = list(dict.fromkeys(name for name, _ in asked))
    scores = []
    for name in names:
        questions = [question for group, question in asked if group == name]
        done = [latest[question] for question in questions if question in latest]
        if done:
            scores.append(Score(name, len(done), sum(done), len(questions)))
    return scores


def _next(topics: list[Topic], latest: dict[str, bool]) -> str:
    """Return what to do next: finish what was begun, mend what was wrong, then begin something new."""
    for topic in topics:
        answered = [latest[question.id] for question in topic.questions if question.id in latest]
        if answered and len(answered) < len(topic.questions):
            return f"go on with chatlab.quiz({topic.name!r}): {len(topic.questions) - len(answered)} to go"
        if answered and sum(answered) < GOOD * len(topic.questions):
            return f"read lesson {topic.lesson} again, then chatlab.quiz({topic.name!r})"
    for topic in topics:
        if not any(question.id in latest for question in topic.questions):
            return f"begin chatlab.quiz({topic.name!r}), on lesson {topic.lesson}"
    return "keep it fresh: chatlab review"


def _statement(answer: dict[str, Any]) -> dict[str, Any]:
    extensions = {f"{ACTIVITY}{name}": answer[name] for name in ("topic", "lesson", "concept", "misconception")}
    return {
        "actor": {"objectType": "Agent", "account": {"homePage": ACTIVITY, "name": "learner"}},
        "verb": {"id": ANSWERED, "display": {"en": "answered"}},
        "object": {"objectType": "Activity", "id": f"{ACTIVITY}{answer['question']}"},
        "result": {"success": answer["correct"], "extensions": extensions},
        "timestamp": answer["time"],
    }
