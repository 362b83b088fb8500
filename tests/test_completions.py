import math

import numpy as np
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

import chatlab
from chatlab import (
    BadRequestError,
    ContextLengthError,
    ModelNotFoundError,
    ReplyStoppedError,
    chat_completions,
    generation,
    system,
    user,
)
from chatlab.chat_model import PREFILL_CHUNK
from chatlab.completions import open_stream
from chatlab.requests import ChatOptions, check_request
from chatlab.streaming import CHOICES_SIDE_BY_SIDE, ChatCompletionStream, join_chunks
from chatlab.testing import ScriptedModel

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
HELLO = [system("You are a helpful assistant."), user("Say hello.")]


def test_returns_the_official_clients_own_class():
    response = chat_completions(HELLO, ScriptedModel("Hello!"))
    assert type(response) is ChatCompletion
    assert response == ChatCompletion.model_validate_json(response.model_dump_json())
    assert response.object == "chat.completion" and response.id.startswith("chatcmpl-") and response.model == "scripted"
    (choice,) = response.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.content, choice.message.refusal) == ("assistant", "Hello!", None)


def test_ids_differ():
    assert chat_completions(HELLO, ScriptedModel("a")).id != chat_completions(HELLO, ScriptedModel("a")).id


def test_stream_has_the_order_and_keys_of_the_protocol():
    stream = chat_completions(HELLO, ScriptedModel("Hey"), stream=True, stream_options={"include_usage": True})
    chunks = [chunk.model_dump(exclude_unset=True) for chunk in stream]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    texts = [{"content": "H"}, {"content": "e"}, {"content": "y"}]
    assert deltas == [{"role": "assistant", "content": ""}, *texts, {}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * 4 + ["stop"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 4


def test_stream_without_include_usage_has_no_usage_key():
    chunks = list(chat_completions(HELLO, ScriptedModel("Hey"), stream=True))
    assert all(type(chunk) is ChatCompletionChunk for chunk in chunks)
    assert all("usage" not in chunk.model_dump(exclude_unset=True) for chunk in chunks)


def test_the_clients_own_accumulator_joins_the_stream_to_the_same_reply():
    options = {"n": 2, "logprobs": True, "top_logprobs": 2, "stop": "!"}
    stream = chat_completions(
        HELLO, ScriptedModel("Hey 🎉! x"), stream=True, stream_options={"include_usage": True}, **options
    )
    chunks = list(stream)
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    theirs = state.get_final_completion()
    joined = join_chunks(chunks)
    whole = chat_completions(HELLO, ScriptedModel("Hey 🎉! x"), **options)
    assert [choice.message.content for choice in joined.choices] == ["Hey 🎉"] * 2
    for response in (joined, whole):
        assert response.usage == theirs.usage
        for mine, other in zip(response.choices, theirs.choices, strict=True):
            assert (mine.index, mine.finish_reason) == (other.index, other.finish_reason)
            assert mine.message.content == other.message.content
            assert mine.logprobs.content == other.logprobs.content


def test_stream_is_an_iterator_and_can_be_read_once():
    stream = chat_completions(HELLO, ScriptedModel("abc"), stream=True)
    assert next(stream).choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in stream] == ["a", "b", "c", None]
    assert list(stream) == []


def test_closing_a_stream_while_the_prompt_is_read_ends_it_within_a_chunk():
    model = ScriptedModel("x")
    stream = chat_completions([user("x" * 10 * PREFILL_CHUNK)], model, stream=True)
    assert next(stream).choices[0].delta.role == "assistant"
    assert stream.advance() is None and stream.tokens_read == PREFILL_CHUNK < stream.prompt_tokens
    stream.close()
    assert list(stream) == [] and stream.tokens_read == PREFILL_CHUNK


def test_a_reply_is_stopped_while_a_layer_reads(model, monkeypatch):
    """As from another thread: a long prompt takes seconds, and whoever presses Stop is not to wait for it."""
    stream = chat_completions([user("Tell me about it. " * 30)], model, stream=True)
    assert stream.advance() is not None
    layers = []

    def mlp(llama, layer, vectors):
        layers.append(layer)
        if len(layers) == 3:
            stream.close()
        return original(llama, layer, vectors)

    original = type(model.llama)._mlp
    monkeypatch.setattr(type(model.llama), "_mlp", mlp)
    assert list(stream) == [] and len(layers) == 3 and stream.tokens_read == 0


def test_replies_advance_in_turns():
    streams = [chat_completions(HELLO, ScriptedModel(text), stream=True) for text in ("Hey", "You")]
    texts = ["", ""]
    for _ in range(5):  # the role, the prompt, three tokens
        for index, stream in enumerate(streams):
            chunk = stream.advance()
            texts[index] += (chunk.choices[0].delta.content or "") if chunk else ""
    assert texts == ["Hey", "You"]


def test_many_choices_take_turns_of_a_few_at_a_time():
    stream = chat_completions(HELLO, ScriptedModel("ab"), stream=True, n=2 * CHOICES_SIDE_BY_SIDE, max_tokens=1)
    events = [(chunk.choices[0].index, chunk.choices[0].finish_reason) for chunk in stream]
    order = [index for index, reason in events if reason]
    assert order == list(range(2 * CHOICES_SIDE_BY_SIDE))


def test_closing_a_stream_ends_it_within_a_token():
    chunks = []
    with chat_completions(HELLO, ScriptedModel("x" * 1000), stream=True) as stream:
        for chunk in stream:
            chunks.append(chunk)
            if len(chunks) == 5:
                stream.close()
    assert len(chunks) == 5
    with pytest.raises(ReplyStoppedError, match="stopped before its end"):
        join_chunks(chunks)


@pytest.mark.parametrize("n", [1, 3])
def test_negative_seeds_are_seeds_too(n):
    options = {"temperature": 2, "max_tokens": 3, "n": n, "logit_bias": {str(byte): 50 for byte in range(97, 123)}}
    texts = [
        choice.message.content
        for seed in (-5, 5)
        for choice in chat_completions(HELLO, ScriptedModel("~~~"), seed=seed, **options).choices
    ]
    assert len(set(texts)) == len(texts)


def test_usage_is_exact(model):
    response = chat_completions(HELLO, temperature=0, max_tokens=8)
    prompt = model.tokenizer.apply_chat_template(HELLO, add_generation_prompt=True, return_dict=False)
    assert response.usage.prompt_tokens == len(prompt)
    made = len(model.tokenizer.encode(response.choices[0].message.content, add_special_tokens=False))
    ended = response.choices[0].finish_reason == "stop"
    assert response.usage.completion_tokens == made + ended
    assert response.usage.total_tokens == len(prompt) + made + ended


def test_the_system_message_decides_who_speaks(model):
    def reply(text):
        messages = [system(text), user("Who are you?")]
        return chat_completions(messages, temperature=0, max_tokens=12).choices[0].message.content

    assert "Captain Byte" in reply("You are Captain Byte, a friendly robot.")
    assert "Captain Byte" not in reply("You are a helpful assistant.")


def test_real_model_same_seed_same_reply_streamed_or_not(model):
    options = {"temperature": 1.2, "top_p": 0.95, "max_tokens": 10}
    whole = [chat_completions(HELLO, seed=seed, **options).choices[0].message.content for seed in (7, 7, 8)]
    streamed = join_chunks(chat_completions(HELLO, seed=7, stream=True, **options)).choices[0].message.content
    assert whole[0] == whole[1] == streamed and whole[0] != whole[2]


def test_choice_i_is_drawn_with_seed_plus_i(model):
    options = {"temperature": 1.5, "max_tokens": 6}
    both = chat_completions(HELLO, seed=7, n=2, **options)
    single = [chat_completions(HELLO, seed=seed, **options).choices[0].message.content for seed in (7, 8)]
    assert [choice.message.content for choice in both.choices] == single
    assert both.usage.completion_tokens == 12


def test_logprobs_are_the_models_own_and_spell_the_reply(model):
    response = chat_completions(HELLO, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3)
    (choice,) = response.choices
    items = choice.logprobs.content
    assert b"".join(bytes(item.bytes) for item in items).decode() == choice.message.content
    for item in items:
        assert len(item.top_logprobs) == 3
        assert item.top_logprobs[0].token == item.token, "greedy takes the likeliest"
        assert item.logprob == pytest.approx(item.top_logprobs[0].logprob)
        assert sum(math.exp(top.logprob) for top in item.top_logprobs) <= 1 + 1e-6
    hot = chat_completions(HELLO, temperature=2, seed=1, max_tokens=1, logprobs=True, top_logprobs=3)
    assert hot.choices[0].logprobs.content[0].top_logprobs == items[0].top_logprobs


def test_a_choice_is_measured_only_where_somebody_asks(monkeypatch):
    """It takes as long as to choose."""
    measured = []
    monkeypatch.setattr(generation, "entropy", lambda *_: measured.append(1) or 1.0)
    for measures, options, number in [(False, {}, 0), (False, {"logprobs": True}, 6), (True, {}, 7)]:
        stream = open_stream(HELLO, ScriptedModel("Hello!"), **options)
        stream.measured = measures
        stream.whole()
        assert (len(measured), stream.entropy) == (number, 7.0 * measures)
        measured.clear()


def test_logprobs_of_a_stop_string_are_left_out():
    response = chat_completions(HELLO, ScriptedModel("ab\n\ncd"), stop=["\n\n"], logprobs=True)
    assert [item.token for item in response.choices[0].logprobs.content] == ["a", "b"]


def test_logit_bias_bans_and_forces():
    def reply(**bias):
        response = chat_completions(HELLO, ScriptedModel("ab"), temperature=0, max_tokens=2, logit_bias=bias)
        return response.choices[0].message.content

    assert reply() == "ab"
    assert reply(**{str(ord("z")): 100}) == "zz"
    assert not reply(**{str(ord("a")): -100}).startswith("a")


def test_max_tokens_is_the_older_name():
    for name in ("max_tokens", "max_completion_tokens"):
        response = chat_completions(HELLO, ScriptedModel("Hello!"), **{name: 3})
        assert (response.choices[0].message.content, response.choices[0].finish_reason) == ("Hel", "length")


def test_none_and_neutral_values_mean_the_default():
    names = [*ChatOptions.__annotations__, "stream"]
    response = chat_completions(HELLO, ScriptedModel("Hello!"), **dict.fromkeys(names))
    assert response.choices[0].message.content == "Hello!"
    neutral = {"n": 1, "logprobs": False, "response_format": {"type": "text"}, "tools": [], "tool_choice": "none"}
    assert chat_completions(HELLO, ScriptedModel("Hello!"), **neutral).choices[0].message.content == "Hello!"


REFUSED = [
    # options, param, code
    ({"temperature": 2.5}, "temperature", "decimal_above_max_value"),
    ({"temperature": -1}, "temperature", "decimal_below_min_value"),
    ({"temperature": math.nan}, "temperature", "decimal_above_max_value"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"top_p": 1.5}, "top_p", "decimal_above_max_value"),
    ({"presence_penalty": 3}, "presence_penalty", "decimal_above_max_value"),
    ({"frequency_penalty": -3}, "frequency_penalty", "decimal_below_min_value"),
    ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    ({"max_completion_tokens": -5}, "max_completion_tokens", "integer_below_min_value"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", None),
    ({"n": 0}, "n", "integer_below_min_value"),
    ({"n": 129}, "n", "integer_above_max_value"),
    ({"n": 1.5}, "n", "invalid_type"),
    ({"seed": 2**63}, "seed", "integer_above_max_value"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "array_above_max_length"),
    ({"stop": [1]}, "stop", "invalid_type"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
    ({"top_logprobs": 2}, "top_logprobs", None),
    ({"logprobs": "yes"}, "logprobs", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream_options": {"include_usage": True}}, "stream_options", None),
    ({"stream": True, "stream_options": {"colour": 1}}, "stream_options.colour", "unknown_parameter"),
    ({"logit_bias": {"x": 1, "5": 1, "-3": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"258": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"5": 101}}, "logit_bias", "decimal_above_max_value"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported_value"),
    ({"tool_choice": "required"}, "tool_choice", None),
    ({"response_format": {"type": "banana"}}, "response_format", "invalid_value"),
    ({"response_format": "text"}, "response_format", "invalid_type"),
    ({"temperature": 10**400}, "temperature", "decimal_above_max_value"),
]


@pytest.mark.parametrize(("options", "param", "code"), REFUSED)
def test_what_is_refused(options, param, code):
    """Before any work is done, also when streaming: the model is never asked."""
    model = ScriptedModel("Hello!")
    with pytest.raises(BadRequestError) as caught:
        chat_completions(HELLO, model, **options)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error" and caught.value.status_code == 400
    assert model.prompts == []


def test_bad_messages_are_refused_with_their_path():
    with pytest.raises(BadRequestError) as caught:
        chat_completions([{"content": "Hello!"}], ScriptedModel("x"))
    assert caught.value.param == "messages[0].role"


def test_tool_calls_in_the_history_are_refused_and_not_dropped():
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    answer = {"role": "tool", "content": "42", "tool_call_id": "1"}
    with pytest.raises(BadRequestError) as caught:
        chat_completions([user("?"), call, answer], ScriptedModel("x"))
    assert (caught.value.param, caught.value.code) == ("messages[1].tool_calls", "unsupported_value")


def test_numbers_of_numpy_are_numbers():
    options = {"seed": np.int64(3), "n": np.int32(1), "temperature": np.float32(0), "max_tokens": np.int64(2)}
    response = chat_completions(HELLO, ScriptedModel("Hello!"), **options)
    assert response.choices[0].message.content == "He"


def test_temperature_near_0_is_0():
    response = chat_completions(HELLO, ScriptedModel("Hello!"), temperature=1e-40)
    assert response.choices[0].message.content == "Hello!"


def test_system_message_in_the_middle_is_allowed():
    messages = [user("Hi"), system("Be brief."), user("Hello?")]
    assert chat_completions(messages, ScriptedModel("Hello!")).choices[0].message.content == "Hello!"
    assert [finding.rule for finding in chatlab.lint(messages)] == ["system-not-first"]


@pytest.mark.parametrize(("context_length", "max_tokens", "fits"), [(30, 3, True), (29, 3, False), (27, None, False)])
def test_context_limit_with_both_counts(context_length, max_tokens, fits):
    model = ScriptedModel("Hello!", context_length=context_length)
    messages = [user("Hi!")]  # <start>user\nHi!<end>\n<start>assistant\n: 1 + 5 + 3 + 2 + 1 + 10 = 22 tokens
    extra = [system("12345")] if context_length == 27 else [user("")]
    if fits:
        assert chat_completions(messages, model, max_tokens=max_tokens).usage.prompt_tokens == 22
        return
    with pytest.raises(ContextLengthError) as caught:
        chat_completions([*extra, *messages], model, max_tokens=max_tokens)
    assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")
    needed = chatlab.count_tokens([*extra, *messages], model=model) + (max_tokens or 1)
    assert f"can hold {context_length} tokens" in str(caught.value) and f"needs {needed}" in str(caught.value)


def test_unknown_model():
    with pytest.raises(ModelNotFoundError) as caught:
        chat_completions(HELLO, "gpt-17")
    assert (caught.value.status_code, caught.value.code, caught.value.param) == (404, "model_not_found", "model")
    assert "gpt-17" in str(caught.value)


def test_unknown_parameter_is_refused_also_where_python_does_not():
    with pytest.raises(BadRequestError) as caught:
        check_request(HELLO, temprature=1)
    assert (caught.value.param, caught.value.code) == ("temprature", "unknown_parameter")


def test_python_mistakes_are_type_errors():
    with pytest.raises(TypeError):
        chat_completions()
    with pytest.raises(TypeError):
        chat_completions(HELLO, ScriptedModel("x"), temprature=1)


def test_stream_is_lazy():
    model = ScriptedModel("Hello!")
    stream = chat_completions(HELLO, model, stream=True)
    assert isinstance(stream, ChatCompletionStream) and model.prompts == []
    assert next(iter(stream)).choices[0].delta.role == "assistant"
    assert model.prompts == [], "the role comes before the prompt is read"
