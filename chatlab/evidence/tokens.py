"""Evidence on the topic tokens: every count is made by the engine.

In: a question or a fact, and a model. Out: the answer that the engine gives to it; for a request or a function that a
learner wrote, the name of the misconception in it, or None if it is right. Knows nothing of the author's key.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any

from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.evidence.common import fault_of, refusal_of, the_claim, what_the_code_prints
from chatlab.messages import assistant, system, user, validate
from chatlab.model import resolve
from chatlab.prices import Prices, cost
from chatlab.questions.given import NotAnAnswer
from chatlab.questions.question import Fact, Question
from chatlab.templating import render
from chatlab.testing import ScriptedModel
from chatlab.tokens import count_tokens, decode, encode, tokenize, tokens_per_message

__all__ = [
    "context_of_the_model",
    "cost_of_the_requests",
    "counts_and_usage",
    "fewest_tokens_first",
    "fitting_is_told",
    "form_of_a_text",
    "frame_of_a_user_message",
    "growth_by_a_message",
    "room_for_the_reply",
    "saved_tokens",
    "single_tokens",
    "tokens_of_a_reply",
    "tokens_of_a_year",
    "tokens_of_the_text",
    "what_the_code_prints",
    "where_the_tokens_come_from",
    "who_wrote_the_rest",
    "why_two_counts_differ",
]

RUSSIAN = "Привет, как дела?"


def _quoted(question: Question | Fact) -> str:
    """Return what stands in the question as code."""
    [text] = re.findall("`(.+?)`", question.text if isinstance(question, Question) else question.front)
    return str(text)


def _limit_in(question: Question, words: str) -> int:
    """Return the number that stands in the question's text in place of the N of these words."""
    [number] = re.findall(words.replace("N", "([0-9,]+)"), question.text)
    return int(number.replace(",", ""))


def form_of_a_text(question: Question, model: ChatModel) -> str:
    """Encode the text, and compare its parts with its letters and its words."""
    text = _quoted(question)
    ids = encode(text, model=model)
    assert decode(ids, model=model) == text
    claims = {
        "letters": len(ids) == len(text),
        "words": len(ids) == len(text.split()),
        "numbers": all(type(each) is int for each in ids),
    }
    return the_claim(question, claims)


def single_tokens(question: Question, model: ChatModel) -> list[str]:
    """Count the tokens of each choice."""
    return [
        choice.letter for choice in question.choices if count_tokens(ast.literal_eval(choice.text), model=model) == 1
    ]


def tokens_of_the_text(question: Question, model: ChatModel) -> int:
    """Count the text that stands in the question."""
    quoted = re.findall("`(.+?)`", question.text)
    return count_tokens(quoted[0], model=model)


def counts_and_usage(question: Question, model: ChatModel) -> list[str]:
    """Count two lists, send them, and see which claim holds for both."""
    true: Counter[str] = Counter()
    lists = [[user("Hello!")], [system("Be brief."), user("Hi"), assistant("Hello! 🎉"), user("2024?")]]
    for messages in lists:
        usage = chat_completions(messages, model, temperature=0, max_completion_tokens=3).usage
        assert usage is not None
        count = count_tokens(messages, model=model)
        true["equals prompt_tokens"] += count == usage.prompt_tokens
        true["equals total_tokens"] += count == usage.total_tokens
        true["only near prompt_tokens"] += count != usage.prompt_tokens
        true["prompt_tokens and completion_tokens together"] += (
            usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        )
    holds = [words for words, times in true.items() if times == len(lists)]
    return [choice.letter for choice in question.choices if any(words in choice.text for words in holds)]


def fewest_tokens_first(question: Question, model: ChatModel) -> list[str]:
    """Sort the choices by their counts, which all differ."""
    counts = {choice.letter: count_tokens(choice.text, model=model) for choice in question.choices}
    assert len(set(counts.values())) == len(counts)
    return sorted(counts, key=counts.__getitem__)


def where_the_tokens_come_from(question: Question, model: ChatModel) -> str:
    """Sort the tokens of the prompt by who wrote them, and see which part is more than half of the rest."""
    text = _quoted(question)
    prompt = render([user(text)], model=model)
    written = count_tokens(text, model=model)
    rest = count_tokens(prompt, model=model) - written
    injected = sum(
        count_tokens(str(prompt[span.start : span.end]), model=model)
        for span in prompt.spans
        if span.kind == "injected"
    )
    parts = {
        "the reply": count_tokens(str(prompt).rpartition("assistant\n")[2], model=model),
        "system message": injected,
        "the role of": count_tokens("user", model=model),
        "second reading": written * (str(prompt).count(text) - 1),
    }
    return the_claim(question, {words: 2 * tokens > rest for words, tokens in parts.items()})


def growth_by_a_message(question: Question, model: ChatModel) -> int:
    """Add messages of so many tokens to several lists: the growth is always the same."""
    size = _limit_in(question, "text has N tokens")
    growths = set()
    for before in ([system("Be brief.")], [system(""), user("Hi"), assistant("Hello!")]):
        for word in (" tea", " cat"):
            text = "a" + word * (size - 1)
            assert count_tokens(text, model=model) == size
            growths.add(count_tokens([*before, user(text)], model=model) - count_tokens(before, model=model))
    [growth] = growths
    return growth


