"""Guesses: a prediction that is locked in before a cell runs, and compared with what happened afterwards.

In: a question, its options, the learner's answer and how sure they are. Out: what was predicted beside what happened;
over the whole course, how sure and how right (`calibration`). Knows nothing of widgets or of the engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import Timeout

from chatlab.display import escape, view
from chatlab.errors import ChatlabError
from chatlab.questions.question import LETTERS
from chatlab.records import Record

__all__ = ["Guess", "LockedError", "Reveal", "locked_guesses", "predict"]

FEWEST, MOST = 0, 100  # per cent sure


class LockedError(ChatlabError):
    """A prediction cannot be changed any more; the text says why."""


@dataclass(frozen=True)
class Reveal:
    """What happened, beside what was predicted. `right` is None where nothing was.

    >>> Reveal("two", "The template put one in.", predicted=None, confidence=None, right=None)
    No prediction was locked in. What happened: two. The template put one in.
    """

    happened: str
    explanation: str
    predicted: str | None
    confidence: float | None
    right: bool | None

    def _said(self) -> str:
        if self.right is None:
            return f"No prediction was locked in. What happened: {self.happened}."
        sure = "" if self.confidence is None else f", {self.confidence:g} % sure"
        comparison = "and so it is." if self.right else f"but it is: {self.happened}."
        return f"You predicted: {self.predicted}{sure}, {comparison}"

    def __repr__(self) -> str:
        return f"{self._said()} {self.explanation}".strip()

    def html(self) -> str:
        """Return the comparison as HTML; all text in it is escaped."""
        mark = {None: "🔮", True: "✓", False: "✗"}[self.right]
        kind = {None: "", True: "right", False: "wrong"}[self.right]
        said = f"<strong>{mark} {escape(self._said())}</strong>"
        return f'<div class="chatlab-verdict {kind}">{said} {escape(self.explanation)}</div>'

    def _repr_html_(self) -> str:
        return view(self.html())


def predict(question: str, options: Sequence[str] | str | None = None, *, confidence: float | None = None) -> Guess:
    """Ask for a prediction before the next cells run; `.reveal()` compares it with what happened.

    `options` is a list of answers to choose from. The prediction is locked in with the button of its panel, or with
    `.lock("B", confidence=70)`. A text in their place is the prediction itself, and is locked in at once; `confidence`
    says how sure it is, 0 to 100 per cent. What is locked in stays so, also when the cell is run again.
    Raises `ValueError` for options that are fewer than two or more than eight, or a confidence out of range.

    >>> guess = predict("How many messages does the model read?", ["one", "two", "none"])
    >>> guess
    How many messages does the model read?
    A  one
    B  two
    C  none
    Lock in your answer: .lock("A", confidence=70)
    >>> guess.reveal("B", "The template put one in.")
    No prediction was locked in. What happened: B, two. The template put one in.
    """
    if isinstance(options, str):
        guess = Guess(question)
        if guess.answer is None:
            guess.lock(options, confidence=confidence)
        return guess
    return Guess(question, options, confidence=confidence)


class Guess:
    """One prediction: `answer` is a letter or a text once it is locked in, `confidence` how sure, in per cent.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> guess = Guess("2 + 2?", ["4", "5"], folder=Path(folder.name))
    >>> guess.lock("A", confidence=90)
    >>> guess.reveal("A", "The model can do that.")
    You predicted: A, 4, 90 % sure, and so it is. The model can do that.
    >>> folder.cleanup()
    """

    def __init__(
        self,
        question: str,
        options: Sequence[str] | None = None,
        *,
        confidence: float | None = None,
        folder: Path | None = None,
    ) -> None:
        if options is not None and not 2 <= len(options) <= len(LETTERS):
            raise ValueError(f"A prediction has 2 to {len(LETTERS)} options, but here are {len(options)}.")
        self.question = question
        self.options = tuple(options or ())
        self.revealed: Reveal | None = None
        self.panel: Any = None
        self._record = _record(folder)
        # The text itself, so that a question that was reworded is asked anew.
        self._key = hashlib.sha256("\n".join([question, *self.options]).encode()).hexdigest()[:16]
        locked = self._record.read().get(self._key, {})
        self.answer: str | None = locked.get("answer")
        self.confidence: float | None = locked.get("confidence", _checked(confidence))

    @property
    def letters(self) -> str:
        """The letters of the options; an empty text where the answer is free."""
        return LETTERS[: len(self.options)]

    def lock(self, answer: str, *, confidence: float | None = None) -> None:
        """Lock in the answer: the letter of an option, or a text where there are none.

        Raises `LockedError` when one is locked in, or what happened has been revealed, and `ValueError` for a letter
        that is none of the options or a confidence that is not 0 to 100.
        """
        if self.answer is not None:
            raise LockedError(f"Your prediction is locked in: {self._named(self.answer)}.")
        if self.revealed is not None:
            raise LockedError("What happened has been revealed. Run the cell with the question again to predict anew.")
        answer = answer.strip()
        if self.options:
            answer = answer.upper()
            if answer not in tuple(self.letters):
                raise ValueError(f"{answer[:20]!r} is no option here. Choose from {', '.join(self.letters)}.")
        if not answer:
            raise ValueError("Nothing is predicted yet. Write what you expect.")
        self.confidence = _checked(confidence) if confidence is not None else self.confidence
        self.answer = answer
        self._keep(right=None)

    def reveal(self, happened: str, explanation: str = "") -> Reveal:
        """Say what happened (a letter, or the text that was to be predicted) and why; return the comparison."""
        if self.options and happened not in tuple(self.letters):
            raise ValueError(f"{happened!r} is no option here. Choose from {', '.join(self.letters)}.")
        right = None if self.answer is None else _same(self.answer, happened)
        self.revealed = Reveal(
            self._named(happened),
            explanation,
            predicted=None if self.answer is None else self._named(self.answer),
            confidence=self.confidence if self.answer is not None else None,
            right=right,
        )
        if right is not None:
            self._keep(right=right)
        if self.panel is not None:
            self.panel.refresh()
        return self.revealed

    def html(self) -> str:
        """Return the question and its options as HTML without controls."""
        options = "".join(f"<li>{escape(self._named(letter))}</li>" for letter in self.letters)
        listed = f'<ul class="chatlab-choices">{options}</ul>' if options else ""
        return f"<div><strong>🔮 {escape(self.question)}</strong></div>{listed}<div>{escape(self._how())}</div>"

    def __repr__(self) -> str:
        options = [f"{letter}  {option}" for letter, option in zip(self.letters, self.options, strict=True)]
        return "\n".join([self.question, *options, self._how()])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Show the panel where there is a notebook, else text and HTML."""
        from IPython import get_ipython

        if getattr(get_ipython(), "kernel", None) is None:
            return {"text/plain": repr(self), "text/html": view(self.html())}
        if self.panel is None:
            panels: Any = importlib.import_module("chatlab.panels")  # by its name: panels come after all else
            self.panel = panels.GuessPanel(self)
        self.panel.refresh()
        bundle: dict[str, Any] = self.panel._repr_mimebundle_()
        return {**bundle, "text/plain": repr(self)}

    def _named(self, answer: str) -> str:
        return f"{answer}, {self.options[LETTERS.index(answer)]}" if self.options else answer

    def _how(self) -> str:
        if self.answer is not None:
            sure = "" if self.confidence is None else f" ({self.confidence:g} % sure)"
            return f"Locked in: {self._named(self.answer)}{sure}."
        example = "A" if self.options else "what you expect"
        return f'Lock in your answer: .lock("{example}", confidence=70)'

    def _keep(self, *, right: bool | None) -> None:
        kept = {
            "question": self.question,
            "answer": self.answer,
            "confidence": self.confidence,
            "right": right,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        with contextlib.suppress(OSError, Timeout):  # a disk that refuses must not end the lesson
            self._record.change(lambda guesses: guesses.update({self._key: kept}))


def locked_guesses(folder: Path | None = None) -> list[dict[str, Any]]:
    """Return every prediction that was locked in: question, answer, confidence, right (None: not revealed), time."""
    return [each for each in _record(folder).read().values() if isinstance(each, dict)]


def _record(folder: Path | None) -> Record:
    return Record("predictions", field="predictions", empty=dict, folder=folder)


def _checked(confidence: float | None) -> float | None:
    if confidence is not None and not FEWEST <= confidence <= MOST:
        raise ValueError(f"confidence is in per cent, {FEWEST} to {MOST}, but is {confidence!r}.")
    return confidence


def _same(answer: str, happened: str) -> bool:
    """Whether two answers say the same: capitals, white space and a full stop at the end do not count."""
    first, second = (re.sub(r"\s+", " ", text).strip().rstrip(".!").casefold() for text in (answer, happened))
    return first == second
