import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage

from chatlab.errors import BadRequestError
from chatlab.messages import ROLES, assistant, system, user, validate

MISTAKES = [
    # messages, param, code, what the message must say
    ([], "messages", "empty_array", "at least one message"),
    (None, "messages", "invalid_type", "list of messages"),
    ("Hello", "messages", "invalid_type", "list of messages"),
    ({"role": "user", "content": "Hi"}, "messages", "invalid_type", "list of messages"),
    (["Hello"], "messages[0]", "invalid_type", "not str 'Hello'"),
    ([{"content": "Hello!"}], "messages[0].role", "missing_required_parameter", "Say who speaks"),
    ([{"user": "Hello!"}], "messages[0].role", "missing_required_parameter", "the role is a value, not a key"),
    ([{"role": None, "content": "Hi"}], "messages[0].role", "missing_required_parameter", "Say who speaks"),
    ([user("a"), {"role": "banana", "content": "b"}], "messages[1].role", "invalid_value", "system, developer, user"),
    ([{"role": 7, "content": "b"}], "messages[0].role", "invalid_type", "int 7"),
    ([{"role": "user"}], "messages[0].content", "missing_required_parameter", "no content"),
    ([{"role": "user", "content": None}], "messages[0].content", "invalid_type", "None"),
    ([{"role": "user", "content": 123}], "messages[0].content", "invalid_type", "int 123"),
    ([{"role": "user", "content": ["a"]}], "messages[0].content[0]", "invalid_type", "'type': 'text'"),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text", "invalid_type", "string"),
    (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        "messages[0].content[0]",
        "unsupported_value",
        "text only",
    ),
    ([user("half \ud83d")], "messages[0].content", "invalid_value", "half a character"),
    ([user("a"), {"role": "tool", "content": "42", "tool_call_id": "1"}], "messages[1]", None, "no tool call"),
]


@pytest.mark.parametrize(("messages", "param", "code", "says"), MISTAKES)
def test_each_mistake_has_its_own_error(messages, param, code, says):
    with pytest.raises(BadRequestError) as caught:
        validate(messages)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert says in str(caught.value)


@given(st.lists(st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(ROLES[:4]), st.text())))
def test_well_formed_messages_pass_unchanged_and_untouched(messages):
    before = copy.deepcopy(messages)
    if messages:
        assert validate(messages) == before
    assert messages == before


def test_result_shares_nothing_with_the_input():
    messages = [user("a")]
    validate(messages)[0]["content"] = "b"
    assert messages == [user("a")]


def test_extra_keys_are_kept():
    assert validate([{"role": "user", "content": "Hi", "name": "Ana"}])[0]["name"] == "Ana"


def test_reply_object_of_the_client_counts_as_a_message():
    reply = ChatCompletionMessage(role="assistant", content="Hi")
    assert validate([user("Hello"), reply])[1] == {"role": "assistant", "content": "Hi"}


def test_tool_result_after_its_call_passes():
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "42"}
    assert [message["role"] for message in validate([user("?"), call, result, result])][2:] == ["tool", "tool"]


def test_helpers():
    assert [system("s"), user("u"), assistant("a")] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
