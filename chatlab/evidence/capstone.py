"""Evidence on the topic capstone: what a tutor of one's own may rely on, tried out.

In: a question or a fact, and a model. Out: the answer that the engine gives to it; for a request or a function that a
learner wrote, the name of the misconception in it, or None if it is right. Knows nothing of the author's key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from openai.types.chat import ChatCompletionChunk

from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.context import fit
from chatlab.conversation import Conversation
from chatlab.evidence.common import fault_of, the_one, what_the_code_prints
from chatlab.linting import lint
from chatlab.messages import Message, assistant, system, user
from chatlab.questions.question import Fact, Question
from chatlab.server.running import serve
from chatlab.testing import ScriptedModel
from chatlab.tokens import count_tokens

__all__ = [
    "choices_beside_usage",
    "chunks_in_order",
    "history_after_a_stop",
    "mended_truncation",
    "never_over_budget",
    "reason_in_words",
    "reason_of_a_cut_reply",
    "the_rule_that_never_overspends",
    "tokens_of_three_turns",
    "what_always_stays",
    "what_limits_a_reply",
    "what_the_code_prints",
    "where_the_name_is",
    "who_sends_the_history",
]


@cache
def _places_of_the_name(model: ChatModel) -> dict[str, bool]:
    """Tell a model on a server a name, then look for it in what is read for the next question, place by place."""
    scripted = ScriptedModel("Hello!")
    chat = Conversation(system="You are a tutor.", model=scripted)
    chat("I am Ana.")
    with serve(scripted) as server:
        client = server.client().chat.completions
        client.create(model="scripted", messages=[{"role": "user", "content": "I am Ana."}])
        client.create(model="scripted", messages=[{"role": "user", "content": "Who am I?"}])
    on_the_server = "Ana" in scripted.prompts[-1]
    for said in ("I am Ana.", "Who am I?"):
        afterwards = chat_completions([user(said)], model, temperature=0, max_completion_tokens=12)
    chat("Who am I?")
    return {
        "weights": "Ana" in (afterwards.choices[0].message.content or ""),
        "server": on_the_server,
        "list of messages": "Ana" in scripted.prompts[-1],
        "system message": "Ana" in (chat.system or ""),
    }


def where_the_name_is(question: Question, model: ChatModel) -> str:
    """Find the one place that holds the name."""
    return the_one(
        question, lambda text: any(held and place in text for place, held in _places_of_the_name(model).items())
    )


def who_sends_the_history(fact: Fact, model: ChatModel) -> str:
    """Return who brings the name back: the program's list, and nothing else."""
    [place] = [place for place, held in _places_of_the_name(model).items() if held]
    return {"list of messages": "your program", "server": "the server", "weights": "the model"}[place]


LIMIT = 12


@cache
def _tokens_used(model: ChatModel) -> dict[str, int]:
    """Ask the real model in each of the ways, and return how long its replies are."""
    asked = user("What is the ocean? Tell me all about it.")
    earlier = [user("Hi"), assistant("Hello! How can I help you?")]

    def used(instructions: str, history: list[Message], *, longest: int = 20, temperature: float = 1) -> int:
        messages = [system(instructions), *history, asked]
        reply = chat_completions(messages, model, max_completion_tokens=longest, temperature=temperature, seed=1)
        assert reply.usage is not None
        return reply.usage.completion_tokens

    plain = "You are a helpful assistant."
    return {
        "a system message": used(f"Reply in at most {LIMIT} tokens.", earlier),
        "max_completion_tokens": used(plain, earlier, longest=LIMIT),
        "temperature": used(plain, earlier, temperature=0),
        "sending only": used(plain, []),
    }


def what_limits_a_reply(question: Question, model: ChatModel) -> str:
    """Find the way in which no reply is longer than the limit."""
    used = _tokens_used(model)
    return the_one(question, lambda text: any(text.startswith(way) and used[way] <= LIMIT for way in used))


@cache
def _streamed() -> list[ChatCompletionChunk]:
    options = {"include_usage": True}
    return list(chat_completions([user("Hi")], ScriptedModel("Hello!"), stream=True, stream_options=options))


def chunks_in_order(question: Question, model: ChatModel) -> list[str]:
    """Stream a reply, and name each chunk by what it brings."""

    def brings(chunk: ChatCompletionChunk) -> str:
        if not chunk.choices:
            return "counts"
        choice = chunk.choices[0]
        return "finish_reason" if choice.finish_reason else "role" if choice.delta.role else "text"

    order = list(dict.fromkeys(map(brings, _streamed())))
    return [the_one(question, lambda text, word=word: word in text) for word in order]  # type: ignore[misc]


def choices_beside_usage(fact: Fact, model: ChatModel) -> str:
    """Count the choices of the chunk that has the usage."""
    [chunk] = [chunk for chunk in _streamed() if chunk.usage is not None]
    return str(len(chunk.choices))


@cache
def _kept() -> dict[str, bool]:
    """Fit a chat into every limit there is: what is there each time?"""
    scripted = ScriptedModel("")
    messages = [system("Be kind."), user("First?"), assistant("One."), user("Second?"), assistant("Two."), user("Now?")]
    names = ["the system", "the first question", "reply to the first", "", "", "asked now"]
    least = count_tokens([messages[0], messages[-1]], model=scripted)
    fitted = [fit(messages, limit, model=scripted) for limit in range(least, least + 100)]
    return {
        name: all(message in each for each in fitted) for name, message in zip(names, messages, strict=True) if name
    }


