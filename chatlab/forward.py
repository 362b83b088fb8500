"""The forward pass: everything that happens inside the model while it reads a prompt once.

In: a prompt and a model that Transformers runs. Out: a `ForwardPass`: the shape at every stage, the attention maps, the
vectors between the layers, and what the model would say if it stopped after each layer (the logit lens). Knows nothing
of sampling, replies or plots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from chatlab.anatomy import Dissection, dissect, network_of
from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer
from chatlab.display import count_of, escape, table_html, table_text, view
from chatlab.errors import BadRequestError
from chatlab.messages import Message
from chatlab.model import resolve
from chatlab.reading import check_room
from chatlab.tokens import decode, encode

__all__ = ["Candidate", "ForwardPass", "LogitLens", "Stage", "inspect_forward"]

ATTENTION_BYTES = 1.2e9  # the most memory for attention maps: about 1,050 tokens on the default model


@dataclass(frozen=True)
class Stage:
    """One stage of the pass: its name, the shape of what comes out of it, and what that means."""

    name: str
    shape: tuple[int, ...]
    meaning: str


@dataclass(frozen=True)
class Candidate:
    """A token that may come next, with its probability (0–1)."""

    token_id: int
    token: str
    probability: float


@dataclass(frozen=True, repr=False)
class LogitLens:
    """What the model would say after each layer: `layers[k]` holds the likeliest tokens after k layers.

    `layers[0]` is read from the embedding alone, the last is the model's own prediction. `position` is the place in the
    prompt, `token` what stands there.
    """

    position: int
    token: str
    layers: tuple[tuple[Candidate, ...], ...]

    @property
    def title(self) -> str:
        """What the lens shows, in one line."""
        return f"What would follow {self.token!r} (token {self.position}) if the model stopped after so many layers"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        header = ["layers", *(f"choice {rank}" for rank in range(1, len(self.layers[0]) + 1))]
        rows = [
            [str(number), *(f"{each.token!r} {each.probability:.1%}" for each in predictions)]
            for number, predictions in enumerate(self.layers)
        ]
        return header, rows

    def __repr__(self) -> str:
        return f"{self.title}\n{table_text(*self._table())}"

    def _repr_html_(self) -> str:
        return view(f"<div>{escape(self.title)}</div>{table_html(*self._table())}")


@dataclass(frozen=True, repr=False, eq=False)
class ForwardPass:
    """One pass of a model over a prompt of n tokens; `stages` tells it in order.

    `token_ids` and `tokens` are the prompt's. `attentions` holds one tensor [heads, n, n] per layer. `hidden_states`
    [layers + 1, n, hidden] are the vectors before the first layer and after each one, the last not yet normed;
    `logits` [n, vocab_size] is what comes out. All tensors are float32 on the CPU.
    """

    model: ChatModel
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    stages: tuple[Stage, ...]
    attentions: tuple[Tensor, ...]
    hidden_states: Tensor
    logits: Tensor
    read_out: nn.Sequential

    def attention(self, layer: int, head: int | None = None) -> Tensor:
        """Return how much each token looks at each: [heads, n, n] of a layer, or [n, n] of one of its heads.

        Row i belongs to token i and sums to 1; the tokens after i get 0. Layers and heads count from 0, and −1 is the
        last. Raises `BadRequestError` for one that is not there.
        """
        layers = len(self.attentions)
        weights = self.attentions[check_integer("layer", layer, minimum=-layers, maximum=layers - 1)]
        if head is None:
            return weights  # [heads, n, n]
        return weights[check_integer("head", head, minimum=-len(weights), maximum=len(weights) - 1)]  # [n, n]

    @property
    def hidden_norms(self) -> Tensor:
        """How long each token's vector is, before the first layer and after each: [layers + 1, n]."""
        return self.hidden_states.pow(2).sum(dim=-1).sqrt()

    def logit_lens(self, position: int = -1, *, top: int = 3) -> LogitLens:
        """Return, for each layer, the tokens that the model would find likeliest if it stopped there.

        The vector of the token at `position` goes through the final norm and the output head, and softmax makes
        probabilities of that. (The few models that scale or cap their logits, as Gemma 2 does, do so after this.)
        From "interpreting GPT: the logit lens" (nostalgebraist, 2020). Raises `BadRequestError` for a position outside
        the prompt.
        """
        length = len(self.tokens)
        position = check_integer("position", position, minimum=-length, maximum=length - 1) % length
        weight = next(self.read_out[1].parameters())
        with torch.inference_mode():
            hidden = self.hidden_states[:, position].to(weight.device, weight.dtype)  # [layers + 1, hidden]
            logits = self.read_out(hidden).float().cpu()  # [layers + 1, vocab_size]
        return LogitLens(position, self.tokens[position], tuple(self._likeliest(each, top) for each in logits))

    def predictions(self, *, top: int = 5) -> tuple[Candidate, ...]:
        """Return the tokens that the model finds likeliest to come next, the likeliest first."""
        return self._likeliest(self.logits[-1], top)

    def _likeliest(self, logits: Tensor, top: int) -> tuple[Candidate, ...]:
        best = torch.topk(logits.softmax(dim=-1), check_integer("top", top, minimum=1, maximum=len(logits)))
        return tuple(
            Candidate(token_id, decode([token_id], model=self.model), probability)
            for token_id, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )

    @property
    def title(self) -> str:
        """Who reads what, in one line."""
        tokens, layers = count_of(len(self.tokens), "token"), count_of(len(self.attentions), "layer")
        return f"{self.model.name} reads {tokens} through {layers}"

    def _rows(self) -> list[list[str]]:
        return [[stage.name, str(list(stage.shape)), stage.meaning] for stage in self.stages]

    def __repr__(self) -> str:
        return f"{self.title}\n{table_text(_HEADER, self._rows())}"

    def _repr_html_(self) -> str:
        rows = [[name, shape.replace(" ", "\N{NO-BREAK SPACE}"), meaning] for name, shape, meaning in self._rows()]
        likely = [[repr(each.token), f"{each.probability:.1%}"] for each in self.predictions()]
        return view(
            f"<div>{escape(self.title)}</div>{table_html(_HEADER, rows)}"
            f"<div>The likeliest next tokens</div>{table_html(['token', 'probability'], likely)}"
        )


