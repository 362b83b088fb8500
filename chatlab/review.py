"""Review: flash cards in the terminal.

In: cards that are due, and what is typed. Out: each card, its answer, and when it comes back. Knows nothing of how that
is worked out.
"""

from __future__ import annotations

from chatlab.display import count_of
from chatlab.recall import RATINGS, Recall

__all__ = ["review_cards"]

CHOICES = "  ".join(f"{number} {name}" for name, number in RATINGS.items())
BY_NUMBER = {str(number): name for name, number in RATINGS.items()}


def review_cards(recall: Recall) -> None:
    """Show the cards that are due, one after another, until none is left or the person leaves."""
    while card := recall.next():
        print(f"{len(recall.due())} due\n\n{card.front}\n")
        try:
            if input("Enter shows the answer, q leaves: ").strip() == "q":
                return
            print(f"\n{card.back}\n")
            rating = None
            while rating is None:
                typed = input(f"How well did you know it?  {CHOICES}  (q leaves): ").strip()
                if typed == "q":
                    return
                rating = BY_NUMBER.get(typed)
        except (EOFError, KeyboardInterrupt):
            print()
            return
        due = recall.rate(card, rating)
        print(f"It comes back on {due.astimezone():%d %B %Y, %H:%M}.\n")
    after = recall.next_due()
    print(f"No card is due. {count_of(len(recall.cards), 'card')} in all.")
    if after:
        print(f"The next one is due on {after.astimezone():%d %B %Y, %H:%M}.")
