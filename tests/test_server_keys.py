"""The keys of a room: made, kept as digests, changed while the server runs, refused when wrong."""

from __future__ import annotations

import os
import threading

import httpx2
import openai
import pytest
from typer.testing import CliRunner

from chatlab import cli
from chatlab.errors import KeyFileError
from chatlab.server import ServerSettings, serve
from chatlab.server.api_keys import Budget, KeyFile
from chatlab.testing import ScriptedModel

BODY = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def keys(tmp_path):
    return KeyFile(tmp_path / "api-keys.yaml")


@pytest.fixture
def room(keys):
    """A server with the keys of ada and of a teacher, and their keys."""
    own = {"ada": keys.add("ada"), "grace": keys.add("grace", teacher=True)}
    with serve(ScriptedModel("Hello!"), settings=ServerSettings(key_file=keys.path)) as server:
        yield server, own


def ask(server, key):
    client = server.client().with_options(api_key=key, max_retries=0)
    return client.chat.completions.create(**BODY).choices[0].message.content


def test_the_file_holds_no_key_and_is_its_owners_alone(keys):
    made = [keys.add(name) for name in ("ada", "Zoë B.", "李雷", "c@d.e")]
    text = keys.path.read_text(encoding="utf-8")
    assert len(set(made)) == 4 and all(key.startswith("sk-chatlab-") and len(key) > 50 for key in made)
    assert not any(key[11:] in text for key in made)
    assert os.name == "nt" or keys.path.stat().st_mode & 0o077 == 0
    assert [keys.whose(key).name for key in made] == list(keys.holders())


@pytest.mark.parametrize("name", ["", " ada", "ada\n", "=1+1", "@ada", "a" * 41, "a,b", '"a"'])
def test_what_cannot_be_a_name(keys, name):
    """A name stands in lists, pages and spreadsheets, and must not be a formula there."""
    with pytest.raises(KeyFileError, match="cannot be a name"):
        keys.add(name)
    assert not keys.path.exists()


def test_names_that_are_taken_or_unknown(keys):
    keys.add("ada")
    with pytest.raises(KeyFileError, match="has a key"):
        keys.add("ada")
    with pytest.raises(KeyFileError, match="There is: ada"):
        keys.revoke("bob")
    with pytest.raises(KeyFileError, match="There is: ada"):
        keys.set_limits({"tokens_per_day": 5}, "bob")


def test_limits_are_everyones_unless_one_has_ones_own(keys):
    keys.add("ada")
    keys.add("bob", limits={"tokens_per_day": 7, "tokens_per_minute": None})
    keys.set_limits({"requests_per_minute": 5, "tokens_per_day": 1000})
    keys.set_limits({"requests_per_minute": None}, "bob")
    assert keys.holders()["ada"].budget == Budget(requests_per_minute=5, tokens_per_minute=20_000, tokens_per_day=1000)
    assert keys.holders()["bob"].budget == Budget(tokens_per_day=7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2", "cannot be read"),
        ("- a", "not a key file"),
        ("format: 99", "not a key file"),
        ("format: 1\nkeys: {ada: {made: today}}", "sha256"),
        ("format: 1\nkeys: {ada: {sha256: xyz}}", "sha256"),
        ("format: 1\nkeys: [ada]", "an entry that is none"),
        ("format: 1\nbudget: {tokens: 5}", "must hold requests_per_minute"),
        ("format: 1\nbudget: {tokens_per_day: 0}", "a number from 1, or null; it is 0"),
        ("format: 1\nkeys: {ada: {sha256: '00', budget: {tokens_per_day: true}}}", "the budget of 'ada'"),
    ],
)
def test_a_file_that_is_none_is_told_before_the_server_starts(keys, text, said):
    keys.path.write_text(text)
    with pytest.raises(KeyFileError, match=said):
        serve(ScriptedModel("x"), settings=ServerSettings(key_file=keys.path))


def test_many_commands_at_once_lose_nothing(keys):
    threads = [threading.Thread(target=keys.add, args=(f"learner {number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys.holders()) == 20


def test_a_file_opens_the_server_and_a_wrong_key_does_not(room):
    server, own = room
    assert ask(server, own["ada"]) == "Hello!"
    for wrong in ("no", own["ada"][:-1], own["ada"] + "x", "é"):
        headers = {"Authorization": f"Bearer {wrong}".encode()}
        answer = httpx2.get(f"{server.base_url}/models", headers=headers, trust_env=False)
        error = answer.json()["error"]
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_api_key")
        assert own["ada"] not in answer.text
    with pytest.raises(openai.AuthenticationError, match="typing mistakes"):
        ask(server, "no")


def test_a_change_of_the_file_counts_from_the_next_request_on(room, keys):
    server, own = room
    added = keys.add("bob")
    assert ask(server, added) == "Hello!"
    keys.revoke("ada")
    with pytest.raises(openai.AuthenticationError):
        ask(server, own["ada"])
    assert ask(server, added) == "Hello!"


def test_a_file_spoilt_while_the_server_runs_leaves_the_keys_as_they_were(room, keys, caplog):
    server, own = room
    assert ask(server, own["ada"]) == "Hello!"
    good = keys.path.read_text()
    keys.path.write_text("format: 1\nkeys: {ada: {}}")
    assert ask(server, own["ada"]) == "Hello!"
    assert ask(server, own["ada"]) == "Hello!"
    assert [record.message for record in caplog.records].count(caplog.messages[-1]) == 1, "told once, not each time"
    assert "The keys stay as they were" in caplog.text
    keys.path.unlink()
    assert ask(server, own["ada"]) == "Hello!"
    keys.path.write_text(good)
    keys.revoke("ada")
    with pytest.raises(openai.AuthenticationError):
        ask(server, own["ada"])


def test_commands(tmp_path):
    def run(*arguments):
        return CliRunner().invoke(cli.app, ["keys", *arguments, "--file", str(tmp_path / "k.yaml")])

    printed = run("add", "ada", "bob", "--tokens-per-day", "1000").stdout
    key = printed.splitlines()[0].removeprefix("ada: ")
    assert KeyFile(tmp_path / "k.yaml").whose(key).name == "ada"
    run("add", "grace", "--teacher")
    run("budget", "ada", "--tokens-per-minute", "none")
    listed = run("list").stdout
    assert key not in listed
    ada, bob, grace = listed.splitlines()[1:]
    assert ada.split()[-4:] == ["60", "no", "limit", "1,000"]
    assert bob.split()[-3:] == ["60", "20,000", "1,000"] and grace.endswith("teacher")
    assert "revoked" in run("revoke", "ada").stdout and "ada" not in run("list").stdout
    assert run("budget", "--tokens-per-day", "0").exit_code == 2
    assert "Nobody called 'ada'" in str(run("revoke", "ada").exception)


def test_a_server_open_to_others_is_content_with_a_file_of_keys(keys):
    assert ServerSettings(host="0.0.0.0", key_file=keys.path).wants_key
    with pytest.raises(KeyFileError, match="chatlab keys add NAME --file"):
        serve(ScriptedModel("x"), settings=ServerSettings(key_file=keys.path))
