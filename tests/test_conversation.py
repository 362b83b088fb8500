import json
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage

from chatlab import BadRequestError, Conversation, ReplyStoppedError, assistant, system, user
from chatlab.testing import ScriptedModel

SETTINGS = '{"temperature": 1, "top_p": 1, "seed": null, "max_completion_tokens": null}'
BAD_ROLE = f'{{"messages": [{{"role": "banana", "content": "Hi"}}], "settings": {SETTINGS}}}'
BAD_SETTING = f'{{"messages": [{{"role": "user", "content": "Hi"}}], "settings": {SETTINGS.replace("1", "9", 1)}}}'


def test_every_request_holds_the_whole_history():
    model = ScriptedModel("Hello, Ana!", "Ana.")
    chat = Conversation(system="Be brief.", model=model)
    chat("I am Ana.")
    chat("What is my name?")
    assert "I am Ana." in model.prompts[1] and "Hello, Ana!" in model.prompts[1]
    assert chat.messages == [
        system("Be brief."),
        user("I am Ana."),
        assistant("Hello, Ana!"),
        user("What is my name?"),
        assistant("Ana."),
    ]


def test_streamed_reply_grows_in_the_history():
    chat = Conversation(model=ScriptedModel("Hey"))
    seen = [[message["content"] for message in chat.messages] for _ in chat("Hi", stream=True)]
    assert seen[:4] == [[], ["Hi", "H"], ["Hi", "He"], ["Hi", "Hey"]]
    assert chat.messages == [user("Hi"), assistant("Hey")]


def test_stopped_reply_stays_as_far_as_it_came():
    chat = Conversation(model=ScriptedModel("Hello!"))
    for chunk in chat("Hi", stream=True):
        if chunk.choices[0].delta.content == "e":
            chat.stop()
    assert chat.messages == [user("Hi"), assistant("He")]


def test_stream_that_is_never_read_changes_nothing():
    chat = Conversation(model=ScriptedModel("Hello!"))
    chat("Hi", stream=True)
    assert chat.messages == []


def test_a_new_turn_ends_an_old_stream_which_then_writes_nothing():
    chat = Conversation(model=ScriptedModel("AAA", "BBB"))
    old = chat("one", stream=True)
    next(old), next(old)
    chat("two")
    assert [chunk.choices[0].delta.content for chunk in old] == []
    contents = [message["content"] for message in chat.messages]
    assert contents == ["one", "A", "two", "BBB"]


@pytest.mark.parametrize("forget", ["undo", "clear"])
def test_forgetting_while_streaming_forgets(forget):
    chat = Conversation(model=ScriptedModel("AAA"))
    stream = chat("one", stream=True)
    next(stream), next(stream)
    getattr(chat, forget)()
    assert list(stream) == [] and chat.messages == []


def test_empty_reply_is_a_turn():
    chat = Conversation(model=ScriptedModel(""))
    chat("Hi")
    assert chat.messages == [user("Hi"), assistant("")]


def test_whole_reply_that_is_stopped_says_so_and_stays_in_the_history():
    chat = Conversation(model=ScriptedModel("x" * 1000, seconds_per_token=0.01))
    stopper = threading.Timer(0.2, chat.stop)
    stopper.start()
    with pytest.raises(ReplyStoppedError):
        chat("Hi")
    assert 0 < len(chat.messages[1]["content"]) < 500


def test_reply_objects_of_the_client_may_stand_in_the_history(tmp_path):
    chat = Conversation(model=ScriptedModel("Bye!"))
    chat.messages += [user("Hi"), ChatCompletionMessage(role="assistant", content="Hello!")]
    assert "Hello!" in chat._repr_html_() and repr(chat) == "Conversation(1 turn, 2 messages)"
    assert Conversation.load(chat.save(tmp_path / "chat.json")).messages[1] == assistant("Hello!")
    chat("Ciao")
    chat.undo()
    chat.undo()
    assert chat.messages == []


def test_saved_file_can_be_read_by_others_and_a_tilde_is_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = Conversation([user("Hi")]).save("~/chat.md")
    assert path == tmp_path / "chat.md" and path.stat().st_mode & 0o777 == 0o644
    assert Conversation.load("~/chat.md").messages == [user("Hi")]


@pytest.mark.parametrize("stream", [False, True])
def test_refused_request_leaves_the_history_as_it_was(stream):
    chat = Conversation([user("a"), assistant("b")], model=ScriptedModel("x", context_length=40))
    with pytest.raises(BadRequestError):
        chat("y" * 100, stream=stream)
    assert chat.messages == [user("a"), assistant("b")]


