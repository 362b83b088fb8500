"""The question engine: what authors are told, that every answer is proven, and what a learner sees of a quiz."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import chatlab
from chatlab import course
from chatlab.authoring import CourseFileError
from chatlab.progress import Progress
from chatlab.questions.evidence import (
    CHECKED_KINDS,
    EvidenceError,
    answer_of_the_engine,
    compare,
    evidence_of,
    prove,
)
from chatlab.questions.given import NotAnAnswer, letters_of, messages_of
from chatlab.questions.question import KINDS, Question
from chatlab.questions.question_files import read_topic, topic_names, topic_of
from chatlab.questions.question_schema import DIFFICULTIES
from chatlab.questions.quizzes import Quiz
from chatlab.questions.verdict import mark
from chatlab.testing import ScriptedModel

FOLDER = Path(__file__).parent.parent / "exercises" / "questions"
TOPICS = [topic_of(name) for name in topic_names()]
QUESTIONS = [question for topic in TOPICS for question in topic.questions]
FACTS = [fact for topic in TOPICS for fact in topic.facts]
ROLES = topic_of("roles")
BY_KIND = {question.kind: question for question in ROLES.questions}


def name_of(item):
    return item.id


def other_keys(question: Question):
    """Every key that the right one could be mistaken for."""
    if question.kind == "single":
        keys = question.letters
    elif question.kind == "multiple":
        keys = [sorted(set(question.key) ^ {letter}) for letter in question.letters]
    elif question.kind == "order":
        keys = [list(order) for order in permutations(question.letters)]
    elif question.kind == "number":
        keys = [question.key + 1, question.key - 1, *(wrong.answer for wrong in question.wrong)]
    elif question.kind == "predict-output":
        keys = [question.key + "x", *(wrong.answer for wrong in question.wrong)]
    else:
        keys = [question.request, *(wrong.answer for wrong in question.wrong)]
    return [key for key in keys if key != question.key]


@pytest.mark.parametrize("question", QUESTIONS, ids=name_of)
def test_every_answer_is_proven_and_no_other_would_be(question, model):
    """The engine is asked once: it is not told the key, so its answer is the same whatever the author wrote."""
    others = [replace(question, key=key) for key in other_keys(question)]
    assert len(others) >= 2
    if question.kind in CHECKED_KINDS:
        prove(question, model)
        for other in others:
            with pytest.raises(EvidenceError):
                prove(other, model)
        return
    found = answer_of_the_engine(question, model)
    compare(question, found)
    for other in others:
        with pytest.raises(EvidenceError, match="but the engine finds"):
            compare(other, found)


@pytest.mark.parametrize("fact", FACTS, ids=name_of)
def test_every_fact_is_proven_and_no_other_would_be(fact, model):
    shown = answer_of_the_engine(fact, model)
    compare(fact, shown)
    for other in ("", "something else", f"{shown}1", f"1{shown}", f"{shown}.5" if shown.isdigit() else f"{shown}s"):
        with pytest.raises(EvidenceError, match="but the engine shows"):
            compare(replace(fact, back=fact.back.replace(shown, other)), shown)


def test_evidence_gets_no_more_than_a_learner_does(monkeypatch, model):
    """Neither the key nor anything that gives it away: a right choice is the one without a misconception."""
    seen = []
    monkeypatch.setattr("chatlab.questions.evidence.evidence_of", lambda item: lambda item, model: seen.append(item))
    for item in (*QUESTIONS, *FACTS):
        answer_of_the_engine(item, model)
    for item, real in zip(seen, (*QUESTIONS, *FACTS), strict=True):
        if real in FACTS:
            assert item == replace(real, back="")
        else:
            assert (item.key, item.wrong, item.hints, item.explanation) == (None, (), (), "")
            assert [(each.explanation, each.misconception) for each in item.choices] == [("", None)] * len(item.choices)
            assert repr(item) == repr(real), "and what a learner sees it does see"


@pytest.mark.parametrize("question", [each for each in QUESTIONS if each.choices], ids=name_of)
def test_evidence_is_about_the_choices_and_not_their_letters(question, model):
    """Where the texts change places, the old key is wrong: evidence that only repeats the key would not notice."""
    turned = question.choices[1:] + question.choices[:1]
    choices = tuple(replace(choice, letter=letter) for choice, letter in zip(turned, question.letters, strict=True))
    with pytest.raises(EvidenceError):
        prove(replace(question, choices=choices), model)


def test_a_checked_wrong_answer_must_fail_for_its_own_reason(model):
    for kind in CHECKED_KINDS:
        question = BY_KIND[kind]
        first, second = question.wrong[:2]
        with pytest.raises(EvidenceError, match="is found to be"):
            prove(replace(question, wrong=(replace(first, misconception=second.misconception),)), model)
        with pytest.raises(EvidenceError, match="passes already"):
            prove(replace(question, request=question.key), model)


def test_evidence_that_is_missing_is_named():
    with pytest.raises(EvidenceError, match=r"evidence\.roles has no function 'nothing'"):
        evidence_of(replace(ROLES.questions[0], evidence="nothing"))


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_each_topic_has_ten_questions_of_all_difficulties_and_their_words_are_whole(topic):
    assert len(topic.questions) >= 10 and {each.difficulty for each in topic.questions} == set(DIFFICULTIES)
    assert len({each.kind for each in topic.questions}) >= 4
    for question in topic.questions:
        texts = [question.text, question.explanation, *question.hints, *(each.explanation for each in question.choices)]
        assert all(text == text.strip() and "  " not in text for text in texts), question.id
        if question.kind == "single":
            assert all(choice.explanation for choice in question.choices)


def test_all_kinds_are_there():
    assert set(BY_KIND) == set(KINDS)


# What authors are told ------------------------------------------------------------------------------------------------


@pytest.fixture
def written():
    return yaml.safe_load((FOLDER / "roles.yaml").read_text(encoding="utf-8"))


def told(tmp_path, written, name="roles"):
    path = tmp_path / f"{name}.yaml"
    path.write_text(written if isinstance(written, str) else yaml.safe_dump(written), encoding="utf-8")
    with pytest.raises(CourseFileError) as caught:
        read_topic(path)
    return str(caught.value)


def change(*path, value):
    def apply(written):
        for part in path[:-1]:
            written = written[part]
        if value is None:
            del written[path[-1]]
        else:
            written[path[-1]] = value

    return apply


MISTAKES = [
    (
        change("questions", 0, "kind", value="quizz"),
        r"question 'roles-reply', field 'kind' is str 'quizz'\. Write one of",
    ),
    (
        change("questions", 0, "evidence", value=None),
        r"'roles-reply', field 'evidence' is missing\. Write the name of a f",
    ),
    (change("questions", 0, "answr", value="C"), r"'roles-reply', field 'answr' is no field here\. Write one of id"),
    (change("questions", 0, "answer", value="E"), r"field 'answer' is str 'E'\. Write one of A, B, C, D"),
    (
        change("questions", 0, "answer", value="A"),
        r"field 'choices\[0\].misconception' stands beside A, which is right",
    ),
    (
        change("questions", 0, "choices", 0, "explanation", value=None),
        r"'choices\[0\].explanation' is missing\. Write one to",
    ),
    (
        change("questions", 0, "choices", 0, "misconception", value=None),
        r"'choices\[0\].misconception' is missing, and A is wrong",
    ),
    (
        change("questions", 0, "choices", 0, "misconception", value="new-one"),
        r"is 'new-one', which the file's list does not have",
    ),
    (change("questions", 0, "choices", 0, "text", value=[1]), r"'choices\[0\].text' is list \[1\]\. Write what the"),
    (change("questions", 0, "choices", value=[]), r"field 'choices' is empty\. Write two to eight choices"),
    (change("questions", 0, "id", value=None), r"question number 1, field 'id' is missing\. Write small letters"),
    (change("questions", 1, "id", value="roles-reply"), r"'roles-reply', field 'id' is used 2 times"),
    (change("questions", 3, "code", value=None), r"'roles-unknown', field 'code' is missing, and the kind pred"),
    (change("questions", 3, "function", value="f"), r"field 'function' does not belong to the kind predict-output"),
    (change("questions", 4, "answer", value=["C", "A"]), r"'roles-valid', field 'answer' is list .* in this order"),
    (change("questions", 5, "answer", value=["A"]), r"'roles-order', field 'answer' is list \['A'\]\. Write each of"),
    (change("questions", 6, "answer", value="eight"), r"'roles-count', field 'answer' is str 'eight'\. Write a number"),
    (change("questions", 6, "wrong", 0, "answer", value=8), r"field 'wrong\[0\].answer' is the right answer"),
    (change("topic", value="rolls"), r"field 'topic' is 'rolls', but the file is called 'roles'"),
    (change("lesson", value=2), r"field 'lesson' is int 2\. Write the number of the lesson, in quotes: \"02\""),
    (change("misconceptions", "unused", value="Nobody thinks so."), r"'misconceptions.unused' is named by no"),
    (change("facts", 0, "back", value=None), r"fact 'roles-fact-keys', field 'back' is missing\. Write its answer"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_an_author_is_told_where_what_and_what_to_write(tmp_path, written, mistake, message):
    mistake(written)
    said = told(tmp_path, written)
    assert re.search(message, said), said
    assert said.startswith("roles.yaml, ") and "Traceback" not in said


def test_an_author_is_told_of_yaml_that_is_none(tmp_path):
    assert "roles.yaml, line 1: this is no YAML" in told(tmp_path, "text: [a: b: c")
    assert "the file is str 'hello'. Write the fields topic, lesson" in told(tmp_path, "hello")
    assert "the file is None" in told(tmp_path, "")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_file_breaks_the_reader(data, tmp_path_factory):
    """Whatever stands in a place, there is a topic or a message for its author; never another error."""
    written = yaml.safe_load((FOLDER / "roles.yaml").read_text(encoding="utf-8"))
    place = written
    while isinstance(place, (dict, list)) and place:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or data.draw(st.integers(0, 3)) == 0:
            junk = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.just([]), st.just({}))
            place[key] = data.draw(st.recursive(junk, lambda inner: st.lists(inner, max_size=2), max_leaves=3))
            break
        place = place[key]
    path = tmp_path_factory.mktemp("questions") / "roles.yaml"
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    try:
        read_topic(path)
    except CourseFileError as error:
        assert str(error).startswith("roles.yaml, ")


# What a learner sees --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS, ids=name_of)
def test_right_and_wrong_answers_are_marked_and_explained(question):
    topic = topic_of(question.topic)
    verdict = mark(topic, question, question.key)
    assert verdict.correct and verdict.explanation and verdict.misconception is None
    for wrong in question.wrong:
        verdict = mark(topic, question, wrong.answer)
        assert (verdict.correct, verdict.explanation) == (False, wrong.explanation)
        assert verdict.misconception == topic.misconceptions[wrong.misconception]
    if question.kind == "single":
        for choice in question.choices:
            verdict = mark(topic, question, choice.letter.lower())
            assert verdict.correct == (choice.letter == question.key) and verdict.explanation == choice.explanation


def test_multiple_tells_what_is_wrong_and_that_something_is_missing_but_not_what():
    question = BY_KIND["multiple"]
    verdict = mark(ROLES, question, "A, B")
    assert not verdict.correct and verdict.explanation.startswith("B: ") and verdict.misconception
    verdict = mark(ROLES, question, ["A"])
    assert not verdict.correct and "something is missing" in verdict.explanation
    assert question.choices[2].explanation not in verdict.explanation
    assert mark(ROLES, question, ["E", "C", "A"]).correct


def test_an_answer_nobody_thought_of_is_wrong_without_a_reason():
    assert mark(ROLES, BY_KIND["number"], 1000).explanation == "That is not it. A hint may help."


def test_a_function_may_be_given_itself_and_may_fail():
    question = BY_KIND["function"]

    def last_question(messages):
        return next((each["content"] for each in messages[::-1] if each["role"] == "user"), None)

    assert mark(ROLES, question, last_question).correct
    verdict = mark(ROLES, question, "def last_question(messages):\n    return messages.nothing")
    assert not verdict.correct and "AttributeError" in verdict.explanation


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("single", "E", "'E' is no choice here. Choose from A, B, C, D."),
        ("single", 3, "An answer is made of letters, not int 3"),
        ("single", ["A", "B"], "Choose one."),
        ("single", "", "Nothing is chosen yet"),
        ("multiple", ["A", "A"], "twice"),
        ("order", "A, B", "Put all of them in order"),
        ("number", "many", "a number, such as 8"),
        ("predict-output", " ", "Nothing is written yet"),
        ("fix-the-request", '[{"role": "user"', "cannot be read as a list"),
        ("fix-the-request", BY_KIND["fix-the-request"].request, "Nothing is changed yet"),
        ("function", "def other(): ...", "does not define last_question"),
        ("function", "def last_question(:", "Line 1 cannot be read"),
        ("function", 7, "the function last_question"),
    ],
)
def test_what_is_no_answer_is_told_and_not_counted(kind, given, message):
    quiz = Quiz(ROLES, progress=Progress.trial())
    quiz.go(ROLES.questions.index(BY_KIND[kind]) + 1)
    with pytest.raises(NotAnAnswer, match=re.escape(message)):
        quiz.answer(given)
    assert quiz.verdicts == {}


@given(st.lists(st.sampled_from("ABCD"), unique=True, min_size=1), st.sampled_from(["{}", "{} ", " {},"]))
def test_letters_are_read_from_text_as_from_a_list(letters, form):
    text = " ".join(form.format(letter.lower()) for letter in letters)
    assert letters_of(text, "ABCD") == letters_of(letters, "ABCD") == letters


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_a_request_is_read_from_json_and_from_python(value):
    assert messages_of(json.dumps([value])) == [value] == messages_of(repr([value]))


def test_a_quiz_goes_on_after_a_right_answer_and_stays_after_a_wrong_one():
    quiz = Quiz(ROLES, progress=Progress.trial())
    quiz.answer("A")
    assert quiz.standing == "Question 1 of 10, 0 right"
    quiz.answer("C")
    assert quiz.standing == "Question 2 of 10, 1 right"
    quiz.back()
    quiz.answer("A")
    assert quiz.standing == "Question 1 of 10, 0 right", "the last answer counts"
    hints = [quiz.hint() for _ in range(3)]
    assert hints[0] == ROLES.questions[0].hints[0] and hints[-1] == ROLES.questions[0].hints[-1]
    for question in ROLES.questions:
        quiz.go(ROLES.questions.index(question) + 1)
        assert quiz.answer(question.key).correct
    assert quiz.result() == "10 of 10 right, 10 answered"
    with pytest.raises(ValueError, match="1 to 10, but not 11"):
        quiz.go(11)


def test_no_key_is_in_what_a_quiz_shows():
    """What a quiz shows is the same whatever the key is, and no explanation is in it."""
    quiz = Quiz(ROLES, progress=Progress.trial())
    for question in ROLES.questions:
        for key in other_keys(question)[:3]:
            other = replace(question, key=key)
            assert (repr(other), other.html(), other._repr_html_()) == (
                repr(question),
                question.html(),
                question._repr_html_(),
            )
        bundle = json.dumps(quiz._repr_mimebundle_())
        texts = [each.explanation for each in (*question.choices, *question.wrong)] + [question.explanation]
        assert not any(text and text in bundle for text in texts), question.id
        assert all(name not in bundle for name in ROLES.misconceptions)
        quiz.next()
    assert "key=" not in repr(ROLES) and "0x" not in repr(ROLES)


def test_chatlab_quiz_by_name():
    assert isinstance(chatlab.quiz("roles"), Quiz)
    with pytest.raises(ValueError, match=r"no questions on 'rolls'. There are some on: .*roles"):
        chatlab.quiz("rolls")


def test_learners_do_not_get_the_answers_with_their_lessons(tmp_path):
    written = course.copy_course(tmp_path / "mine").written
    assert written and not any("questions" in name for name in written)


def test_an_installed_package_has_its_questions(tmp_path):
    """As in a wheel: the course lies inside the package, and there is no checkout around it."""
    root = Path(chatlab.__file__).parent
    shutil.copytree(root, tmp_path / "chatlab", ignore=shutil.ignore_patterns("__pycache__"))
    if not (root / "course_files").exists():  # as in a checkout, which may be what is installed
        for part in course.PARTS:
            shutil.copytree(root.parent / part, tmp_path / "chatlab" / "course_files" / part)
    code = "import chatlab; print(chatlab.__file__, chatlab.quiz('roles').answer('C').correct)"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == f"{tmp_path / 'chatlab' / '__init__.py'} True\n", result.stderr


def test_a_scripted_model_cannot_prove_what_only_a_real_one_shows():
    with pytest.raises(EvidenceError):
        prove(BY_KIND["order"], ScriptedModel("I do not know."))
