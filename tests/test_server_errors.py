"""The error table over a real socket: each wrong request, and the answer that a hosted service gives to it."""

from __future__ import annotations

import json

import httpx2
import openai
import pytest
from error_table import ACCEPTED, ROWS

from chatlab.server import ServerSettings, serve
from chatlab.testing import ScriptedModel

PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server():
    with serve(ScriptedModel("Hello!"), settings=ServerSettings(any_model_name=True)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        yield client


def as_json(body):
    """Write a body as JSON in ASCII, which half characters, NaN and Infinity pass through."""
    return {"content": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}


@pytest.mark.parametrize("stream", [None, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("body", "status", "param", "code"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_row_of_the_error_table(client, body, status, param, code, stream):
    if stream and isinstance(body, dict) and "stream" not in body and "stream_options" not in body:
        body = {**body, "stream": True}
    response = client.post(PATH, **as_json(body))
    assert response.headers["content-type"] == "application/json", "refused before a stream begins"
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert (response.status_code, error["type"], error["param"], error["code"]) == (
        status,
        "invalid_request_error",
        param,
        code,
    )
    assert len(error["message"]) > 10


@pytest.mark.parametrize("body", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_what_is_accepted(client, body):
    response = client.post(PATH, **as_json({**body, "max_tokens": 3} if "max_completion_tokens" not in body else body))
    assert response.status_code == 200, response.text


def test_the_official_client_raises_its_own_error_once(server):
    """A 400 is not tried again, as a 500 would be."""
    seen = []
    http_client = openai.DefaultHttpxClient(trust_env=False, event_hooks={"request": [seen.append]})
    client = openai.OpenAI(base_url=server.base_url, api_key="any", http_client=http_client)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=[{"role": "banana", "content": "Hi"}])
    assert (caught.value.param, caught.value.code) == ("messages[0].role", "invalid_value")
    assert len(seen) == 1
