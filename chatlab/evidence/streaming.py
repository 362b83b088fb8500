"""Evidence on the topic streaming: each answer comes from a stream that the engine makes, over HTTP where it matters.

In: a question or a fact, and a model. Out: the answer that the engine gives to it; for a request or a function that a
learner wrote, the name of the misconception in it, or None if it is right. Knows nothing of the author's key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.evidence.common import fault_of, the_claim, what_the_code_prints
from chatlab.evidence.exchange import REPLY, USAGE, events_in, exchange, read_by_official_client, text_in
from chatlab.messages import user, validate
from chatlab.questions.question import Fact, Question
from chatlab.streaming import ChatCompletionStream
from chatlab.testing import ScriptedModel
from chatlab.tokens import encode

__all__ = [
    "a_list_to_go_on_with",
    "chunks_of_an_emoji",
    "content_type_of_a_stream",
    "last_line_of_a_stream",
    "name_of_what_is_new",
    "option_for_the_usage",
    "order_on_the_wire",
    "text_is_assembled",
    "time_to_the_first_token",
    "ways_to_the_rest",
    "what_a_cut_stream_lacks",
    "what_a_hidden_reply_does",
    "what_a_stream_may_hold",
    "what_shows_that_a_reply_is_whole",
    "what_streaming_changes",
    "what_the_code_prints",
    "what_the_first_chunk_tells",
    "what_to_do_with_half_an_event",
]


def what_the_first_chunk_tells(question: Question, model: ChatModel) -> str:
    """Look at the first chunk of a stream."""
    with chat_completions([user("Hello!")], model, stream=True, max_completion_tokens=2) as stream:
        first = next(iter(stream))
    [choice] = first.choices
    claims = {
        "first word": bool(choice.delta.content),
        "how many tokens": first.usage is not None,
        "who speaks": choice.delta.role == "assistant",
        "why the reply ended": choice.finish_reason is not None,
    }
    return the_claim(question, claims)


def what_streaming_changes(question: Question, model: ChatModel) -> str:
    """Count the tokens that were made when the first text arrived, and all of them, streamed and not."""
    slow = ScriptedModel(REPLY)
    stream = chat_completions([user("Hello!")], slow, stream=True)
    assert isinstance(stream, ChatCompletionStream)
    made = [stream.completion_tokens for chunk in stream if chunk.choices[0].delta.content]
    whole = chat_completions([user("Hello!")], slow)
    assert whole.usage is not None
    in_all = whole.usage.completion_tokens
    claims = {
        "come earlier": made[0] == 1 < in_all,
        "writes faster": stream.completion_tokens < in_all,
        "Fewer tokens": stream.completion_tokens < in_all,
        "one piece": len(made) == 1,
    }
    return the_claim(question, claims)


def order_on_the_wire(question: Question, model: ChatModel) -> list[str]:
    """Read a stream over HTTP and see when each kind of line comes first."""
    signs: dict[str, Callable[[str], object]] = {
        "choices": lambda line: '"choices":[]' in line,
        "some text": lambda line: re.search(r'"delta":\{"content":"[^"]', line),
        "[DONE]": lambda line: line == "data: [DONE]",
        '"role"': lambda line: '"role":"assistant"' in line,
        "finish_reason": lambda line: '"finish_reason":"' in line,
    }
    lines = exchange().raw.decode().splitlines()
    came = {words: next(place for place, line in enumerate(lines) if sign(line)) for words, sign in signs.items()}
    places = {choice.letter: [came[words] for words in came if words in choice.text] for choice in question.choices}
    assert all(len(found) == 1 for found in places.values())
    return sorted(places, key=lambda letter: places[letter][0])


@lru_cache(maxsize=1)
def _chunks_with_text(reply: str) -> int:
    chunks = chat_completions([user("Hello!")], ScriptedModel(reply), stream=True)
    return sum(1 for chunk in chunks if chunk.choices[0].delta.content)


def chunks_of_an_emoji(question: Question, model: ChatModel) -> int:
    """Count the emoji's tokens, then stream it from a model that has a token for each of its bytes."""
    [emoji] = re.findall("🎉", question.text)
    assert f"as {['no', 'one', 'two', 'three'][len(encode(emoji, model=model))]} tokens" in question.text
    assert len(encode(emoji, model=ScriptedModel(emoji))) > 1
    return _chunks_with_text(emoji)


