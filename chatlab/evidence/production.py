"""Evidence on the topic production: what clients and servers do when something goes wrong, measured.

In: a question or a fact, and a model. Out: the answer that the engine, or the official client, gives to it; for a
request or a function that a learner wrote, the name of the misconception in it, or None if it is right. Knows nothing
of the author's key.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from functools import cache
from itertools import permutations, product
from typing import Any
from unittest import mock

import httpx2
import openai

from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.context import fit
from chatlab.errors import APITimeoutError, BadRequestError
from chatlab.evidence.common import fault_of, the_one, what_the_code_prints
from chatlab.linting import lint
from chatlab.messages import Message, assistant, system, user
from chatlab.prices import Prices, cost
from chatlab.questions.question import Fact, Question
from chatlab.remote import connect
from chatlab.server.running import serve
from chatlab.server.settings import ServerSettings
from chatlab.testing import ScriptedModel

__all__ = [
    "attempts_of_the_client",
    "end_of_the_base_url",
    "header_of_a_busy_server",
    "line_without_secrets",
    "mended_support_request",
    "price_of_the_requests",
    "requests_of_a_grid",
    "retries_in_words",
    "retries_what_the_client_retries",
    "steps_of_a_turn",
    "the_wait_of_the_client",
    "the_way_that_asks_the_model",
    "what_a_timeout_does",
    "what_leads_to_another_server",
    "what_the_code_prints",
    "worth_a_second_try",
]

ERROR = {"error": {"message": "injected", "type": "server_error", "param": None, "code": None}}


@cache
def _attempts(status: int, retry_after: str | None = None) -> tuple[int, list[float]]:
    """Return how many requests the official client sends to a server that always answers so, and its waits."""
    arrived: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        arrived.append(request)
        return httpx2.Response(status, json=ERROR, headers={"retry-after": retry_after} if retry_after else {})

    transport = httpx2.MockTransport(answer)
    client = openai.OpenAI(
        base_url="http://server/v1", api_key="none", http_client=openai.DefaultHttpxClient(transport=transport)
    )
    with mock.patch("time.sleep") as sleep:
        try:
            client.chat.completions.create(model="any", messages=[{"role": "user", "content": "Hi"}])
        except openai.APIStatusError as error:
            assert error.status_code == status
    return len(arrived), [call.args[0] for call in sleep.call_args_list]


def worth_a_second_try(question: Question, model: ChatModel) -> list[str]:
    """Let a server answer each status, and see whether the official client tries again."""
    return [choice.letter for choice in question.choices if _attempts(int(choice.text[:3]))[0] > 1]


def attempts_of_the_client(question: Question, model: ChatModel) -> int:
    """Count the requests that arrive, for the status that the question names."""
    status = re.search(r"\b[45]\d\d\b", question.text)
    assert status is not None
    return _attempts(int(status[0]))[0]


def the_wait_of_the_client(question: Question, model: ChatModel) -> str:
    """Answer 429 with the header that the question names, and note what the client waits."""
    seconds = re.search(r"value (\d+)", question.text)
    assert seconds is not None
    own, told = _attempts(429)[1][0], _attempts(429, seconds[1])[1][0]
    assert 0.3 < own < 0.6
    waits = {"about half a second": own, "not at all": 0.0}
    return the_one(question, lambda text: waits.get(text, text.partition(" ")[0]) == f"{told:g}")


def retries_in_words(fact: Fact, model: ChatModel) -> str:
    """Count the attempts after the first, for both statuses."""
    [attempts] = {_attempts(status)[0] for status in (429, 500)}
    return {1: "once", 2: "twice", 3: "three times"}[attempts - 1]


def retries_what_the_client_retries(function: Callable[[Any], Any]) -> str | None:
    """Hold the function to what the official client does with each status."""
    for status, name in {
        **dict.fromkeys((400, 401, 404, 413, 422), "all-errors-alike"),
        **dict.fromkeys((429, 500), "only-429-passes"),
        **dict.fromkeys((502, 503, 529), "only-500-passes"),
    }.items():
        if bool(function(status)) != (_attempts(status)[0] > 1):
            return name
    return None


def line_without_secrets(question: Question, model: ChatModel) -> str:
    """Ask the lab's server something private with a key, and find the choice that tells as much as its log."""
    key, private = "sk-tea-4711", "My PIN is 4711"
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("chatlab.server")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with serve(ScriptedModel("Hello!"), api_key=key) as server:
            server.client().chat.completions.create(model="scripted", messages=[{"role": "user", "content": private}])
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

    def told(line: str) -> list[bool]:
        return [words in line for words in ("POST /v1/chat/completions 200", "(req_", key, private)]

    [line] = [line for line in lines if "completions" in line]
    return the_one(question, lambda text: told(text) == told(line))


