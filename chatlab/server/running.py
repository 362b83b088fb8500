"""Running: a server in a thread of its own, for a notebook, or in the foreground, for a terminal.

In: a model and settings. Out: a `Server` that is up, with its address and the official client pointed at it. Knows
nothing of requests.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

import openai
import uvicorn

from chatlab.chat_model import ChatModel
from chatlab.display import escape, view
from chatlab.errors import ServerStartError
from chatlab.model import resolve
from chatlab.server.app import create_app
from chatlab.server.metrics import Metrics
from chatlab.server.room import Room
from chatlab.server.scheduler import Job, Scheduler
from chatlab.server.settings import ServerSettings

__all__ = ["Server", "serve"]

SECONDS_TO_CLOSE = 5  # for connections, once every reply has ended
NO_KEY = "no-key-needed"  # the official client insists on one


class Server:
    """A server that is up, until `stop`; as a context manager it stops at the end of the block.

    `url` is its address, `base_url` what an OpenAI client wants as such.
    """

    def __init__(self, model: ChatModel, settings: ServerSettings) -> None:
        self.model = model
        self.settings = settings
        self._socket = _listen(settings.host, settings.port)
        self._address = self._socket.getsockname()[:2]
        self._uvicorn = _Uvicorn(model, settings)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The server's address, such as `http://127.0.0.1:8000`."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client wants as `base_url`: the address with `/v1`."""
        return f"{self.url}/v1"

    @property
    def running(self) -> bool:
        """Whether the server is up."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Run the server in a thread of its own; returns when it answers."""
        self._thread = threading.Thread(target=self.run, name="chatlab-server", daemon=True)
        self._thread.start()
        while self._thread.is_alive() and not self._uvicorn.started:
            time.sleep(0.005)

    def run(self) -> None:
        """Run the server here, until it is stopped or, in the main thread, a signal ends it."""
        self._uvicorn.run(sockets=[self._socket])

    def stop(self) -> None:
        """Take no more requests, let the replies being made end (for `grace` seconds at most), and stop."""
        self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def client(self) -> openai.OpenAI:
        """Return the official client, pointed at this server."""
        return openai.OpenAI(
            base_url=self.base_url, api_key=self._key, http_client=openai.DefaultHttpxClient(trust_env=False)
        )

    def async_client(self) -> openai.AsyncOpenAI:
        """Return the official asynchronous client, pointed at this server."""
        return openai.AsyncOpenAI(
            base_url=self.base_url, api_key=self._key, http_client=openai.DefaultAsyncHttpxClient(trust_env=False)
        )

    @property
    def _key(self) -> str:
        return self.settings.api_keys[0] if self.settings.api_keys else NO_KEY

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Server({self.model.name!r} at {self.base_url}, {'running' if self.running else 'stopped'})"

    def _repr_html_(self) -> str:
        state = "runs at" if self.running else "has stopped at"
        docs = f'; try it <a href="{escape(self.url)}/docs" target="_blank" rel="noopener">in the browser</a>'
        return view(f"<div>{escape(self.model.name)} {state} <code>{escape(self.base_url)}</code>{docs}</div>")


class _Uvicorn(uvicorn.Server):
    """Uvicorn, which lets the scheduler end the replies before it closes their connections."""

    def __init__(self, model: ChatModel, settings: ServerSettings) -> None:
        metrics = Metrics()
        self._grace = settings.grace
        self._room = None if settings.key_file is None else Room(settings.key_file, model.name)

        def note(job: Job) -> None:
            metrics.count_reply(job)
            if self._room:
                self._room.charge(job)

        self._scheduler = Scheduler(
            side_by_side=settings.side_by_side,
            queue_length=settings.queue_length,
            place_for_each=settings.wants_key,
            on_end=note,
        )
        metrics.watch(self._scheduler)
        if self._room:
            self._room.watch(self._scheduler)
        super().__init__(
            uvicorn.Config(
                create_app(model, self._scheduler, metrics, settings, room=self._room),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=SECONDS_TO_CLOSE,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stopping = asyncio.create_task(asyncio.to_thread(self._scheduler.stop, self._grace))
        while not stopping.done() and not self.force_exit:  # which a second Ctrl-C sets
            await asyncio.wait([stopping], timeout=0.1)
        if self.force_exit:
            await asyncio.to_thread(self._scheduler.stop, 0)
        await super().shutdown(sockets)
        if self._room:
            self._room.usage.close()


def serve(
    model: ChatModel | str | Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    api_key: str | None = None,
    any_model_name: bool = False,
    settings: ServerSettings | None = None,
) -> Server:
    """Start a chat completions server for the model in a thread of its own, and return it when it is up.

    `port` 0 takes any free one. `api_key` is the key that a client has to send; without one, only this machine may
    reach the server. `any_model_name` answers to every model name. `settings` has these and all the others, and is
    given instead of them. Raises `ValueError` for settings that are not safe together, `ServerStartError` for an
    address that cannot be listened on.

    >>> from chatlab.testing import ScriptedModel
    >>> with serve(ScriptedModel("Hello!")) as server:
    ...     response = server.client().chat.completions.create(
    ...         model="scripted", messages=[{"role": "user", "content": "Hi"}]
    ...     )
    >>> response.choices[0].message.content
    'Hello!'
    """
    if settings is None:
        keys = () if api_key is None else (api_key,)
        settings = ServerSettings(host=host, port=port, api_keys=keys, any_model_name=any_model_name)
    server = Server(resolve(model), settings)
    server.start()
    return server


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that a port that is taken is known at once."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ServerStartError(
            f"The server cannot listen on {host!r}, port {port}: {error.strerror or error}. If another program has the "
            "port, choose another one, or 0 for any that is free."
        ) from error
    # Connections inherit it, and asyncio does not set it for a socket it is given: without it the second of two small
    # pieces waits until the first is acknowledged, 40 ms in each answer.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
