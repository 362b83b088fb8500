"""Guard: who may come in, and a line in the log for each who came.

In: any HTTP request. Out: the request, passed on, or the refusal: a name that is not the server's, a missing or wrong
key. Each answer carries an `x-request-id`. Knows nothing of chat completions.
"""

from __future__ import annotations

import base64
import hmac
import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatlab.errors import AuthenticationError, PermissionDeniedError, RequestError
from chatlab.server.answers import error_response
from chatlab.server.api_keys import KeyFile, KeyHolder, fingerprint
from chatlab.server.metrics import Metrics
from chatlab.server.settings import ServerSettings

__all__ = ["Guard"]

logger = logging.getLogger("chatlab.server")

TEACHER_PATHS = ("/room",)  # what everybody uses
OPEN_PATHS = ("/health", "/docs", "/redoc", "/openapi.json", "/static-offline-docs/")  # nothing in them is anyone's


class Guard:
    """An ASGI application around another one, which lets in only whom the settings allow.

    It notes in the request's state `client`, who is calling: the name in the key file, the fingerprint of another key,
    or the address where there are no keys; `holder`, who that is in the key file, or None; and `request_id`.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics, keys: KeyFile | None = None) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._keys = keys
        self._fingerprints = [fingerprint(key) for key in settings.api_keys]

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
            client, holder = self._check(scope)
            state = {"client": client, "holder": holder, "request_id": request_id}
            scope["state"] = {**scope.get("state", {}), **state}
            await self._app(scope, receive, send_with_id)
        except RequestError as error:
            response = error_response(error)
            if response.status_code == 401 and _is_for_teachers(scope):  # a browser asks for a password then
                response.headers["WWW-Authenticate"] = 'Basic realm="chatlab: the key is the password", charset="UTF-8"'
            await response(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "(no such path)")
            self._metrics.count_request(route, status)
            seconds = time.monotonic() - started
            logger.info(
                "%s %s %d in %.2f s (%s)", scope["method"], _one_line(scope["path"]), status, seconds, request_id
            )

    def _check(self, scope: Scope) -> tuple[str, KeyHolder | None]:
        """Return who is calling, and who that is in the key file; raise unless they may."""
        headers = Headers(scope=scope)
        names = self._settings.host_names
        called = re.sub(r":\d*$", "", headers.get("host", "")).strip("[].").lower()
        if names is not None and called not in names:
            raise PermissionDeniedError(
                f"This server is not called {called[:80]!r}. Its names are {', '.join(sorted(names))}; `allowed_hosts` "
                "(--allowed-host) adds others.",
                code="invalid_host",
            )
        if not self._settings.wants_key or scope["path"].startswith(OPEN_PATHS):
            return str((scope.get("client") or ("unknown",))[0]), None
        key = _key_of(headers, with_password=_is_for_teachers(scope))
        holder = self._keys.whose(key) if self._keys else None
        digest = fingerprint(key)
        # All keys are compared, each in constant time, so that the time taken tells nothing about any of them.
        if not sum(hmac.compare_digest(digest, each) for each in self._fingerprints) and holder is None:
            raise AuthenticationError("The key is not one of this server's. Check it for typing mistakes.")
        if _is_for_teachers(scope) and not (holder and holder.teacher):
            raise PermissionDeniedError("What the room uses is for a teacher's key: `chatlab keys add NAME --teacher`.")
        return (holder.name if holder else digest.hex()[:12]), holder


def _is_for_teachers(scope: Scope) -> bool:
    return str(scope["path"]).startswith(TEACHER_PATHS)


def _key_of(headers: Headers, *, with_password: bool) -> str:
    """Return the key that was sent, as a bearer's or, from a browser that asked a person, as a password."""
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and sent:
        return sent.strip()
    if with_password and scheme.lower() == "basic":
        try:
            return base64.b64decode(sent, validate=True).decode().partition(":")[2].strip()
        except ValueError:
            raise AuthenticationError("The password that was sent cannot be read. It is a teacher's key.") from None
    raise AuthenticationError("This server wants a key: send the header 'Authorization: Bearer YOUR_KEY'.")


def _one_line(path: str) -> str:
    """Return a path as a log can hold it: what a caller sends must not look like lines of the log's own."""
    return ascii(path[:200])[1:-1]
