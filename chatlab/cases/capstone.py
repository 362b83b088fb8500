"""Cases of the capstone's exercises.

In: nothing. Out: the ways in which each part of the tutor, and the whole of it, is tried. Knows nothing of learners.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from chatlab.errors import RateLimitError
from chatlab.exercises.case import Case, Judge
from chatlab.messages import Message, assistant, system, user
from chatlab.testing import ScriptedModel
from chatlab.tokens import count_tokens

__all__ = ["budget", "remember", "stream_reply", "tutor"]

COUNTER = ScriptedModel("")  # counts in bytes, so that no weights are needed
RULES = "You are a tutor."
SAID = ["Rain falls.", "Yes.", "It is a story in which a good many words are used.", "No.", "A café 🎉!"]


def _count(messages: Sequence[Message]) -> int:
    return count_tokens(messages, model=COUNTER)


# ---- memory ---------------------------------------------------------------------------------------------------------


def remember() -> list[Case]:
    """Return histories of which all, some and only the new question fit, to the very last token."""

    def case(turns: int, dropped: int, shown: str = "", *, spare: int = 0, hidden: bool = False) -> Case:
        messages = [system(RULES)]
        for number in range(turns):
            messages += [user(f"Question {number}?"), assistant(SAID[number % len(SAID)])]
        messages.append(user("And now?"))
        wanted = [messages[0], *messages[1 + 2 * dropped :]]
        room = _count(wanted) + spare
        return Case((messages, room, COUNTER), _remembered(wanted, messages, room), shown, hidden)

    return [
        case(2, 0, "where all fits", spare=9),
        case(4, 2, "where two turns must go", spare=20),  # enough for a reply, too little for its turn
        case(5, 1, hidden=True),
        case(3, 3, hidden=True),
        case(0, 0, hidden=True),
    ]


def _remembered(wanted: list[Message], messages: list[Message], room: int) -> Judge:
    """Return a judge that says which of the messages should be there, and which should not."""

    def judge(found: Any) -> str | None:
        kept = list(found)
        if kept == wanted:
            return None
        if messages[0] not in kept:
            return "the system message is missing"
        if messages[-1] not in kept:
            return "the new question is missing"
        if len(kept) > 1 and kept[1]["role"] == "assistant":
            return "a reply is there, but its question is gone"
        if _count(kept) > room:
            return f"what is returned takes {_count(kept)} tokens, and there is room for {room}"
        if len(kept) < len(wanted):
            return f"{len(kept)} messages are returned, but {len(wanted)} would fit"
        return "the messages are not the newest ones in their old order"

    return judge


# ---- streaming ------------------------------------------------------------------------------------------------------


@dataclass
class _Streamed:
    """What came of a stream: its pieces, what it returned, and what the model had read by the first piece."""

    pieces: list[Any]
    returned: Any
    read_by_then: str


def _drain(stream: Any, model: ScriptedModel) -> _Streamed:
    pieces, read_by_then = [], ""
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return _Streamed(pieces, end.value, read_by_then)
        read_by_then = read_by_then or "".join(model.prompts[-1:])


def _streamed(function: Any, messages: list[Message], model: ScriptedModel, longest: int) -> Any:
    stream = function(messages, model, longest)
    return _drain(stream, model) if isinstance(stream, Generator) else stream


def stream_reply() -> list[Case]:
    """Return replies that are whole, that are cut, and that are not written in ASCII."""

    def case(reply: str, longest: int, said: str, shown: str = "", *, hidden: bool = False) -> Case:
        messages, model = [system(RULES), user("What is rain?")], ScriptedModel(reply)
        counts = (_count(messages), min(len(reply.encode()) + 1, longest))
        return Case((messages, model, longest), _replied(said, counts), shown, hidden, use=_streamed)

    return [
        case("Water that falls.", 40, "Water that falls.", "with a whole reply"),
        case("Water that falls.", 5, "Water", "with a reply that is cut"),
        case("A café 🎉!", 40, "A café 🎉!", hidden=True),
        case("Yes", 1, "Y", hidden=True),
    ]


def _replied(said: str, counts: tuple[int, int]) -> Judge:
    """Return a judge of the pieces, of when they came, and of the text and the usage that were returned."""

    def judge(found: Any) -> str | None:
        if not isinstance(found, _Streamed):
            return f"it should yield the pieces, but returns a {type(found).__name__}. Use yield"
        if fault := _wrong_pieces(found.pieces, said, found.read_by_then):
            return fault
        if not isinstance(found.returned, tuple) or len(found.returned) != 2:
            return f"after the last piece it should return the text and the usage, but it returns {found.returned!r}"
        text, usage = found.returned
        if text != said:
            return f"the text that is returned should be {said!r}, but is {text!r}"
        if usage is None:
            return "the usage is None. Ask for it with stream_options"
        found_counts = (usage.prompt_tokens, usage.completion_tokens)
        return None if found_counts == counts else f"the usage should be {counts}, but is {found_counts}"

    return judge


def _wrong_pieces(pieces: list[Any], said: str, read_by_then: str) -> str | None:
    if not all(isinstance(piece, str) and piece for piece in pieces):
        odd = next(piece for piece in pieces if not isinstance(piece, str) or not piece)
        return f"a piece is {odd!r}; yield only text, and none that is empty"
    if "".join(pieces) != said:
        return f"the pieces add up to {''.join(pieces)!r}, but should be {said!r}"
    if len(said) > 1 and read_by_then.endswith(said):
        return "the first piece comes when the whole reply has been made; yield each as it comes"
    return None


# ---- the budget -----------------------------------------------------------------------------------------------------

Step = tuple[str, int]


def _lived(made: Any, tokens: int, steps: list[Step]) -> Any:
    """Take a budget through the steps; return what was left, and what was raised, after each of them."""
    account = made(tokens)
    if account.left() in (None, ...):
        return None
    found: list[tuple[Any, Exception | None]] = []
    for name, amount in steps:
        raised: Exception | None = None
        try:
            getattr(account, name)(amount)
        except Exception as error:
            raised = error
        found.append((account.left(), raised))
    return found


def budget() -> list[Case]:
    """Return lives of a budget: with enough left, with just enough, with too little, and spent to the last token."""

    def case(tokens: int, steps: list[Step], shown: str = "", *, hidden: bool = False) -> Case:
        return Case((tokens, steps), _kept_to(tokens, steps), shown, hidden, use=_lived)

    return [
        case(100, [("check", 60), ("book", 45)], "with 100 tokens, of which 45 are used"),
        case(100, [("book", 60), ("check", 41)], "with 40 of 100 tokens left"),
        case(100, [("book", 60), ("check", 40)], "with 40 of 100 tokens left"),
        case(300, [("book", 120), ("check", 200), ("book", 130), ("check", 50), ("check", 51)], hidden=True),
        case(80, [("book", 80), ("check", 1)], hidden=True),
    ]


def _kept_to(tokens: int, steps: list[Step]) -> Judge:
    """Return a judge that keeps the same account."""

    def judge(found: Any) -> str | None:
        left = tokens
        for (name, amount), (found_left, raised) in zip(steps, found, strict=True):
            call = f"{name}({amount})"
            if name == "check" and amount > left:
                if fault := _unclear(raised, amount, left):
                    return f"{call} {fault}"
            elif raised is not None:
                return f"{call} with {left} left should raise nothing, but raises {type(raised).__name__}: {raised}"
            left -= amount if name == "book" else 0
            if found_left != left:
                return f"after {call} there should be {left} left, but there are {found_left}"
        return None

    return judge


def _unclear(raised: Exception | None, most: int | None, left: int) -> str | None:
    """Return what is wrong with a refusal: whether there is none, what class it has, and which numbers it names."""
    if raised is None:
        return f"with {left} left should raise chatlab.RateLimitError, but raises nothing"
    if not isinstance(raised, RateLimitError):
        return f"should raise chatlab.RateLimitError, but raises {type(raised).__name__}: {raised}"
    for number, meaning in ((most, "the tokens it may need"), (left, "the tokens that are left")):
        if number is not None and str(number) not in str(raised):
            return f"raises {str(raised)!r}, which does not name {number}, {meaning}"
    return None


# ---- the tutor ------------------------------------------------------------------------------------------------------


@dataclass
class _Asked:
    """What came of one question to a tutor: the pieces, what was raised, what was read, and what is left."""

    pieces: list[Any]
    raised: Exception | None
    read: list[str]
    read_by_then: str
    left: Any


def _talked(made: Any, model: ScriptedModel, room: int, longest: int, tokens: int, questions: list[str]) -> Any:
    """Put questions to a tutor, one after another; return what came of each."""
    tutor = made(RULES, model, room, longest, tokens)
    found = []
    for question in questions:
        before, came, raised = len(model.prompts), _Streamed([], None, ""), None
        try:
            stream = tutor.ask(question)
            if stream in (None, ...):
                return None
            if not isinstance(stream, Generator):
                return stream
            came = _drain(stream, model)
        except RateLimitError as error:
            raised = error
        found.append(_Asked(came.pieces, raised, model.prompts[before:], came.read_by_then, tutor.left()))
    return found


def tutor() -> list[Case]:
    """Return talks that all fit, that outgrow the room, that are cut, and that outlive the budget."""

    def case(
        questions: list[str],
        replies: list[str],
        shown: str = "",
        *,
        room: int = 900,
        longest: int = 60,
        tokens: int = 9000,
        hidden: bool = False,
    ) -> Case:
        arguments = (ScriptedModel(*replies), room, longest, tokens, questions)
        judge = _taught(replies, room, longest, tokens, questions)
        return Case(arguments, judge, shown, hidden, use=_talked)

    def cost(*said: str) -> int:
        """Return the tokens of a talk's last request with its whole reply."""
        turns = [user(each) if place % 2 == 0 else assistant(each) for place, each in enumerate(said)]
        return _count([system(RULES), *turns[:-1]]) + len(said[-1].encode()) + 1

    three = ["Why?", "How?", "When?"]
    first, second = cost("Why?", "So."), cost("Why?", "So.", "How?", "Yes.")
    room = second + 4
    return [
        case(["What is rain?"], ["Water that falls."], "with one question"),
        case(["What is rain?", "Why?"], ["Water.", "Clouds are full."], "with a second question"),
        case(three, ["So.", "Yes.", "Now."], "where not all turns fit", room=room),
        case(["Why?", "How?"], ["So.", "Yes."], "where the budget ends", tokens=first + second - 1, longest=5),
        case(["Tell me."], ["A long story."], hidden=True, longest=6),
        case(["Why?", "How?"], ["So.", "Yes."], hidden=True, tokens=first + second, longest=5),
        case(
            ["Why?", "A question with very many words in it?", "How?"],
            ["So.", "Yes."],
            hidden=True,
            tokens=first + second + 5,
            longest=5,
        ),
        case([*three, *three], ["So.", "Yes.", "Now.", "Not so long ago."], hidden=True, room=room),
    ]


