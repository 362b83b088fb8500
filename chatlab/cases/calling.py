"""Cases of the exercises on calling the endpoint: the history, and the request by hand.

In: nothing. Out: the calls by which each exercise is checked. Knows nothing of learners.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from chatlab.errors import BadRequestError, RequestError
from chatlab.exercises.case import Case, Judge
from chatlab.messages import Message, assistant, system, user, validate
from chatlab.parameters import split_body

__all__ = ["chat", "request_for"]


class Service:
    """A service that replies with a number, and writes down each request, apart from the list it was given."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def __call__(self, messages: Sequence[Message]) -> str:
        self.requests.append(validate(messages))
        return f"Reply {len(self.requests) * 7}."

    def __repr__(self) -> str:
        return "service"


def chat() -> list[Case]:
    """Return chats of one, two and four questions, and one of none."""

    def case(questions: list[str], shown: str, *, hidden: bool = False) -> Case:
        service = Service()

        def ask(messages: Sequence[Message]) -> str:
            return service(messages)

        return Case((ask, questions), _sent_it_all(service, questions), shown, hidden)

    return [
        case(["My name is Ana."], "for one question"),
        case(["My name is Ana.", "What is my name?"], "for two questions"),
        case(["A?", "B?", "C?", "D?"], "", hidden=True),
        case([], "", hidden=True),
    ]


def _sent_it_all(service: Service, questions: list[str]) -> Judge:
    """Return a judge of the replies, and of what the service was sent for each."""

    def judge(found: Any) -> str | None:
        requests, service.requests = service.requests, []
        replies = [f"Reply {number * 7}." for number in range(1, len(questions) + 1)]
        for number, request in enumerate(requests, 1):
            said = [
                message
                for question, reply in zip(questions, replies, strict=True)
                for message in (user(question), assistant(reply))
            ]
            fault = _differs(number, request, said[: 2 * number - 1])
            if fault is not None:
                return fault
        if len(requests) != len(questions):
            return f"there should be {len(questions)} requests, but there were {len(requests)}"
        if found != replies:
            noun = "reply" if len(replies) == 1 else "replies"
            return f"it should return {len(replies)} {noun} as text, in order"
        return None

    return judge


def _differs(number: int, request: list[Message], wanted: list[Message]) -> str | None:
    """Return how a request differs from the chat so far; None where it does not."""
    roles, wanted_roles = ([message["role"] for message in each] for each in (request, wanted))
    if roles != wanted_roles:
        return f"request {number} should hold the roles {', '.join(wanted_roles)}, but holds {', '.join(roles)}"
    for at, (message, right) in enumerate(zip(request, wanted, strict=True)):
        if message != right:
            what = f"the reply to request {at // 2 + 1}" if right["role"] == "assistant" else f"question {at // 2 + 1}"
            return f"request {number} should hold {what} as message {at + 1}"
    return None


def request_for() -> list[Case]:
    """Return requests with a key and without, one of them with what JSON must escape."""
    local, hosted = "http://127.0.0.1:8000/v1", "https://api.example/v1"
    turns = [system("Be brief."), user("It's me."), assistant('"Who?"'), user("Ana ☕")]

    def case(base_url: str, key: str | None, messages: list[Message], shown: str, *, hidden: bool = False) -> Case:
        arguments = (base_url, key, "SmolLM2-135M-Instruct", messages)
        return Case(arguments, _is_request(*arguments), shown, hidden)

    return [
        case(local, "my-key", [user("Hi")], "with the key 'my-key'"),
        case(local, None, [user("Hi")], "without a key"),
        case(hosted, "another", turns, "", hidden=True),
    ]


def _is_request(base_url: str, key: str | None, model: str, messages: list[Message]) -> Judge:
    def judge(found: Any) -> str | None:
        wanted = {"method": "POST", "url": f"{base_url}/chat/completions"}
        for name, value in wanted.items():
            if found[name] != value:
                return f"the {name} should be {value!r}, but is {found[name]!r}"
        fault = _header_fault(found["headers"], "Content-Type", "application/json")
        fault = fault or _header_fault(found["headers"], "Authorization", key and f"Bearer {key}")
        return fault or _body_fault(found["content"], model, messages)

    return judge


def _header_fault(headers: Any, name: str, wanted: str | None) -> str | None:
    given = {each.lower(): value for each, value in headers.items()}.get(name.lower())
    if given == wanted:
        return None
    if wanted is None:
        return f"the header {name} should be left out, but is {given!r}"
    return f"the header {name} should be {wanted!r}, but is {given!r}"


def _body_fault(content: Any, model: str, messages: list[Message]) -> str | None:
    try:
        body = json.loads(content)
    except (TypeError, ValueError) as error:
        return f"the content is not JSON: {error}"
    try:
        sent, name, options = split_body(body)
        validate(sent)
    except (BadRequestError, RequestError) as error:
        return str(error)
    if (sent, name) != (messages, model):
        return "the body should hold the model's name and all the messages, as they are"
    return f"the body should hold nothing else, but has {', '.join(options)}" if options else None
