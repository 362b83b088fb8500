"""Evidence on the topic start: each answer comes from the engine, not from the author.

In: a question or a fact, and a model. Out: the answer that the engine gives to it; for a request or a function that a
learner wrote, the name of the misconception in it, or None if it is right. Knows nothing of the author's key.
"""

from __future__ import annotations

import importlib
import re
import socket
import tempfile
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from typer.testing import CliRunner

from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.evidence.common import fault_of, the_claim, the_one, what_the_code_prints
from chatlab.generation import generate
from chatlab.linting import lint
from chatlab.messages import system, user
from chatlab.progress import FIELDS, Progress
from chatlab.questions.question import Fact, Question, Topic
from chatlab.questions.quizzes import Quiz
from chatlab.templating import Prompt, render
from chatlab.tokens import encode

__all__ = [
    "command_that_shows",
    "different_replies",
    "first_list",
    "how_a_reply_arrives",
    "name_of_the_pieces",
    "order_of_the_rooms",
    "setting_that_repeats",
    "stream_is_joined",
    "the_date_it_names",
    "what_comes_back",
    "what_comes_out",
    "what_is_recorded",
    "what_streaming_changes",
    "what_the_code_prints",
    "where_the_reply_is_computed",
    "which_answer_counts",
]

CAPITAL = [system("You are a helpful assistant."), user("What is the capital of France?")]


def _text(messages: list[dict[str, Any]], model: ChatModel, limit: int = 20) -> str:
    response = chat_completions(messages, model, temperature=0, max_completion_tokens=limit)
    return response.choices[0].message.content or ""


def _pieces(model: ChatModel, limit: int = 20) -> list[str | None]:
    stream = chat_completions(CAPITAL, model, temperature=0, max_completion_tokens=limit, stream=True)
    return [chunk.choices[0].delta.content for chunk in stream]


def what_comes_back(question: Question, model: ChatModel) -> str:
    """Ask, and look at the messages that were sent, at the response, and at the model's numbers before and after."""
    numbers = [each.clone() for each in list(model.network.parameters())[:3]]  # type: ignore[attr-defined]
    sent = [dict(message) for message in CAPITAL]
    response = chat_completions(sent, model, temperature=0, max_completion_tokens=3)
    after = list(model.network.parameters())[:3]  # type: ignore[attr-defined]
    return the_claim(
        question,
        {
            "gaps": sent != CAPITAL,
            "kept for later": any(CAPITAL[1]["content"] in str(each) for each in response.choices),
            "one more message": len(response.choices) == 1 and response.choices[0].message.role == "assistant",
            "learned from your messages": any(bool((a != b).any()) for a, b in zip(numbers, after, strict=True)),
        },
    )


def where_the_reply_is_computed(question: Question, model: ChatModel) -> str:
    """Cut every way to another machine, and ask: where the reply still comes, this process makes it."""
    refuse = mock.Mock(side_effect=OSError("no network"))
    with mock.patch.object(socket.socket, "connect", refuse), mock.patch.object(socket, "create_connection", refuse):
        alone = bool(_text(CAPITAL, model, limit=3))
    claims = {"on a server": not alone, "Python process": alone, "the browser": refuse.called}
    return the_claim(question, claims)


def how_a_reply_arrives(question: Question, model: ChatModel) -> str:
    """Stream it, and compare the pieces with the words and the letters."""
    pieces = [piece for piece in _pieces(model) if piece]
    text = "".join(pieces)
    words = re.findall(r" ?\w+|[^\w ]", text)
    claims = {
        "token by token": pieces == words and 1 < len(pieces) < len(text),
        "letter by letter": len(pieces) == len(text),
        "one piece": len(pieces) == 1,
    }
    return the_claim(question, claims)


