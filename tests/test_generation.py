import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chatlab.chat_model import PREFILL_CHUNK
from chatlab.errors import BadRequestError, ContextLengthError
from chatlab.generation import draw_tokens, generate, steps_of
from chatlab.messages import system, user
from chatlab.reading import drive, prefill, prefill_chunks
from chatlab.sampling import SamplingParams
from chatlab.stop_strings import StopStrings
from chatlab.templating import render
from chatlab.testing import ScriptedModel
from chatlab.tokens import encode

GREEDY = SamplingParams(temperature=0)


def reference(model, input_ids, max_new_tokens, **options):
    """The reply ids of Transformers' `generate`, the oracle of our decode loop."""
    output = model.network.generate(
        torch.tensor([input_ids]),
        attention_mask=torch.ones(1, len(input_ids), dtype=torch.long),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=list(model.end_token_ids),
        pad_token_id=model.end_token_ids[0],
        **options,
    )
    return output[0, len(input_ids) :].tolist()


def ours(model, input_ids, max_tokens, params=GREEDY):
    drawn = drive(model, draw_tokens(model, prefill(model, input_ids), params=params, max_tokens=max_tokens))
    return [each.token_id for each in drawn]


@pytest.mark.parametrize("question", ["What is the capital of France?", "Tell me a joke.", "2+2=", "🎉"])
def test_greedy_equals_transformers_generate_on_the_real_model(exact_model, question):
    messages = [system("You are a helpful assistant."), user(question)]
    input_ids = encode(render(messages, model=exact_model), model=exact_model)
    assert ours(exact_model, input_ids, 16) == reference(exact_model, input_ids, 16)


@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("length", [1, 7, PREFILL_CHUNK, PREFILL_CHUNK + 1])
def test_greedy_equals_transformers_generate_on_tiny_models(tiny_model, length, penalty):
    input_ids = torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    params = SamplingParams(temperature=0, repetition_penalty=penalty)
    expected = reference(tiny_model, input_ids, 24, repetition_penalty=penalty)
    assert len(set(expected)) > 1, "a constant reply would prove nothing"
    assert ours(tiny_model, input_ids, 24, params) == expected


def test_probability_and_alternatives_are_the_models_own(tiny_model):
    input_ids = list(b"Hello")
    logits, _ = tiny_model.next_token_logits(input_ids)
    probabilities = logits.softmax(dim=-1)
    read = prefill(tiny_model, input_ids)
    drawn = draw_tokens(tiny_model, read, params=SamplingParams(temperature=1.7), seed=3)
    step = next(drive(tiny_model, steps_of(drawn, top_logprobs=4, model=tiny_model)))
    assert step.probability == pytest.approx(float(probabilities[step.token_id]), rel=1e-4)
    assert list(step.alternatives) == probabilities.topk(4).indices.tolist()
    assert list(step.alternatives.values()) == pytest.approx(probabilities.topk(4).values.tolist(), rel=1e-4)


def test_same_seed_same_tokens_other_seed_others(tiny_model):
    def draw(seed):
        steps = generate("Once upon a time", model=tiny_model, seed=seed, max_completion_tokens=20)
        return [step.token_id for step in steps]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(None) != draw(None)


def test_two_replies_from_one_prompt_do_not_disturb_each_other(tiny_model):
    alone = ours(tiny_model, list(b"Hello"), 12)
    read = prefill(tiny_model, list(b"Hello"))
    forked = type(read)(read.input_ids, read.logits, tiny_model.fork(read.past_key_values))
    pair = [drive(tiny_model, draw_tokens(tiny_model, each, params=GREEDY, max_tokens=12)) for each in (read, forked)]
    side_by_side = [(first.token_id, second.token_id) for first, second in zip(*pair, strict=True)]
    assert side_by_side == [(token_id, token_id) for token_id in alone]


def replies(text, **options):
    return list(generate("Hi", model=ScriptedModel(text), temperature=0, **options))


def test_finish_reason_stop_at_the_end_token_and_length_at_the_limit():
    assert [step.finish_reason for step in replies("Hey")] == [None, None, None, "stop"]
    assert [step.finish_reason for step in replies("Hey", max_completion_tokens=3)] == [None, None, "length"]
    assert [step.finish_reason for step in replies("Hey", max_completion_tokens=4)] == [None, None, None, "stop"]


def test_reply_ends_where_the_context_does():
    model = ScriptedModel("x" * 100, context_length=10)
    steps = list(generate("12345", model=model, temperature=0))
    assert len(steps) == 5 and steps[-1].finish_reason == "length"


