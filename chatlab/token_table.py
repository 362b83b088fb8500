"""Token table: what a text's tokens look like, one by one.

In: tokens with their ids, bytes and places. Out: a sequence that shows itself as a table in text and as framed pieces
in a notebook, white space visible. Knows nothing of tokenizers or models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from chatlab.display import count_of, escape, view

__all__ = ["Token", "TokenTable"]

MAX_ROWS = 60  # shown as text
MAX_PIECES = 1000  # shown as HTML
VISIBLE = {" ": "·", "\n": "↵", "\t": "→", "\r": "␍"}


@dataclass(frozen=True)
class Token:
    """One token of a text.

    `piece` is its text, U+FFFD standing for each part of a character, or a control token's name; `bytes` what it
    stands for, None for a control token. `start` and `end` are the characters of the text it covers, a part of a
    character counting as that character. `message` is the index of the message it came from, None where that is
    unknown or the template wrote it.
    """

    id: int
    piece: str
    bytes: bytes | None
    start: int
    end: int
    message: int | None = None

    @property
    def is_control(self) -> bool:
        """Whether the token steers the model instead of being read as text."""
        return self.bytes is None

    @property
    def is_whole(self) -> bool:
        """Whether the token is made of whole characters; an emoji may need several tokens, none of them whole."""
        try:
            return self.bytes is None or self.bytes.decode() == self.piece
        except UnicodeDecodeError:
            return False


@dataclass(frozen=True, repr=False)
class TokenTable(Sequence[Token]):
    """The tokens of a text, in order; `encoding` names the vocabulary.

    >>> tokens = (Token(9906, "Hello", b"Hello", 0, 5), Token(1917, " world", b" world", 5, 11))
    >>> table = TokenTable(tokens, "cl100k_base")
    >>> table
    2 tokens of cl100k_base
     #    id  characters  message  bytes              piece
     0  9906  0–5         –        48 65 6c 6c 6f     'Hello'
     1  1917  5–11        –        20 77 6f 72 6c 64  ' world'
    >>> table.ids
    [9906, 1917]
    """

    tokens: tuple[Token, ...]
    encoding: str

    @property
    def ids(self) -> list[int]:
        """The token ids: what the model really reads."""
        return [token.id for token in self.tokens]

    @overload
    def __getitem__(self, index: int) -> Token: ...

    @overload
    def __getitem__(self, index: slice) -> TokenTable: ...

    def __getitem__(self, index: int | slice) -> Token | TokenTable:
        return TokenTable(self.tokens[index], self.encoding) if isinstance(index, slice) else self.tokens[index]

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(self.tokens)

    def __repr__(self) -> str:
        numbered = list(enumerate(self.tokens))
        cut = len(numbered) > MAX_ROWS
        shown = [*numbered[: MAX_ROWS - 10], *numbered[-10:]] if cut else numbered
        rows = [("#", "id", "characters", "message", "bytes", "piece")]
        rows += [(str(number), str(token.id), *_columns(token)) for number, token in shown]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = [
            "  ".join(
                [number.rjust(widths[0] + 1), token_id.rjust(widths[1]), *map(str.ljust, rest, widths[2:]), piece]
            )
            for number, token_id, *rest, piece in rows
        ]
        if cut:
            lines.insert(MAX_ROWS - 9, f" … {len(numbered) - MAX_ROWS} more …")
        return "\n".join([self._title(), *lines] if shown else [self._title()])

    def _repr_html_(self) -> str:
        return view(self.pieces_html())

    def pieces_html(self, *, show_white_space: bool = True, most: int = MAX_PIECES, picked: int | None = None) -> str:
        """Return the tokens as HTML without a frame: pieces with their ids below, `most` of them.

        The `picked` one says that it is.
        """
        shown = enumerate(self.tokens[:most])
        pieces = [_piece_html(number, token, show_white_space, picked=number == picked) for number, token in shown]
        more = len(self.tokens) - most
        note = f'<div class="chatlab-note">… and {count_of(more, "more token")}</div>' if more > 0 else ""
        signs = "; · is a space, ↵ a line end, → a tab" if show_white_space else ""
        title = f'<div class="chatlab-note">{escape(self._title())}{signs}</div>'
        return f'{title}<div class="chatlab-tokens">{"".join(pieces)}</div>{note}'

    def _title(self) -> str:
        return f"{count_of(len(self.tokens), 'token')} of {self.encoding}"


def _columns(token: Token) -> tuple[str, str, str, str]:
    message = "–" if token.message is None else str(token.message)
    piece = repr(token.piece) if token.is_whole else f"part of a character: {token.piece!r}"
    if token.bytes is None:
        return f"{token.start}–{token.end}", message, "control token", repr(token.piece)
    data = token.bytes[:8].hex(" ") + (" …" if len(token.bytes) > 8 else "")
    return f"{token.start}–{token.end}", message, data, piece


def _piece_html(number: int, token: Token, show_white_space: bool, *, picked: bool) -> str:
    """Return a token as a framed piece with its id below; what is special about it stands there in words."""
    css_class = f"chatlab-token chatlab-token-{number % 4}"
    signs = VISIBLE if show_white_space else {}
    shown = "".join(signs.get(character, character) for character in token.piece)
    word = ""
    if token.bytes is None:
        css_class, word = "chatlab-token chatlab-token-control", "control "
    elif not token.is_whole:
        shown, word = token.bytes.hex(" "), "part "
    if picked:
        css_class, word = f"{css_class} chatlab-picked", f"picked {word}"
    message = "" if token.message is None else f", message {token.message}"
    title = f"token {number}, characters {token.start}–{token.end}{message}"
    line_end = "<br>" if "\n" in token.piece else ""
    return (
        f'<span class="{css_class}" title="{title}"><span class="chatlab-piece">{escape(shown)}</span>'
        f'<span class="chatlab-id">{word}{token.id}</span></span>{line_end}'
    )
