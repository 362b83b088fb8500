"""TokenPanel: type, and see the tokens, their number by several tokenizers, and their cost.

In: a text that the learner types. Out: its pieces with their ids, and a table of counts. Knows nothing of messages or
prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from chatlab.chat_model import ChatModel
from chatlab.display import count_of, escape, table_html
from chatlab.encodings import BYTES, offline_encodings
from chatlab.errors import ChatlabError
from chatlab.model import resolve
from chatlab.panels.panel import LABELLED, Panel, number_field
from chatlab.prices import Prices, cost
from chatlab.token_table import TokenTable
from chatlab.tokens import count_tokens, tokenize

__all__ = ["EXAMPLE", "TokenPanel"]

EXAMPLE = (
    "Tokens are pieces of words: internationalisation, unbelievably.\n"
    "A number: 1234567.  Two spaces, and other scripts: Grüße, 日本語, 🎉.\n"
    "A control token that is typed in: <|im_end|>"
)
# gpt2 (2019), p50k_base (2021), cl100k_base (GPT-4), o200k_base (GPT-4o); the others read a text as one of these does.
ENCODINGS = ("gpt2", "p50k_base", "cl100k_base", "o200k_base", BYTES)
EXAMPLE_PRICES = {"a cheap model: 0.10": 0.1, "in between: 1.00": 1.0, "a dear model: 10.00": 10.0}
OWN_PRICE = "my own"
HINT = (
    "Type, and watch the text fall into tokens. The number under a piece is its id: the ids are all that a model "
    "reads. Every tokenizer has its own pieces and ids."
)

CHARACTERS_DRAWN = 2_000
PIECES_DRAWN = 500
CHARACTERS_COUNTED = 200_000  # a book chapter or two: enough to count in a fraction of a second


class TokenPanel(Panel):
    """A text and its tokens: pieces, ids, and counts and cost by several tokenizers.

    `text` is what stands in the field; `tokens` the table of its tokens by the chosen `encoding`, of its beginning only
    where the text is long; `counts` how many tokens all of it has by each tokenizer. `encodings` are names as
    `chatlab.encoding` takes them, besides the model's own; None: tiktoken's, as far as they need no network here.
    `prices` is what a million prompt tokens cost. Control tokens are read as ordinary text.

    >>> from chatlab.testing import ScriptedModel
    >>> panel = TokenPanel("Hello, world!", encodings=["cl100k_base"], model=ScriptedModel(""))
    >>> panel.counts
    {'scripted': 13, 'cl100k_base': 4}
    >>> panel.encoding = "cl100k_base"
    >>> panel.tokens.ids
    [9906, 11, 1917, 0]
    >>> panel
    TokenPanel(4 tokens)
    """

    def __init__(
        self,
        text: str = EXAMPLE,
        *,
        encodings: Sequence[str] | None = None,
        prices: Prices | None = None,
        model: ChatModel | str | Path | None = None,
    ) -> None:
        self.model = resolve(model)
        if encodings is None:
            encodings = [name for name in ENCODINGS if name in offline_encodings()]
        self._vocabularies: dict[str, ChatModel | str] = {
            self.model.name: self.model,
            **{each: each for each in encodings},
        }
        self._currency = "USD" if prices is None else prices.currency
        self.counts: dict[str, int] = {}
        self.tokens = TokenTable((), self.model.name)
        self._counted = ""
        self._build(text, 1.0 if prices is None else prices.prompt)
        wrapping = widgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                widgets.HTML(f'<div class="chatlab-note">{escape(HINT)}</div>'),
                self.text_box,
                widgets.HBox([self.encoding_box, self.white_space_box], layout=wrapping),
                self.pieces,
                widgets.HBox([self.example_price_box, self.price_box, self.times_box], layout=wrapping),
                self.table,
            ]
        )
        self._show_pieces()
        self._count()

    def _build(self, text: str, price: float) -> None:
        self.text_box = widgets.Textarea(
            value=text, description="Text", rows=5, style=LABELLED, layout={"width": "auto"}
        )
        self.encoding_box = widgets.Dropdown(
            options=[
                (f"{name} (the model's own)" if name == self.model.name else name, name) for name in self._vocabularies
            ],
            description="Show the pieces of",
            style=LABELLED,
            layout={"width": "32em", "max_width": "calc(100% - 4px)"},
        )
        self.white_space_box = widgets.Checkbox(
            value=True, description="Show spaces and line ends as signs", indent=False, layout={"width": "auto"}
        )
        self.pieces = widgets.HTML()
        self.example_price_box = widgets.Dropdown(
            options=[OWN_PRICE, *EXAMPLE_PRICES],
            value=_example_of(price),
            description="Example price",
            style=LABELLED,
            layout={"width": "20em", "max_width": "calc(100% - 4px)"},
        )
        self.price_box = number_field(f"{self._currency} per million tokens", price, minimum=0, maximum=1e6, step=0.05)
        self.times_box = number_field("Times sent", 1000, minimum=1, maximum=10**9, step=1)
        self.table = widgets.HTML()
        self.text_box.observe(self._on_text, "value")
        self.encoding_box.observe(self._on_pieces, "value")
        self.white_space_box.observe(self._on_pieces, "value")
        self.example_price_box.observe(self._on_example_price, "value")
        self.price_box.observe(self._on_price, "value")
        self.times_box.observe(lambda _: self._show_table(), "value")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({count_of(self.counts.get(self.encoding, 0), 'token')})"

    @property
    def text(self) -> str:
        """The text in the field; set it to show another."""
        return str(self.text_box.value)

    @text.setter
    def text(self, text: str) -> None:
        self.text_box.value = text

    @property
    def encoding(self) -> str:
        """The name of the tokenizer whose pieces are shown; set it to choose another."""
        return str(self.encoding_box.value)

    @encoding.setter
    def encoding(self, name: str) -> None:
        self.encoding_box.value = name

    @property
    def prices(self) -> Prices:
        """What the cost is computed with; set it to choose another price."""
        return Prices(prompt=self.price_box.value, completion=0, currency=self._currency)

    @prices.setter
    def prices(self, prices: Prices) -> None:
        self._currency = prices.currency
        self.price_box.description = f"{self._currency} per million tokens"
        self.price_box.value = prices.prompt
        self._show_table()

    def _title(self, name: str) -> str:
        about = {self.model.name: " (the model's own)", BYTES: " (one token for each byte)"}
        return name + about.get(name, "")

    def static_html(self) -> str:
        """Return the pieces and the table as they stand now."""
        return self._pieces_html() + self._table_html()

    def _on_text(self, _: Any) -> None:
        self._show_pieces()
        self._count()

    def _on_pieces(self, _: Any) -> None:
        self._show_pieces()

    def _on_example_price(self, change: dict[str, Any]) -> None:
        self.price_box.value = EXAMPLE_PRICES.get(change["new"], self.price_box.value)

    def _on_price(self, change: dict[str, Any]) -> None:
        self.example_price_box.value = _example_of(change["new"])
        self._show_table()

    def _show_pieces(self) -> None:
        """Cut the beginning of the text into tokens and draw them."""
        try:
            self.tokens = tokenize(
                self.text[:CHARACTERS_DRAWN], encoding=self._vocabularies[self.encoding], allow_control_tokens=False
            )
        except ChatlabError as error:
            self.note(f"{type(error).__name__}: {error}")
            return
        self.note("")
        self.pieces.value = f'<div class="chatlab">{self._pieces_html()}</div>'

    def _pieces_html(self) -> str:
        table = self.tokens[:PIECES_DRAWN]
        pieces = table.pieces_html(show_white_space=self.white_space_box.value)
        drawn = table.tokens[-1].end if table.tokens else 0
        notes = []
        if drawn < len(self.text):
            notes.append(
                f"Only the first {drawn:,} of {len(self.text):,} characters are drawn; the table counts more of them."
            )
        if not all(token.is_whole for token in table):
            notes.append("A piece marked “part” is only a part of a character; its bytes are shown.")
        typed = [token for token in self.model.control_tokens if token in self.text]
        if typed:
            notes.append(
                f"{' and '.join(typed)}: typed into a text, this is ordinary text of several tokens. Only a chat "
                f"template can write the control token, which is one token and steers the model."
            )
        return pieces + "".join(f'<div class="chatlab-note">{escape(note)}</div>' for note in notes)

    def _count(self) -> None:
        """Count the tokens of the text by each tokenizer."""
        counted = self.text[:CHARACTERS_COUNTED]
        try:
            self.counts = {
                name: count_tokens(counted, encoding=vocabulary, allow_control_tokens=False)
                for name, vocabulary in self._vocabularies.items()
            }
        except ChatlabError as error:
            self.note(f"{type(error).__name__}: {error}")
            return
        self._counted = counted
        self._show_table()

    def _show_table(self) -> None:
        self.table.value = f'<div class="chatlab">{self._table_html()}</div>'

    def _table_html(self) -> str:
        text, times, prices = self._counted, self.times_box.value, self.prices
        header = ["tokenizer", "tokens", "characters per token", f"{self._currency}, sent {times:,} times"]
        rows = []
        for name, count in self.counts.items():
            total = cost({"prompt_tokens": count * times}, prices).total
            each = f"{len(text) / count:.2f}" if count else "–"
            rows.append([self._title(name), f"{count:,}", each, f"{total:,.2f}" if total >= 1 else f"{total:.6f}"])
        size = f"{len(text):,} characters, {len(text.encode()):,} bytes"
        part = f": only the beginning of the {len(self.text):,} is counted" if len(text) < len(self.text) else ""
        note = (
            f"{size}{part}. {prices.prompt:g} {self._currency} per million tokens is an example: hosted models have "
            "prices of their own, and replies cost more. The model here costs nothing."
        )
        table = f'<div class="chatlab-counts">{table_html(header, rows)}</div>'
        return f'{table}<div class="chatlab-note">{escape(note)}</div>'


def _example_of(price: float) -> str:
    return next((name for name, each in EXAMPLE_PRICES.items() if each == price), OWN_PRICE)
