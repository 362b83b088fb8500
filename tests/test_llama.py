"""The forward pass: Transformers' logits in float32, and many texts at once as each alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import SIZES
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from chatlab.errors import ReplyStoppedError
from chatlab.kv_memory import FIRST_CAPACITY, KVCache, KVMemory, Run
from chatlab.linear import MANY, PackedLinear, packed
from chatlab.llama import Layer, Llama, Shape, attend, rotate, rotations
from chatlab.team import use_threads
from chatlab.weights.packed import build_llama

VOCABULARY = 97
NETWORKS = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "llama, every head its own keys": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4}),
    "llama, all heads one key": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 1}),
    "llama with biases": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "llama, untied": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": False}),
    "llama, wide heads": (LlamaConfig, LlamaForCausalLM, {"head_dim": 16}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen2, untied": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": False}),
}


def network_of(name):
    """A random network of one kind whose attention and biases matter."""
    config_class, network_class, options = NETWORKS[name]
    config = config_class(
        **{
            "vocab_size": VOCABULARY,
            **SIZES,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
            "tie_word_embeddings": True,
            "initializer_range": 0.2,
            **options,
        }
    )
    torch.manual_seed(0)
    network = network_class(config).eval()
    for part, parameter in network.named_parameters():
        if part.endswith(("bias", "norm.weight")):
            torch.nn.init.normal_(parameter, mean=1.0, std=0.5)
    return network


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request):
    """Transformers' network, and chatlab's forward pass on the same weights."""
    network = network_of(request.param)
    return network, build_llama(network.state_dict(), network.config)


@pytest.fixture(scope="module")
def llama():
    network = network_of("llama")
    return build_llama(network.state_dict(), network.config)


@pytest.fixture(scope="module")
def quantised():
    return quantised_network(heads=4, head_dim=16)


def quantised_network(*, heads, head_dim):
    """A network of 4-bit layers and an 8-bit head, as the default model is, wide enough that groups matter."""
    torch.manual_seed(0)
    shape = Shape(64, heads, 2, head_dim, context_length=2048, norm_epsilon=1e-5, rope_theta=5000.0)

    def matrix(outputs, inputs, bits=4):
        scales = torch.rand(outputs, inputs // 32, 2) * 0.06 * 16 / 2**bits - torch.tensor([0.0, 0.25])
        whole = torch.randint(0, 2**bits, (outputs, inputs), dtype=torch.uint8)
        return PackedLinear(*packed(whole, scales, bits=bits), outputs)

    layers = [
        Layer(
            torch.rand(64) + 0.5,
            matrix((heads + 4) * head_dim, 64),
            matrix(64, heads * head_dim),
            torch.rand(64) + 0.5,
            matrix(192, 64),
            matrix(64, 96),
        )
        for _ in range(3)
    ]
    head = matrix(VOCABULARY, 64, bits=8)
    return Llama(shape, head, layers, torch.ones(64), head)


def ids(number, seed=0):
    return torch.randint(VOCABULARY, (number,), generator=torch.Generator().manual_seed(seed)).tolist()


def read_in_pieces(llama, token_ids, sizes):
    """Read the tokens in pieces of these sizes, the last again and again; return the logits after every token."""
    cache, logits, start, sizes = llama.new_cache(), [], 0, list(sizes)
    while start < len(token_ids):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        logits.append(llama.logits(llama.read([(token_ids[start : start + size], cache)])))
        start += size
    return torch.cat(logits), cache


# ---------------------------------------------------------------------------- Transformers is the oracle


@pytest.mark.parametrize(
    "sizes", [[40], [16], [1], [7, 1, 1, 20]], ids=["whole", "in chunks", "token by token", "mixed"]
)
def test_logits_are_transformers_own(pair, sizes):
    network, llama = pair
    token_ids = ids(40)
    with torch.no_grad():
        expected = network(torch.tensor([token_ids])).logits[0]
    logits, cache = read_in_pieces(llama, token_ids, sizes)
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=1e-4)
    assert expected.std() > 0.3, "or everything would be close"
    assert cache.length == 40


def test_logits_are_transformers_own_where_the_cache_has_grown(pair):
    network, llama = pair
    token_ids = ids(2 * FIRST_CAPACITY + 44)
    with torch.no_grad():
        expected = network(torch.tensor([token_ids])).logits[0]
    logits, cache = read_in_pieces(llama, token_ids, [FIRST_CAPACITY - 2, 1])
    torch.testing.assert_close(logits, expected, atol=5e-4, rtol=1e-3)
    assert cache.memory.capacity > FIRST_CAPACITY


def test_order_matters(llama):
    """What the oracle would not notice where attention hardly mattered."""
    there, back = (llama.logits(llama.read([(order, llama.new_cache())]))[-1] for order in ([5, 6, 7], [6, 5, 7]))
    assert (there - back).abs().max() > 0.01


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_however_a_text_is_cut_its_logits_are_the_same(llama, sizes, number):
    whole, _ = read_in_pieces(llama, ids(number), [number])
    torch.testing.assert_close(read_in_pieces(llama, ids(number), sizes)[0], whole, atol=2e-4, rtol=1e-4)


# ---------------------------------------------------------------------------- many texts at once


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 40)), min_size=1, max_size=8), st.integers(1, 2))
@settings(max_examples=30, deadline=None)
def test_texts_read_together_are_as_each_alone_to_the_last_bit(quantised, lengths, threads):
    """Prompts, pieces of prompts and single tokens, each after a history of its own length."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    use_threads(threads)
    try:
        alone, together = [], []
        for number, (history, new) in enumerate(lengths):
            token_ids = ids(history + new, seed=number)
            for texts in (alone, together):
                cache = quantised.new_cache()
                if history:
                    quantised.read([(token_ids[:history], cache)])
                texts.append((token_ids[history:], cache))
        expected = torch.cat([quantised.logits(quantised.read([text])) for text in alone])
        assert torch.equal(quantised.logits(quantised.read(together)), expected)
    finally:
        torch.set_num_threads(before)
    for (_, first), (_, second), (history, new) in zip(alone, together, lengths, strict=True):
        assert first.length == second.length == history + new
        for one, other in zip(first.memory.layers, second.memory.layers, strict=True):
            assert torch.equal(one[..., : history + new, :], other[..., : history + new, :])


