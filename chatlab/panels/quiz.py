"""QuizPanel: answer the questions of a quiz, one at a time.

In: a quiz and what the learner chooses or types. Out: the verdict on each answer. The answers live in the quiz; the
widgets only show them, and no key is among what they hold. Knows nothing of what is right.
"""

from __future__ import annotations

import ipywidgets as widgets

from chatlab.display import escape
from chatlab.markdown import markdown_html
from chatlab.panels.answer_fields import AnswerFields
from chatlab.panels.panel import Panel
from chatlab.questions.given import NotAnAnswer
from chatlab.questions.quizzes import Quiz, quiz

__all__ = ["QuizPanel"]


class QuizPanel(Panel):
    """The questions of a quiz, or of the topic of that name, with Check, Hint, Back and Next.

    `check`, `hint`, `back` and `next` do what the buttons do; `fields.value` is the answer that stands in the controls.
    After the last question the panel shows what came of it.

    >>> panel = QuizPanel(quiz("roles", record=False))
    >>> panel.fields.value = "C"
    >>> panel.check()
    >>> panel.wait()
    >>> panel
    QuizPanel(roles, Question 1 of 10, 1 right)
    """

    def __init__(self, topic: Quiz | str) -> None:
        self.quiz = quiz(topic) if isinstance(topic, str) else topic
        self._fields: dict[str, AnswerFields] = {}
        self._told: dict[str, str] = {}  # what was last said on each question, as HTML
        self._to_focus: widgets.Button | None = None  # a button that is disabled loses the keyboard's place
        self.heading, self.text, self.feedback = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.answer_box = widgets.VBox()
        self.check_button = widgets.Button(description="Check", button_style="primary", tooltip="Check the answer")
        self.hint_button = widgets.Button(description="Hint", tooltip="Help me a little")
        self.back_button = widgets.Button(description="Back", tooltip="The question before")
        self.next_button = widgets.Button(description="Next", tooltip="The next question")
        self.check_button.on_click(lambda _: self.check())
        self.hint_button.on_click(lambda _: self.hint())
        self.back_button.on_click(lambda _: self.back())
        self.next_button.on_click(lambda _: self.next())
        hint = [] if self.quiz.rule else [self.hint_button]
        super().__init__(
            [
                self.heading,
                self.text,
                self.answer_box,
                widgets.HBox(
                    [self.check_button, *hint, self.back_button, self.next_button], layout={"flex_flow": "row wrap"}
                ),
                self.feedback,
            ]
        )
        self.refresh()

    @property
    def fields(self) -> AnswerFields:
        """The controls for the answer to the question that is shown; what stands in them stays when one moves on."""
        question = self.quiz.question
        if question.id not in self._fields:
            self._fields[question.id] = AnswerFields(question)
        return self._fields[question.id]

    def check(self) -> None:
        """Mark the answer that stands in the controls; returns at once, the verdict comes below."""
        question, fields = self.quiz.question, self.fields
        if self.quiz.done or self.running:
            return
        try:
            given = fields.value
        except NotAnAnswer as error:
            self._say(question.id, escape(str(error)))
            return

        def work() -> None:  # a function that a learner wrote may take its time
            try:
                said = self.quiz.check(given).html()
            except NotAnAnswer as error:
                said = escape(str(error))
            self._say(question.id, said)
            if question.kind != "function":  # which may take its time, with the learner elsewhere by then
                self._to_focus = self.next_button if self.quiz.rule else self.check_button

        self.run(work)

    def hint(self) -> None:
        """Show the next hint."""
        self._say(self.quiz.question.id, f"<strong>Hint.</strong> {markdown_html(self.quiz.hint())}")

    def next(self) -> None:
        """Go to the next question, or after the last one to the result; not while an answer is being marked."""
        if self.running:
            return
        self.quiz.next()
        self.refresh()
        if self.quiz.done:
            self.back_button.focus()

    def back(self) -> None:
        """Go to the question before, or from the result to the last one; not while an answer is being marked."""
        if self.running:
            return
        self.quiz.back()
        self.refresh()

    def refresh(self) -> None:
        """Show the quiz as it stands, where code has moved it on."""
        asked, title = self.quiz, escape(self.quiz.topic.title)
        question = asked.question
        verdict = asked.verdicts.get(question.id)
        shown = self._told.get(question.id) or (verdict.html() if verdict else "")
        self.feedback.value = _status("" if asked.done else shown)
        if asked.done:
            result = f'<div class="chatlab">{asked.result_html()}</div>'
            self.text.value, self.answer_box.children = result, ()
            heading = f" · {escape(asked.result())}"
        else:
            how = f'<div class="chatlab-note">{self.fields.how} {asked.rule}</div>'
            self.text.value = f'<div class="chatlab-question">{question.text_html()}{how}</div>'
            self.answer_box.children = (self.fields,)
            about = f"{question.difficulty} · {escape(question.concept)}"
            heading = f' · {asked.standing}<span class="chatlab-note"> · {about}</span>'
        self.on_running(self.running)
        self.heading.value = f"<div><strong>{title}</strong>{heading}</div>"  # last: what it announces is there

    def on_running(self, running: bool) -> None:
        """Enable what can be used now, and give the keyboard its place again."""
        asked = self.quiz
        answered = bool(asked.rule) and asked.question.id in asked.verdicts
        self.check_button.disabled = running or asked.done or answered
        self.hint_button.disabled = asked.done
        self.back_button.disabled = running or (asked.place == 0 and not asked.done)
        self.next_button.disabled = running or asked.done
        if self._to_focus is not None and not running:
            self._to_focus.focus()
            self._to_focus = None

    def static_html(self) -> str:
        """Return the question that is shown, or the result."""
        return self.quiz.html()

    def _say(self, question: str, html: str) -> None:
        self._told[question] = html
        self.refresh()

    def __repr__(self) -> str:
        state = self.quiz.result() if self.quiz.done else self.quiz.standing
        return f"QuizPanel({self.quiz.topic.name}, {state})"


def _status(html: str) -> str:
    """Return what a screen reader reads out when it changes."""
    return f'<div class="chatlab-question" role="status">{html}</div>'
