"""Programs that ask for a reply again: they run, and get it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

import chatlab
from chatlab import Conversation
from chatlab.snippets import LOCAL, as_curl, as_python
from chatlab.testing import ScriptedModel

TEXT = "It's \"quoted\" — $HOME `date`\nand a second line. 'x' \\ é 🎉"


@pytest.fixture(scope="module")
def server():
    with chatlab.serve(ScriptedModel("Hello, Ana!"), port=0) as server:
        yield server


def asked(model):
    chat = Conversation(system="Be brief.", temperature=0, seed=3, max_completion_tokens=50, model=model)
    chat(TEXT)
    return chat


def test_the_python_program_gets_the_same_reply(server):
    program = as_python(asked(ScriptedModel("Hello, Ana!"))).replace(LOCAL, f"{server.url}/v1")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "Hello, Ana!\n", result.stderr
    assert "seed=3" in program and "max_completion_tokens=50" in program


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_command_gets_the_same_reply_and_sends_the_text_as_it_is(server):
    command = as_curl(asked(ScriptedModel("Hello, Ana!"))).replace(LOCAL, f"{server.url}/v1")
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert '"content":"Hello, Ana!"' in result.stdout.replace('": "', '":"'), result.stdout + result.stderr


def test_a_server_elsewhere_is_asked_with_the_key_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("CHATLAB_API_KEY", "secret-key")
    chat = asked(chatlab.connect(server.url))
    for program in (as_python(chat), as_curl(chat)):
        assert f"{server.url}/v1" in program and "secret-key" not in program and "CHATLAB_API_KEY" in program
    result = subprocess.run([sys.executable, "-c", as_python(chat)], capture_output=True, text=True)
    assert result.stdout == "Hello, Ana!\n", result.stderr


@pytest.mark.parametrize("write", [as_python, as_curl])
def test_nothing_asked_is_said(write):
    with pytest.raises(ValueError, match="Nothing has been asked yet"):
        write(Conversation(system="x", model=ScriptedModel("x")))
