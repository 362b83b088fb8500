"""A small chat completions server for tests, which behaves or misbehaves as the name of the model asks it to."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

SECONDS = 10
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "told"}


def error(status: int, message: str, *, code: str | None = None, param: str | None = None, **headers: str) -> Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
    return JSONResponse(body, status, headers={name.replace("_", "-"): value for name, value in headers.items()})


REFUSALS = {
    "long": lambda key: error(400, "Too many tokens.", code="context_length_exceeded", param="messages"),
    "llama-long": lambda key: error(400, "the request exceeds the available context size, try increasing it"),
    "own-long": lambda key: error(
        400, "Too many. Shorten the messages, drop the oldest.", code="context_length_exceeded"
    ),
    "no-top-k": lambda key: error(400, "Unrecognized request argument: top_k", code="unknown_parameter"),
    "missing": lambda key: error(404, "The model `missing` does not exist", code="model_not_found"),
    "no-path": lambda key: PlainTextResponse("Not Found", 404),
    "key": lambda key: error(401, f"Incorrect API key provided: {key}.", code="invalid_api_key"),
    "forbidden": lambda key: error(403, "Not yours."),
    "busy": lambda key: error(429, "The queue is full.", Retry_After="7"),
    "broken": lambda key: error(500, "Out of order."),
    "unprocessable": lambda key: JSONResponse({"detail": "Extra inputs are not permitted: min_p"}, 422),
    "teapot": lambda key: error(418, "I am a teapot."),
    "page": lambda key: Response("<html>Hello</html>", media_type="text/html"),
    "garbled": lambda key: Response('{"choices": [', media_type="application/json"),
    "no-choices": lambda key: JSONResponse({}),
}


def chunk(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish_reason}], **more}


class Server:
    """What the server has been asked, and how many replies it is still making."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.models = ["told"]
        self.running = 0
        self.base_url = ""

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.list_models),
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
            ]
        )

    async def list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        model = body["model"]
        if model in REFUSALS:
            return REFUSALS[model](request.headers.get("authorization", "").removeprefix("Bearer "))
        if model == "busy-once" and len(self.bodies) == 1:
            return error(429, "The queue is full.", Retry_After="0")
        if model == "asleep":
            self.running += 1
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
            self.running -= 1
            return PlainTextResponse("late")
        if body.get("stream"):
            return StreamingResponse(self.stream(model, body), media_type="text/event-stream")
        choices = [
            {"index": index, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}
            for index in range(1 if model == "poor" else body.get("n", 1))
        ]
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
        return JSONResponse({**HEAD, "object": "chat.completion", "choices": choices, "usage": usage})

    async def stream(self, model: str, body: dict[str, Any]) -> AsyncIterator[str]:
        self.running += 1
        try:
            async for event in self.events(model, body):
                yield event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n"
        finally:
            self.running -= 1

    async def events(self, model: str, body: dict[str, Any]) -> AsyncIterator[str | dict[str, Any]]:
        if model == "sloppy":  # no role, no index, no finish_reason, no ids, no end, and choices that are null
            for delta in ({"content": "Hel"}, {"content": "lo!"}):
                yield {"choices": [{"delta": delta}]}
            yield {"choices": None}
            return
        if model == "unfinished":  # no finish_reason, but [DONE]
            yield chunk({"role": "assistant", "content": "Hello!"})
            yield "data: [DONE]\n\n"
            return
        if model == "garbles-midway":
            yield chunk({"role": "assistant", "content": "Hel"})
            yield 'data: {"choices": [\n\n'
        if model == "empty":
            yield "data: [DONE]\n\n"
            return
        if model == "endless":
            for _ in range(100_000):
                yield chunk({"content": "x"})
                await asyncio.sleep(0.01)
        if model == "silent":  # accepts, says one word, and then nothing
            yield chunk({"role": "assistant", "content": "Well"})
            for _ in range(3000):
                yield ": still here\n\n"
                await asyncio.sleep(0.02)
        yield chunk({"role": "assistant", "content": ""})
        yield ": keep-alive\n\n"
        yield chunk({"content": "Hel"})
        if model == "cut":
            raise ConnectionError("cut on purpose")
        if model == "fails-midway":
            yield {"error": {"message": "The model crashed.", "type": "server_error", "param": None, "code": None}}
            yield "data: [DONE]\n\n"
            return
        yield chunk({"content": "lo!"})
        yield chunk({}, "stop")
        if (body.get("stream_options") or {}).get("include_usage") and model != "poor":
            yield {**HEAD, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}
        if model != "no-done":
            yield "data: [DONE]\n\n"

    def wait_until_idle(self) -> None:
        """Wait until no reply is being made; it fails where the other side has not noticed that we left."""
        deadline = time.monotonic() + SECONDS
        while self.running:
            assert time.monotonic() < deadline, "the server is still making a reply that nobody reads"
            time.sleep(0.01)


@contextmanager
def running_server() -> Iterator[Server]:
    """Run the server on a free port of this machine, in a thread."""
    server = Server()
    listening = socket.create_server(("127.0.0.1", 0))
    server.base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    uvicorn_server = uvicorn.Server(uvicorn.Config(server.app(), log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + SECONDS
    while not uvicorn_server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield server
    finally:
        uvicorn_server.should_exit = True
        thread.join(SECONDS)
        listening.close()
