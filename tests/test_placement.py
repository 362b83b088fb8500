"""The placement test: what its author is told, how it is taken, what it says, and where that is kept."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from test_panel_quiz import page

import chatlab
from chatlab.authoring import CourseFileError, course_folder
from chatlab.exercises.task_files import all_exercises
from chatlab.panels import QuizPanel
from chatlab.progress import Progress
from chatlab.questions.given import NotAnAnswer
from chatlab.questions.placements import LEVELS, Placed, Placements, placement_questions, read_placement
from chatlab.questions.question_files import topic_names, topic_of
from chatlab.questions.verdict import Verdict
from chatlab.records import FORMAT

ASKED = placement_questions()
IDS = [question.id for _, question in ASKED]


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("CHATLAB_RECORDS", str(tmp_path / "records"))
    return tmp_path / "records"


def wrong_answer(question):
    """Return an answer that is one, and wrong."""
    if question.kind == "number":
        return question.key + 1
    return next(letter for letter in question.letters if letter not in question.key)


def take(test, right):
    """Answer the first questions rightly, the others wrongly."""
    for number, question in enumerate(test.questions):
        test.answer(question.key if number < right else wrong_answer(question))
    return test


def test_it_asks_ten_questions_on_ten_lessons():
    assert sorted(topic.lesson for topic, _ in ASKED) == [f"{number:02}" for number in range(2, 12)]


@pytest.mark.parametrize(("right", "level"), [(10, "strong"), (8, "strong"), (7, "getting there"), (3, "start here")])
def test_the_level_and_the_lessons_follow_from_what_was_missed(right, level):
    placed = take(chatlab.placement(), right).placed
    assert (placed.level, placed.right) == (level, right)
    missed = sorted(topic.lesson for topic, _ in ASKED[right:])
    told = re.findall(r"\b(\d\d) · ", placed.advice)
    assert told == ([] if level == "start here" else missed)
    assert ("in order, from 00" in placed.advice) == (level == "start here")
    assert ("You missed none" in placed.advice) == (right == 10)
    assert repr(placed).startswith(f"{level}: {right} of 10 right\n")


@pytest.mark.parametrize("right", range(11))
def test_each_result_has_a_level(right):
    placed = Placed([(topic, number < right) for number, (topic, _) in enumerate(ASKED)])
    assert placed.level in LEVELS and placed.html().startswith("<div><strong>")


def test_the_first_answer_counts_and_there_are_no_hints():
    test = chatlab.placement()
    question = test.question
    assert not test.answer(wrong_answer(question)).correct
    assert test.standing == "Question 2 of 10, 0 right"
    test.back()
    with pytest.raises(NotAnAnswer, match="first answer counts"):
        test.answer(question.key)
    assert not any(hint in test.hint() for hint in question.hints)
    number = next(place for place, each in enumerate(test.questions, start=1) if each.kind == "number")
    test.go(number)
    assert test.answer(7).explanation == "That is not it."
    assert "first answer counts" in repr(test) and "first answer counts" in test.html()


def test_what_is_no_answer_is_told_and_may_be_given_again():
    test = chatlab.placement()
    with pytest.raises(NotAnAnswer, match="'X' is no choice here"):
        test.answer("X")
    assert test.place == 0 and test.answer(test.question.key).correct


def test_what_is_left_out_is_not_known_and_ends_the_test_as_well():
    test = chatlab.placement()
    for _ in range(9):
        test.next()
    assert test.placed is None and Placements().latest() is None, "only a whole test counts"
    test.next()
    assert test.placed.right == 0 and test.done and "start here: 0 of 10 right" in repr(test)
    test.back()
    with pytest.raises(NotAnAnswer, match=r"over\. chatlab\.placement\(\) begins another"):
        test.answer("A")


def test_results_are_kept_apart_from_the_quizzes(records):
    take(chatlab.placement(), 5)
    summary = Progress().summary()
    assert Progress().answers == [] and summary.lessons == []
    assert summary.placed.right == 5 and "Placement test: getting there: 5 of 10 right." in repr(summary)
    assert "getting there: 5 of 10 right." in summary.html()
    assert [path.name for path in records.glob("*.json")] == ["placement.json"]
    take(chatlab.placement(), 9)
    assert Progress().summary().placed.level == "strong", "the last result counts"
    take(chatlab.placement(record=False), 0)
    assert Progress().summary().placed.level == "strong", "a trial leaves nothing"


def test_what_is_known_already_does_not_come_next():
    assert Progress().summary().next.endswith("or find out where: chatlab.placement()")
    Placements().record({name: name != "tokens-read" for name in IDS})
    assert Progress().summary().next == "begin chatlab.quiz('start'), on lesson 00", "nothing was asked on it"
    asked = {topic.name for topic, _ in ASKED}
    for name in topic_names():
        if name not in asked:
            topic = topic_of(name)
            for question in topic.questions:
                Progress().record(topic, question, Verdict(True, ""))
            for each in all_exercises():
                Progress().record_exercise(each, True)
    assert Progress().summary().next == "begin chatlab.quiz('tokens'), on lesson 05"


def test_a_beginner_goes_from_the_first_lesson_on_whatever_was_right():
    assert Placed([(topic, number < 3) for number, (topic, _) in enumerate(ASKED)]).known == set()


@pytest.mark.parametrize(
    "results", [[], [3], [{}], [{"answers": 3}], [{"answers": {}}], [{"answers": {"gone-question": True}}]]
)
def test_odd_results_count_as_none(records, results):
    records.mkdir()
    (records / "placement.json").write_text(json.dumps({"format": FORMAT, "results": results}))
    assert Placements().latest() is None and "Placement" not in repr(Progress().summary())


def test_a_disk_that_refuses_does_not_end_the_test(records):
    records.mkdir()
    (records / "placement.json").mkdir()
    assert take(chatlab.placement(), 10).placed.level == "strong"


# ---- the panel ----------------------------------------------------------------------------------------------------


def test_the_panel_is_a_quizs_without_hints():
    panel = QuizPanel(chatlab.placement())
    buttons = [
        each.description for box in panel.children for each in getattr(box, "children", ()) if hasattr(each, "icon")
    ]
    assert [name for name in buttons if name] == ["Check", "Back", "Next"]
    assert "first answer counts" in panel.text.value
    panel.fields.value = wrong_answer(panel.quiz.question)
    panel.check_button.click()
    panel.wait(10)
    assert panel.check_button.disabled and "✗ Not yet." in panel.feedback.value
    panel.next_button.click()
    assert not panel.check_button.disabled and "Question 2 of 10, 0 right" in panel.heading.value
    for _ in range(9):
        panel.next_button.click()
    assert "start here: 0 of 10 right" in panel.heading.value and "in order, from 00" in panel.text.value
    assert panel.check_button.disabled and panel.next_button.disabled and not panel.back_button.disabled
    assert Placements().latest().right == 0


def test_no_key_is_in_the_page():
    panel = QuizPanel(chatlab.placement())
    for topic, question in ASKED:
        shown = page(panel) + json.dumps(panel.quiz._repr_mimebundle_())
        texts = [question.explanation, *(each.explanation for each in (*question.choices, *question.wrong))]
        assert not any(text and text in shown for text in [*texts, *question.hints, *topic.misconceptions.values()])
        panel.next()


# ---- what authors are told ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (IDS[:9], r"placement.yaml, field 'questions' has only 9\. Write the ids of 10 questions"),
        ([*IDS, "x"], r"field 'questions' has 11\. Write the ids of 10"),
        ([*IDS[:9], 7], r"question number 10, it is int 7\. Write the id of a question, such as roles-reply"),
        (
            [*IDS[:2], "tokens-raed", *IDS[3:]],
            r"number 3, 'tokens-raed': there is no such question\. Is it tokens-read",
        ),
        ([*IDS[:9], "?"], r"number 10, '\?': there is no such question\. Write an id from a file in questions/"),
        (["roles-format", "roles-reply", *IDS[2:]], r"the topic 'roles' has 2 questions\. Choose one from each"),
        ([*IDS[1:], IDS[0]], rf"question '{IDS[0]}' is easy, after a harder one\. Put them from easy to hard"),
    ],
)
def test_an_author_is_told_what_to_mend(tmp_path, ids, message):
    path = tmp_path / "placement.yaml"
    path.write_text(yaml.safe_dump({"questions": ids}))
    with pytest.raises(CourseFileError, match=message):
        read_placement(path)


def test_the_file_is_read_as_the_others_are(tmp_path):
    path = tmp_path / "placement.yaml"
    for text, message in {"question: []": "field 'questions' is missing", "a: [b": "this is no YAML"}.items():
        path.write_text(text)
        with pytest.raises(CourseFileError, match=message):
            read_placement(path)
    assert len(read_placement(course_folder("placement.yaml"))) == 10 and "start" in topic_names()
