import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage

from chatlab import BadRequestError, chat_completions, user
from chatlab.prices import Prices, cost
from chatlab.testing import ScriptedModel


def test_completion_its_usage_and_counts_cost_the_same():
    completion = chat_completions([user("Hi")], ScriptedModel("Hello!"))
    prices = Prices(prompt=2.5, completion=10)
    counts = {"prompt_tokens": completion.usage.prompt_tokens, "completion_tokens": completion.usage.completion_tokens}
    assert cost(completion, prices) == cost(completion.usage, prices) == cost(counts, prices)
    assert float(cost(counts, prices)) == pytest.approx(
        counts["prompt_tokens"] * 2.5e-6 + counts["completion_tokens"] * 10e-6
    )


def test_cached_tokens_are_a_part_of_the_prompt():
    usage = CompletionUsage(
        prompt_tokens=1_000_000,
        completion_tokens=0,
        total_tokens=1_000_000,
        prompt_tokens_details={"cached_tokens": 400_000},
    )
    assert cost(usage, Prices(2, 8, cached=1)).total == pytest.approx(0.6 * 2 + 0.4 * 1)
    assert cost(usage, Prices(2, 8)).total == pytest.approx(2)
    assert "cached 0.400000" in repr(cost(usage, Prices(2, 8, cached=1, currency="EUR")))


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0, 1e6), st.floats(0, 1e6))
def test_cost_grows_with_the_counts(prompt, completion, dear, dearer):
    prices = Prices(dear, dearer)
    less = cost({"prompt_tokens": prompt, "completion_tokens": completion}, prices).total
    assert 0 <= less <= cost({"prompt_tokens": prompt + 1, "completion_tokens": completion + 1}, prices).total


@pytest.mark.parametrize(
    "usage", [None, 12, "many", {}, {"prompt_tokens": -1}, {"prompt_tokens": 1, "cached_tokens": 2}]
)
def test_other_counts_are_refused(usage):
    with pytest.raises(BadRequestError):
        cost(usage, Prices(1, 1))


@pytest.mark.parametrize("price", [-1, float("nan"), "2 USD"])
def test_other_prices_are_refused(price):
    with pytest.raises(BadRequestError):
        Prices(price, 1)
