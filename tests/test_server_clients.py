"""The server as its users meet it: the official clients on a real socket, a stream's bytes, the page at /docs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import httpx2
import openai
import pytest
from browser import CHROMIUM, FLAGS, screenshot
from filelock import FileLock
from openai.lib.streaming.chat import ChatCompletionStreamState
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

import chatlab
from chatlab import chat_completions, system, user
from chatlab.server import ServerSettings
from chatlab.testing import ScriptedModel

DATA = Path(__file__).parent / "data"
NPM_CLIENT = "7.57.0"
CAPITALS = [
    [system("You are a helpful assistant."), user(f"What is the capital of {country}?")]
    for country in ("France", "Japan", "Italy", "Egypt")
]


@pytest.fixture(scope="module")
def server(model):
    with chatlab.serve(model) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


def get(server, path):
    return httpx2.get(server.url + path, trust_env=False)


def answers(server, status):
    """How many chat completions the server has answered with this status, by its own count."""
    for family in text_string_to_metric_families(get(server, "/metrics").text):
        for sample in family.samples:
            if sample.name == "chatlab_requests_total" and sample.labels == {
                "path": "/v1/chat/completions",
                "status": str(status),
            }:
                return sample.value
    return 0


def content(completion):
    """What a reply says: its choices and usage, without what differs each time: the id, the time, what was cached."""
    choices = [
        (
            choice.index,
            choice.finish_reason,
            choice.message.content,
            choice.logprobs and [each.model_dump() for each in choice.logprobs.content],
        )
        for choice in completion.choices
    ]
    return choices, completion.usage.model_dump(exclude_none=True, exclude={"prompt_tokens_details"})


# The official Python client


def test_plain_reply(client, model):
    response = client.chat.completions.create(
        model=model.name, messages=CAPITALS[0], temperature=0, max_completion_tokens=10
    )
    assert type(response) is openai.types.chat.ChatCompletion
    assert response.choices[0].message.content.startswith("The capital of France is Paris")
    assert response._request_id.startswith("req_")


def test_streamed_reply(client, model):
    stream = client.chat.completions.create(
        model=model.name, messages=CAPITALS[0], temperature=0, max_completion_tokens=10, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text.startswith("The capital of France is Paris")
    assert stream.response.headers["x-request-id"].startswith("req_")


def test_stream_helper_tells_events(client, model):
    with client.chat.completions.stream(
        model=model.name,
        messages=CAPITALS[0],
        temperature=0,
        max_completion_tokens=10,
        stream_options={"include_usage": True},
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    deltas = [event for event in events if event.type == "content.delta"]
    (done,) = [event for event in events if event.type == "content.done"]
    assert "".join(event.delta for event in deltas) == deltas[-1].snapshot == done.content
    assert done.content == final.choices[0].message.content
    assert done.content.startswith("The capital of France is Paris")
    assert final.usage.completion_tokens <= 10


class Capital(BaseModel):
    country: str
    capital: str


def test_parse_gives_an_object(client, model):
    completion = client.chat.completions.parse(
        model=model.name, messages=CAPITALS[0], temperature=0, max_completion_tokens=60, response_format=Capital
    )
    assert type(completion.choices[0].message.parsed) is Capital


def test_async_client_asks_all_at_once(server, model):
    async def ask_all():
        async with server.async_client() as client:
            return await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model=model.name, messages=messages, temperature=0, max_completion_tokens=8
                    )
                    for messages in CAPITALS
                )
            )

    replies = asyncio.run(ask_all())
    expected = [chat_completions(each, model, temperature=0, max_completion_tokens=8) for each in CAPITALS]
    assert [content(reply) for reply in replies] == [content(reply) for reply in expected]


def test_async_client_streams(server, model):
    async def ask():
        async with server.async_client() as client:
            stream = await client.chat.completions.create(
                model=model.name, messages=CAPITALS[1], temperature=0, max_completion_tokens=8, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert "Tokyo" in asyncio.run(ask())


def test_raw_response_has_the_headers(client, model):
    raw = client.chat.completions.with_raw_response.create(
        model=model.name, messages=CAPITALS[0], max_completion_tokens=1
    )
    assert raw.status_code == 200 and raw.headers["content-type"] == "application/json"
    assert raw.headers["x-request-id"] == raw.parse()._request_id


def test_models_are_listed(client, model):
    assert [each.id for each in client.models.list()] == [model.name]
    assert client.models.retrieve(model.name).id == model.name


@pytest.mark.parametrize(
    ("wrong", "kind", "status", "param", "code"),
    [
        ({"temperature": 3}, openai.BadRequestError, 400, "temperature", "decimal_above_max_value"),
        ({"messages": []}, openai.BadRequestError, 400, "messages", "empty_array"),
        ({"model": "gpt-9"}, openai.NotFoundError, 404, None, "model_not_found"),
        ({"extra_body": {"colour": 1}}, openai.BadRequestError, 400, "colour", "unknown_parameter"),
    ],
)
def test_mistake_raises_the_clients_class_and_is_not_tried_again(wrong, kind, status, param, code):
    with chatlab.serve(ScriptedModel("Hi")) as server, server.client() as client:
        with pytest.raises(kind) as caught:
            client.chat.completions.create(**{"model": "scripted", "messages": [user("Hi")], **wrong})
        assert (caught.value.status_code, caught.value.param, caught.value.code) == (status, param, code)
        assert caught.value.request_id.startswith("req_")
        assert answers(server, status) == 1


def test_wrong_key_raises_the_clients_class():
    with chatlab.serve(ScriptedModel("Hi"), api_key="right") as server:
        assert server.client().models.list().data[0].id == "scripted"
        with pytest.raises(openai.AuthenticationError) as caught:
            server.client().with_options(api_key="wrong").models.list()
        assert caught.value.code == "invalid_api_key"


def test_client_waits_as_long_as_a_429_says_and_then_succeeds():
    seen = []

    def note(response):
        seen.append((time.monotonic(), response.status_code, response.headers.get("retry-after")))

    model = ScriptedModel("Hi", seconds_per_token=0.01)
    with chatlab.serve(model, settings=ServerSettings(side_by_side=1, queue_length=0)) as server:
        request = {"model": "scripted", "messages": [user("Hi")]}
        for _ in range(3):  # the server learns that its replies are quick
            server.client().chat.completions.create(**request)
        model.replies = ["x" * 100]
        slow = server.client().chat.completions.create(**request, stream=True)
        next(chunk for chunk in slow if chunk.choices[0].delta.content)
        model.replies = ["Hi"]
        http_client = openai.DefaultHttpxClient(trust_env=False, event_hooks={"response": [note]})
        patient = server.client().with_options(http_client=http_client, max_retries=2)
        assert patient.chat.completions.create(**request).choices[0].message.content == "Hi"
        slow.close()
    assert [status for _, status, _ in seen] == [429, 200]
    (refused, _, retry_after), (answered, _, _) = seen
    assert answered - refused >= int(retry_after) >= 1


# The same answer everywhere


@pytest.mark.parametrize("temperature", [0, 1])
def test_same_seed_same_answer_in_process_over_http_streamed_and_whole(client, model, temperature):
    request = {
        "messages": CAPITALS[2],
        "temperature": temperature,
        "seed": 7,
        "n": 2,
        "max_completion_tokens": 8,
        "logprobs": True,
        "top_logprobs": 3,
    }
    streamed = {**request, "stream": True, "stream_options": {"include_usage": True}}

    def joined(stream):
        state = ChatCompletionStreamState()
        for chunk in stream:
            state.handle_chunk(chunk)
        return state.current_completion_snapshot

    replies = [
        chat_completions(model=model, **request),
        joined(chat_completions(model=model, **streamed)),
        client.chat.completions.create(model=model.name, **request),
        joined(client.chat.completions.create(model=model.name, **streamed)),
    ]
    for reply in replies[1:]:
        assert content(reply) == content(replies[0])
    choices = replies[0].choices
    assert [len(choice.logprobs.content) for choice in choices] == [8, 8]
    assert (choices[0].message == choices[1].message) == (temperature == 0)


# The bytes of a stream


class Failing(ScriptedModel):
    """A model that breaks when it has said what it had to say."""

    def next_token_logits(self, input_ids, past_key_values=None):
        if past_key_values and len(past_key_values["ids"]) >= 40:
            raise ValueError("a mistake in the model")
        return super().next_token_logits(input_ids, past_key_values)


RECORDED = {
    # Two comments while the prompt is read, a four-token emoji, a stop string over three tokens, a false start of it.
    "stream_stop_and_emoji": (
        ScriptedModel("Ok 🎉 EN, END of it"),
        {"messages": [user("x" * 600)], "stop": ["END"], "stream_options": {"include_usage": True}},
    ),
    "stream_two_choices": (ScriptedModel("Hey, you"), {"messages": [user("Hi")], "n": 2, "max_tokens": 3}),
    "stream_half_an_emoji": (ScriptedModel("Hi 🎉"), {"messages": [user("Hi")], "max_tokens": 5}),
    "stream_logprobs": (
        ScriptedModel("é!"),
        {"messages": [user("Hi")], "logprobs": True, "top_logprobs": 1, "temperature": 0},
    ),
    "stream_failure": (Failing("Hello"), {"messages": [user("Hi")]}),
}


@pytest.mark.parametrize("name", RECORDED)
def test_stream_is_byte_for_byte_the_recorded_one(name):
    """To record anew after a change that is meant: CHATLAB_RECORD=1, and then read the files."""
    model, request = RECORDED[name]
    with chatlab.serve(model) as server:
        response = httpx2.post(
            f"{server.base_url}/chat/completions",
            json={"model": "scripted", "stream": True, **request},
            trust_env=False,
        )
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    stream = re.sub(rb'"id":"chatcmpl-[0-9a-f]{24}"', b'"id":"ID"', response.content)
    stream = re.sub(rb'"created":\d{10}', b'"created":TIME', stream)
    path = DATA / f"{name}.txt"
    if "CHATLAB_RECORD" in os.environ:
        path.write_bytes(stream)
    assert stream == path.read_bytes()


# The official npm client


@pytest.fixture(scope="session")
def npm_client():
    """The folder with the official npm client, installed once and kept between runs."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node.js is not installed: the npm client cannot be tried")
    folder = Path(tempfile.gettempdir()) / f"chatlab-tests-openai-{NPM_CLIENT}"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "complete").exists():
            command = [shutil.which("npm"), "install", "--no-audit", "--no-fund", "--prefix", str(folder)]
            installed = subprocess.run([*command, f"openai@{NPM_CLIENT}"], capture_output=True, text=True, timeout=300)
            if installed.returncode:
                pytest.skip(f"npm cannot install the client: {installed.stderr[-300:]}")
            (folder / "complete").touch()
    return folder / "node_modules"


