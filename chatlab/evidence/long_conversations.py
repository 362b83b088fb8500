"""Evidence on the topic long-conversations: limits are reached, turns go, and the engine says what is left.

In: a question or a fact, and a model. Out: the answer that the engine gives to it; for a request or a function that a
learner wrote, the name of the misconception in it, or None if it is right. Knows nothing of the author's key.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.context import STRATEGIES, Fitted, fit
from chatlab.conversation import Conversation
from chatlab.errors import BadRequestError
from chatlab.evidence.common import fault_of, refusal_of, the_claim, what_the_code_prints
from chatlab.linting import lint
from chatlab.messages import Message, assistant, system, user, validate
from chatlab.questions.given import NotAnAnswer
from chatlab.questions.question import Fact, Question
from chatlab.summaries import summarise
from chatlab.templating import render
from chatlab.testing import ScriptedModel
from chatlab.tokens import count_tokens

__all__ = [
    "code_of_an_overflow",
    "longest_prompt",
    "mended_history",
    "messages_sent_by_keep_last",
    "prompt_tokens_of_a_chat",
    "reason_of_a_full_window",
    "requests_for_a_summary",
    "roles_that_stay",
    "the_name_after_dropping",
    "turns_are_kept",
    "what_a_full_window_does",
    "what_always_stays",
    "what_an_overflow_does",
    "what_has_to_fit",
    "what_is_left_of_the_name",
    "what_is_sent_with_a_summary",
    "what_is_true_of_summaries",
    "what_the_code_prints",
]

NAME = "Ana"
QUESTION = user("What is my name?")
CHAT: list[Message] = [
    system("Be brief."),
    user("My name is Ana."),
    assistant("Hello, Ana!"),
    user("How hot should the oven be for a lemon cake?"),
    assistant("Heat it to 180 degrees, and wait until it is warm."),
    QUESTION,
]
SHORT = [system("Be brief."), user("Hi")]


def _numbers(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"[0-9][0-9,]*", text)]


def what_has_to_fit(question: Question, model: ChatModel) -> str:
    """Send requests against a small limit, one for each claim."""
    limit = count_tokens(SHORT, model=model) + 4
    small = model.with_context_length(limit)
    for _ in range(3):  # together far more than the limit
        chat_completions(SHORT, small, temperature=0, max_completion_tokens=1)
    long = [system("Be brief."), user("Hi " * limit)]
    together = refusal_of(SHORT, small, reply=4) is None and refusal_of(SHORT, small, reply=5) is not None
    claims = {
        "requests of one chat": 3 * limit <= limit + 4,  # for the three that have just been answered
        "one request and its reply": together,
        "newest message": refusal_of([*long, assistant("Yes."), user("Hi")], small) is None,
        "number of messages": refusal_of(long, small) is None,
    }
    return the_claim(question, claims)


def what_an_overflow_does(question: Question, model: ChatModel) -> str:
    """Send one request that is too long, and look at what comes, and at what the model has read."""
    scripted = ScriptedModel("Hello!", context_length=60)
    messages, error = [*CHAT], None
    try:
        chat_completions(messages, scripted)
    except BadRequestError as caught:
        error = caught
    claims = {
        "leaves out the oldest": messages != CHAT or (error is None and NAME not in scripted.prompts[0]),
        "as much as fits": bool(scripted.prompts),
        "shorter reply": error is None,
        "status 400": error is not None and error.status_code == 400,
    }
    return the_claim(question, claims)


def _tight(strategy: str, model: ChatModel) -> Fitted:
    """Fit the chat into the least room in which the strategy still does it."""
    limit = count_tokens([CHAT[0], CHAT[-1]], model=model)
    return fit(CHAT, limit, strategy=strategy, keep_last=1 if strategy == "keep-last" else None, model=model)


def what_always_stays(question: Question, model: ChatModel) -> list[str]:
    """Fit a chat as tightly as can be with every strategy, and see which messages are there each time."""
    marked = {
        "first user message": CHAT[1],
        "system message": CHAT[0],
        "last user message": CHAT[-1],
        "longest message": max(CHAT, key=lambda message: len(message["content"])),
    }
    kept = [_tight(strategy, model) for strategy in STRATEGIES]
    stays = [words for words, message in marked.items() if all(message in each for each in kept)]
    return [choice.letter for choice in question.choices if any(words in choice.text for words in stays)]


def the_name_after_dropping(question: Question, model: ChatModel) -> str:
    """Drop the first turn of a chat, ask the model, and look at the prompt and the reply."""
    fitted = fit(CHAT, count_tokens(CHAT, model=model) - 1, model=model)
    prompt = str(render(fitted, model=model))
    accepted = refusal_of(fitted, model) is None
    reply = chat_completions(fitted, model, temperature=0, max_completion_tokens=12).choices[0].message.content or ""
    claims = {
        "still knows": NAME in reply,
        "reports": not accepted,
        "looks the name up": NAME in prompt,
        "is not in the prompt": accepted and NAME not in prompt,
    }
    return the_claim(question, claims)


def _chat_of(turns: int) -> list[Message]:
    """Return a chat of so many turns with replies, and a new question."""
    said = [message for n in range(turns) for message in (user(f"Question {n}?"), assistant(f"Answer {n}."))]
    return [system("Be brief."), *said, QUESTION]


def messages_sent_by_keep_last(question: Question, model: ChatModel) -> int:
    """Fit such a chat."""
    turns, keep_last = _numbers(question.text)
    return len(fit(_chat_of(turns), strategy="keep-last", keep_last=keep_last, model=model))


def what_is_sent_with_a_summary(question: Question, model: ChatModel) -> list[str]:
    """Let a scripted model summarise, and find the choices in what is sent."""
    scripted = ScriptedModel("The user is Ana.")
    limit = count_tokens(CHAT, model=scripted) - 1
    fitted = fit(CHAT, limit, strategy="summarise", model=scripted)
    sent = [f"{message['role']}: {message['content']}" for message in fitted]
    places = {
        choice.letter: [n for n, text in enumerate(sent) if text.startswith(choice.text.rstrip(" …"))]
        for choice in question.choices
    }
    assert all(len(found) == 1 for found in places.values()), sent
    return sorted(places, key=lambda letter: places[letter])


def longest_prompt(question: Question, model: ChatModel) -> int:
    """Find the longest prompt that the engine accepts with room for such a reply."""
    limit, reply = _numbers(question.text)
    assert limit == model.context_length
    least = count_tokens([system(""), user("a")], model=model)

    def is_refused(size: int) -> bool:
        messages = [system(""), user("a" + " tea" * (size - least))]
        return refusal_of(messages, model, reply=reply) is not None

    return least + bisect_left(range(least, 2 * limit), True, key=is_refused) - 1


def _in_a_full_window(model: ChatModel, room: int) -> tuple[str, int]:
    """Ask where there is room for so many tokens; return the finish reason and the length of the reply."""
    messages = [system("You are a helpful assistant."), user("Tell me a story about the sea.")]
    small = model.with_context_length(count_tokens(messages, model=model) + room)
    response = chat_completions(messages, small, temperature=0)
    assert response.usage is not None
    return response.choices[0].finish_reason, response.usage.completion_tokens


def what_a_full_window_does(question: Question, model: ChatModel) -> str:
    """Ask in such a window, and look at how the reply ends."""
    reason, length = _in_a_full_window(model, 4)
    claims = {
        "is refused": length == 0,
        '"stop"': (reason, length) == ("stop", 4),
        '"length"': (reason, length) == ("length", 4),
        "oldest turn goes": length > 4,
    }
    return the_claim(question, claims)


def prompt_tokens_of_a_chat(question: Question, model: ChatModel) -> int:
    """Have such a chat with a scripted model, for which a byte is a token, and add up the usage."""
    first, growth, requests = _numbers(question.text)
    scripted = ScriptedModel("")
    empty = count_tokens([user("")], model=scripted)
    said = user("a" * (first - empty))
    turn = count_tokens([said, assistant(""), said], model=scripted) - count_tokens([said], model=scripted)
    chat = Conversation(model=ScriptedModel("b" * (growth - turn)), temperature=0)
    prompts = [chat(said["content"]).usage for _ in range(requests)]
    counts = [usage.prompt_tokens for usage in prompts if usage is not None]
    assert counts[:2] == [first, first + growth]
    return sum(counts)


@lru_cache(maxsize=1)
def _summaries(model: ChatModel) -> list[str]:
    """Return the summaries of the first turn of the chat and of all its turns, as `chatlab.fit` would make them."""
    return [summarise(CHAT[1:end], max_completion_tokens=24, model=model).text.lower() for end in (3, 5)]


def what_is_true_of_summaries(question: Question, model: ChatModel) -> list[str]:
    """Summarise a chat, and compare the summaries with what was said."""
    said = " ".join(message["content"] for message in CHAT).lower()
    words = set(re.findall(r"[a-z]+", " ".join(_summaries(model)))) - {"the", "user", "is", "has", "who", "and"}
    complete = all(fact in _summaries(model)[1] for fact in ("ana", *re.findall(r"\d+", said)))
    claims = {
        "one more request": _continued("summarise")[0] == _continued("drop-oldest")[0] + 1,
        "leave out": not complete,
        "nobody said": any(word not in said for word in words),
        "keeps all": complete,
        "deletes": _continued("summarise")[1][: len(CHAT)] != CHAT,
    }
    return [choice.letter for choice in question.choices if any(t and w in choice.text for w, t in claims.items())]


def mended_history(messages: Any) -> str | None:
    """See what of the request is left, in its own order and words, and count it."""
    error = fault_of(messages)
    if error is not None:
        raise NotAnAnswer(f"The engine refuses this list. {error}")
    checked = validate(messages)
    if [message for message in CHAT if message in checked] != checked:
        return "history-can-be-reworded"
    if CHAT[0] not in checked:
        return "system-message-can-go"
    if lint(checked):
        return "half-a-turn-can-go"
    if CHAT[1] not in checked or CHAT[-1] not in checked:
        return "oldest-matters-least"
    return "half-a-turn-can-go" if count_tokens(checked) > 60 else None  # nothing went at all


def turns_are_kept(function: Callable[..., Any]) -> str | None:
    """Compare with what `chatlab.fit` keeps of several chats."""
    chat, model = _chat_of(4), ScriptedModel("")
    for number in (1, 3, 9):
        for messages in (chat, chat[1:]):
            kept = function([dict(message) for message in messages], number) or []
            wanted = list(fit(messages, strategy="keep-last", keep_last=number, model=model))
            if kept == wanted:
                continue
            if messages is chat and chat[0] not in kept:
                return "system-message-can-go"
            return "messages-are-turns" if len(kept) < len(wanted) else "question-is-no-turn"
    return None


def code_of_an_overflow(fact: Fact, model: ChatModel) -> str:
    """Send too much, and read the error."""
    error = refusal_of(CHAT, model.with_context_length(10))
    return f"{error.code}, with status {error.status_code}" if error else "none"


def reason_of_a_full_window(fact: Fact, model: ChatModel) -> str:
    """Ask where there is little room."""
    return _in_a_full_window(model, 3)[0]


def roles_that_stay(fact: Fact, model: ChatModel) -> str:
    """Fit as tightly as can be."""
    first, last = _tight("drop-oldest", model)
    return f"the {first['role']} message and the last {last['role']} message"


def requests_for_a_summary(fact: Fact, model: ChatModel) -> str:
    """Count how often the model is asked, with a summary and without."""
    more = _continued("summarise")[0] - _continued("drop-oldest")[0]
    return "one more request" if more == 1 else f"{more} more requests"


def _continued(strategy: str) -> tuple[int, list[Message]]:
    """Go on with a chat that is too long; return how many prompts are read for the reply, and the history then."""
    scripted = ScriptedModel("Ana.")
    limit = count_tokens(CHAT, model=scripted)
    chat = Conversation(CHAT[:-1], model=scripted, token_limit=limit, strategy=strategy, max_completion_tokens=8)
    chat(QUESTION["content"])
    return len(scripted.prompts), chat.messages


def what_is_left_of_the_name(fact: Fact, model: ChatModel) -> str:
    """Drop the turn, and look for the name in the prompt."""
    return "the name" if NAME in str(render(_tight("drop-oldest", model), model=model)) else "nothing"
