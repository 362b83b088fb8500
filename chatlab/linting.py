"""Lint: what is wrong, or probably not meant, in a list of messages.

In: messages as a learner wrote them, and, if wanted, the model they are for. Out: findings, all at once, each with a
rule name, a place, a reason and a mend. An error is what a server would refuse; a warning is allowed, yet seldom what
one wants. Knows nothing of replies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer
from chatlab.display import count_of
from chatlab.errors import BadRequestError, ChatlabError
from chatlab.findings import Finding, Findings
from chatlab.messages import system, user, validate
from chatlab.model import resolve
from chatlab.readings import Reading, read, read_whole, replaced
from chatlab.spans import any_of
from chatlab.templating import render
from chatlab.tokens import encode

__all__ = ["Finding", "Findings", "lint"]

DEFAULT_SYSTEM = "You are a helpful assistant."
NEAR = 0.9  # of the token limit

# What the best-known models' templates use. <s> and </s> are left out: they are HTML as well.
COMMON_CONTROL_TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
)

# A question that means little without an earlier turn. A short list of plain cases: it misses most and seldom errs.
REFERS_BACK = re.compile(
    r"\s*(and|but) (of|in|what|how|who|where|when|why)\b.*\?"
    r"|\s*(tell me more|go on|continue|why)\s*[.?!]*\s*$"
    r"|.*\b(what( is|'s|’s) my name|as (i|you) said|(i|you) (just )?(said|told (you|me))"
    r"|what did (i|you) say|do you remember)\b",
    re.IGNORECASE | re.DOTALL,
)


def lint(messages: object, *, model: ChatModel | str | Path | None = None, token_limit: int | None = None) -> Findings:
    """Return the findings on these messages, errors first; an empty list means nothing to mend. Never raises for them.

    With a `model`, its own control tokens are looked for, its template is tried (and what it adds is quoted), and the
    prompt's tokens are counted against `token_limit`, or else the model's context length. Without one nothing is
    loaded, unless a `token_limit` is given, which the default model then counts for.

    >>> lint([{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}])
    warning at messages[1] (system-not-first): The system message is not first, and where it stands changes what the \
