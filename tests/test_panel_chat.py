"""The chat panel, driven from Python: what its buttons do is what its methods do."""

from __future__ import annotations

import json
import time

import pytest

from chatlab import Conversation, assistant, user
from chatlab.panels import ChatPanel, ComparePanel
from chatlab.panels.saved import SavedChat
from chatlab.testing import ScriptedModel

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</div><b>",
    "[x](javascript:alert(1))",
    "![x](x' onerror='alert(1))",
    "```\n</code><svg onload=alert(1)>\n```",
    "| <a href=javascript:alert(1)> |\n|---|\n| <iframe src=x> |",
]


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("CHATLAB_RECORDS", str(tmp_path / "records"))
    monkeypatch.chdir(tmp_path)


def shown(panel):
    return panel.transcript.complete.value + panel.transcript.growing.value


def said(panel):
    return [message["content"] for message in panel.conversation.messages]


def chat_with(*replies, questions=(), **options):
    panel = ChatPanel(model=ScriptedModel(*replies), **options)
    for question in questions:
        panel.send(question)
        panel.wait(10)
    return panel


def test_send_by_button_and_by_method():
    panel = ChatPanel(model=ScriptedModel("Hello!", "Bye!"))
    panel.message_box.text = "Hi"
    panel.message_box.send_button.click()
    panel.wait(10)
    panel.send("Ciao")
    panel.wait(10)
    assert said(panel) == ["Hi", "Hello!", "Ciao", "Bye!"]
    assert panel.message_box.text == ""
    assert all(text in shown(panel) for text in said(panel))
    assert "done · 5 tokens" in panel.status.value and "first text after" in panel.status.value


def test_text_grows_while_the_kernel_stays_free():
    panel = ChatPanel(model=ScriptedModel("x" * 60, seconds_per_token=0.02))
    seen = []
    panel.transcript.growing.observe(lambda change: seen.append(change["new"].count("x")), "value")
    panel.send("Hi")
    assert panel.running and panel.message_box.busy
    panel.wait(30)
    growing = seen[:-1]  # at the end the reply moves to what is complete
    assert len(set(growing)) >= 4 and growing == sorted(growing) and seen[-1] == 0
    assert "x" * 60 in shown(panel) and not panel.running and not panel.message_box.busy


def test_a_growing_reply_does_not_send_the_turns_before_it_again():
    panel = chat_with(*["x" * 50] * 3, questions=["one", "two"])
    panel.conversation.model.seconds_per_token = 0.01
    sent = []
    panel.transcript.complete.observe(lambda change: sent.append(change["new"]), "value")
    panel.send("three")
    panel.wait(10)
    assert len(sent) == 2, "the question, then the whole turn"


def test_stop_ends_the_reply_and_keeps_what_was_said():
    panel = ChatPanel(model=ScriptedModel("x" * 1000, seconds_per_token=0.01))
    panel.send("Hi")
    time.sleep(0.3)
    panel.message_box.stop_button.click()
    panel.wait(10)
    assert 0 < len(said(panel)[-1]) < 200
    assert "stopped after" in panel.status.value
    panel.send("Again")
    panel.stop()
    panel.wait(10)
    assert not panel.running and panel.message_box.text == "Again", "nothing was said: it can be sent again"


def test_a_second_send_waits_for_the_first():
    model = ScriptedModel("x" * 20, seconds_per_token=0.01)
    panel = ChatPanel(model=model)
    panel.send("one")
    panel.send("two")
    panel.regenerate()
    panel.edit(0, "three")
    panel.send("  ")
    panel.wait(10)
    assert len(model.prompts) == 1


def test_regenerate_asks_the_last_question_again():
    panel = chat_with("one", "two", questions=["Hi"])
    panel.regenerate_button.click()
    panel.wait(10)
    assert said(panel) == ["Hi", "two"] and "one" not in shown(panel)


