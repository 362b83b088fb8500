"""Progress and recall: what is recorded survives crashes, damage and company, and comes out again as it went in."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import platformdirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import chatlab
from chatlab import cli
from chatlab.exercises.exercises import answer_in
from chatlab.exercises.task_files import exercises_of
from chatlab.guesses import locked_guesses
from chatlab.progress import FIELDS, Progress
from chatlab.questions.question_files import topic_of
from chatlab.questions.verdict import Verdict
from chatlab.recall import RATINGS, Recall
from chatlab.records import FORMAT, NAMES, Record, records_folder

ROLES = topic_of("roles")
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
run = CliRunner().invoke


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("CHATLAB_RECORDS", str(tmp_path / "records"))
    return tmp_path / "records"


def test_a_quiz_records_what_is_answered():
    quiz = chatlab.quiz("roles")
    quiz.answer("A")
    quiz.answer("C")
    answers = Progress().answers
    assert [(each["question"], each["correct"], each["misconception"]) for each in answers] == [
        ("roles-reply", False, "reply-copies-role"),
        ("roles-reply", True, None),
    ]
    assert all(tuple(each) == FIELDS for each in answers)
    assert (datetime.now(timezone.utc) - datetime.fromisoformat(answers[0]["time"])) < timedelta(minutes=1)


def test_the_environment_says_where_records_are(monkeypatch, tmp_path):
    settings = {"CHATLAB_RECORDS": "~/records", "CHATLAB_HOME": "~/home", "XDG_DATA_HOME": str(tmp_path)}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert records_folder() == Path.home() / "records"
    monkeypatch.setenv("CHATLAB_RECORDS", "")
    assert records_folder() == Path.home() / "home"
    monkeypatch.delenv("CHATLAB_HOME")
    data, cache = (getattr(platformdirs, f"user_{kind}_path")("chatlab-classroom") for kind in ("data", "cache"))
    assert records_folder() == data != cache
    monkeypatch.setenv("CHATLAB_RECORDS", "off")
    off = records_folder()
    assert off.is_dir() and off == records_folder() and off not in (data, cache)


def test_a_process_with_records_off_leaves_nothing():
    """As in the tests' own kernels, which inherit it."""
    code = "import chatlab.records; folder = chatlab.records.records_folder(); (folder / 'x').touch(); print(folder)"
    environment = {**os.environ, "CHATLAB_RECORDS": "off"}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert not Path(printed.stdout.strip()).exists()


