r"""Constraints: a reply that cannot leave its grammar.

In: a grammar in llguidance's dialect of Lark, and a model. Out: logits [vocab_size] in which every token that would
break the grammar is masked, token after token; the reply can end exactly where the grammar is complete. Knows nothing
of requests, JSON schemas or tools.

The idea is that of "Efficient Guided Generation for Large Language Models" (Willard and Louf, 2023); the work is done
by the library llguidance.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import llguidance.hf
import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from chatlab.chat_model import ChatModel
from chatlab.errors import BadRequestError
from chatlab.sampling import MASKED

__all__ = ["Constraint", "grammar_fault", "single_token"]

_tokenizers: WeakKeyDictionary[PreTrainedTokenizerFast, dict[tuple[int, Sequence[int]], LLTokenizer]]
_tokenizers = WeakKeyDictionary()
_building = threading.Lock()


class Constraint:
    r"""What one reply may still be: it is told each token and masks what may not come next.

    `param` is the parameter to blame. Raises `BadRequestError` for a grammar that is none, that allows no reply at
    all, or that is too complex, and where the model's tokenizer cannot be read.

    >>> from chatlab.testing import ScriptedModel
    >>> constraint = Constraint('start: "yes" | "no"', ScriptedModel(""), param="response_format")
    >>> logits = torch.zeros(258)
    >>> [chr(token_id) for token_id in torch.nonzero(constraint.apply(logits) == 0).flatten()]
    ['n', 'y']
    >>> for byte in b"no":
    ...     constraint.accept(byte)
    >>> torch.nonzero(constraint.apply(logits) == 0).flatten().tolist()  # <|im_end|> is 257
    [257]
    """

    def __init__(self, grammar: str, model: ChatModel, *, param: str) -> None:
        self._param = param
        limits = LLParserLimits(verbose_errors=False)
        self._matcher = LLMatcher(_tokenizer(model, param), grammar, log_level=0, limits=limits)
        self._allowed(model.vocab_size)

    def apply(self, logits: Tensor) -> Tensor:
        """Return the logits [vocab_size] with −infinity for every token that may not come next."""
        return logits.masked_fill(~self._allowed(len(logits)), MASKED)

    def accept(self, token_id: int) -> None:
        """Go on by the token that was chosen."""
        self._matcher.consume_token(token_id)

    def _allowed(self, vocab_size: int) -> Tensor:
        """Return which tokens may come next: bool [vocab_size]."""
        bits = b"" if self._matcher.is_error() else self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise _refusal(_first_line(self._matcher.get_error()), self._param)
        allowed = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=vocab_size, bitorder="little")
        if not allowed.any():
            raise _refusal("no token of the model's vocabulary can come next", self._param)
        return torch.from_numpy(allowed).bool()  # [vocab_size]


def _refusal(reason: str, param: str) -> BadRequestError:
    return BadRequestError(
        f"No reply can be held to this {param}: {reason}. Simplify the schema.", param=param, code="invalid_value"
    )


def grammar_fault(grammar: str) -> str:
    """Return why the grammar cannot be used; nothing where it can.

    >>> grammar_fault('start: "yes"'), grammar_fault("start: /(/") != ""
    ('', True)
    """
    return _first_line(LLMatcher.validate_grammar(grammar, limits=LLParserLimits(verbose_errors=False)))


def single_token(text: str, model: ChatModel) -> int | None:
    """Return the id of the one added token that is this text; None where the model has no such token.

    A grammar has to name such a token (as in `<[7]>`), since it is not spelled with characters.

    >>> from chatlab.testing import ScriptedModel
    >>> single_token("<|im_end|>", ScriptedModel("")), single_token("<tool_call>", ScriptedModel(""))
    (257, None)
    """
    added = model.tokenizer.added_tokens_decoder.items()
    return next((token_id for token_id, token in added if token.content == text), None)


def _tokenizer(model: ChatModel, param: str) -> LLTokenizer:
    """Return the model's vocabulary as llguidance wants it: slow to build, so kept as long as the tokenizer is."""
    size = max(model.vocab_size, len(model.tokenizer))  # a model's logits are often longer than its vocabulary
    key = (size, model.end_token_ids)
    with _building:
        built = _tokenizers.setdefault(model.tokenizer, {})
        if key not in built:
            try:
                built[key] = llguidance.hf.from_tokenizer(
                    model.tokenizer, n_vocab=size, eos_token=list(model.end_token_ids)
                )
            except Exception as error:  # it raises whatever it stumbles over
                raise BadRequestError(
                    f"{param} cannot be honoured with {model.name}: its tokenizer cannot be held to a grammar "
                    f"({_first_line(str(error))}). Leave it out, or load another model.",
                    param=param,
                    code="unsupported_value",
                ) from error
        return built[key]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300].rstrip(".")