def test_regenerate_replaces_the_last_reply():
    chat = Conversation(model=ScriptedModel("one", "two"))
    chat("Hi")
    assert chat.regenerate().choices[0].message.content == "two"
    assert chat.messages == [user("Hi"), assistant("two")]


def test_edit_forgets_what_came_after():
    chat = Conversation(system="s", model=ScriptedModel("one", "two", "three"))
    chat("first")
    chat("second")
    chat.edit(1, "FIRST")
    assert chat.messages == [system("s"), user("FIRST"), assistant("three")]
    with pytest.raises(ValueError, match=r"messages\[2\] is not a user message. The user messages are at \[1\]"):
        chat.edit(2, "x")


def test_undo_and_clear():
    chat = Conversation(system="s", model=ScriptedModel("one", "two"))
    chat("first")
    chat("second")
    chat.undo()
    assert chat.messages == [system("s"), user("first"), assistant("one")]
    chat.clear()
    assert chat.messages == [system("s")]
    for nothing_to_do in (chat.undo, chat.regenerate):
        with pytest.raises(ValueError, match="Nothing has been asked yet"):
            nothing_to_do()


def test_system_message_can_be_changed_and_removed():
    chat = Conversation([user("u")], system="one")
    chat.system = "two"
    assert chat.messages == [system("two"), user("u")]
    chat.system = None
    assert chat.messages == [user("u")] and chat.system is None


def test_settings_hold_for_the_next_reply():
    chat = Conversation(model=ScriptedModel("Hello!"), max_completion_tokens=2)
    assert chat("Hi").choices[0].message.content == "He"
    chat.max_completion_tokens = 3
    assert chat.regenerate().choices[0].message.content == "Hel"


@given(
    text=st.text(),
    reply=st.text() | st.sampled_from(["-->", "<!-- chatlab conversation\n{", "\\u002d--", "```\n**user**"]),
)
@pytest.mark.parametrize("ending", [".json", ".md"])
def test_saved_conversation_loads_the_same(tmp_path_factory, ending, text, reply):
    path = tmp_path_factory.getbasetemp() / f"chat{ending}"
    chat = Conversation([system("s"), user(text), assistant(reply)], temperature=0.5, seed=3, max_completion_tokens=9)
    chat.save(path)
    loaded = Conversation.load(path)
    assert loaded.messages == chat.messages
    assert (loaded.temperature, loaded.top_p, loaded.seed, loaded.max_completion_tokens) == (0.5, 1.0, 3, 9)


def test_markdown_is_for_people():
    chat = Conversation([user("Hello?"), assistant("Hi -- there")])
    assert chat.to_markdown().startswith("**user**\n\nHello?\n\n**assistant**\n\nHi -- there\n\n<!-- chatlab")
    assert chat.to_markdown().count("--") == 3, "only the reply and the comment's own marks"


def test_save_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "chat.json"
    Conversation([user("old")]).save(path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Conversation([user("new")]).save(path)
    assert json.loads(path.read_text())["messages"] == [user("old")]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"messages": 5, "settings": {}}', '{"messages": []}', BAD_ROLE, BAD_SETTING]
)
def test_load_says_when_a_file_is_no_conversation(tmp_path, text):
    for name in ("chat.json", "chat.md"):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="is not a conversation that chatlab saved"):
            Conversation.load(tmp_path / name)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"as \.json or \.md, not as 'chat.txt'"):
        Conversation().save(tmp_path / "chat.txt")


def test_shows_itself_escaped():
    chat = Conversation([user("<img src=x onerror=alert(1)>"), assistant("<b>")])
    assert repr(chat) == "Conversation(1 turn, 2 messages)"
    assert "<img" not in chat._repr_html_() and "&lt;img" in chat._repr_html_()
    assert "No messages yet" in Conversation()._repr_html_()


def test_request_holds_what_fits_and_the_history_holds_everything():
    model = ScriptedModel("Reply.")
    chat = Conversation(system="Be brief.", model=model, token_limit=150, reserve=20)
    assert chat.fitted is None
    for number in range(5):
        chat(f"Question {number}?")
    assert len(chat.messages) == 11 and chat.messages[1] == user("Question 0?")
    assert "Question 0?" in model.prompts[0] and "Question 0?" not in model.prompts[4]
    assert "Be brief." in model.prompts[4] and "Question 4?" in model.prompts[4]
    assert chat.fitted.dropped[0].message == user("Question 0?") and chat.fitted.tokens_after + 20 <= 150


