"""Stop strings: texts at which a reply ends, found however they are cut into pieces.

In: a reply, piece by piece. Out: the text that is certain not to belong to a stop string. Knows nothing of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopStrings"]


class StopStrings:
    """Find the first stop string in a text that arrives piece by piece, and never let a part of one through.

    Once `found`, `rest` is what came after it in the piece that completed it.

    >>> stop = StopStrings(["END"])
    >>> [stop.push("The E"), stop.push("N"), stop.push("ergy EN"), stop.push("D and more")]
    ['The ', '', 'ENergy ', '']
    >>> stop.found
    True
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = [string for string in strings if string]
        self.found = False
        self.rest = ""
        self._held = ""

    def push(self, text: str) -> str:
        """Take the next piece and return the text that is certain not to belong to a stop string."""
        if self.found:
            return ""
        held = self._held + text
        starts = {string: held.find(string) for string in self.strings if string in held}
        if starts:
            # Of several, the one complete first: so the result does not depend on how the text was cut into pieces.
            first = min(starts, key=lambda string: (starts[string] + len(string), starts[string]))
            self.found, self._held, self.rest = True, "", held[starts[first] + len(first) :]
            return held[: starts[first]]
        keep = max((_overlap(held, string) for string in self.strings), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """Return what was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """Return the length of the longest end of the text that begins the string."""
    return next(
        (length for length in range(min(len(text), len(string) - 1), 0, -1) if string.startswith(text[-length:])),
        0,
    )