def why_two_counts_differ(question: Question, model: ChatModel) -> str:
    """Count and decode such a sentence with both vocabularies."""
    own, other = tokenize(RUSSIAN, model=model), tokenize(RUSSIAN, encoding="cl100k_base")
    assert {len(own), len(other)} == {_limit_in(question, "is N tokens"), _limit_in(question, "and N in")}
    whole = [b"".join(token.bytes or b"" for token in table.tokens) == RUSSIAN.encode() for table in (own, other)]
    claims = {
        "leaves something out": not all(whole),
        "counts is wrong": not all(whole),
        "different vocabularies": all(whole) and own.ids != other.ids and own.encoding != other.encoding,
        "is a letter": len(own) == len(RUSSIAN),
    }
    return the_claim(question, claims)


def saved_tokens(messages: Any) -> str | None:
    """Count the prompt of the mended list, after seeing that the user's message is what it was."""
    error = fault_of(messages)
    if error is not None:
        raise NotAnAnswer(f"The engine refuses this list. {error}")
    checked = validate(messages)
    if [message for message in checked if message["role"] == "user"] != [user("Hello!")]:
        return "words-can-be-cut"
    if count_tokens(checked) <= 20:
        return None
    injected = any(span.kind == "injected" for span in render(checked).spans)
    return "more-messages-more-tokens" if injected else "any-system-message-is-cheap"


def _of_so_many_tokens(size: int, model: ChatModel) -> list[dict[str, Any]]:
    """Return messages whose prompt has just that many tokens."""
    least = count_tokens([system(""), user("a")], model=model)
    messages = [system(""), user("a" + " tea" * (size - least))]
    assert count_tokens(messages, model=model) == size
    return messages


def room_for_the_reply(question: Question, model: ChatModel) -> int:
    """Make a prompt of that size, and find the longest reply that the engine accepts."""
    assert model.context_length == _limit_in(question, "can hold N tokens")
    messages = _of_so_many_tokens(_limit_in(question, "prompt has N"), model)
    replies = range(1, model.context_length + 1)
    return bisect_left(replies, True, key=lambda reply: refusal_of(messages, model, reply=reply) is not None)


def cost_of_the_requests(question: Question, model: ChatModel) -> float:
    """Let the engine price all requests together."""
    prices = Prices(prompt=_limit_in(question, "asks for N dollars"), completion=_limit_in(question, "and N per"))
    requests = _limit_in(question, "do N requests")
    usage = {
        "prompt_tokens": requests * _limit_in(question, "prompt of N tokens"),
        "completion_tokens": requests * _limit_in(question, "reply of N[.]"),
    }
    total = cost(usage, prices).total
    return int(total) if total == int(total) else total


def fitting_is_told(function: Callable[..., Any]) -> str | None:
    """Ask about lists around each limit, and compare with what the engine accepts."""
    long = [system("Be brief."), user("unbelievably 1234567 🎉")]
    tokens = count_tokens(long)
    words = sum(len(message["content"].split()) for message in long)
    texts = sum(count_tokens(message["content"]) for message in long)
    cases = [  # the limit, the room for the reply, who is wrong there
        (words + 1, 1, "token-is-a-word"),
        (texts + 1, 1, "text-is-all-there-is"),
        (tokens + 9, 10, "limit-is-for-the-prompt"),
        (tokens + 10, 10, "exactly-full-is-too-much"),
        (tokens + 11, 10, "exactly-full-is-too-much"),
    ]
    for limit, reply, name in cases:
        accepted = refusal_of(long, resolve(None).with_context_length(limit), reply=reply) is None
        if bool(function(list(long), limit, reply)) != accepted:
            return name
    return None


def frame_of_a_user_message(fact: Fact, model: ChatModel) -> str:
    """Count a user message, and its text alone."""
    [_, count] = tokens_per_message([system("Be brief."), user("Hello!")], model=model)
    return str(count - count_tokens("Hello!", model=model))


def who_wrote_the_rest(fact: Fact, model: ChatModel) -> str:
    """Look for the part of the prompt that nobody sent."""
    prompt = str(render([user("Hello!")], model=model))
    role = prompt.removeprefix("<|im_start|>").partition("\n")[0]
    return f"the template's own {role} message" if role != "user" else "the user's"


def context_of_the_model(fact: Fact, model: ChatModel) -> str:
    """Send one token too many, and read the error."""
    error = refusal_of([user("a" + " tea" * 9000)], model)
    [number] = re.findall(r"can hold (\d+) tokens", str(error))
    return str(number)


def tokens_of_a_year(fact: Fact, model: ChatModel) -> str:
    """Count them."""
    return str(count_tokens("2024", model=model))


def tokens_of_a_reply(fact: Fact, model: ChatModel) -> str:
    """Let a scripted model say a text of so many tokens, and read the usage."""
    [size] = re.findall(r"text of (\d+) tokens", fact.front)
    response = chat_completions([user("Hi")], ScriptedModel("x" * int(size)), temperature=0)
    assert response.usage is not None and response.choices[0].finish_reason == "stop"
    return str(response.usage.completion_tokens)
