"""Rooms: one turn of a chat as seen from each room it passes, with one token marked in all of them.

In: a turn, and the place of one token among all of its tokens. Out: HTML, room by room; all text is escaped. Knows
nothing of widgets.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from typing import TypeAlias

from chatlab.display import escape
from chatlab.promptview import parts, prompt_html
from chatlab.scoring import Score
from chatlab.steps import Step, percent, probability_cell, token_name
from chatlab.turn import Turn

__all__ = ["ROOMS", "facts_html", "origin", "others", "token_title"]

Room: TypeAlias = Callable[[Turn, int], str]

_ORIGINS = {
    "content": "it comes from the text of {owner}",
    "header": "the chat template writes it around {owner}",
    "control": "a control token, which the chat template writes at the edge of {owner}",
    "injected": "the chat template adds it: no message holds it",
    "generation": "the chat template writes it to begin the reply",
}


def token_title(turn: Turn, picked: int) -> str:
    """Return which token it is: its place, its text with white space visible, its id."""
    token_id, before = turn.tokens[picked].id, len(turn.prompt_tokens)
    where = f"prompt token {picked}" if picked < before else f"reply token {picked - before}"
    return f"{where}, “{token_name(token_id, model=turn.model)}”, id {token_id}"


def origin(turn: Turn, picked: int) -> str:
    """Return where a token came from, in words.

    >>> from chatlab.testing import ScriptedModel
    >>> turn = Turn([{"role": "user", "content": "Hi"}], model=ScriptedModel("Hey"))
    >>> origin(turn, 0), origin(turn, 6)
    ('a control token, which the chat template writes at the edge of messages[0] (user)', 'it comes from the text of \
messages[0] (user)')
    """
    number = picked - len(turn.prompt_tokens)
    if number >= 0:
        drawn = "the model's likeliest" if turn.request.sampling.temperature == 0 else "drawn by the dice of the seed"
        return "exchanged by hand" if number in turn.forced else f"the model made it, {drawn}"
    spans = turn.prompt.spans
    span = spans[bisect_right([each.start for each in spans], turn.tokens[picked].start) - 1]
    owner = "no message" if span.message is None else f"messages[{span.message}] ({turn.prompt.roles[span.message]})"
    if span.kind == "control" and span.message is None:
        return "a control token, which the chat template writes"
    return _ORIGINS[span.kind].format(owner=owner)


def facts_html(turn: Turn, picked: int) -> str:
    """Return what is known of one token: its origin, its probability, its alternatives as bars, the text so far."""
    facts = [f"<div>Picked: <b>{escape(token_title(turn, picked))}</b>: {escape(origin(turn, picked))}.</div>"]
    step = _step(turn, picked)
    if step is None:
        facts.append(_given_html(turn, picked))
        return "".join(facts)
    facts.append(
        f"<div>{_chance(step)}, {step.milliseconds:.0f} ms.</div>{_alternatives_html(turn, step, 'in the reply')}"
    )
    before = turn.text[: step.offset]
    facts.append(
        f'<div>Text so far: <span class="chatlab-text">{escape(before)}{_mark(step.text) if step.text else ""}</span>'
        "</div>"
    )
    return "".join(facts)


def others(turn: Turn, picked: int) -> list[tuple[str, int]]:
    """Return what could take the place of a token of the reply: names with their probability, and ids."""
    step = _step(turn, picked)
    return [
        (f"{token_name(token_id, model=turn.model)} {percent(probability).strip()}", token_id)
        for token_id, probability in (step.alternatives if step else {}).items()
        if step and token_id != step.token_id
    ]


def messages_room(turn: Turn, picked: int) -> str:
    """Return the messages as JSON, and the reply as the message that the next request would send along."""
    lines = [
        f"  {_message_json(message['role'], message['content'], _content_place(turn, picked, index))}"
        for index, message in enumerate(turn.messages)
    ]
    sent = '<div class="chatlab-prompt">[\n' + ",\n".join(lines) + "\n]</div>"
    if not turn.steps:
        return sent
    reply = _message_json("assistant", turn.text, _reply_place(turn, picked))
    return (
        f'{sent}<div class="chatlab-note">The reply so far: the next request would send it along as one more message.'
        f'</div><div class="chatlab-prompt">  {reply}</div>'
    )


def prompt_room(turn: Turn, picked: int) -> str:
    """Return the prompt as the template renders it, and the reply after it: one text for the model."""
    token = turn.tokens[picked]
    prompt = prompt_html(
        turn.prompt,
        parts(turn.prompt.spans, turn.prompt.roles),
        forged=turn.prompt.forged,
        picked=(token.start, token.end) if picked < len(turn.prompt_tokens) else None,
    )
    place = _reply_place(turn, picked)
    reply = _marked(turn.text, place, escape) if turn.steps else '<span class="chatlab-note">nothing yet</span>'
    return (
        f'<div class="chatlab-prompt">{prompt}<div class="chatlab-message assistant"><div class="chatlab-note">the '
        f"reply so far</div>{reply}</div></div>"
    )


def tokens_room(turn: Turn, picked: int) -> str:
    """Return all tokens as framed pieces with their ids: what the model really reads."""
    return turn.tokens.pieces_html(picked=picked)


def probabilities_room(turn: Turn, picked: int) -> str:
    """Return the steps of the reply as a table: how probable each token was, and how open its choice."""
    if not turn.steps:
        return _nothing_yet("probabilities")
    rows = []
    for number, step in enumerate(turn.steps):
        here = number == picked - len(turn.prompt_tokens)
        remarks = [word for word, is_so in [("picked", here), ("exchanged", number in turn.forced)] if is_so]
        rows.append(
            f'<tr{_picked_class(here)}><th scope="row">{number} <code>{_name(turn, step)}</code></th>'
            f"{probability_cell(step.probability)}<td>{step.entropy:.2f}</td><td>{', '.join(remarks)}</td></tr>"
        )
    heads = _heads("reply token", "probability", "entropy in bits", "")
    return f'<table class="chatlab-table chatlab-bars"><thead>{heads}</thead><tbody>{"".join(rows)}</tbody></table>'


def chunks_room(turn: Turn, picked: int) -> str:
    """Return the events that a stream of this reply sends, each beside the token that sends it."""
    if not turn.steps:
        return _nothing_yet("chunks")
    rows, here = [], picked - len(turn.prompt_tokens)
    sendings = turn.sendings
    for index, (number, chunk) in enumerate(sendings):
        who = ("opening" if index == 0 else "usage") if number is None else f"reply token {number}"
        if number is not None:
            who += f" {_name(turn, turn.steps[number])}"
        event = f"data: {chunk.model_dump_json(exclude_unset=True)}"
        new = chunk.choices[0].delta.model_dump_json(exclude_unset=True) if chunk.choices else "\0"
        before, found, after = event.partition(new)
        picked_word = "picked: " if number == here else ""
        rows.append(
            f'<tr{_picked_class(number == here)}><th scope="row">{picked_word}{who}</th>'
            f'<td class="chatlab-event">{escape(before)}<b>{escape(found)}</b>{escape(after)}</td></tr>'
        )
    if turn.complete:
        rows.append('<tr><th scope="row">end</th><td>data: [DONE]</td></tr>')
    note = ""
    if 0 <= here < len(turn.steps) and here not in [number for number, _ in sendings]:
        note = (
            '<div class="chatlab-note">The picked token sends no chunk: it is a part of a character, which goes out '
            "once it is whole.</div>"
        )
    heads = _heads("who sends it", "chat.completion.chunk event")
    return f'{note}<table class="chatlab-words"><thead>{heads}</thead><tbody>{"".join(rows)}</tbody></table>'


def response_room(turn: Turn, picked: int) -> str:
    """Return the chat.completion that all the chunks add up to, as JSON."""
    response = turn.response
    if response is None:
        return (
            '<div class="chatlab-note">There is no response yet: without streaming it is sent when the reply is '
            "complete. Press Run, or Step until the reply ends.</div>"
        )
    shown = response.model_dump(exclude_unset=True)
    shown["choices"][0]["message"]["content"] = "\0"  # no text of a reply can look like this
    before, after = json.dumps(shown, indent=2, ensure_ascii=False).split(json.dumps("\0"))
    content = _marked(turn.text, _reply_place(turn, picked), _json_piece)
    return f'<div class="chatlab-prompt">{escape(before)}"{content}"{escape(after)}</div>'


ROOMS: dict[str, Room] = {
    "Messages": messages_room,
    "Prompt": prompt_room,
    "Tokens": tokens_room,
    "Probabilities": probabilities_room,
    "Chunks": chunks_room,
    "Response": response_room,
}


def _step(turn: Turn, picked: int) -> Step | None:
    """Return the step that made the token; None for a token of the prompt."""
    number = picked - len(turn.prompt_tokens)
    return turn.steps[number] if 0 <= number < len(turn.steps) else None


def _given_html(turn: Turn, picked: int) -> str:
    """Return how probable the model finds a token that it did not choose, as far as that is known."""
    if turn.prompt_scores is None:
        return "<div>It was given, not chosen. Pick a token of the prompt to see how probable the model finds it.</div>"
    score = turn.prompt_scores[picked]
    if score is None:
        return "<div>It was given, not chosen. Nothing stands before it, so the model expects nothing yet.</div>"
    return (
        f"<div>It was given, not chosen. {_chance(score)}, after all that stands before it.</div>"
        f"{_alternatives_html(turn, score, 'in the prompt')}"
    )


def _chance(choice: Step | Score) -> str:
    return (
        f"Probability {percent(choice.probability).strip()}, entropy {choice.entropy:.2f} bits (0: the model is sure, "
        "1: as open as a coin)"
    )


def _alternatives_html(turn: Turn, step: Step | Score, where: str) -> str:
    """Return what else could have stood there, each with a bar as long as it was probable."""
    alternatives = {**step.alternatives, step.token_id: step.probability}  # the dice may take one that is unlikely
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(token_name(token_id, model=turn.model))}</code></th><td>{token_id}</td>'
        f"{probability_cell(probability)}<td>{where if token_id == step.token_id else ''}</td></tr>"
        for token_id, probability in alternatives.items()
    )
    heads = _heads("likeliest", "id", "probability", "")
    return f'<table class="chatlab-table chatlab-bars"><thead>{heads}</thead><tbody>{rows}</tbody></table>'


def _content_place(turn: Turn, picked: int, index: int) -> tuple[int, int] | None:
    """Return which characters of a message's own text the picked token covers, None where it covers none."""
    token, content = turn.tokens[picked], turn.messages[index]["content"]
    for span in turn.prompt.spans:
        if (span.kind, span.message) == ("content", index) and span.start <= token.start < span.end:
            start = content.find(str(turn.prompt[span.start : span.end]))  # a template may trim a text
            if start >= 0:
                return start + token.start - span.start, start + min(token.end, span.end) - span.start
    return None


