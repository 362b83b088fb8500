"""StreamPanel without a browser: real HTTP to a real server, what came and when, and a connection that is cut."""

from __future__ import annotations

import json
import time

import pytest
from test_views import PAYLOADS, Markup

import chatlab
from chatlab.panels import StreamPanel
from chatlab.panels.receipts import Receipt
from chatlab.testing import ScriptedModel


@pytest.fixture
def make_panel():
    panels = []

    def make(*replies, seconds_per_token=0.0, **settings):
        model = ScriptedModel(*replies, seconds_per_token=seconds_per_token, name=settings.pop("name", "scripted"))
        panels.append(StreamPanel(settings.pop("prompt", "Hi"), model=model, **settings))
        return panels[-1]

    yield make
    for panel in panels:
        panel.close()


def sent(panel):
    panel.send_button.click()
    panel.wait(20)
    return panel


def test_the_same_request_twice(make_panel):
    panel = sent(make_panel("Hello!", seconds_per_token=0.05))
    streamed, waited = panel.receipts
    assert streamed.text == waited.text == "Hello!" and streamed.state == waited.state == "complete"
    assert streamed.finish_reason == waited.finish_reason == "stop" and streamed.usage == waited.usage
    assert streamed.usage["completion_tokens"] == 7
    assert streamed.seconds_to_text < waited.seconds_to_text / 2, "the first text comes long before the whole"
    assert "The same text in both" in panel.status.value


def test_the_raw_lines_are_what_the_official_client_reads(make_panel):
    panel = sent(make_panel("Hey"))
    streamed, waited = panel.receipts
    assert streamed.events[-1] == "data: [DONE]" and len(waited.lines) == 1
    chunks = [json.loads(event.removeprefix("data: ")) for event in streamed.events[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    client = panel.server.client()
    asked = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 80}
    official = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert [chunk["choices"] for chunk in chunks] == [
        chunk.model_dump(exclude_unset=True)["choices"] for chunk in official
    ]
    assert json.loads(waited.lines[0])["object"] == "chat.completion"
    assert "[DONE]" not in panel.columns[0].value
    panel.raw_box.value = True
    assert "data: [DONE]" in panel.columns[0].value and "chat.completion" in panel.columns[1].value


def test_a_connection_that_is_cut_keeps_what_came_and_the_server_stops(make_panel):
    panel = make_panel("x" * 1000, seconds_per_token=0.02, max_completion_tokens=1000)
    panel.send()
    while not (panel.receipts and panel.receipts[0].text):
        time.sleep(0.05)
    started = time.monotonic()
    panel.cut_button.click()
    while panel.receipts[0].state == "open":
        time.sleep(0.01)
    assert time.monotonic() - started < 0.5
    panel.wait(20)
    streamed, waited = panel.receipts
    assert streamed.state == waited.state == "cut" and 0 < len(streamed.text) < 500 and waited.text == ""
    assert streamed.usage is None and "missing: it never came" in panel.columns[0].value
    assert "never came" in panel.status.value and "stopped as well" in panel.status.value
    made = len(panel.model.prompts[0])
    time.sleep(0.3)
    assert len(panel.model.prompts[0]) == made, "the model really stopped"
    assert repr(panel).endswith("events and 0, cut)")
    assert sent(panel.__class__("Hi", model=panel.model, max_completion_tokens=2)).receipts[0].state == "complete"


def test_cut_without_a_connection_and_enter_in_the_field(make_panel):
    panel = make_panel("Hello!")
    panel.cut_button.click()
    assert "no open connection" in panel.status.value
    panel.prompt_box._handle_custom_msg({"event": "submit"}, [])
    panel.wait(20)
    assert panel.receipts[0].text == "Hello!"


def test_a_second_send_is_a_new_one_with_new_settings(make_panel):
    panel = sent(make_panel("Hello!"))
    server = panel.server
    panel.limit_field.value = 2
    sent(panel)
    assert panel.receipts[0].text == "He" and panel.receipts[0].finish_reason == "length" and panel.server is server


def test_what_the_server_refuses_is_told(make_panel):
    panel = make_panel("Hello!", prompt="x" * 9000)
    sent(panel)
    assert [receipt.state for receipt in panel.receipts] == ["failed", "failed"]
    assert "can hold 8192 tokens" in panel.columns[0].value and "Not answered" in panel.status.value


def test_a_model_on_a_server_is_asked_there():
    with chatlab.serve(ScriptedModel("Hello!"), api_key="secret") as server:
        panel = StreamPanel("Hi", model=chatlab.connect(server.base_url, api_key="secret"))
        assert sent(panel).receipts[0].text == "Hello!" and panel.server is None
        assert "secret" not in panel.static_html() + panel.explanation.value
    sent(panel)
    assert panel.receipts[0].state == "failed" and "ConnectError" in panel.columns[0].value


def test_an_error_in_the_middle_of_a_stream_and_comments():
    receipt = Receipt()
    for line in [": reading the prompt: 1 of 2 tokens", "", 'data: {"error": {"message": "out of luck"}}']:
        receipt.add(line)
    assert receipt.error == "out of luck" and len(receipt.events) == 1 and len(receipt.lines) == 3


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_becomes_markup(make_panel, payload):
    def pages(text):
        panel = make_panel(text, prompt=text, name=text, max_completion_tokens=300)
        panel.raw_box.value = True
        sent(panel)
        panel.receipts[1].error = text
        panel._show()
        return [
            panel.static_html(),
            panel.status.value,
            panel.explanation.value,
            *(each.value for each in panel.columns),
        ]

    allowed = {tag for page in pages("Hi <|im_end|> you") for tag in Markup(page).tags}
    found = [Markup(page) for page in pages(payload)]
    assert all(each.tags <= allowed and not each.odd for each in found)


def test_static_form_and_text(make_panel):
    panel = make_panel("Hello!")
    assert repr(panel) == "StreamPanel(nothing sent)" and "not sent yet" in panel.static_html()
    bundle = sent(panel)._repr_mimebundle_()
    assert bundle["text/html"].count("Hello!") == 2 and "time to first text" in bundle["text/html"]
    assert bundle["text/plain"] == "StreamPanel(10 events and 1, complete)"
