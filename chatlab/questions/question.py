"""Question: one question of a quiz, with its key kept out of sight.

In: what an author wrote, already checked. Out: a question that shows its text and choices, and never its answer. Knows
nothing of files, of learners, or of what is right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from chatlab.display import escape, view
from chatlab.markdown import markdown_html

__all__ = ["KINDS", "LETTERS", "Answer", "Choice", "Fact", "Question", "Topic", "Wrong"]

# What a key, or a learner's answer, may be: a letter, letters, a number, a text, or a function.
Answer: TypeAlias = Any

LETTERS = "ABCDEFGH"

# Each kind of question, and how its answer is given.
KINDS = {
    "single": "the letter of one choice",
    "multiple": "the letters of all choices that are right",
    "order": "all letters, in the right order",
    "predict-output": "what is printed, as text",
    "number": "a number",
    "fix-the-request": "the list of messages, mended",
    "function": "the function, or its source",
}


@dataclass(frozen=True)
class Choice:
    """One choice: its letter and its text; `explanation` and `misconception` are for after the answer."""

    letter: str
    text: str
    explanation: str = field(default="", repr=False)
    misconception: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Wrong:
    """A typical wrong answer, why it is wrong, and the name of the misconception behind it."""

    answer: Answer = field(repr=False)
    explanation: str = field(repr=False)
    misconception: str = field(repr=False)


@dataclass(frozen=True)
class Fact:
    """A key fact, for a flash card: `front` asks, `back` answers."""

    id: str
    topic: str
    concept: str
    front: str
    back: str = field(repr=False)
    evidence: str = field(repr=False)


@dataclass(frozen=True, repr=False)
class Question:
    """One question. `key` is the right answer; no view shows it.

    >>> Question("x-1", "x", "number", "easy", "counting", "How many?", key=3, evidence="none")
    How many?
    (Answer with a number.)
    """

    id: str
    topic: str
    kind: str
    difficulty: str
    concept: str
    text: str
    key: Answer
    evidence: str
    choices: tuple[Choice, ...] = ()
    wrong: tuple[Wrong, ...] = ()
    explanation: str = ""
    hints: tuple[str, ...] = ()
    code: str = ""
    request: str = ""
    function: str = ""

    @property
    def letters(self) -> list[str]:
        """The letters of the choices."""
        return [choice.letter for choice in self.choices]

    @property
    def shown_code(self) -> str:
        """The code that belongs to the question: what prints, what is to be mended, what to begin with."""
        return self.code or self.request

    def html(self) -> str:
        """Return the question as HTML, all text in it escaped, with its choices."""
        choices = "".join(f"<li>{choice.letter} · {escape(choice.text)}</li>" for choice in self.choices)
        request = f'<pre class="chatlab-prompt">{escape(self.request.rstrip())}</pre>' if self.request else ""
        return self.text_html() + request + (f'<ul class="chatlab-choices">{choices}</ul>' if choices else "")

    def text_html(self) -> str:
        """Return the text and the code as HTML, without what an answer is made of or begins with."""
        code = f'<pre class="chatlab-prompt">{escape(self.code.rstrip())}</pre>' if self.code else ""
        return f'<div class="chatlab-markdown">{markdown_html(self.text)}</div>{code}'

    def __repr__(self) -> str:
        code = [f"    {line}".rstrip() for line in self.shown_code.splitlines()]
        choices = [f"  {choice.letter} · {choice.text}" for choice in self.choices]
        return "\n".join([self.text, *code, *choices, f"(Answer with {KINDS[self.kind]}.)"])

    def _repr_html_(self) -> str:
        return view(f'{self.html()}<div class="chatlab-note">Answer with {KINDS[self.kind]}.</div>')


@dataclass(frozen=True)
class Topic:
    """The questions and facts of one topic, and what its misconceptions say."""

    name: str
    lesson: str
    title: str
    questions: tuple[Question, ...] = field(repr=False)
    facts: tuple[Fact, ...] = field(default=(), repr=False)
    misconceptions: dict[str, str] = field(default_factory=dict, repr=False)
