"""The server against hostile requests: whatever comes in, the answer is in the form that the documentation promises."""

from __future__ import annotations

import gzip
import json
import socket
from collections import Counter

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

import chatlab
from chatlab.requests import ChatOptions
from chatlab.server import ServerSettings
from chatlab.testing import ScriptedModel

CASES = 1000
HALF_A_CHARACTER = "\ud800"
GOOD = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_headers_conformance,
    schemathesis.checks.response_schema_conformance,
]
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server():
    with chatlab.serve(ScriptedModel("Hello, 🎉!"), settings=ServerSettings(max_body_bytes=100_000)) as server:
        yield server


@pytest.fixture(scope="module")
def http(server):
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=30) as http:
        yield http


def post(http, body, headers=JSON):
    return http.post("/v1/chat/completions", content=body, headers=headers)


def refusal(response):
    """The error that a response holds, which must be in OpenAI's form."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and isinstance(error["message"], str) and isinstance(error["type"], str)
    assert all(error[name] is None or isinstance(error[name], str) for name in ("param", "code"))
    return error


def assert_answered_or_refused(response):
    """A reply with status 200 and all its parts, or a refusal in the right form; never a mistake of the server's."""
    if response.status_code != 200:
        refusal(response)
    elif response.headers["content-type"] == "application/json":
        assert all(choice["finish_reason"] for choice in response.json()["choices"])
    else:
        assert response.text.endswith("data: [DONE]\n\n") and '"error"' not in response.text


# Requests made from the server's own description


def try_out(operation, *, mode, cases, session):
    """Ask what the description allows (or, in negative mode, nearly allows), and return how often came which status."""
    statuses = Counter()

    @seed(0)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        if operation.method == "post" and mode is GenerationMode.POSITIVE:
            for message in case.body["messages"]:
                if message["role"] == "tool":  # no description can say which call it has to follow
                    message["role"] = "user"
        response = case.call(session=session, timeout=30)
        case.validate_response(response, checks=CHECKS)
        statuses[response.status_code] += 1

    ask()
    return statuses


