"""The quiz panel, driven from Python: what its buttons do is what its methods do."""

from __future__ import annotations

import json
from dataclasses import replace

import ipywidgets as widgets
import pytest

import chatlab
from chatlab.display import escape
from chatlab.panels import QuizPanel
from chatlab.progress import Progress
from chatlab.questions.question_files import topic_of
from chatlab.questions.quizzes import Quiz

ROLES = topic_of("roles")
PAYLOADS = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</div></textarea><b>"]


@pytest.fixture
def panel():
    return QuizPanel(Quiz(ROLES, progress=Progress.trial()))


def states(widget):
    """Everything that a page could read of a widget and those in it."""
    yield widget.get_state()
    for child in getattr(widget, "children", ()):
        yield from states(child)


def page(panel):
    return json.dumps([*states(panel)], default=str)


@pytest.mark.parametrize("place", range(len(ROLES.questions)), ids=[each.kind for each in ROLES.questions])
def test_each_kind_is_answered_by_its_controls(panel, place):
    panel.quiz.place = place
    panel.refresh()
    question = panel.quiz.question
    before = page(panel)
    panel.check_button.click()
    panel.wait(10)
    assert panel.quiz.verdicts == {} and "role=" in panel.feedback.value, "an empty answer is not marked"
    for wrong in question.wrong:
        panel.fields.value = wrong.answer
        panel.check_button.click()
        panel.wait(10)
        assert not panel.quiz.verdicts[question.id].correct and "✗ Not yet." in panel.feedback.value
        assert escape(ROLES.misconceptions[wrong.misconception]) in panel.feedback.value
    panel.fields.value = question.key
    panel.check_button.click()
    panel.wait(10)
    assert panel.quiz.verdicts[question.id].correct and "✓ Right." in panel.feedback.value
    assert "1 right" in panel.heading.value and not panel.check_button.disabled
    texts = [question.explanation, *(each.explanation for each in (*question.choices, *question.wrong))]
    assert not any(text and text in before for text in [*texts, *ROLES.misconceptions.values()])


def test_what_the_page_holds_does_not_depend_on_the_key(panel):
    """The widgets of two quizzes with other keys hold the same, apart from the ids of the widgets themselves."""
    questions = tuple(
        replace(each, key={"single": "A", "multiple": ["B"], "number": 99}.get(each.kind, each.key))
        for each in ROLES.questions
    )
    other = QuizPanel(Quiz(replace(ROLES, questions=questions), progress=Progress.trial()))

    def plain(shown):
        return [
            {name: value for name, value in state.items() if isinstance(value, (str, int, list, tuple))}
            for state in states(shown)
        ]

    def without_ids(shown):
        return [{name: value for name, value in each.items() if "IPY_MODEL" not in str(value)} for each in plain(shown)]

    for _ in ROLES.questions:
        assert without_ids(panel) == without_ids(other)
        panel.next()
        other.next()


def test_moving_keeps_what_was_answered(panel):
    panel.fields.value = "A"
    panel.check()
    panel.wait(10)
    told = panel.feedback.value
    panel.next_button.click()
    assert "Question 2 of 10, 0 right" in panel.heading.value and told != panel.feedback.value
    panel.hint_button.click()
    assert ROLES.questions[1].hints[0] in panel.feedback.value
    panel.back_button.click()
    assert panel.fields.value == "A" and panel.feedback.value == told
    assert panel.back_button.disabled and not panel.next_button.disabled


def test_after_the_last_question_comes_the_result(panel):
    panel.fields.value = "A"
    panel.check()
    panel.wait(10)
    for _ in ROLES.questions:
        panel.next_button.click()
    assert panel.quiz.done and "0 of 10 right, 1 answered" in panel.heading.value
    assert "The reply takes the role of the last message." in panel.text.value and "not answered" in panel.text.value
    assert repr(panel) == "QuizPanel(roles, 0 of 10 right, 1 answered)" and "not yet" in panel.static_html()
    panel.back_button.click()
    assert not panel.quiz.done and "Question 10 of 10" in panel.heading.value


def test_a_function_that_fails_and_one_that_is_none(panel):
    panel.quiz.go(10)
    panel.refresh()
    for code, words in {
        "def last_question(messages):\n    return 1 / 0": "raises ZeroDivisionError",
        "def last_question(:": "Line 1 cannot be read as Python",
        "import nowhere_at_all": "does not run: ModuleNotFoundError",
    }.items():
        panel.fields.value = code
        panel.check()
        panel.wait(10)
        assert words in panel.feedback.value


ENDLESS = "    while True:\n        try:\n            pass\n        except Exception:\n            pass\n"


@pytest.mark.parametrize("code", [f"def last_question(messages):\n{ENDLESS}", "while True: pass"])
def test_a_function_that_never_ends_is_stopped(panel, code):
    panel.quiz.go(10)
    panel.refresh()
    panel.fields.value = code
    panel.check_button.click()
    assert panel.running and panel.check_button.disabled
    panel.wait(10)
    assert "takes longer than 3 s" in panel.feedback.value and "never ends" in panel.feedback.value
    assert not panel.running and not panel.check_button.disabled
    panel.fields.value = panel.quiz.question.key
    panel.check()
    panel.wait(10)
    assert "✓ Right." in panel.feedback.value


@pytest.mark.parametrize("text", PAYLOADS)
def test_nothing_becomes_markup(text):
    question = replace(
        ROLES.questions[0],
        text=text,
        concept=text,
        code=text,
        hints=(text,),
        choices=tuple(replace(each, text=text, explanation=text) for each in ROLES.questions[0].choices),
    )
    beliefs = dict.fromkeys(ROLES.misconceptions, text)
    panel = QuizPanel(
        Quiz(replace(ROLES, title=text, questions=(question,), misconceptions=beliefs), progress=Progress.trial())
    )
    seen = panel.heading.value + panel.text.value + panel.static_html()
    panel.hint()
    seen += panel.feedback.value
    panel.fields.value = "A"
    panel.check()
    panel.wait(10)
    seen += panel.feedback.value + panel.static_html()
    panel.next()
    seen += panel.heading.value + panel.text.value + panel.static_html()
    assert not any(mark in seen for mark in ("<script", "<img", "<b>"))
    assert "script" in seen or "onerror" in seen or "textarea" in seen or "onclick" in seen


def test_a_quiz_shows_the_panel_in_a_notebook_and_text_elsewhere(monkeypatch):
    quiz = chatlab.quiz("roles")
    assert set(quiz._repr_mimebundle_()) == {"text/plain", "text/html"}

    class Shell:
        kernel = object()

    monkeypatch.setattr("IPython.get_ipython", Shell)
    bundle = quiz._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle and bundle["text/plain"] == repr(quiz)
    assert "Question 1 of 10" in bundle["text/html"]
    first = quiz._panel
    quiz.answer("C")
    quiz._repr_mimebundle_()
    assert quiz._panel is first and "Question 2 of 10, 1 right" in first.heading.value


def test_controls_are_native_and_named(panel):
    for _ in ROLES.questions:
        for control in panel.fields.controls:
            assert isinstance(
                control, (widgets.RadioButtons, widgets.Checkbox, widgets.Dropdown, widgets.Text, widgets.Textarea)
            )
            assert control.description or isinstance(control, widgets.RadioButtons)
        panel.next()
