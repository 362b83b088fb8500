"""Evidence on the topic endpoint: each answer comes from the engine, not from the author.

In: a question or a fact, and a model. Out: the answer that the engine gives to it; for a request or a function that a
learner wrote, the name of the misconception in it, or None if it is right. Knows nothing of the author's key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise, permutations
from typing import Any
from unittest import mock

from openai.types.chat import ChatCompletion

from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.conversation import Conversation
from chatlab.errors import ChatlabError
from chatlab.evidence.common import fault_of, the_claim, the_one, what_the_code_prints
from chatlab.messages import assistant, system, user
from chatlab.prediction import next_token
from chatlab.questions.question import Fact, Question
from chatlab.templating import render
from chatlab.testing import ScriptedModel
from chatlab.tokens import count_tokens

__all__ = [
    "count_of_the_request",
    "dog_is_in_the_request",
    "how_the_prompt_grows",
    "messages_that_return",
    "order_of_a_turn",
    "path_that_works",
    "path_to_the_text",
    "reason_of_a_cut",
    "reason_of_an_end",
    "setting_that_varies",
    "tokens_of_the_completion",
    "what_comes_back_at_half",
    "what_is_in_the_response",
    "what_the_code_prints",
    "what_the_endpoint_does",
    "where_the_friend_breaks",
    "whole_is_found",
]

CAPITAL = [system("You are a helpful assistant."), user("What is the capital of France?")]
DOG = [user("I have a dog called Rex."), assistant("Rex is a fine name!"), user("What is the name of my dog?")]


def _ask(model: ChatModel, limit: int = 20) -> ChatCompletion:
    return chat_completions(CAPITAL, model, temperature=0, max_completion_tokens=limit)


def what_the_endpoint_does(question: Question, model: ChatModel) -> str:
    """Call it: look at what it returns, at the model's numbers, at the next call, and at the network."""
    with mock.patch("socket.socket.connect", side_effect=OSError("no network")) as connect:
        numbers = [each.clone() for each in list(model.network.parameters())[:3]]  # type: ignore[attr-defined]
        response = _ask(model)
        after = list(model.network.parameters())[:3]  # type: ignore[attr-defined]
    scripted = ScriptedModel("Yes.")
    for message in ("First.", "Second."):
        chat_completions([user(message)], scripted)
    claims = {
        "train": any(bool((a != b).any()) for a, b in zip(numbers, after, strict=True)),
        "by one message": [choice.message.role for choice in response.choices] == ["assistant"],
        "store": "First." in scripted.prompts[1],
        "search the web": connect.called,
    }
    return the_claim(question, claims)


def what_comes_back_at_half(question: Question, model: ChatModel) -> str:
    """Send that message four times at that temperature, and compare roles and texts."""
    [asked] = re.findall(r"\*(.+?)\*", question.text)
    [temperature] = re.findall(r"temperature=([\d.]+)", question.text)
    response = chat_completions(
        [user(asked)], model, temperature=float(temperature), n=4, seed=1, max_completion_tokens=3
    )
    [role] = {choice.message.role for choice in response.choices}
    texts = {choice.message.content for choice in response.choices}
    says = {
        "your question": texts == {asked},
        "the same at each call": len(texts) == 1,
        "may differ": len(texts) > 1,
        "a report": any("request" in (text or "") for text in texts),
    }
    return the_one(
        question, lambda text: f"`{role}`" in text and any(true and words in text for words, true in says.items())
    )


def _at(response: ChatCompletion, path: str) -> Any:
    try:
        return eval(path, {"response": response})
    except AttributeError:
        return None


def path_to_the_text(question: Question, model: ChatModel) -> str:
    """Follow each path in a response, and see which leads to the text."""
    response = chat_completions([user("Hi")], ScriptedModel("Hello!"))
    return the_one(question, lambda text: bool(_at(response, text.strip("`")) == "Hello!"))