_HEADER = ["stage", "shape", "meaning"]


def inspect_forward(prompt: str | Sequence[Message], *, model: ChatModel | str | Path | None = None) -> ForwardPass:
    """Let the model read a prompt (or messages) once, and return all that can be seen on the way.

    The model is not touched: a copy that shares its weights computes attention in plain steps, which shows the maps.
    Raises `BadRequestError` for an empty prompt or one too long to draw maps of, `ContextLengthError` for one that the
    model cannot hold, `ChatlabError` for a model that cannot be looked into.

    >>> forward = inspect_forward("The capital of France is")
    >>> [stage.shape for stage in forward.stages if stage.name in ("token ids", "embeddings", "logits")]
    [(5,), (5, 576), (5, 49152)]
    >>> forward.attention(0).shape, forward.attention(0, head=2).shape
    (torch.Size([9, 5, 5]), torch.Size([5, 5]))
    >>> forward.logit_lens().layers[-1][0].token
    ' Paris'
    """
    model = resolve(model)
    network = network_of(model)
    token_ids = encode(prompt, model=model)
    check_room(model, len(token_ids))
    config = network.config.get_text_config()
    maps = config.num_hidden_layers * config.num_attention_heads
    most = math.isqrt(int(ATTENTION_BYTES / (4 * maps)))
    if len(token_ids) > most:
        raise BadRequestError(
            f"The prompt has {len(token_ids):,} tokens, and {model.name} draws {maps:,} maps of every token by every "
            f"token, {4 * maps * len(token_ids) ** 2 / 1e9:.1f} GB in all. Look into at most {most:,} tokens.",
            param="prompt",
        )
    seen = dissect(network, token_ids)
    return ForwardPass(
        model=model,
        token_ids=tuple(token_ids),
        tokens=tuple(decode([token_id], model=model) for token_id in token_ids),
        stages=tuple(_stages(seen)),
        attentions=seen.attentions,
        hidden_states=seen.hidden_states,
        logits=seen.logits,
        read_out=seen.read_out,
    )


def _stages(seen: Dissection) -> list[Stage]:
    """Return the stages in the order in which they happen, told with this model's numbers."""
    _, n, hidden = seen.hidden_states.shape
    layers, heads, vocab_size = len(seen.attentions), len(seen.attentions[0]), seen.logits.shape[-1]
    shared = "" if seen.key_value_heads == heads else f", shared by {heads // seen.key_value_heads} heads each"
    per_head = (n, seen.head_dim)
    within = f"layers 0–{layers - 1}: " if layers > 1 else "layer 0: "
    stages = [
        Stage("token ids", (n,), "the prompt cut into tokens, each one a number"),
        Stage("embeddings", (n, hidden), f"a vector of {hidden:,} numbers for each token"),
        Stage(within + "queries", (heads, *per_head), "what each token looks for, in each head"),
        Stage(within + "keys", (seen.key_value_heads, *per_head), f"what each token can be found by{shared}"),
        Stage(within + "values", (seen.key_value_heads, *per_head), f"what each token hands on when found{shared}"),
        Stage(within + "attention", (heads, n, n), "row by row, how much a token looks at itself and those before it"),
        Stage(within + "attention output", (n, hidden), "what each token gathered, added to its vector"),
    ]
    if seen.mlp_width:
        stages.append(Stage(within + "MLP, inside", (n, seen.mlp_width), "each token on its own, spread wide"))
    return [
        *stages,
        Stage(within + "MLP output", (n, hidden), "and folded back, added to its vector"),
        Stage("final norm", (n, hidden), "every vector brought to a common scale"),
        Stage("logits", (n, vocab_size), "a score for every token of the vocabulary; the last row is what comes next"),
    ]
