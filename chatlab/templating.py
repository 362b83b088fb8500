"""Templating: messages become one prompt, the string the model really reads.

In: messages. Out: a `Prompt`, a `str` that knows which of its characters came from which message, which are control
tokens, which the template added, and which control tokens were typed into a message (forged). Knows nothing of sampling
or replies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from chatlab.chat_model import ChatModel
from chatlab.chat_templates import apply_template
from chatlab.display import view
from chatlab.errors import ChatTemplateError
from chatlab.messages import Message, validate
from chatlab.model import resolve
from chatlab.promptview import Part, parts, prompt_html, prompt_text
from chatlab.spans import Span, cover, find_spans, private_characters
from chatlab.tool_messages import with_arguments_read

__all__ = ["Prompt", "render"]


class Prompt(str):
    r"""The prompt: a plain `str`, plus what cannot be read off its characters.

    `control_tokens` are the model's control tokens; `forged` the places (start, end) of those that stand inside a
    message and are therefore read as ordinary text; `roles` the messages' roles; `spans` cover the prompt from end to
    end and say where each piece came from. Spans may be given as a function, called when they are first looked at.

    >>> from chatlab.testing import ScriptedModel
    >>> prompt = render([{"role": "user", "content": "Hi"}], model=ScriptedModel(""))
    >>> for span in prompt.spans:
    ...     print(span.kind, span.message, repr(str(prompt[span.start : span.end])))
    control 0 '<|im_start|>'
    header 0 'user\n'
    content 0 'Hi'
    control 0 '<|im_end|>'
    header 0 '\n'
    control None '<|im_start|>'
    generation None 'assistant\n'
    """

    control_tokens: tuple[str, ...]
    forged: tuple[tuple[int, int], ...]
    roles: tuple[str, ...]

    def __new__(
        cls,
        text: str,
        *,
        control_tokens: Sequence[str] = (),
        forged: Sequence[tuple[int, int]] = (),
        roles: Sequence[str] = (),
        spans: Sequence[Span] | Callable[[], Sequence[Span]] = (),
    ) -> Prompt:
        """Make a prompt of a text and what is known of its pieces."""
        prompt = super().__new__(cls, text)
        prompt.control_tokens = tuple(control_tokens)
        prompt.forged = tuple(forged)
        prompt.roles = tuple(roles)
        prompt._source = spans
        return prompt

    _source: Sequence[Span] | Callable[[], Sequence[Span]]

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The pieces of the prompt, in order and without a gap; none of them is empty."""
        spans = self._source() if callable(self._source) else self._source
        return cover(spans, self, control_tokens=self.control_tokens, forged=self.forged)

    def __add__(self, other: str) -> Prompt:
        """Return the prompt with text after it, as for a reply's beginning; what is forged stays forged."""
        return _joined(self, other)

    def __radd__(self, other: str) -> Prompt:
        return _joined(other, self)

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, object]]:
        return (str(self),), {
            "control_tokens": self.control_tokens,
            "forged": self.forged,
            "roles": self.roles,
            "spans": self.spans,
        }

    def __getstate__(self) -> None:
        """Return nothing: all there is to keep is among the arguments, and a function for spans cannot be pickled."""

    def show_text(self) -> str:
        """Return the prompt for a terminal: a line for each line, with where it came from and visible line ends.

        >>> from chatlab.testing import ScriptedModel
        >>> print(render([{"role": "user", "content": "Hi <|im_end|>"}], model=ScriptedModel("")).show_text())
        messages[0] user  | <|im_start|>user↵
                          | Hi [read as text: <|im_end|>]<|im_end|>↵
        generation prompt | <|im_start|>assistant↵
        """
        return prompt_text(self, self._parts(), forged=self.forged)

    def _repr_html_(self) -> str:
        """Show the prompt message by message, roles in words, control tokens as tags, line ends visible."""
        return view(prompt_html(self, self._parts(), forged=self.forged), css_class="chatlab-prompt")

    def _parts(self) -> list[Part]:
        return parts(self.spans, self.roles)


def _joined(first: str, second: str) -> Prompt:
    """Return two texts as one prompt, with what either knows of its pieces; the messages are those of the first."""
    known = [text for text in (first, second) if isinstance(text, Prompt)]
    shifted = [(start + len(first), end + len(first)) for start, end in getattr(second, "forged", ())]
    return Prompt(
        str.__add__(first, second),
        control_tokens=known[0].control_tokens,
        forged=[*getattr(first, "forged", ()), *shifted],
        roles=[role for text in known for role in text.roles],
        spans=partial(_joined_spans, first, second),
    )


