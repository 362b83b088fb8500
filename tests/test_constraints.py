"""Replies held to a grammar: whatever a model would rather say, what comes out parses and validates."""

from __future__ import annotations

import json
import math

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from pydantic import BaseModel
from transformers import LlamaConfig, LlamaForCausalLM

from chatlab import BadRequestError, chat_completions, user
from chatlab.constraints import Constraint
from chatlab.schemas import json_rule
from chatlab.streaming import join_chunks
from chatlab.testing import ScriptedModel, byte_tokenizer
from chatlab.transformers_model import TransformersModel

HELLO = [user("Hello!")]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def schema_format(schema, **fields):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **fields}}


def wild_model(*, vocab_size=300, end_token_ids=(257,)):
    """A tiny random model whose logits are longer than its tokenizer's vocabulary."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
    )
    network = LlamaForCausalLM(config)
    network.generation_config.eos_token_id = list(end_token_ids)
    for parameter in network.parameters():
        parameter.data.mul_(5)
    return TransformersModel("wild", network, byte_tokenizer())


WILD = wild_model()

words = st.text('abc é"\\{}', max_size=4)
leaves = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "integer"}, {"type": "number"}]),
    st.lists(words | st.integers(-9, 9) | st.booleans() | st.none(), min_size=1, max_size=3).map(lambda x: {"enum": x}),
    words.map(lambda value: {"const": value}),
    st.tuples(st.integers(-5, 5), st.integers(0, 9)).map(
        lambda ends: {"type": "integer", "minimum": ends[0], "maximum": ends[0] + ends[1]}
    ),
    st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
        lambda ends: {"type": "string", "minLength": ends[0], "maxLength": ends[0] + ends[1]}
    ),
    st.sampled_from(["^[a-c]{1,3}$", "^(x|yy)z?$", "b+$"]).map(lambda pattern: {"type": "string", "pattern": pattern}),
    st.sampled_from(["date", "uuid", "ipv4"]).map(lambda name: {"type": "string", "format": name}),
)


def objects(values):
    def build(properties, required, additional):
        kept = [name for index, name in enumerate(properties) if required >> index & 1]
        return {
            "type": "object",
            "properties": properties,
            "required": kept,
            "additionalProperties": additional,
        }

    return st.builds(build, st.dictionaries(words, values, max_size=3), st.integers(0, 7), st.just(False) | values)


def arrays(values):
    return st.builds(
        lambda items, least, more: {"type": "array", "items": items, "minItems": least, "maxItems": least + more},
        values,
        st.integers(0, 2),
        st.integers(0, 2),
    )


schemas = st.recursive(
    leaves,
    lambda values: (
        objects(values) | arrays(values) | st.lists(values, min_size=1, max_size=3).map(lambda x: {"anyOf": x})
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schemas, st.integers(0, 10**6))
def test_a_complete_reply_of_a_wild_model_always_validates(schema, seed):
    response = chat_completions(
        HELLO, WILD, response_format=schema_format(schema), temperature=2, seed=seed, max_tokens=80
    )
    choice = response.choices[0]
    if choice.finish_reason == "stop":
        jsonschema.validate(json.loads(choice.message.content), schema)
    else:
        assert choice.finish_reason == "length"


def test_most_replies_are_complete():
    """So that the test above tests something."""
    schema = {"type": "array", "items": {"enum": [1, 2, "three"]}, "maxItems": 3}
    response = chat_completions(HELLO, WILD, response_format=schema_format(schema), temperature=2, seed=1, n=8)
    assert [choice.finish_reason for choice in response.choices] == ["stop"] * 8
    assert len({choice.message.content for choice in response.choices}) > 1, "every choice has a matcher of its own"
    for choice in response.choices:
        jsonschema.validate(json.loads(choice.message.content), schema)


@pytest.mark.parametrize(
    "options",
    [
        {"logit_bias": {"65": 100, "257": 100, "32": 100}},
        {"logit_bias": {str(byte): -100 for byte in b'{"ok":'}},
        {"top_k": 1},
        {"top_p": 0.0},
        {"min_p": 1.0},
        {"repetition_penalty": 10, "presence_penalty": 2, "frequency_penalty": 2},
    ],
    ids=lambda options: " ".join(options),
)
@pytest.mark.parametrize("temperature", [0, 2])
def test_no_setting_breaks_the_grammar(options, temperature):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], **CLOSED}
    response = chat_completions(
        HELLO, WILD, response_format=schema_format(schema), temperature=temperature, seed=3, **options
    )
    assert response.choices[0].message.content in ('{"ok": true}', '{"ok": false}')


CLOSED = {"additionalProperties": False}


def test_json_object_means_an_object():
    replies = chat_completions(
        HELLO, WILD, response_format={"type": "json_object"}, temperature=2, seed=0, n=30, max_tokens=30
    )
    complete = [choice.message.content for choice in replies.choices if choice.finish_reason == "stop"]
    assert complete and all(isinstance(json.loads(text), dict) for text in complete)
    assert all(choice.message.content.startswith("{") for choice in replies.choices)


def test_a_model_that_wants_to_say_something_else_cannot():
    schema = {"enum": ["yes", "no"]}
    response = chat_completions(HELLO, ScriptedModel("Well, maybe."), response_format=schema_format(schema))
    assert response.choices[0].message.content in ('"yes"', '"no"')
    assert response.choices[0].finish_reason == "stop"


def test_a_model_that_says_the_right_thing_is_let():
    text = '{"name": "Ana é 🎉", "age": 31}'
    for schema in (PERSON, {"type": "object"}, {}):
        response = chat_completions(HELLO, ScriptedModel(text), response_format=schema_format(schema, strict=True))
        assert response.choices[0].message.content == text


def test_blanks_are_bounded():
    """A small model that likes white space best has none to write."""
    reply = chat_completions(
        HELLO,
        ScriptedModel("x"),
        response_format=schema_format(PERSON),
        logit_bias={"32": 100, "10": 100, "9": 100},
        temperature=0,
        max_tokens=40,
    )
    text = reply.choices[0].message.content
    assert text.startswith('{"name": "  ') and "\n" not in text and "\t" not in text


def test_cut_by_the_limit_or_by_a_stop_string():
    text = '{"name": "Ana", "age": 31}'
    cut = chat_completions(HELLO, ScriptedModel(text), response_format=schema_format(PERSON), max_tokens=10)
    assert (cut.choices[0].finish_reason, cut.choices[0].message.content) == ("length", text[:10])
    stopped = chat_completions(HELLO, ScriptedModel(text), response_format=schema_format(PERSON), stop='", ')
    assert (stopped.choices[0].finish_reason, stopped.choices[0].message.content) == ("stop", '{"name": "Ana')


def test_every_end_token_may_end_the_reply_and_none_before():
    model = wild_model(end_token_ids=(257, 256))
    constraint = Constraint(f"start: {json_rule({'const': 12})}", model, param="response_format")
    for byte in b"12":
        allowed = torch.isfinite(constraint.apply(torch.zeros(300))).nonzero().flatten().tolist()
        assert allowed == [byte]
        constraint.accept(byte)
    assert torch.isfinite(constraint.apply(torch.zeros(300))).nonzero().flatten().tolist() == [256, 257]


def test_probabilities_stay_the_models_own():
    response = chat_completions(
        HELLO,
        ScriptedModel("Well"),
        response_format=schema_format({"enum": [7]}),
        logprobs=True,
        top_logprobs=1,
        temperature=0,
    )
    (item,) = response.choices[0].logprobs.content
    assert (item.token, item.top_logprobs[0].token) == ("7", "W") and item.logprob < -40
    assert math.isclose(item.top_logprobs[0].logprob, 0, abs_tol=1e-6)


def test_the_prompt_is_not_changed():
    models = [ScriptedModel("{}"), ScriptedModel("{}")]
    chat_completions(HELLO, models[0])
    chat_completions(HELLO, models[1], response_format={"type": "json_object"})
    assert models[0].prompts == models[1].prompts


def test_a_grammar_that_gets_too_complex_on_the_way_ends_with_a_reason():
    schema = {"type": "string", "pattern": "^(a|b)*c(a|b){400}d(a|b)*c(a|b){400}$"}
    try:
        response = chat_completions(
            HELLO, WILD, response_format=schema_format(schema), temperature=2, seed=1, max_tokens=100
        )
    except BadRequestError as error:
        assert (error.param, error.code) == ("response_format", "invalid_value")
    else:
        assert response.choices[0].finish_reason == "length"


def test_the_clients_own_parser_reads_the_stream():
    class Person(BaseModel):
        name: str
        age: int

    text = '{"name": "Ana", "age": 31}'
    given = schema_format(Person.model_json_schema(), strict=True)
    chunks = list(chat_completions(HELLO, ScriptedModel(text), response_format=given, stream=True))
    state = ChatCompletionStreamState(response_format=Person)
    for chunk in chunks:
        state.handle_chunk(chunk)
    assert state.get_final_completion().choices[0].message.parsed == Person(name="Ana", age=31)
    assert join_chunks(chunks).choices[0].message.content == text


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {"enum": ["red", "green", "blue"]},
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "minItems": 2, "maxItems": 3},
    ],
)
@pytest.mark.parametrize("temperature", [0, 2])
def test_the_real_model_keeps_to_a_schema(model, schema, temperature):
    messages = [user("Ana is 31 years old. Answer in JSON.")]
    response = chat_completions(
        messages, model, response_format=schema_format(schema), temperature=temperature, seed=1, max_tokens=40
    )
    choice = response.choices[0]
    assert temperature == 2 or choice.finish_reason == "stop"
    if choice.finish_reason == "stop":
        jsonschema.validate(json.loads(choice.message.content), schema)
