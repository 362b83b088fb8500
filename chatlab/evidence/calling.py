"""Evidence on the topic calling: each answer comes from a server or the engine, not from the author.

In: a question or a fact, and a model. Out: the answer that a server gives to it; for a request or a function that a
learner wrote, the name of the misconception in it, or None if it is right. Knows nothing of the author's key.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import httpx2

from chatlab.chat_model import ChatModel
from chatlab.conversation import Conversation
from chatlab.errors import RequestError
from chatlab.evidence.common import fault_of, the_one, what_the_code_prints
from chatlab.messages import Message, assistant, system, user, validate
from chatlab.parameters import split_body
from chatlab.questions.question import Fact, Question
from chatlab.server.running import serve
from chatlab.templating import render
from chatlab.testing import ScriptedModel

__all__ = [
    "answer_to_an_unknown_model",
    "bodies_that_are_accepted",
    "body_is_right",
    "fields_that_must_be_there",
    "growth_of_the_prompt",
    "header_for_the_key",
    "lists_with_the_name",
    "mended_history",
    "messages_in_three_requests",
    "method_and_path",
    "methods_that_are_answered",
    "order_of_the_second_request",
    "ways_to_send_the_key",
    "what_differs_between_two_responses",
    "what_is_kept",
    "what_the_code_prints",
    "what_the_second_person_gets",
]

NAME = "SmolLM2-135M-Instruct"
KEY = "my-key"
PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Sent:
    """What is sent to a server."""

    body: str
    method: str = "POST"
    path: str = PATH
    headers: tuple[tuple[str, str], ...] = (("Authorization", f"Bearer {KEY}"),)


@dataclass(frozen=True)
class Answer:
    """What a server answered: the status, and the object in the body."""

    status: int
    body: Mapping[str, Any]


def exchange(model: ChatModel, *requests: Sent) -> list[Answer]:
    """Return the answers of a server that wants a key to one request after another."""
    with serve(model, api_key=KEY) as server, httpx2.Client(base_url=server.url, trust_env=False) as client:
        responses = [
            client.request(sent.method, sent.path, content=sent.body, headers=dict(sent.headers)) for sent in requests
        ]
    return [Answer(response.status_code, response.json()) for response in responses]


@cache
def answer_to(sent: Sent) -> Answer:
    """Return the answer to a request; the same one is sent only once."""
    [answer] = exchange(ScriptedModel("Hello!", name=NAME), sent)
    return answer


def body_with(*messages: Message) -> str:
    """Return the body of a request."""
    return json.dumps({"model": NAME, "messages": messages, "temperature": 0})


BODY = body_with(user("Hi"))


def methods_that_are_answered(question: Question, model: ChatModel) -> str:
    """Try each method on the server."""
    return the_one(question, lambda text: answer_to(Sent(BODY, text)).status == 200)


def bodies_that_are_accepted(question: Question, model: ChatModel) -> str:
    """Send each body."""
    return the_one(question, lambda text: answer_to(Sent(text)).status == 200)


def answer_to_an_unknown_model(question: Question, model: ChatModel) -> str:
    """Ask for a model that is not there."""
    answer = answer_to(Sent(BODY.replace(NAME, "gpt-9")))
    if answer.status == 200:
        own_name = answer.body["model"] == NAME
        return the_one(question, lambda text: ("that the server has" if own_name else "is gpt-9") in text)
    return the_one(
        question, lambda text: f"status {answer.status}, with the code {answer.body['error']['code']}" == text
    )


def order_of_the_second_request(question: Question, model: ChatModel) -> list[str]:
    """Have such a chat, and look where each text stands in the prompt of the second request."""
    scripted = ScriptedModel("Nice to meet you, Ana!", "Ana.")
    chat = Conversation(system="Be brief.", model=scripted)
    chat("My name is Ana.")
    chat("What is my name?")
    headed = {choice.letter: "<|im_start|>" + choice.text.replace(": ", "\n", 1) for choice in question.choices}
    return sorted(question.letters, key=lambda letter: scripted.prompts[1].index(headed[letter]))


def ways_to_send_the_key(question: Question, model: ChatModel) -> str:
    """Send the key in each way."""

    def lets_in(text: str) -> bool:
        name, _, value = text.partition('"')[2].rstrip('"').partition(": ")
        if "header" in text:
            return answer_to(Sent(BODY, headers=((name, value),))).status == 200
        body = json.dumps({**json.loads(BODY), **json.loads(text.partition("as ")[2].join("{}"))})
        return answer_to(Sent(body, headers=())).status == 200

    return the_one(question, lets_in)


def lists_with_the_name(question: Question, model: ChatModel) -> list[str]:
    """Make a prompt of each list, and look for the name in it."""
    return [choice.letter for choice in question.choices if "Ana" in render(ast.literal_eval(choice.text), model=model)]


def what_differs_between_two_responses(question: Question, model: ChatModel) -> str:
    """Send the request twice to one server, and compare."""
    first, second = exchange(ScriptedModel("Hello!", name=NAME), Sent(BODY), Sent(BODY))
    looks: dict[str, Callable[[Any], Any]] = {
        "the text of the reply": lambda body: body["choices"][0]["message"]["content"],
        "usage.prompt_tokens": lambda body: body["usage"]["prompt_tokens"],
        "id": lambda body: body["id"],
        "finish_reason": lambda body: body["choices"][0]["finish_reason"],
    }
    return the_one(question, lambda text: looks[text](first.body) != looks[text](second.body))


def mended_history(messages: Any) -> str | None:
    """Look for the name in the list, then for each message in its place."""
    asked, said, replied = user("What is my name?"), user("My name is Ana."), assistant("Nice to meet you, Ana!")
    wanted = [system("Be brief."), said, replied, asked]
    if fault_of(messages) is not None:
        return "reply-copies-role"
    checked = validate(messages)
    texts = [message["content"] for message in checked]
    if "Ana" not in "".join(texts):
        return "asking-makes-it-remember"
    if not set(texts) <= {message["content"] for message in wanted}:
        return "history-can-be-reworded"
    if replied["content"] not in texts:
        return "replies-are-not-sent"
    if texts[-1] != asked["content"]:
        return "question-goes-first"
    return None if checked == wanted else "reply-copies-role"


def messages_in_three_requests(question: Question, model: ChatModel) -> int:
    """Have such a chat, and count the messages of all the prompts."""
    scripted = ScriptedModel("One.", "Two.", "Three.")
    chat = Conversation(model=scripted)
    for number in range(3):
        chat(f"Question {number}?")
    return sum(prompt.count("<|im_start|>") - 1 for prompt in scripted.prompts)  # the last one begins the reply


def what_the_second_person_gets(question: Question, model: ChatModel) -> str:
    """Send two requests with one key ask one server, and read what the model read for the second."""
    scripted = ScriptedModel("Hello!", name=NAME)
    exchange(scripted, Sent(body_with(user("My name is Ana."))), Sent(body_with(user("What is my name?"))))
    known = "Ana's name" if "Ana" in scripted.prompts[1] else "Nobody's name"
    return the_one(question, lambda text: text.startswith(known))


def growth_of_the_prompt(question: Question, model: ChatModel) -> str:
    """Have such a chat of four turns, and compare the counts."""
    chat = Conversation(model=ScriptedModel("Hello!"))
    counts = [response.usage.prompt_tokens for response in (chat("Hi?") for _ in range(4)) if response.usage]
    steps = [after - before for before, after in pairwise(counts)]
    claims = {
        "stays the same": not any(steps),
        "by the same amount": steps[0] > 0 and len(set(steps)) == 1,
        "doubles": all(after == 2 * before for before, after in pairwise(counts)),
        "falls": all(step < 0 for step in steps),
    }
    return the_one(question, lambda text: any(true and words in text for words, true in claims.items()))


def body_is_right(function: Callable[[str, Any], Any]) -> str | None:
    """Read what the function writes as a server does."""
    messages = [system("Be brief."), user("Hi"), assistant("Hello!"), user("It's me.")]
    written = function(NAME, messages)
    try:
        body = json.loads(written)
    except (TypeError, ValueError):
        return "python-is-json"
    try:
        sent, name, options = split_body(body)
    except RequestError:
        return "list-is-the-body" if isinstance(body, list) else "prompt-is-enough"
    if sent != messages:
        return "only-the-last-is-read"
    return None if (name, options) == (NAME, {}) else "prompt-is-enough"


def method_and_path(fact: Fact, model: ChatModel) -> str:
    """Try the methods and some paths: one pair is answered."""
    methods, paths = ("GET", "POST"), ("/v1/completions", PATH)
    [found] = [
        f"{method} {path}" for method in methods for path in paths if answer_to(Sent(BODY, method, path)).status == 200
    ]
    return found


def fields_that_must_be_there(fact: Fact, model: ChatModel) -> str:
    """Leave out each field of a body in turn."""
    whole = json.loads(BODY)
    bodies = {left: json.dumps({key: value for key, value in whole.items() if key != left}) for left in whole}
    return " and ".join(left for left, body in bodies.items() if answer_to(Sent(body)).status == 400)


def header_for_the_key(fact: Fact, model: ChatModel) -> str:
    """Send no key, read the advice in the error, and see that it helps."""
    message = answer_to(Sent(BODY, headers=())).body["error"]["message"]
    [advice] = re.findall("'(.*?)'", message)
    name, _, value = str(advice).partition(": ")
    assert answer_to(Sent(BODY, headers=((name, value.replace("YOUR_KEY", KEY)),))).status == 200
    return str(advice)


def what_is_kept(fact: Fact, model: ChatModel) -> str:
    """Tell a name, ask in a new request, and read what the model read."""
    scripted = ScriptedModel("Hello!")
    for text in ("My name is Ana.", "What is my name?"):
        Conversation(model=scripted)(text)
    return "a name" if "Ana" in scripted.prompts[1] else "nothing"