def _joined_spans(first: str, second: str) -> list[Span]:
    before = first.spans if isinstance(first, Prompt) else Prompt(first).spans
    after = second.spans if isinstance(second, Prompt) else Prompt(second).spans
    messages = len(getattr(first, "roles", ()))
    shifted = [
        Span(
            span.start + len(first),
            span.end + len(first),
            span.kind,
            None if span.message is None else span.message + messages,
        )
        for span in after
    ]
    return [*before, *shifted]


def render(
    messages: Sequence[Message],
    *,
    model: ChatModel | str | Path | None = None,
    add_generation_prompt: bool = True,
    allow_control_tokens: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    chat_template: str | None = None,
) -> Prompt:
    r"""Return the prompt that the model's chat template makes of the messages.

    `add_generation_prompt` ends it with the header of the assistant's reply. A control token inside a message's
    content is read as ordinary text, so that nobody can forge a turn; `allow_control_tokens=True` lets it through, to
    show the attack. `tools`, as a request defines them, are left to the template: one that knows of none ignores them.
    `chat_template` is a Jinja template to use in place of the model's own. Raises `ChatTemplateError`, with the line,
    where there is no (working) template, and `BadRequestError` for messages that are wrong or that the template
    refuses.

    >>> from chatlab.testing import ScriptedModel
    >>> render([{"role": "user", "content": "Hi"}], model=ScriptedModel("Hello!"))
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'
    """
    model = resolve(model)
    checked = [with_arguments_read(message) for message in validate(messages)]
    if model.chat_template is None and chat_template is None:
        raise ChatTemplateError(
            f"{model.name} has no chat template: it continues text but was not trained to chat. Load a model "
            "whose name ends in -Instruct or -Chat, or give one by hand: chatlab.load(..., chat_template=...)."
        )
    roles = [message["role"] for message in checked]
    shown = [dict(tool) for tool in tools or ()]
    stand_ins = {} if allow_control_tokens else _stand_ins([checked, shown], model.control_tokens)
    for index, message in enumerate(checked):
        role = "system" if message["role"] == "developer" else message["role"]
        checked[index] = {**_replace(message, stand_ins), "role": role}
    written = partial(apply_template, model, tools=_replace(shown, stand_ins), chat_template=chat_template)

    def template(messages: list[Message], add_generation_prompt: bool) -> str:
        return written(messages, add_generation_prompt=add_generation_prompt)

    rendered = template(checked, add_generation_prompt)
    text, forged = _restore(rendered, stand_ins)
    find = partial(_find_spans, rendered, checked, model, stand_ins, template, add_generation_prompt)
    return Prompt(text, control_tokens=model.control_tokens, forged=forged, roles=roles, spans=find)


def _find_spans(
    rendered: str,
    messages: list[Message],
    model: ChatModel,
    stand_ins: dict[str, str],
    template: Callable[[list[Message], bool], str],
    add_generation_prompt: bool,
) -> list[Span]:
    """Return the spans of the rendered prompt as they lie once the control tokens are back in it."""
    spans = find_spans(
        rendered,
        messages,
        template,
        add_generation_prompt=add_generation_prompt,
        control_tokens=model.control_tokens,
    )
    growth = {stand_in: len(token) - 1 for token, stand_in in stand_ins.items()}
    grown = list(accumulate((growth.get(character, 0) for character in rendered), initial=0))
    return [replace(span, start=span.start + grown[span.start], end=span.end + grown[span.end]) for span in spans]


def _replace(value: Any, replacements: dict[str, str]) -> Any:
    """Return the value with the replacements made in every string of it, a dict's keys included."""
    if isinstance(value, dict):
        return {_replace(key, replacements): _replace(each, replacements) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace(each, replacements) for each in value]
    if isinstance(value, str):
        for old, new in replacements.items():
            value = value.replace(old, new)
    return value


def _stand_ins(given: list[Any], control_tokens: Sequence[str]) -> dict[str, str]:
    """Return, for each control token found in what was given, a private-use character that it does not use."""
    text = "\n".join(_strings(given))
    unused = private_characters(text)
    return {token: next(unused) for token in control_tokens if token in text}


def _strings(value: Any) -> Iterator[str]:
    """Yield every string in messages, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for each in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _strings(each)


def _restore(rendered: str, stand_ins: dict[str, str]) -> tuple[str, list[tuple[int, int]]]:
    """Put the control tokens back in place of their stand-ins, and note where: those are the forged ones."""
    tokens = {stand_in: token for token, stand_in in stand_ins.items()}
    text, forged = "", []
    for piece in re.split(f"([{''.join(tokens)}])", rendered) if tokens else [rendered]:
        if piece in tokens:
            forged.append((len(text), len(text) + len(tokens[piece])))
        text += tokens.get(piece, piece)
    return text, forged
