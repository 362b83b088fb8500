"""Cluster: Ray, with which several processes, on one machine or on many, work as one.

In: the address of a Ray cluster, or "local". Out: Ray, connected to it. Knows nothing of what is done there.
"""

from __future__ import annotations

from typing import Any

from chatlab.errors import ClusterError

__all__ = ["connect_ray"]


def connect_ray(cluster: str | bool) -> Any:
    """Return Ray, connected: "local" starts a cluster of all cores here, an address is one that runs.

    True is the one that this process is connected to or that runs on this machine. Once connected, Ray stays so until
    the process ends. Raises `ClusterError` where Ray is not installed, does not start, or no cluster is found.
    """
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            "This needs Ray, which is not installed: pip install 'chatlab-classroom[cluster]'"
        ) from error
    if ray.is_initialized():
        return ray
    address = {"local": "local", True: "auto"}.get(cluster, cluster)
    try:
        ray.init(address=address, include_dashboard=False if address == "local" else None, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise ClusterError(
            f"There is no Ray cluster at {cluster!r}: {error} Start one with `ray start --head`, or take "
            "cluster='local'."
        ) from error
    except Exception as error:  # Ray has no name for a node that is too slow to start
        raise ClusterError(f"Ray did not start: {error} Try again when the machine is less busy.") from error
    return ray
