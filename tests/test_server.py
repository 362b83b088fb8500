"""The server over a real socket: its paths, its refusals, its door, its end."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

import chatlab
from chatlab.chat_model import PREFILL_CHUNK
from chatlab.errors import BadRequestError, ServerStartError
from chatlab.server import ServerSettings, serve
from chatlab.testing import ScriptedModel

HELLO = [{"role": "user", "content": "Hi"}]
BODY = {"model": "scripted", "messages": HELLO}
PATH = "/v1/chat/completions"


def call(server, method, path, **options):
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=20) as client:
        return client.request(method, path, **options)


def error_of(response):
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert list(response.json()) == ["error"] and list(error) == ["message", "type", "param", "code"]
    assert error["message"]
    return error


def events_of(response):
    """Return the events of a stream, comments left out; the last one must be [DONE]."""
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    data = [block.removeprefix("data: ") for block in blocks if not block.startswith(":")]
    assert all(block.startswith(("data: ", ": ")) for block in blocks)
    assert data.pop() == "[DONE]"
    return [json.loads(each) for each in data]


def until(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def health(server):
    return call(server, "GET", "/health").json()


@pytest.fixture(scope="module")
def server():
    with serve(ScriptedModel("Hello!")) as server:
        yield server


def test_a_whole_reply_has_the_keys_of_the_protocol(server):
    response = call(server, "POST", PATH, json=BODY)
    body = response.json()
    assert response.status_code == 200
    assert set(body) == {"id", "object", "created", "model", "choices", "usage"}
    assert body["object"] == "chat.completion" and body["model"] == "scripted"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello!", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ]
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert "cached_tokens" in body["usage"]["prompt_tokens_details"]


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_stream_has_the_order_and_keys_of_the_protocol(server, include_usage):
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    response = call(server, "POST", PATH, json={**BODY, "stream": True, **options})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response)
    assert len({(event["id"], event["created"], event["model"], event["object"]) for event in events}) == 1
    usage = events.pop() if include_usage else None
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0] == {"role": "assistant", "content": ""} and deltas[-1] == {}
    assert [delta["content"] for delta in deltas[1:-1]] == list("Hello!")
    assert [event["choices"][0]["finish_reason"] for event in events] == [None] * 7 + ["stop"]
    if usage:
        assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 7
        assert all(event["usage"] is None for event in events)
    else:
        assert all("usage" not in event for event in events)


def test_models_and_health(server):
    listed = call(server, "GET", "/v1/models").json()
    assert listed["object"] == "list" and [each["id"] for each in listed["data"]] == ["scripted"]
    assert call(server, "GET", "/v1/models/scripted").json() == listed["data"][0]
    assert error_of(call(server, "GET", "/v1/models/other/one"))["code"] == "model_not_found"
    assert health(server) == {"status": "ok", "model": "scripted", "running": 0, "waiting": 0}
    assert server.client().models.list().data[0].id == "scripted"


def test_metrics_count_requests_and_tokens():
    with serve(ScriptedModel("Hello!")) as server:
        for _ in range(2):
            call(server, "POST", PATH, json=BODY)
        call(server, "GET", "/nothing/at/all")
        until(lambda: "chatlab_reply_seconds_count 2.0" in call(server, "GET", "/metrics").text)
        text = call(server, "GET", "/metrics").text
    assert 'chatlab_requests_total{path="/v1/chat/completions",status="200"} 2.0' in text
    assert 'chatlab_requests_total{path="(no such path)",status="404"} 1.0' in text
    assert 'chatlab_tokens_total{kind="completion"} 14.0' in text
    assert "chatlab_replies_running 0.0" in text and "chatlab_time_to_first_token_seconds_count 2.0" in text


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", PATH, {}, 405),
        ("DELETE", "/v1/models", {}, 405),
        ("POST", PATH, {"content": b"{'model'"}, 400),
        ("POST", PATH, {"content": b""}, 400),
        ("POST", PATH, {"content": b"[1, 2]"}, 400),
        ("POST", PATH, {"content": b'"text"'}, 400),
        ("POST", PATH, {"content": b"\xff\xfe"}, 400),
        ("POST", PATH, {"content": b"[" * 100_000}, 400),
    ],
)
def test_what_is_no_request_is_refused_in_the_same_form(server, method, path, options, status):
    response = call(server, method, path, **options)
    error = error_of(response)
    assert response.status_code == status
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)


def test_unknown_model(server):
    response = call(server, "POST", PATH, json={**BODY, "model": "gpt-99"})
    error = error_of(response)
    assert response.status_code == 404 and (error["param"], error["code"]) == (None, "model_not_found")
    with serve(ScriptedModel("Hello!"), any_model_name=True) as other:
        response = call(other, "POST", PATH, json={**BODY, "model": "gpt-99"})
        assert response.json()["model"] == "scripted", "the reply must not claim to be another model's"


def test_half_characters_do_not_break_the_answer(server):
    content = json.dumps({**BODY, "model": "\ud800"}).encode()
    assert call(server, "POST", PATH, content=content).status_code == 404


def test_what_can_be_refused_is_refused_before_the_stream(server):
    response = call(server, "POST", PATH, json={**BODY, "stream": True, "temperature": 9})
    assert response.status_code == 400 and error_of(response)["param"] == "temperature"


def test_every_answer_has_an_id(server):
    answers = [call(server, "POST", PATH, json=BODY), call(server, "GET", "/nothing"), call(server, "GET", "/health")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 3 and all(re.fullmatch("req_[0-9a-f]{32}", each) for each in ids)
    assert server.client().chat.completions.create(**BODY)._request_id.startswith("req_")


def test_too_large_a_body():
    with serve(ScriptedModel("Hello!"), settings=ServerSettings(max_body_bytes=1000)) as server:
        assert call(server, "POST", PATH, json=BODY).status_code == 200
        response = call(server, "POST", PATH, content=b" " * 1001)
        assert response.status_code == 413 and error_of(response)["code"] is None


def test_a_full_server_says_when_to_try_again():
    settings = ServerSettings(side_by_side=1, queue_length=0)
    with serve(ScriptedModel("x" * 8000, seconds_per_token=0.01), settings=settings) as server:
        with server.client().with_options(max_retries=0).chat.completions.create(**BODY, stream=True) as stream:
            next(stream)
            response = call(server, "POST", PATH, json=BODY)
            assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1
            assert error_of(response)["type"] == "rate_limit_error"
            with pytest.raises(openai.RateLimitError):
                server.client().with_options(max_retries=0).chat.completions.create(**BODY)
        until(lambda: health(server)["running"] == 0)


class Crashing(ScriptedModel):
    """Fails after the second token."""

    def next_token_logits(self, input_ids, past_key_values=None):
        if past_key_values and past_key_values["single_tokens"]:
            raise RuntimeError("secret detail")
        return super().next_token_logits(input_ids, past_key_values)


def test_a_crash_is_answered_to_that_request_only():
    with serve(Crashing("abc")) as server:
        response = call(server, "POST", PATH, json=BODY)
        assert response.status_code == 500
        assert error_of(response)["type"] == "server_error" and "secret detail" not in response.text
        streamed = call(server, "POST", PATH, json={**BODY, "stream": True})
        *chunks, last = events_of(streamed)
        assert streamed.status_code == 200 and chunks[-1]["choices"][0]["delta"] == {"content": "b"}
        assert last["error"]["type"] == "server_error"
        with pytest.raises(openai.APIError):
            list(server.client().chat.completions.create(**BODY, stream=True))
        assert call(server, "POST", PATH, json={**BODY, "max_tokens": 1}).status_code == 200


@pytest.mark.parametrize("chunk", [PREFILL_CHUNK, 8 * PREFILL_CHUNK])
def test_the_role_comes_before_the_prompt_is_read_and_comments_tell_how_far_it_is(chunk):
    """A model that reads larger pieces by itself reads smaller ones here, for others wait meanwhile."""
    model = ScriptedModel("Hey", seconds_per_token=0.5)
    model.prefill_chunk = chunk
    long = {**BODY, "messages": [{"role": "user", "content": "x" * 4 * PREFILL_CHUNK}], "stream": True}
    with (
        serve(model) as server,
        httpx2.Client(base_url=server.url, trust_env=False) as client,
        client.stream("POST", PATH, json=long) as response,
    ):
        lines = response.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"
        assert len(model.prompts) == 0 or len(model.prompts[0]) <= PREFILL_CHUNK, "it came after the prompt was read"
        comments = [line for line in lines if line.startswith(":")]
    assert re.fullmatch(rf": reading the prompt: {PREFILL_CHUNK} of \d+ tokens", comments[0]) and len(comments) == 4
    assert model.prefill_chunk == chunk


def test_comments_keep_a_waiting_stream_alive():
    settings = ServerSettings(side_by_side=1, keep_alive=0.05)
    with serve(ScriptedModel("x" * 8000, seconds_per_token=0.02), settings=settings) as server:
        with server.client().chat.completions.create(**BODY, stream=True) as running:
            next(running)
            with (
                httpx2.Client(base_url=server.url, trust_env=False) as client,
                client.stream("POST", PATH, json={**BODY, "stream": True}) as waiting,
            ):
                lines = [line for line, _ in zip(waiting.iter_lines(), range(8), strict=False) if line]
        assert '"role":"assistant"' in lines[0] and ": keep-alive" in lines[1:]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_place(stream):
    with serve(ScriptedModel("x" * 8000, seconds_per_token=0.01)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]))
        connection.request("POST", PATH, json.dumps({**BODY, "stream": stream}), {"Content-Type": "application/json"})
        until(lambda: health(server)["running"] == 1)
        connection.close()
        until(lambda: health(server)["running"] == 0, seconds=2)


def test_two_servers_side_by_side_and_one_again():
    before = set(threading.enumerate())
    with serve(ScriptedModel("one")) as one, serve(ScriptedModel("two")) as two:
        texts = [each.client().chat.completions.create(**BODY).choices[0].message.content for each in (one, two)]
        assert texts == ["one", "two"]
    with serve(ScriptedModel("again"), port=int(one.url.rpartition(":")[2])) as again:
        assert again.url == one.url
        assert again.client().chat.completions.create(**BODY).choices[0].message.content == "again"
    assert not one.running and "stopped" in repr(one)
    assert not [each for each in set(threading.enumerate()) - before if each.name.startswith("chatlab")]


def test_a_port_that_is_taken():
    with serve(ScriptedModel("x")) as server, pytest.raises(ServerStartError, match="another program has the port"):
        serve(ScriptedModel("x"), port=int(server.url.rpartition(":")[2]))


def test_stopping_ends_streams_properly():
    server = serve(ScriptedModel("x" * 8000, seconds_per_token=0.01), settings=ServerSettings(grace=0.2))
    with (
        httpx2.Client(base_url=server.url, trust_env=False, timeout=20) as client,
        client.stream("POST", PATH, json={**BODY, "stream": True}) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        threading.Thread(target=server.stop).start()
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert json.loads(rest[-2].removeprefix("data: "))["error"]["type"] == "server_error"


def test_stopping_lets_short_replies_end():
    server = serve(ScriptedModel("x" * 30, seconds_per_token=0.01))
    replies = []
    thread = threading.Thread(
        target=lambda: replies.append(server.client().chat.completions.create(**BODY).choices[0].message.content)
    )
    thread.start()
    until(lambda: health(server)["running"] == 1)
    server.stop()
    thread.join()
    assert replies == ["x" * 30]


KEY = "sk-lesson-4711"


@pytest.fixture(scope="module")
def locked():
    with serve(ScriptedModel("Hello!"), api_key=KEY) as server:
        yield server


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {KEY}", "Bearer", f"Bearer {KEY}x", "Bearer é"])
def test_a_wrong_key(locked, header):
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    response = call(locked, "POST", PATH, json=BODY, headers=headers)
    error = error_of(response)
    assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_api_key")
    assert KEY not in response.text


def test_the_right_key(locked):
    assert call(locked, "POST", PATH, json=BODY, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert locked.client().chat.completions.create(**BODY).choices[0].message.content == "Hello!"
    assert [call(locked, "GET", path).status_code for path in ("/health", "/docs", "/metrics", "/v1/models")] == [
        200,
        200,
        401,
        401,
    ]


def test_keys_and_prompts_stay_out_of_the_log_unless_asked_for(caplog):
    caplog.set_level("DEBUG")
    secret = {"model": "scripted", "messages": [{"role": "user", "content": "my diary"}]}
    bad = {**secret, "temperature": "hot"}
    for log_prompts in (False, True):
        caplog.clear()
        settings = ServerSettings(api_keys=(KEY,), log_prompts=log_prompts)
        with serve(ScriptedModel("Hello!"), settings=settings) as server:
            server.client().chat.completions.create(**secret)
            call(server, "POST", PATH, json=bad, headers={"Authorization": f"Bearer {KEY}"})
            call(server, "POST", PATH, json=bad, headers={"Authorization": f"Bearer {KEY}-wrong"})
        records = [record for record in caplog.records if record.name.startswith(("chatlab", "uvicorn", "sse"))]
        text = "\n".join(record.getMessage() for record in records)
        assert KEY not in text and "POST /v1/chat/completions 200" in text
        assert ("my diary" in text) == log_prompts


def test_a_path_cannot_forge_a_line_of_the_log(server, caplog):
    caplog.set_level("INFO", logger="chatlab.server")
    call(server, "GET", "/x%0A2026 POST /all/fine 200")
    assert all("\n" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "localhost.evil", ""])
def test_another_name_is_refused(server, host):
    response = call(server, "POST", PATH, json=BODY, headers={"Host": host})
    if host or response.headers.get("x-request-id"):
        assert response.status_code == 403 and error_of(response)["code"] == "invalid_host"
    else:
        assert response.status_code == 400


@pytest.mark.parametrize("host", ["localhost:1", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "[::1]", "localhost."])
def test_the_servers_own_names_are_let_in(server, host):
    assert call(server, "GET", "/v1/models", headers={"Host": host}).status_code == 200


def test_further_names_may_be_allowed():
    with serve(ScriptedModel("x"), settings=ServerSettings(allowed_hosts=("Lab.example",))) as server:
        assert call(server, "GET", "/v1/models", headers={"Host": "lab.example:8000"}).status_code == 200
        assert call(server, "GET", "/v1/models", headers={"Host": "other.example"}).status_code == 403


def test_pages_of_other_sites_are_let_in_only_where_named():
    page = {"Origin": "http://page.example"}
    ask = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with serve(ScriptedModel("x")) as closed:
        assert "access-control-allow-origin" not in call(closed, "POST", PATH, json=BODY, headers=page).headers
        assert call(closed, "OPTIONS", PATH, headers=ask).status_code == 405
    settings = ServerSettings(cors_origins=("http://page.example",), api_keys=(KEY,))
    with serve(ScriptedModel("x"), settings=settings) as opened:
        assert call(opened, "OPTIONS", PATH, headers=ask).headers["access-control-allow-origin"] == page["Origin"]
        refused = call(opened, "POST", PATH, json=BODY, headers=page)
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == page["Origin"]
        other = call(opened, "POST", PATH, json=BODY, headers={"Origin": "http://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_settings_that_are_not_safe():
    with pytest.raises(ValueError, match="a key is needed"):
        ServerSettings(host="0.0.0.0")
    with pytest.raises(ValueError, match="a key is needed"):
        serve(ScriptedModel("x"), host="192.168.0.7")
    with pytest.raises(ValueError, match="must not be empty"):
        ServerSettings(api_keys=("",))
    with pytest.raises(BadRequestError, match="side_by_side"):
        ServerSettings(side_by_side=0)
    assert ServerSettings(host="0.0.0.0", api_keys=("k",)).host_names is None
    assert ServerSettings(host="127.0.0.5").loopback and ServerSettings(host="::1").loopback


def test_the_page_and_the_description_need_no_network(server):
    page = call(server, "GET", "/docs").text
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    for path in re.findall(r"(?:src|href)=\"(/[^\"]+)\"", page):
        assert call(server, "GET", path).status_code == 200
    description = call(server, "GET", "/openapi.json").json()
    assert set(description["paths"]) == {PATH, "/v1/models", "/v1/models/{name}", "/health", "/metrics"}


def test_the_description_knows_every_parameter(server):
    description = call(server, "GET", "/openapi.json").json()
    schema = description["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(chatlab.requests.ChatOptions.__annotations__) | {"stream"} <= set(schema["properties"])


def test_a_server_shows_itself():
    with serve(ScriptedModel("x", name="<b>model</b>")) as server:
        assert repr(server) == f"Server('<b>model</b>' at {server.base_url}, running)"
        assert "<b>" not in server._repr_html_() and server.url in server._repr_html_()


def test_served_from_a_terminal_until_ctrl_c(model):
    process = subprocess.Popen(
        [sys.executable, "-m", "chatlab", "serve", "--port", "0", "--grace", "120"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            printed += line
        address = re.search(r"served at (\S+)", printed).group(1)
        client = openai.OpenAI(base_url=address, api_key="any", http_client=openai.DefaultHttpxClient(trust_env=False))
        stream = client.chat.completions.create(
            model=model.name, messages=[{"role": "user", "content": "Count to ten."}], stream=True, max_tokens=6
        )
        chunks = [next(stream)]
        process.send_signal(signal.SIGINT)
        chunks += stream
        assert all(isinstance(chunk, ChatCompletionChunk) for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason in ("length", "stop"), "the reply being made was not finished"
        rest, log = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "stopped" in rest and process.returncode == 0
    assert "POST /v1/chat/completions 200" in log and "Count to ten" not in log and "Traceback" not in log


def test_a_host_that_others_reach_needs_a_key_on_the_command_line():
    result = subprocess.run(
        [sys.executable, "-m", "chatlab", "serve", "--host", "0.0.0.0"], capture_output=True, text=True
    )
    assert result.returncode == 2 and "--api-key" in result.stderr