def test_undo_gives_the_question_back():
    panel = chat_with("one", "two", questions=["Hi", "And?"])
    panel.undo_button.click()
    assert said(panel) == ["Hi", "one"] and panel.message_box.text == "And?" and "two" not in shown(panel)
    panel.undo_button.click()
    assert said(panel) == [] and panel.undo_button.disabled and panel.regenerate_button.disabled


def test_a_turn_is_edited_and_what_came_after_is_forgotten():
    panel = chat_with("one", "two", "three", "four", questions=["Hi", "And?"])
    assert [label for label, _ in panel.turn_field.options] == ["1: Hi", "2: And?"]
    panel.turn_field.value = 0
    panel.edit_button.click()
    assert panel.message_box.text == "Hi"
    panel.message_box.text = "Hello"
    panel.message_box.send_button.click()
    panel.wait(10)
    assert said(panel) == ["Hello", "three"]
    panel.send("More")
    panel.wait(10)
    assert said(panel) == ["Hello", "three", "More", "four"], "the next message is a new turn again"


def test_controls_set_the_next_reply():
    model = ScriptedModel("Hello!")
    panel = ChatPanel(system="Be brief.", temperature=0.3, model=model)
    settings = panel.settings
    assert (panel.system_box.value, settings.temperature_field.value) == ("Be brief.", 0.3)
    panel.system_box.value = "Be a pirate."
    settings.temperature_field.value, settings.top_p_field.value = 0.9, 0.5
    settings.seed_field.value, settings.max_tokens_field.value = "7", 2
    panel.send("Hi")
    panel.wait(10)
    chat = panel.conversation
    assert "Be a pirate." in model.prompts[0]
    assert (chat.temperature, chat.top_p, chat.seed, chat.max_completion_tokens) == (0.9, 0.5, 7, 2)
    assert "cut off" in panel.status.value and said(panel)[-1] == "He"
    panel.system_box.value = ""
    panel.send("Hi")
    panel.wait(10)
    assert "pirate" not in model.prompts[1]
    settings.reset_button.click()
    assert (chat.temperature, chat.top_p, chat.seed, chat.max_completion_tokens) == (0.3, 1.0, None, None)
    assert settings.seed_field.value == ""


def test_a_seed_that_is_no_number_is_not_taken():
    panel = ChatPanel(model=ScriptedModel("Hello!"))
    panel.settings.seed_field.value = "7"
    panel.settings.seed_field.value = "seven"
    assert panel.conversation.seed == 7 and panel.settings.seed_field.value == "7"


@pytest.mark.parametrize("part", ["system", "settings", "export"])
def test_parts_are_shown_and_hidden(part):
    panel = ChatPanel(model=ScriptedModel("Hello!"))
    toggle = getattr(panel, f"{part}_toggle")
    what = {"system": panel.system_box, "settings": panel.settings, "export": panel.export}[part]
    assert what.layout.display == "none" and toggle.description.startswith("Show")
    toggle.value = True
    assert what.layout.display is None and toggle.description.startswith("Hide")


def test_settings_changed_from_python_hold_and_both_at_once_are_refused():
    model = ScriptedModel("Hello!")
    chat = Conversation(model=model)
    panel = ChatPanel(chat)
    chat.system, chat.temperature = "Be a pirate.", 0.4
    panel.send("Hi")
    panel.wait(10)
    assert "Be a pirate." in model.prompts[0] and chat.temperature == 0.4
    assert (panel.system_box.value, panel.settings.temperature_field.value) == ("Be a pirate.", 0.4)
    with pytest.raises(TypeError, match="not both"):
        ChatPanel(chat, system="s")


def test_clear_forgets_the_turns_also_while_replying():
    panel = ChatPanel(system="s", model=ScriptedModel("x" * 1000, seconds_per_token=0.01))
    panel.send("Hi")
    panel.clear_button.click()
    assert [message["role"] for message in panel.conversation.messages] == ["system"]
    assert "Say hello." in shown(panel)


def test_refused_request_shows_and_gives_the_text_back():
    panel = ChatPanel(model=ScriptedModel("x", context_length=40))
    panel.send("y" * 100)
    panel.wait(10)
    assert "ContextLengthError" in panel.status.value and panel.message_box.text == "y" * 100
    assert panel.conversation.messages == [] and not panel.message_box.busy