def _reply_place(turn: Turn, picked: int) -> tuple[int, int] | None:
    """Return which characters of the reply the picked token added, None where it added none."""
    step = _step(turn, picked)
    return (step.offset, step.offset + len(step.text)) if step and step.text else None


def _message_json(role: str, content: str, place: tuple[int, int] | None) -> str:
    return f'{{"role": "{escape(role)}", "content": "{_marked(content, place, _json_piece)}"}}'


def _json_piece(text: str) -> str:
    return escape(json.dumps(text, ensure_ascii=False)[1:-1])


def _marked(text: str, place: tuple[int, int] | None, write: Callable[[str], str]) -> str:
    """Return the text, written piece by piece, with the place marked."""
    if place is None:
        return write(text)
    start, end = place
    return f"{write(text[:start])}{_mark(text[start:end], write)}{write(text[end:])}"


def _mark(text: str, write: Callable[[str], str] = escape) -> str:
    return f'<mark class="chatlab-picked">{write(text)}</mark>'


def _name(turn: Turn, step: Step) -> str:
    return escape(token_name(step.token_id, model=turn.model))


def _heads(*names: str) -> str:
    cells = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f"<tr>{cells}</tr>"


def _picked_class(here: bool) -> str:
    return ' class="chatlab-picked"' if here else ""


def _nothing_yet(what: str) -> str:
    return f'<div class="chatlab-note">There are no {what} yet: press Step to make one token, or Run for all.</div>'