def test_prompt_and_reply_keep_to_the_limit_together():
    chat = Conversation(model=ScriptedModel("x" * 500), token_limit=100)
    response = chat("Hi")
    assert response.usage.total_tokens == 100 and response.choices[0].finish_reason == "length"


def test_longest_reply_allowed_is_reserved():
    chat = Conversation(model=ScriptedModel("x" * 500), token_limit=150, max_completion_tokens=60)
    for _ in range(4):
        assert chat("Hi").usage.completion_tokens == 60
    assert chat.fitted.reserve == 60 and chat.fitted.dropped


def test_conversation_outgrows_the_models_own_limit():
    chat = Conversation(model=ScriptedModel("Reply.", context_length=120))
    for _ in range(6):
        chat("Another question?")
    assert chat.fitted.token_limit == 120 and chat.fitted.dropped and len(chat.messages) == 12


@pytest.mark.parametrize(
    "context", [{"strategy": "keep-last", "keep_last": 1}, {"strategy": lambda messages, fits: messages[-1:]}]
)
def test_other_strategies(context):
    model = ScriptedModel("Reply.")
    chat = Conversation(model=model, **context)
    chat("one"), chat("two")
    assert "one" not in model.prompts[1] and chat.fitted == [user("two")]


@pytest.mark.parametrize("ending", [".json", ".md"])
def test_context_settings_are_saved(tmp_path, ending):
    chat = Conversation([user("Hi")], token_limit=300, reserve=9, strategy="keep-last", keep_last=2)
    loaded = Conversation.load(chat.save(tmp_path / f"chat{ending}"))
    assert (loaded.token_limit, loaded.reserve, loaded.strategy, loaded.keep_last) == (300, 9, "keep-last", 2)
    own = Conversation([user("Hi")], strategy=lambda messages, fits: messages)
    assert Conversation.load(own.save(tmp_path / f"own{ending}")).strategy == "drop-oldest"


def test_files_from_before_there_were_limits_still_load(tmp_path):
    (tmp_path / "chat.json").write_text(
        f'{{"messages": [{{"role": "user", "content": "Hi"}}], "settings": {SETTINGS}}}'
    )
    loaded = Conversation.load(tmp_path / "chat.json")
    assert (loaded.token_limit, loaded.reserve, loaded.strategy, loaded.keep_last) == (None, 0, "drop-oldest", None)


@pytest.mark.parametrize("bad", ['"strategy": "newest"', '"token_limit": 0', '"reserve": "x"', '"keep_last": 3'])
def test_bad_context_settings_are_no_conversation(tmp_path, bad):
    settings = SETTINGS.replace("}", f", {bad}}}")
    (tmp_path / "chat.json").write_text(f'{{"messages": [], "settings": {settings}}}')
    with pytest.raises(ValueError, match="is not a conversation that chatlab saved"):
        Conversation.load(tmp_path / "chat.json")


def test_bad_context_settings_leave_the_history_as_it_was():
    chat = Conversation(model=ScriptedModel("x"), reserve="many")
    with pytest.raises(BadRequestError, match="reserve must be a whole number"):
        chat("Hi")
    assert chat.messages == [] and chat.fitted is None


def long_conversation(**arguments):
    history = [message for number in range(6) for message in (user(f"Question {number}?"), assistant("Reply. " * 8))]
    model = ScriptedModel("word " * 19, seconds_per_token=0.05)
    return Conversation(history, model=model, token_limit=500, strategy="summarise", **arguments)


@pytest.mark.parametrize("stream", [False, True])
def test_stop_ends_the_summary_before_the_reply(stream):
    chat = long_conversation()
    before = list(chat.messages)
    threading.Timer(0.5, chat.stop).start()
    started = time.monotonic()
    if stream:
        assert list(chat("And now?", stream=True)) == []
    else:
        with pytest.raises(ReplyStoppedError, match="summary of the conversation was stopped"):
            chat("And now?")
    assert time.monotonic() - started < 3, "the whole summary takes 5 seconds"
    assert chat.messages == before and chat.fitted is None and len(chat.model.prompts) == 1


def test_interrupt_ends_the_summary_and_the_next_question_is_answered():
    chat = long_conversation()
    threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        chat("And now?")
    assert len(chat.messages) == 12
    chat.model.seconds_per_token = 0
    chat("And now?")
    assert len(chat.messages) == 14 and chat.fitted.summary
