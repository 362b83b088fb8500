import time

import pytest

import chatlab
from chatlab import assistant, system, user
from chatlab.panels import ContextPanel
from chatlab.panels.garden import CONVERSATION
from chatlab.testing import ScriptedModel

PAYLOADS = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'><b onclick='x'>", "</table></div><i>"]
SHORT = [system("Be brief."), user("My name is Ana."), assistant("Hello!"), user("I like tea."), assistant("Good.")]
QUESTION = "What is my name?"


def count(model, *messages):
    return chatlab.count_tokens([*messages, user(QUESTION)], model=model)


def short_panel(model, **settings):
    return ContextPanel(SHORT, model=model, reserve=30, **settings)


def limit_of(model, number):
    """The limit at which only the last `number` messages fit, beside system message, question and reserve."""
    return count(model, SHORT[0], *SHORT[-number:]) + 30


def test_built_in_conversation_begins_with_a_name_and_is_long():
    assert CONVERSATION[1]["content"].startswith("My name is Ana.")
    assert [message["role"] for message in CONVERSATION] == ["system", *["user", "assistant"] * 12]


def test_all_fits_at_first_and_the_lower_the_limit_the_fewer_turns():
    model = ScriptedModel("Ana.")
    panel = short_panel(model)
    assert not panel.fitted.dropped and "3 of 3 turns are sent: nothing has to go" in panel.status.value
    assert "not sent" not in panel.view.value and panel.presets.value == panel.limit_field.value
    panel.limit_field.value = limit_of(model, 2)
    assert [each.index for each in panel.fitted.dropped] == [1, 2]
    assert "2 of 3 turns are sent: the first is not among them" in panel.status.value
    assert panel.view.value.count("✕ not sent") == 2 and panel.view.value.count("<td>sent</td>") == 4
    assert "<td><del>My name is Ana.</del></td>" in panel.view.value and "<td>I like tea.</td>" in panel.view.value


def test_what_is_sent_is_what_fit_says():
    panel = ContextPanel(model=ScriptedModel("x"))
    full = [*CONVERSATION, user(QUESTION)]
    for limit, reserve, strategy, keep_last in [(600, 32, "drop-oldest", None), (900, 0, "keep-last", 3)]:
        panel.limit_field.value, panel.reserve_field.value = limit, reserve
        panel.strategy_box.value = strategy
        if keep_last:
            panel.keep_last_field.value = keep_last
        fitted = chatlab.fit(
            full, limit, reserve=reserve, strategy=strategy, keep_last=keep_last, model=ScriptedModel("")
        )
        assert list(panel.fitted) == list(fitted) and panel.fitted.dropped == fitted.dropped
        assert panel.keep_last_field.disabled == (keep_last is None)


def test_tokens_of_each_message_are_shown_and_add_up():
    model = ScriptedModel("x")
    panel = short_panel(model)
    full = [*SHORT, user(QUESTION)]
    tokens = chatlab.tokens.tokens_per_message(full, model=model)
    header = len("<|im_start|>assistant\n") - len("<|im_start|>") + 1
    assert sum(tokens) + header == chatlab.count_tokens(full, model=model)
    assert all(f"<td>{each}</td>" in panel.view.value for each in tokens)
    estimated = chatlab.tokens.tokens_per_message(full, encoding="cl100k_base")
    assert sum(estimated) + 3 == chatlab.count_tokens(full, encoding="cl100k_base")


def test_presets_set_the_limit_and_follow_it():
    panel = ContextPanel(model=ScriptedModel("x"))
    values = [value for _, value in panel.presets.options]
    assert len(values) == 4 and all(value % 16 == 0 for value in values)
    panel.presets.value = values[0]
    assert panel.limit_field.value == values[0] and panel.fitted.token_limit == values[0]
    panel.limit_field.value = values[0] + 1
    assert panel.presets.value is None
    panel.limit_field.value = values[-1]
    assert panel.presets.value == values[-1] and not panel.fitted.dropped


def test_the_model_is_asked_with_what_is_sent_and_answers_are_kept():
    model = ScriptedModel("You are Ana.", "You are Bob.")
    panel = short_panel(model)
    panel.ask_button.click()
    panel.wait(10)
    panel.limit_field.value = limit_of(model, 2)
    panel.question_box._handle_custom_msg({"event": "submit"}, [])
    panel.wait(10)
    assert "My name is Ana." in model.prompts[0] and "My name is Ana." not in model.prompts[1]
    assert [(each.turns, each.text) for each in panel.answers] == [
        ("3 of 3", "You are Ana."),
        ("2 of 3", "You are Bob."),
    ]
    assert panel.answers[1].token_limit == limit_of(model, 2) and panel.answers[1].strategy == "drop-oldest"
    assert "You are Ana." in panel.history.value and "You are Bob." in panel.history.value
    assert "You are Bob." in panel.answer.value and 'aria-busy="false"' in panel.answer.value
    panel.forget_button.click()
    assert panel.answers == [] and "No answers yet" in panel.history.value


def test_answer_streams_and_stops():
    panel = short_panel(ScriptedModel("x" * 30, seconds_per_token=0.05))
    seen = []
    panel.answer.observe(lambda change: seen.append(change["new"].count("x")), "value")
    panel.ask()
    time.sleep(0.6)
    assert panel.running and panel.ask_button.disabled and not panel.stop_button.disabled
    panel.ask()
    started = time.monotonic()
    panel.stop_button.click()
    panel.wait(5)
    assert time.monotonic() - started < 0.5
    assert len(set(seen)) >= 3 and len(panel.answers) == 1 and panel.answers[0].text.endswith("x … (stopped)")
    assert "Stopped with 3 of 3 turns sent." in panel.status.value and not panel.ask_button.disabled


