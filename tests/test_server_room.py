"""A room: budgets and what is told of them, the table of usage, the teacher's page, and that nobody is starved."""

from __future__ import annotations

import base64
import csv
import threading
import time
from datetime import date

import httpx2
import openai
import pytest
from browser import CHROMIUM, FLAGS, check_accessible, needs_chromium, screenshot
from limits import RateLimitItemPerSecond
from playwright.sync_api import sync_playwright
from typer.testing import CliRunner

from chatlab import cli
from chatlab.errors import KeyFileError
from chatlab.server import ServerSettings, serve
from chatlab.server.api_keys import KeyFile
from chatlab.server.usage import Usage, usage_path
from chatlab.testing import ScriptedModel

BODY = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
PROMPT_TOKENS = 21  # of the messages above, as the scripted model counts them
HELLO_TOKENS = 7  # six letters, and the token that ends the reply


@pytest.fixture
def keys(tmp_path):
    return KeyFile(tmp_path / "api-keys.yaml")


@pytest.fixture
def room(keys):
    """Return a function that makes keys and serves, and stops all its servers at the end."""
    servers = []

    def start(*names, text="Hello!", seconds_per_token=0.0, **settings):
        own = {name: keys.add(name, teacher=name == "grace") for name in names}
        settings = ServerSettings(key_file=keys.path, **settings)
        servers.append(serve(ScriptedModel(text, seconds_per_token=seconds_per_token), settings=settings))
        return servers[-1], own

    yield start
    for server in servers:
        server.stop()


def client_of(server, key):
    return server.client().with_options(api_key=key, max_retries=0)


def ask(server, key, **options):
    return client_of(server, key).chat.completions.with_raw_response.create(**BODY, **options)


def get(server, path, key=None, **options):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.get(server.url + path, headers=headers, trust_env=False, **options)


def refused(server, key, **options):
    with pytest.raises(openai.RateLimitError) as caught:
        ask(server, key, **options)
    error = caught.value
    assert (error.type, error.code, error.param) == ("rate_limit_error", "rate_limit_exceeded", None)
    return error


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def rows(server, key):
    return {row["name"]: row for row in csv.DictReader(get(server, "/room/usage.csv", key).text.splitlines())}


def settled(server, own, name, requests):
    """Wait until the table has so many replies of someone: it is written when a reply has ended, not before."""
    until(lambda: rows(server, own["grace"]).get(name, {}).get("requests") == str(requests))


def test_requests_a_minute(room, keys):
    server, own = room("ada", "bob")
    keys.set_limits({"requests_per_minute": 2}, "ada")
    left = [ask(server, own["ada"]).headers["x-ratelimit-remaining-requests"] for _ in range(2)]
    assert left == ["1", "0"]
    error = refused(server, own["ada"])
    assert "ada has asked 2 times within a minute" in str(error)
    headers = error.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60 and "x-should-retry" not in headers
    assert headers["x-ratelimit-limit-requests"] == "2" and headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    assert ask(server, own["bob"]).status_code == 200, "one learner's budget is not another's"


def test_the_official_client_waits_as_long_as_it_is_told_and_gets_its_reply(room, keys, monkeypatch):
    """The minute is two seconds long here: waiting for a whole one would prove no more."""
    monkeypatch.setattr("chatlab.server.budgets.RateLimitItemPerMinute", lambda limit: RateLimitItemPerSecond(limit, 2))
    server, own = room("ada")
    keys.set_limits({"requests_per_minute": 1})
    client = client_of(server, own["ada"]).with_options(max_retries=2)
    started = time.monotonic()
    assert [client.chat.completions.create(**BODY).choices[0].message.content for _ in range(2)] == ["Hello!"] * 2
    assert 0.9 < time.monotonic() - started < 10


def test_tokens_a_minute_count_prompts_and_replies(room, keys):
    server, own = room("ada", "grace")
    keys.set_limits({"tokens_per_minute": 2 * (PROMPT_TOKENS + HELLO_TOKENS) + 10}, "ada")
    for number in (1, 2):
        assert ask(server, own["ada"]).status_code == 200
        settled(server, own, "ada", number)
    error = refused(server, own["ada"])
    assert "ada has 10 tokens left of 66 a minute, and this request may need 22 (21 in the prompt" in str(error)
    assert 1 <= int(error.response.headers["retry-after"]) <= 60
    assert error.response.headers["x-ratelimit-remaining-tokens"] == "10"


