"""A Ray cluster for tests: two nodes of one core each, on this machine; and what its workers do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
STARTS = 3


def _node() -> dict[str, Any]:
    """Return the settings of a small node."""
    sockets = {name: socket.create_server(("", 0)) for name in PORTS}
    ports = {name: each.getsockname()[1] for name, each in sockets.items()}
    for each in sockets.values():
        each.close()
    return {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False, **ports}


def _started() -> Any:
    """Return a cluster of two nodes. Ray gives a node half a minute to start, which a busy machine may need twice."""
    from ray.cluster_utils import Cluster

    for tries_left in reversed(range(STARTS)):
        cluster = Cluster()
        try:
            cluster.add_node(**_node())
            cluster.add_node(**_node())
        except Exception:
            cluster.shutdown()
            if not tries_left:
                raise
        else:
            break
    return cluster


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Start a cluster of two nodes, connect to it, and end it."""
    import ray

    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")  # for a busy machine
    cluster = _started()
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        patch.undo()


def working(task: str) -> list[psutil.Process]:
    """Return Ray's workers that are doing a task right now."""
    name = f"ray::{task}"
    return [each for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [""])[0].startswith(name)]


def when(condition: Callable[[], Any], do: Callable[[Any], Any]) -> threading.Thread:
    """Do something with what a condition returns, in a thread, as soon as it holds; return the thread."""

    def wait() -> None:
        until = time.monotonic() + 200
        while not (found := condition()) and time.monotonic() < until:
            time.sleep(0.05)
        do(found)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread
