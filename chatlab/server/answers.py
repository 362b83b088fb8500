"""Answers: what goes back over HTTP.

In: a job that makes a reply, or an error. Out: a response with JSON, or a stream of server-sent events. Knows nothing
of how requests arrive or who may send them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import anyio
from openai.types.chat import ChatCompletionChunk
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatlab.errors import ChatlabError, RateLimitError, ReplyStoppedError, RequestError
from chatlab.server.scheduler import Job, Progress
from chatlab.server.settings import ServerSettings
from chatlab.streaming import join_chunks

__all__ = ["CLIENT_CLOSED_REQUEST", "StreamResponse", "error_response", "json_response", "whole_response"]

logger = logging.getLogger("chatlab.server")

WHEN_TO_RETRY = ("retry-after", "x-should-retry", "x-ratelimit-")
SEPARATOR = "\n"  # as hosted services end the lines of a stream
CLIENT_CLOSED_REQUEST = 499  # nginx's number, for the log: the client that left does not see it
SERVER_ERROR: dict[str, Any] = {
    "message": "The server made a mistake in this request; its log says which. Other requests are not affected.",
    "type": "server_error",
    "param": None,
    "code": None,
}


def json_response(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with JSON, written in ASCII: a caller's half characters must not break it."""
    return Response(json.dumps(content), status, headers, media_type="application/json")


def error_response(error: Exception) -> Response:
    """Return what a hosted service would answer: `{"error": {"message", "type", "param", "code"}}`."""
    headers = {}
    if isinstance(error, RateLimitError):
        headers = {name: text for name, text in error.response.headers.items() if name.startswith(WHEN_TO_RETRY)}
    status = error.status_code if isinstance(error, RequestError) else 500
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_response(_error_body(error), status, headers)


async def whole_response(job: Job, opening: Sequence[ChatCompletionChunk], request: Request) -> Response:
    """Wait for the whole reply and return it; a client that leaves meanwhile ends it."""
    watcher = asyncio.create_task(_cancel_when_left(job, request))
    try:
        chunks = [item async for item in job if not isinstance(item, Progress)]
        reply = join_chunks([*opening, *chunks])
    except ReplyStoppedError:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    except Exception as error:  # the scheduler has logged it
        return error_response(error)
    finally:
        watcher.cancel()
        job.cancel()
    return Response(reply.model_dump_json(exclude_unset=True), media_type="application/json")


class StreamResponse(EventSourceResponse):
    """The reply as server-sent events, chunk by chunk, with comments while there is nothing to say."""

    def __init__(self, job: Job, opening: Sequence[ChatCompletionChunk], settings: ServerSettings) -> None:
        super().__init__(
            _events(job, opening),
            sep=SEPARATOR,
            ping=settings.keep_alive,
            ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep=SEPARATOR),
            send_timeout=settings.send_timeout,
            # Given an event, the library lets streams end by themselves when the server stops: the scheduler ends them.
            shutdown_event=anyio.Event(),
            shutdown_grace_period=settings.grace + 5,
        )
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; however that ends, nothing goes on working for it."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:  # without a last piece, the connection is cut
            logger.warning("A client left its stream unread for %g s and was cut off.", self.send_timeout)
        finally:
            self._job.cancel()


async def _events(job: Job, opening: Sequence[ChatCompletionChunk]) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of a stream, `[DONE]` last; a failure midway is an event too."""
    try:
        for chunk in opening:
            yield _event(chunk.model_dump_json(exclude_unset=True))
        async for item in job:
            if isinstance(item, Progress):
                comment = f"reading the prompt: {item.tokens_read} of {item.prompt_tokens} tokens"
                yield ServerSentEvent(comment=comment, sep=SEPARATOR)
            else:
                yield _event(item.model_dump_json(exclude_unset=True))
    except Exception as error:  # the status was sent long ago: what is left is to say it in the stream
        yield _event(json.dumps(_error_body(error)))
    yield _event("[DONE]")


def _event(data: str) -> ServerSentEvent:
    return ServerSentEvent(data, sep=SEPARATOR)


def _error_body(error: Exception) -> dict[str, Any]:
    if isinstance(error, RequestError):
        return {"error": error.body}
    if isinstance(error, ChatlabError):  # says in plain words what is wrong with the model
        return {"error": {**SERVER_ERROR, "message": str(error)}}
    return {"error": SERVER_ERROR}


async def _cancel_when_left(job: Job, request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancel()
