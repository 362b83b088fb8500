import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import chatlab
from chatlab import cli, model, remote
from chatlab.errors import ModelFilesError
from chatlab.testing import ScriptedModel
from chatlab.weights.conversion import FORMAT

run = CliRunner().invoke


@pytest.fixture
def scripted(monkeypatch):
    """Let the commands chat with a scripted model in place of the default one."""
    stand_in = ScriptedModel("Hello!", "Bye!")
    for module in (model, remote):
        monkeypatch.setattr(module, "load", lambda *_, **__: stand_in)
    return stand_in


def test_one_question(scripted):
    result = run(cli.app, ["chat", "Hi", "--system", "Be brief.", "--temperature", "0"])
    assert (result.exit_code, result.stdout) == (0, "Hello!\n")
    assert "Be brief." in scripted.prompts[0]


def test_json_is_the_whole_response(scripted):
    result = run(cli.app, ["chat", "Hi", "--json", "--max-completion-tokens", "3"])
    response = json.loads(result.stdout)
    assert response["choices"][0]["message"] == {"role": "assistant", "content": "Hel", "refusal": None}
    assert response["choices"][0]["finish_reason"] == "length" and response["usage"]["completion_tokens"] == 3


def test_conversation_with_commands(scripted, tmp_path):
    path = tmp_path / "chat.json"
    lines = [
        "Hi",
        "/again",
        "/undo",
        "/system Be brief.",
        "Hello?",
        f"/save {path}",
        "/again x",
        "/what",
        "/exit",
        "no",
    ]
    result = run(cli.app, ["chat"], input="\n".join(lines) + "\n")
    assert result.exit_code == 0
    assert result.stdout.count("Hello!") == 1 and result.stdout.count("Bye!") == 3
    assert "/exit" in result.stdout, "an unknown command shows the help"
    saved = [message["content"] for message in json.loads(path.read_text())["messages"]]
    assert saved == ["Be brief.", "Hello?", "Bye!"]


def test_refused_request_in_a_conversation_does_not_end_it(scripted):
    scripted.context_length = 40
    result = run(cli.app, ["chat"], input="/undo\n" + "x" * 100 + "\nHi\n")
    assert result.exit_code == 0 and result.stdout.count("Hello!") == 1
    assert "Nothing has been asked yet" in result.stderr and "can hold 40 tokens" in result.stderr


def test_json_without_a_prompt_is_refused():
    result = run(cli.app, ["chat", "--json"])
    assert result.exit_code == 2 and "needs a prompt" in result.stderr


def test_errors_are_told_without_a_traceback(monkeypatch, capsys):
    def app():
        raise ModelFilesError("Free some space.")

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1 and capsys.readouterr().err == "Error: Free some space.\n"


def test_models_lists_where_and_what(model):
    result = run(cli.app, ["models"])
    assert "SmolLM2-135M-Instruct" in result.stdout and "converted" in result.stdout
    assert run(cli.app, ["models", "path"]).stdout.strip().endswith(f"-v{FORMAT}")
    assert run(cli.app, ["models", "path", "SmolLM2-135M-Instruct"]).stdout.strip().endswith("SmolLM2-135M-Instruct")
    assert run(cli.app, ["models", "path", "Model-Z"]).exit_code == 2
    assert run(cli.app, ["models", "fetch"]).stdout == "SmolLM2-135M-Instruct is ready.\n"


def test_models_remove_names_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setenv("CHATLAB_HOME", str(tmp_path))
    assert "nothing yet" in run(cli.app, ["models"]).stdout
    result = run(cli.app, ["models", "remove", "Model-Z"])
    assert result.exit_code == 2 and "no model 'Model-Z'" in result.stderr
    (tmp_path / "models/Model-A").mkdir(parents=True)
    (tmp_path / "models/Model-A/a.gguf").write_bytes(b"x" * 1_000_000)
    assert run(cli.app, ["models", "remove", "Model-A"]).stdout == "Removed Model-A: 1 MB freed.\n"


def test_version():
    assert run(cli.app, ["--version"]).stdout == f"chatlab {chatlab.__version__}\n"


def test_ctrl_c_stops_the_reply_and_not_the_program(model):
    """The installed command, in a real terminal, with the real model."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "chatlab", "chat", "--system", "You are a helpful assistant.", "--temperature", "0"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    screen = ""

    def read_until(text, seconds=120):
        nonlocal screen
        deadline = time.monotonic() + seconds
        while text not in screen:
            assert time.monotonic() < deadline, f"waited for {text!r}, saw {screen!r}"
            screen += os.read(controller, 1000).decode(errors="replace")

    try:
        read_until("you> ")
        os.write(controller, b"Tell me a very long story about the sea.\n")
        screen = ""
        read_until("the sea.")
        screen = ""
        read_until(" ")  # the reply is on its way
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        read_until("(stopped)")
        read_until("you> ")
        os.write(controller, b"What is the capital of Japan?\n")
        read_until("Tokyo")
        read_until("you> ")
        os.write(controller, b"/exit\n")
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(controller)