def test_two_notebooks_at_once_lose_nothing(records):
    code = """
import sys, time
from pathlib import Path
from chatlab.progress import Progress
from chatlab.questions.question_files import topic_of
from chatlab.questions.verdict import Verdict

topic, start = topic_of("roles"), Path(sys.argv[1])
start.with_name(sys.argv[2]).touch()
while not start.exists():
    time.sleep(0.001)
for _ in range(25):
    Progress().record(topic, topic.questions[0], Verdict(True, ""))
"""
    records.mkdir()
    start = records / "start"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(start), f"ready-{number}"]) for number in range(3)]
    deadline = time.monotonic() + 60
    while len(list(records.glob("ready-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    start.touch()  # all at the same time
    assert [each.wait(60) for each in processes] == [0, 0, 0]
    assert len(Progress().answers) == 75


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"null", b'{"format": 1}', b'{"format": 1, "answers": 3}', b"\xff\xfe"]
)
def test_a_damaged_file_is_set_aside_and_not_fatal(records, damage):
    records.mkdir()
    (records / "progress.json").write_bytes(damage)
    assert Progress().answers == [] and "cannot be read" in Progress().summary().note
    chatlab.quiz("roles").answer("C")
    assert len(Progress().answers) == 1 and (records / "progress.damaged-1.json").read_bytes() == damage
    assert "was set aside" in repr(Progress().summary())
    Progress().delete()
    assert [path.name for path in records.iterdir() if path.suffix == ".json"] == []


def test_a_file_of_a_newer_chatlab_is_left_alone(records):
    records.mkdir()
    newer = json.dumps({"format": FORMAT + 1, "answers": []})
    (records / "progress.json").write_text(newer)
    assert chatlab.quiz("roles").answer("C").correct, "the quiz goes on"
    assert (records / "progress.json").read_text() == newer and "newer chatlab" in Progress().summary().note


@given(st.lists(st.dictionaries(st.text(), st.none() | st.integers() | st.text()), max_size=4))
@settings(max_examples=50, deadline=None)
def test_what_is_recorded_comes_back(tmp_path_factory, entries):
    record = Record("x", field="entries", empty=list, folder=tmp_path_factory.mktemp("records"))
    for number, entry in enumerate(entries):
        record.change(lambda recorded, entry=entry: recorded.append(entry))
        assert record.read() == entries[: number + 1]


def test_odd_entries_do_not_end_a_summary(records):
    records.mkdir()
    answers = [3, None, {}, {"time": "x"}, dict.fromkeys(FIELDS, "x")]
    (records / "progress.json").write_text(json.dumps({"format": FORMAT, "answers": answers}))
    assert len(Progress().answers) == 1 and "Next:" in repr(Progress().summary())


def test_a_summary_says_what_next():
    progress = Progress()
    assert (
        progress.summary().next == "begin chatlab.quiz('start'), on lesson 00, or find out where: chatlab.placement()"
    )
    progress.record(ROLES, ROLES.questions[0], Verdict(False, "", "x", "reply-copies-role"))
    summary = progress.summary()
    assert summary.next == "go on with chatlab.quiz('roles'): 9 to go"
    assert summary.misconceptions == [("The reply takes the role of the last message.", 1)]
    [score] = summary.lessons
    assert (score.name, score.answered, score.right, score.questions) == ("02 · Messages and roles", 1, 0, 10)
    for question in ROLES.questions[1:]:
        progress.record(ROLES, question, Verdict(question.difficulty == "easy", ""))
    assert "read lesson 02 again" in progress.summary().next
    for question in ROLES.questions:
        progress.record(ROLES, question, Verdict(True, ""))
    summary = progress.summary()
    assert [(each.answered, each.right) for each in summary.topics] == [(10, 10)], "the last answer counts"
    assert sum(each.right for each in summary.concepts) == 10
    assert summary.next == "write chatlab.exercise('roles-1'), on lesson 02"
    for exercise in exercises_of("roles"):
        progress.record_exercise(exercise, True)
    assert progress.summary().next == "begin chatlab.quiz('start'), on lesson 00"


def test_exercises_count_when_they_are_checked():
    task = chatlab.exercise("roles-1")
    task.check(None)
    assert Progress().answers == [], "nothing was attempted"
    task.check(lambda *_: 3)
    [score] = Progress().summary().lessons
    assert (score.name, score.answered, score.solved, score.exercises) == ("02 · Messages and roles", 0, 0, 3)
    right = answer_in(task.exercise.solution, task.exercise)
    for answer in (right, lambda *_: 3):
        task.check(answer)
    task.grade(right, hidden=True)
    assert [each["correct"] for each in Progress().answers] == [False, True, False], "grading is for another's record"
    summary = Progress().summary()
    assert summary.lessons[0].solved == 1, "what was once solved stays solved"
    assert summary.topics == summary.concepts == summary.misconceptions == [], "they are about questions"
    assert "02 · Messages and roles  0 of 10   0      1 of 3" in repr(summary) and "1 of 3" in summary.html()


def test_an_exercise_is_in_the_exports():
    Progress().record_exercise(exercises_of("roles")[0], True)
    Progress().record_exercise(exercises_of("roles")[0], False)
    rows = list(csv.DictReader(io.StringIO(Progress().to_csv())))
    assert [(row["question"], row["kind"], row["correct"]) for row in rows] == [
        ("roles-1", "exercise", "True"),
        ("roles-1", "exercise", "False"),
    ]
    passed, failed = json.loads(Progress().to_xapi())
    assert passed["object"]["id"] == "https://chatlab.invalid/exercises/roles-1"
    assert [each["verb"]["id"].rpartition("/")[2] for each in (passed, failed)] == ["passed", "failed"]


def test_a_file_from_before_exercises_counted_is_read_and_gone_on_with(records):
    """As chatlab wrote it then: the same format, without any exercise."""
    records.mkdir()
    old = {
        "time": "2026-01-01T00:00:00+00:00",
        "question": "roles-reply",
        "topic": "roles",
        "lesson": "02",
        "concept": "the reply",
        "kind": "single",
        "correct": True,
        "misconception": None,
    }
    (records / "progress.json").write_text(json.dumps({"format": 1, "answers": [old]}))
    Progress().record_exercise(exercises_of("roles")[0], True)
    assert Progress().answers[0] == old and json.loads(Progress().path.read_text())["format"] == 1
    [score] = Progress().summary().lessons
    assert (score.answered, score.right, score.solved) == (1, 1, 1)


def test_deleting_leaves_nothing_but_the_chats(records):
    """Whatever is recorded: a new kind of record that `delete_records` does not know fails here."""
    (records / "chats").mkdir(parents=True)
    (records / "chats/mine.json").write_text("{}")
    chatlab.quiz("roles").answer("C")
    chatlab.exercise("roles-1").check(lambda *_: 3)
    chatlab.predict("How many?", "three")
    Recall("roles").rate(Recall("roles").cards[0], "Good")
    test = chatlab.placement()
    while not test.done:
        test.next()
    assert {path.stem for path in records.glob("*.json")} == set(NAMES)
    Progress().delete()
    assert [path.name for path in records.rglob("*.json")] == ["mine.json"]
    assert locked_guesses() == [] and Progress().answers == [] and Progress().summary().placed is None


def test_exports_hold_every_answer(tmp_path):
    progress = Progress()
    progress.record(ROLES, ROLES.questions[0], Verdict(False, "", "x", "reply-copies-role"))
    progress.record(ROLES, ROLES.questions[0], Verdict(True, ""))
    progress.export(tmp_path / "a.csv")
    progress.export(tmp_path / "a.json")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    statements = json.loads((tmp_path / "a.json").read_text())
    assert [row["correct"] for row in rows] == ["False", "True"] and rows[0]["question"] == "roles-reply"
    assert [each["result"]["success"] for each in statements] == [False, True]
    assert all({"actor", "verb", "object", "timestamp"} <= set(each) for each in statements)
    with pytest.raises(ValueError, match=r"must end in .csv or .json, but it is 'a.xls'"):
        progress.export("a.xls")


def test_the_command_shows_exports_and_deletes(tmp_path, records):
    assert "Nothing is answered yet." in run(cli.app, ["progress"]).stdout
    chatlab.quiz("roles").answer("C")
    Recall("roles").rate(Recall("roles").cards[0], "Good")
    chatlab.predict("How many?", "three")
    shown = run(cli.app, ["progress"]).stdout
    assert "02 · Messages and roles" in shown and "1 of 10" in shown and "Next:" in shown
    assert run(cli.app, ["progress", "--export", str(tmp_path / "mine.csv")]).exit_code == 0
    assert "roles-reply" in (tmp_path / "mine.csv").read_text()
    assert run(cli.app, ["progress", "--export", "mine.doc"]).exit_code == 2
    asked = run(cli.app, ["progress", "--delete"], input="n\n")
    assert asked.exit_code == 1 and Progress().answers
    assert "Delete 1 answer, all predictions, the placement test and the dates of all cards?" in asked.stdout
    assert run(cli.app, ["progress", "--delete"], input="y\n").exit_code == 0
    assert Progress().answers == [] and not list(records.glob("*.json"))


# Recall ---------------------------------------------------------------------------------------------------------------


def test_cards_come_back_later_the_better_they_are_remembered(tmp_path):
    dates = [Recall("roles", folder=tmp_path / name).rate(Recall("roles").cards[0], name, NOW) for name in RATINGS]
    assert dates == sorted(dates) and len(set(dates)) == 4 and dates[0] > NOW


def test_a_card_that_is_rated_is_due_again_on_its_date(tmp_path):
    recall = Recall("roles", folder=tmp_path)
    card = recall.next(NOW)
    due = recall.rate(card, "Easy", NOW)
    again = Recall("roles", folder=tmp_path)
    assert card not in again.due(NOW) and again.next(due) == card and again.next_due() == due
    later = again.rate(card, "Good", due)
    assert later - due > due - NOW, "each time it is remembered, it stays away longer"
    with pytest.raises(ValueError, match="one of Again, Hard, Good, Easy, not 'fine'"):
        recall.rate(card, "fine")


def test_damaged_cards_count_as_never_seen(records):
    recall = Recall("roles")
    records.mkdir()
    cards = {recall.cards[0].id: {"due": "soon"}, recall.cards[1].id: 7}
    (records / "recall.json").write_text(json.dumps({"format": FORMAT, "cards": cards}))
    assert len(recall.due()) == len(recall.cards)
    recall.rate(recall.cards[0], "Good")
    assert len(recall.due()) == len(recall.cards) - 1


def test_the_front_of_a_card_does_not_hold_its_back():
    for card in Recall("roles").cards:
        assert card.front and card.back and card.back not in card.front and card.back not in repr(card)


def test_review_in_the_terminal():
    shown = run(cli.app, ["review", "--topic", "roles"], input="\n3\n\nnonsense\n4\n\nq\n")
    assert shown.exit_code == 0 and "Which two keys does every message have?" in shown.stdout
    assert "role and content" in shown.stdout and "12 due" in shown.stdout and "1 Again" in shown.stdout
    assert len(Recall("roles").due()) == 11