def test_the_budget_says_what_was_dropped():
    chat = Conversation(model=ScriptedModel("Hello!"), token_limit=120, reserve=10)
    panel = ChatPanel(chat)
    for question in ("x" * 20, "y" * 20, "z" * 20):
        panel.send(question)
        panel.wait(10)
    assert chat.fitted.dropped
    assert f"{len(chat.fitted)} of 5 messages" in panel.budget.value and "chatlab-budget-kept" in panel.budget.value


def test_a_reply_is_markdown_and_what_a_user_types_is_not():
    panel = chat_with("**bold** and\na list:\n\n- one\n- two", questions=["**Hi**"])
    assert "<strong>bold</strong> and<br>" in shown(panel) and "<li>one</li>" in shown(panel)
    assert "**Hi**" in shown(panel)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markup_does_nothing_wherever_it_comes_from(payload):
    panel = ChatPanel(Conversation([user(payload), assistant(payload)], system=payload, model=ScriptedModel(payload)))
    panel.send(payload)
    panel.wait(10)
    panel.export_toggle.value = True
    panel.note(payload)
    everything = [shown(panel), panel.budget.value, panel.status.value, panel.export.shown.value, panel.static_html()]
    for html in everything:
        for harm in ("<script", "<img", "<svg", "<iframe", "<a ", "</div><b>"):
            assert harm not in html.replace('<button class="jupyter-button" onclick=', "")


def test_panel_goes_on_with_a_conversation():
    chat = Conversation([user("Hi"), assistant("Hello!")], model=ScriptedModel("x"))
    panel = ChatPanel(chat)
    assert "Hello!" in shown(panel) and panel.conversation is chat
    assert repr(panel) == "ChatPanel(1 turn, temperature=1.0)"


def test_two_panels_do_not_mix():
    first, second = (ChatPanel(model=ScriptedModel(reply * 20, seconds_per_token=0.005)) for reply in "ab")
    first.send("one")
    second.send("two")
    first.wait(10)
    second.wait(10)
    assert first.conversation.messages[-1] == assistant("a" * 20)
    assert second.conversation.messages[-1] == assistant("b" * 20)


def test_where_there_are_no_widgets_a_page_shows_the_turns():
    panel = chat_with("**Hello!**", questions=["<b>Hi"])
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "ChatPanel(1 turn, temperature=1.0)"
    assert "<strong>Hello!</strong>" in bundle["text/html"] and "&lt;b&gt;Hi" in bundle["text/html"]


def test_export_in_every_format_to_see_and_to_save(tmp_path):
    panel = chat_with("Hello!", questions=["<b>Hi"])
    panel.export_toggle.value = True
    for name, mark in {
        "Markdown": "**user**",
        "JSON": '"messages"',
        "Python": "from openai import OpenAI",
        "curl": "curl http",
    }.items():
        panel.export.format_field.value = name
        assert mark in panel.export.text and "<b>" not in panel.export.shown.value.partition("<pre")[2]
        assert panel.export.save().read_text() == panel.export.text
    assert panel.export.save().name == "chat-2.sh", "an earlier file is not written over"
    assert "Saved as chat-2.sh" in panel.export.told.value
    assert Conversation.load(tmp_path / "chat.json").messages == panel.conversation.messages
    panel.clear()
    panel.export.refresh()
    assert panel.export.text == "Nothing has been asked yet."


# ---------------------------------------------------------------------------- a transcript outlives its kernel


def panel_named(name, *replies, **options):
    return ChatPanel(model=ScriptedModel(*replies), name=name, **options)