def the_date_it_names(question: Question, model: ChatModel) -> str:
    """Ask for the date, and look for any date and for today's in the reply."""
    asked = [user(re.findall(r"\*(.+?)\*", question.text)[0])]
    refused = fault_of(asked) is not None
    reply = "" if refused else _text(asked, model)
    today = date.today()
    right = all(str(part) in reply for part in (today.year, today.day))
    named = re.search(r"\d{4}|\d+(st|nd|rd|th)|[A-Z][a-z]+ \d+", reply) is not None
    claims = {
        "today's date": right,
        "cannot know": not named and re.search(r"\b(not|cannot|can't|unable)\b", reply) is not None,
        "an error": refused,
        "made up": named and not right,
    }
    return the_claim(question, claims)


def different_replies(question: Question, model: ChatModel) -> int:
    """Send the same request three times, and count the texts."""
    return len({_text(CAPITAL, model) for _ in range(3)})


def order_of_the_rooms(question: Question, model: ChatModel) -> list[str]:
    """Go the way, and note each thing as it comes into being."""
    return [the_one(question, lambda text, name=name: text.startswith(f"{name}:")) for name in _way(model)]  # type: ignore[misc]


@cache
def _way(model: ChatModel) -> list[str]:
    """Make each thing from the one before with the engine's own functions; return their names in this order."""
    made: dict[str, Any] = {"messages": CAPITAL}
    made["prompt"] = render(made["messages"], model=model)
    made["tokens"] = encode(made["prompt"], model=model)
    steps = generate(made["prompt"], model=model, temperature=0, max_completion_tokens=20)
    made["next token"] = next(steps)
    made["reply"] = made["next token"].text + "".join(step.text for step in steps)
    assert isinstance(made["prompt"], Prompt) and all(isinstance(each, int) for each in made["tokens"])
    assert made["reply"] == _text(CAPITAL, model)
    return list(made)


def _answered(*given: str) -> tuple[Topic, Progress, tempfile.TemporaryDirectory[str]]:
    """Return progress in a folder of its own, with these answers to the first question of this topic."""
    from chatlab.questions.question_files import topic_of

    folder = tempfile.TemporaryDirectory()
    progress = Progress(Path(folder.name))
    topic = topic_of("start")
    quiz = Quiz(topic, progress=progress)
    for letter in given:
        quiz.check(letter)
    return topic, progress, folder


def _wrong_and_right() -> tuple[str, str]:
    from chatlab.questions.question_files import topic_of

    first = topic_of("start").questions[0]
    wrong = next(choice.letter for choice in first.choices if choice.misconception)
    return wrong, next(choice.letter for choice in first.choices if not choice.misconception)


def what_is_recorded(question: Question, model: ChatModel) -> list[str]:
    """Answer wrongly, say something to the model, and read all that was written."""
    wrong, _ = _wrong_and_right()
    topic, progress, folder = _answered(wrong)
    before = progress.path.read_bytes()
    _text([user("My name is Zebedee.")], model, limit=1)
    written = progress.path.read_text(encoding="utf-8")
    changed = progress.path.read_bytes() != before
    [answer] = progress.answers
    folder.cleanup()
    recorded = {
        "was right": answer["correct"] is False,
        "say to the model": changed or "Zebedee" in written,
        "belief": answer["misconception"] in topic.misconceptions,
        "your name": any(name in FIELDS for name in ("name", "learner", "user")),
    }
    return [
        choice.letter
        for choice in question.choices
        if any(true for words, true in recorded.items() if words in choice.text)
    ]


def which_answer_counts(question: Question, model: ChatModel) -> str:
    """Answer wrongly, then rightly, and the other way round, and read the score."""
    wrong, right = _wrong_and_right()
    scores = []
    for given in ((wrong, right), (right, wrong)):
        _, progress, folder = _answered(*given)
        scores.append(progress.summary().topics[0].right)
        folder.cleanup()
    claims = {
        "first answer": scores == [0, 1],
        "last answer": scores == [1, 0],
        "half right": scores[0] not in (0, 1),
        "deleted": scores == [0, 0],
    }
    return the_claim(question, claims)


