"""The command for authors: it finds what they usually get wrong, and says what to do."""

from __future__ import annotations

import re
from dataclasses import replace

import check_course
import pytest

from chatlab.exercises.task_files import exercises_of
from chatlab.questions.question_files import topic_of

ROLES = topic_of("roles")
EXERCISE = exercises_of("roles")[0]
WRONG = EXERCISE.wrong[0]


@pytest.fixture(autouse=True)
def one_of_each(monkeypatch):
    """One question and one exercise, and nothing that other topics have."""
    monkeypatch.setattr(check_course, "topic_of", lambda name: replace(ROLES, questions=ROLES.questions[1:2], facts=()))
    monkeypatch.setattr(check_course, "exercises_of", lambda name: (EXERCISE,))
    monkeypatch.setattr(check_course, "COVERAGE", [])
    monkeypatch.setattr(check_course, "texts", dict)


def test_all_is_well(capsys):
    assert check_course.main(["roles"]) == 0
    assert capsys.readouterr().out == "All is well: roles.\n"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"key": "A"}, "roles.yaml, roles-format: the answer is 'A', but the engine finds 'B'."),
        ({"evidence": "nothing"}, "has no function 'nothing'. Write one that returns the engine's own answer."),
        ({"evidence": "fault_of"}, "roles-format: its evidence raises TypeError"),
    ],
)
def test_a_question_is_proven(monkeypatch, capsys, changes, told):
    topic = replace(ROLES, questions=(replace(ROLES.questions[1], **changes),), facts=())
    monkeypatch.setattr(check_course, "topic_of", lambda name: topic)
    assert check_course.main(["roles"]) == 1
    assert told in capsys.readouterr().out


def test_an_unknown_topic_is_told(monkeypatch, capsys):
    monkeypatch.setattr(check_course, "topic_of", topic_of)
    assert check_course.main(["rolls"]) == 1
    assert "There are no questions on 'rolls'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "nothing"}, r"has no attribute 'nothing'. Write the function nothing\(\) in chatlab/cases"),
        ({"solution": EXERCISE.starter}, "the solution should be correct, but the check says: not attempted"),
        ({"starter": EXERCISE.solution}, "the starter should be not attempted, but the check says: correct"),
        ({"solution": "def f(:"}, "the solution does not run: SyntaxError"),
        ({"wrong": (replace(WRONG, answer=EXERCISE.solution),)}, "wrong answer 1 should be incorrect, but .* correct"),
        ({"wrong": (replace(WRONG, says="xyz"),)}, "Its 'says' must be a part of that, and is 'xyz'"),
    ],
)
def test_an_exercise_is_tried(changes, told):
    [fault] = check_course.exercise_faults(replace(EXERCISE, **changes))
    assert re.search(told, fault)


def test_too_few_cases_are_told(monkeypatch):
    few = check_course.cases_of(EXERCISE)[:1]
    monkeypatch.setattr(check_course, "cases_of", lambda exercise: few)
    assert "it needs two cases that are shown, and one that is hidden." in check_course.exercise_faults(EXERCISE)
