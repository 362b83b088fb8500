"""Settings: how a server is to behave, checked once, before it starts.

In: the options of `chatlab serve`. Out: frozen settings that are known to be safe together. Knows nothing of sockets,
models or requests.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from chatlab.checks import LOOPBACK_NAMES, check_integer, check_number

__all__ = ["ServerSettings"]


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server listens, whom it lets in, and how much it takes on.

    `host` and `port` (0: any free one) are where it listens. `api_keys` are the keys that open it; without one, only
    this machine may reach it. `key_file` has a key and a budget for each learner, as `chatlab keys add` makes it.
    `any_model_name` answers every model name with the one model there is.

    `side_by_side` requests are worked on at the same time and `queue_length` more may wait. `max_body_bytes` is the
    largest request body. `cors_origins` are the web pages (such as "http://localhost:3000") whose scripts may call the
    server; `allowed_hosts` further names by which the server may be called, beside its own. `keep_alive` is the time
    between two comments in a stream that has nothing to say, `grace` how long replies may take to end when the server
    stops, and `send_timeout` how long a client may leave a stream unread, all in seconds. `log_prompts` writes the
    messages of every request to the log.

    Raises `ValueError` for settings that are not safe together, `BadRequestError` for a number out of range.

    >>> ServerSettings(host="0.0.0.0")
    Traceback (most recent call last):
    ValueError: host '0.0.0.0' lets other machines in, so a key is needed: give api_key (--api-key or --api-keys).
    """

    host: str = "127.0.0.1"
    port: int = 0
    api_keys: tuple[str, ...] = ()
    key_file: Path | None = None
    any_model_name: bool = False
    side_by_side: int = 8
    queue_length: int = 64
    max_body_bytes: int = 4_000_000
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    keep_alive: float = 10.0
    grace: float = 10.0
    send_timeout: float = 60.0
    log_prompts: bool = False

    def __post_init__(self) -> None:
        check_integer("port", self.port, minimum=0, maximum=65535)
        check_integer("side_by_side", self.side_by_side, minimum=1)
        check_integer("queue_length", self.queue_length, minimum=0)
        check_integer("max_body_bytes", self.max_body_bytes, minimum=1)
        check_number("keep_alive", self.keep_alive, 0.01, 3600)
        check_number("grace", self.grace, 0, 3600)
        check_number("send_timeout", self.send_timeout, 0.01, 3600)
        if any(not key or key != key.strip() or not key.isascii() for key in self.api_keys):
            raise ValueError("An API key must not be empty, nor hold spaces at its ends or characters beyond ASCII.")
        if not self.loopback and not self.wants_key:
            raise ValueError(
                f"host {self.host!r} lets other machines in, so a key is needed: give api_key (--api-key or "
                "--api-keys)."
            )

    @property
    def wants_key(self) -> bool:
        """Whether a client has to send a key."""
        return bool(self.api_keys) or self.key_file is not None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def host_names(self) -> frozenset[str] | None:
        """The names by which the server may be called (a request's Host header), or None for any.

        A web page can make its own name lead to 127.0.0.1 (DNS rebinding) and so reach a server on this machine, but
        its requests then carry that name. A server that is open to others has a key, which the page does not know.
        """
        if not self.loopback and not self.allowed_hosts:
            return None
        return frozenset(name.lower() for name in (*LOOPBACK_NAMES, self.host, *self.allowed_hosts))
