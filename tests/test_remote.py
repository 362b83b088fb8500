import threading
import time
import warnings

import numpy
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from servers import running_server
from typer.testing import CliRunner

import chatlab
from chatlab import Conversation, cli, connect, errors, user
from chatlab.panels import ChatPanel
from chatlab.remote import engine_of
from chatlab.remote_answers import ChunkTidier
from chatlab.requests import ChatOptions
from chatlab.testing import ScriptedModel

HI = [user("Hi")]
KEY = "sk-secret-key"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("CHATLAB_API_KEY", raising=False)
    with running_server() as running:
        yield running


@pytest.fixture
def remote(server):
    """Return a function that connects to a model of the server."""
    return lambda name="told", **options: connect(server.base_url, model=name, **{"max_retries": 0, **options})


def text_of(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_whole_and_streamed_replies_are_those_of_the_official_client(server, remote):
    """The oracle is the client itself, pointed at the same server."""
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none")
    assert chatlab.chat_completions(HI, remote()) == client.chat.completions.create(messages=HI, model="told")
    ours = list(chatlab.chat_completions(HI, remote(), stream=True, stream_options={"include_usage": True}))
    theirs = list(
        client.chat.completions.create(messages=HI, model="told", stream=True, stream_options={"include_usage": True})
    )
    assert [each.to_dict() for each in ours] == [each.to_dict() for each in theirs]
    assert type(ours[0]) is type(theirs[0])
    for ours, theirs in zip(server.bodies[::2], server.bodies[1::2], strict=True):
        assert {name: value for name, value in ours.items() if value is not False} == theirs


@pytest.fixture(scope="module")
def module_server():
    with running_server() as running:
        yield running


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2),
            "top_p": st.floats(0, 1),
            "top_k": st.integers(1, 100),
            "min_p": st.floats(0, 1),
            "repetition_penalty": st.floats(0.5, 2),
            "seed": st.integers(-(2**63), 2**63 - 1),
            "stop": st.lists(st.text(min_size=1), min_size=1, max_size=4),
            "max_tokens": st.integers(1, 1000),
            "presence_penalty": st.floats(-2, 2),
        },
    )
)
@settings(deadline=None, max_examples=40)
def test_what_was_given_is_sent_and_nothing_else(module_server, options):
    chatlab.chat_completions(HI, connect(module_server.base_url, model="told"), **options)
    sent = module_server.bodies[-1]
    assert sent.pop("stream") is False
    assert sent == {"model": "told", "messages": HI, **options}


def test_numbers_of_numpy_and_token_ids_become_json(server, remote):
    chatlab.chat_completions(HI, remote(), seed=numpy.int64(3), logit_bias={numpy.int64(42): numpy.float32(-1)})
    assert (server.bodies[-1]["seed"], server.bodies[-1]["logit_bias"]) == (3, {"42": -1.0})


def test_every_option_is_passed_on(server, remote):
    """A parameter that `chat_completions` gains must not be lost on the way to a server."""
    values = {
        "stop": ["END"],
        "logit_bias": {"1": 1.0},
        "logprobs": True,
        "top_logprobs": 2,
        "n": 1,
        "stream_options": {"include_usage": False},
        "response_format": {"type": "text"},
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": True,
    }
    values |= {name: 1 for name in ChatOptions.__annotations__ if name not in values}
    with pytest.warns(UserWarning, match="logprobs"):
        list(chatlab.chat_completions(HI, remote(), stream=True, **values))
    sent = server.bodies[-1]
    assert {name: sent[name] for name in values} == values


