import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chatlab.errors import BadRequestError
from chatlab.generation import draw_tokens, generate
from chatlab.reading import drive, prefill
from chatlab.sampling import SamplingParams, entropy
from chatlab.testing import ScriptedModel
from chatlab.tracing import trace

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</table></div><b>",
    "\"' onfocus=alert(1) x='",
]
SETTINGS = {"temperature": 1.3, "top_p": 0.95, "seed": 7, "max_completion_tokens": 12, "frequency_penalty": 0.4}


def oracle(model, input_ids, first):
    """exp of Transformers' own loss, the tokens before `first` not counted."""
    labels = torch.tensor([[-100] * first + input_ids[first:]])
    with torch.inference_mode():
        return float(model.network(input_ids=torch.tensor([input_ids]), labels=labels).loss.exp())


def test_trace_is_what_generate_yields(tiny_model):
    reply = trace("Hello", model=tiny_model, **SETTINGS)
    steps = list(generate("Hello", model=tiny_model, **SETTINGS))
    assert list(reply) == steps and reply[1:3] == tuple(steps[1:3]) and len(reply) == len(steps)
    assert reply.text == "".join(step.text for step in steps)


def test_entropy_is_the_models_own(tiny_model):
    logits, _ = tiny_model.next_token_logits(list(b"Hello"))
    step = trace("Hello", model=tiny_model, temperature=0.2, max_completion_tokens=1)[0]
    assert step.entropy == pytest.approx(entropy(logits.softmax(dim=-1)), rel=1e-4)


def test_perplexity_of_a_trace_is_that_of_its_tokens(tiny_model):
    reply = trace("Hello", model=tiny_model, **SETTINGS)
    ids = [*b"Hello", *(step.token_id for step in reply)]
    assert reply.perplexity == pytest.approx(oracle(tiny_model, ids, 5), rel=1e-3)


def test_what_if_with_the_same_token_changes_nothing(tiny_model):
    reply = trace("Hello", model=tiny_model, **SETTINGS)
    for number in (0, 3, len(reply) - 1):
        again = reply.what_if(number, reply[number].token_id)
        assert list(again) == list(reply) and again.forced == (number,)


def test_what_if_keeps_what_was_before_and_goes_on_from_the_token(tiny_model):
    reply = trace("Hello", model=tiny_model, **SETTINGS)
    other = reply.what_if(3, "Q")
    assert other[:3] == reply[:3] and other[3].token == "Q" and other.forced == (3,)
    assert other.settings == reply.settings
    third = other.what_if(5, 90).what_if(4, "Z")
    assert third.forced == (3, 4) and [third[3].token, third[4].token] == ["Q", "Z"]


def test_what_if_goes_on_as_a_reply_that_began_so(tiny_model):
    """Greedy, the rest must equal what follows a prompt that already holds the forced token."""
    reply = trace("Hello", model=tiny_model, temperature=0, max_completion_tokens=10)
    other = reply.what_if(2, "Q")
    ids = [*b"Hello", *(step.token_id for step in other[:3])]
    read = prefill(tiny_model, ids)
    rest = drive(tiny_model, draw_tokens(tiny_model, read, params=SamplingParams(temperature=0), max_tokens=7))
    assert [step.token_id for step in other[3:]] == [step.token_id for step in rest]


def test_what_if_the_reply_ended_there():
    ended = trace("Hi", model=ScriptedModel("Hello"), temperature=0).what_if(2, "<|im_end|>")
    assert ended.text == "He" and ended[-1].finish_reason == "stop" and len(ended) == 3


@pytest.mark.parametrize(
    ("step", "token", "param"),
    [(-1, "a", "step"), (99, "a", "step"), ("0", "a", "step"), (0, "ab", "token"), (0, "", "token"), (0, 999, "token")],
)
def test_what_if_refuses_what_is_not_there(step, token, param):
    reply = trace("Hi", model=ScriptedModel("Hello"), temperature=0)
    with pytest.raises(BadRequestError) as caught:
        reply.what_if(step, token)
    assert caught.value.param == param


def test_seed_is_kept_so_that_a_reply_can_be_repeated(tiny_model):
    first = trace("Hello", model=tiny_model, max_completion_tokens=8)
    assert list(trace("Hello", model=tiny_model, max_completion_tokens=8, seed=first.settings.seed)) == list(first)


def test_impossible_token_makes_the_perplexity_infinite():
    reply = trace("Hi", model=ScriptedModel("Hello"), temperature=0).what_if(0, "X")
    assert reply[0].probability == pytest.approx(math.exp(-50), rel=1e-3) and reply.perplexity < math.inf


def test_text_is_the_same_each_time_and_names_each_token():
    shown = repr(trace("Hi", model=ScriptedModel(" é"), temperature=0, seed=1, top_logprobs=1))
    assert shown == repr(trace("Hi", model=ScriptedModel(" é"), temperature=0, seed=1, top_logprobs=1))
    assert [line.split()[1] for line in shown.split("\n")[3:7]] == ["␣", "<C3>", "<A9>", "<|im_end|>"]
    assert "finish_reason stop, seed 1" in shown


@pytest.mark.parametrize("payload", PAYLOADS)
def test_html_escapes_replies_tokens_and_names(payload):
    reply = trace(payload, model=ScriptedModel(payload, name=payload), temperature=0)
    for html in (reply._repr_html_(), *(step._repr_html_() for step in reply)):
        assert not re.search(r"<(script|img|b)\b", html) and payload not in html
        assert all(re.fullmatch(r'[^"<>]*', label) for label in re.findall(r'aria-label="(.*?)"', html))


def test_html_marks_in_words_and_can_be_reached_by_keyboard():
    reply = trace("Hi", model=ScriptedModel("Hey\n"), temperature=0).what_if(1, "X")
    html = reply._repr_html_()
    assert html.count('tabindex="0" role="note" aria-label="step ') == len(reply)
    assert "step 0, H: 100.0 %, sure; entropy 0.00 bits; likeliest: H 100.0 %" in html
    assert "surprising, forced" in html and "<details>" in html and ">assistant</span>" in html


def test_whole_character_stands_where_its_last_piece_does():
    html = trace("Hi", model=ScriptedModel("é"), temperature=0)._repr_html_()
    assert ">&lt;C3&gt;</span>" in html and ">é</span>" in html


@given(st.text(max_size=20))
def test_any_reply_can_be_shown(text):
    reply = trace("Hi", model=ScriptedModel(text), temperature=0, top_logprobs=2)
    assert reply.text == text and repr(reply) and reply._repr_html_()


def test_seconds_are_those_of_reading_and_of_the_steps():
    reply = trace("Hi", model=ScriptedModel("Hey"), temperature=0)
    assert reply.seconds == pytest.approx(reply.prefill_seconds + sum(step.seconds for step in reply))
