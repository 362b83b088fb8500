"""Display: how chatlab's objects look in a notebook.

In: text that a model or a person wrote. Out: HTML in one style, every piece of that text escaped. Knows nothing of what
the objects mean, apart from the client library's reply, which cannot show itself.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

__all__ = [
    "STYLE",
    "control_token_html",
    "count_of",
    "escape",
    "register",
    "table_html",
    "table_text",
    "transcript_html",
    "view",
]

# Text and background colours come from JupyterLab's theme where there is one, so that light and dark both work.
STYLE = """
<style>
.chatlab { font-family: var(--jp-ui-font-family, system-ui, sans-serif); font-size: 14px; line-height: 1.5;
  color: var(--jp-ui-font-color1, #1b1b1b); border: 1px solid var(--jp-border-color1, #bbb); border-radius: 6px;
  padding: 8px 12px; max-width: 60em; overflow-wrap: anywhere; }
.chatlab-prompt { font-family: var(--jp-code-font-family, monospace); white-space: pre-wrap; }
/* Reversed columns keep a long transcript scrolled to its newest line. */
.chatlab-log { display: flex; flex-direction: column-reverse; min-height: 8em; max-height: 26em; overflow-y: auto;
  resize: vertical; }
.chatlab-text { white-space: pre-wrap; }
.chatlab-message { margin: 6px 0; padding: 4px 10px; border-left: 4px solid; }
.chatlab-message.user { border-color: #1f77b4; }
.chatlab-message.assistant { border-color: #2ca02c; }
.chatlab-message.system, .chatlab-message.developer { border-color: #9467bd; border-left-style: dashed; }
.chatlab-message.tool { border-color: #7f7f7f; border-left-style: dotted; }
.chatlab-role { font-weight: 600; margin-right: 8px; }
.chatlab-note { opacity: 0.8; font-size: 12px; }
.chatlab-control { border: 1px solid; border-radius: 4px; padding: 0 3px; font-size: 12px; }
.chatlab-table { border-collapse: collapse; margin: 6px 0; font-size: inherit; }
.chatlab-table th, .chatlab-table td { border-bottom: 1px solid var(--jp-border-color2, #ccc); padding: 2px 10px;
  text-align: left; vertical-align: top; white-space: pre-wrap; }
.chatlab-forged { border-style: dashed; text-decoration: line-through; }
</style>
"""


def escape(text: str) -> str:
    """Return the text with everything that HTML would read as markup made harmless.

    >>> escape("<b onclick='x'>")
    '&lt;b onclick=&#x27;x&#x27;&gt;'
    """
    return html.escape(text, quote=True)


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count_of(1, "turn"), count_of(2, "turn")
    ('1 turn', '2 turns')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def view(inner_html: str, *, css_class: str = "") -> str:
    """Return the frame that every view shares, around HTML that is already safe."""
    return f'{STYLE}<div class="chatlab {css_class}">{inner_html}</div>'


def control_token_html(token: str, *, forged: bool = False) -> str:
    """Return a control token as a small tag; a forged one, read as ordinary text, is struck through and says so.

    >>> control_token_html("<|im_end|>")
    '<span class="chatlab-control" title="control token">&lt;|im_end|&gt;</span>'
    """
    css_class = "chatlab-control chatlab-forged" if forged else "chatlab-control"
    title = "typed into a message: read as ordinary text" if forged else "control token"
    return f'<span class="{css_class}" title="{title}">{escape(token)}</span>'


def table_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as lines of text, its columns aligned to the left.

    >>> print(table_text(["token", "id"], [["' Paris'", "7042"], ["'a'", "81"]]))
    token     id
    ' Paris'  7042
    'a'       81
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def table_html(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as HTML; the text of every cell is escaped.

    >>> table_html(["token"], [["<b>"]])
    '<table class="chatlab-table"><tr><th scope="col">token</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="chatlab-table"><tr>{head}</tr>{body}</table>'


def transcript_html(messages: list[dict[str, str]]) -> str:
    """Return messages as a list of turns, the role in words; all text is escaped."""
    return "".join(
        f'<div class="chatlab-message {escape(message["role"])}"><span class="chatlab-role">{escape(message["role"])}'
        f'</span><span class="chatlab-text">{escape(message["content"])}</span></div>'
        for message in messages
    )


def completion_html(completion: ChatCompletion) -> str:
    """Return a reply as HTML: each choice's text with its finish reason, then the counts of tokens."""
    turns = []
    for choice in completion.choices:
        turns.append(transcript_html([{"role": choice.message.role, "content": choice.message.content or ""}]))
        turns.append(f'<div class="chatlab-note">finish_reason: {escape(choice.finish_reason)}</div>')
    usage = completion.usage
    if usage:
        turns.append(
            f'<div class="chatlab-note">{escape(completion.model)}: {usage.prompt_tokens} prompt tokens + '
            f"{usage.completion_tokens} completion tokens = {usage.total_tokens}</div>"
        )
    return view("".join(turns))


def register() -> None:
    """Teach a running IPython to show the client library's `ChatCompletion` as a reply, not as one long line."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        formatter = shell.display_formatter.formatters["text/html"]
        formatter.for_type_by_name("openai.types.chat.chat_completion", "ChatCompletion", completion_html)
