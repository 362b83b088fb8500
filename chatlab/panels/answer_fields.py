"""Answer fields: native controls for an answer to each kind of question.

In: a question. Out: controls, and what was chosen or typed in them as an answer. Knows nothing of what is right.
"""

from __future__ import annotations

import ipywidgets as widgets

from chatlab.display import escape
from chatlab.panels.panel import LABELLED
from chatlab.questions.given import NotAnAnswer
from chatlab.questions.question import Answer, Question

__all__ = ["AnswerFields"]

ORDINALS = ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th")

HOW = {
    "single": "Choose one (the arrow keys move and choose).",
    "multiple": "Choose every one that is right (Tab moves, Space chooses).",
    "order": "Choose what comes 1st, 2nd, and so on.",
    "predict-output": "Write what is printed.",
    "number": "Write a number.",
    "fix-the-request": "Mend the list.",
    "function": "Write the function.",
}


class AnswerFields(widgets.VBox):  # type: ignore[misc]
    """Controls for the answer to one question; `value` is what they say, and may be set to fill them.

    >>> from chatlab.questions.question_files import topic_of
    >>> fields = AnswerFields(topic_of("roles").questions[0])
    >>> fields.value = "C"
    >>> fields.value
    'C'
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        kind, above = question.kind, list[widgets.Widget]()
        labels = [(f"{choice.letter} · {choice.text}", choice.letter) for choice in question.choices]
        if kind == "single":
            self.controls = [widgets.RadioButtons(options=labels, value=None, layout={"width": "auto"})]
        elif kind == "multiple":
            self.controls = [
                widgets.Checkbox(description=label, indent=False, style=LABELLED, layout={"width": "auto"})
                for label, _ in labels
            ]
        elif kind == "order":
            options = [("choose", None), *labels]
            shown = "".join(f"<li>{escape(label)}</li>" for label, _ in labels)
            above = [widgets.HTML(f'<ul class="chatlab-choices">{shown}</ul>')]
            self.controls = [
                widgets.Dropdown(options=options, description=place, layout={"width": "auto"})
                for place, _ in zip(ORDINALS, labels, strict=False)
            ]
        elif kind == "number":
            self.controls = [widgets.Text(description="Number", style=LABELLED, layout={"width": "24ch"})]
        else:
            label, rows = (
                ("Output", 2) if kind == "predict-output" else ("Your answer", question.request.count("\n") + 5)
            )
            self.controls = [
                widgets.Textarea(
                    value=question.request, description=label, rows=rows, style=LABELLED, layout={"width": "auto"}
                )
            ]
        super().__init__(children=[*above, *self.controls])
        self.add_class("chatlab-answer")
        self.add_class(f"chatlab-{question.id}")

    @property
    def value(self) -> Answer:
        """The answer as it stands; raises `NotAnAnswer` where something is not chosen yet."""
        letters = self.question.letters
        if self.question.kind == "multiple":
            return [letter for letter, box in zip(letters, self.controls, strict=True) if box.value]
        if self.question.kind == "order":
            chosen = [control.value for control in self.controls]
            missing = [place for place, letter in zip(ORDINALS, chosen, strict=False) if letter is None]
            if missing:
                raise NotAnAnswer(f"Choose what comes {missing[0]}.")
            return chosen
        value = self.controls[0].value
        return [] if value is None else value

    @value.setter
    def value(self, answer: Answer) -> None:
        letters = self.question.letters
        if self.question.kind == "multiple":
            for letter, box in zip(letters, self.controls, strict=True):
                box.value = letter in answer
        elif self.question.kind == "order":
            for control, letter in zip(self.controls, answer, strict=True):
                control.value = letter
        else:
            self.controls[0].value = str(answer)

    @property
    def how(self) -> str:
        """How to answer, in a few words."""
        return HOW[self.question.kind]
