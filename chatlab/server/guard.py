"""Guard: who may come in, and a line in the log for each who came.

In: any HTTP request. Out: the request, passed on, or the refusal: a name that is not the server's, a missing or wrong
key. Each answer carries an `x-request-id`. Knows nothing of chat completions.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatlab.errors import AuthenticationError, PermissionDeniedError, RequestError
from chatlab.server.answers import error_response
from chatlab.server.metrics import Metrics
from chatlab.server.settings import ServerSettings

__all__ = ["Guard"]

logger = logging.getLogger("chatlab.server")

OPEN_PATHS = ("/health", "/docs", "/redoc", "/openapi.json", "/static-offline-docs/")  # nothing in them is anyone's


class Guard:
    """An ASGI application around another one, which lets in only whom the settings allow.

    It notes in the request's state `client`, who is calling: the key's fingerprint, or the address where there are no
    keys; and `request_id`.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._fingerprints = [_fingerprint(key) for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, started, status = f"req_{secrets.token_hex(16)}", time.monotonic(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            client = self._check(scope)
            scope["state"] = {**scope.get("state", {}), "client": client, "request_id": request_id}
            await self._app(scope, receive, send_with_id)
        except RequestError as error:
            await error_response(error)(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "(no such path)")
            self._metrics.count_request(route, status)
            seconds = time.monotonic() - started
            logger.info(
                "%s %s %d in %.2f s (%s)", scope["method"], _one_line(scope["path"]), status, seconds, request_id
            )

    def _check(self, scope: Scope) -> str:
        """Return who is calling; raise unless they may."""
        headers = Headers(scope=scope)
        names = self._settings.host_names
        called = re.sub(r":\d*$", "", headers.get("host", "")).strip("[].").lower()
        if names is not None and called not in names:
            raise PermissionDeniedError(
                f"This server is not called {called[:80]!r}. Its names are {', '.join(sorted(names))}; `allowed_hosts` "
                "(--allowed-host) adds others.",
                code="invalid_host",
            )
        if not self._fingerprints or scope["path"].startswith(OPEN_PATHS):
            return str((scope.get("client") or ("unknown",))[0])
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise AuthenticationError("This server wants a key: send the header 'Authorization: Bearer YOUR_KEY'.")
        fingerprint = _fingerprint(key.strip())
        # All keys are compared, each in constant time, so that the time taken tells nothing about any of them.
        if not sum(hmac.compare_digest(fingerprint, each) for each in self._fingerprints):
            raise AuthenticationError("The key is not one of this server's. Check it for typing mistakes.")
        return fingerprint.hex()[:12]


def _fingerprint(key: str) -> bytes:
    """Return the digest of a key, which can be compared, and be named in a count, without telling the key."""
    return hashlib.sha256(key.encode("latin-1", "replace")).digest()


def _one_line(path: str) -> str:
    """Return a path as a log can hold it: what a caller sends must not look like lines of the log's own."""
    return ascii(path[:200])[1:-1]