def what_streaming_changes(question: Question, model: ChatModel) -> str:
    """Ask in both ways, counting the passes through the model."""
    counts, texts = [], []
    for stream in (True, False):
        calls = mock.Mock(side_effect=model.next_token_logits)
        with mock.patch.object(model, "next_token_logits", calls):
            if stream:
                texts.append("".join(piece or "" for piece in _pieces(model)))
            else:
                texts.append(_text(CAPITAL, model))
        counts.append(calls.call_count)
    same = texts[0] == texts[1]
    claims = {
        "more tokens": len(texts[0]) > len(texts[1]),
        "fewer tokens": len(texts[0]) < len(texts[1]),
        "Nothing in the reply": same and counts[0] == counts[1],
        "less work": counts[0] < counts[1],
    }
    return the_claim(question, claims)


def first_list(messages: Any) -> str | None:
    """Let the engine accept the list, see that it holds both texts, and let lint find nothing."""
    if fault_of(messages) is not None:
        return "roles-are-names"
    if {message["content"] for message in messages} != {"You are a cheerful gardener.", "What is a tree?"}:
        return "instructions-are-optional-words"
    return "order-is-a-matter-of-taste" if lint(messages) or messages != _gardener() else None


def _gardener() -> list[dict[str, Any]]:
    return [system("You are a cheerful gardener."), user("What is a tree?")]


def stream_is_joined(function: Callable[[Any], Any]) -> str | None:
    """Give it the contents of a stream that the engine made, once with the last one left out."""
    from chatlab.testing import ScriptedModel

    stream = chat_completions([user("Hi")], ScriptedModel("Ay ay!"), temperature=0, stream=True)
    pieces = [chunk.choices[0].delta.content for chunk in stream]
    assert pieces[-1] is None and len(pieces) > 3
    try:
        text = function(pieces)
    except TypeError:
        return "every-piece-is-a-text"
    if text == "Ay ay!":
        return None
    return "last-piece-is-all" if text == pieces[-2] else "pieces-are-words"


def what_comes_out(fact: Fact, model: ChatModel) -> str:
    """Ask, and look at the role."""
    response = chat_completions(CAPITAL, model, max_completion_tokens=1)
    assert len(response.choices) == 1
    return f"from the {response.choices[0].message.role}"


def name_of_the_pieces(fact: Fact, model: ChatModel) -> str:
    """See that each piece of the stream is one token, as usage counts them."""
    pieces = [piece for piece in _pieces(model) if piece]
    usage = chat_completions(CAPITAL, model, temperature=0, max_completion_tokens=20).usage
    assert usage is not None and usage.completion_tokens == len(pieces) + 1  # the one that ends the reply has no text
    return "tokens" if all(len(encode(piece, model=model)) == 1 for piece in pieces) else "pieces"


def setting_that_repeats(fact: Fact, model: ChatModel) -> str:
    """Find the temperature at which several replies are one."""
    asked = [CAPITAL[0], user("Name an animal.")]
    repeats = []
    for temperature in (0, 1.5):
        choices = chat_completions(asked, model, temperature=temperature, n=4, seed=1, max_completion_tokens=3).choices
        if len({choice.message.content for choice in choices}) == 1:
            repeats.append(f"temperature={temperature}")
    [only] = repeats
    return only


def command_that_shows(fact: Fact, model: ChatModel) -> str:
    """Answer one question, and run the command."""
    wrong, _ = _wrong_and_right()
    _, _, folder = _answered(wrong)
    app = importlib.import_module("chatlab.cli").app  # by its name: the command line comes after all else
    with mock.patch.dict("os.environ", {"CHATLAB_HOME": folder.name}):
        said = {name: CliRunner().invoke(app, [name], input="q\n").output for name in ("progress", "review", "models")}
    folder.cleanup()
    [only] = [name for name, output in said.items() if "Next:" in output]
    return f"chatlab {only}"
