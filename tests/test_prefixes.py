"""What was read before is not read again, and nobody can tell from the reply."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import TINY
from transformers import MistralConfig, MistralForCausalLM

import chatlab
from chatlab import assistant, system, user
from chatlab.chat_model import PREFILL_CHUNK
from chatlab.prefixes import SHORTEST, PrefixCache
from chatlab.reading import prefill
from chatlab.scoring import perplexity
from chatlab.testing import ScriptedModel, byte_tokenizer
from chatlab.transformers_model import TransformersModel, load_folder

LOGITS = torch.zeros(3)
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=30)  # two tokens, so that many beginnings are shared


def cut(past_key_values, length):
    """A copy of a cache, which is a tuple of tokens here."""
    return past_key_values[:length]


def keep(prefixes, token_ids, *, prompt_length=None, logits=LOGITS, size=1):
    length = len(token_ids) if prompt_length is None else prompt_length
    prefixes.keep(token_ids, tuple(token_ids), prompt_length=length, logits=logits, size=size)


def shared(first, second):
    return next((at for at, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None) or (
        0 if first[:1] != second[:1] else min(len(first), len(second))
    )


# ---------------------------------------------------------------------------- the store alone


@given(st.lists(st.tuples(TOKENS, st.integers(0, 5)), max_size=8), TOKENS)
@settings(max_examples=300)
def test_the_longest_beginning_is_found(kept, wanted):
    prefixes = PrefixCache()
    prompts = {}
    for number, (token_ids, reply) in enumerate(kept):
        prompt = token_ids[: max(1, len(token_ids) - reply)]
        logits = torch.tensor([float(number)])
        keep(prefixes, token_ids, prompt_length=len(prompt), logits=logits)
        prompts.setdefault(tuple(prompt), []).append(logits)
    found = prefixes.find(wanted, fork=cut)
    longest = max((shared(token_ids, wanted) for token_ids, _ in kept), default=0)
    known = longest == len(wanted) and tuple(wanted) in prompts
    expected = len(wanted) if known else min(longest, len(wanted) - 1)
    if expected < SHORTEST:
        assert found is None
        return
    assert found.length == expected and found.past_key_values == tuple(wanted[:expected])
    assert any(found.logits is each for each in prompts[tuple(wanted)]) if known else found.logits is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 60)), max_size=40))
def test_what_was_not_used_longest_goes_first(steps):
    """Against a list of what was used, in order."""
    prefixes, used = PrefixCache(max_bytes=100), []
    sizes = {}
    for finding, number, size in steps:
        token_ids = [number] * 10 + [99]
        if finding:
            found = prefixes.find(token_ids, fork=cut)
            assert (found is not None) == (number in used)
            if found:
                used.append(used.pop(used.index(number)))
        else:
            keep(prefixes, token_ids, size=size)
            used = [each for each in used if each != number] + [number]
            sizes[number] = size
            while sum(sizes[each] for each in used) > 100:
                used.pop(0)
        assert prefixes.bytes == sum(sizes[each] for each in used) <= 100 and len(prefixes) == len(used)


def test_what_is_larger_than_the_limit_drives_nothing_out():
    prefixes = PrefixCache(max_bytes=100)
    keep(prefixes, [1] * 10, size=60)
    keep(prefixes, [2] * 10, size=101)
    assert (len(prefixes), prefixes.bytes) == (1, 60)
    assert prefixes.find([1] * 10, fork=cut) and prefixes.find([2] * 10, fork=cut) is None


def test_a_reply_that_grew_replaces_its_beginning_and_others_stay():
    prefixes = PrefixCache()
    keep(prefixes, [1] * 10, prompt_length=9)
    keep(prefixes, [1] * 12, prompt_length=9)
    assert len(prefixes) == 1
    keep(prefixes, [1] * 11, prompt_length=10)
    assert len(prefixes) == 2, "the logits after another prompt"


def test_clear():
    prefixes = PrefixCache()
    keep(prefixes, [1] * 10)
    prefixes.clear()
    assert (len(prefixes), prefixes.bytes, prefixes.find([1] * 10, fork=cut)) == (0, 0, None)


def test_many_threads_at_once():
    prefixes, errors = PrefixCache(max_bytes=20), []

    def work(seed):
        try:
            for turn in range(300):
                token_ids = [(seed + turn) % 5] * (10 + turn % 3)
                found = prefixes.find(token_ids, fork=cut)
                assert found is None or found.past_key_values == tuple(token_ids[: found.length])
                keep(prefixes, token_ids, size=1 + turn % 7)
                assert prefixes.bytes >= 0
                if turn % 50 == 0:
                    prefixes.clear()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and prefixes.bytes <= 20


# ---------------------------------------------------------------------------- with models


@pytest.fixture(scope="module")
def smollm(model):
    """The default model, with an empty store of its own."""
    view = model.with_context_length(model.context_length)
    view.prefixes = PrefixCache()
    return view


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory):
    """Tiny models as `load` gives them."""
    loaded = {}
    for name, make in TINY.items():
        torch.manual_seed(0)
        network, folder = make(), tmp_path_factory.mktemp(name)
        for parameter in network.parameters():
            parameter.data.mul_(5)
        network.save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        loaded[name] = load_folder(folder, name)
    return loaded


@pytest.fixture(params=["smollm", *TINY])
def chatting(request, smollm, tiny_models):
    chatting = {"smollm": smollm, **tiny_models}[request.param]
    chatting.prefixes.clear()
    return chatting


def fresh(model):
    """The same weights without a memory."""
    view = model.with_context_length(model.context_length)
    view.prefixes = None
    return view


def ask(model, messages, **options):
    options = {"temperature": 0, "max_tokens": 12, **options}
    return chatlab.chat_completions(messages, model, **options)


def reused(reply):
    return reply.usage.prompt_tokens_details.cached_tokens


FIRST = [system("You are a helpful assistant."), user("What is the capital of France?")]


def same_as_fresh(model, messages, **options):
    """Ask, check the reply against one of a model that has read nothing, and return how much was reused."""
    reply = ask(model, messages, **options)
    expected = ask(fresh(model), messages, **options)
    assert [each.message.content for each in reply.choices] == [each.message.content for each in expected.choices]
    assert reused(expected) == 0
    # Where the reply was wrong in the text only later, the logits tell at once.
    input_ids = chatlab.encode(chatlab.render(messages, model=model), model=model)
    warm, cold = prefill(model, input_ids), prefill(fresh(model), input_ids)
    torch.testing.assert_close(warm.logits, cold.logits, atol=1e-3, rtol=1e-3)
    return reused(reply)


def test_next_turn_edit_regeneration_and_another_system_message(chatting):
    assert same_as_fresh(chatting, FIRST) == 0
    prompt = len(chatlab.encode(chatlab.render(FIRST, model=chatting), model=chatting))
    assert same_as_fresh(chatting, FIRST) == prompt, "the very prompt again: nothing has to be read"
    reply = ask(chatting, FIRST).choices[0].message.content
    second = [*FIRST, assistant(reply), user("And of Italy?")]
    assert (
        prompt
        <= same_as_fresh(chatting, second)
        < len(chatlab.encode(chatlab.render(second, model=chatting), model=chatting))
    )
    edited = [FIRST[0], user("What is the capital of Spain?"), assistant("Madrid."), user("And of Italy?")]
    both = shared(*(chatlab.encode(chatlab.render(each, model=chatting), model=chatting) for each in (second, edited)))
    assert same_as_fresh(chatting, edited) == both > SHORTEST
    other = [system("Talk like a pirate."), *second[1:]]
    assert same_as_fresh(chatting, other) < prompt


@pytest.mark.parametrize("seed", range(3))
def test_same_seed_same_reply_warm_or_cold(chatting, seed):
    options = {"temperature": 1.0, "seed": seed, "max_tokens": 20, "n": 2}
    assert same_as_fresh(chatting, FIRST, **options) == 0
    assert same_as_fresh(chatting, FIRST, **options) > 0


def test_a_long_history_is_read_once(chatting):
    history = [system("Be brief."), user("Remember this: " + "one two three " * 25), assistant("Yes."), user("Why?")]
    assert same_as_fresh(chatting, history) == 0
    length = len(chatlab.encode(chatlab.render(history, model=chatting), model=chatting))
    read, real = [], chatting.next_logits_of_many
    chatting.next_logits_of_many = lambda texts: read.append([len(ids) for ids, _ in texts]) or real(texts)
    try:
        following = [*history[:-1], user("Why not?")]
        assert reused(ask(chatting, following, max_tokens=1)) > 0.8 * length
        assert sum(sum(each) for each in read) < 0.2 * length <= PREFILL_CHUNK
    finally:
        del chatting.next_logits_of_many


def test_a_view_shares_and_another_model_does_not(chatting, tmp_path):
    ask(chatting, FIRST)
    assert reused(ask(chatting.with_context_length(400), FIRST)) > 0
    torch.manual_seed(1)
    other = TransformersModel("other", MistralForCausalLM(_mistral(sliding_window=None)), byte_tokenizer())
    assert other.prefixes is None
    other.network.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    loaded = load_folder(tmp_path / "other", "other")
    assert loaded.prefixes is not chatting.prefixes and reused(ask(loaded, FIRST)) == 0
    assert reused(ask(loaded, FIRST)) > 0 and reused(ask(chatting, FIRST)) > 0


def _mistral(*, sliding_window):
    return MistralConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        sliding_window=sliding_window,
    )


def test_models_whose_cache_forgets_keep_nothing(tmp_path):
    """A sliding window's cache holds the last tokens only: its beginning cannot be had back."""
    network = MistralForCausalLM(_mistral(sliding_window=8))
    network.save_pretrained(tmp_path / "window")
    byte_tokenizer().save_pretrained(tmp_path / "window")
    sliding = load_folder(tmp_path / "window", "window")
    assert sliding.prefixes is None
    assert [reused(ask(sliding, FIRST)) for _ in range(2)] == [0, 0]


