"""The magics, in a real IPython shell and in a real kernel."""

from __future__ import annotations

import atexit
import signal
import threading

import nbformat
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from servers import running_server

import chatlab.tokens
from chatlab import assistant, system, user
from chatlab.magics import _Transcript, load_ipython_extension
from chatlab.testing import ScriptedModel

PAYLOADS = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'><b>", "</div><h1>"]


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    load_ipython_extension(shell)
    yield shell
    InteractiveShell.clear_instance()
    shell.atexit_operations()  # now, while the folder with its history is still there
    atexit.unregister(shell.atexit_operations)


@pytest.fixture
def magics(shell):
    magics = shell.magics_manager.registry["ChatlabMagics"]
    magics.model = ScriptedModel("Hello, Ana!", "Ana.")
    return magics


def error_of(shell, capsys, cell):
    """Run a cell that must fail, and return what a person sees of it: one line, and no traceback."""
    capsys.readouterr()
    result = shell.run_cell(cell)
    assert isinstance(result.error_in_exec, UsageError)
    shown = "".join(capsys.readouterr())
    assert "Traceback" not in shown and shown.count("\n") == 1
    return shown.strip()


def test_chat_is_one_conversation(shell, magics, capsys):
    shell.run_cell("%%chat --system 'Be brief.'\nI am Ana.")
    assert capsys.readouterr().out.startswith("Hello, Ana!\n(finish_reason: stop · ")
    shell.run_cell("%%chat\nWhat is my name?\nTell me.")
    assert magics.conversation.messages == [
        system("Be brief."),
        user("I am Ana."),
        assistant("Hello, Ana!"),
        user("What is my name?\nTell me."),
        assistant("Ana."),
    ]
    assert "I am Ana." in magics.model.prompts[1]
    assert "chat" not in shell.user_ns, "the learner's own variables stay"


def test_chat_with_a_server(shell, magics, capsys):
    with running_server() as server:
        shell.run_cell(f"%%chat --base-url {server.base_url} --model told\nHi")
        assert capsys.readouterr().out.startswith("Hello!\n(finish_reason: stop · 9 prompt tokens")
        shell.run_cell("%%chat\nAnd again")
        assert [body["model"] for body in server.bodies] == ["told", "told"]
        assert len(server.bodies[-1]["messages"]) == 3
        before = list(magics.conversation.messages)
        told = error_of(shell, capsys, f"%%chat --new --base-url {server.base_url} --model missing\nHi")
        assert "does not exist" in told and magics.conversation.messages == before
        assert "only answers chat completions" in error_of(shell, capsys, "%tokens Hi")


def test_settings_hold_for_one_reply_and_the_system_message_longer(shell, magics):
    shell.run_cell("%%chat --temperature 0 --top-p .5 --seed 3 --max-completion-tokens 5 --system='a \"b\" c'\nHi")
    chat = magics.conversation
    assert (chat.temperature, chat.top_p, chat.seed, chat.max_completion_tokens) == (0, 0.5, 3, 5)
    assert chat.messages[-1] == assistant("Hello") and chat.system == 'a "b" c'
    shell.run_cell("%%chat\nHi")
    chat = magics.conversation
    assert (chat.temperature, chat.top_p, chat.seed, chat.max_completion_tokens) == (1, 1, None, None)
    assert chat.system == 'a "b" c'
    shell.run_cell("%%chat --system ''\nHi")
    assert magics.conversation.system is None


def test_new_starts_afresh_and_show_shows(shell, magics):
    shell.run_cell("%%chat --temperature 0\nHi")
    chat = magics.conversation
    assert shell.run_line_magic("chat", "--show") is chat is magics.conversation
    assert (chat.turns, chat.temperature) == (1, 0), "looking changes nothing"
    shell.run_cell("%%chat --new --system s\nHi")
    assert magics.conversation.messages == [system("s"), user("Hi"), assistant("Ana.")]
    shell.run_cell("%chat --new")
    assert magics.conversation.messages == []


def test_whole_reply_looks_the_same_but_comes_at_once(shell, magics, capsys):
    shell.run_cell("%%chat --no-stream\nHi")
    assert capsys.readouterr().out.startswith("assistant: Hello, Ana!\n(finish_reason: stop · ")