@cache
def _replies_after(change: str) -> str:
    """Return the reply to a bot that began at the first of two servers, after one thing about it was changed."""
    with serve(ScriptedModel("one")) as first, serve(ScriptedModel("two"), api_key="second") as second:
        settings: dict[str, Any] = {"base_url": first.base_url, "model": "scripted"}
        messages = [user("Hi")]
        if change == "the address":
            settings |= {"base_url": second.base_url, "api_key": "second"}
        elif change == "the messages":
            messages = [system("You are a big engine."), user("Hi")]
        if change == "the client library":
            client = openai.OpenAI(base_url=first.base_url, api_key="none")
            reply = client.chat.completions.create(model="scripted", messages=messages)  # type: ignore[arg-type]
        else:
            reply = chat_completions(messages, connect(**settings))
        return reply.choices[0].message.content or ""


def what_leads_to_another_server(question: Question, model: ChatModel) -> str:
    """Change one thing at a time, and see which server replies."""
    return the_one(question, lambda text: _replies_after(text.partition(",")[0]) == "two")


def requests_of_a_grid(question: Question, model: ChatModel) -> int:
    """Walk the grid of the question, and count the requests that a model gets."""
    prompts, temperatures, seeds = (int(number) for number in re.findall(r"\b([1-9]) ", question.text))
    scripted = ScriptedModel("A")
    for prompt, heat, seed in product(range(prompts), range(1, temperatures + 1), range(seeds)):
        chat_completions([user(f"{prompt}")], scripted, temperature=heat / 2, seed=seed, max_completion_tokens=1)
    return len(scripted.prompts)


@cache
def _order_of_steps() -> tuple[str, ...]:
    """Try the steps of a turn in every order, on a chat that is too long: one works."""
    question = user("And what is my name?" + " Please." * 6)
    right = []
    for order in permutations(("question joins", "left out", "is sent", "reply joins")):
        scripted = ScriptedModel("Ana.", context_length=256)
        history = [user("x" * 120), assistant("y" * 20), user("z" * 20), assistant("Yes.")]
        listed: list[Message] = history
        reply = None
        try:
            for step in order:
                if step == "question joins":
                    history = [*history, question]
                    listed = [*listed, question]
                elif step == "left out":
                    listed = list(fit(history, reserve=20, model=scripted))
                elif step == "is sent":
                    reply = chat_completions(listed, scripted, max_completion_tokens=20).choices[0].message.content
                else:
                    history = [*history, assistant(reply)]  # type: ignore[arg-type]
        except BadRequestError:  # too long, or no reply yet
            continue
        asked = bool(scripted.prompts) and "what is my name?" in scripted.prompts[-1]
        if asked and [each["content"] for each in history[-2:]] == [question["content"], "Ana."]:
            right.append(order)
    [only] = right
    return only


def steps_of_a_turn(question: Question, model: ChatModel) -> list[str]:
    """Put the letters in the order of the steps that worked."""
    return [the_one(question, lambda text, step=step: step in text) for step in _order_of_steps()]  # type: ignore[misc]


