"""Templating: messages become one prompt, the string the model really reads.

In: messages. Out: a `Prompt`, a `str` that knows which control tokens in it were typed into a message (forged) and not
written by the template. Knows nothing of sampling or replies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2

from chatlab.display import control_token_html, escape, view
from chatlab.errors import BadRequestError, ChatTemplateError
from chatlab.messages import Message, validate
from chatlab.model import ChatModel, resolve

__all__ = ["Prompt", "render"]


class Prompt(str):
    """The prompt: a plain `str`, plus what cannot be read off its characters.

    `control_tokens` are the model's control tokens; `forged` the spans (start, end) of those that stand inside a
    message and are therefore read as ordinary text.
    """

    control_tokens: tuple[str, ...]
    forged: tuple[tuple[int, int], ...]

    def __new__(
        cls, text: str, *, control_tokens: Sequence[str] = (), forged: Sequence[tuple[int, int]] = ()
    ) -> Prompt:
        """Make a prompt of a text and the spans of its forged control tokens."""
        prompt = super().__new__(cls, text)
        prompt.control_tokens = tuple(control_tokens)
        prompt.forged = tuple(forged)
        return prompt

    def __add__(self, other: str) -> Prompt:
        """Return the prompt with text after it, as for a reply's beginning; what is forged stays forged."""
        shifted = [(start + len(self), end + len(self)) for start, end in getattr(other, "forged", ())]
        text = str.__add__(self, other)
        return Prompt(text, control_tokens=self.control_tokens, forged=[*self.forged, *shifted])

    def __radd__(self, other: str) -> Prompt:
        shifted = [(start + len(other), end + len(other)) for start, end in self.forged]
        return Prompt(str.__add__(other, self), control_tokens=self.control_tokens, forged=shifted)

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, object]]:
        return (str(self),), {"control_tokens": self.control_tokens, "forged": self.forged}

    def _repr_html_(self) -> str:
        """Show the prompt with its control tokens marked and its line ends visible."""
        forged = set(self.forged)
        pieces, end = [], 0
        for match in _any_of(self.control_tokens).finditer(self):
            pieces.append(escape(self[end : match.start()]))
            pieces.append(control_token_html(match.group(), forged=match.span() in forged))
            end = match.end()
        pieces.append(escape(self[end:]))
        return view("".join(pieces), css_class="chatlab-prompt")


def render(
    messages: Sequence[Message],
    *,
    model: ChatModel | str | Path | None = None,
    add_generation_prompt: bool = True,
    allow_control_tokens: bool = False,
) -> Prompt:
    r"""Return the prompt that the model's chat template makes of the messages.

    `add_generation_prompt` ends it with the header of the assistant's reply. A control token inside a message's
    content is read as ordinary text, so that nobody can forge a turn; `allow_control_tokens=True` lets it through, to
    show the attack. Raises `ChatTemplateError` where the model has no (working) template, and `BadRequestError` for
    messages that are wrong or that the template refuses.

    >>> from chatlab.testing import ScriptedModel
    >>> render([{"role": "user", "content": "Hi"}], model=ScriptedModel("Hello!"))
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'
    """
    model = resolve(model)
    checked = validate(messages)
    if model.chat_template is None:
        raise ChatTemplateError(
            f"{model.name} has no chat template: it continues text but was not trained to chat. Load a model "
            "whose name ends in -Instruct or -Chat, or give one by hand: chatlab.load(..., chat_template=...)."
        )
    stand_ins = {} if allow_control_tokens else _stand_ins(checked, model.control_tokens)
    for index, message in enumerate(checked):
        role = "system" if message["role"] == "developer" else message["role"]
        checked[index] = {**_replace(message, stand_ins), "role": role}
    rendered = _apply_template(model, checked, add_generation_prompt=add_generation_prompt)
    return _restore(rendered, stand_ins, model.control_tokens)


def _apply_template(model: ChatModel, messages: list[Message], *, add_generation_prompt: bool) -> str:
    try:
        rendered = model.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except Exception as error:  # a template is a program: it can fail in any way
        if type(error) is jinja2.TemplateError:  # what a template's own raise_exception(...) raises
            raise BadRequestError(
                f"The chat template of {model.name} refuses these messages: {error}", param="messages"
            ) from error
        raise ChatTemplateError(f"The chat template of {model.name} does not work: {error}") from error
    return str(rendered)


def _replace(value: Any, replacements: dict[str, str]) -> Any:
    """Return the value with the replacements made in every string of it; a dict's keys stay."""
    if isinstance(value, dict):
        return {key: _replace(each, replacements) for key, each in value.items()}
    if isinstance(value, list):
        return [_replace(each, replacements) for each in value]
    if isinstance(value, str):
        for old, new in replacements.items():
            value = value.replace(old, new)
    return value


def _stand_ins(messages: list[Message], control_tokens: Sequence[str]) -> dict[str, str]:
    """Return, for each control token found in the messages, a private-use character that they do not use."""
    text = "\n".join(_strings(messages))
    unused = (chr(code) for code in range(0xF0000, 0xFFFFD) if chr(code) not in text)
    return {token: next(unused) for token in control_tokens if token in text}


def _strings(value: Any) -> Iterator[str]:
    """Yield every string in messages, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _restore(rendered: str, stand_ins: dict[str, str], control_tokens: Sequence[str]) -> Prompt:
    """Put the control tokens back in place of their stand-ins, and note where: those are the forged ones."""
    tokens = {stand_in: token for token, stand_in in stand_ins.items()}
    text, forged = "", []
    for piece in re.split(f"([{''.join(tokens)}])", rendered) if tokens else [rendered]:
        if piece in tokens:
            forged.append((len(text), len(text) + len(tokens[piece])))
        text += tokens.get(piece, piece)
    return Prompt(text, control_tokens=control_tokens, forged=forged)


def _any_of(control_tokens: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of the control tokens (none: a pattern that never matches)."""
    return re.compile("|".join(map(re.escape, control_tokens)) or r"(?!)")