class Slow(ScriptedModel):
    """A model that says the same to all, but to "slow" it speaks slowly and at length."""

    def next_token_logits(self, input_ids, past_key_values=None):
        logits, past_key_values = super().next_token_logits(input_ids, past_key_values)
        if b"slow" in bytes(token for token in past_key_values["ids"] if token < 256):
            past_key_values["reply"] = list(b"slow " * 1500)
            time.sleep(0.01)
        return logits, past_key_values


def test_npm_client(npm_client):
    with chatlab.serve(Slow("Hello, 🎉!")) as server:
        done = subprocess.run(
            [shutil.which("node"), str(DATA / "openai_client.cjs"), server.base_url, "scripted"],
            env={**os.environ, "NODE_PATH": str(npm_client), "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert answers(server, 400) == 1
    seen = json.loads(done.stdout, object_hook=lambda pairs: SimpleNamespace(**pairs))
    usage = {"prompt_tokens": 21, "completion_tokens": 13, "total_tokens": 34}
    for reply in (seen.plain, seen.streamed, seen.helper):
        assert (reply.text, reply.finish_reason) == ("Hello, 🎉!", "stop")
    for reply in (seen.plain, seen.streamed):
        assert {name: getattr(reply.usage, name) for name in usage} == usage
    assert seen.streamed.pieces == 11 and seen.helper.deltas == "Hello, 🎉!"
    assert seen.plain.request_id == seen.plain.header and seen.plain.header.startswith("req_")
    refused = seen.refused
    assert refused.right_class and (refused.status, refused.param) == (400, "temperature")
    assert (refused.code, refused.type) == ("decimal_above_max_value", "invalid_request_error")
    assert refused.message == "400 temperature must be between 0 and 2, but is 3."
    assert refused.requestID.startswith("req_")
    assert (seen.aborted.chunks, seen.aborted.running) == (5, 0)
    assert seen.models == ["scripted"]


# The page at /docs


@pytest.mark.browser
@pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium (or your system's way)"
)
def test_docs_page_works_without_a_network(server, model):
    from playwright.sync_api import sync_playwright

    refused, failed = [], []

    def only_here(route):
        if route.request.url.startswith((server.url, "data:")):
            route.continue_()
        else:
            refused.append(route.request.url)
            route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        page.route("**/*", only_here)
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(server.url)  # which leads to /docs
        page.locator("#operations-chat-create_chat_completion_v1_chat_completions_post").click()
        screenshot(page, "docs")
        page.get_by_role("button", name="Try it out").click()
        body = page.locator("textarea.body-param__text")
        assert json.loads(body.input_value())["model"] == model.name
        body.fill(json.dumps({"model": model.name, "messages": CAPITALS[0], "temperature": 0, "max_tokens": 8}))
        page.get_by_role("button", name="Execute").click()
        reply = page.locator(".live-responses-table .response .microlight").first
        reply.wait_for(timeout=60_000)
        assert "The capital of France is Paris" in reply.inner_text()
        assert page.locator(".live-responses-table .response-col_status").last.inner_text().startswith("200")
        screenshot(page, "docs-reply")
        browser.close()
    assert refused == [] and failed == []
