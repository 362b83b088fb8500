"""Replicas: the same application several times, behind one address, on a Ray cluster.

In: a model, settings, a number. Out: `Replicas` that answer, each with a core and a model of its own. Ray Serve spreads
the requests, and puts a new replica in the place of one that dies. Knows nothing of what is answered.

A request that waits for a replica goes to another one when that dies. One that it was working on is answered with a
500, upon which OpenAI's client asks again by itself. A stream that had begun is cut, without `[DONE]` and
without HTTP's own end, so that no client takes it for complete: OpenAI's raises `APIConnectionError`.
"""

from __future__ import annotations

import contextlib
import time
from types import TracebackType

import httpx2
import openai
from starlette.types import ASGIApp

from chatlab.chat_model import ChatModel
from chatlab.cluster import connect_ray
from chatlab.cluster_model import TravellingModel
from chatlab.errors import ClusterError, ServerStartError
from chatlab.server.app import create_app
from chatlab.server.metrics import Metrics
from chatlab.server.scheduler import Scheduler
from chatlab.server.settings import ServerSettings

__all__ = ["Replicas", "serve_replicas"]

NAME = "chatlab"
SECONDS_TO_START = 60.0
SECONDS_BETWEEN_CHECKS = 2.0  # of whether a replica is alive


class Replicas:
    """A server of several replicas that is up, until `stop`; as a context manager it stops at the end of the block."""

    def __init__(self, model: ChatModel, settings: ServerSettings, number: int) -> None:
        self.model = model
        self.settings = settings
        self.number = number

    @property
    def url(self) -> str:
        """The server's address, such as `http://127.0.0.1:8000`."""
        return f"http://{self.settings.host}:{self.settings.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client wants as `base_url`: the address with `/v1`."""
        return f"{self.url}/v1"

    def client(self) -> openai.OpenAI:
        """Return the official client, pointed at this server."""
        key = self.settings.api_keys[0] if self.settings.api_keys else "no-key-needed"
        return openai.OpenAI(
            base_url=self.base_url, api_key=key, http_client=openai.DefaultHttpxClient(trust_env=False)
        )

    def stop(self) -> None:
        """Let the replies being made end (for `grace` seconds at most), and stop."""
        from ray import serve

        serve.shutdown()

    def __enter__(self) -> Replicas:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Replicas({self.model.name!r} × {self.number} at {self.base_url})"


def serve_replicas(
    model: ChatModel, settings: ServerSettings, *, replicas: int, cluster: str | bool = "local"
) -> Replicas:
    """Start so many replicas for the model on a cluster, each with a core of its own, and return when they answer.

    Each takes `side_by_side` requests at once; more wait in Ray Serve, `queue_length` of them. `/metrics` and `/health`
    tell of the replica that happens to answer. `settings.port` must be a port, not 0. Raises `ClusterError` where there
    is no Ray or no cluster, or for a key file; `ServerStartError` where nobody answers in the end.
    """
    if settings.key_file is not None:
        raise ClusterError(
            "The budgets of a key file are counted in one process, so replicas cannot share them. Give them one key "
            "for all (--api-key), or leave --replicas out."
        )
    connect_ray(cluster)
    from ray import serve

    travelling = TravellingModel.of(model)

    def build() -> ASGIApp:
        metrics = Metrics()
        scheduler = Scheduler(
            side_by_side=settings.side_by_side, queue_length=settings.queue_length, on_end=metrics.count_reply
        )
        metrics.watch(scheduler)
        return create_app(travelling.get(), scheduler, metrics, settings)

    replica = serve.deployment(
        serve.ingress(build)(),
        name=NAME,
        num_replicas=replicas,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=settings.side_by_side,
        max_queued_requests=settings.queue_length,
        graceful_shutdown_timeout_s=settings.grace,
        health_check_period_s=SECONDS_BETWEEN_CHECKS,
    )
    serve.start(http_options={"host": settings.host, "port": settings.port}, proxy_location="HeadOnly")
    serve.run(replica.bind(), name=NAME, route_prefix="/")
    server = Replicas(model, settings, replicas)
    _wait_until_up(server.url)
    return server


def _wait_until_up(url: str) -> None:
    """Return once the server answers: Ray Serve's proxy learns a little later than the replicas what it is to serve."""
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/health", trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise ServerStartError(f"The replicas do not answer at {url}. Ray's logs, in /tmp/ray, say why.")
