"""Cases of the exercises on messages and roles.

In: nothing. Out: the calls by which each exercise is checked. Knows nothing of learners.
"""

from __future__ import annotations

from typing import Any

from chatlab.errors import BadRequestError
from chatlab.exercises.case import Case, Judge
from chatlab.messages import assistant, system, user, validate

__all__ = ["build_messages", "with_system"]


def build_messages() -> list[Case]:
    """Return lists with no, one and three earlier turns."""
    turns = [("Hi", "Hello!"), ("Who are you?", "A robot."), ("Really?", "Yes.")]

    def case(earlier: list[tuple[str, str]], shown: str, *, hidden: bool = False) -> Case:
        wanted = [
            system("Be brief."),
            *(message for said, replied in earlier for message in (user(said), assistant(replied))),
            user("Why?"),
        ]
        return Case(("Be brief.", earlier, "Why?"), _wants(wanted), shown, hidden)

    return [
        case([], "with no earlier turn"),
        case(turns[:1], "with 1 earlier turn"),
        case(turns, "with 3 earlier turns", hidden=True),
    ]


def with_system() -> list[Case]:
    """Return lists without, with one and with several system messages."""
    turns = [user("Hi"), assistant("Hello!"), user("Who are you?")]
    new = system("Be brief.")

    def judge(found: Any) -> str | None:
        count = sum(message.get("role") == "system" for message in found if isinstance(message, dict))
        return (
            f"there should be one system message, but there are {count}" if count != 1 else _wants([new, *turns])(found)
        )

    return [
        Case((turns, "Be brief."), judge, "without a system message"),
        Case(([system("Old."), *turns], "Be brief."), judge, "with an old system message"),
        Case(([turns[0], system("Late."), *turns[1:], system("Last.")], "Be brief."), judge, hidden=True),
    ]


def _wants(wanted: list[dict[str, Any]]) -> Judge:
    """Return a judge that compares roles first, then texts."""

    def judge(found: Any) -> str | None:
        try:
            messages = validate(found)
        except BadRequestError as error:
            return str(error)
        roles, right = [each["role"] for each in messages], [each["role"] for each in wanted]
        if roles != right:
            return f"the roles should be {', '.join(right)}, but are {', '.join(roles)}"
        return None if messages == wanted else "a text is missing or stands in the wrong place"

    return judge
