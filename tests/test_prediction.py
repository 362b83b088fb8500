import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab.errors import BadRequestError, ContextLengthError
from chatlab.messages import user
from chatlab.prediction import next_token, temperature_family
from chatlab.reading import prefill
from chatlab.sampling import SamplingParams, entropy, process_logits, sampling_steps
from chatlab.templating import render
from chatlab.testing import ScriptedModel

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</table></div><b>",
    "\"' onfocus=alert(1) x='",
]
ALL_SETTINGS = {
    "temperature": 0.6,
    "top_k": 30,
    "top_p": 0.9,
    "min_p": 0.05,
    "repetition_penalty": 1.2,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {65: 3.0},
}


def test_last_stage_is_what_generation_draws_from(tiny_model):
    prediction = next_token("Hello", reply=" Hello", model=tiny_model, **ALL_SETTINGS)
    logits = prefill(tiny_model, list(b"Hello Hello")).logits
    expected = process_logits(
        logits, SamplingParams(**ALL_SETTINGS), prompt_ids=list(b"Hello"), reply_ids=list(b" Hello")
    )
    assert torch.equal(prediction.after.logits, expected)
    assert torch.equal(prediction.probabilities, expected.softmax(dim=-1))
    assert torch.equal(prediction.before.logits, logits)


def test_stages_are_the_settings_that_change_something_in_their_order(tiny_model):
    assert [stage.name for stage in next_token("Hi", model=tiny_model).stages] == ["model"]
    names = [stage.name for stage in next_token("Hi", reply="Hi", model=tiny_model, **ALL_SETTINGS).stages]
    order = ["model", "logit_bias", "repetition_penalty 1.2", "presence_and_frequency_penalty", "temperature 0.6"]
    assert names[:5] == order and set(names[5:]) <= {"top_k 30", "top_p 0.9", "min_p 0.05"} and "top_k 30" in names


def test_settings_that_change_nothing_are_left_out(tiny_model):
    """A penalty on a reply that is empty, a bias of 0, a top_k as large as the vocabulary."""
    prediction = next_token("Hi", model=tiny_model, presence_penalty=1, logit_bias={3: 0}, top_k=258)
    assert [stage.name for stage in prediction.stages] == ["model"]


def test_temperature_0_leaves_one_token(tiny_model):
    prediction = next_token("Hi", model=tiny_model, temperature=0)
    assert prediction.after.tokens_left == 1 and prediction.after.entropy == 0
    assert int(prediction.probabilities.argmax()) == int(prediction.before.logits.argmax())
    assert prediction.after.name == "temperature 0"


def test_rows_are_the_likeliest_and_those_that_become_so(tiny_model):
    plain = next_token("Hi", model=tiny_model, top=5)
    assert [row.token_id for row in plain.rows] == plain.before.logits.topk(5).indices.tolist()
    last = int(plain.before.logits.argmin())
    pushed = next_token("Hi", model=tiny_model, top=5, logit_bias={last: 100})
    assert pushed.rows[-1].token_id == last and pushed.rows[-1].probabilities[-1] > 0.99


def test_messages_and_their_prompt_and_text_are_one(tiny_model):
    prompt = render([user("Hi")], model=tiny_model)
    first, second = (next_token(each, model=tiny_model) for each in ([user("Hi")], prompt))
    assert torch.equal(first.before.logits, second.before.logits)


@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40))
def test_entropy_equals_torch(logits):
    probabilities = torch.tensor(logits).softmax(dim=-1)
    expected = float(torch.distributions.Categorical(probabilities).entropy()) / math.log(2)
    assert entropy(probabilities) == pytest.approx(expected, abs=1e-4)


@given(st.integers(1, 64))
def test_entropy_counts_equal_choices(choices):
    probabilities = torch.cat([torch.full((choices,), 1 / choices), torch.zeros(3)])
    assert 2 ** entropy(probabilities) == pytest.approx(choices, rel=1e-4)


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40),
    st.floats(0, 2),
    st.floats(0, 1),
    st.integers(0, 40),
    st.floats(0, 1),
)
@settings(max_examples=200)
def test_every_setting_leaves_a_distribution(logits, temperature, top_p, top_k, min_p):
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    steps = list(sampling_steps(torch.tensor(logits), params))
    for _, changed in steps:
        assert float(changed.softmax(dim=-1).sum()) == pytest.approx(1, abs=1e-4)
    assert torch.equal(steps[-1][1], process_logits(torch.tensor(logits), params))
    assert int(steps[-1][1].isfinite().sum()) >= 1


def test_text_is_aligned_and_the_same_each_time():
    shown = repr(next_token("Hi", model=ScriptedModel(" "), top=2))
    assert shown == repr(next_token("Hi", model=ScriptedModel(" "), top=2))
    lines = shown.split("\n")
    assert lines[0] == "What scripted expects after “Hi”"
    assert lines[3].split() == ["␣", "32", "50.00", "100.0", "%"]
    assert lines[2].index("model") + len("model") == len(lines[3])


def test_title_parts_a_message_from_the_reply_to_it_and_no_text_from_its_end():
    model = ScriptedModel(" ")
    assert next_token([user("Hi!")], reply="Ha", model=model).title == "What scripted expects after “Hi!↵Ha”"
    assert next_token([user("Hi!")], model=model).title == "What scripted expects after “Hi!”"
    assert next_token("Hi!", reply="Ha", model=model).title == "What scripted expects after “Hi!Ha”"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_html_escapes_prompt_and_tokens(payload):
    html = next_token(payload, model=ScriptedModel("<"), top=3)._repr_html_()
    assert payload not in html and "<code>&lt;</code>" in html and 'style="width:100.0%"' in html


def test_markup_in_a_models_name_is_escaped():
    assert "<b>" not in next_token("Hi", model=ScriptedModel("x", name="<b>"))._repr_html_()


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top": 0}, "top"),
        ({"top": 10**6}, "top"),
        ({"reply": 5}, "reply"),
        ({"logit_bias": {258: 1}}, "logit_bias"),
        ({"logit_bias": {-1: 1}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
    ],
)
def test_bad_values_are_refused(options, param):
    with pytest.raises(BadRequestError) as caught:
        next_token("Hi", model=ScriptedModel("x"), **options)
    assert caught.value.param == param


def test_prompt_that_leaves_no_room_is_refused():
    with pytest.raises(ContextLengthError):
        next_token("12345", reply="67890", model=ScriptedModel("x", context_length=10))


def test_plots_say_in_words_what_they_show(tiny_model):
    prediction = next_token("Hi", model=tiny_model, temperature=0.5, top=3)
    alt_text = prediction.plot().alt_text
    assert "after temperature 0.5" in alt_text and all(row.token in alt_text for row in prediction.rows)
    family = temperature_family("Hi", temperatures=(0, 0.5, 2), top=3, model=tiny_model)
    assert all(f"At {each}: " in family.alt_text for each in ("0", "0.5", "2"))
    with pytest.raises(BadRequestError, match="temperatures is empty"):
        temperature_family("Hi", temperatures=(), model=tiny_model)
    with pytest.raises(BadRequestError, match="temperatures must be a list such as"):
        temperature_family("Hi", temperatures=5, model=tiny_model)