def test_what_is_asked_for_counts_while_it_is_made(room, keys):
    """Or many requests at the same moment would each find the whole budget."""
    server, own = room("ada", text="x" * 100, seconds_per_token=0.02)
    keys.set_limits({"tokens_per_minute": 200}, "ada")
    with client_of(server, own["ada"]).chat.completions.create(**BODY, max_tokens=100, stream=True) as stream:
        next(stream)
        assert "79 tokens left of 200" in str(refused(server, own["ada"], max_tokens=100))
        assert ask(server, own["ada"], max_tokens=5).status_code == 200


def test_what_can_never_be_is_not_tried_again(room, keys):
    server, own = room("ada")
    keys.set_limits({"tokens_per_minute": 100}, "ada")
    error = refused(server, own["ada"], max_tokens=1000)
    assert "more than ada's whole budget of 100 a minute" in str(error)
    assert error.response.headers["x-should-retry"] == "false" and "retry-after" not in error.response.headers
    assert refused(server, own["ada"], max_tokens=1000, stream=True), "before the stream starts"


def test_a_day_outlives_a_restart(room, keys):
    server, own = room("ada", "grace")
    keys.set_limits({"tokens_per_day": 49}, "ada")
    assert ask(server, own["ada"]).headers["x-ratelimit-limit-tokens"] == "49", "the day has less left than the minute"
    settled(server, own, "ada", 1)
    server.stop()
    server, _ = room()
    error = refused(server, own["ada"])
    assert "21 tokens left of 49 a day" in str(error)
    assert int(error.response.headers["retry-after"]) <= 24 * 3600
    keys.set_limits({"tokens_per_day": 1000}, "ada")
    assert ask(server, own["ada"]).status_code == 200, "the teacher gave more"


def test_a_new_day_has_a_new_budget(tmp_path):
    days = [date(2026, 3, 1)]
    usage = Usage(tmp_path / "u.db", today=lambda: days[-1])
    usage.add("ada", requests=1, prompt_tokens=5, completion_tokens=6)
    days.append(date(2026, 3, 2))
    assert usage.tokens_today("ada") == 0 and [row["day"] for row in usage.rows()] == ["2026-03-01"]


def test_a_mistake_counts_as_a_request_but_costs_no_tokens(room, keys):
    server, own = room("ada", "grace")
    keys.set_limits({"requests_per_minute": 1}, "ada")
    with pytest.raises(openai.BadRequestError):
        ask(server, own["ada"], temperature=9)
    refused(server, own["ada"])
    row = rows(server, own["grace"])["ada"]
    assert (row["requests"], row["refused"], row["prompt_tokens"]) == ("0", "1", "0")


def test_the_table_says_what_the_replies_said(room, tmp_path, keys):
    server, own = room("ada", "grace")
    usages = [ask(server, own["ada"]).parse().usage for _ in range(3)]
    settled(server, own, "ada", 3)
    row = rows(server, own["grace"])["ada"]
    assert int(row["prompt_tokens"]) == sum(usage.prompt_tokens for usage in usages) == 3 * PROMPT_TOKENS
    assert int(row["completion_tokens"]) == sum(usage.completion_tokens for usage in usages) == 3 * HELLO_TOKENS
    assert int(row["cached_tokens"]) == sum(usage.prompt_tokens_details.cached_tokens for usage in usages)
    printed = CliRunner().invoke(cli.app, ["keys", "usage", "--file", str(keys.path)]).stdout
    assert printed == get(server, "/room/usage.csv", own["grace"]).text
    assert (
        "Written"
        in CliRunner()
        .invoke(cli.app, ["keys", "usage", "--file", str(keys.path), "--write", str(tmp_path / "u.csv")])
        .stdout
    )
    assert (tmp_path / "u.csv").read_text() == printed


def test_what_a_client_that_left_has_used_is_counted(room):
    server, own = room("ada", "grace", text="x" * 500, seconds_per_token=0.01)
    with client_of(server, own["ada"]).chat.completions.create(**BODY, stream=True) as stream:
        for _ in range(5):
            next(stream)
    settled(server, own, "ada", 1)
    assert 4 <= int(rows(server, own["grace"])["ada"]["completion_tokens"]) < 500