model does. Move it to the top of the list.
    warning at messages[1] (last-not-user): The last message is the system's, so the model has no question to reply \
to. End the list with a user message.
    >>> lint({"user": "Hi"}).fix()
    [{'role': 'system', 'content': 'You are a helpful assistant.'}, {'role': 'user', 'content': 'Hi'}]
    """
    if token_limit is not None:
        token_limit = check_integer("token_limit", token_limit, minimum=1)
    chosen = resolve(model) if model is not None or token_limit is not None else None
    control_tokens = COMMON_CONTROL_TOKENS if chosen is None else chosen.control_tokens
    findings = _look(messages, control_tokens)
    if chosen is not None:
        findings = _look_with_model(findings, messages, chosen, token_limit or chosen.context_length)
    findings.sort(key=lambda finding: finding.severity)  # errors first
    return Findings(findings, fix=partial(_mended, messages, control_tokens))


def _mended(messages: Any, control_tokens: Sequence[str]) -> list[Any]:
    """Apply the mends, one rule after another, until none is left that can be applied."""
    while True:
        fixable = [finding for finding in _look(messages, control_tokens) if finding.fixable]
        changes = [finding._change for finding in fixable if finding.rule == fixable[0].rule]
        if not changes:
            break
        for change in reversed(list(dict.fromkeys(changes))):  # from the end, so that the places before stay right
            if change:
                messages = change(messages)
    items, _ = read_whole(messages)
    return [dict(item) if isinstance(item, dict) else item for item in items or []]


def _look(messages: object, control_tokens: Sequence[str]) -> list[Finding]:
    """Return the findings that need no model, errors first."""
    items, finding = read_whole(messages)
    if finding or not items:
        return [finding] if finding else []
    readings: list[Reading] = []
    findings: list[Finding] = []
    called = False
    for index, item in enumerate(items):
        before = readings[-1].role if readings else None
        reading, wrong = read(item, index, before=before, last=index == len(items) - 1)
        readings.append(reading)
        findings += wrong
        if reading.role != "tool":
            called = reading.role == "assistant" and reading.calls
        elif not called:
            reason = "A tool's message must answer a tool call of an assistant message before it."
            mend = "Put the assistant message with its tool_calls before it."
            findings.append(Finding("tool-without-call", "error", f"messages[{index}]", reason, mend))
    for rule in (_system_rules, _turn_rules, _content_rules):
        findings += rule(readings, control_tokens)
    return findings + list(_last_rules(readings))


def _role(reading: Reading) -> str | None:
    return "system" if reading.role == "developer" else reading.role


def _system_rules(readings: list[Reading], _: Sequence[str]) -> Iterator[Finding]:
    systems = [reading for reading in readings if _role(reading) == "system"]
    if not systems and any(reading.role for reading in readings):
        yield Finding(
            "no-system",
            "warning",
            "messages",
            "There is no system message, so the model's template may put its own default in.",
            "Put a system message first.",
            partial(_with_system, text=DEFAULT_SYSTEM),
        )
    gather = partial(_gathered, indices=[reading.index for reading in systems])
    change = gather if all(reading.ok for reading in systems) else None
    for number, reading in enumerate(systems):
        if number:
            reason, mend = "There are several system messages.", "Join them into one, first in the list."
            yield Finding("several-systems", "warning", f"messages[{reading.index}]", reason, mend, change)
        elif reading.index:
            reason = "The system message is not first, and where it stands changes what the model does."
            mend = "Move it to the top of the list."
            yield Finding("system-not-first", "warning", f"messages[{reading.index}]", reason, mend, change)


def _turn_rules(readings: list[Reading], _: Sequence[str]) -> Iterator[Finding]:
    for before, reading in pairwise(readings):
        if reading.role == before.role and reading.role in ("user", "assistant"):
            joinable = before.ok and reading.ok and not before.calls and not reading.calls
            yield Finding(
                "same-role-twice",
                "warning",
                f"messages[{reading.index}]",
                f"Two {reading.role} messages in a row: was one between them lost?",
                "Alternate user and assistant, or join the two.",
                partial(_joined, index=reading.index) if joinable else None,
            )
    turns = [reading for reading in readings if _role(reading) != "system"]
    place = f"messages[{turns[0].index}]" if turns else ""
    mend = "Send the earlier turns too: the model keeps nothing between requests."
    if turns and turns[0].role == "assistant":
        reason = "The first turn is a reply, and what it replies to is missing: was history dropped?"
        yield Finding("history-dropped", "warning", place, reason, mend)
    elif len(turns) == 1 and turns[0].role == "user" and REFERS_BACK.match(turns[0].content or ""):
        reason = "This seems to refer to an earlier turn, and there is none: was history dropped?"
        yield Finding("history-dropped", "warning", place, reason, mend)


def _content_rules(readings: list[Reading], control_tokens: Sequence[str]) -> Iterator[Finding]:
    said = {_role(reading) for reading in readings if (reading.content or "").strip()}
    for reading in readings:
        place = f"messages[{reading.index}]"
        if reading.content is not None and not reading.content.strip() and not reading.calls:
            # A tool's answer belongs to its call, and of the questions one must remain.
            droppable = reading.ok and ("user" in said if reading.role == "user" else said and reading.role != "tool")
            change = partial(replaced, index=reading.index, by=[]) if droppable else None
            yield Finding("blank-content", "warning", place, "The message says nothing.", "Fill it or drop it.", change)
        found = list(dict.fromkeys(any_of(control_tokens).findall(reading.content or "")))
        if found:
            yield Finding(
                "control-token",
                "warning",
                place,
                f"The text holds {', '.join(found)}, which can forge a turn where it is read as a control token.",
                "Take it out. chatlab.render reads it as ordinary text; other services may not.",
                partial(_without, index=reading.index, tokens=control_tokens) if reading.ok else None,
            )


def _last_rules(readings: list[Reading]) -> Iterator[Finding]:
    last = readings[-1]
    place = f"messages[{last.index}]"
    if last.role is not None and last.role not in ("user", "tool"):
        reason = f"The last message is the {_role(last)}'s, so the model has no question to reply to."
        yield Finding("last-not-user", "warning", place, reason, "End the list with a user message.")
    text = last.content or ""
    if last.role == "assistant" and text.strip() and text != text.rstrip():
        reason = "The reply's beginning ends in white space, and most tokens bring their own space before them."
        change = partial(_stripped, index=last.index) if last.ok else None
        yield Finding("trailing-space-in-prefill", "warning", place, reason, "Take the white space off.", change)


def _look_with_model(findings: list[Finding], messages: object, model: ChatModel, token_limit: int) -> list[Finding]:
    """Return the findings with what only the model's template and tokenizer can tell."""
    try:
        checked = validate(messages)
    except BadRequestError:  # already found
        return findings
    try:
        prompt = render(checked, model=model)
    except ChatlabError as error:
        mend = "Change the messages so that this template takes them, or choose another model."
        return [*findings, Finding("template-refuses", "error", "messages", str(error), mend)]
    added = " ".join(str(prompt[span.start : span.end]) for span in prompt.spans if span.kind == "injected")
    tokens = len(encode(prompt, model=model))
    return [_with_added(finding, added, model) for finding in findings] + list(_token_rules(tokens, token_limit))


