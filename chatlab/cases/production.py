"""Cases of the exercises on production: retries, an entry for the log, and the best of several wordings.

In: nothing. Out: the calls by which each exercise is checked. Knows nothing of learners.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
from openai.types.chat import ChatCompletion

from chatlab.completions import chat_completions
from chatlab.exercises.case import Case, Judge, equals
from chatlab.messages import user
from chatlab.testing import ScriptedModel

__all__ = ["best_wording", "entry", "send_patiently"]

MOST = 4  # attempts
PRICES = (1.0, 4.0)
SAID = "My PIN is 4711."


def send_patiently() -> list[Case]:
    """Return servers that are well, that refuse, that are busy for a while, and that stay broken."""
    return [
        _server([200], waits=[], shown="with a server that is well"),
        _server([400], waits=[], shown="with a request that is wrong"),
        _server([(429, "7"), 200], waits=[7], shown="with a busy server that says when to come back"),
        _server([500, 503, 200], waits=[1, 2], shown="with a server that fails twice"),
        _server([503], waits=[1, 2, 4], shown="with a server that stays broken"),
        _server([500, (503, "3"), 529, 200], waits=[1, 3, 4], hidden=True),
        _server([(429, "0.5"), 401], waits=[0.5], hidden=True),
        _server([404], waits=[], hidden=True),
    ]


def entry() -> list[Case]:
    """Return replies that were whole, that were cut, and that nobody counted."""
    return [
        _reply(SAID, shown="for a reply with something private in it"),
        _reply("Three days.", counted=False, shown="from a server that counts nothing"),
        _reply("It takes three days.", limit=5, seconds=0.25, hidden=True),
        _reply("Hello!", prices=(2.5, 10.0), seconds=1.5, hidden=True),
    ]


def best_wording() -> list[Case]:
    """Return wordings of which one wins, and ways to be misled."""
    capitals = [("Japan", "Tokyo"), ("France", "Paris"), ("Peru", "Lima")]
    plain, brief, kind = "Capital of {}?", "{}: capital, one word.", "Please, the capital of {}?"
    return [
        _wordings(
            {plain: ["Tokyo", "Paris", "Lima"], brief: ["Tokyo", "Rome", "Cusco"]},
            capitals,
            best=plain,
            shown="with one that is always right",
        ),
        _wordings(
            {plain: ["Tokyo", "Rome", "Cusco"], brief: ["Kyoto", "Paris", "Lima"]},
            capitals,
            best=brief,
            shown="with a wording that has luck once",
        ),
        _wordings(
            {plain: ["Not Tokyo but Kyoto", "Paris?", "Lima or Cusco"], brief: ["Tokyo", "Rome", "Cusco"]},
            capitals,
            best=brief,
            shown="with a wording that makes the model talk",
        ),
        _wordings(
            {plain: ["Kyoto", "Rome", "Lima"], brief: [" tokyo.\n", "PARIS", "Lima."]},
            capitals,
            best=brief,
            shown="with full stops and capitals",
        ),
        _wordings(
            {kind: ["Kyoto", "Rome", "Cusco"], plain: ["Tokyo", "Paris", "Cusco"], brief: ["Tokyo", "Rome", "Lima"]},
            capitals,
            best=plain,
            hidden=True,
        ),
        _wordings({plain: ["Tokyo..."], brief: ["Tokyo"]}, capitals[:1], best=brief, hidden=True),
    ]


class Door:
    """A server's door: it gives the answers one after another, the last one again, and knows what was done there."""

    def __init__(self, answers: Sequence[int | tuple[int, str]]) -> None:
        self.answers = answers
        self.sent = 0
        self.waits: list[float] = []

    def send(self) -> httpx2.Response:
        answer = self.answers[min(self.sent, len(self.answers) - 1)]
        status, told = answer if isinstance(answer, tuple) else (answer, None)
        self.sent += 1
        if self.sent > 2 * MOST:
            raise RuntimeError(f"the request was sent {self.sent - 1} times; {MOST} are enough")
        return httpx2.Response(status, headers=None if told is None else {"Retry-After": told})

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


def _server(
    answers: Sequence[int | tuple[int, str]], *, waits: list[float], shown: str = "", hidden: bool = False
) -> Case:
    door = Door(answers)
    answer = answers[min(len(waits), len(answers) - 1)]
    status = answer[0] if isinstance(answer, tuple) else answer

    def judge(found: Any) -> str | None:
        if door.sent != len(waits) + 1:
            return f"it should be sent {_times(len(waits) + 1)}, but was sent {_times(door.sent)}"
        if door.waits != waits:
            return f"it should wait {_listed(waits)}, but waited {_listed(door.waits)}"
        if not isinstance(found, httpx2.Response):
            return f"it should return the response, not {type(found).__name__}"
        return None if found.status_code == status else f"it should return {status}, but returned {found.status_code}"

    def send() -> httpx2.Response:
        return door.send()

    def wait(seconds: float) -> None:
        door.wait(seconds)

    return Case((send, wait), judge, shown, hidden)


def _times(number: int) -> str:
    return {0: "never", 1: "once"}.get(number, f"{number} times")


def _listed(waits: Sequence[float]) -> str:
    return ", ".join(f"{each:g}" for each in waits) or "not at all"


def _reply(
    said: str,
    *,
    counted: bool = True,
    limit: int | None = None,
    seconds: float = 0.5,
    prices: tuple[float, float] = PRICES,
    shown: str = "",
    hidden: bool = False,
) -> Case:
    response = chat_completions([user("Hi")], ScriptedModel(said), max_completion_tokens=limit)
    usage = response.usage
    assert usage is not None
    wanted: dict[str, Any] = {
        "id": response.id,
        "model": response.model,
        "finish_reason": response.choices[0].finish_reason,
        "seconds": seconds,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost": (usage.prompt_tokens * prices[0] + usage.completion_tokens * prices[1]) / 1_000_000,
    }
    if not counted:
        response = ChatCompletion.model_validate(response.model_dump() | {"usage": None})
        wanted |= dict.fromkeys(("prompt_tokens", "completion_tokens", "cost"))
    return Case((response, seconds, prices), _keeps(wanted, said), shown, hidden)


def _keeps(wanted: Mapping[str, Any], said: str) -> Judge:
    """Return a judge of an entry: the keys and values that are wanted, and nothing that was said."""

    def judge(found: Any) -> str | None:
        if said in repr(found):
            return f"what was said is in the log: {said!r}"
        if not isinstance(found, dict) or set(found) != set(wanted):
            keys = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
            return f"it should be a dict with the keys {', '.join(wanted)}, but is {keys}"
        for name, value in wanted.items():
            alike = found[name] == value or (isinstance(value, float) and math.isclose(found[name], value))
            if not alike:
                return f"the {name} should be {value!r}, but is {found[name]!r}"
        return None

    return judge


def _wordings(
    replies: Mapping[str, Sequence[str]],
    examples: Sequence[tuple[str, str]],
    *,
    best: str,
    shown: str = "",
    hidden: bool = False,
) -> Case:
    said = {
        wording.format(question): reply
        for wording, given in replies.items()
        for (question, _), reply in zip(examples, given, strict=True)
    }

    def ask(prompt: str) -> str:
        return said[prompt]

    return Case((list(replies), list(examples), ask), equals(best), shown, hidden)
