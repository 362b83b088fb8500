"""Every error chatlab raises on purpose, as one tree.

In: what was wrong. Out: an exception that says what to do, and, for a bad request, the HTTP status, type, param
and code that a chat completions server would answer. Knows nothing of models, messages or sockets.

    ChatlabError
    ├── RequestError                  what a server answers with an error status (4xx, 5xx)
    │   ├── BadRequestError           400: the request itself is wrong
    │   │   └── ContextLengthError    400: too many tokens for the model
    │   ├── AuthenticationError       401: no API key, or a wrong one
    │   ├── PermissionDeniedError     403: the key may not do this
    │   ├── NotFoundError             404: nothing at that address
    │   │   └── ModelNotFoundError    404: no model of that name
    │   ├── RequestTooLargeError      413: the body is larger than the server reads
    │   ├── RateLimitError            429: too many requests at once
    │   └── InternalServerError       500 and above: the server failed
    │       └── ServerStoppingError   503: the server is stopping and begins no more replies
    ├── APIConnectionError            no server could be reached, or the connection was cut
    │   └── APITimeoutError           the server did not answer in time
    ├── ServerAnswerError             a server answered something that is no chat completion
    ├── LocalModelNeededError         a server does not show what is asked for; a model on this machine does
    ├── ClusterError                  Ray is not installed, or there is no cluster to work on
    ├── ModelFilesError               the model's files cannot be had, stored or read
    ├── ServerStartError              a server cannot listen where it should
    ├── KeyFileError                  a file of API keys cannot be read or changed as asked
    ├── ChatTemplateError             the model has no (working) chat template
    └── ReplyStoppedError             a whole reply was asked for and stopped before its end

A request or connection error is also the class that the official `openai` client raises in the same case, so code
that catches `openai.BadRequestError` behaves the same against chatlab and against a hosted service:

>>> import openai
>>> issubclass(BadRequestError, openai.BadRequestError)
True
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import httpx2
import openai

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ChatTemplateError",
    "ChatlabError",
    "ClusterError",
    "ContextLengthError",
    "InternalServerError",
    "KeyFileError",
    "LocalModelNeededError",
    "ModelFilesError",
    "ModelNotFoundError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ReplyStoppedError",
    "RequestError",
    "RequestTooLargeError",
    "ServerAnswerError",
    "ServerStartError",
    "ServerStoppingError",
]


class ChatlabError(Exception):
    """The base of every error that chatlab raises on purpose.

    try:
        response = chatlab.chat_completions(messages=messages)
    except chatlab.ChatlabError as error:
        print(error)
    """


class RequestError(ChatlabError, openai.APIStatusError):
    """A request that a chat completions server answers with an error status.

    `message` says what is wrong, `param` is the path of the parameter at fault (`"messages[0].role"`), `code` the
    machine-readable reason (`"missing_required_parameter"`), `type` the family; each may be None except `message`.
    `body` is the `error` object a server would send; `response` is the answer of a real one, where there was one.

    >>> error = BadRequestError("The role is missing.", param="messages[0].role", code="missing_required_parameter")
    >>> error.status_code, error.param, error.code
    (400, 'messages[0].role', 'missing_required_parameter')
    """

    status = 400
    default_type = "invalid_request_error"
    default_code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type: str | None = None,
        response: httpx2.Response | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        body = {
            "message": message,
            "type": type or self.default_type,
            "param": param,
            "code": code or self.default_code,
        }
        if response is None:
            request = httpx2.Request("POST", "http://chatlab.local/v1/chat/completions")
            content = json.dumps({"error": body})  # in ASCII: a caller's half characters must not break it
            response = httpx2.Response(self.status, headers=headers, content=content, request=request)
        super().__init__(message, response=response, body=body)


class BadRequestError(RequestError, openai.BadRequestError):
    """400: the request itself is wrong; sending it again changes nothing."""


class ContextLengthError(BadRequestError):
    """400: the prompt, or the prompt plus the reply asked for, is longer than the model's context."""

    default_code = "context_length_exceeded"


class AuthenticationError(RequestError, openai.AuthenticationError):
    """401: the server wants an API key, and got none or a wrong one."""

    status = 401
    default_code = "invalid_api_key"


class PermissionDeniedError(RequestError, openai.PermissionDeniedError):
    """403: this is not allowed, with the key given or in the way it was asked."""

    status = 403


class NotFoundError(RequestError, openai.NotFoundError):
    """404: there is nothing at that address."""

    status = 404


class ModelNotFoundError(NotFoundError):
    """404: no model of that name can be found here."""

    default_code = "model_not_found"


class RequestTooLargeError(RequestError):
    """413: the body of the request is larger than the server reads."""

    status = 413


class RateLimitError(RequestError, openai.RateLimitError):
    """429: too many requests at once, or more than was paid for.

    >>> RateLimitError("Wait.", headers={"Retry-After": "3"}).retry_after
    3.0
    """

    status = 429
    default_type = "rate_limit_error"

    @property
    def retry_after(self) -> float | None:
        """How many seconds the server asks to wait, or None where it does not say."""
        seconds = self.response.headers.get("retry-after", "")
        return float(seconds) if seconds.replace(".", "", 1).isdecimal() else None


class InternalServerError(RequestError, openai.InternalServerError):
    """500 and above: the server failed; the request may be right."""

    status = 500
    default_type = "server_error"


class ServerStoppingError(InternalServerError):
    """503: the server is stopping; it begins no more replies."""

    status = 503


class APIConnectionError(ChatlabError, openai.APIConnectionError):
    """No server could be reached, or the connection was cut before the end of the reply."""

    def __init__(self, message: str, *, request: httpx2.Request) -> None:
        openai.APIError.__init__(self, message, request, body=None)


class APITimeoutError(APIConnectionError, openai.APITimeoutError):
    """The server did not answer in time."""


class ServerAnswerError(ChatlabError, openai.APIError):
    """A server answered something that is no chat completion, or failed in the middle of one."""


class LocalModelNeededError(ChatlabError):
    """A server shows neither tokens nor weights; what was called needs a model on this machine."""


class ClusterError(ChatlabError):
    """Ray is not installed, or there is no cluster where one is said to be."""


class ModelFilesError(ChatlabError):
    """The model's files cannot be downloaded, stored or read; the message says what to do."""


class ServerStartError(ChatlabError):
    """A server cannot listen at the address it was given."""


class KeyFileError(ChatlabError):
    """A file of API keys cannot be read, or not be changed as asked; the message says why."""


class ChatTemplateError(ChatlabError):
    """The model has no chat template, or one that does not work."""


class ReplyStoppedError(ChatlabError):
    """A whole reply was asked for, and it was stopped before its end."""
