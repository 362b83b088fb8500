"""Evidence on the topic under-the-hood: each answer comes from the network, its cache or its usage.

In: a question or a fact, and a model. Out: the answer that the engine gives to it; for a request or a function that a
learner wrote, the name of the misconception in it, or None if it is right. Knows nothing of the author's key.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, cast

import torch
from openai.types.chat import ChatCompletion

from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.evidence.common import fault_of, the_claim, what_the_code_prints
from chatlab.forward import ForwardPass, inspect_forward
from chatlab.generation import generate
from chatlab.kv_cache import kv_cache_size
from chatlab.kv_memory import KVCache
from chatlab.llama_model import LlamaModel
from chatlab.messages import Message, assistant, system, user, validate
from chatlab.prefixes import PrefixCache
from chatlab.questions.question import Fact, Question
from chatlab.templating import render
from chatlab.testing import ScriptedModel
from chatlab.tokens import encode

__all__ = [
    "a_list_with_a_stable_beginning",
    "bytes_of_a_token",
    "field_of_reused_tokens",
    "number_of_layers",
    "number_of_scores",
    "order_of_one_pass",
    "reusable_tokens_are_counted",
    "the_row_that_counts",
    "tokens_read_with_a_cache",
    "tokens_read_without_a_cache",
    "what_can_be_reused",
    "what_comes_out",
    "what_grows",
    "what_the_cache_holds",
    "what_the_code_prints",
    "why_nothing_behind_a_change_is_reused",
]

PROMPT = "The capital of France is"
RULES = "You help the customers of a small bakery. It opens at seven."
EXAMPLES = [user("Bread?"), assistant("Yes, every day."), user("Cake?"), assistant("On Sundays only.")]


@lru_cache(maxsize=1)
def _forward(model: ChatModel) -> ForwardPass:
    return inspect_forward(PROMPT, model=model)


def _reply(messages: Sequence[Message], model: ChatModel) -> ChatCompletion:
    return chat_completions(messages, model, temperature=0, max_completion_tokens=1)


def what_comes_out(question: Question, model: ChatModel) -> str:
    """Read a prompt and look at what the network returns."""
    logits, _ = model.next_token_logits(encode(PROMPT, model=model))
    claims = {
        "whole reply": logits.dim() > 1,
        "score for every token": logits.shape == (model.vocab_size,) and logits.is_floating_point(),
        "as text": isinstance(logits, str),
        "summary": isinstance(logits, str),
    }
    return the_claim(question, claims)


def order_of_one_pass(question: Question, model: ChatModel) -> list[str]:
    """Take the order from the stages of a pass; that a token is chosen from logits the sampler itself shows."""
    names = [stage.name for stage in _forward(model).stages]
    signs = {"token ids": "token ids", "embeddings": "embeddings", "attention": "attention output", "logits": "logits"}
    place = {words: next(at for at, name in enumerate(names) if sign in name) for words, sign in signs.items()}
    place["chosen"] = len(names)  # the logits are the last stage of the network, which chooses nothing
    found = {choice.letter: [at for words, at in place.items() if words in choice.text] for choice in question.choices}
    return sorted(question.letters, key=lambda letter: found[letter][0])


@lru_cache(maxsize=4)
def _cache(model: ChatModel, text: str = PROMPT) -> KVCache:
    _, cache = model.next_token_logits(encode(text, model=model))
    return cast(KVCache, cache)


def what_the_cache_holds(question: Question, model: ChatModel) -> str:
    """Look at the cache after a pass: what is in it, for how many layers and tokens."""
    cache, layers = _cache(model), cast(LlamaModel, model).llama.layers
    kept = [layer[..., : cache.length, :] for layer in cache.memory.layers]
    numbers = all(isinstance(each, torch.Tensor) and each.is_floating_point() for each in kept)
    two_of_each = all(each.shape[0] == 2 and each.shape[3] == len(encode(PROMPT, model=model)) for each in kept)
    claims = {
        "texts": not numbers,
        "learnt": any(layer.attention_norm is part for layer in layers for part in kept),
        "answers": not numbers,
        "two vectors": numbers and two_of_each and len(kept) == len(layers),
    }
    return the_claim(question, claims)


def _numbers(question: Question) -> tuple[int, int]:
    prompt, reply = re.findall(r"\d+", question.text)[:2]
    return int(prompt), int(reply)


def tokens_read_with_a_cache(question: Question, model: ChatModel) -> int:
    """Count what the engine has a model read for such a reply."""
    return _read_by_the_engine(*_numbers(question))


@lru_cache(maxsize=1)
def _read_by_the_engine(prompt_tokens: int, reply_tokens: int) -> int:
    model = ScriptedModel("x" * (reply_tokens + 1))
    frame = len(encode(render([user("")], model=model), model=model))
    chat_completions([user("a" * (prompt_tokens - frame))], model, max_completion_tokens=reply_tokens)
    [read] = model.prompts
    return len(model.tokenizer.encode(read))


def tokens_read_without_a_cache(question: Question, model: ChatModel) -> int:
    """Let a model read everything again for each token, and count."""
    prompt_tokens, reply_tokens = _numbers(question)
    model = ScriptedModel("x" * reply_tokens)
    ids, read = [65] * prompt_tokens, 0
    for _ in range(reply_tokens):
        logits, _cache = model.next_token_logits(ids)
        read += len(ids)
        ids = [*ids, int(logits.argmax())]
    return read


@lru_cache(maxsize=1)
def _sizes(model: ChatModel, turns: int) -> dict[str, int]:
    own = copy.copy(cast(LlamaModel, model))
    own.prefixes = PrefixCache()
    history = [system(RULES), *EXAMPLES * turns, user("When do you open?")]
    usage = _reply(history, own).usage
    assert usage is not None and usage.prompt_tokens_details is not None
    ids = encode(render(history, model=own), model=own)
    logits, cache = own.next_token_logits(ids)
    return {
        "layers": len(own.llama.layers),
        "prompt_tokens": usage.prompt_tokens,
        "key-value cache": cache.length * kv_cache_size(1, model=own),
        "weights": sum(tensor.numel() for tensor in own.network.parameters()),
        "logits": len(logits),
        "first token": usage.prompt_tokens - (usage.prompt_tokens_details.cached_tokens or 0),
    }


@lru_cache(maxsize=1)
def _growing(model: ChatModel) -> frozenset[str]:
    short, long = _sizes(model, 1), _sizes(model, 3)
    return frozenset(name for name in short if long[name] > short[name])


def what_grows(question: Question, model: ChatModel) -> list[str]:
    """Measure a short and a long history."""
    return [choice.letter for choice in question.choices if any(name in choice.text for name in _growing(model))]


@lru_cache(maxsize=1)
def _reused(model: ChatModel) -> dict[str, int]:
    """Return, for each way to change a request, how many tokens the engine says it has reused."""
    before = [system(RULES), *EXAMPLES, user("When do you open?")]
    reused = {}
    for words in ("front", "oldest turn", "new question", "another order"):
        own = copy.copy(model)
        own.prefixes = PrefixCache()
        message = _reply(before, own).choices[0].message
        ways = {
            "front": [system(f"It is 09:41. {RULES}"), *before[1:]],
            "oldest turn": [before[0], *before[3:]],
            "new question": [*before, assistant(message.content or ""), user("Thanks!")],
            "another order": [before[0], *EXAMPLES[2:], *EXAMPLES[:2], before[-1]],
        }
        usage = _reply(ways[words], own).usage
        assert usage is not None and usage.prompt_tokens_details is not None
        reused[words] = usage.prompt_tokens_details.cached_tokens or 0
    return reused


def what_can_be_reused(question: Question, model: ChatModel) -> str:
    """Send each request behind the first, and read the usage."""
    reused = _reused(model)
    return the_claim(question, {words: tokens == max(reused.values()) for words, tokens in reused.items()})


@lru_cache(maxsize=1)
def _rows(model: ChatModel) -> tuple[int, int, int, int]:
    """Return the first token that the engine generates, and what three ways to read the logits say."""
    logits, _ = model.logits(encode(PROMPT, model=model))
    made = next(generate(PROMPT, model=model, temperature=0)).token_id
    first, last, mean = (int(row.argmax()) for row in (logits[0], logits[-1], logits.mean(dim=0)))
    return made, first, last, mean


def the_row_that_counts(question: Question, model: ChatModel) -> str:
    """Compare what each way to read the logits gives with the token that follows in fact."""
    token, first, last, mean = _rows(model)
    claims = {
        "first": first == token,
        "last": last == token,
        "average": mean == token,
        "any": first == last == mean,
    }
    return the_claim(question, claims)


def why_nothing_behind_a_change_is_reused(question: Question, model: ChatModel) -> str:
    """Replace the first token only, and compare the values of the words behind it, layer by layer."""
    other = "A" + PROMPT.removeprefix("The")
    ids, changed = encode(PROMPT, model=model), encode(other, model=model)
    assert ids[1:] == changed[1:] and len(ids) == len(changed)
    caches = [_cache(model, text).memory.layers for text in (PROMPT, other)]
    same = [
        torch.allclose(one[:, 0, :, 1 : len(ids)], two[:, 0, :, 1 : len(ids)], atol=1e-3)
        for one, two in zip(*caches, strict=True)
    ]
    claims = {
        "depends on all": same[0] and not any(same[1:]),
        "moved": len(ids) != len(changed),
        "name": not same[0],
        "could be": all(same),
    }
    return the_claim(question, claims)


def a_list_with_a_stable_beginning(messages: Any) -> str | None:
    """Render the list at two times of day, and see what of it both begin with."""
    assert fault_of(messages) is None
    model = ScriptedModel("Hi")
    prompts = [str(render(_at(clock, validate(messages)), model=model)) for clock in ("09:41", "17:03")]
    same = next(at for at in count() if prompts[0][at : at + 1] != prompts[1][at : at + 1] or at > len(prompts[0]))
    if prompts[0] == prompts[1]:
        return "facts-may-go"
    if RULES not in prompts[0][:same]:
        return "still-in-front"
    last = str(validate(messages)[-1]["content"])
    return None if last.endswith("When do you open?") else "question-may-go-first"


def _at(clock: str, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**message, "content": str(message["content"]).replace("09:41", clock)} for message in messages]


def reusable_tokens_are_counted(function: Callable[[Any, Any], Any]) -> str | None:
    """Compare the function with what the engine's own prefix cache reuses, one case for each way to get it wrong."""
    before = list(range(100, 120))
    cases = [
        ("all-or-nothing", [*before[:12], 1, 2, 3]),
        ("tokens-are-a-set", [*before[:9], *before[:5]]),
        ("equal-places-count", [*before[:10], 1, *before[11:]]),
    ]
    kept = PrefixCache()
    kept.keep(before, None, prompt_length=len(before), logits=torch.zeros(1), size=1)
    for name, now in cases:
        found = kept.find(now, fork=lambda cache, length: cache)
        assert found is not None
        if function(list(before), list(now)) != found.length:
            return name
    return None


def number_of_layers(fact: Fact, model: ChatModel) -> str:
    """Count the attention maps of a pass."""
    return str(len(_forward(model).attentions))


def field_of_reused_tokens(fact: Fact, model: ChatModel) -> str:
    """Ask the same twice, and find the number in the usage that went up."""
    own = copy.copy(model)
    own.prefixes = PrefixCache()
    first, second = (_reply([system(RULES), user("Hi")], own).usage for _ in range(2))
    assert first is not None and second is not None
    before = dict(first.prompt_tokens_details or ())
    [field] = [name for name, value in second.prompt_tokens_details or () if (value or 0) > (before[name] or 0)]
    return f"usage.prompt_tokens_details.{field}"


def number_of_scores(fact: Fact, model: ChatModel) -> str:
    """Count the logits."""
    logits, _ = model.next_token_logits(encode(PROMPT, model=model))
    return f"{len(logits):,}"


def bytes_of_a_token(fact: Fact, model: ChatModel) -> str:
    """Compare the cache of one token more and one less."""
    return f"{kv_cache_size(101, model=model) - kv_cache_size(100, model=model):,}"
