import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from chatlab import sampling
from chatlab.errors import BadRequestError
from chatlab.sampling import SamplingParams

logits_lists = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40, unique=True)


def warp(warper, logits, input_ids=((0,),)):
    return warper(torch.tensor(input_ids), torch.tensor([logits]))[0]


@given(logits_lists, st.floats(0.1, 2))
def test_temperature_equals_transformers(logits, temperature):
    ours = sampling.apply_temperature(torch.tensor(logits), temperature)
    assert torch.equal(ours, warp(TemperatureLogitsWarper(temperature), logits))


@given(logits_lists, st.integers(1, 50))
def test_top_k_equals_transformers(logits, top_k):
    ours = sampling.apply_top_k(torch.tensor(logits), top_k)
    assert torch.equal(ours, warp(TopKLogitsWarper(top_k), logits))


@given(logits_lists, st.floats(0.01, 0.999))
def test_top_p_equals_transformers(logits, top_p):
    ours = sampling.apply_top_p(torch.tensor(logits), top_p)
    assert torch.equal(ours, warp(TopPLogitsWarper(top_p), logits))


@given(logits_lists, st.floats(0.01, 1))
def test_min_p_equals_transformers(logits, min_p):
    ours = sampling.apply_min_p(torch.tensor(logits), min_p)
    assert torch.equal(ours, warp(MinPLogitsWarper(min_p), logits))


@given(logits_lists, st.floats(0.5, 2), st.data())
def test_repetition_penalty_equals_transformers(logits, penalty, data):
    seen = data.draw(st.lists(st.integers(0, len(logits) - 1), min_size=1))
    ours = sampling.apply_repetition_penalty(torch.tensor(logits), seen, penalty)
    torch.testing.assert_close(ours, warp(RepetitionPenaltyLogitsProcessor(penalty), logits, [seen]))


@given(logits_lists, st.data())
def test_logit_bias_equals_transformers(logits, data):
    bias = data.draw(st.dictionaries(st.integers(0, len(logits) - 1), st.floats(-100, 100, width=32), min_size=1))
    ours = sampling.apply_logit_bias(torch.tensor(logits), bias)
    processor = SequenceBiasLogitsProcessor({(token_id,): value for token_id, value in bias.items()})
    torch.testing.assert_close(ours, warp(processor, logits))


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3},
        {"temperature": 1.8, "top_p": 0.5, "repetition_penalty": 0.8},
        {"temperature": 0.3, "top_k": 5, "min_p": 0.2},
    ],
)
@pytest.mark.parametrize("bias", [{}, {65: 5.0, 66: -5.0}])
def test_all_together_in_the_order_of_generate(tiny_model, settings, bias):
    """The scores that Transformers' `generate` draws from are the oracle for the order of the steps."""
    prompt_ids = list(b"The same words, the same words")
    output = tiny_model.network.generate(
        torch.tensor([prompt_ids]),
        attention_mask=torch.ones(1, len(prompt_ids), dtype=torch.long),
        max_new_tokens=1,
        do_sample=True,
        return_dict_in_generate=True,
        output_scores=True,
        pad_token_id=257,
        sequence_bias={(token_id,): value for token_id, value in bias.items()} or None,
        **{"top_k": 0, "top_p": 1.0, **settings},
    )
    logits, _ = tiny_model.next_token_logits(prompt_ids)
    ours = sampling.process_logits(logits, SamplingParams(**settings, logit_bias=bias), prompt_ids=prompt_ids)
    torch.testing.assert_close(ours, output.scores[0][0])


@given(logits_lists, st.floats(-2, 2), st.floats(-2, 2), st.data())
def test_presence_and_frequency_follow_openais_formula(logits, presence, frequency, data):
    reply = data.draw(st.lists(st.integers(0, len(logits) - 1)))
    ours = sampling.apply_presence_and_frequency_penalty(torch.tensor(logits), reply, presence, frequency)
    expected = [
        logit - reply.count(token_id) * frequency - (reply.count(token_id) > 0) * presence
        for token_id, logit in enumerate(logits)
    ]
    torch.testing.assert_close(ours, torch.tensor(expected), atol=1e-4, rtol=1e-4)


@given(logits_lists, st.floats(0, 1, exclude_max=True))
def test_sample_never_draws_a_masked_token(logits, random_number):
    masked = sampling.apply_top_k(torch.tensor(logits), 2)
    token_id = sampling.sample(masked, temperature=1, random_number=random_number)
    assert masked[token_id] > -math.inf


def test_sample_draws_as_often_as_the_probabilities_say():
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4])
    draws = [sampling.sample(probabilities.log(), temperature=1, random_number=u / 1000) for u in range(1000)]
    assert [draws.count(token_id) for token_id in range(4)] == pytest.approx([100, 200, 300, 400], abs=1)


@given(logits_lists)
def test_temperature_0_takes_the_highest_whatever_the_random_number(logits):
    tensor = torch.tensor(logits)
    assert sampling.sample(tensor, temperature=0, random_number=0.99) == logits.index(max(logits))


@given(logits_lists)
def test_inputs_are_left_alone(logits):
    tensor = torch.tensor(logits)
    params = SamplingParams(0.5, 0.9, 3, 0.1, 1.2, 0.5, 0.5, {0: 1.0})
    sampling.process_logits(tensor, params, prompt_ids=[0], reply_ids=[1])
    assert tensor.tolist() == torch.tensor(logits).tolist()


OUT_OF_RANGE = [
    ("temperature", 2.1, "decimal_above_max_value", "between 0 and 2, but is 2.1"),
    ("temperature", -0.1, "decimal_below_min_value", "between 0 and 2"),
    ("temperature", math.nan, "decimal_above_max_value", "but is nan"),
    ("temperature", math.inf, "decimal_above_max_value", "but is inf"),
    ("temperature", -math.inf, "decimal_below_min_value", "but is -inf"),
    ("temperature", "hot", "invalid_type", "str 'hot'"),
    ("temperature", True, "invalid_type", "bool True"),
    ("top_p", 1.01, "decimal_above_max_value", "between 0 and 1"),
    ("min_p", -1, "decimal_below_min_value", "between 0 and 1"),
    ("presence_penalty", 2.5, "decimal_above_max_value", "between -2 and 2"),
    ("frequency_penalty", -2.5, "decimal_below_min_value", "between -2 and 2"),
    ("top_k", -1, "integer_below_min_value", "at least 0"),
    ("top_k", 1.5, "invalid_type", "whole number"),
    ("logit_bias", {1: 101}, "decimal_above_max_value", "between -100 and 100"),
]


@pytest.mark.parametrize(("name", "value", "code", "says"), OUT_OF_RANGE)
def test_params_check_themselves(name, value, code, says):
    with pytest.raises(BadRequestError) as caught:
        SamplingParams(**{name: value})
    assert (caught.value.param, caught.value.code) == (name, code)
    assert says in str(caught.value)


def test_entropy_is_the_same_to_the_last_bit_with_any_number_of_threads():
    """A sweep on two machines would differ otherwise; 49,152 is the size of a real vocabulary."""
    many = [torch.randn(49_152, generator=torch.Generator().manual_seed(seed)).mul(4) for seed in range(20)]
    found, before = {}, torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found[threads] = [sampling.entropy(logits.softmax(dim=-1)) for logits in many]
    finally:
        torch.set_num_threads(before)
    assert found[1] == found[2] == found[3]
    with_doubles = [float(-(p := logits.double().softmax(dim=-1)).dot(p.log2())) for logits in many]
    assert found[1] == pytest.approx(with_doubles, rel=1e-4)
