"""The application: which path does what.

In: HTTP requests that the guard let in. Out: responses in OpenAI's shapes, errors in its form. The work itself is
`completions.open_stream`, the same as in process. Knows nothing of sockets, threads or keys.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp

import chatlab
from chatlab.chat_model import PREFILL_CHUNK, ChatModel
from chatlab.completions import open_stream
from chatlab.errors import BadRequestError, ModelNotFoundError, RateLimitError, RequestError, RequestTooLargeError
from chatlab.parameters import split_body
from chatlab.server import documentation
from chatlab.server.answers import CLIENT_CLOSED_REQUEST, StreamResponse, error_response, json_response, whole_response
from chatlab.server.budgets import LIMIT_HEADERS
from chatlab.server.guard import Guard
from chatlab.server.metrics import Metrics
from chatlab.server.room import PAGE_HEADERS, Room
from chatlab.server.scheduler import Scheduler
from chatlab.server.settings import ServerSettings

__all__ = ["create_app"]

logger = logging.getLogger("chatlab.server")


def create_app(
    model: ChatModel,
    scheduler: Scheduler,
    metrics: Metrics,
    settings: ServerSettings,
    *,
    room: Room | None = None,
) -> ASGIApp:
    """Return the ASGI application that answers for one model, to everyone or to those who have a key of the room."""
    if model.prefill_chunk > PREFILL_CHUNK:  # the others wait that long
        model = copy.copy(model)
        model.prefill_chunk = PREFILL_CHUNK
    app: FastAPI = FastAPIOffline(
        title="chatlab",
        version=chatlab.__version__,
        description=documentation.DESCRIPTION.format(model=model.name),
    )
    card = {
        "id": model.name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "chatlab",
        "context_length": model.context_length,
    }

    def check_model(name: str) -> None:
        if name.lower() != model.name.lower() and not settings.any_model_name:
            raise ModelNotFoundError(
                f"The model {name[:80]!r} is not served here. This server has {model.name!r}; started with "
                "any_model_name (--any-model-name) it answers to every name."
            )

    @app.post("/v1/chat/completions", **documentation.CHAT_COMPLETIONS)
    async def create_chat_completion(request: Request) -> Response:
        """Let the model reply to a list of messages."""
        if room:
            room.count_request(request.state.holder)
        messages, name, options = split_body(await _json_body(request, settings.max_body_bytes))
        check_model(name)
        if settings.log_prompts:
            logger.info("messages of %s: %s", request.state.request_id, ascii(messages))
        stream = await run_in_threadpool(lambda: open_stream(messages, model, **options))
        opening = [chunk for chunk in (stream.advance() for _ in range(stream.request.n)) if chunk]
        if room:
            room.check_tokens(request.state.holder, stream)
        job = scheduler.submit(stream, client=request.state.client)
        left = room.headers(request.state.holder) if room else {}
        if stream.request.stream:
            response: Response = StreamResponse(job, opening, settings)
        else:
            response = await whole_response(job, opening, request)
        response.headers.update(left)
        return response

    @app.get("/v1/models", **documentation.MODELS)
    async def list_models() -> Response:
        """List the models that are served here: one."""
        return json_response({"object": "list", "data": [card]})

    @app.get("/v1/models/{name:path}", **documentation.MODEL)
    async def retrieve_model(name: str) -> Response:
        """Describe one model."""
        check_model(name)
        return json_response(card)

    @app.get("/health", **documentation.HEALTH)
    async def health() -> Response:
        """Tell whether the server is up, and how busy it is."""
        return json_response(
            {"status": "ok", "model": model.name, "running": scheduler.running, "waiting": scheduler.waiting}
        )

    @app.get("/metrics", **documentation.METRICS)
    async def read_metrics() -> Response:
        """Tell what the server has done, in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def answer_rate_limit(request: Request, error: Exception) -> Response:
        response = error_response(error)
        if room:
            room.count_refusal(request.state.client)
            response.headers.update(room.headers(request.state.holder))
        return response

    if room:

        @app.get("/room", include_in_schema=False)
        async def show_room() -> Response:
            """Show a teacher how busy the room is."""
            return HTMLResponse(room.page(), headers=PAGE_HEADERS)

        @app.get("/room/usage.csv", include_in_schema=False)
        async def read_usage() -> Response:
            """Tell a teacher what everybody has used, day by day."""
            return Response(room.usage.to_csv(), media_type="text/csv")

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

    app.add_exception_handler(RateLimitError, answer_rate_limit)
    app.add_exception_handler(RequestError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(ClientDisconnect, _note_that_client_left)
    app.add_exception_handler(Exception, _answer_error)
    guarded: ASGIApp = Guard(app, settings, metrics, room.keys if room else None)
    if settings.cors_origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after", *LIMIT_HEADERS],
        )
    return guarded


async def _json_body(request: Request, most: int) -> Mapping[str, Any]:
    """Return the JSON object that the body holds; read no more than `most` bytes of it."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise RequestTooLargeError(f"The body has more than {most:,} bytes, which is the most this server reads.")
    try:
        content = json.loads(bytes(body))
    except (ValueError, RecursionError) as error:  # RecursionError: lists in lists in lists
        raise BadRequestError(
            f'The body is not JSON: {error}. Send an object: {{"model": ..., "messages": [...]}}.'
        ) from error
    if not isinstance(content, dict):
        raise BadRequestError(
            f'The body must be a JSON object, not {type(content).__name__}: {{"model": ..., "messages": [...]}}.'
        )
    return content


async def _answer_error(request: Request, error: Exception) -> Response:
    return error_response(error)


async def _note_that_client_left(request: Request, error: Exception) -> Response:
    """Answer a client that left before its body had all come: for the log, since nobody receives it."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answer an unknown path (404) or a wrong method (405) in OpenAI's form."""
    refused = cast(HTTPException, error)
    what = {
        404: f"There is nothing at {request.url.path[:200]!r}. Chat completions are at /v1/chat/completions.",
        405: f"{request.method[:20]!r} is not for {request.url.path[:200]!r}.",
    }.get(refused.status_code, str(refused.detail))
    body = {"message": what, "type": "invalid_request_error", "param": None, "code": None}
    return json_response({"error": body}, refused.status_code, refused.headers)