def test_model_by_name(shell, magics, capsys):
    assert error_of(shell, capsys, "%%chat --model nowhere\nHi").startswith("UsageError: There is no model 'nowhere'")
    assert isinstance(magics.model, ScriptedModel)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%chat --temperature 3\nHi", "temperature must be between 0 and 2, but is 3.0."),
        ("%%chat --temperature hot\nHi", "--temperature: must be a number, not 'hot'."),
        ("%%chat --seed 1.5\nHi", "--seed: must be a whole number, not '1.5'."),
        ("%%chat --top-p 2\nHi", "top_p must be between 0 and 1, but is 2.0."),
        ("%%chat --max-completion-tokens 0\nHi", "max_completion_tokens must be at least 1, but is 0."),
        ("%%chat --sistem x\nHi", "'--sistem' is no option of this magic. The options are --system, --temperature"),
        ("%%chat --system Be brief.\nHi", "'brief.' is no option"),
        ("%%chat --system Don't\nHi", "No closing quotation"),
        ("%%chat\n  \n", "The message is empty."),
        ("%%chat --show\nHi", "--show takes no message."),
        ("%chat", "%chat has no message."),
        ("%%messages\nuser: Hi", "needs the name of a variable"),
        ("%%messages 2b\nuser: Hi", "not '2b'"),
        ("%%messages class\nuser: Hi", "not 'class'"),
        ("%%messages m\nwizard: Hi", "Line 1 begins with 'wizard:', which is no role."),
        ("%%messages m\nHi", "Line 1 belongs to no message: 'Hi'."),
        ("%%messages m\n\n", "messages is empty."),
        ("%%messages m\ntool: 4", "answers no tool call"),
        ("%tokens", "There is no text."),
        ("%%tokens beside\nbelow", "not 'beside' beside it"),
    ],
)
def test_mistakes_are_told_in_one_sentence(shell, magics, capsys, cell, message):
    assert message in error_of(shell, capsys, cell)
    assert magics.conversation.messages == [] and "m" not in shell.user_ns


def test_refused_request_changes_nothing(shell, magics, capsys):
    shell.run_cell("%%chat --system s\nHi")
    before = list(magics.conversation.messages)
    error_of(shell, capsys, "%%chat --system t --temperature 9\nHi")
    error_of(shell, capsys, f"%%chat --new\n{'x' * 9000}")
    assert magics.conversation.messages == before


def test_interrupt_stops_the_reply_and_keeps_what_was_said(shell, magics, capsys):
    magics.model = ScriptedModel("x" * 100_000, seconds_per_token=0.001)
    timer = threading.Timer(1.0, signal.raise_signal, [signal.SIGINT])
    timer.start()
    result = shell.run_cell("%%chat\nHi")
    timer.join()
    said = magics.conversation.messages[-1]["content"]
    shown = capsys.readouterr().out
    assert result.success and 0 < len(said) < 8000 and set(said) == {"x"}
    assert shown == f"{said}\n(stopped before its end)\n"
    magics.model = ScriptedModel("Fine.")
    shell.run_cell("%%chat\nAnd now?")
    assert magics.conversation.messages[1:] == [assistant(said), user("And now?"), assistant("Fine.")]


@pytest.fixture
def tokenized(monkeypatch):
    """What the magic hands to `tokenize`."""
    seen = []

    def tokenize(text, *, encoding=None, model=None):
        seen.append((str(text), encoding, model))
        return seen[-1]

    monkeypatch.setattr(chatlab.magics, "tokenize", tokenize)
    return seen


def test_tokens_are_those_of_the_model(shell, magics):
    assert [token.id for token in shell.run_cell("%tokens Hi").result] == [72, 105]


def test_load_ext_by_the_name_of_the_package(shell):
    assert shell.run_cell("%reload_ext chatlab").success
    assert "ChatlabMagics" in shell.magics_manager.registry


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("%tokens Hello, world!", "Hello, world!"),
        ("%tokens greeting", "Ciao {x} $y"),
        ("%tokens greeting.upper()", "CIAO {X} $Y"),
        ("%tokens '  two spaces'", "  two spaces"),
        ("%tokens greeting and more", "greeting and more"),
        ("%tokens print", "print"),
        ("%tokens 12 + 30", "12 + 30"),
        ("%tokens 1 / 0", "1 / 0"),
        ("%tokens {greeting} costs $5", "{greeting} costs $5"),
        ("%tokens [1, 2]", "[1, 2]"),
        ("%tokens question", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        ("%%tokens\na\n b\n", "a\n b"),
    ],
)
def test_tokens_of_texts_and_expressions(shell, magics, tokenized, cell, text):
    shell.user_ns.update(greeting="Ciao {x} $y", question=[user("Hi")])
    result = shell.run_cell(cell)
    assert result.success and tokenized == [(text, None, magics.model)]
    assert result.result == tokenized[0], "the table is the cell's result"


@pytest.mark.parametrize("line", ["--encoding cl100k_base Hi", "--encoding=cl100k_base  Hi"])
def test_tokens_of_another_encoding(shell, magics, tokenized, line):
    shell.run_line_magic("tokens", line)
    assert tokenized == [("Hi", "cl100k_base", None)]


