"""Magics: chat, count tokens and write messages in plain cells, without a line of Python.

In: the text of a cell under `%%chat`, `%%messages` or `%tokens`. Out: a reply that streams in, a list of messages in a
variable, a table of tokens. `%load_ext chatlab` switches them on. Knows nothing of how a reply is made.
"""

# mypy: allow-untyped-decorators
from __future__ import annotations

import argparse
import keyword
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.display import display
from openai.types.chat import ChatCompletionChunk

from chatlab.conversation import Conversation
from chatlab.display import count_of, escape, transcript_html, view
from chatlab.engines import Engine
from chatlab.errors import ChatlabError
from chatlab.linting import lint
from chatlab.messages import Message, assistant, role_of
from chatlab.model import load, resolve
from chatlab.remote import connect
from chatlab.templating import render
from chatlab.tokens import tokenize
from chatlab.transcripts import parse_messages

__all__ = ["ChatlabMagics", "load_ipython_extension"]

SECONDS_BETWEEN_UPDATES = 0.1  # each update sends the whole reply, so a browser gets at most ten a second


class _Transcript:
    """Messages that show themselves, with a note below."""

    def __init__(self, messages: Sequence[Message], note: str = "") -> None:
        self.messages = list(messages)
        self.note = note

    def __repr__(self) -> str:
        lines = [f"{message['role']}: {message['content']}" for message in self.messages]
        return "\n".join([*lines, f"({self.note})"] if self.note else lines)

    def _repr_html_(self) -> str:
        note = f'<div class="chatlab-note">{escape(self.note)}</div>' if self.note else ""
        return view(transcript_html(self.messages) + note)


