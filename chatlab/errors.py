"""Every error chatlab raises on purpose, as one tree.

In: what was wrong. Out: an exception that says what to do, and, for a bad request, the HTTP status, type, param
and code that a chat completions server would answer. Knows nothing of models, messages or sockets.

    ChatlabError
    ├── RequestError                  what a server answers with a status of 400 or above
    │   ├── BadRequestError           400: the request itself is wrong
    │   │   └── ContextLengthError    400: too many tokens for the model
    │   ├── AuthenticationError       401: no key, or a wrong one
    │   ├── PermissionDeniedError     403: called by a name that is not the server's
    │   ├── ModelNotFoundError        404: no model of that name
    │   ├── RequestTooLargeError      413: the body is larger than the server reads
    │   ├── RateLimitError            429: too many requests at once; `retry_after` says when to try again
    │   └── ServerStoppingError       503: the server stops and begins no more replies
    ├── ModelFilesError               the model's files cannot be had, stored or read
    ├── ServerStartError              the server cannot listen where it should
    ├── ChatTemplateError             the model has no (working) chat template
    └── ReplyStoppedError             a whole reply was asked for and stopped before its end

A request error is also the class that the official `openai` client raises for the same mistake, so code that
catches `openai.BadRequestError` behaves the same against chatlab and against a hosted service:

>>> import openai
>>> issubclass(BadRequestError, openai.BadRequestError)
True
"""

from __future__ import annotations

import httpx2
import openai

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "ChatTemplateError",
    "ChatlabError",
    "ContextLengthError",
    "ModelFilesError",
    "ModelNotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ReplyStoppedError",
    "RequestError",
    "RequestTooLargeError",
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
    """A request that a chat completions server would refuse with a status of 400 or above.

    `message` says what is wrong, `param` is the path of the parameter at fault (`"messages[0].role"`), `code` the
    machine-readable reason (`"missing_required_parameter"`), `type` the family; each may be None except `message`.
    `body` is the `error` object a server would send.

    >>> error = BadRequestError("The role is missing.", param="messages[0].role", code="missing_required_parameter")
    >>> error.status_code, error.param, error.code
    (400, 'messages[0].role', 'missing_required_parameter')
    """

    status = 400
    default_code: str | None = None
    default_type = "invalid_request_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type: str | None = None,
    ) -> None:
        body = {
            "message": message,
            "type": type or self.default_type,
            "param": param,
            "code": code or self.default_code,
        }
        request = httpx2.Request("POST", "http://chatlab.local/v1/chat/completions")
        response = httpx2.Response(self.status, json={"error": body}, request=request)
        super().__init__(message, response=response, body=body)


class BadRequestError(RequestError, openai.BadRequestError):
    """400: the request itself is wrong; sending it again changes nothing."""


class ContextLengthError(BadRequestError):
    """400: the prompt, or the prompt plus the reply asked for, is longer than the model's context."""

    default_code = "context_length_exceeded"


class AuthenticationError(RequestError, openai.AuthenticationError):
    """401: the server wants a key, and got none or a wrong one."""

    status = 401
    default_code = "invalid_api_key"


class PermissionDeniedError(RequestError, openai.PermissionDeniedError):
    """403: the server may not be called in this way, such as by a name that is not its own."""

    status = 403


class ModelNotFoundError(RequestError, openai.NotFoundError):
    """404: no model of that name can be found here."""

    status = 404
    default_code = "model_not_found"


class RequestTooLargeError(RequestError):
    """413: the body of the request is larger than the server reads."""

    status = 413


class RateLimitError(RequestError, openai.RateLimitError):
    """429: too many requests at once; `retry_after` is after how many seconds to try again, where that is known."""

    status = 429
    default_type = "rate_limit_error"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerStoppingError(RequestError, openai.InternalServerError):
    """503: the server is stopping; it begins no more replies."""

    status = 503
    default_type = "server_error"


class ModelFilesError(ChatlabError):
    """The model's files cannot be downloaded, stored or read; the message says what to do."""


class ServerStartError(ChatlabError):
    """The server cannot listen at the address it was given."""


class ChatTemplateError(ChatlabError):
    """The model has no chat template, or one that does not work."""


class ReplyStoppedError(ChatlabError):
    """A whole reply was asked for, and it was stopped before its end."""
