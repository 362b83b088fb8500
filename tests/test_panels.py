import time

import pytest

from chatlab import Conversation, assistant, user
from chatlab.panels import ChatPanel
from chatlab.testing import ScriptedModel


def test_send_by_button_and_by_enter():
    panel = ChatPanel(model=ScriptedModel("Hello!", "Bye!"))
    panel.message_box.value = "Hi"
    panel.send_button.click()
    panel.wait(10)
    panel.message_box.value = "Ciao"
    panel.message_box._handle_custom_msg({"event": "submit"}, [])
    panel.wait(10)
    assert [message["content"] for message in panel.conversation.messages] == ["Hi", "Hello!", "Ciao", "Bye!"]
    assert panel.message_box.value == ""
    assert all(text in panel.transcript.value for text in ("Hi", "Hello!", "Ciao", "Bye!"))
    assert "done · 5 tokens" in panel.status.value, "four characters and the end token"


def test_text_grows_while_the_kernel_stays_free():
    panel = ChatPanel(model=ScriptedModel("x" * 60, seconds_per_token=0.02))
    seen = []
    panel.transcript.observe(lambda change: seen.append(change["new"].count("x")), "value")
    panel.send("Hi")
    assert panel.running and panel.send_button.disabled and not panel.stop_button.disabled
    panel.wait(30)
    counts = sorted(set(seen))
    assert len(counts) >= 4 and seen == sorted(seen)
    assert not panel.running and not panel.send_button.disabled and panel.stop_button.disabled


def test_stop_ends_the_reply_and_keeps_what_was_said():
    panel = ChatPanel(model=ScriptedModel("x" * 1000, seconds_per_token=0.01))
    panel.send("Hi")
    time.sleep(0.3)
    panel.stop_button.click()
    panel.wait(10)
    assert 0 < len(panel.conversation.messages[-1]["content"]) < 200
    assert "stopped after" in panel.status.value
    panel.send("Again")
    panel.stop()
    panel.wait(10)
    assert not panel.running and panel.message_box.value == "Again", "nothing was said: it can be sent again"


def test_a_second_send_waits_for_the_first():
    model = ScriptedModel("x" * 20, seconds_per_token=0.01)
    panel = ChatPanel(model=model)
    panel.send("one")
    panel.send("two")
    panel.send("  ")
    panel.wait(10)
    assert len(model.prompts) == 1


def test_controls_set_the_next_reply():
    model = ScriptedModel("Hello!")
    panel = ChatPanel(system="Be brief.", temperature=0.3, model=model)
    assert (panel.system_box.value, panel.temperature_slider.value) == ("Be brief.", 0.3)
    panel.system_box.value = "Be a pirate."
    panel.temperature_slider.value = 0.9
    panel.send("Hi")
    panel.wait(10)
    assert "Be a pirate." in model.prompts[0] and panel.conversation.temperature == 0.9
    panel.system_box.value = ""
    panel.send("Hi")
    panel.wait(10)
    assert "pirate" not in model.prompts[1]


def test_settings_changed_from_python_hold_and_both_at_once_are_refused():
    model = ScriptedModel("Hello!")
    chat = Conversation(model=model)
    panel = ChatPanel(chat)
    chat.system, chat.temperature = "Be a pirate.", 0.4
    panel.send("Hi")
    panel.wait(10)
    assert "Be a pirate." in model.prompts[0] and chat.temperature == 0.4
    with pytest.raises(TypeError, match="not both"):
        ChatPanel(chat, system="s")


def test_clear_forgets_the_turns_also_while_replying():
    panel = ChatPanel(system="s", model=ScriptedModel("x" * 1000, seconds_per_token=0.01))
    panel.send("Hi")
    panel.clear_button.click()
    assert [message["role"] for message in panel.conversation.messages] == ["system"]
    assert "Say hello." in panel.transcript.value


def test_refused_request_shows_and_gives_the_text_back():
    panel = ChatPanel(model=ScriptedModel("x", context_length=40))
    panel.send("y" * 100)
    panel.wait(10)
    assert "ContextLengthError" in panel.status.value and panel.message_box.value == "y" * 100
    assert panel.conversation.messages == []


def test_length_limit_is_told():
    panel = ChatPanel(model=ScriptedModel("Hello!"), max_completion_tokens=2)
    panel.send("Hi")
    panel.wait(10)
    assert "cut off" in panel.status.value


@pytest.mark.parametrize("payload", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</div><b>"])
def test_markup_is_escaped_wherever_it_comes_from(payload):
    panel = ChatPanel(Conversation([user(payload), assistant(payload)], model=ScriptedModel(payload)))
    panel.send(payload)
    panel.wait(10)
    assert payload not in panel.transcript.value and panel.transcript.value.count("&lt;") >= 4


def test_panel_goes_on_with_a_conversation():
    chat = Conversation([user("Hi"), assistant("Hello!")], model=ScriptedModel("x"))
    panel = ChatPanel(chat)
    assert "Hello!" in panel.transcript.value and panel.conversation is chat
    assert repr(panel) == "ChatPanel(1 turn, temperature=1.0)"


def test_two_panels_do_not_mix():
    first, second = (ChatPanel(model=ScriptedModel(reply * 20, seconds_per_token=0.005)) for reply in "ab")
    first.send("one")
    second.send("two")
    first.wait(10)
    second.wait(10)
    assert first.conversation.messages[-1] == assistant("a" * 20)
    assert second.conversation.messages[-1] == assistant("b" * 20)
