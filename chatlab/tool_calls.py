r"""Tool calls: a reply's text, taken apart into what is said and what is called.

In: the text of a reply, piece by piece, held to the grammar of `tools.reply_grammar`. Out: the text before the first
call, and the calls as OpenAI streams them: a first item with id and name, then pieces of the arguments. Knows nothing
of models or grammars.
"""

from __future__ import annotations

import re
import secrets

from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall, ChoiceDeltaToolCallFunction

from chatlab.stop_strings import StopStrings
from chatlab.tools import CALL_END, CALL_START

__all__ = ["CallReader"]

HEAD = re.compile(rf'(?:{CALL_END}\s*{CALL_START})?\s*\{{"name": "([^"]*)", "arguments": ')


class CallReader:
    r"""Read calls out of a text that arrives piece by piece.

    White space right before a call is dropped. `complete` tells whether the text ended with a whole call.

    >>> reader = CallReader()
    >>> reader.push("Let me see.\n<tool"), reader.push('_call>\n{"name": "add", "argu')
    (('Let me see.', []), ('', []))
    >>> calls = reader.push('ments": {"a": 1}}\n</tool_call>')[1]
    >>> calls[0].function.name, [call.function.arguments for call in calls], reader.complete
    ('add', ['', '{"a": 1}'], True)
    """

    def __init__(self) -> None:
        self.complete = False
        self._opening = StopStrings([CALL_START])
        self._blank = ""
        self._buffer = ""
        self._index = -1
        self._inside = False  # among a call's arguments

    @property
    def called(self) -> bool:
        """Whether a call has begun."""
        return self._opening.found

    def push(self, text: str, *, last: bool = False) -> tuple[str, list[ChoiceDeltaToolCall]]:
        """Take the next piece and return the text and the items of calls that are now certain."""
        if not self.called:
            return self._say(text, last), self._read()
        self._buffer += text
        return "", self._read()

    def _say(self, text: str, last: bool) -> str:
        """Return the text that no call can begin in, and keep what came after the tag of the first one."""
        said = self._blank + self._opening.push(text)
        certain = said.rstrip()
        if self._opening.found:
            self._buffer = self._opening.rest
            return certain
        if last:
            return said + self._opening.flush()
        self._blank = said[len(certain) :]
        return certain

    def _read(self) -> list[ChoiceDeltaToolCall]:
        items: list[ChoiceDeltaToolCall] = []
        while True:
            if self._inside:
                # JSON has no line end inside, so the first one ends the call; the brace before it is the call's own.
                arguments, ended, rest = self._buffer.partition("\n")
                if not ended:
                    arguments, rest = _without_last_brace(arguments)
                    if arguments:
                        items.append(self._item(arguments))
                    self._buffer = rest
                    return items
                if arguments := arguments.removesuffix("}"):
                    items.append(self._item(arguments))
                self._buffer, self._inside = rest, False
            self.complete = self._buffer.startswith(CALL_END)
            head = HEAD.match(self._buffer)
            if not head:
                return items
            self._index += 1
            self._inside, self.complete = True, False
            self._buffer = head.string[head.end() :]
            function = ChoiceDeltaToolCallFunction(name=head[1], arguments="")
            call_id = f"call_{secrets.token_hex(12)}"
            items.append(ChoiceDeltaToolCall(index=self._index, id=call_id, type="function", function=function))

    def _item(self, arguments: str) -> ChoiceDeltaToolCall:
        return ChoiceDeltaToolCall(index=self._index, function=ChoiceDeltaToolCallFunction(arguments=arguments))


def _without_last_brace(text: str) -> tuple[str, str]:
    """Return the text and the brace at its end, which may be the call's own."""
    return (text[:-1], "}") if text.endswith("}") else (text, "")