def _with_added(finding: Finding, added: str, model: ChatModel) -> Finding:
    """Return the finding with the text that this model's template adds."""
    does = f"the template of {model.name} adds {f'one of its own: {added!r}' if added else 'none'}."
    if finding.rule == "no-system":
        reason = f"There is no system message, and {does}"
    elif finding.rule == "system-not-first" and added:
        reason = f"{finding.reason} As it is not first, {does}"
    else:
        return finding
    return Finding(finding.rule, finding.severity, finding.place, reason, finding.mend, finding._change)


def _token_rules(tokens: int, token_limit: int) -> Iterator[Finding]:
    reason = f"The prompt has {count_of(tokens, 'token')} and the limit is {token_limit}"
    mend = "Drop old turns, shorten the messages, or raise the limit."
    if tokens >= token_limit:
        reason = f"{reason}: {'it does not fit' if tokens > token_limit else 'a reply has no room'}."
        yield Finding("over-token-limit", "error", "messages", reason, mend)
    elif tokens >= NEAR * token_limit:
        reason = f"{reason}: a reply has room for {count_of(token_limit - tokens, 'token')} only."
        yield Finding("near-token-limit", "warning", "messages", reason, mend)


def _with_system(messages: Sequence[Any], text: str) -> list[Any]:
    return [system(text), *messages]


def _gathered(messages: Sequence[Any], indices: list[int]) -> list[Any]:
    systems = validate([messages[index] for index in indices])
    whole = {**systems[0], "content": "\n\n".join(message["content"] for message in systems)}
    return [whole, *(message for index, message in enumerate(messages) if index not in indices)]


def _joined(messages: Sequence[Any], index: int) -> list[Any]:
    pair = validate([messages[index - 1], messages[index]])
    whole = {**pair[1], **pair[0], "content": "\n\n".join(message["content"] for message in pair)}
    return replaced(replaced(messages, index, []), index - 1, [whole])


def _without(messages: Sequence[Any], index: int, tokens: Sequence[str]) -> list[Any]:
    text = any_of(tokens).sub("", validate([user(messages[index]["content"])])[0]["content"])
    return replaced(messages, index, [{**messages[index], "content": text}])


def _stripped(messages: Sequence[Any], index: int) -> list[Any]:
    return replaced(
        messages, index, [{**messages[index], "content": validate([messages[index]])[0]["content"].rstrip()}]
    )