def test_a_piece_of_a_prompt_disturbs_nobodys_single_tokens(quantised):
    """A long prompt that is read while others are being answered, as in the server."""
    histories = [ids(number, seed=number) for number in (3, 50, 300)]
    caches = [quantised.new_cache() for _ in histories]
    for history, cache in zip(histories, caches, strict=True):
        quantised.read([(history, cache)])
    alone = [quantised.logits(quantised.read([([7], cache.copies(1)[0])]))[-1] for cache in caches]
    texts = [([7], cache) for cache in caches]
    texts.insert(1, (ids(256), quantised.new_cache()))
    vectors = quantised.logits(quantised.read(texts))
    for row, expected in zip((0, 257, 258), alone, strict=True):
        assert torch.equal(vectors[row], expected)


def test_plain_weights_read_together_give_the_same_up_to_rounding(llama):
    texts = [(ids(number, seed=number), llama.new_cache()) for number in (1, 30, 5)]
    together = llama.logits(llama.read(texts)).split([1, 30, 5])
    for (token_ids, _), logits in zip(texts, together, strict=True):
        torch.testing.assert_close(logits, read_in_pieces(llama, token_ids, [99])[0], atol=1e-4, rtol=1e-4)


def test_reading_can_be_interrupted_on_the_way_and_begun_again(quantised):
    cache = quantised.new_cache()
    quantised.read([(ids(5), cache)])
    expected = quantised.logits(quantised.read([(ids(200), cache.copies(1)[0]), ([7], cache.copies(1)[0])]))
    texts = [(ids(200), cache), ([7], cache.copies(1)[0])]
    for layers in range(len(quantised.layers) + 1):  # the long text is read by itself, the single token in one go
        asked = iter([False] * layers + [True])
        with pytest.raises(ReplyStoppedError):
            quantised.read(texts, interrupted=lambda asked=asked: next(asked))
        assert next(asked, None) is None and [each.length for _, each in texts] == [5, 5]
    assert torch.equal(quantised.logits(quantised.read(texts)), expected)


# ---------------------------------------------------------------------------- the cache


def test_a_cache_is_moved_seldom(llama):
    cache, places = llama.new_cache(), set()
    memory = cache.memory
    for token_id in ids(1000):
        llama.read([([token_id], cache)])
        places.add((memory.capacity, memory.layers[0].data_ptr()))
    assert cache.length == 1000 and len(places) <= 1000 / FIRST_CAPACITY + 1
    assert cache.bytes == sum(each.nbytes for each in memory.layers)
    assert memory.capacity <= max(cache.length * 5 / 4, cache.length + FIRST_CAPACITY)
    for _ in range(20):
        cache.length = memory.capacity
        memory.reserve(cache.length + 1)
    assert memory.capacity <= cache.length * 5 / 4 + 1, "a long text is not moved every few tokens, nor reserved twice"
    assert memory.capacity > cache.length * 6 / 5


def test_a_failed_reading_leaves_every_cache_as_it_was(llama):
    good, bad = llama.new_cache(), llama.new_cache()
    llama.read([(ids(5), good)])
    with pytest.raises(IndexError):
        llama.read([([1, 2], good), ([VOCABULARY], bad)])
    assert (good.length, bad.length) == (5, 0)
    logits = llama.logits(llama.read([([9], good)]))
    torch.testing.assert_close(logits[-1], read_in_pieces(llama, [*ids(5), 9], [9])[0][-1], atol=1e-4, rtol=1e-4)


