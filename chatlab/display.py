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
    "bar_cell",
    "control_token_html",
    "count_of",
    "escape",
    "register",
    "table_html",
    "table_text",
    "transcript_html",
    "view",
    "visible",
]

# Text and background colours come from JupyterLab's theme where there is one, so that light and dark both work.
STYLE = """
<style>
.chatlab { font-family: var(--jp-ui-font-family, system-ui, sans-serif); font-size: 14px; line-height: 1.5;
  color: var(--jp-ui-font-color1, #1b1b1b); border: 1px solid var(--jp-border-color1, #bbb); border-radius: 6px;
  padding: 8px 12px; max-width: 60em; overflow-wrap: anywhere; }
.chatlab-prompt { font-family: var(--jp-code-font-family, monospace); white-space: pre-wrap; }
.chatlab-panel { max-width: 62em; }
.chatlab-panel .jupyter-button { width: auto; }
.chatlab-panel.widget-vbox > .jupyter-button { align-self: flex-start; }
.chatlab-panel .widget-label { color: var(--jp-ui-font-color1, #1b1b1b); }
/* Reversed columns keep a long transcript scrolled to its newest line. */
.widget-box.chatlab-log { display: flex; flex-direction: column-reverse; min-height: 8em; max-height: 26em;
  overflow-y: auto; resize: vertical; border: 1px solid var(--jp-border-color1, #bbb); border-radius: 6px; }
.chatlab-log .chatlab { border: none; max-width: none; }
.chatlab-log .widget-html, .chatlab-log .widget-vbox { flex: 0 0 auto; overflow: visible; }
.chatlab-markdown > :first-child { margin-top: 0; }
.chatlab-markdown > :last-child { margin-bottom: 0; }
.chatlab .chatlab-markdown { white-space: normal; }
.chatlab-text { white-space: pre-wrap; }
.chatlab-message { margin: 6px 0; padding: 4px 10px; border-left: 4px solid; }
.chatlab-message.user { border-color: #1f77b4; }
.chatlab-message.assistant { border-color: #2ca02c; }
.chatlab-message.system, .chatlab-message.developer { border-color: #9467bd; border-left-style: dashed; }
.chatlab-message.tool { border-color: #7f7f7f; border-left-style: dotted; }
.chatlab-role { font-weight: 600; margin-right: 8px; }
.chatlab-note { opacity: 0.8; font-size: 12px; }
.chatlab-control { border: 1px solid; border-radius: 4px; padding: 0 3px; font-size: 12px; }
/* A notebook aligns every cell of a table to the right; two classes weigh more than its one. */
.chatlab.chatlab-findings th, .chatlab.chatlab-findings td { text-align: left; vertical-align: top;
  padding: 2px 10px 2px 0; overflow-wrap: normal; }
.chatlab-injected { color: inherit; background: none; border-bottom: 2px dashed #d68910; }
.chatlab-words { border-collapse: collapse; margin: 6px 0; font-size: inherit; }
.chatlab .chatlab-words th, .chatlab .chatlab-words td { padding: 2px 10px; overflow-wrap: normal;
  border-bottom: 1px solid var(--jp-border-color2, #ccc); text-align: left; vertical-align: top;
  white-space: pre-wrap; }
.chatlab-scroll { max-height: 24em; overflow: auto; }
.chatlab .chatlab-scroll td:last-child { white-space: nowrap; }
.chatlab .chatlab-scroll td:nth-child(2), .chatlab-answers td:last-child { min-width: 10em; }
.chatlab-table.chatlab-draws td, .chatlab-table.chatlab-draws thead th { white-space: normal; overflow-wrap: normal; }
.chatlab-panel .widget-html, .chatlab-panel .widget-html-content { min-width: 0; }
.chatlab-panel .chatlab-note { line-height: 1.4; }
.chatlab-forged { border-style: dashed; text-decoration: line-through; }
.chatlab-tokens { line-height: 1.3; }
.chatlab-token { display: inline-block; vertical-align: top; margin: 2px 1px; padding: 0 2px; border: 1px solid;
  border-radius: 3px; text-align: center; max-width: 100%; overflow-wrap: anywhere; }
.chatlab-token-0 { background: rgba(31, 119, 180, 0.18); }
.chatlab-token-1 { background: rgba(255, 127, 14, 0.18); }
.chatlab-token-2 { background: rgba(44, 160, 44, 0.18); }
.chatlab-token-3 { background: rgba(148, 103, 189, 0.18); }
.chatlab-token-control { border: 2px dashed; }
.chatlab-piece { display: block; font-family: var(--jp-code-font-family, monospace); white-space: pre-wrap; }
.chatlab-id { display: block; font-size: 10px; opacity: 0.8; }
.chatlab-budget { display: flex; width: 100%; border: 1px solid; margin-bottom: 4px; overflow: hidden; }
.chatlab-budget > span { padding: 2px 4px; border-right: 1px solid; white-space: nowrap; font-size: 12px; }
.chatlab-budget-kept { background: rgba(31, 119, 180, 0.25); }
.chatlab-budget-reserved { background: repeating-linear-gradient(45deg, transparent 0 5px, rgba(127, 127, 127, 0.35) 5px
  7px); }
.chatlab-budget > .chatlab-budget-free { border-right: none; }
.chatlab-table { border-collapse: collapse; color: inherit; font-size: inherit; }
.chatlab-table caption { text-align: left; padding-bottom: 4px; white-space: nowrap; }
.chatlab-table th, .chatlab-table td { text-align: right; padding: 2px 8px; white-space: nowrap; }
.chatlab-table tbody th, .chatlab-table tfoot th, .chatlab-table th:first-child { text-align: left; }
.chatlab-table td:last-child { white-space: normal; }
.chatlab-table tfoot { border-top: 1px solid var(--jp-border-color1, #bbb); }
.chatlab-bars td { min-width: 7em; position: relative; }
.chatlab-bar { position: absolute; left: 0; top: 3px; bottom: 3px; background: rgba(31, 119, 180, 0.3);
  border-right: 2px solid rgb(31, 119, 180); }
.chatlab-value { position: relative; }
/* The less probable, the stronger the colour and the underline: it reads without colour as well. */
.chatlab-step { border-radius: 3px; white-space: pre-wrap; text-underline-offset: 3px; }
.chatlab-step.likely { background: rgba(230, 120, 0, 0.12); text-decoration: underline dotted; }
.chatlab-step.open { background: rgba(230, 120, 0, 0.24); text-decoration: underline dashed; }
.chatlab-step.unlikely { background: rgba(230, 120, 0, 0.36); text-decoration: underline solid 2px; }
.chatlab-step.surprising { background: rgba(230, 120, 0, 0.48); text-decoration: underline double; }
.chatlab-step.forced { outline: 2px solid; outline-offset: -1px; }
/* Below the token's line, but as far left as the reply begins: so it is cut off at no edge. */
.chatlab-reply { position: relative; }
.chatlab-step[aria-label]:hover::after, .chatlab-step[aria-label]:focus-visible::after { content: attr(aria-label);
  display: block; position: absolute; left: 0; z-index: 1; max-width: 100%; box-sizing: border-box; padding: 4px 8px;
  border: 1px solid; border-radius: 4px; font-size: 12px; white-space: normal;
  color: var(--jp-ui-font-color1, #1b1b1b); background: var(--jp-layout-color1, #fff); }
.chatlab-panel .chatlab-words { font-size: 13px; }
.chatlab-panel .chatlab .chatlab-words th, .chatlab-panel .chatlab .chatlab-words td { padding: 2px 8px 2px 0; }
.chatlab-panel .chatlab .chatlab-words :last-child { padding-right: 0; }
.chatlab .chatlab-counts .chatlab-words :is(td:first-child, th) { overflow-wrap: anywhere; }
.chatlab-code textarea { font-family: var(--jp-code-font-family, monospace); font-size: 13px; }
/* What was picked: a frame, since a colour alone tells nothing to who cannot see it. */
.chatlab-picked { color: inherit; background: rgba(255, 200, 0, 0.25); outline: 2px solid; outline-offset: 1px;
  border-radius: 2px; }
.chatlab-panel .widget-toggle-button.mod-active { outline: 2px solid; outline-offset: -2px; font-weight: 700; }
.chatlab-token-row { max-height: 11em; overflow-y: auto; }
.chatlab-token-row .widget-toggle-button { width: auto; min-width: 2em; padding: 0 4px; margin: 1px;
  font-family: var(--jp-code-font-family, monospace); }
.chatlab-panel .chatlab-bars td { min-width: 3em; }
.chatlab-panel .chatlab-note { line-height: 1.5; }
.chatlab .chatlab-words td.chatlab-event { font-family: var(--jp-code-font-family, monospace); font-size: 12px;
  overflow-wrap: anywhere; }
.chatlab-raw { font-family: var(--jp-code-font-family, monospace); font-size: 12px; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 20em; overflow-y: auto; border: 1px solid; padding: 4px; }
.chatlab-verdict { margin: 6px 0; padding: 4px 10px; border-left: 4px solid; }
.chatlab-verdict.right { border-color: #2ca02c; }
.chatlab-verdict.wrong { border-color: #d62728; border-left-style: dashed; }
.chatlab-choices { list-style: none; padding-left: 0; }
.chatlab-question { line-height: 1.5; }
.chatlab-panel .chatlab-answer :is(.widget-radio, .widget-radio-box, .widget-checkbox, label) { height: auto; }
.chatlab-panel .chatlab-answer :is(.widget-radio-box, .widget-checkbox) label { white-space: normal; margin: 2px 0;
  overflow-wrap: anywhere; line-height: 1.5; align-items: baseline; }
.chatlab-panel .chatlab-answer > * { flex: 0 0 auto; }
.chatlab-panel .chatlab-answer textarea { font-family: var(--jp-code-font-family, monospace); }
.chatlab-plot img { max-width: 100%; background: #fff; }
</style>
"""

_WHITE_SPACE = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "\\r"}


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


def visible(text: str) -> str:
    r"""Return the text with its white space and what cannot be printed made visible, on one line.

    >>> visible(" a\tb\n")
    '␣a⇥b↵'
    """
    shown = (_WHITE_SPACE.get(character, character) for character in text)
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in shown)


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
    '<table class="chatlab-words"><tr><th scope="col">token</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="chatlab-words"><tr>{head}</tr>{body}</table>'


def bar_cell(share: float, text: str) -> str:
    """Return a table cell with a bar as long as a share (0–1) of it, and the text on it; the text is escaped.

    >>> bar_cell(0.5, "half")
    '<td><span class="chatlab-bar" style="width:50.0%"></span><span class="chatlab-value">half</span></td>'
    """
    bar = f'<span class="chatlab-bar" style="width:{100 * share:.1f}%"></span>' if share > 0 else ""
    return f'<td>{bar}<span class="chatlab-value">{escape(text)}</span></td>'


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