def time_to_the_first_token(question: Question, model: ChatModel) -> float:
    """Find out of a real stream which chunk is the first that a token was made for, and look up when it arrived."""
    arrivals = [float(seconds) for seconds in re.findall(r" (\d\.\d)", question.text)]
    stream = chat_completions([user("Hello!")], ScriptedModel("ab"), stream=True)
    assert isinstance(stream, ChatCompletionStream)
    made = [stream.completion_tokens for _ in stream]
    assert len(made) == len(arrivals)  # the role, two texts, the finish_reason
    return arrivals[next(number for number, tokens in enumerate(made) if tokens)]


def what_a_hidden_reply_does(question: Question, model: ChatModel) -> str:
    """Read on without showing anything, then close another stream early, and count what each has made."""
    made, answered = {}, []
    for closing in (False, True):
        stream = chat_completions([user("Hello!")], ScriptedModel(REPLY), stream=True)
        assert isinstance(stream, ChatCompletionStream)
        shown = next(chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content)
        other = chat_completions([user("Hi")], ScriptedModel("Yes."))
        answered.append(other.choices[0].message.content == "Yes.")
        if closing:
            stream.close()
        for _ in stream:
            pass
        made[closing] = stream.completion_tokens
    claims = {
        "model stops": made[False] < len(REPLY.encode()),
        "to the end": made[False] > len(REPLY.encode()) and made[True] <= 2,
        "is lost": not shown,
        "cannot answer": not all(answered),
    }
    return the_claim(question, claims)


def what_a_stream_may_hold(question: Question, model: ChatModel) -> list[str]:
    """Read a whole stream over HTTP, with an emoji in its reply, and look for each thing."""
    raw = exchange().raw
    chunks = events_in(raw)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    texts = [delta["content"] for delta in deltas if delta.get("content")]
    claims = {
        "without any choice": any(not chunk["choices"] for chunk in chunks),
        "without a text": any("content" not in delta for delta in deltas),
        "takes back": "".join(texts) != REPLY,
        "a colon": any(line.startswith(":") for line in raw.decode().splitlines()),
        "half an emoji": "🎉" not in texts,
    }
    true = [words for words in claims if claims[words]]
    return [choice.letter for choice in question.choices if any(words in choice.text for words in true)]


def what_shows_that_a_reply_is_whole(question: Question, model: ChatModel) -> str:
    """Let the official client read a whole stream and one that just ends, and find what tells them apart."""
    raw = exchange().raw
    _, reasons, _ = read_by_official_client(raw)
    _, none, _ = read_by_official_client(exchange().cut)  # raises nothing
    short = chat_completions([user("Hi")], ScriptedModel(REPLY), max_completion_tokens=5).choices[0]
    unasked = list(chat_completions([user("Hi")], ScriptedModel(REPLY), stream=True))
    full_stop = (short.message.content or "").endswith(".")
    claims = {
        "no error": False,  # there was none for the cut stream either
        "full stop": full_stop or short.finish_reason is None,
        "finish_reason": reasons == ["stop"] and none == [] and short.finish_reason == "length",
        "usage": any(chunk.usage for chunk in unasked),
    }
    return the_claim(question, claims)


