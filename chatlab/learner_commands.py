"""Learner commands: `chatlab progress` and `chatlab review`.

In: what is typed in a terminal. Out: calls of the same functions a notebook uses. Knows nothing of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["progress", "review"]


def progress(
    export: Annotated[Path | None, typer.Option(help="Write every answer to a .csv or .json file.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete every answer and prediction.")] = False,
) -> None:
    """Show what you have answered, what you believed, and what to do next."""
    from chatlab.display import count_of
    from chatlab.progress import Progress

    kept = Progress()
    if delete:
        about = "all predictions, the placement test and the dates of all cards"
        typer.confirm(f"Delete {count_of(len(kept.answers), 'answer')}, {about}?", abort=True)
        kept.delete()
        print("Deleted.")
    elif export is not None:
        try:
            kept.export(export)
        except (OSError, ValueError) as error:
            raise typer.BadParameter(str(error)) from None
        print(f"Written: {export}")
    else:
        print(kept.summary())


def review(topic: Annotated[str | None, typer.Option(help="Only the cards of this topic.")] = None) -> None:
    """Go through the flash cards that are due."""
    from chatlab.recall import Recall
    from chatlab.review import review_cards

    try:
        recall = Recall(topic)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    review_cards(recall)
