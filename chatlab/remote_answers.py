"""Answers: what a server elsewhere sends, made sense of.

In: the official client's errors, chunks and responses, however sloppy the server was. Out: chatlab's own errors, which
say what to do, and chunks that have every key. Knows nothing of connections, nor of models on this machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

from chatlab.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ChatlabError,
    ContextLengthError,
    InternalServerError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestError,
    ServerAnswerError,
)

__all__ = ["EXTRAS", "ChunkTidier", "key_variable", "no_completion", "raise_plainly"]

EXTRAS = ("top_k", "min_p", "repetition_penalty")  # what chatlab offers beyond OpenAI's parameters
_TOO_LONG = re.compile(r"context[ _](length|size|window)", re.IGNORECASE)
_LONGEST_QUOTE = 500


def key_variable(url: str) -> str:
    """Return the environment variable with the key for an address: a service's own key is for that service only.

    >>> key_variable("https://api.openai.com/v1"), key_variable("http://room.example:8000/v1")
    ('OPENAI_API_KEY', 'CHATLAB_API_KEY')
    """
    parts = urlsplit(url)
    openais = parts.scheme == "https" and parts.hostname == "api.openai.com"
    return "OPENAI_API_KEY" if openais else "CHATLAB_API_KEY"


def raise_plainly(
    error: Exception, *, url: str, secret: str = "", parameters: Mapping[str, Any] | None = None, started: bool = False
) -> NoReturn:
    """Raise what the client ran into as chatlab's own error, which says what to do; `secret` is never shown.

    `parameters` are those of the request, `started` tells that a part of the reply had come.
    """
    if isinstance(error, openai.APIStatusError):
        raise _refusal(error, url, secret, parameters or {}) from None
    if isinstance(error, openai.APITimeoutError):
        raise APITimeoutError(
            f"{url} did not answer in time. It may be busy: try again, or give it longer, as in "
            "chatlab.connect(..., timeout=300) (seconds).",
            request=error.request,
        ) from None
    if isinstance(error, openai.APIConnectionError):
        reason = f"{error.__cause__ or error}".rstrip(".")
        raise APIConnectionError(
            f"The connection to {url} was cut in the middle of the reply ({reason}). What came before is all there "
            "is; ask again for a whole one."
            if started
            else f"There is no connection to {url} ({reason}). Is a server running there? `chatlab serve` starts one.",
            request=error.request,
        ) from None
    if isinstance(error, openai.APIError):
        said = _without(secret, error.message)
        raise ServerAnswerError(f"{url} failed in the middle of the reply: {said}", error.request, body=error.body)
    if isinstance(error, ValueError):  # what should be JSON is not
        raise no_completion(url) from error
    raise error


def _refusal(error: openai.APIStatusError, url: str, secret: str, parameters: Mapping[str, Any]) -> ChatlabError:
    """Return the error of a status: which class it is, what the server said, and what to do."""
    said = _without(secret, _said(error))
    status, answer = error.status_code, error.response
    described: dict[str, Any] = {"param": error.param, "code": error.code, "type": error.type, "response": answer}
    if status in (400, 413, 422) and (error.code == "context_length_exceeded" or _TOO_LONG.search(said)):
        mend = "" if "Shorten the messages" in said else " Shorten the messages, or ask for fewer tokens."
        return ContextLengthError(
            f"{url}: {said}{mend}",
            **{**described, "code": "context_length_exceeded"},
        )
    if status in (400, 422):
        extras = [name for name in parameters.get("extra_body", ()) if (name in said or name == error.param)]
        mend = f" {' and '.join(extras)}: an extra that not every server knows. Leave it out." if extras else ""
        return BadRequestError(f"{url} refused the request: {said}{mend}", **described)
    if status == 401:
        return AuthenticationError(
            f"{url} wants an API key that it knows: {said} Give it as chatlab.connect(..., api_key=...), or in the "
            f"environment variable {key_variable(url)}.",
            **described,
        )
    if status == 403:
        return PermissionDeniedError(f"{url} does not allow this with the API key given: {said}", **described)
    if status == 404 and (error.code == "model_not_found" or (isinstance(error.body, dict) and "model" in said)):
        return ModelNotFoundError(
            f"{url}: {said} Give the name of one that it has, as in chatlab.connect(..., model=...).", **described
        )
    if status == 404:
        return NotFoundError(
            f"There is no chat completions endpoint at {url}: {said} Most addresses end in /v1.", **described
        )
    if status == 429:
        limited = RateLimitError("", **described)
        wait = f" in {limited.retry_after:g} seconds" if limited.retry_after is not None else " later"
        return RateLimitError(f"{url} takes no more requests now: {said} Ask again{wait}.", **described)
    if status >= 500:
        return InternalServerError(f"{url} failed with status {status}: {said} Try again later.", **described)
    return RequestError(f"{url} answered with status {status}: {said}", **described)


def _said(error: openai.APIStatusError) -> str:
    """Return the server's own words, wherever it put them, as a sentence."""
    body = error.body
    if isinstance(body, dict):
        body = next((body[name] for name in ("message", "detail", "error") if body.get(name)), body)
    words = " ".join(str(body or error.response.reason_phrase).split())[:_LONGEST_QUOTE] or "no reason given"
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _without(secret: str, text: str) -> str:
    return text.replace(secret, "***") if secret else text