def price_of_the_requests(question: Question, model: ChatModel) -> float:
    """Give the counts and prices of the question to `chatlab.cost`."""
    prompt, completion, per_prompt, per_completion, requests = (
        int(number) for number in re.findall(r"\d+", question.text)
    )
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return round(requests * cost(usage, Prices(prompt=per_prompt, completion=per_completion)).total, 6)


@cache
def _asks_the_model(strategy: str) -> bool:
    """Say whether a way to fit a history lets the model read anything."""
    scripted = ScriptedModel("The user is Ana.")
    history = [user("I am Ana. " * 60), assistant("Hello!"), user("Fine."), assistant("Yes."), user("Who am I?")]
    keep_last = 2 if strategy == "keep-last" else None
    fitted = fit(history, 640, reserve=20, strategy=strategy, keep_last=keep_last, model=scripted)
    assert fitted.dropped
    return bool(scripted.prompts)


def the_way_that_asks_the_model(question: Question, model: ChatModel) -> str:
    """Fit a history in each way, and see which of them asks the model."""
    ways = {"dropping": "drop-oldest", "keeping": "keep-last", "summary": "summarise"}
    asking = [words for words, strategy in ways.items() if _asks_the_model(strategy)] or ["none"]
    return the_one(question, lambda text: any(words in text for words in asking))


@cache
def _after_a_timeout() -> dict[str, bool]:
    """Let a client give up on a slow reply; return what is true of it, in the words of the choices."""
    slow = ScriptedModel("x" * 200, seconds_per_token=0.02)
    text, failed, status = "", "", None
    with serve(slow) as server:
        try:
            remote = connect(server.url, model="scripted", timeout=0.2, max_retries=0)
            text = chat_completions([user("Hi")], remote).choices[0].message.content or ""
        except APITimeoutError as error:
            failed, status = type(error).__name__, getattr(error, "status_code", None)
        made = 0
        for _ in range(100):  # until the server is quiet
            before, made = made, len(slow.prompts[0]) if slow.prompts else 0
            if made and made == before:
                break
            time.sleep(0.06)
    whole = slow.prompts[0].count("x") >= 200
    return {
        "text made so far": bool(text),
        "to its end": whole,
        "answers 400": status == 400,
        "gets an error, and the server stops": bool(failed) and not whole,
    }


def what_a_timeout_does(question: Question, model: ChatModel) -> str:
    """Measure it, and find the choice that says so."""
    return the_one(question, lambda text: any(true and words in text for words, true in _after_a_timeout().items()))


def mended_support_request(messages: Any) -> str | None:
    """Look for what must and must not be read, then ask lint about the order."""
    if fault_of(messages) is not None:
        return "model-knows-the-shop"
    read = " ".join(message["content"] for message in messages)
    if "sk-tea-4711" in read:
        return "secrets-may-be-sent"
    if not all(words in read for words in ("Fern of the tea shop", "Parcels take 3 days", "How long does a parcel")):
        return "model-knows-the-shop"
    return "system-goes-last" if lint(messages) else None


def header_of_a_busy_server(fact: Fact, model: ChatModel) -> str:
    """Keep a server with one place busy, ask it something else, and read the headers."""
    slow = ScriptedModel("x" * 200, seconds_per_token=0.02)
    with serve(slow, settings=ServerSettings(side_by_side=1, queue_length=0)) as server:
        client = server.client().with_options(max_retries=0)
        asked = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
        with client.chat.completions.create(**asked, stream=True) as busy:  # type: ignore[call-overload]
            next(iter(busy))
            try:
                client.chat.completions.create(**asked)  # type: ignore[call-overload]
            except openai.RateLimitError as error:
                [name] = [name for name in error.response.headers if "retry" in name]
                return str(name.title())
    return "nothing"


def end_of_the_base_url(fact: Fact, model: ChatModel) -> str:
    """Compare what a client is given with the server's own address."""
    with serve(ScriptedModel("Hi")) as server:
        return server.base_url.removeprefix(server.url)
