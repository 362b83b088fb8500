"""Context: what of a history still fits into the model's window.

In: messages, a limit in tokens, the room to reserve for the reply, a strategy. Out: `Fitted`, the messages that fit,
with what went, why, and the counts before and after. Knows nothing of HTTP or widgets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from chatlab.checks import check_integer, kind_of
from chatlab.engines import Engine
from chatlab.errors import BadRequestError, ContextLengthError
from chatlab.fitted import Dropped, Fitted
from chatlab.messages import Message, validate
from chatlab.remote import engine_of, vocabulary_of
from chatlab.summaries import summarise, summary_turn
from chatlab.tokens import count_tokens

__all__ = ["STRATEGIES", "Dropped", "Fitted", "Strategy", "check_context", "fit"]

STRATEGIES = ("drop-oldest", "keep-last", "summarise")
SUMMARY_TOKENS = 96  # two sentences, with room to spare
OLDEST = "among the oldest, the limit was reached"
SUMMARISED = "summarised, the limit was reached"
TOO_LONG = "too long even to be read for the summary"

# A strategy of one's own: from the messages, and a function that tells whether messages fit, to messages that do.
Strategy: TypeAlias = str | Callable[[list[Message], Callable[[Sequence[Message]], bool]], Sequence[Message]]


def fit(
    messages: Sequence[Message],
    token_limit: int | None = None,
    *,
    reserve: int = 0,
    strategy: Strategy = "drop-oldest",
    keep_last: int | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    model: Engine | str | Path | None = None,
) -> Fitted:
    """Return the messages that fit into `token_limit` tokens (None: the model's own limit) beside `reserve` more.

    Counted is the whole prompt as the template renders it, which for a model on a server can only be estimated;
    `reserve` is the room for the reply. System messages and the last user message stay, whatever the strategy; a user
    message and its reply go together. The strategies:

    - `"drop-oldest"`: turns go, the oldest first, until the rest fits.
    - `"keep-last"`: the last `keep_last` turns stay, the one being asked included; fewer if they do not fit.
    - `"summarise"`: as many go as must, and one turn takes their place: the question for a summary, and the model's
      own. `interrupted` is asked before each token of it, and stops it when it says yes.
    - a function of the messages and of `fits(messages) -> bool`, which returns messages that fit.

    Raises `ContextLengthError` when not even what must stay fits, or a function's messages do not; `BadRequestError`
    for a value out of range; `ReplyStoppedError` when the summary was interrupted.

    >>> from chatlab.testing import ScriptedModel
    >>> messages = [{"role": role, "content": "Hello!"} for role in ("user", "assistant", "user")]
    >>> fit(messages, 50, reserve=10, model=ScriptedModel(""))
    Fitted: 1 of 3 messages; 25 of 58 tokens, 10 reserved for the reply, 15 free, limit 50
      dropped messages[0] (user): among the oldest, the limit was reached
      dropped messages[1] (assistant): among the oldest, the limit was reached
    """
    model = engine_of(model)
    checked = validate(messages)
    check_context(
        token_limit=token_limit, reserve=reserve, strategy=strategy, keep_last=keep_last, maximum=model.context_length
    )
    limit = model.context_length if token_limit is None else token_limit
    if limit is None:
        raise BadRequestError(
            f"{model!r} does not tell how many tokens it can hold. Give token_limit=..., or "
            "chatlab.connect(..., context_length=...).",
            param="token_limit",
        )
    budget = _Budget(model, limit, reserve)
    if callable(strategy):
        summary = None
        kept, dropped = _by_function(checked, budget, strategy)
    else:
        kept, dropped, summary = _by_turns(checked, budget, strategy, keep_last, interrupted)
    return Fitted(
        kept,
        dropped=dropped,
        tokens_before=budget.count(checked),
        tokens_after=budget.count(kept),
        token_limit=limit,
        reserve=reserve,
        summary=summary,
        estimated_with=budget.vocabulary if isinstance(budget.vocabulary, str) else None,
    )


def check_context(
    *,
    token_limit: object = None,
    reserve: object = 0,
    strategy: object = "drop-oldest",
    keep_last: object = None,
    maximum: int | None = None,
) -> None:
    """Raise `BadRequestError` for a setting that `fit` cannot use; `maximum` is the model's limit, where known."""
    if token_limit is not None:
        check_integer("token_limit", token_limit, minimum=1, maximum=maximum)
    check_integer("reserve", reserve, minimum=0)
    if not callable(strategy) and strategy not in STRATEGIES:
        raise BadRequestError(
            f"strategy must be {', '.join(map(repr, STRATEGIES))} or a function of (messages, fits), not "
            f"{kind_of(strategy)}.",
            param="strategy",
            code="invalid_value",
        )
    if strategy == "keep-last":
        if keep_last is None:
            raise BadRequestError(
                "strategy 'keep-last' needs the number of turns to keep: keep_last=4.", param="keep_last"
            )
        check_integer("keep_last", keep_last, minimum=1)
    elif keep_last is not None:
        raise BadRequestError(
            f"keep_last={keep_last!r} is for strategy 'keep-last', but the strategy is {strategy!r}. Leave it out, or "
            "set strategy='keep-last'.",
            param="keep_last",
        )


class _Budget:
    """A limit, and whether messages keep to it."""

    def __init__(self, model: Engine, limit: int, reserve: int) -> None:
        self.model, self.limit, self.reserve = model, limit, reserve
        self.vocabulary = vocabulary_of(model)

    def count(self, messages: Sequence[Message]) -> int:
        return count_tokens(messages, encoding=self.vocabulary)

    def room(self, messages: Sequence[Message]) -> int:
        """Return how many tokens are free beside the messages and the reserve; negative when they do not fit."""
        return self.limit - self.reserve - self.count(messages)

    def fits(self, messages: Sequence[Message]) -> bool:
        return self.room(messages) >= 0


def _by_turns(
    messages: list[Message],
    budget: _Budget,
    strategy: str,
    keep_last: int | None,
    interrupted: Callable[[], bool],
) -> tuple[list[Message], list[Dropped], str | None]:
    """Drop whole turns from the front until the rest fits, and put a summary in their place if that is wanted."""
    turns = _turns(messages)
    beyond = max(0, len(turns) - keep_last) if keep_last else 0

    def without(number: int) -> list[Message]:
        gone = {index for turn in turns[:number] for index in turn}
        return [message for index, message in enumerate(messages) if index not in gone]

    def first_that_fits(extra: Callable[[list[Message]], int]) -> int | None:
        """Return the least number of turns to drop so that `extra` says there is room, None if all are too few."""
        numbers = range(beyond, len(turns) if turns else 1)
        # Fewer messages are fewer tokens, so halving finds it.
        place = bisect_left(numbers, True, key=lambda number: extra(without(number)) >= 0)
        return numbers[place] if place < len(numbers) else None

    number = first_that_fits(budget.room)
    if number is None:
        _raise_too_long(without(max(0, len(turns) - 1)), budget)
    summary, unread = None, 0
    if strategy == "summarise" and number:
        more = first_that_fits(lambda kept: budget.room(_with_summary(kept, "")) - SUMMARY_TOKENS) or len(turns) - 1
        gone = [messages[index] for turn in turns[:more] for index in turn]
        summary, unread = _summary_that_fits(gone, without(more), budget, interrupted)
        number = number if summary is None else more
    kept = without(number) if summary is None else _with_summary(without(number), summary)
    reasons = {index: OLDEST for turn in turns[:number] for index in turn}
    reasons |= {index: f"older than the last {keep_last} turns" for turn in turns[:beyond] for index in turn}
    if summary is not None:
        reasons = {index: TOO_LONG if place < unread else SUMMARISED for place, index in enumerate(reasons)}
    return kept, [Dropped(index, messages[index], reason) for index, reason in sorted(reasons.items())], summary


def _turns(messages: list[Message]) -> list[list[int]]:
    """Return the indices of the messages turn by turn: a user message and what follows it, system messages aside."""
    turns: list[list[int]] = []
    for index, message in enumerate(messages):
        if message["role"] not in ("system", "developer"):
            if message["role"] == "user" or not turns:
                turns.append([])
            turns[-1].append(index)
    return turns


def _with_summary(messages: list[Message], summary: str) -> list[Message]:
    """Return the messages with a summary where the turns it stands for were: before the first turn that is kept."""
    place = next((turn[0] for turn in _turns(messages)), len(messages))
    return [*messages[:place], *summary_turn(summary), *messages[place:]]


def _summary_that_fits(
    gone: list[Message], kept: list[Message], budget: _Budget, interrupted: Callable[[], bool]
) -> tuple[str | None, int]:
    """Return the model's summary, shortened word by word until it fits (None where there is no room for one).

    With it comes how many of the messages, the oldest, were too long to be read for it.
    """
    room = min(SUMMARY_TOKENS, budget.room(_with_summary(kept, "")))
    if room <= 0:
        return None, 0
    text, unread = summarise(gone, max_completion_tokens=room, interrupted=interrupted, model=budget.model)
    while text and not budget.fits(_with_summary(kept, text)):
        text = text.rpartition(" ")[0]
    return text or None, unread


def _by_function(
    messages: list[Message],
    budget: _Budget,
    strategy: Callable[[list[Message], Callable[[Sequence[Message]], bool]], Sequence[Message]],
) -> tuple[list[Message], list[Dropped]]:
    """Return what a function keeps, checked, and what is missing from it; a changed message counts as missing."""
    copies = [dict(message) for message in messages]
    returned = strategy(list(copies), budget.fits)
    kept = validate(returned)
    if not budget.fits(kept):
        raise ContextLengthError(
            f"The strategy returned messages of {budget.count(kept)} tokens; with {budget.reserve} reserved for the "
            f"reply that is over the limit of {budget.limit}. Ask fits(messages) before returning them.",
            param="strategy",
        )
    same = {id(message) for message in returned}  # tells equal messages apart, where the function passes them on
    missing = [index for index, copied in enumerate(copies) if id(copied) not in same or copied != messages[index]]
    new = [message for message, given in zip(kept, returned, strict=True) if all(given is not each for each in copies)]
    dropped = []
    for index in missing:
        if messages[index] in new:
            new.remove(messages[index])
        else:
            dropped.append(Dropped(index, messages[index], "left out by the strategy"))
    return kept, dropped


def _raise_too_long(least: list[Message], budget: _Budget) -> NoReturn:
    raise ContextLengthError(
        f"{budget.model.name} can hold {budget.limit} tokens here, but the system message and the last turn alone "
        f"have {budget.count(least)}, and {budget.reserve} are reserved for the reply. Shorten them, reserve less, or "
        "raise the limit.",
        param="messages",
    )