def no_completion(url: str) -> ServerAnswerError:
    """Return the error for an answer that is none, such as a web page."""
    return ServerAnswerError(
        f"{url} answered something that is no chat completion. Is it the address of an OpenAI-compatible server? Most "
        "end in /v1.",
        httpx2.Request("POST", url),
        body=None,
    )


class ChunkTidier:
    """Makes chunks whole: what OpenAI's have always, servers leave out.

    The id, name and time of the first chunk stand in where a later one has none, the first chunk of a choice gets a
    role and an empty text, and `finish` gives the last chunk to choices that were never finished.

    >>> tidier = ChunkTidier("tiny")
    >>> chunk = tidier.tidy(ChatCompletionChunk.model_construct(choices=[{"delta": {"content": "Hi"}}]))
    >>> chunk.model, chunk.choices[0].index, chunk.choices[0].delta.role, chunk.choices[0].finish_reason
    ('tiny', 0, 'assistant', None)
    >>> tidier.finish().choices[0].finish_reason
    'stop'
    """

    def __init__(self, name: str) -> None:
        self.unfinished: set[int] = set()
        self.seen: set[int] = set()
        self._texts: dict[int, list[str]] = {}
        self.told_usage = self.told_logprobs = False
        self._head: dict[str, Any] = {"id": "chatcmpl-remote", "created": 0, "model": name}

    def tidy(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk:
        """Return the chunk with every key."""
        given = chunk.to_dict()
        self._head |= {name: given[name] for name in self._head if given.get(name)}
        choices = []
        for place, choice in enumerate(given.get("choices") or []):  # type: ignore[arg-type, var-annotated]
            whole = {"index": place, "finish_reason": None, **choice, "delta": dict(choice.get("delta") or {})}
            index = whole["index"]
            if index not in self.seen:
                self.seen.add(index)
                self.unfinished.add(index)
                whole["delta"].setdefault("role", "assistant")
                if whole["delta"].get("content") is None and not whole["delta"].get("tool_calls"):
                    whole["delta"]["content"] = ""
            self._texts.setdefault(index, []).append(whole["delta"].get("content") or "")
            if whole["finish_reason"]:
                self.unfinished.discard(index)
            if whole["finish_reason"] not in (None, "stop"):
                del self._texts[index]  # cut, or a call
            self.told_logprobs |= bool((whole.get("logprobs") or {}).get("content"))
            choices.append(whole)
        self.told_usage |= bool(given.get("usage"))
        return self._chunk({**given, "choices": choices})

    def finished_texts(self) -> list[str]:
        """Return the texts of the choices that ended of themselves."""
        return ["".join(pieces) for index, pieces in self._texts.items() if index not in self.unfinished]

    def finish(self) -> ChatCompletionChunk:
        """Return the chunk that ends the choices which the server left without a finish reason."""
        choices = [{"index": index, "delta": {}, "finish_reason": "stop"} for index in sorted(self.unfinished)]
        return self._chunk({"choices": choices})

    def _chunk(self, fields: Mapping[str, Any]) -> ChatCompletionChunk:
        return ChatCompletionChunk.model_construct(**{**fields, **self._head, "object": "chat.completion.chunk"})