@given(st.integers(1, 30), st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_copies_go_their_own_ways(llama, number, length):
    token_ids = ids(number)
    cache = llama.new_cache()
    llama.read([(token_ids, cache)])
    twin = cache.copies(1, length)[0]
    kept = min(number, length)
    assert (twin.length, cache.length) == (kept, number)
    for tail, each, start in (([1, 2, 3], twin, kept), ([4, 5], cache, number)):
        logits = llama.logits(llama.read([(tail, each)]))
        expected, _ = read_in_pieces(llama, [*token_ids[:start], *tail], [99])
        torch.testing.assert_close(logits, expected[-len(tail) :], atol=2e-4, rtol=1e-4)


@given(st.integers(1, 20), st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_copies_side_by_side_are_as_each_alone_to_the_last_bit(quantised, number, rounds):
    """In each round some of them read on, which ones changes, and one may read more than the others."""
    prompt = quantised.new_cache()
    quantised.read([(ids(number), prompt)])
    together, alone = prompt.copies(5), [prompt.copies(1)[0] for _ in range(5)]
    assert len({id(cache.memory) for cache in together}) == 1
    for turn, members in enumerate(rounds):
        new = [[turn + member] * (1 + (member == 4)) for member in range(5)]
        order = list(dict.fromkeys(members))
        expected = [quantised.read([(new[member], alone[member])]) for member in order]
        if order:
            found = quantised.read([(new[member], together[member]) for member in order])
            assert torch.equal(found, torch.cat(expected))
    assert [cache.length for cache in together] == [cache.length for cache in alone]


def test_copies_side_by_side_grow_together(quantised):
    prompt = quantised.new_cache()
    quantised.read([(ids(30), prompt)])
    copies, one = prompt.copies(3), prompt.copies(1)[0]
    for token_id in ids(FIRST_CAPACITY + 20, seed=1):
        together = quantised.read([([token_id], cache) for cache in (*copies, one)])
        for vector in together:
            assert torch.equal(vector, together[0])
    assert copies[0].memory is copies[2].memory and copies[0].memory.capacity > FIRST_CAPACITY + 30


def test_a_memory_keeps_what_is_added():
    memory, added = KVMemory(1, 2, 2, 4, capacity=3), torch.randn(2, 5, 4, 4)  # of two texts, keys and values
    cache = KVCache(memory, place=1)
    for size in (2, 1, 2):
        memory.reserve(cache.length + size)
        for place in (0, 1):
            run = Run(memory, place, cache.length, size)
            keys, values = run.add(0, added[place, cache.length : cache.length + size])
            expected = added[place, : cache.length + size].transpose(0, 1)
            assert torch.equal(keys[0], expected[:2]) and torch.equal(values[0], expected[2:])
        cache.length += size


# ---------------------------------------------------------------------------- its parts


@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 5), st.sampled_from([(4, 4), (4, 2), (4, 1)]))
@settings(max_examples=40, deadline=None)
def test_attention_is_pytorchs_own(texts, n, before, heads):
    generator = torch.Generator().manual_seed(n)
    queries, keys, values = (
        torch.randn(texts, number, length, 8, generator=generator)
        for number, length in ((heads[0], n), (heads[1], before + n), (heads[1], before + n))
    )
    mask = torch.ones(n, before + n, dtype=torch.bool).tril(before)
    expected = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=True)
    found = attend(queries.transpose(1, 2).flatten(0, 1), keys, values)
    torch.testing.assert_close(found, expected.transpose(1, 2).flatten(2).flatten(0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 50, MANY - 1])
def test_a_few_tokens_in_compiled_loops_are_as_many_in_pytorch(quantised, n, monkeypatch):
    history, new = ids(60), ids(n, seed=1)
    found = []
    for compiled in (quantised.compiled, None):
        monkeypatch.setattr(quantised, "compiled", compiled)
        cache = quantised.new_cache()
        quantised.read([(history, cache)])
        found.append(quantised.read([(new, cache)]))
    torch.testing.assert_close(*found, atol=5e-3, rtol=5e-3)  # a few are rounded to 16 bits
    assert found[0].std() > 0.3 and not torch.equal(*found), "they went two ways"


def test_heads_that_do_not_fill_the_lanes_go_through_pytorch():
    network = quantised_network(heads=8, head_dim=12)
    assert network.compiled is None
    texts = [ids(20), ids(3, seed=1)]
    together = network.read([(text, network.new_cache()) for text in texts])
    alone = torch.cat([network.read([(text, network.new_cache())]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_turned_vectors_tell_how_far_apart_they_are():
    """A query's product with a key depends on their distance alone, which is the point of turning them."""
    turns = rotations(Shape(8, 1, 1, 8, context_length=100, norm_epsilon=1e-5, rope_theta=10_000.0))
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))

    def turned(vector, turn):
        copy = vector.clone()
        rotate(copy, turn)
        return copy

    products = [turned(query, turns[place + 5]) @ turned(key, turns[place]) for place in range(90)]
    torch.testing.assert_close(torch.stack(products), products[0].expand(90), atol=1e-4, rtol=1e-4)
    assert abs(products[0] - turned(query, turns[9]) @ turned(key, turns[0])) > 1e-2
