"""Cases of the exercises on what happens under the hood.

In: nothing. Out: the calls by which each exercise is checked. Knows nothing of learners.
"""

from __future__ import annotations

from typing import Any

from chatlab.exercises.case import Case, equals
from chatlab.messages import user
from chatlab.templating import render
from chatlab.testing import ScriptedModel
from chatlab.tokens import encode

__all__ = ["make_reply", "tokens_to_read"]


def make_reply() -> list[Case]:
    """Return replies that end by themselves and at a limit, each from a model that notes what it reads."""
    return [
        _reply("Hi", 2, "with a limit of 2 tokens"),
        _reply("Hello!", 40, "with a reply that ends by itself"),
        _reply("Hello!", 5, hidden=True),
        _reply("A café.", 40, hidden=True),
    ]


def tokens_to_read() -> list[Case]:
    """Return new prompts beside what was read before: nothing, the same, a beginning, another one."""
    chat, other = [1, 2, 3, 4, 5], [7, 8, 9]
    return [
        Case(([], chat), equals(5), "for the first prompt of all"),
        Case(([chat], [*chat, 6, 7]), equals(2), "for a chat that goes on"),
        Case(([chat], [9, *chat]), equals(6), "for a change at the front"),
        Case(([chat], chat), equals(1), "for the same prompt again"),
        Case(([chat, other], [*chat[:4], 6, 7]), equals(2), "for two chats in turn"),
        Case(([chat], chat[:3]), equals(1), hidden=True),
        Case(([other, chat], [1, 2, 9, 4, 5]), equals(3), hidden=True),
    ]


def _reply(text: str, limit: int, shown: str = "", *, hidden: bool = False) -> Case:
    """Return a case with a model of its own; what the model has read is judged as well as the reply."""
    model = ScriptedModel(text)
    prompt_ids = encode(render([user("Hi")], model=model), model=model)
    wanted = list(text.encode())[:limit]

    def judge(found: Any) -> str | None:
        if len(model.prompts) > 1:
            return f"the prompt was read {len(model.prompts)} times; hand the cache in again and read what is new"
        if list(found) != wanted:
            return f"the reply should be {wanted}, but is {found}"
        read = sum(len(model.tokenizer.encode(each)) for each in model.prompts)
        most = len(prompt_ids) + len(wanted)
        return f"{read} tokens were read, but each of these {most} need be read once only" if read > most else None

    return Case((model, prompt_ids, limit), judge, shown, hidden)
