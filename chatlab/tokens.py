"""Tokens: text to token ids and back.

In: a prompt, messages or any text, and a vocabulary: the model's own, or any of tiktoken's. Out: token ids, their
number, a table of them, and text again. Knows nothing of the model's weights.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import tiktoken

from chatlab.chat_model import ChatModel
from chatlab.checks import check_integer, check_list
from chatlab.detokenizer import Detokenizer, token_bytes
from chatlab.encodings import vocabulary
from chatlab.errors import BadRequestError
from chatlab.messages import Message, validate
from chatlab.model import resolve
from chatlab.templating import Prompt, render
from chatlab.token_table import Token, TokenTable

__all__ = ["Detokenizer", "count_tokens", "decode", "encode", "token_bytes", "tokenize", "tokens_per_message"]

Vocabulary: TypeAlias = ChatModel | tiktoken.Encoding

# What OpenAI's cookbook, "How to count tokens with tiktoken", adds for gpt-3.5-turbo and later models.
TOKENS_PER_MESSAGE = 3
TOKENS_PER_NAME = 1
TOKENS_BEFORE_REPLY = 3


def encode(text: str | Sequence[Message], *, model: ChatModel | str | Path | None = None) -> list[int]:
    """Return the token ids of a text or prompt, or of messages as the model's template renders them.

    Control tokens in it count as control tokens, except those a `Prompt` knows to be forged: these are read as text.

    >>> from chatlab.testing import ScriptedModel
    >>> encode("Hi<|im_end|>", model=ScriptedModel(""))
    [72, 105, 257]
    """
    model = resolve(model)
    prompt = text if isinstance(text, str) else render(text, model=model)
    return [
        token_id
        for start, end, forged in _segments(prompt)
        for token_id in _ids_and_places(model, str(prompt[start:end]), forged=forged)[0]
    ]


def decode(token_ids: Sequence[int], *, model: ChatModel | str | Path | None = None) -> str:
    """Return the text of token ids, control tokens included; raise `BadRequestError` for what is no list of ids.

    >>> from chatlab.testing import ScriptedModel
    >>> decode([72, 105, 257], model=ScriptedModel(""))
    'Hi<|im_end|>'
    """
    model = resolve(model)
    token_ids = check_list("token_ids", token_ids, example="[72, 105]", empty=True)
    highest = max(model.vocab_size, len(model.tokenizer)) - 1
    ids = [check_integer(f"token_ids[{n}]", each, minimum=0, maximum=highest) for n, each in enumerate(token_ids)]
    return str(model.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def count_tokens(
    text: str | Sequence[Message],
    *,
    encoding: Vocabulary | str | Path | None = None,
    model: ChatModel | str | Path | None = None,
    allow_control_tokens: bool = True,
) -> int:
    """Return how many tokens a text has, or a list of messages as a model reads them (with the header of the reply).

    `encoding` None counts with the model's own tokenizer and chat template, exactly. The name of a tiktoken encoding,
    or of a hosted model such as "gpt-4", counts with that. How a hosted model lays out messages is not public, so for
    messages that count follows the rule OpenAI gives: each message's tokens and 3 more, 1 more for a `name`, and 3
    for the beginning of the reply. (From OpenAI's cookbook, "How to count tokens with tiktoken".)
    `allow_control_tokens=False` counts control tokens in a text as the ordinary characters they are written with.

    >>> from chatlab.testing import ScriptedModel
    >>> count_tokens("Hello", model=ScriptedModel(""))
    5
    >>> count_tokens("Hello", encoding="cl100k_base")
    1
    >>> count_tokens([{"role": "user", "content": "Hello"}], encoding="cl100k_base")
    8
    """
    chosen = _chosen(encoding, model)
    if isinstance(text, str):
        return sum(
            len(_ids_and_places(chosen, str(text[start:end]), forged=forged)[0])
            for start, end, forged in _segments(text, allow_control_tokens)
        )
    if isinstance(chosen, ChatModel):
        return len(encode(text, model=chosen))
    count = TOKENS_BEFORE_REPLY
    for message in validate(text):
        count += TOKENS_PER_MESSAGE + (TOKENS_PER_NAME if "name" in message else 0)
        texts = (message["role"], message["content"], str(message.get("name", "")))
        count += sum(len(chosen.encode_ordinary(each)) for each in texts)
    return count


def tokens_per_message(
    messages: Sequence[Message],
    *,
    encoding: Vocabulary | str | Path | None = None,
    model: ChatModel | str | Path | None = None,
) -> list[int]:
    """Return how many tokens each message takes, with what the template puts around it.

    What belongs to no message, such as the header of the reply, is left out. `encoding` is as for `count_tokens`.

    >>> from chatlab.testing import ScriptedModel
    >>> tokens_per_message([{"role": "user", "content": "Hello"}], model=ScriptedModel(""))
    [13]
    """
    chosen = _chosen(encoding, model)
    if isinstance(chosen, ChatModel):
        counts = Counter(token.message for token in tokenize(messages, encoding=chosen))
        return [counts[index] for index in range(len(messages))]
    return [count_tokens([message], encoding=chosen) - TOKENS_BEFORE_REPLY for message in messages]


def tokenize(
    text: str | Sequence[Message],
    *,
    encoding: Vocabulary | str | Path | None = None,
    model: ChatModel | str | Path | None = None,
    allow_control_tokens: bool = True,
) -> TokenTable:
    """Return the tokens of a text, a prompt or messages as a table that shows itself.

    `encoding` is as for `count_tokens`. Messages are first rendered with the model's template, so with a tiktoken
    encoding, which has none, they raise `BadRequestError`. `allow_control_tokens=False` reads control tokens in a
    text as ordinary text, as a message's are read.

    >>> from chatlab.testing import ScriptedModel
    >>> tokenize("é<|im_end|>", model=ScriptedModel(""))
    3 tokens of scripted
     #   id  characters  message  bytes          piece
     0  195  0–1         –        c3             part of a character: '�'
     1  169  0–1         –        a9             part of a character: '�'
     2  257  1–11        –        control token  '<|im_end|>'
    """
    chosen = _chosen(encoding, model)
    if not isinstance(text, str):
        if isinstance(chosen, tiktoken.Encoding):
            raise BadRequestError(
                f"How a hosted model lays out messages for {chosen.name} is not public, so they have no table of "
                "tokens. Give one text, or count_tokens(messages) for an estimate.",
                param="encoding",
            )
        text = render(text, model=chosen)
    tokens = [
        token
        for start, end, forged in _segments(text, allow_control_tokens)
        for token in _tokens_of(chosen, str(text[start:end]), forged=forged, offset=start)
    ]
    name = chosen.name
    return TokenTable(tuple(_with_messages(tokens, getattr(text, "spans", ()))), name)


def _chosen(encoding: Vocabulary | str | Path | None, model: ChatModel | str | Path | None) -> Vocabulary:
    return resolve(model) if encoding is None else vocabulary(encoding)


def _segments(text: str, allow_control_tokens: bool = True) -> Iterator[tuple[int, int, bool]]:
    """Yield the stretches of a text as (start, end, forged): in forged ones, control tokens are ordinary text."""
    if not allow_control_tokens:
        yield 0, len(text), True
        return
    end = 0
    for start, stop in text.forged if isinstance(text, Prompt) else ():
        yield end, start, False
        yield start, stop, True
        end = stop
    yield end, len(text), False


def _ids_and_places(chosen: Vocabulary, text: str, *, forged: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the ids of a stretch of text, and, where the tokenizer tells them, the characters of each."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequestError(
            f"The text holds {text[error.start]!r}, which is half a character. Remove it, or decode the text it came "
            "from again.",
            param="text",
            code="invalid_value",
        ) from error
    if isinstance(chosen, tiktoken.Encoding):
        return chosen.encode_ordinary(text) if forged else chosen.encode(text, allowed_special="all"), []
    if forged:
        encoded = chosen.plain_text_tokenizer.encode(text, add_special_tokens=False)
        return encoded.ids, encoded.offsets
    fast = chosen.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(fast["input_ids"]), list(fast["offset_mapping"])


def _tokens_of(chosen: Vocabulary, text: str, *, forged: bool, offset: int) -> Iterator[Token]:
    ids, places = _ids_and_places(chosen, text, forged=forged)
    data = [_bytes_of(chosen, token_id) for token_id in ids]
    pieces = [
        _control_token(chosen, token_id) if each is None else each.decode(errors="replace")
        for token_id, each in zip(ids, data, strict=True)
    ]
    lengths = [len(piece.encode() if each is None else each) for piece, each in zip(pieces, data, strict=True)]
    spelled = b"".join(piece.encode() if each is None else each for piece, each in zip(pieces, data, strict=True))
    if spelled == text.encode() or not places:  # a tokenizer's own places may leave out blanks
        places = _places(text, lengths)
    for token_id, piece, each, (start, end) in zip(ids, pieces, data, places, strict=True):
        yield Token(token_id, piece, each, offset + start, offset + end)


def _places(text: str, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Return the characters that each token covers, from the number of bytes of each."""
    character_of_byte = [index for index, character in enumerate(text) for _ in character.encode()]
    places, first = [], 0
    for length in lengths:
        covered = character_of_byte[first : first + length] or [len(text), len(text) - 1]
        places.append((covered[0], covered[-1] + 1))
        first += length
    return places


def _bytes_of(chosen: Vocabulary, token_id: int) -> bytes | None:
    if isinstance(chosen, ChatModel):
        return token_bytes(token_id, chosen.tokenizer)
    return None if chosen.is_special_token(token_id) else chosen.decode_single_token_bytes(token_id)


def _control_token(chosen: Vocabulary, token_id: int) -> str:
    if isinstance(chosen, ChatModel):
        return str(chosen.tokenizer.convert_ids_to_tokens(token_id))
    return chosen.decode_single_token_bytes(token_id).decode()


def _with_messages(tokens: Sequence[Token], spans: Sequence[object]) -> Iterator[Token]:
    """Yield the tokens with the index of the message in whose span they begin."""
    starts = [getattr(span, "start", 0) for span in spans]
    for token in tokens:
        place = bisect_right(starts, token.start) - 1
        message = getattr(spans[place], "message", None) if place >= 0 else None
        yield Token(token.id, token.piece, token.bytes, token.start, token.end, message)