def test_the_room_is_shown_to_a_teacher_alone(room):
    server, own = room("ada", "grace")
    for path in ("/room", "/room/usage.csv"):
        assert get(server, path, own["grace"]).status_code == 200
        assert get(server, path, own["ada"]).status_code == 403
        nobody = get(server, path)
        assert nobody.status_code == 401 and nobody.headers["www-authenticate"].startswith("Basic ")
    password = base64.b64encode(f"anyone:{own['grace']}".encode()).decode()
    headers = {"Authorization": f"Basic {password}"}
    assert httpx2.get(f"{server.url}/room", headers=headers, trust_env=False).status_code == 200
    for elsewhere in ("/v1/models", "/metrics"):
        assert httpx2.get(server.url + elsewhere, headers=headers, trust_env=False).status_code == 401
    for spoilt in ("Basic", "Basic é", "Basic !!!", "Basic " + base64.b64encode(b"\xff").decode(), "Bearer"):
        headers = {"Authorization": spoilt.encode("latin-1")}
        assert httpx2.get(f"{server.url}/room", headers=headers, trust_env=False).status_code == 401


def test_without_a_key_file_there_is_no_room():
    with serve(ScriptedModel("x")) as server:
        assert get(server, "/room").status_code == 404


@needs_chromium[0]
@needs_chromium[1]
def test_the_page_names_learners_and_nothing_they_wrote(room):
    """In a browser, which asks for the key; light and dark, as accessible as axe can tell, and it follows by itself."""
    server, own = room("ada", "Zoë B.", "grace", text="x" * 4000, seconds_per_token=0.02, side_by_side=1)
    streams = [client_of(server, own[name]).chat.completions.create(**BODY, stream=True) for name in ("ada", "Zoë B.")]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(http_credentials={"username": "any", "password": own["grace"]})
        page.goto(f"{server.url}/room")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            screenshot(page, f"room-{scheme}")
            check_accessible(page, context="body")
        table = page.locator("table")
        states = [table.locator("tr", has_text=name).locator("td").first.inner_text() for name in ("ada", "Zoë B.")]
        assert states == ["1 being made, 0 waiting", "0 being made, 1 waiting"]
        assert "not seen" in table.locator("tr", has_text="grace").inner_text()
        for stream in streams:
            stream.close()
        page.locator("tr", has_text="ada").get_by_text("asked").wait_for(timeout=20_000)  # without a reload
        assert BODY["messages"][0]["content"] not in page.content() and own["grace"] not in page.content()
        browser.close()


def test_a_learner_who_asks_for_much_does_not_hold_up_the_others(room):
    """Twenty requests of one, then one of each other: those are among the first to end."""
    names = [f"learner {number}" for number in range(5)]
    server, own = room("greedy", *names, text="x" * 20, seconds_per_token=0.02, side_by_side=2)
    ended = []

    def run(name):
        assert ask(server, own[name]).status_code == 200
        ended.append(name)

    threads = [threading.Thread(target=run, args=("greedy",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    until(lambda: get(server, "/health").json()["waiting"] >= 10)
    before = len(ended)
    others = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in others:
        thread.start()
    for thread in [*threads, *others]:
        thread.join()
    last = max(place for place, name in enumerate(ended) if name != "greedy")
    assert last < before + 12, f"{before} had ended when the others came: {ended}"


def test_nobody_is_sent_away_for_what_others_ask(room):
    server, own = room("greedy", "ada", text="x" * 40, seconds_per_token=0.02, side_by_side=1, queue_length=2)
    threads = [threading.Thread(target=ask, args=(server, own["greedy"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: get(server, "/health").json()["waiting"] == 2)
    with pytest.raises(openai.RateLimitError, match="The server is busy"):
        ask(server, own["greedy"])
    assert ask(server, own["ada"], max_tokens=2).status_code == 200
    for thread in threads:
        thread.join()


def test_a_table_that_cannot_be_opened_or_written(keys, caplog):
    keys.add("ada")
    usage_path(keys.path).mkdir()
    with pytest.raises(KeyFileError, match="usage table"):
        serve(ScriptedModel("x"), settings=ServerSettings(key_file=keys.path))
    usage = Usage(":memory:")
    usage.close()
    usage.add("ada", requests=1)
    assert "could not be noted" in caplog.text