def test_prompt_that_leaves_no_room_is_refused_with_the_counts():
    with pytest.raises(ContextLengthError, match=r"can hold 10 tokens.*needs 11: 10 in the messages"):
        generate("1234567890", model=ScriptedModel("x", context_length=10))


@pytest.mark.parametrize(
    ("prompt", "options", "param"),
    [
        ("", {}, "messages"),
        ("Hi", {"temperature": 9}, "temperature"),
        ("Hi", {"max_completion_tokens": 0}, "max_completion_tokens"),
        ("Hi", {"stop": 5}, "stop"),
        ("Hi", {"top_logprobs": -1}, "top_logprobs"),
        ("Hi", {"seed": "one"}, "seed"),
    ],
)
def test_bad_values_are_refused_at_once(prompt, options, param):
    with pytest.raises(BadRequestError) as caught:
        generate(prompt, model=ScriptedModel("x"), **options)
    assert caught.value.param == param


def test_one_stop_string_needs_no_list_and_messages_are_rendered():
    steps = generate([user("Hi")], model=ScriptedModel("The END"), stop="END", temperature=0)
    assert "".join(step.text for step in steps) == "The "


def test_prompt_is_read_in_chunks_and_can_be_left_between_two():
    model = ScriptedModel("x")
    chunks = prefill_chunks(model, [65] * (PREFILL_CHUNK * 3 + 1))
    assert [len(next(chunks).input_ids) for _ in range(2)] == [PREFILL_CHUNK, 2 * PREFILL_CHUNK]
    assert len(model.prompts[0]) == 2 * PREFILL_CHUNK, "only what was asked for is read"
    assert [len(read.input_ids) for read in chunks] == [3 * PREFILL_CHUNK, 3 * PREFILL_CHUNK + 1]


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4])
def test_half_an_emoji_is_held_back_and_flushed_at_the_limit(max_tokens):
    texts = [step.text for step in replies("🎉", max_completion_tokens=max_tokens)]
    assert texts[:-1] == [""] * (max_tokens - 1)
    assert texts[-1] == ("🎉" if max_tokens == 4 else "\N{REPLACEMENT CHARACTER}")


def test_stop_string_ends_the_reply_and_does_not_show():
    steps = replies("one\n\ntwo", stop=["\n\n"])
    assert "".join(step.text for step in steps) == "one"
    assert steps[-1].finish_reason == "stop" and len(steps) == 5


def test_text_held_back_for_a_stop_string_appears_when_it_does_not_come():
    assert "".join(step.text for step in replies("one\n", stop=["\n\n"])) == "one\n"
    assert "".join(step.text for step in replies("one\n", stop=["\n\n"], max_completion_tokens=4)) == "one\n"


alphabet = st.text(alphabet="ab<", max_size=30)


@given(alphabet, st.lists(st.text(alphabet="ab<", min_size=1, max_size=4), max_size=4), st.data())
def test_stop_strings_whatever_the_pieces(text, strings, data):
    """The truth, slow and plain: the shortest beginning that contains a stop string, cut where that string starts."""
    expected, found = text, False
    for end in range(len(text) + 1):
        starts = [end - len(string) for string in strings if text[:end].endswith(string)]
        if starts:
            expected, found = text[: min(starts)], True
            break
    stop, shown, position = StopStrings(strings), "", 0
    while position < len(text):
        size = data.draw(st.integers(1, len(text) - position))
        shown += stop.push(text[position : position + size])
        assert expected.startswith(shown), "a part of a stop string has leaked"
        position += size
    assert (shown + stop.flush(), stop.found) == (expected, found)


def test_step_tells_what_it_knows_as_text_and_html():
    step = next(generate("Hi", model=ScriptedModel("<"), temperature=0, top_logprobs=1))
    assert repr(step) == "Step '<' (id 60): 100.0 % of 0.0 bits; likeliest: < 100.0 %"
    assert "<code>&lt;</code>" in step._repr_html_() and "chosen" in step._repr_html_()


def test_forced_tokens_begin_the_reply_and_the_dice_are_thrown_all_the_same(tiny_model):
    def draw(forced):
        read = prefill(tiny_model, list(b"Hello"))
        drawn = draw_tokens(tiny_model, read, params=SamplingParams(), seed=1, max_tokens=9, forced=forced)
        return list(drive(tiny_model, steps_of(drawn, model=tiny_model)))

    free = draw(())
    assert draw([step.token_id for step in free[:4]]) == free
    assert [step.token_id for step in draw([65, 66])[:2]] == [65, 66]
