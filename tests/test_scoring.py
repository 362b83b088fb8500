import math

import pytest
import torch

from chatlab.errors import BadRequestError, ContextLengthError, ReplyStoppedError
from chatlab.messages import user
from chatlab.prediction import next_token
from chatlab.scoring import SCORED_CHUNK, perplexity, score_tokens
from chatlab.templating import render
from chatlab.testing import ScriptedModel
from chatlab.tokens import encode


def oracle(model, input_ids, first):
    """exp of Transformers' own loss, the tokens before `first` not counted."""
    labels = torch.tensor([[-100] * first + input_ids[first:]])
    with torch.inference_mode():
        return float(model.network(input_ids=torch.tensor([input_ids]), labels=labels).loss.exp())


@pytest.mark.parametrize("length", [2, 50, SCORED_CHUNK, SCORED_CHUNK + 1, SCORED_CHUNK + 2, 500])
@pytest.mark.parametrize("prompt", ["", "x", "Hello, "])
def test_perplexity_equals_transformers_loss(tiny_model, length, prompt):
    text = "The quick brown fox! " * 30
    ids = encode(prompt, model=tiny_model) + encode(text[:length], model=tiny_model)
    expected = oracle(tiny_model, ids, max(len(prompt), 1))
    assert perplexity(text[:length], prompt=prompt, model=tiny_model) == pytest.approx(expected, rel=1e-3)


def test_perplexity_does_not_depend_on_how_logits_are_had(tiny_model):
    """The one pass of Transformers' models, and the token by token way of any other model."""
    one_pass, _ = tiny_model.logits(list(b"Hello"))
    one_by_one, _ = super(type(tiny_model), tiny_model).logits(list(b"Hello"))
    torch.testing.assert_close(one_pass, one_by_one, atol=1e-3, rtol=1e-3)


def test_real_model_prefers_sense(model):
    assert perplexity("Paris is big.", model=model) < perplexity("big Paris is.", model=model)


def test_perplexity_of_a_reply_to_messages(tiny_model):
    messages = [user("Hi")]
    prompt = render(messages, model=tiny_model)
    assert perplexity("Hey", prompt=messages, model=tiny_model) == perplexity("Hey", prompt=prompt, model=tiny_model)


@pytest.mark.parametrize(("text", "prompt"), [("", ""), ("x", ""), ("", "Hello"), (5, "")])
def test_perplexity_of_nothing_is_refused(text, prompt):
    with pytest.raises(BadRequestError) as caught:
        perplexity(text, prompt=prompt, model=ScriptedModel("x"))
    assert caught.value.param == "text"


def test_perplexity_of_a_text_too_long_is_refused():
    assert perplexity("1234567890", model=ScriptedModel("x", context_length=10)) > 1
    with pytest.raises(ContextLengthError):
        perplexity("12345678901", model=ScriptedModel("x", context_length=10))


def test_each_token_has_the_probability_that_next_token_gives_it(tiny_model):
    """Also past the pieces in which a long prompt is read."""
    text = "The quick brown fox! " * 14
    ids = encode(text, model=tiny_model)
    scores = score_tokens(text, top_logprobs=3, model=tiny_model)
    assert [score.token_id for score in scores] == ids[1:] and len(ids) > SCORED_CHUNK + 1
    for place in (1, 2, SCORED_CHUNK, SCORED_CHUNK + 1, len(ids) - 1):
        before = next_token(text[:place], model=tiny_model).before
        score = scores[place - 1]
        assert score.probability == pytest.approx(float(before.probabilities[ids[place]]), rel=1e-3)
        assert list(score.alternatives.values()) == pytest.approx(
            before.probabilities.topk(3).values.tolist(), rel=1e-3
        )
        assert score.entropy == pytest.approx(before.entropy, rel=1e-3)


@pytest.mark.parametrize("prompt", ["Hello, world", [user("Hi")]])
def test_scores_add_up_to_the_perplexity(tiny_model, prompt):
    text = render(prompt, model=tiny_model) if isinstance(prompt, list) else prompt
    scores = score_tokens(prompt, model=tiny_model)
    mean = sum(math.log(score.probability) for score in scores) / len(scores)
    assert math.exp(-mean) == pytest.approx(perplexity(text, model=tiny_model), rel=1e-3)


def test_scoring_may_be_interrupted_and_refuses_what_is_wrong():
    asked = iter([False, True])
    with pytest.raises(ReplyStoppedError):
        score_tokens("x" * 600, interrupted=lambda: next(asked), model=ScriptedModel("x"))
    assert next(asked, None) is None, "it is asked after each piece"
    with pytest.raises(BadRequestError, match="top_logprobs"):
        score_tokens("xx", top_logprobs=-1, model=ScriptedModel("x"))