def test_a_scripted_model_keeps_nothing():
    scripted = ScriptedModel("Hello")
    assert [reused(ask(scripted, FIRST)) for _ in range(2)] == [0, 0]


def test_over_http(smollm):
    smollm.prefixes.clear()
    with chatlab.serve(smollm, port=0) as server:
        client = server.client()
        options = {"model": smollm.name, "temperature": 0, "max_tokens": 12}
        replies = [client.chat.completions.create(messages=FIRST, **options) for _ in range(2)]
        usage = replies[1].usage
        assert [reused(reply) for reply in replies] == [0, usage.prompt_tokens]
        following = [*FIRST, assistant(replies[0].choices[0].message.content), user("And of Italy?")]
        *_, last = client.chat.completions.create(
            messages=following, stream=True, stream_options={"include_usage": True}, **options
        )
        assert usage.prompt_tokens <= last.usage.prompt_tokens_details.cached_tokens < last.usage.prompt_tokens
    assert replies[0].choices[0].message.content == replies[1].choices[0].message.content
    assert replies[0].choices[0].message.content == ask(fresh(smollm), FIRST).choices[0].message.content


def test_an_abandoned_reply_leaves_a_right_cache(chatting):
    stream = chatlab.chat_completions(FIRST, chatting, temperature=0, stream=True, max_tokens=50)
    for number, _ in enumerate(stream):
        if number == 6:
            break
    stream.close()
    del stream
    assert same_as_fresh(chatting, FIRST, max_tokens=20) >= 0
    partial = [*FIRST, assistant("The capital"), user("Go on.")]
    assert same_as_fresh(chatting, partial) > SHORTEST


def test_looking_at_a_model_is_right_when_it_has_read_before(chatting):
    """Traces, other paths, predictions, samples and scores: as of a model without a memory."""
    for model in (chatting, fresh(chatting)):
        ask(model, FIRST)
    traces = [chatlab.trace(FIRST, seed=4, max_completion_tokens=8, model=each) for each in (chatting, fresh(chatting))]
    assert [step.token_id for step in traces[0].steps] == [step.token_id for step in traces[1].steps]
    step = traces[0].steps[2]
    token = next(each for each in step.alternatives if each != step.token_id)
    paths = [trace.what_if(2, token) for trace in traces]
    assert [step.token_id for step in paths[0].steps] == [step.token_id for step in paths[1].steps]
    text = "The capital of France is Paris."
    scores = [perplexity(text, prompt=FIRST, model=each) for each in (chatting, fresh(chatting))]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
    options = {"temperatures": (0, 1.2), "samples": 3, "max_completion_tokens": 6}
    assert (
        chatlab.sample_replies(FIRST, model=chatting, **options).replies
        == chatlab.sample_replies(FIRST, model=fresh(chatting), **options).replies
    )