def _taught(replies: list[str], room: int, longest: int, tokens: int, questions: list[str]) -> Judge:
    """Return a judge that has the same talk, and compares it question by question."""

    def judge(found: Any) -> str | None:
        if not isinstance(found, list):
            return f"ask should yield the pieces of the reply, but returns a {type(found).__name__}. Use yield"
        history, left, waiting = [system(RULES)], tokens, list(replies)
        for question, asked in zip(questions, found, strict=True):
            sent = [*history, user(question)]
            while _count(sent) > room:
                del sent[1:3]
            at = f"at {question!r} "
            if _count(sent) + longest > left:
                if fault := _refused(asked, left):
                    return at + fault
                continue
            reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            said = reply.encode()[:longest].decode(errors="ignore")
            if fault := _answered(asked, sent, history, said, room):
                return at + fault
            left -= _count(sent) + min(len(reply.encode()) + 1, longest)
            if asked.left != left:
                return f"{at}left() should be {left} afterwards, but is {asked.left}"
            history = [*history, user(question), assistant(said)]
        return None

    return judge


def _refused(asked: _Asked, left: int) -> str | None:
    """Return what is wrong with a question that the budget has no tokens for."""
    if asked.read:
        return f"the model is asked, though {left} tokens are too few for the prompt and the longest reply"
    if asked.left != left:
        return f"nothing is asked, so {left} tokens should still be left, but {asked.left} are"
    fault = _unclear(asked.raised, None, left)
    return f"ask {fault}" if fault else None


