"""Every row of the error table about what a request holds, in process: the parameters as a server would pass them."""

from __future__ import annotations

import pytest
from error_table import ACCEPTED, ROWS

from chatlab import BadRequestError
from chatlab.completions import open_stream
from chatlab.parameters import split_body
from chatlab.streaming import join_chunks
from chatlab.testing import ScriptedModel


def answer(body, model):
    messages, _name, options = split_body(body)
    return open_stream(messages, model, **options)


@pytest.mark.parametrize(("body", "status", "param", "code"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_row_is_refused_as_the_table_says(body, status, param, code):
    model = ScriptedModel("Hello!")
    with pytest.raises(BadRequestError) as caught:
        answer(body, model)
    error = caught.value
    assert (error.status_code, error.param, error.code) == (status, param, code)
    assert error.type == "invalid_request_error" and set(error.body) == {"message", "type", "param", "code"}
    assert model.prompts == [] and len(str(error)) < 1000


@pytest.mark.parametrize("body", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_each_of_these_is_answered(body):
    response = join_chunks(answer(body, ScriptedModel("Hello!")))
    assert response.choices[0].message.content in ("Hello!", "Hello")


def test_every_bad_key_is_named():
    with pytest.raises(BadRequestError, match=r"'x', '1.5'"):
        answer({"model": "m", "messages": ROWS[-1][1]["messages"], "logit_bias": {"x": 1, "7": 1, "1.5": 1}}, None)


def test_a_context_error_tells_both_counts():
    body = next(row[1] for row in ROWS if row[0] == "prompt and reply over the context")
    with pytest.raises(BadRequestError, match=r"can hold 8192 tokens, but this request needs 8\d\d\d: \d+ in the"):
        answer(body, ScriptedModel("x"))


def test_refused_tools_say_what_to_do():
    body = next(row[1] for row in ROWS if row[0] == "tools the template cannot show")
    with pytest.raises(BadRequestError, match=r"scripted cannot be given its tools: .*load a model trained for tools"):
        answer(body, ScriptedModel("x"))


def test_parts_are_joined_by_line_ends_and_a_developer_is_a_system():
    model = ScriptedModel("x")
    join_chunks(answer(dict(ACCEPTED)["parts and roles"], model))
    assert "<|im_start|>system\nBe brief.<|im_end|>" in model.prompts[0] and "user\na\nb<|im_end|>" in model.prompts[0]
