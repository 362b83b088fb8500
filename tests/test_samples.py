import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatlab.errors import BadRequestError
from chatlab.generation import generate
from chatlab.samples import distinct, sample_replies
from chatlab.testing import ScriptedModel


def test_replies_are_those_of_generate_with_the_same_seeds(tiny_model):
    samples = sample_replies(
        "Hello", temperatures=(0, 1.2), samples=3, max_completion_tokens=6, seed=5, model=tiny_model
    )
    for temperature, replies in samples.replies.items():
        for number, reply in enumerate(replies):
            steps = generate(
                "Hello", model=tiny_model, temperature=temperature, max_completion_tokens=6, seed=5 + number
            )
            assert reply.token_ids == tuple(step.token_id for step in steps)
    assert samples.distinct_replies(0) == 1 and samples.distinct_replies(1.2) > 1
    assert samples.distinct_first_tokens(0) == 1


def test_the_real_model_reads_for_several_and_each_reply_is_as_alone(model):
    options = {"max_completion_tokens": 10, "model": model}
    samples = sample_replies("Once upon a time", temperatures=[1.0], samples=10, seed=3, **options)
    for number, reply in enumerate(samples.replies[1.0]):
        steps = list(generate("Once upon a time", temperature=1.0, seed=3 + number, **options))
        assert reply.token_ids == tuple(step.token_id for step in steps)
        assert reply.text == "".join(step.text for step in steps)
    assert samples.distinct_replies(1.0) > 5


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=5), st.integers(1, 3))
def test_distinct_is_a_share(sequences, n):
    share = distinct(sequences, n=n)
    grams = [
        tuple(each[start : start + n]) for each in sequences for start in range(len(each)) if start + n <= len(each)
    ]
    assert share == (len(set(grams)) / len(grams) if grams else 0)


def test_text_and_picture_say_the_same():
    samples = sample_replies("Hi", temperatures=[0, 1], samples=2, model=ScriptedModel("Hey!"))
    assert repr(samples).split("\n")[0] == "2 replies at each temperature; how many are different:"
    assert repr(samples).split("\n")[2].split() == ["0", "1", "1", "0.50", "'Hey!'"]
    assert "distinct replies: 50 % at 0, 50 % at 1" in samples.plot().alt_text


def test_html_escapes_replies():
    samples = sample_replies(
        "Hi", samples=1, temperatures=[0], max_completion_tokens=40, model=ScriptedModel("<script>")
    )
    assert "<script>" not in samples._repr_html_() and "&lt;script&gt;" in samples._repr_html_()


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"samples": 0}, "samples"),
        ({"temperatures": ()}, "temperatures"),
        ({"temperatures": 5}, "temperatures"),
        ({"temperatures": "0.5"}, "temperatures"),
        ({"temperatures": (3,)}, "temperature"),
    ],
)
def test_bad_values_are_refused(options, param):
    with pytest.raises(BadRequestError) as caught:
        sample_replies("Hi", model=ScriptedModel("x"), **options)
    assert caught.value.param == param