def what_to_do_with_half_an_event(question: Question, model: ChatModel) -> str:
    """Cut the bytes of a stream into pieces, also within the emoji, and try each way to put them together."""
    raw = exchange().raw
    pieces = [raw[at : at + 3] for at in range(0, len(raw), 3)]
    ways: dict[str, Callable[[], bytes]] = {
        "keep its bytes": lambda: b"".join(pieces),
        "drop it": lambda: b"".join(piece[: piece.rfind(b"\n") + 1] for piece in pieces),
        "by itself": lambda: b"\n".join(pieces),
        "make text of it": lambda: "".join(piece.decode(errors="replace") for piece in pieces).encode(),
    }
    right = {}
    for words, way in ways.items():
        try:
            right[words] = text_in(events_in(way())) == REPLY
        except ValueError:  # no JSON
            right[words] = False
    return the_claim(question, right)


def ways_to_the_rest(question: Question, model: ChatModel) -> str:
    """Hang up in the middle of a stream, and try each way to the rest."""
    text, _, asked = read_by_official_client(exchange().cut)
    claims = {
        "id of the stream": exchange().status_by_id not in (404, 405),
        "keeps the rest": exchange().still_at_work > 0,
        "official client": text == REPLY or asked > 1,
        "new request": chat_completions([user("Hi")], ScriptedModel(REPLY)).choices[0].message.content == REPLY,
    }
    return the_claim(question, claims)


def a_list_to_go_on_with(messages: Any) -> str | None:
    """Let the engine accept the list, then see who says what in it."""
    assert fault_of(messages) is None
    said = [(message["role"], str(message["content"])) for message in validate(messages)]
    came = [place for place, (_, text) in enumerate(said) if text == "Red, orange, yel"]
    if not came:
        return "partial-is-lost"
    [place] = came
    if not any("rainbow" in text for _, text in said[:place]):
        return "question-is-kept"
    if said[place][0] != "assistant":
        return "partial-is-the-users"
    return None if said[-1][0] == "user" and place < len(said) - 1 else "nobody-asks"


def text_is_assembled(function: Callable[[Any], Any]) -> str | None:
    """Give the function the chunks of real streams: whole, without the usage, and up to the finish_reason."""
    chunks = events_in(exchange().raw)
    texts = [chunk for chunk in chunks if chunk["choices"] and chunk["choices"][0]["delta"].get("content")]
    cases = [
        ("last-chunk-is-the-reply", texts),
        ("every-delta-has-text", [chunk for chunk in chunks if chunk["choices"]]),
        ("every-chunk-has-a-choice", chunks),
    ]
    for name, some in cases:
        try:
            if function(some) != REPLY:
                return name
        except (KeyError, IndexError, TypeError):
            return name
    return None


def content_type_of_a_stream(fact: Fact, model: ChatModel) -> str:
    """Ask a server for a stream and read the header."""
    return exchange().content_type.partition(";")[0]


def last_line_of_a_stream(fact: Fact, model: ChatModel) -> str:
    """Read a stream to its end."""
    return [line for line in exchange().raw.decode().splitlines() if line][-1]


def option_for_the_usage(fact: Fact, model: ChatModel) -> str:
    """Stream with and without the option, and see which stream has a usage."""
    for options in (USAGE, None):
        stream = chat_completions([user("Hi")], ScriptedModel("Hi"), stream=True, stream_options=options)
        assert any(chunk.usage for chunk in stream) == (options is not None)
    return f'stream_options={{"include_usage": {USAGE["include_usage"]}}}'


def name_of_what_is_new(fact: Fact, model: ChatModel) -> str:
    """Find the one field of a choice whose contents add up to the reply."""
    choices = [choice for chunk in events_in(exchange().raw) for choice in chunk["choices"]]
    [name] = [key for key, value in choices[1].items() if isinstance(value, dict)]
    assert "".join(choice[name].get("content") or "" for choice in choices) == REPLY
    return str(name)


def what_a_cut_stream_lacks(fact: Fact, model: ChatModel) -> str:
    """Find the field that has a value somewhere in a whole stream and nowhere in a cut one."""
    chunks = events_in(exchange().raw)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    [name] = [key for key in choices[-1] if choices[-1][key] and not any(choice[key] for choice in choices[:-1])]
    return str(name)