def test_messages_become_a_variable_and_are_linted(shell, magics, capsys):
    shell.run_cell("%%messages question\nuser: Hi\nNote\nassistant: Hello!\n")
    assert shell.user_ns["question"] == [user("Hi\nNote"), assistant("Hello!")]
    shown = capsys.readouterr().out
    assert shown.startswith("user: Hi\nNote\nassistant: Hello!\n(2 messages in question)\n")
    assert "(no-system)" in shown and "(last-not-user)" in shown


def completions(shell, line):
    with provisionalcompleter():
        return {each.text for each in shell.Completer.completions(line, len(line))}


def test_options_complete(shell, magics):
    assert "--temperature" in completions(shell, "%%chat --te")
    assert completions(shell, "%%chat --st") >= {"--stream"} and "--no-stream" in completions(shell, "%%chat --no")
    assert {"--system", "--seed", "--new"} <= completions(shell, "%%chat ")
    assert "--seed" not in completions(shell, "%%chat --seed 1 --se")
    assert "--show" in completions(shell, "%chat --sh")
    assert completions(shell, "%tokens --enc") == {"--encoding"} == completions(shell, "%tokens --")
    assert all(option.startswith("--") for option in completions(shell, "%%chat --")), "no Python names among them"
    load_ipython_extension(shell)  # as %reload_ext does
    assert completions(shell, "%%chat --sys") == {"--system"}
    assert "--system" not in completions(shell, "%%chat\n--sys")


def test_variables_complete_after_tokens(shell, magics):
    shell.user_ns["greeting_of_mine"] = "Hi"
    assert completions(shell, "%tokens greeting_of") == {"greeting_of_mine"}


@pytest.mark.parametrize(
    ("magic", "words"), [("%%chat", "--temperature T"), ("%tokens", "--encoding NAME"), ("%%messages", "user: What")]
)
def test_help_tells_the_options(shell, magics, magic, words):
    assert words in shell.object_inspect_text(magic)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_views_escape(payload):
    view = _Transcript([user(payload), assistant(payload)], payload)
    assert payload not in view._repr_html_() and repr(view) == f"user: {payload}\nassistant: {payload}\n({payload})"


def run(cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    return [cell.outputs for cell in notebook.cells]


def test_completion_and_interruption_in_a_real_kernel():
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        client.execute_interactive(
            "%load_ext chatlab.magics\nfrom chatlab.testing import ScriptedModel\n"
            "magics = get_ipython().magics_manager.registry['ChatlabMagics']\n"
            "magics.model = ScriptedModel('x' * 100_000, seconds_per_token=0.01)",
            timeout=60,
        )
        client.complete("%%chat --max\nHi", cursor_pos=12)
        content = client.get_shell_msg(timeout=30)["content"]
        assert "--max-completion-tokens" in content["matches"] and content["cursor_start"] == 7
        shown, interrupted = [], []

        def look(message):
            data = message["content"].get("data", {}).get("text/plain", "")
            if data:
                shown.append(data)
            if "x" in data and not interrupted:
                interrupted.append(data)
                manager.interrupt_kernel()

        reply = client.execute_interactive("%%chat\nHi", timeout=60, output_hook=look)
        assert reply["content"]["status"] == "ok" and shown[-1].endswith("\n(stopped before its end)")
        said = client.execute_interactive("", user_expressions={"n": "len(magics.conversation.messages)"}, timeout=30)
        assert said["content"]["user_expressions"]["n"]["data"]["text/plain"] == "2"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_in_a_real_kernel():
    outputs = run(
        [
            "%load_ext chatlab.magics",
            "from chatlab.testing import ScriptedModel\n"
            "magics = get_ipython().magics_manager.registry['ChatlabMagics']\n"
            "magics.model = ScriptedModel('<b>Hi</b> Ana!', seconds_per_token=0.03)",
            "%%chat --temperature 0\nI am <i>Ana</i>.",
            "%%chat --temperature 7\nHello?",
            "%chat --show",
            "%%messages question\nuser: Hi <script>",
            "question",
        ]
    )
    assert outputs[0] == outputs[1] == []
    [reply] = outputs[2]
    assert reply.data["text/plain"].startswith("assistant: <b>Hi</b> Ana!\n(finish_reason: stop · ")
    assert "&lt;b&gt;Hi&lt;/b&gt; Ana!" in reply.data["text/html"]
    assert "UsageError: temperature must be between 0 and 2, but is 7.0." in str(outputs[3])
    assert "Traceback" not in str(outputs[3])
    assert "&lt;i&gt;Ana&lt;/i&gt;" in outputs[4][0].data["text/html"]
    assert "&lt;script&gt;" in outputs[5][0].data["text/html"] and "(no-system)" in outputs[5][1].text
    assert outputs[6][0].data["text/plain"] == "[{'role': 'user', 'content': 'Hi <script>'}]"
