"""Conversation: the history that makes separate requests into a chat.

In: what the user says, turn by turn. Out: replies, and the whole list of messages, which is sent again with every
request because the model keeps nothing. Knows nothing of widgets.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, overload

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from chatlab.completions import open_stream
from chatlab.context import Fitted, Strategy, check_context, fit
from chatlab.display import count_of, transcript_html, view
from chatlab.engines import Engine, ReplyStream
from chatlab.errors import BadRequestError, ReplyStoppedError
from chatlab.files import write_whole
from chatlab.messages import Message, assistant, role_of, system, user, validate
from chatlab.remote import engine_of
from chatlab.requests import check_request
from chatlab.streaming import join_chunks

__all__ = ["Conversation"]


class Conversation:
    """A chat with memory: it keeps the messages and sends all of them each time.

    `messages` is the history, a plain list that may be read and changed. The settings (`temperature`, `top_p`, `seed`,
    `max_completion_tokens`, named as in `chat_completions`) are attributes too, and hold from the next reply on.

    `token_limit` (None: the model's own) is the most tokens that a request and its reply may have together. What of
    the history does not fit is left out of the request as `chatlab.fit` would, with `strategy`, `keep_last` and
    `reserve` (at least `max_completion_tokens`, or one token); `messages` keeps it all. `fitted` is the last request's
    `Fitted`, which says what went, or None.

    >>> from chatlab.testing import ScriptedModel
    >>> chat = Conversation(system="Be brief.", model=ScriptedModel("Hello, Ana!", "Ana."))
    >>> chat("I am Ana.").choices[0].message.content
    'Hello, Ana!'
    >>> chat("What is my name?").choices[0].message.content
    'Ana.'
    >>> [message["role"] for message in chat.messages]
    ['system', 'user', 'assistant', 'user', 'assistant']
    """

    def __init__(
        self,
        messages: Sequence[Message] = (),
        *,
        system: str | None = None,
        model: Engine | str | Path | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        max_completion_tokens: int | None = None,
        token_limit: int | None = None,
        reserve: int = 0,
        strategy: Strategy = "drop-oldest",
        keep_last: int | None = None,
    ) -> None:
        self.messages: list[Message] = validate(messages) if messages else []
        self.model = model
        self.temperature = temperature
        self.top_p = top_p
        self.seed = seed
        self.max_completion_tokens = max_completion_tokens
        self.token_limit = token_limit
        self.reserve = reserve
        self.strategy = strategy
        self.keep_last = keep_last
        self.fitted: Fitted | None = None
        self._stream: ReplyStream | None = None
        self._stopped = threading.Event()
        if system is not None:
            self.system = system

    @property
    def system(self) -> str | None:
        """The system message's text, or None without one; set it to change it, to None to remove it."""
        first = self._checked()[:1]
        return first[0]["content"] if first and first[0]["role"] in ("system", "developer") else None

    @system.setter
    def system(self, text: str | None) -> None:
        rest = self.messages if self.system is None else self.messages[1:]
        self.messages = rest if text is None else [system(text), *rest]

    @overload
    def __call__(self, text: str, *, stream: Literal[False] = ...) -> ChatCompletion: ...

    @overload
    def __call__(self, text: str, *, stream: Literal[True]) -> Iterator[ChatCompletionChunk]: ...

    def __call__(self, text: str, *, stream: bool = False) -> ChatCompletion | Iterator[ChatCompletionChunk]:
        """Say something and return the reply; with `stream=True` return its chunks as they come.

        The history grows with the reply, so that one stopped midway stays as far as it came; a request that is refused
        leaves the history as it was.
        """
        return self._reply([*self.messages, user(text)], stream=stream)

    @overload
    def regenerate(self, *, stream: Literal[False] = ...) -> ChatCompletion: ...

    @overload
    def regenerate(self, *, stream: Literal[True]) -> Iterator[ChatCompletionChunk]: ...

    def regenerate(self, *, stream: bool = False) -> ChatCompletion | Iterator[ChatCompletionChunk]:
        """Ask for the last reply again; a fixed `seed` or temperature 0 gives the same one.

        Raises `ValueError` when nothing has been asked yet.
        """
        return self._reply(self.messages[: self._last_question() + 1], stream=stream)

    @overload
    def edit(self, index: int, text: str, *, stream: Literal[False] = ...) -> ChatCompletion: ...

    @overload
    def edit(self, index: int, text: str, *, stream: Literal[True]) -> Iterator[ChatCompletionChunk]: ...

    def edit(self, index: int, text: str, *, stream: bool = False) -> ChatCompletion | Iterator[ChatCompletionChunk]:
        """Change the user message at `messages[index]`, forget what came after it, and reply anew.

        Raises `ValueError` when there is no user message at that index.
        """
        roles = dict(enumerate(map(role_of, self.messages)))
        if roles.get(index) != "user":
            places = [place for place, role in roles.items() if role == "user"]
            raise ValueError(f"messages[{index}] is not a user message. The user messages are at {places}.")
        return self._reply([*self.messages[:index], user(text)], stream=stream)

    def stop(self) -> None:
        """Stop the reply that is being made, if any, within a token; may be called from another thread.

        A streamed reply ends early; a whole one raises `ReplyStoppedError`. What was said stays in the history. The
        summary that strategy "summarise" makes before a reply is stopped likewise, and the reply with it.
        """
        self._stopped.set()
        if self._stream is not None:
            self._stream.close()

    def undo(self) -> None:
        """Forget the last turn: the last user message and everything after it.

        Raises `ValueError` when nothing has been asked yet.
        """
        self.stop()
        self.messages = self.messages[: self._last_question()]

    def clear(self) -> None:
        """Forget every turn; the system message stays."""
        self.stop()
        self.messages = self.messages[:1] if self.system is not None else []

    def save(self, path: str | Path) -> Path:
        """Write the conversation to a file, whole or not at all: `.json`, or `.md` to read; return its path.

        Raises `ValueError` for another ending.
        """
        path = Path(path).expanduser()
        if path.suffix not in (".json", ".md"):
            raise ValueError(f"A conversation is saved as .json or .md, not as {path.name!r}.")
        write_whole(path, (self.to_json() if path.suffix == ".json" else self.to_markdown()).encode())
        return path

    @classmethod
    def load(cls, path: str | Path, *, model: Engine | str | Path | None = None) -> Conversation:
        """Return the conversation that `save` wrote to a `.json` or `.md` file.

        Raises `ValueError` when the file is not a saved conversation.
        """
        path = Path(path).expanduser()
        text = path.read_text(encoding="utf-8")
        try:
            saved = json.loads(text if path.suffix == ".json" else _json_of_markdown(text))
            settings = {name: saved["settings"][name] for name in _SETTINGS}
            context = {name: saved["settings"][name] for name in _CONTEXT if name in saved["settings"]}
            check_context(**context)
            if saved["messages"]:
                check_request(saved["messages"], **settings)
            return cls(saved["messages"], model=model, **settings, **context)
        except (ValueError, KeyError, TypeError, BadRequestError) as error:
            raise ValueError(f"{path} is not a conversation that chatlab saved: {error}") from error

    def to_json(self) -> str:
        """Return the messages and settings as JSON; a strategy that is a function is left out."""
        names = [name for name in (*_SETTINGS, *_CONTEXT) if not callable(getattr(self, name))]
        settings = {name: getattr(self, name) for name in names}
        return json.dumps({"messages": self._checked(), "settings": settings}, ensure_ascii=False, indent=2) + "\n"

    def to_markdown(self) -> str:
        """Return the conversation as Markdown for people, with its JSON in a comment at the end for `load`."""
        turns = "".join(f"**{message['role']}**\n\n{message['content']}\n\n" for message in self._checked())
        # A comment may not hold "--"; in JSON that can only stand in a string, where an escape means the same.
        data = self.to_json().replace("--", r"-\u002d").rstrip()
        return f"{turns}{_COMMENT}{data}\n-->\n"

    def __repr__(self) -> str:
        return f"Conversation({count_of(self.turns, 'turn')}, {count_of(len(self.messages), 'message')})"

    def _repr_html_(self) -> str:
        return view(transcript_html(self._checked()) or '<span class="chatlab-note">No messages yet.</span>')

    @property
    def turns(self) -> int:
        """How many times the user has said something."""
        return sum(role_of(message) == "user" for message in self.messages)

    def _checked(self) -> list[Message]:
        """Return the history as plain dicts, also where a reply object of the client was put into it."""
        return validate(self.messages) if self.messages else []

    def _reply(self, messages: list[Message], *, stream: bool) -> ChatCompletion | Iterator[ChatCompletionChunk]:
        model = engine_of(self.model)
        self._stopped = stopped = threading.Event()
        try:
            fitted = self._fit(messages, model, interrupted=stopped.is_set)
        except ReplyStoppedError:
            if stream:
                return iter(())
            raise
        stream_of_chunks = open_stream(
            messages if fitted is None else fitted,
            model if fitted is None else model.with_context_length(fitted.token_limit),
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            max_completion_tokens=self.max_completion_tokens,
            stream=True,
            stream_options={"include_usage": True},
        )
        self.stop()  # an earlier reply that is still streaming must not write into this history
        self._stream, self.fitted = stream_of_chunks, fitted
        stream_of_chunks.start()
        chunks = self._remembered(messages, stream_of_chunks)
        return chunks if stream else join_chunks(chunks)

    def _fit(self, messages: list[Message], model: Engine, *, interrupted: Callable[[], bool]) -> Fitted | None:
        """Return what of the history is sent; None where no limit is known, and all of it is."""
        if self.token_limit is None and model.context_length is None:
            return None
        reserve = self.reserve
        if isinstance(reserve, int):  # else `fit` says what it should be
            reserve = max(reserve, self.max_completion_tokens or 1)
        return fit(
            messages,
            self.token_limit,
            reserve=reserve,
            strategy=self.strategy,
            keep_last=self.keep_last,
            interrupted=interrupted,
            model=model,
        )

    def _remembered(
        self, messages: list[Message], chunks: Iterable[ChatCompletionChunk]
    ) -> Iterator[ChatCompletionChunk]:
        """Pass the chunks on and let the history grow with them."""
        reply = assistant("")
        for chunk in chunks:
            text = "".join(choice.delta.content or "" for choice in chunk.choices)
            ended = any(choice.finish_reason for choice in chunk.choices)
            if (text or ended) and messages[-1] is not reply:
                messages.append(reply)
                self.messages = messages
            reply["content"] += text
            yield chunk

    def _last_question(self) -> int:
        """Return the index of the last user message."""
        for index in reversed(range(len(self.messages))):
            if role_of(self.messages[index]) == "user":
                return index
        raise ValueError("Nothing has been asked yet.")


_SETTINGS = ("temperature", "top_p", "seed", "max_completion_tokens")
_CONTEXT = ("token_limit", "reserve", "strategy", "keep_last")
_COMMENT = "<!-- chatlab conversation\n"


def _json_of_markdown(text: str) -> str:
    _, comment, after = text.rpartition(_COMMENT)
    if not comment:
        raise ValueError("it has no chatlab comment at its end")
    return after.partition("\n-->")[0]
