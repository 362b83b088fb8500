"""A room of learners at one server: what each gets, whether all get the same, and what a budget does.

`python tests/benchmarks/room.py` serves the real model over HTTP to thirty learners for two minutes, each with a key
and the official client. Three of them ask by four hands each, three for longer replies, the others for short ones by
one hand; one has a small budget, and asks by four hands, so that some get a 429. Every reply is compared with what the
model says to someone who is alone. Printed: the share of each, and Jain's fairness index (1: all the same, 1/n: one has
everything) of the tokens of work that each key got while all asked, but for the one with the small budget. It fails
where somebody got nothing or another's reply, or the small budget did not hold.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import openai

import chatlab
from chatlab.llama_model import LlamaModel
from chatlab.server import ServerSettings, serve
from chatlab.server.api_keys import KeyFile

PLACES = ["France", "Japan", "Italy"]
TOKENS, MANY_TOKENS = 8, 24
GREEDY, WORDY, HANDS = 3, 3, 4
SMALL_BUDGET = 2  # requests a minute, fewer than hands


@dataclass
class Learner:
    """One learner: a name, a key, and what came of asking."""

    name: str
    key: str
    replies: int = 0
    work: int = 0  # tokens read and made for the replies that came while all asked
    refused: int = 0
    texts: list[tuple[str, str | None]] = field(default_factory=list)  # the place asked about, and the reply
    mixed_up: list[tuple[str, str | None, str | None]] = field(default_factory=list)  # with the reply to one alone
    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Outcome:
    """What came of it: the learners, how long they asked, and the server's own table."""

    learners: Sequence[Learner]
    seconds: float
    table: dict[str, dict[str, str]]

    def kind(self, kind: str) -> list[Learner]:
        return [learner for learner in self.learners if learner.name.startswith(kind)]

    @property
    def fairness(self) -> float:
        """Jain's index of the work done for each key that has no budget."""
        return jain([learner.work for learner in self.learners if learner.name != "thrifty"])

    def check(self) -> None:
        """Raise `AssertionError` where somebody got nothing or another's reply, or the small budget did not hold."""
        assert all(learner.replies for learner in self.learners), "somebody was starved"
        assert not any(learner.mixed_up or learner.errors for learner in self.learners)
        [thrifty] = self.kind("thrifty")
        assert thrifty.replies <= SMALL_BUDGET * (1 + self.seconds // 60), "more than the budget"
        assert thrifty.refused, "no 429 past the budget"
        assert not any(learner.refused for learner in self.learners if learner is not thrifty)
        for learner in self.learners:
            assert int(self.table[learner.name]["requests"]) == learner.replies

    def __str__(self) -> str:
        lines = [f"{len(self.learners)} learners, {self.seconds:.0f} s"]
        for kind in ("learner", "wordy", "greedy", "thrifty"):
            group = self.kind(kind)
            counts, work = [learner.replies for learner in group], [learner.work for learner in group]
            seconds = sorted(second for learner in group for second in learner.seconds) or [0.0]
            lines.append(
                f"{kind:8} {len(group):3}: {sum(counts):5} replies, each {min(counts)} to {max(counts)}, "
                f"{min(work)} to {max(work)} tokens of work; seconds a "
                f"reply: median {statistics.median(seconds):.1f}, longest {seconds[-1]:.1f}; "
                f"{sum(learner.refused for learner in group)} refused (429)"
            )
        mixed_up = [(learner.name, *each) for learner in self.learners for each in learner.mixed_up]
        tokens = sum(int(row["completion_tokens"]) for row in self.table.values())
        lines += [
            f"Jain's fairness index of the work for each key without a budget: {self.fairness:.3f}",
            f"replies that differ from the one to someone who is alone: {len(mixed_up)}",
            *(f"  {name} on {place}: {text!r}, alone {alone!r}" for name, place, text, alone in mixed_up),
            f"errors besides 429: {sum((learner.errors for learner in self.learners), Counter()) or 'none'}",
            f"tokens made: {tokens}, {tokens / self.seconds:.0f} a second",
        ]
        return "\n".join(lines)


def jain(shares: Sequence[float]) -> float:
    """Return Jain's fairness index: the square of the sum over n times the sum of squares."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares) or 1)


def question(name: str, place: str) -> list[dict[str, str]]:
    """Return messages whose reply shows for whom it is: no two learners ask the same."""
    asked = f"Tell me about {place}." if name.startswith("wordy") else f"What is the capital of {place}?"
    return [chatlab.system(f"You are a helpful assistant. The user is {name}."), chatlab.user(asked)]


def longest(name: str) -> int:
    """Return how many tokens the replies to a learner may have."""
    return MANY_TOKENS if name.startswith("wordy") else TOKENS


def alone_reply(model: LlamaModel, name: str, place: str) -> str | None:
    """Return what the model says to someone when nobody else asks."""
    reply = chatlab.chat_completions(question(name, place), model, temperature=0, max_completion_tokens=longest(name))
    return reply.choices[0].message.content


def run_room(model: LlamaModel, *, learners: int, seconds: float) -> Outcome:
    """Let the learners ask for so long, and return what came of it.

    The number of threads is fixed meanwhile: a sum in another order differs in its last bit, and a close choice then.
    """
    usual, model.threads.number = model.threads.number, model.threads.cores
    try:
        return _run(model, learners, seconds)
    finally:
        model.threads.number = usual


def _run(model: LlamaModel, learners: int, seconds: float) -> Outcome:
    names = [f"greedy {number}" for number in range(GREEDY)]
    names += [f"wordy {number}" for number in range(WORDY)]
    names += ["thrifty", *(f"learner {number}" for number in range(learners - GREEDY - WORDY - 1))]
    with tempfile.TemporaryDirectory() as folder:
        keys = KeyFile(Path(folder) / "api-keys.yaml")
        room = [Learner(name, keys.add(name)) for name in names]
        teacher = keys.add("teacher", teacher=True)
        keys.set_limits({"requests_per_minute": None, "tokens_per_minute": None, "tokens_per_day": None})
        keys.set_limits({"requests_per_minute": SMALL_BUDGET}, "thrifty")
        with serve(model, settings=ServerSettings(key_file=keys.path)) as server:
            started = time.monotonic()
            until = started + seconds

            def ask(learner: Learner, hand: int) -> None:
                dice = random.Random(f"{learner.name} {hand}")
                with server.client().with_options(api_key=learner.key, max_retries=0, timeout=300) as client:
                    while time.monotonic() < until:
                        work = _ask_once(client, model.name, learner, dice.choice(PLACES), stream=dice.random() < 0.5)
                        if time.monotonic() < until:
                            learner.work += work

            several = ("greedy", "thrifty")
            hands = [(each, hand) for each in room for hand in range(HANDS if each.name.startswith(several) else 1)]
            random.Random(0).shuffle(hands)  # who asks first has a place at once
            threads = [threading.Thread(target=ask, args=each) for each in hands]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            elapsed = time.monotonic() - started
            time.sleep(1)  # a reply is written into the table when it has been sent
            headers = {"Authorization": f"Bearer {teacher}"}
            table = httpx2.get(f"{server.url}/room/usage.csv", headers=headers, trust_env=False, timeout=60).text
    for learner in room:
        alone = {place: alone_reply(model, learner.name, place) for place in {place for place, _ in learner.texts}}
        learner.mixed_up = [(place, text, alone[place]) for place, text in learner.texts if text != alone[place]]
    return Outcome(room, elapsed, {row["name"]: row for row in csv.DictReader(table.splitlines())})


def _ask_once(client: openai.OpenAI, model: str, learner: Learner, place: str, *, stream: bool) -> int:
    """Ask, note what came of it, and return the tokens of work that it took."""
    started = time.monotonic()
    request = {
        "model": model,
        "messages": question(learner.name, place),
        "temperature": 0,
        "max_completion_tokens": longest(learner.name),
    }
    try:
        if stream:
            usage = {"include_usage": True}
            chunks = list(client.chat.completions.create(**request, stream=True, stream_options=usage))
            text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
            used = chunks[-1].usage
        else:
            response = client.chat.completions.create(**request)
            text, used = response.choices[0].message.content, response.usage
    except openai.RateLimitError as error:
        learner.refused += 1
        wait = int(error.response.headers["retry-after"])  # a refusal without it would end this thread, loudly
        assert 1 <= wait <= 60 and "Try again in" in error.message
        time.sleep(min(wait, 2))
    except openai.APIError as error:
        learner.errors[repr(error)] += 1
    else:
        learner.replies += 1
        learner.seconds.append(time.monotonic() - started)
        learner.texts.append((place, text))
        return used.total_tokens - used.prompt_tokens_details.cached_tokens
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    outcome = run_room(chatlab.load(), learners=options.learners, seconds=options.seconds)
    print(outcome)
    outcome.check()