def test_a_chat_comes_back_with_what_was_set_in_the_panel():
    first = panel_named("a", "Hello!", system="Be brief.")
    first.system_box.value, first.settings.temperature_field.value = "Be a pirate.", 0.2
    first.send("Hi")
    first.wait(10)
    again = panel_named("a", "Bye!", system="Be brief.")
    assert again.conversation.messages == first.conversation.messages and again.conversation.temperature == 0.2
    assert "1 turn of an earlier run" in again.status.value and "Hello!" in shown(again)
    assert panel_named("b", "x").conversation.messages == []
    again.clear()
    assert panel_named("a", "x").conversation.messages == []


def test_code_that_asks_for_something_else_wins_and_the_turns_stay():
    first = panel_named("a", "Hello!", system="Be brief.")
    first.send("Hi")
    first.wait(10)
    again = panel_named("a", "Bye!", system="Be a pirate.", temperature=0.5)
    assert [message["content"] for message in again.conversation.messages] == ["Be a pirate.", "Hi", "Hello!"]
    assert again.conversation.temperature == 0.5


def test_a_reply_is_saved_while_it_grows(monkeypatch):
    monkeypatch.setattr("chatlab.panels.chat.SECONDS_BETWEEN_SAVES", 0.05)
    first = ChatPanel(model=ScriptedModel("x" * 500, seconds_per_token=0.01), name="a")
    first.send("Hi")
    deadline = time.monotonic() + 10
    while not first.saved.path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "x" in json.loads(first.saved.path.read_text())["messages"][-1]["content"]
    first.stop()
    first.wait(10)


def test_a_broken_file_is_left_alone(tmp_path):
    path = tmp_path / "chat.json"
    path.write_text("{")
    chat = Conversation(model=ScriptedModel("x"))
    assert not SavedChat(path).restore(chat, given={}) and chat.messages == []
    assert path.read_text() == "{"


def test_a_conversation_with_turns_is_not_overwritten():
    first = panel_named("a", "Hello!")
    first.send("Hi")
    first.wait(10)
    chat = Conversation([user("Mine")], model=ScriptedModel("x"))
    assert ChatPanel(chat, name="a").conversation.messages == [user("Mine")]


def test_a_disk_that_refuses_does_not_end_the_chat(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    saved = SavedChat(blocked / "chat.json")
    saved.save(Conversation([user("Hi")], model=ScriptedModel("x")), given={})
    assert saved.path is None


def test_outside_a_notebook_nothing_is_saved(tmp_path):
    chat_with("Hello!", questions=["Hi"])
    assert not (tmp_path / "records").exists()


def test_each_panel_of_a_cell_has_a_file_of_its_own_and_keeps_it(monkeypatch):
    for run in ("first run", "second run"):
        monkeypatch.setattr("chatlab.panels.saved._cell", lambda run=run: (run, "lesson.ipynb", "cell-1"))
        paths = [SavedChat.here().path.name for _ in range(2)]
        assert [path[-7:] for path in paths] == ["-1.json", "-2.json"]
    monkeypatch.setattr("chatlab.panels.saved._cell", lambda: ("run", "other.ipynb", "cell-1"))
    assert SavedChat.here().path.name not in paths


# ---------------------------------------------------------------------------- two side by side


def test_two_chats_are_told_the_same_and_go_their_own_ways():
    chats = [Conversation(model=ScriptedModel("x" * 300, seconds_per_token=0.005)) for _ in range(2)]
    panel = ComparePanel(*chats, names=("<b>one", "two"))
    panel.right.settings.temperature_field.value = 0.2
    panel.message_box.text = "Hi"
    panel.message_box.send_button.click()
    assert panel.message_box.busy and all(chat.running for chat in panel.chats)
    panel.send("too early")
    time.sleep(0.2)
    panel.message_box.stop_button.click()
    panel.wait(10)
    assert not panel.message_box.busy
    assert [chat.temperature for chat in chats] == [1.0, 0.2]
    for chat in chats:
        assert chat.messages[0] == user("Hi") and 0 < len(chat.messages[1]["content"]) < 300
    assert "&lt;b&gt;one" in panel.static_html() and repr(panel) == "ComparePanel(1 turn, 1 turn)"
    panel.clear_button.click()
    assert all(chat.messages == [] for chat in chats)