def _number(text: str) -> float:
    """Return an option's number; argparse shows what is wrong with it."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}.") from None


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}.") from None


@magics_class
class ChatlabMagics(Magics):  # type: ignore[misc]
    """The magics `%%chat`, `%tokens` and `%%messages`.

    `model` is the model they use: a model, also one that `connect` returned, a name, or None
    for the default one. `conversation` is the chat that
    `%%chat` goes on with.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.model: Engine | str | Path | None = None
        self.conversation = Conversation()

    @magic_arguments()
    @argument("--system", metavar="TEXT", help="the system message, from now on (in quotes; empty: none)")
    @argument(
        "--temperature", metavar="T", type=_number, default=1.0, help="0 to 2; 0 always takes the likeliest token"
    )
    @argument(
        "--top-p", metavar="P", type=_number, default=1.0, help="0 to 1; how much of the probability to draw from"
    )
    @argument("--seed", metavar="N", type=_whole_number, help="a whole number; the same one gives the same reply")
    @argument("--max-completion-tokens", metavar="N", type=_whole_number, help="the longest reply, in tokens")
    @argument("--model", metavar="NAME", help="the model, from now on: a hub id, a folder or a GGUF file")
    @argument("--base-url", metavar="URL", help="take the model from this server, from now on; key: CHATLAB_API_KEY")
    @argument("--new", action="store_true", help="start a new conversation")
    @argument("--stream", action=argparse.BooleanOptionalAction, default=True, help="show the reply while it is made")
    @argument("--show", action="store_true", help="return the conversation (%%chat --show, without a message)")
    @line_cell_magic
    def chat(self, line: str, cell: str | None = None) -> Conversation | None:
        """Send the cell's text to the model as your message, and show the reply.

        All such cells of a notebook are one conversation, which the model reads anew each time; `--new` starts another.
        The system message stays until you change it; temperature, top-p, seed and length hold for this reply alone.
        Interrupt the kernel to stop a reply: what was said stays.
        """
        options = _options(self.chat, line)
        if cell is None and not (options.show or options.new):
            raise UsageError("%chat has no message. Write it in a cell that begins with %%chat.")
        if cell is not None and options.show:
            raise UsageError("--show takes no message. Write %chat --show in a cell of its own.")
        if cell is not None and not cell.strip():
            raise UsageError("The message is empty. Write it below %%chat.")
        if options.show and not options.new:
            return self.conversation
        with _plain_errors():
            if options.base_url is not None:
                self.model = connect(options.base_url, model=options.model)
            elif options.model is not None:
                self.model = load(options.model)
            chat = self._conversation(options)
            chunks = None if cell is None else chat(cell.strip("\n"), stream=True)
            self.conversation = chat  # only now: a request that is refused changes nothing
            if chunks is not None:
                self._show(chunks, stream=options.stream)
        return chat if options.show else None

    def _conversation(self, options: argparse.Namespace) -> Conversation:
        """Return the conversation so far, or a new one, with this cell's settings."""
        chat = Conversation(
            () if options.new else self.conversation.messages,
            model=self.model,
            temperature=options.temperature,
            top_p=options.top_p,
            seed=options.seed,
            max_completion_tokens=options.max_completion_tokens,
        )
        if options.system is not None:
            chat.system = options.system or None
        return chat

    def _show(self, chunks: Iterator[ChatCompletionChunk], *, stream: bool) -> None:
        """Show the reply as it comes: in a notebook as one output that grows, in a terminal as text that runs on."""
        in_notebook = hasattr(self.shell, "kernel")
        handle = display(_Transcript([assistant("")], "…"), display_id=True) if stream and in_notebook else None
        reply, note, shown_at = "", "stopped before its end", time.monotonic()
        try:
            for chunk in chunks:
                for choice in chunk.choices:
                    reply += choice.delta.content or ""
                    note = f"finish_reason: {choice.finish_reason}" if choice.finish_reason else note
                    if stream and not in_notebook:
                        print(choice.delta.content or "", end="", flush=True)
                if chunk.usage:
                    counts = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
                    note += " · {} prompt tokens + {} completion tokens".format(*counts)
                if handle and time.monotonic() - shown_at > SECONDS_BETWEEN_UPDATES:
                    handle.update(_Transcript([assistant(reply)], "…"))
                    shown_at = time.monotonic()
        except KeyboardInterrupt:
            self.conversation.stop()
        if handle:
            handle.update(_Transcript([assistant(reply)], note))
        elif stream:
            print(f"\n({note})")
        else:
            display(_Transcript([assistant(reply)], note))

    @no_var_expand
    @line_cell_magic
    def tokens(self, line: str, cell: str | None = None) -> object:
        """Show the tokens of a text, or of a text or list of messages that Python knows.

        ::

          %tokens [--encoding NAME] TEXT or expression

        `%tokens Hello, world!` takes the text as it stands, `%tokens prompt` the variable's value, `%tokens "  two
        spaces"` what is between the quotes. Under `%%tokens` stands a text of several lines. NAME is a tiktoken
        encoding such as cl100k_base; without it the model's own tokenizer is used.
        """
        found = re.match(r"--encoding(?:\s+|=)(\S+)\s*", line)
        rest = line[found.end() :] if found else line
        if cell is not None and rest.strip():
            raise UsageError(f"%%tokens takes its text from the lines below it, not {rest.strip()!r} beside it.")
        with _plain_errors():
            text = self._text_of(rest) if cell is None else cell.rstrip("\n")
            if not text:
                raise UsageError("There is no text. Write %tokens Hello, world! or %tokens name_of_a_variable.")
            return tokenize(text, encoding=found and found[1], model=None if found else resolve(self.model))

    def _text_of(self, line: str) -> str:
        """Return the text that the line means: its value where it is Python for a text or messages, else itself."""
        try:
            value = eval(compile(line.strip(), "<%tokens>", "eval"), self.shell.user_global_ns, self.shell.user_ns)
        except Exception:  # not Python, or Python that fails: a text then
            return line
        if isinstance(value, list) and value and all(map(role_of, value)):
            return render(value, model=resolve(self.model))
        return value if isinstance(value, str) else line

    @cell_magic
    def messages(self, line: str, cell: str) -> None:
        """Make a list of messages of the cell's lines, store it in a variable, and say what is odd about it.

        ::

          %%messages NAME
          system: Be brief.
          user: What is a token?

        A line that begins with a role and a colon starts a message; the lines after it belong to it. One that only
        looks like such a start (`note: ...`) has to be indented.
        """
        name = line.strip()
        if not name.isidentifier() or keyword.iskeyword(name):
            raise UsageError(f"%%messages needs the name of a variable, as in %%messages question, not {name!r}.")
        with _plain_errors():
            messages = parse_messages(cell)
        self.shell.push({name: messages})
        display(_Transcript(messages, f"{count_of(len(messages), 'message')} in {name}"))
        for finding in lint(messages):
            print(finding)


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Switch the magics on, with completion of their options: what `%load_ext` calls."""
    magics = ChatlabMagics(ipython)
    ipython.register_magics(magics)

    @context_matcher(identifier="chatlab.magics")
    def complete(context: CompletionContext) -> SimpleMatcherResult:
        command, *used = context.line_with_cursor.split() or [""]
        names: list[str] = []
        if command in ("%chat", "%%chat"):
            names = [name for name in _option_names(magics.chat) if name not in used or name == context.token]
        elif command in ("%tokens", "%%tokens"):
            shown = [name for name, value in ipython.user_ns.items() if isinstance(value, (str, list))]
            names = ["--encoding", *(name for name in shown if not name.startswith("_"))]
        fitting = [SimpleCompletion(name, type="option") for name in names if name.startswith(context.token)]
        # Suppress: else the Python names that Jedi finds come along, and bury these.
        return SimpleMatcherResult(completions=fitting, suppress=True)

    others = [
        each
        for each in ipython.Completer.custom_matchers
        if getattr(each, "matcher_identifier", "") != "chatlab.magics"
    ]
    ipython.Completer.custom_matchers[:] = [complete, *others]


def _option_names(magic: Any) -> list[str]:
    return [name for action in magic.parser._actions for name in action.option_strings]


def _options(magic: Any, line: str) -> argparse.Namespace:
    """Return the options on a magic's line, quotes taken off, as IPython's own parser does not."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f'The line cannot be read: {error}. Close every quote: --system "Don\'t panic."') from error
    options: argparse.Namespace
    options, unknown = magic.parser.parse_known_args(words)
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} is no option of this magic. The options are {', '.join(_option_names(magic))}; a text of "
            'several words needs quotes, as in --system "Be brief."'
        )
    return options


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Show what is wrong with a request as one sentence: IPython prints a `UsageError` without a traceback."""
    try:
        yield
    except ChatlabError as error:
        raise UsageError(str(error)) from error
