"""`chatlab.connect` against real servers of others, on the default model's own files: those that are installed here.

`CHATLAB_FOREIGN_SERVERS=1` runs them. Without it, or without `pip install xllamacpp` (llama.cpp's server) or
`pip install 'transformers[serving]' accelerate`, they are skipped.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

import chatlab
from chatlab import Conversation, chat_completions, errors, system, user
from chatlab.panels import ChatPanel
from chatlab.weights.conversion import converted
from chatlab.weights.download import fetch

pytestmark = pytest.mark.skipif(
    "CHATLAB_FOREIGN_SERVERS" not in os.environ, reason="takes minutes: CHATLAB_FOREIGN_SERVERS=1 runs it"
)

SECONDS_TO_START = 180
QUESTION = [system("You are a helpful assistant."), user("What is the capital of France?")]
LLAMA_CPP = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.verbosity = sys.argv[1], -1
params.n_ctx, params.n_parallel = 2048, 2  # a slot of 1,024 tokens for each reply of n=2
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[2])
server = xllamacpp.Server(params)
threading.Event().wait()
"""
SERVING = ("accelerate", "fastapi", "uvicorn", "pydantic", "openai")


def llama_cpp(port):
    return [sys.executable, "-c", LLAMA_CPP, str(fetch()), str(port)]


def transformers_serve(port):
    command = Path(sys.executable).parent / "transformers"
    return [str(command), "serve", str(converted(fetch())), "--host", "127.0.0.1", "--port", str(port)]


def is_there(name):
    return importlib.util.find_spec(name) is not None


HAS_SERVE = shutil.which("transformers", path=str(Path(sys.executable).parent)) and all(map(is_there, SERVING))
SERVERS = [
    pytest.param(
        llama_cpp,
        marks=pytest.mark.skipif(not is_there("xllamacpp"), reason="not installed: pip install xllamacpp"),
    ),
    pytest.param(
        transformers_serve,
        marks=pytest.mark.skipif(not HAS_SERVE, reason="not installed: pip install 'transformers[serving]' accelerate"),
    ),
]


@pytest.fixture(scope="module", params=SERVERS)
def remote(request, tmp_path_factory):
    """A model on a foreign server, and what makes that server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with log.open("w") as output:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(request.param(port), stdout=output, stderr=output, env=environment)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not answers(url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield chatlab.connect(url, timeout=120), request.param
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def answers(url):
    try:
        return httpx2.get(f"{url}/models", trust_env=False, timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def test_a_whole_reply_a_stream_and_their_usage(remote):
    model, _ = remote
    whole = chat_completions(QUESTION, model, temperature=0, max_tokens=10)
    assert whole.choices[0].message.content == "The capital of France is Paris."
    assert whole.choices[0].finish_reason == "stop" and whole.usage.prompt_tokens > 20
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(chat_completions(QUESTION, model, temperature=0, max_tokens=10, **options))
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == (
        whole.choices[0].message.content
    )
    assert chunks[0].choices[0].delta.role == "assistant" and any(chunk.usage for chunk in chunks)
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons == ["stop"] and len({chunk.id for chunk in chunks}) == 1


def test_a_conversation_and_a_panel_that_is_stopped(remote):
    model, _ = remote
    chat = Conversation(QUESTION[:1], model=model, temperature=0, max_completion_tokens=10)
    assert "Paris" in chat(QUESTION[1]["content"]).choices[0].message.content
    panel = ChatPanel(model=model)
    panel.send("Tell me a very long story about the sea.")
    deadline = time.monotonic() + 60
    while not panel.conversation.messages:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    panel.message_box.stop_button.click()
    panel.wait(10)
    assert not panel.running and "stopped after" in panel.status.value


def test_what_the_server_refuses_is_told_plainly(remote):
    model, server = remote
    with pytest.raises(errors.NotFoundError, match="Most addresses end in /v1"):
        chat_completions(QUESTION, chatlab.connect(f"{model.base_url}/nowhere", model="any", max_retries=0))
    if server is llama_cpp:
        with pytest.raises(errors.ContextLengthError, match="Shorten the messages"):
            chat_completions([user("sea " * 2000)], model, max_tokens=5)
    else:
        with pytest.raises(errors.BadRequestError, match="top_k: an extra that not every server knows"):
            chat_completions(QUESTION, model, top_k=5, max_tokens=5)


def test_what_the_server_ignores_is_told(remote):
    model, server = remote
    if server is llama_cpp:
        assert chat_completions(QUESTION, model, logprobs=True, n=2, max_tokens=1).choices[1].logprobs.content
    else:
        with pytest.warns(UserWarning, match="were asked for"):
            chat_completions(QUESTION, model, logprobs=True, n=2, max_tokens=1)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    json_schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    if server is transformers_serve:
        with pytest.warns(UserWarning, match="JSON was asked for"):
            chat_completions(QUESTION, model, response_format=json_schema, temperature=0, max_tokens=12)


def test_in_use_it_answers_a_lesson(remote):
    chatlab.use(remote[0])
    try:
        response = chat_completions(messages=QUESTION, temperature=0, max_completion_tokens=10)
        assert response.choices[0].message.content == "The capital of France is Paris."
        with pytest.warns(UserWarning, match="on this machine"):
            assert chatlab.count_tokens("Hello there") == 2
    finally:
        chatlab.use(None)