def where_the_friend_breaks(question: Question, model: ChatModel) -> str:
    """Make two calls, and look at what is read for the second one."""
    scripted = ScriptedModel("Yes.")
    chat_completions(DOG[:1], scripted)
    unasked = len(scripted.prompts)  # read after one request, with no other request made
    chat_completions(DOG, scripted)
    chat_completions(DOG[2:], scripted)
    whole, alone = scripted.prompts[1:]
    reads_all = all(message["content"] in whole for message in DOG)
    forgets = "Rex" not in alone
    claims = {
        "told it again": forgets and reads_all,
        "only the last line": not reads_all,
        "may write first": unasked != 1,
        "remembers everything": not forgets,
    }
    return the_claim(question, claims)


def what_is_in_the_response(question: Question, model: ChatModel) -> list[str]:
    """Look for each thing in a response of the real model."""
    response = _ask(model)
    held = response.model_dump()
    there = {
        "`id`": bool(held.get("id")),
        "messages that you sent": CAPITAL[1]["content"] in str(held),
        "`usage`": bool(held["usage"]["total_tokens"]),
        "`temperature`": "temperature" in held,
        "`finish_reason`": all(choice["finish_reason"] for choice in held["choices"]),
    }
    held_there = [words for words, true in there.items() if true]
    return [choice.letter for choice in question.choices if any(words in choice.text for words in held_there)]


def setting_that_varies(question: Question, model: ChatModel) -> str:
    """Make each change, starting from temperature 0.3, and see whether it leaves the reply more ways to go."""
    asked = [CAPITAL[0], user("Name an animal.")]

    def texts(**settings: Any) -> list[str]:
        response = chat_completions(asked, model, seed=1, **settings)
        return [choice.message.content or "" for choice in response.choices]

    def ways(temperature: float) -> float:
        prompt = render(asked, model=model)
        return next_token(prompt, model=model, temperature=temperature).stages[-1].effective_choices

    [short], [longer] = (texts(temperature=0.3, max_completion_tokens=limit) for limit in (3, 6))
    claims = {
        "`max_completion_tokens`, up": not longer.startswith(short),
        "down to 0": ways(0) > ways(0.3),
        "`n`, up": len(set(texts(temperature=0, n=3, max_completion_tokens=3))) > 1,
        "`temperature`, up": ways(1.5) > ways(0.3),
    }
    return the_claim(question, claims)


def order_of_a_turn(question: Question, model: ChatModel) -> list[str]:
    """Run each order as a program for two turns, and see which one sends the conversation so far, whole."""
    names = {choice.text.partition(":")[0]: choice.letter for choice in question.choices}
    right = [order for order in permutations(names) if _sent_by(order) == _sent_in_a_chat()]
    [only] = right
    return [names[name] for name in only]


@cache
def _sent_in_a_chat() -> list[str]:
    scripted = ScriptedModel("One.", "Two.")
    conversation = Conversation(model=scripted)
    conversation("First?")
    conversation("Second?")
    assert [message["content"] for message in conversation.messages] == ["First?", "One.", "Second?", "Two."]
    return scripted.prompts


@cache
def _sent_by(order: tuple[str, ...]) -> list[str] | None:
    """Return what the model reads when a program takes the steps in this order; None where a step cannot be taken."""
    scripted = ScriptedModel("One.", "Two.")
    messages: list[dict[str, Any]] = []
    for asked in ("First?", "Second?"):
        response: Any = None
        reply: Any = None
        for name in order:
            try:
                if name == "ask":
                    messages.append(user(asked))
                elif name == "send":
                    response = chat_completions(messages, scripted)
                elif name == "read":
                    reply = response.choices[0].message
                else:
                    messages.append(assistant(reply.content))
            except (AttributeError, ChatlabError):  # there is nothing to read, to keep or to send yet
                return None
    return scripted.prompts


def tokens_of_the_completion(question: Question, model: ChatModel) -> int:
    """Ask for the capital, and read the count; the text and the prompt are as the question says."""
    response = _ask(model)
    text, usage = response.choices[0].message.content or "", response.usage
    assert usage is not None and f"*{text}*" in question.text and response.choices[0].finish_reason == "stop"
    assert f"{count_tokens(text, model=model)} tokens" in question.text
    assert f"{usage.prompt_tokens} tokens" in question.text
    return usage.completion_tokens


