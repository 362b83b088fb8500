"""Cases of the exercises on the start: a list of one's own, and a stream put together.

In: nothing. Out: the calls by which each exercise is checked. Knows nothing of learners.
"""

from __future__ import annotations

from typing import Any

from chatlab.completions import chat_completions
from chatlab.errors import BadRequestError
from chatlab.exercises.case import Case, Judge, equals
from chatlab.linting import lint
from chatlab.messages import system, user, validate
from chatlab.testing import ScriptedModel

__all__ = ["my_messages", "streamed_reply"]


def my_messages() -> list[Case]:
    """Return what the list must be: messages, of these roles, with nothing unwise in them."""
    return [
        Case(None, _is_a_list_of_messages, "in its form"),
        Case(None, _is_a_question_with_instructions, "in its roles"),
        Case(None, _has_nothing_to_mend, "in its texts"),
        Case(None, _can_be_answered, hidden=True),
    ]


def _is_a_list_of_messages(found: Any) -> str | None:
    try:
        validate(found)
    except BadRequestError as error:
        return str(error)
    return None


def _is_a_question_with_instructions(found: Any) -> str | None:
    roles = [message["role"] for message in validate(found)]
    return None if roles == ["system", "user"] else f"the roles should be system, user, but are {', '.join(roles)}"


def _has_nothing_to_mend(found: Any) -> str | None:
    findings = lint(found)
    return f"{findings[0].reason} {findings[0].mend}" if findings else None


def _can_be_answered(found: Any) -> str | None:
    response = chat_completions(found, ScriptedModel("Yes."), temperature=0)
    return equals("Yes.")(response.choices[0].message.content)


def streamed_reply() -> list[Case]:
    """Return a short reply, one of several words, and one with no word at all."""
    asked = [system("Be brief."), user("Is it so?")]

    def case(reply: str, shown: str, *, hidden: bool = False) -> Case:
        model = ScriptedModel(reply)
        return Case((asked, model), _asked_once(model, equals(reply)), shown, hidden)

    return [
        case("Yes.", "for the reply 'Yes.'"),
        case("It is so, I think.", "for a longer reply"),
        case("Déjà vu 🙂", "", hidden=True),
    ]


def _asked_once(model: ScriptedModel, judge: Judge) -> Judge:
    """Return a judge that wants a text, and the model to have been asked for it once."""

    def judged(found: Any) -> str | None:
        if not isinstance(found, str):
            return f"it should return one text, but it is {type(found).__name__}"
        times = len(model.prompts)
        if times != 1:
            return "the model was never asked" if times == 0 else f"the model was asked {times} times"
        return judge(found)

    return judged
