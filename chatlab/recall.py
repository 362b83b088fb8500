"""Recall: flash cards that come back when they are due.

In: the questions and key facts of the course, and how well each was remembered. Out: the card to show now, and when
each comes back, as the FSRS algorithm has it. Knows nothing of how a card is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from chatlab.questions.question import Fact, Question
from chatlab.questions.question_files import topic_names, topic_of
from chatlab.records import Record

__all__ = ["RATINGS", "FlashCard", "Recall", "cards_of"]

RATINGS = {"Again": 1, "Hard": 2, "Good": 3, "Easy": 4}  # the names and numbers that FSRS gives them


@dataclass(frozen=True)
class FlashCard:
    """One card: `front` asks; `back` answers, and stays out of sight until it is asked for."""

    id: str
    topic: str
    front: str
    back: str = field(repr=False)


def cards_of(name: str) -> list[FlashCard]:
    """Return the cards of a topic: its facts, then its questions.

    >>> cards_of("roles")[0]
    FlashCard(id='roles-fact-keys', topic='roles', front='Which two keys does every message have?')
    """
    topic = topic_of(name)
    return [*map(_of_fact, topic.facts), *map(_of_question, topic.questions)]


class Recall:
    """The cards of all topics, or of one, with when each is due; kept in `recall.json` beside the progress.

    `now` is the present time in UTC unless one is given, for tests.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> recall = Recall("roles", folder=Path(folder.name))
    >>> card = recall.next()
    >>> len(recall.due()), recall.rate(card, "Easy") > datetime.now(timezone.utc), len(recall.due())
    (13, True, 12)
    >>> folder.cleanup()
    """

    def __init__(self, topic: str | None = None, *, folder: Path | None = None) -> None:
        names = topic_names() if topic is None else [topic]
        self.cards = [card for name in names for card in cards_of(name)]
        self._record = Record("recall", field="cards", empty=dict, folder=folder)

    def due(self, now: datetime | None = None) -> list[FlashCard]:
        """Return the cards that are due, the longest due first; a card never seen is due at once, after those."""
        now = now or datetime.now(timezone.utc)
        dates = self._dates()
        seen = [card for card in self.cards if card.id in dates and dates[card.id] <= now]
        return [*sorted(seen, key=lambda card: dates[card.id]), *(card for card in self.cards if card.id not in dates)]

    def next(self, now: datetime | None = None) -> FlashCard | None:
        """Return the card to show now; None if none is due."""
        return next(iter(self.due(now)), None)

    def next_due(self) -> datetime | None:
        """Return when the next card of those seen comes back; None if none was seen."""
        return min(self._dates().values(), default=None)

    def rate(self, card: FlashCard, rating: str, now: datetime | None = None) -> datetime:
        """Record how well a card was remembered: "Again", "Hard", "Good" or "Easy"; return when it comes back.

        Raises `ValueError` for another word, and `OSError` where the file cannot be written.
        """
        if rating not in RATINGS:
            raise ValueError(f"A rating is one of {', '.join(RATINGS)}, not {rating!r}.")
        from fsrs import Card, Rating, Scheduler  # here, since it takes a moment to load

        due = now or datetime.now(timezone.utc)

        def change(cards: dict[str, Any]) -> None:
            nonlocal due
            known = _usable(cards.get(card.id))
            before = Card.from_dict(known) if known else Card(card_id=len(cards) + 1, due=due)
            after, _ = Scheduler(enable_fuzzing=False).review_card(before, Rating(RATINGS[rating]), due)
            cards[card.id] = after.to_dict()
            due = after.due

        self._record.change(change)
        return due

    def note(self) -> str:
        """Return what the learner should know about the file; an empty text if nothing."""
        return self._record.note()

    def _dates(self) -> dict[str, datetime]:
        """Return when each card of those seen is due; what cannot be read counts as never seen."""
        recorded = self._record.read()
        known = {card.id: _usable(recorded.get(card.id)) for card in self.cards}
        return {name: datetime.fromisoformat(card["due"]) for name, card in known.items() if card}

    def __repr__(self) -> str:
        return f"Recall({len(self.cards)} cards)"


def _usable(card: Any) -> Any:
    """Return a recorded card if it is one, else None."""
    try:
        return card if datetime.fromisoformat(card["due"]).tzinfo and card["card_id"] else None
    except (TypeError, KeyError, ValueError):
        return None


def _of_fact(fact: Fact) -> FlashCard:
    return FlashCard(fact.id, fact.topic, fact.front, fact.back)


def _of_question(question: Question) -> FlashCard:
    """Return a question as a card: the back holds the right answer and why it is right."""
    choices = [f"{choice.letter} · {choice.text}" for choice in question.choices]
    front = "\n".join([question.text, *question.shown_code.splitlines(), *choices])
    right = [choice for choice in question.choices if choice.letter in question.key]
    if question.kind == "order":
        answer = ", ".join(question.key)
    elif right:
        answer = "\n".join(f"{choice.letter} · {choice.text}: {choice.explanation}" for choice in right)
    else:
        answer = str(question.key).rstrip()
    return FlashCard(question.id, question.topic, front, "\n".join(filter(None, [answer, question.explanation])))