def _answered(asked: _Asked, sent: list[Message], history: list[Message], said: str, room: int) -> str | None:
    """Return what is wrong with a question that should be answered."""
    if asked.raised is not None:
        return f"there are tokens enough, but it is refused: {asked.raised}"
    if len(asked.read) != 1:
        return f"the model should be asked once, but is asked {len(asked.read)} times"
    prompt = asked.read[0].rpartition("<|im_start|>assistant\n")[0]
    found = _turns_in(prompt)
    if found != sent:
        return _wrongly_sent(found, sent, history, room)
    return _wrong_pieces(asked.pieces, said, asked.read_by_then)


def _turns_in(prompt: str) -> list[Message]:
    """Return the messages that a prompt was made of."""
    turns = [turn.removesuffix("<|im_end|>\n").partition("\n") for turn in prompt.split("<|im_start|>")[1:]]
    return [{"role": role, "content": text} for role, _, text in turns]


def _wrongly_sent(found: list[Message], sent: list[Message], history: list[Message], room: int) -> str:
    """Say how the messages that the model has read differ from those that should be sent."""
    if not found or found[0] != sent[0]:
        return "the model should read the instructions first, as a system message"
    if found[-1] != sent[-1]:
        return "the model should read the new question last"
    if [*history, sent[-1]] == found:
        return f"the prompt has {_count(found)} tokens, and there is room for {room}"
    missing = [message for message in sent if message not in found]
    if missing:
        return f"the model should remember {missing[0]['content']!r}, but it is not in the prompt"
    return f"the model should read {len(sent)} messages, but reads {len(found)}"
