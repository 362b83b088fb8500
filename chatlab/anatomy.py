"""Anatomy: look into a Transformers network while it reads token ids.

In: a network and token ids. Out: a `Dissection`: the vectors between the layers, the attention weights, the logits,
the widths of what lies between, and the way from a vector to logits. The network itself stays as it was. Knows nothing
of text or of how results are shown.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from chatlab.chat_model import ChatModel
from chatlab.errors import ChatlabError
from chatlab.transformers_model import cache_argument

__all__ = ["Dissection", "dissect", "network_of"]


@dataclass(frozen=True, eq=False)
class Dissection:
    """What was seen during one pass over n tokens; tensors are float32 on the CPU.

    `hidden_states` [layers + 1, n, hidden] are the vectors before the first layer and after each, not normed;
    `attentions` one [heads, n, n] per layer; `logits` [n, vocab_size]. `key_value_heads`, `head_dim` and `mlp_width`
    (None where the network keeps it to itself) are those of the first layer. `read_out` is the final norm followed by
    the output head.
    """

    hidden_states: Tensor
    attentions: tuple[Tensor, ...]
    logits: Tensor
    key_value_heads: int
    head_dim: int
    mlp_width: int | None
    read_out: nn.Sequential


def network_of(model: ChatModel) -> PreTrainedModel:
    """Return the network of a model that Transformers runs; raise `ChatlabError` for any other.

    >>> from chatlab.testing import ScriptedModel
    >>> network_of(ScriptedModel("Hi", name="parrot"))
    Traceback (most recent call last):
    chatlab.errors.ChatlabError: parrot is a ScriptedModel, which has no network to look into. Give a model that \
Transformers runs, or none for the default one.
    """
    network: PreTrainedModel | None = getattr(model, "network", None)
    if network is None:
        raise ChatlabError(
            f"{model.name} is a {type(model).__name__}, which has no network to look into. Give a model that "
            "Transformers runs, or none for the default one."
        )
    return network


def dissect(network: PreTrainedModel, input_ids: Sequence[int]) -> Dissection:
    """Let the network read the tokens once and return what happens inside.

    Raises `ChatlabError` for a network that is not built as a decoder: embeddings, layers with attention, a norm, a
    head.
    """
    twin = _twin(network)
    decoder, layers = _decoder(twin)
    around, mlp = _watch(decoder), _watch(_mlp(layers[0]))
    cache = DynamicCache(config=twin.config)
    with torch.inference_mode():
        output = twin(
            input_ids=torch.tensor([list(input_ids)], device=network.device),  # [1, n]
            use_cache=True,
            output_attentions=True,
            output_hidden_states=True,
            **{cache_argument(twin): cache},
        )
    attentions = getattr(output, "attentions", None) or [None]
    if any(weights is None for weights in attentions):
        raise _unreadable(network, "not all of its layers give their attention weights")
    # Transformers' last hidden state is normed already: what went into the norm is what the last layer gave.
    normed = output.hidden_states[-1]
    final = [(child, given) for child, given, got in around if got.shape == normed.shape and torch.equal(got, normed)]
    if not final:
        raise _unreadable(network, "its final norm is not where decoders have it")
    norm, before_norm = final[-1]
    first_layer = cache.layers[0]
    widths = [given.shape[-1] for child, given, _ in mlp if getattr(child, "weight", None) is not None]
    return Dissection(
        hidden_states=torch.cat([*output.hidden_states[:-1], before_norm]).float().cpu(),
        attentions=tuple(weights[0].float().cpu() for weights in attentions),
        logits=output.logits[0].float().cpu(),
        key_value_heads=first_layer.keys.shape[1],
        head_dim=first_layer.keys.shape[-1],
        mlp_width=widths[-1] if widths else None,
        read_out=nn.Sequential(norm, twin.get_output_embeddings()),
    )


def _twin(network: PreTrainedModel) -> PreTrainedModel:
    """Return a copy that shares the network's weights and computes attention in plain steps, which shows its weights.

    A copy, because the way attention is computed changes the last bits of every result, and because another thread may
    be using the network at this moment.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared).eval()
    twin.set_attn_implementation("eager")
    return twin


def _decoder(network: PreTrainedModel) -> tuple[nn.Module, nn.ModuleList]:
    """Return the module that holds the layers, and the layers."""
    count = network.config.get_text_config().num_hidden_layers
    for module in network.modules():
        for child in module.children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return module, child
    raise _unreadable(network, f"no list of its {count} layers is to be found")


def _mlp(layer: nn.Module) -> nn.Module | None:
    """Return the part of a layer that treats each token alone, under any of its usual names."""
    children = dict(layer.named_children())
    return next((children[name] for name in ("mlp", "feed_forward", "ffn") if name in children), None)


def _watch(module: nn.Module | None) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """Return a list that grows with (child, first input, output) whenever a child of the module has run."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(child: nn.Module, given: tuple[Any, ...], got: Any) -> None:
        if given and isinstance(given[0], Tensor) and isinstance(got, Tensor):
            seen.append((child, given[0], got))

    for child in module.children() if module is not None else ():
        child.register_forward_hook(note)
    return seen


def _unreadable(network: PreTrainedModel, reason: str) -> ChatlabError:
    return ChatlabError(
        f"{type(network).__name__} cannot be looked into: {reason}. Use a decoder such as Llama, Qwen or GPT-2."
    )