def test_an_answer_that_is_cut_off_says_so_and_one_without_room_is_not_made():
    panel = short_panel(ScriptedModel("x" * 100))
    panel.ask()
    panel.wait(10)
    assert panel.answers[0].text.endswith("x … (cut off)")
    panel.reserve_field.value = 0
    panel.limit_field.value = count(panel.model, *SHORT)
    panel.ask()
    panel.wait(10)
    assert "no room for a reply" in panel.status.value and len(panel.answers) == 1


def test_a_limit_that_is_too_low_is_told():
    panel = short_panel(ScriptedModel("x"))
    panel.limit_field.value = 16
    assert panel.fitted is None and "ContextLengthError" in panel.status.value
    assert "Nothing can be sent" in panel.view.value and "nothing sent" in repr(panel)
    panel.ask()
    panel.wait(10)
    assert panel.answers == []
    panel.limit_field.value = 1000
    assert panel.fitted is not None


def test_summary_is_made_in_the_background_and_stands_in_the_table():
    model = ScriptedModel("The user is Ana.", "Ana!")
    panel = ContextPanel(model=model, token_limit=900)
    panel.strategy_box.value = "summarise"
    assert panel.running and panel.fitted.summary is None, "meanwhile it shows what goes"
    panel.wait(10)
    assert panel.fitted.summary == "The user is Ana." and "a summary is" in panel.status.value
    assert ">summary</th><td>The user is Ana.</td>" in panel.view.value
    panel.ask()
    panel.wait(10)
    assert len(model.prompts) == 2 and "The user is Ana." in model.prompts[1], "the summary is made once"
    assert panel.answers[0].text == "Ana!" and panel.answers[0].strategy == "summarise"


def test_summary_stops_and_is_made_anew_for_a_question():
    model = ScriptedModel("The user is Ana, and she likes tea.", seconds_per_token=0.1)
    panel = ContextPanel(model=model, token_limit=900)
    panel.strategy_box.value = "summarise"
    time.sleep(0.8)
    assert panel.running and "summarises" in panel.status.value
    started = time.monotonic()
    panel.stop_button.click()
    panel.wait(5)
    assert time.monotonic() - started < 0.5
    assert "there is no summary" in panel.status.value and panel.fitted.summary is None
    model.seconds_per_token = 0
    panel.ask()
    panel.wait(10)
    assert panel.fitted.summary and len(panel.answers) == 1


def test_a_change_while_summarising_begins_anew_with_the_last_setting():
    model = ScriptedModel("The user is Ana.", seconds_per_token=0.01)
    panel = ContextPanel(model=model)
    panel.limit_field.value = 900
    panel.strategy_box.value = "summarise"
    for limit in (901, 902, 903):
        time.sleep(0.2)
        panel.limit_field.value = limit
    assert panel.running
    panel.wait(20)
    assert panel.fitted.token_limit == 903 and panel.fitted.summary
    panel.strategy_box.value = "drop-oldest"
    panel.wait(10)
    assert panel.fitted.summary is None and not panel.running


def test_history_of_a_summary_keeps_the_order():
    full = [*CONVERSATION, user(QUESTION)]
    fitted = chatlab.fit(full, 900, strategy="summarise", model=ScriptedModel("The user is Ana."))
    html = fitted.history_html(full, [1] * len(full))
    texts = [f"<del>{full[each.index]['content']}</del>" for each in fitted.dropped]
    texts = [full[0]["content"], fitted.summary, *texts, full[fitted.dropped[-1].index + 1]["content"]]
    places = [html.index(f"<td>{text}</td>") for text in texts]
    assert places == sorted(places) and html.count("✕ not sent") == len(fitted.dropped)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markup_is_escaped(payload):
    messages = [user(payload * 20), assistant(payload)]
    panel = ContextPanel(messages, question=payload, strategy="summarise", model=ScriptedModel(payload))
    panel.limit_field.value -= 16
    panel.wait(10)
    assert panel.fitted.summary == payload and panel.fitted.dropped, "all places where text can stand"
    panel.ask()
    panel.wait(10)
    panel.note(payload)
    html = panel._repr_mimebundle_()["text/html"]
    for text in (html, panel.view.value, panel.answer.value, panel.history.value, panel.status.value):
        assert payload not in text and "<script" not in text and "<img" not in text and "&lt;" in text


def test_static_forms():
    panel = short_panel(ScriptedModel("You are Ana."))
    panel.ask()
    panel.wait(10)
    bundle = panel._repr_mimebundle_()
    assert (
        bundle["text/plain"]
        == f"ContextPanel(limit {panel.limit_field.value}, drop-oldest, 3 of 3 turns sent, 1 answer)"
    )
    assert "You are Ana." in bundle["text/html"] and "I like tea." in bundle["text/html"]


def test_real_model_knows_the_name_until_its_turn_is_gone(model):
    panel = ContextPanel(model=model)
    panel.ask()
    panel.wait(60)
    assert "Ana" in panel.answers[0].text.replace(".", " ").split(), panel.answers
    for limit in [value for _, value in panel.presets.options][:3]:
        panel.limit_field.value = limit
        panel.ask()
        panel.wait(60)
        assert "Ana" not in panel.answers[-1].text.replace(".", " ").split(), panel.answers
