import pytest
import torch

from chatlab.errors import BadRequestError, ContextLengthError
from chatlab.messages import user
from chatlab.reading import PREFILL_CHUNK
from chatlab.scoring import perplexity
from chatlab.templating import render
from chatlab.testing import ScriptedModel
from chatlab.tokens import encode


def oracle(model, input_ids, first):
    """exp of Transformers' own loss, the tokens before `first` not counted."""
    labels = torch.tensor([[-100] * first + input_ids[first:]])
    with torch.inference_mode():
        return float(model.network(input_ids=torch.tensor([input_ids]), labels=labels).loss.exp())


@pytest.mark.parametrize("length", [2, 50, PREFILL_CHUNK, PREFILL_CHUNK + 1, PREFILL_CHUNK + 2, 500])
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
