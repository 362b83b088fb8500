"""What is seen inside a network, against Transformers' own results; and the network stays as it was."""

from __future__ import annotations

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from chatlab import ChatlabError
from chatlab.anatomy import dissect, network_of
from chatlab.testing import ScriptedModel

IDS = [72, 101, 108, 108, 111]


def everything(network):
    """Transformers' own outputs, from the network itself set to plain attention meanwhile."""
    before = network.config._attn_implementation
    network.set_attn_implementation("eager")
    with torch.inference_mode():
        output = network(torch.tensor([IDS]), output_attentions=True, output_hidden_states=True, use_cache=True)
    network.set_attn_implementation(before)
    return output


def test_equals_what_transformers_gives(tiny_model):
    expected, seen = everything(tiny_model.network), dissect(tiny_model.network, IDS)
    assert len(seen.attentions) == 2
    for ours, theirs in zip(seen.attentions, expected.attentions, strict=True):
        assert torch.equal(ours, theirs[0])
    assert torch.equal(seen.hidden_states[:-1], torch.cat(expected.hidden_states[:-1]))
    assert torch.equal(seen.logits, expected.logits[0])
    keys = expected.past_key_values.layers[0].keys
    assert (seen.key_value_heads, seen.head_dim) == (keys.shape[1], keys.shape[3])


def test_last_vectors_are_those_before_the_final_norm(tiny_model):
    expected, seen = everything(tiny_model.network), dissect(tiny_model.network, IDS)
    norm, head = seen.read_out
    with torch.inference_mode():
        assert torch.allclose(norm(seen.hidden_states[-1]), expected.hidden_states[-1][0], atol=1e-5)
        assert torch.allclose(head(norm(seen.hidden_states[-1])), expected.logits[0], atol=1e-4)
    assert not torch.allclose(seen.hidden_states[-1], expected.hidden_states[-1][0], atol=1e-2)


def test_mlp_width_is_that_of_the_configuration(tiny_model):
    config = tiny_model.network.config
    width = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    assert dissect(tiny_model.network, IDS).mlp_width == width


def test_network_gives_the_same_afterwards_to_the_last_bit(tiny_model):
    network = tiny_model.network
    before, _ = tiny_model.next_token_logits(IDS)
    implementation = network.config._attn_implementation
    hooks = sum(len(module._forward_hooks) for module in network.modules())
    dissect(network, IDS)
    after, _ = tiny_model.next_token_logits(IDS)
    assert network.config._attn_implementation == implementation == "sdpa"
    assert sum(len(module._forward_hooks) for module in network.modules()) == hooks
    assert torch.equal(before, after)
    network.train()
    assert torch.equal(dissect(network, IDS).logits, dissect(network, IDS).logits), "no dropout while looking"
    assert network.training
    network.eval()


def test_weights_are_shared_and_not_copied(tiny_model):
    head = dissect(tiny_model.network, IDS).read_out[1]
    assert head.weight is tiny_model.network.get_output_embeddings().weight


def test_works_after_transformers_itself_has_collected_outputs(tiny_model):
    """Transformers leaves hooks of its own in a network that once gave its hidden states."""
    everything(tiny_model.network)
    assert len(dissect(tiny_model.network, IDS).hidden_states) == 3


def test_networks_without_attention_are_refused():
    network = MambaForCausalLM(
        MambaConfig(vocab_size=258, hidden_size=16, num_hidden_layers=2, state_size=4, eos_token_id=1, bos_token_id=0)
    )
    with pytest.raises(ChatlabError, match="MambaForCausalLM cannot be looked into"):
        dissect(network, IDS)


def test_other_kinds_of_model_are_refused():
    with pytest.raises(ChatlabError, match="parrot is a ScriptedModel, which has no network to look into"):
        network_of(ScriptedModel("Hi", name="parrot"))