def how_the_prompt_grows(question: Question, model: ChatModel) -> str:
    """Have such a chat, and compare the counts."""
    messages, counts = [], []
    for _ in range(5):
        messages.append(CAPITAL[1])
        counts.append(count_tokens(messages, model=model))
        messages.append(assistant("The capital of France is Paris."))
    steps = [after - before for before, after in pairwise(counts)]
    claims = {
        "stays the same": set(steps) == {0},
        "shrinks": min(steps) < 0,
        "same amount": min(steps) > 0 and max(steps) - min(steps) <= 1,
        "doubles": all(after >= 1.9 * before for before, after in pairwise(counts)),
    }
    return the_claim(question, claims)


def dog_is_in_the_request(messages: Any) -> str | None:
    """Let the engine accept the list, then look for the three lines in the prompt."""
    assert fault_of(messages) is None, "a request that is refused"
    prompt = str(render(messages, model=ScriptedModel("Yes.")))
    if "Rex" not in prompt:
        return "asking-to-remember-is-enough"
    if DOG[1]["content"] not in prompt:
        return "replies-are-not-sent"
    return None if prompt == str(render(DOG, model=ScriptedModel("Yes."))) else "new-goes-first"


def whole_is_found(function: Callable[[Any], Any]) -> str | None:
    """Call the function on responses that the engine made, one for each way to get it wrong."""
    whole = _cut_after(None)
    full_stop, middle = _cut_after(len("Well.")), _cut_after(len("We"))
    assert (whole.choices[0].finish_reason, middle.choices[0].finish_reason) == ("stop", "length")
    assert full_stop.choices[0].message.content == "Well."
    both = whole.model_copy(update={"choices": [whole.choices[0], middle.choices[0].model_copy(update={"index": 1})]})
    said = "".join("ny"[bool(function(response))] for response in (whole, full_stop, middle, both))
    return {
        "ynnn": None,
        "nynn": "full-stop-means-whole",
        "ynny": "first-choice-is-all",
        "yyyy": "present-means-whole",
    }.get(said, "stop-means-cut")


def _cut_after(limit: int | None) -> ChatCompletion:
    """Return a response that is cut after so many letters, or not at all."""
    model = ScriptedModel("Well. Then we went home!")  # whose tokens are letters
    return chat_completions([user("Hi")], model, temperature=0, max_completion_tokens=limit)


def messages_that_return(fact: Fact, model: ChatModel) -> str:
    """Ask, and count."""
    count = len(_ask(model, limit=1).choices)
    return {1: "one message"}[count]


def reason_of_a_cut(fact: Fact, model: ChatModel) -> str:
    """Cut a reply, and read its finish reason."""
    return _ask(model, limit=2).choices[0].finish_reason


def reason_of_an_end(fact: Fact, model: ChatModel) -> str:
    """Let a reply end, and read its finish reason."""
    response = _ask(model)
    assert response.usage is not None and response.usage.completion_tokens < 20
    return response.choices[0].finish_reason


def count_of_the_request(fact: Fact, model: ChatModel) -> str:
    """Find the count that is the rendered prompt's."""
    usage = _ask(model).usage
    assert usage is not None
    wanted = count_tokens(render(CAPITAL, model=model), model=model)
    [name] = [name for name, count in usage.model_dump().items() if count == wanted]
    return str(name)


def path_that_works(fact: Fact, model: ChatModel) -> str:
    """Look through a response for the text, and note the way."""
    response = chat_completions([user("Hi")], ScriptedModel("Hello!"))
    [path] = _ways_to("Hello!", response.model_dump(), "response")
    return path


def _ways_to(wanted: str, value: Any, way: str) -> Iterator[str]:
    """Yield the way to each place where a value stands, in lists and dicts; a field of a dict after a point."""
    if value == wanted:
        yield way
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _ways_to(wanted, inner, f"{way}.{name}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _ways_to(wanted, inner, f"{way}[{place}]")