def what_always_stays(question: Question, model: ChatModel) -> list[str]:
    """Choose the messages that no limit drops."""
    return sorted(
        the_one(question, lambda text, name=name: name in text)  # type: ignore[misc]
        for name, kept in _kept().items()
        if kept
    )


def tokens_of_three_turns(question: Question, model: ChatModel) -> int:
    """Have a chat with just these counts, and add up what the engine reports."""
    first, more, reply = (int(number) for number in re.findall(r"\d+", question.text))
    frame = count_tokens([user("")], model=model_of_bytes())
    scripted = ScriptedModel("x" * (reply - 1))  # the end of the reply is a token as well
    chat = Conversation(model=scripted)
    added = count_tokens([user(""), assistant("x" * (reply - 1)), user("")], model=scripted) - frame
    usages = [chat("q" * (first - frame)).usage, *(chat("q" * (more - added)).usage for _ in range(2))]
    counts = [(usage.prompt_tokens, usage.completion_tokens) for usage in usages if usage is not None]
    assert counts == [(first + more * turn, reply) for turn in range(3)]
    return sum(map(sum, counts))


@cache
def model_of_bytes() -> ScriptedModel:
    """Return a model whose tokens are bytes, so that counts can be chosen."""
    return ScriptedModel("")


@cache
def _reason() -> str:
    reply = chat_completions([user("Hi")], ScriptedModel("A long sentence."), max_completion_tokens=4)
    return reply.choices[0].finish_reason


def reason_of_a_cut_reply(question: Question, model: ChatModel) -> str:
    """Cut a reply, and read the reason."""
    return the_one(question, lambda text: text == _reason())


def reason_in_words(fact: Fact, model: ChatModel) -> str:
    """Cut a reply, and read the reason."""
    return _reason()


@cache
def _after_a_stop() -> dict[str, bool]:
    chat = Conversation(model=ScriptedModel("Hello there!"))
    for number, _ in enumerate(chat("Hi", stream=True)):
        if number == 3:
            chat.stop()
    roles = [message["role"] for message in chat.messages]
    said = str(chat.messages[-1]["content"]) if chat.messages else ""
    return {
        "the question, and": roles == ["user", "assistant"] and 0 < len(said) < len("Hello there!"),
        "the question alone": roles == ["user"],
        "neither": not roles,
        "complete reply": said == "Hello there!",
    }


def history_after_a_stop(question: Question, model: ChatModel) -> str:
    """Stop a stream, and look into the history."""
    return the_one(question, lambda text: any(true and words in text for words, true in _after_a_stop().items()))


@cache
def _most_overspent(rule: str) -> int:
    """Return by how many tokens a tutor with this rule exceeds its budget, in the worst of many budgets."""
    longest, worst = 12, -1
    for budget in range(60, 300, 20):
        chat, spent = Conversation(model=ScriptedModel("x" * 40), max_completion_tokens=longest), 0
        for _ in range(6):
            prompt = count_tokens([*chat.messages, user("Why?")], model=model_of_bytes())
            ahead = {"spent so far": 1, "always": -spent, "the new prompt": prompt, "longest reply": prompt + longest}
            if spent + ahead[rule] > budget:
                break
            usage = chat("Why?").usage
            assert usage is not None
            spent += usage.total_tokens
            if rule == "always" and spent > budget:
                break
        worst = max(worst, spent - budget)
    return worst


def the_rule_that_never_overspends(question: Question, model: ChatModel) -> str:
    """Let a tutor live by each rule, with many budgets; one rule keeps to all of them."""
    rules = {"spent so far": "so far", "always": "always", "the new prompt": "prompt stay", "longest reply": "longest"}
    safe = [words for rule, words in rules.items() if _most_overspent(rule) <= 0]
    return the_one(question, lambda text: any(words in text for words in safe))


def mended_truncation(messages: Any) -> str | None:
    """Let the engine accept the list and lint have nothing to say, then see that what was wanted is still there."""
    question, kept = user("Give me three of them."), [user("What is a verb?"), assistant("A verb names an action.")]
    if fault_of(messages) is not None or question not in messages or any(each not in messages for each in kept):
        return "drop-the-question"
    if assistant("A noun names a thing.") in messages:
        return "replies-outlive-questions"
    wanted = [system("You are a patient tutor."), *kept, question]
    return None if list(messages) == wanted and not lint(messages) else "system-goes-last"


def never_over_budget(function: Callable[..., Any]) -> str | None:
    """Count a real request and its longest reply, and ask the function about budgets around the sum."""
    reply = chat_completions([user("Why?")], ScriptedModel("x" * 40), max_completion_tokens=12)
    assert reply.usage is not None and reply.choices[0].finish_reason == "length"
    counted = (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens)
    for place, name in enumerate(("prompt-is-free", "reply-needs-no-room", "budget-starts-anew")):
        numbers = [10 * count if each == place else count for each, count in enumerate(counted)]
        if function(*numbers, sum(numbers) - numbers[place] // 2):  # only without the large one would it be enough
            return name
    return None if function(*counted, sum(counted)) else "to-the-last-but-one"
