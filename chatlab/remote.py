"""Remote: any OpenAI-compatible server as the one that replies.

In: the address of a server, the name of a model there, and requests as `chat_completions` takes them. Out: the same
responses, chunks and errors as from a model on this machine. Knows nothing of weights or of how the server works.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai

from chatlab.chat_model import ChatModel
from chatlab.checks import LOOPBACK_NAMES, check_integer, kind_of
from chatlab.encodings import encoding as encoding_named
from chatlab.engines import Engine
from chatlab.errors import BadRequestError, ModelNotFoundError
from chatlab.messages import Message
from chatlab.model import chosen, load, resolve, use
from chatlab.remote_answers import EXTRAS, key_variable, no_completion, raise_plainly
from chatlab.remote_stream import RemoteStream, close_with, url_of, wait_for
from chatlab.requests import ChatOptions
from chatlab.weights.download import DEFAULT_MODEL

__all__ = ["RemoteModel", "connect", "engine_of", "vocabulary_of"]

ESTIMATE = "cl100k_base"


def connect(
    base_url: str,
    *,
    model: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    max_retries: int = 2,
    context_length: int | None = None,
    encoding: str | None = None,
) -> RemoteModel:
    """Return a model on an OpenAI-compatible server, to be given to `chat_completions`, `Conversation` and others.

    `base_url` is the server's address, with or without `/v1` at its end. `model` None takes the only model there is.
    `api_key` None takes the environment variable CHATLAB_API_KEY, if it is set; OPENAI_API_KEY is sent to
    api.openai.com and to nobody else. `timeout` (in seconds; None: the client's own) and `max_retries` are those of the
    official client, which tries again by itself after a failed connection and after 408, 409, 429 and 5xx.

    `context_length` is how many tokens prompt and reply may have there, if known: `Conversation` then leaves out what
    does not fit. A server does not show its tokenizer, so messages are counted with `encoding` (None: cl100k_base): an
    estimate. A server of chatlab's own that has the default model says how long its context is, and the same model on
    this machine counts for it exactly.

    Raises `ChatlabError`: `ModelNotFoundError` when there is not exactly one model to take, `APIConnectionError` when
    nobody answers.

    >>> connect("http://127.0.0.1:8000", model="SmolLM2-135M-Instruct")
    RemoteModel('SmolLM2-135M-Instruct', base_url='http://127.0.0.1:8000/v1')
    """
    if context_length is not None:
        check_integer("context_length", context_length, minimum=1)
    encoding_named(encoding or ESTIMATE)  # an encoding that cannot be had is told here, not in the middle of a chat
    url = _endpoint(base_url)
    key = os.environ.get(key_variable(url), "") if api_key is None else api_key
    # A proxy is for reaching others: asked for a server on this machine, it would look on its own.
    connections = openai.DefaultAsyncHttpxClient(trust_env=urlsplit(url).hostname not in LOOPBACK_NAMES)
    client = openai.AsyncOpenAI(
        base_url=url,
        api_key=key or "no-api-key",  # the client insists on one
        max_retries=check_integer("max_retries", max_retries, minimum=0),
        timeout=openai.NOT_GIVEN if timeout is None else timeout,
        http_client=connections,
    )
    close_with(client, connections)
    if model is not None:
        return RemoteModel(model, client, context_length=context_length, encoding=encoding or ESTIMATE)
    only = _only_model(client)
    told: int | None = getattr(only, "context_length", None) if only.owned_by == "chatlab" else None
    same = told is not None and only.id == DEFAULT_MODEL.name
    return RemoteModel(
        only.id,
        client,
        context_length=context_length or told,
        encoding=encoding or (None if same else ESTIMATE),
    )


class RemoteModel(Engine):
    """A model on a server: it answers chat completions, and shows neither its tokens nor its weights.

    `chatlab.connect` makes one. `base_url` is the address of its endpoint, `encoding` what its tokens are estimated
    with; None where the default model on this machine is the same one and counts them.
    """

    def __init__(
        self,
        name: str,
        client: openai.AsyncOpenAI,
        *,
        context_length: int | None = None,
        encoding: str | None = ESTIMATE,
    ) -> None:
        self.name = name
        self.context_length = context_length
        self.encoding = encoding
        self.client = client  # it knows the key, and does not show it
        self._warned: set[str] = set()

    @property
    def base_url(self) -> str:
        """The address of the endpoint."""
        return url_of(self.client)

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> RemoteStream:
        """Return a reply that has not been started: it can be streamed, or asked for whole."""
        return RemoteStream(self.client, _parameters(self.name, messages, options), warned=self._warned)

    def __repr__(self) -> str:
        limit = "" if self.context_length is None else f", context_length={self.context_length}"
        return f"RemoteModel({self.name!r}, base_url={self.base_url!r}{limit})"


def engine_of(model: Engine | str | Path | None) -> Engine:
    """Return the model itself, on this machine or on a server, or the one that a name leads to.

    None is what `chatlab.use` chose; without a choice the server at CHATLAB_BASE_URL, with CHATLAB_MODEL as the model's
    name there; without that variable the default model on this machine.
    """
    if isinstance(model, Engine):
        return model
    if model is not None:
        return load(model)
    if chosen() is None and (base_url := os.environ.get("CHATLAB_BASE_URL")):
        use(connect(base_url, model=os.environ.get("CHATLAB_MODEL")))
    return chosen() or load()


def vocabulary_of(model: Engine) -> ChatModel | str:
    """Return what counts a model's tokens: itself, the same model on this machine, or the encoding of an estimate.

    >>> vocabulary_of(connect("http://127.0.0.1:8000", model="any"))
    'cl100k_base'
    """
    if isinstance(model, RemoteModel):
        return model.encoding or load()
    return resolve(model)


def _parameters(name: str, messages: Sequence[Message], options: ChatOptions) -> dict[str, Any]:
    """Return the parameters to send: those that were given, and no other."""
    given = {each: _plain(value) for each, value in options.items() if value is not None}
    extras = {each: given.pop(each) for each in EXTRAS if each in given}
    if "logit_bias" in given:
        given["logit_bias"] = {str(token_id): _plain(bias) for token_id, bias in given["logit_bias"].items()}
    return {"model": name, "messages": messages, **given, **({"extra_body": extras} if extras else {})}


def _plain(value: Any) -> Any:
    """Return a number of another library, such as NumPy's, as Python's own, which JSON knows."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _endpoint(base_url: object) -> str:
    """Return the address with the `/v1` that belongs to it, or refuse what is no address."""
    url = str(base_url).strip().rstrip("/").removesuffix("/chat/completions")
    parts = urlsplit(url)
    if not isinstance(base_url, str) or parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequestError(
            f"base_url must be the address of a server, such as 'http://127.0.0.1:8000/v1', not {kind_of(base_url)}.",
            param="base_url",
            code="invalid_value",
        )
    if "@" in parts.netloc:
        raise BadRequestError(
            "base_url holds a name or password. Give the key as api_key instead: addresses are shown.", param="base_url"
        )
    return url if parts.path else f"{url}/v1"


def _only_model(client: openai.AsyncOpenAI) -> openai.types.Model:
    """Return the only model that the server has."""

    async def models() -> list[openai.types.Model]:
        return [model async for model in client.models.list()]

    url = url_of(client)
    try:
        found = wait_for(models())
    except openai.NotFoundError:
        found = []
    except openai.OpenAIError as error:
        raise_plainly(error, url=url, secret=client.api_key)
    except (AttributeError, TypeError) as error:
        raise no_completion(url) from error
    if len(found) != 1:
        listed = (
            f"has {len(found)} models: {', '.join(model.id for model in found)}"
            if found
            else "does not say which models it has"
        )
        raise ModelNotFoundError(f"{url} {listed}. Say which: chatlab.connect({url!r}, model=...).", param="model")
    return found[0]