def test_a_proxy_is_not_asked_for_a_server_on_this_machine(server, remote, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert chatlab.chat_completions(HI, remote(max_retries=0)).choices[0].message.content


def test_mistakes_are_found_before_anything_is_sent(server, remote):
    for options in ({"temperature": 3}, {"top_logprobs": 3}, {"n": 0}):
        with pytest.raises(errors.BadRequestError) as ours:
            chatlab.chat_completions(HI, remote(), **options)
        with pytest.raises(errors.BadRequestError) as local:
            chatlab.chat_completions(HI, ScriptedModel("Hello!"), **options)
        assert str(ours.value) == str(local.value)
    assert server.bodies == []


@pytest.mark.parametrize(
    ("name", "kind", "theirs", "said"),
    [
        ("long", errors.ContextLengthError, openai.BadRequestError, "Too many tokens"),
        ("llama-long", errors.ContextLengthError, openai.BadRequestError, "Shorten the messages"),
        ("no-top-k", errors.BadRequestError, openai.BadRequestError, "top_k: an extra that not every server knows"),
        ("unprocessable", errors.BadRequestError, openai.BadRequestError, "Extra inputs are not permitted"),
        ("missing", errors.ModelNotFoundError, openai.NotFoundError, "model=..."),
        ("no-path", errors.NotFoundError, openai.NotFoundError, "Most addresses end in /v1"),
        ("key", errors.AuthenticationError, openai.AuthenticationError, "CHATLAB_API_KEY"),
        ("forbidden", errors.PermissionDeniedError, openai.PermissionDeniedError, "Not yours."),
        ("busy", errors.RateLimitError, openai.RateLimitError, "Ask again in 7 seconds"),
        ("broken", errors.InternalServerError, openai.InternalServerError, "Out of order."),
        ("teapot", errors.RequestError, openai.APIStatusError, "418: I am a teapot."),
        ("page", errors.ServerAnswerError, openai.APIError, "no chat completion"),
        ("garbled", errors.ServerAnswerError, openai.APIError, "no chat completion"),
        ("no-choices", errors.ServerAnswerError, openai.APIError, "no chat completion"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_the_server_are_chatlabs_and_the_clients(remote, name, kind, theirs, said, stream):
    with pytest.raises(errors.ChatlabError) as raised:
        reply = chatlab.chat_completions(HI, remote(name, api_key=KEY), stream=stream, top_k=5)
        list(reply)  # what only the stream itself can tell
    error = raised.value
    assert type(error) is kind and isinstance(error, theirs)
    assert said in str(error)
    assert KEY not in str(error) and KEY not in repr(error)
    assert getattr(error, "retry_after", None) == (7.0 if name == "busy" else None)


def test_the_client_tries_again_by_itself(server, remote):
    assert chatlab.chat_completions(HI, remote("busy-once", max_retries=1)).choices[0].message.content == "Hello!"
    assert len(server.bodies) == 2


def test_nobody_there_and_nobody_answering(server, remote):
    with pytest.raises(errors.APIConnectionError, match="Is a server running there") as raised:
        chatlab.chat_completions(HI, connect("http://127.0.0.1:9", model="any", max_retries=0))
    assert isinstance(raised.value, openai.APIConnectionError)
    with pytest.raises(errors.APITimeoutError, match="timeout=300") as raised:
        chatlab.chat_completions(HI, remote("asleep", timeout=0.2))
    assert isinstance(raised.value, openai.APITimeoutError)
    server.wait_until_idle()


@pytest.mark.parametrize("name", ["told", "no-done", "sloppy", "unfinished"])
def test_sloppy_streams_are_made_whole(remote, name):
    model = remote(name)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        chunks = list(chatlab.chat_completions(HI, model, stream=True))
        chat = Conversation(model=model)
        response = chat("Hi")
    assert [each.message.args[0].partition(": ")[2].split()[0] for each in told] == (
        ["the", "usage"] if name in ("sloppy", "unfinished") else []
    ), "no finish_reason, and no usage where it was asked for"
    assert response.choices[0].message.content == chat.messages[-1]["content"] == "Hello!"
    assert text_of(chunks) == "Hello!"
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert reasons[-1] == "stop" and set(reasons[:-1]) == {None}
    assert len({(chunk.id, chunk.model, chunk.created, chunk.object) for chunk in chunks}) == 1


def test_what_the_server_ignores_is_told_once(remote):
    poor = remote("poor")
    with pytest.warns(UserWarning) as told:
        response = chatlab.chat_completions(HI, poor, logprobs=True, n=3)
        chatlab.chat_completions(HI, poor, logprobs=True, n=3)
        list(chatlab.chat_completions(HI, poor, stream=True, stream_options={"include_usage": True}))
    assert len(told) == 3 and {each.filename for each in told} == {__file__}
    assert response.choices[0].message.content == "Hello!"


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("cut", errors.APIConnectionError, "cut in the middle"),
        ("fails-midway", errors.ServerAnswerError, "The model crashed."),
        ("garbles-midway", errors.ServerAnswerError, "no chat completion"),
        ("empty", errors.ServerAnswerError, "no chat completion"),
    ],
)
def test_a_reply_that_breaks_off_is_told_and_what_came_is_kept(remote, name, kind, said):
    chat = Conversation(model=remote(name))
    with pytest.raises(kind, match=said):
        chat("Hi")
    assert [message["content"] for message in chat.messages] == ([] if name == "empty" else ["Hi", "Hel"])


@pytest.mark.parametrize("name", ["endless", "silent"])
def test_close_from_another_thread_stops_the_server(server, remote, name):
    stream = chatlab.chat_completions(HI, remote(name), stream=True)
    assert next(stream).choices[0].delta.content
    threading.Timer(0.3, stream.close).start()
    rest = list(stream)  # blocks until the other thread closes
    server.wait_until_idle()
    assert name == "silent" or 0 < len(rest) < 1000


def test_leaving_a_stream_stops_the_server(server, remote):
    with chatlab.chat_completions(HI, remote("endless"), stream=True) as stream:
        next(stream)
    server.wait_until_idle()
    for _ in chatlab.chat_completions(HI, remote("endless"), stream=True):
        break
    server.wait_until_idle()


@pytest.mark.parametrize("name", ["endless", "silent", "asleep"])
def test_panel_stops_at_any_time(server, remote, name):
    """Also before the server has said a word."""
    panel = ChatPanel(model=remote(name))
    panel.send("Hi")
    deadline = time.monotonic() + 10
    while not server.running or (name != "asleep" and not panel.conversation.messages):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    panel.message_box.stop_button.click()
    panel.wait(10)
    assert not panel.running and "stopped after" in panel.status.value
    server.wait_until_idle()
    assert bool(panel.conversation.messages) == (name != "asleep")


def test_panel_says_when_it_is_done_also_without_usage(remote):
    for name, said in (("told", "done · 2 tokens"), ("sloppy", "done")):
        panel = ChatPanel(model=remote(name))
        with pytest.warns(UserWarning, match="usage") if name == "sloppy" else pytest.MonkeyPatch.context():
            panel.send("Hi")
            panel.wait(10)
        assert said in panel.status.value and panel.conversation.messages[-1]["content"] == "Hello!"


def test_conversation_sends_everything_or_what_fits_by_estimate(server, remote):
    history = [user("word " * 50), chatlab.assistant("yes")]
    chat = Conversation(history, model=remote())
    chat("Hi")
    assert len(server.bodies[-1]["messages"]) == 3 and chat.fitted is None
    chat = Conversation(history, model=remote(), token_limit=40)
    chat("Hi")
    assert [message["content"] for message in server.bodies[-1]["messages"]] == ["Hi"]
    assert "estimated with cl100k_base" in repr(chat.fitted)
    chat = Conversation(history, model=remote(context_length=40))
    chat("Hi")
    assert chat.fitted.token_limit == 40 and len(chat.fitted) == 1
    assert chat.fitted.tokens_after == chatlab.count_tokens(HI, encoding="cl100k_base")


def test_fit_summarises_by_the_server_and_wants_a_limit(server, remote):
    history = [user("word " * 50), chatlab.assistant("yes"), *HI]
    fitted = chatlab.fit(history, 150, reserve=20, strategy="summarise", model=remote())
    assert fitted.summary is None and len(fitted) == 3, "all fits"
    fitted = chatlab.fit(history, 170, reserve=120, strategy="summarise", model=remote())
    assert fitted.summary == "Hello!" and "Summarise" in server.bodies[-1]["messages"][0]["content"]
    with pytest.raises(errors.BadRequestError, match="context_length"):
        chatlab.fit(HI, model=remote())


@pytest.mark.parametrize(
    "call",
    [
        lambda model: chatlab.render(HI, model=model),
        lambda model: chatlab.tokenize("Hi", model=model),
        lambda model: chatlab.count_tokens(HI, model=model),
        lambda model: chatlab.encode("Hi", model=model),
        lambda model: chatlab.decode([1], model=model),
        lambda model: chatlab.encoding(model),
        lambda model: list(chatlab.generate("Hi", model=model)),
        lambda model: chatlab.trace("Hi", model=model),
        lambda model: chatlab.next_token("Hi", model=model),
        lambda model: chatlab.temperature_family("Hi", model=model),
        lambda model: chatlab.inspect_forward("Hi", model=model),
        lambda model: chatlab.perplexity("Hi", model=model),
        lambda model: chatlab.sample_replies(HI, model=model),
        lambda model: chatlab.kv_cache_size(1, model=model),
        lambda model: chatlab.kv_cache_table(model=model),
        lambda model: chatlab.lint(HI, model=model),
    ],
)
def test_what_needs_a_local_model_says_so(call):
    with pytest.raises(errors.LocalModelNeededError, match=r"model=chatlab.load\(\)"):
        call(connect("http://127.0.0.1:9", model="any"))


def test_address_with_and_without_v1(server):
    for url in ("", "/", "/v1", "/v1/", "/v1/chat/completions"):
        assert connect(server.base_url + url, model="told").base_url == f"{server.base_url}/v1"
    assert connect("https://host/api/v3/", model="told").base_url == "https://host/api/v3"
    for wrong in ("127.0.0.1:8000", "localhost", "", None, "ftp://host", "http://name:password@host"):
        with pytest.raises(errors.BadRequestError) as raised:
            connect(wrong, model="told")
        assert "password@" not in str(raised.value)


def test_the_only_model_is_taken(server):
    assert connect(server.base_url).name == "told"
    server.models = ["one", "two"]
    with pytest.raises(errors.ModelNotFoundError, match="2 models: one, two"):
        connect(server.base_url)
    server.models = []
    with pytest.raises(errors.ModelNotFoundError, match="does not say which models"):
        connect(server.base_url)


def test_key_is_sent_and_never_shown(server, remote, monkeypatch):
    monkeypatch.setenv("CHATLAB_API_KEY", KEY)
    for model in (remote(), remote(api_key=KEY)):
        chatlab.chat_completions(HI, model)
        assert server.headers[-1]["authorization"] == f"Bearer {KEY}"
        chat = Conversation(model=model)
        assert all(KEY not in shown for shown in (repr(model), str(vars(model)), repr(chat), chat.to_json()))


def test_a_key_of_openais_is_sent_to_openai_alone(server, remote, monkeypatch):
    monkeypatch.delenv("CHATLAB_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    chatlab.chat_completions(HI, remote())
    assert KEY not in str(server.headers[-1])
    for url in (
        "https://api.openai.com.evil.example/v1",
        "https://evil.example/api.openai.com",
        "http://api.openai.com",
    ):
        assert connect(url, model="any").client.api_key != KEY
    assert connect("https://api.openai.com/v1", model="any").client.api_key == KEY
    monkeypatch.setenv("CHATLAB_API_KEY", "a room's")
    assert connect("https://api.openai.com/v1", model="any").client.api_key == KEY
    assert connect(server.base_url, model="any").client.api_key == "a room's"


@pytest.fixture
def nothing_chosen(monkeypatch):
    monkeypatch.delenv("CHATLAB_BASE_URL", raising=False)
    monkeypatch.delenv("CHATLAB_MODEL", raising=False)
    yield
    chatlab.use(None)


def test_a_server_in_use_answers_whatever_names_no_model(server, remote, nothing_chosen, model):
    chatlab.use(remote())
    assert chatlab.chat_completions(HI).choices[0].message.content == "Hello!"
    assert Conversation()("Hi").choices[0].message.content == "Hello!"
    assert ChatPanel().conversation.model.name == "told"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert chatlab.decode(chatlab.encode("Hi")) == "Hi"
        chatlab.next_token("Hi")
    assert [f"of {model.name}, on this machine" in str(each.message) for each in said] == [True], "told once"
    asked = len(server.bodies)
    assert (
        "Paris"
        in chatlab.chat_completions(
            [chatlab.system("You are a helpful assistant."), user("What is the capital of France?")],
            model,
            temperature=0,
        )
        .choices[0]
        .message.content
    )
    chatlab.use(None)
    assert isinstance(engine_of(None), chatlab.ChatModel) and len(server.bodies) == asked


def test_a_lesson_that_looks_into_a_model_names_it(server, nothing_chosen, monkeypatch, model):
    """The rule of lessons 07 and 08: with a server as the default, a reply of `model` is made and counted here."""
    monkeypatch.setenv("CHATLAB_BASE_URL", server.base_url)
    model.prefixes.clear()
    story = [user("Tell me about the sea.")]
    stream = chatlab.chat_completions(story, model, temperature=0, max_completion_tokens=3, stream=True)
    assert next(each for each in stream if each.choices[0].delta.content) and stream.completion_tokens == 1
    assert len(list(stream)) >= 2 and stream.completion_tokens == 3
    usage = chatlab.chat_completions(story, model, max_completion_tokens=1).usage
    assert usage.prompt_tokens_details.cached_tokens > 0
    assert server.bodies == [], "the server was asked"
    with pytest.raises(errors.LocalModelNeededError, match=r"model=chatlab\.load"):
        chatlab.chat_completions(story, stream=True).completion_tokens  # noqa: B018


def test_a_local_model_in_use_is_looked_into_as_well(nothing_chosen):
    chatlab.use(ScriptedModel("Hello!"))
    assert chatlab.chat_completions(HI).model == "scripted"
    assert len(chatlab.encode("Hi")) == 2, "a token for each byte, as the scripted model has it"


def test_the_environment_names_the_server(server, nothing_chosen, monkeypatch):
    monkeypatch.setenv("CHATLAB_BASE_URL", server.base_url)
    monkeypatch.setenv("CHATLAB_API_KEY", KEY)
    assert chatlab.chat_completions(HI).choices[0].message.content == "Hello!"
    assert server.headers[-1]["authorization"] == f"Bearer {KEY}"
    server.models = ["one", "two"]
    chatlab.use(None)
    with pytest.raises(errors.ModelNotFoundError, match="2 models"):
        chatlab.chat_completions(HI)
    monkeypatch.setenv("CHATLAB_MODEL", "two")
    chatlab.chat_completions(HI)
    assert server.bodies[-1]["model"] == "two"


def test_chat_on_the_command_line(server):
    run = CliRunner().invoke
    result = run(cli.app, ["chat", "Hi", "--base-url", server.base_url, "--api-key", KEY])
    assert (result.exit_code, result.stdout) == (0, "Hello!\n")
    assert server.headers[-1]["authorization"] == f"Bearer {KEY}"
    result = run(cli.app, ["chat", "--base-url", server.base_url], input="Hi\n")
    assert "Hello!" in result.stdout and KEY not in result.output
    result = run(cli.app, ["chat", "Hi", "--api-key", KEY])
    assert result.exit_code == 2 and "--base-url" in result.output


def test_a_first_chunk_has_a_text_even_where_the_server_says_null():
    """As llama.cpp's server does."""
    chunk = ChatCompletionChunk.model_construct(choices=[{"delta": {"role": "assistant", "content": None}}])
    assert ChunkTidier("any").tidy(chunk).choices[0].delta.content == ""
    call = {"role": "assistant", "content": None, "tool_calls": [{"index": 0}]}
    chunk = ChatCompletionChunk.model_construct(choices=[{"delta": call}])
    assert ChunkTidier("any").tidy(chunk).choices[0].delta.content is None


def test_what_to_do_is_said_once(server, remote):
    with pytest.raises(errors.ContextLengthError) as caught:
        remote("own-long").stream(HI, {}).whole()
    assert str(caught.value).count("Shorten the messages") == 1


def test_close_before_the_start_and_after_the_end_does_nothing(server, remote):
    stream = remote().stream(HI, {})
    stream.close()
    assert list(stream) == [] and server.bodies == []
    stream = remote().stream(HI, {})
    assert text_of(stream) == "Hello!" and list(stream) == []
    stream.close()