def test_a_thousand_cases_made_from_the_description():
    model = ScriptedModel("Hi", context_length=256)  # so that no reply is long, whatever a request asks for
    with chatlab.serve(model, any_model_name=True) as server, requests.Session() as session:
        session.trust_env = False
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        operations = {result.ok().label: result.ok() for result in schema.get_all_operations()}
        chat = operations.pop("POST /v1/chat/completions")
        good = try_out(chat, mode=GenerationMode.POSITIVE, cases=3 * CASES // 4, session=session)
        broken = try_out(chat, mode=GenerationMode.NEGATIVE, cases=CASES // 4, session=session)
        others = [
            try_out(operation, mode=GenerationMode.POSITIVE, cases=20, session=session)
            for operation in operations.values()
        ]
    print(good, broken, others)
    assert (good + broken).total() >= CASES and len(others) == 4
    assert good[200] > CASES // 4 and broken[400] > CASES // 5


# Requests made by hand

BROKEN_BODIES = {
    "empty": b"",
    "white space": b"  \n",
    "cut off": b'{"model": "scripted", "messages": [',
    "two values": b"{} {}",
    "no UTF-8": b'{"model": "\xff\xfe"}',
    "UTF-16": '["messages"]'.encode("utf-16"),
    "byte order mark alone": b"\xef\xbb\xbf",
    "lists in lists": b"[" * 50_000 + b"]" * 50_000,
    "objects in objects": b'{"messages":' * 5_000 + b"1" + b"}" * 5_000,
    "lists in a message": b'{"model": "scripted", "messages": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "a number of 5,000 digits": b'{"model": "scripted", "seed": ' + b"9" * 5_000 + b"}",
    "null": b"null",
    "a number": b"1",
    "a list": b"[]",
    "a string": b'"model"',
    "a control character": b'{"model": "scri\x00pted"}',
    "gzip": b"\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
def test_broken_body_is_refused(http, name):
    error = refusal(post(http, BROKEN_BODIES[name]))
    assert error["type"] == "invalid_request_error" and error["code"] is None


def spelled(value):
    """JSON text in ASCII that also has what JSON does not: NaN, Infinity, halves of characters."""
    return json.dumps(value).encode()


REFUSED_VALUES = [
    ({"model": HALF_A_CHARACTER}, None),
    ({"model": 1}, "model"),
    ({"model": None}, "model"),
    ({"model": []}, "model"),
    ({"model": {}}, "model"),
    ({"messages": [{"role": HALF_A_CHARACTER, "content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": HALF_A_CHARACTER}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": HALF_A_CHARACTER}]}]},
        "messages[0].content[0].text",
    ),
    ({"messages": [{"role": "user", "content": [{"type": HALF_A_CHARACTER}]}]}, "messages[0].content[0]"),
    ({"messages": {"role": "user", "content": "Hi"}}, "messages"),
    ({HALF_A_CHARACTER: 1}, HALF_A_CHARACTER),
    ({"": 1}, ""),
    ({"self": 1}, "self"),
    ({"request": 1}, "request"),
    ({"temperature": float("nan")}, "temperature"),
    ({"temperature": float("inf")}, "temperature"),
    ({"temperature": float("-inf")}, "temperature"),
    ({"temperature": 10**4000}, "temperature"),
    ({"temperature": -(10**4000)}, "temperature"),
    ({"top_p": "1"}, "top_p"),
    ({"n": 10**4000}, "n"),
    ({"n": 1e308}, "n"),
    ({"n": True}, "n"),
    ({"seed": 2**63}, "seed"),
    ({"seed": -(10**4000)}, "seed"),
    ({"max_tokens": 10**4000}, "messages"),
    ({"max_completion_tokens": 2**63}, "messages"),
    ({"top_k": 1.5}, "top_k"),
    ({"top_k": -1}, "top_k"),
    ({"logit_bias": {HALF_A_CHARACTER: 1}}, "logit_bias"),
    ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
    ({"logit_bias": {"-1": 1}}, "logit_bias"),
    ({"logit_bias": {"²": 1}}, "logit_bias"),
    ({"logit_bias": {"1": float("nan")}}, "logit_bias"),
    ({"logit_bias": {"1": None}}, "logit_bias"),
    ({"logit_bias": []}, "logit_bias"),
    ({"stop": [None]}, "stop"),
    ({"stop": {}}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream": True, "stream_options": {HALF_A_CHARACTER: True}}, f"stream_options.{HALF_A_CHARACTER}"),
    ({"stream": True, "stream_options": []}, "stream_options"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": HALF_A_CHARACTER}}, "response_format"),
    ({"tool_choice": HALF_A_CHARACTER}, "tool_choice"),
]


@pytest.mark.parametrize(("wrong", "param"), REFUSED_VALUES)
@pytest.mark.parametrize("stream", [False, True])
def test_hostile_value_is_refused_by_name(http, wrong, param, stream):
    assert refusal(post(http, spelled({**GOOD, "stream": stream, **wrong})))["param"] == param


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "harmless",
    [
        {"stop": HALF_A_CHARACTER},
        {"stop": ""},
        {"seed": -(2**63)},
        {"user": HALF_A_CHARACTER},
        {"metadata": {HALF_A_CHARACTER: HALF_A_CHARACTER}},
        {"logit_bias": {}},
        {"messages": [{"role": "user", "content": "\x00\u202e\ufffe<|im_end|>"}]},
        {"messages": [{"role": "user", "content": "Hi", HALF_A_CHARACTER: [float("nan")]}]},
        {"messages": [{"role": "user", "content": ""}]},
    ],
)
def test_odd_value_does_no_harm(http, harmless, stream):
    assert_answered_or_refused(post(http, spelled({**GOOD, "stream": stream, **harmless})))


def test_of_a_key_written_twice_the_last_counts(http):
    """As in most parsers of JSON, OpenAI's client's included."""
    body = b'{"model": "none", "model": "scripted", "messages": 1, "messages": [{"role": "user", "content": "Hi"}]}'
    assert post(http, body).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "nonsense", "", None])
def test_content_type_does_not_matter(http, kind):
    """The body is read as JSON, whatever it is called: curl calls it a form."""
    headers = {} if kind is None else {"content-type": kind}
    assert post(http, spelled(GOOD), headers).status_code == 200
    refusal(post(http, b"model=scripted", headers))


def test_compressed_body_is_refused(http):
    refusal(post(http, gzip.compress(spelled(GOOD)), {**JSON, "content-encoding": "gzip"}))


def test_too_large_a_body_is_refused_before_it_has_all_come(http, server):
    assert post(http, b" " * 100_001).status_code == 413
    with socket.create_connection(server._address) as endless:
        endless.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            endless.sendall(b"%x\r\n%s\r\n" % (10_000, b" " * 10_000))
        endless.settimeout(10)
        assert endless.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET /%ff%fe HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /v1/models/%00%0d%0a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: \xff\xfe\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,  # a browser that wants https
    ],
)
def test_what_is_hardly_http_does_no_harm(http, server, raw):
    with socket.create_connection(server._address) as connection:
        connection.settimeout(10)
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    assert not answer or answer.split(b" ", 2)[1][:1] in (b"2", b"4"), answer
    assert http.get("/health").status_code == 200


ODD_TEXT = st.text(st.characters(exclude_categories=[]), max_size=8)
ODD_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ODD_TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(ODD_TEXT, values, max_size=3),
    max_leaves=6,
)
ODD_MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]) | ODD_VALUE,
        "content": ODD_TEXT | ODD_VALUE | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": ODD_TEXT})),
        "name": ODD_VALUE,
        "tool_calls": ODD_VALUE,
        "tool_call_id": ODD_VALUE,
    },
)
ODD_BODY = st.fixed_dictionaries(
    {"model": st.just("scripted") | ODD_VALUE, "messages": st.lists(ODD_MESSAGE, max_size=3) | ODD_VALUE},
    optional={"stream": st.booleans()},
)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(
    body=ODD_BODY,
    options=st.dictionaries(st.sampled_from(sorted(ChatOptions.__annotations__)) | ODD_TEXT, ODD_VALUE, max_size=3),
)
@example(body={**GOOD, "stream": True}, options={})
def test_any_json_is_answered_or_refused(http, body, options):
    assert_answered_or_refused(post(http, spelled({**options, **body})))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(name=st.sampled_from(sorted(ChatOptions.__annotations__)), value=ODD_VALUE, stream=st.booleans())
def test_any_value_of_any_parameter_is_answered_or_refused(http, name, value, stream):
    assert_answered_or_refused(post(http, spelled({**GOOD, "stream": stream, name: value})))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    body=st.binary(max_size=50)
    | st.tuples(st.integers(0, 60), st.binary(max_size=3)).map(
        lambda cut: spelled(GOOD)[: cut[0]] + cut[1] + spelled(GOOD)[cut[0] :]
    )
)
def test_any_bytes_are_answered_or_refused(http, body):
    assert_answered_or_refused(post(http, body))
