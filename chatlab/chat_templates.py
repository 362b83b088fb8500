"""Chat templates: a Jinja program that writes messages as one text.

In: a model, messages as plain dicts, and a template where it is not to be the model's own. Out: the text; or an error
that names the line. Knows nothing of what the text means to the model.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import jinja2

from chatlab.chat_model import ChatModel
from chatlab.errors import BadRequestError, ChatTemplateError
from chatlab.time_limits import at_most

__all__ = ["apply_template"]

SECONDS = 1  # for a template given by hand: loops within loops may go on for years
_FILE = "<template>"  # what Jinja calls a template that came from no file


def apply_template(
    model: ChatModel,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool,
    tools: Sequence[Mapping[str, Any]] = (),
    chat_template: str | None = None,
) -> str:
    """Return what the template (None: the model's own) makes of the messages; it runs in Jinja's sandbox.

    Raises `BadRequestError` where the template refuses the messages, `ChatTemplateError` where it does not work, or,
    if it was given, takes longer than a second.

    >>> from chatlab.testing import ScriptedModel
    >>> hello = "Hello, {{ messages[0]['content'] }}!"
    >>> apply_template(ScriptedModel(""), [{"content": "you"}], add_generation_prompt=False, chat_template=hello)
    'Hello, you!'
    """
    given = chat_template is not None
    template = chat_template if chat_template is not None else model.chat_template
    whose = "The chat template" if given else f"The chat template of {model.name}"
    try:
        with at_most(SECONDS, file=_FILE) if given else nullcontext():
            return str(
                model.tokenizer.apply_chat_template(
                    messages,
                    tools=tools or None,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    chat_template=chat_template,
                )
            )
    except Exception as error:  # a template is a program: it can fail in any way
        if type(error) is jinja2.TemplateError:  # what a template's own raise_exception(...) raises
            raise BadRequestError(f"{whose} refuses these messages: {error}", param="messages") from error
        reason = getattr(error, "message", None) or str(error) or type(error).__name__
        raise ChatTemplateError(f"{whose} does not work: {_place(error, str(template))}{reason}") from error


def _place(error: Exception, template: str) -> str:
    """Return the line of the template where it went wrong, by number and as it reads; "" where that is unknown."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        number = error.lineno
    else:
        frames = traceback.walk_tb(error.__traceback__)
        number = ([line for frame, line in frames if frame.f_code.co_filename == _FILE] or [0])[-1]
    lines = template.splitlines()
    return f"line {number}, {lines[number - 1].strip()[:80]!r}: " if 0 < number <= len(lines) else ""
