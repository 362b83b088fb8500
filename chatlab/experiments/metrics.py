"""Metrics: numbers that say how replies are.

In: the text of replies, and what was expected. Out: numbers between 0 and 1, NaN where there is nothing to measure.
Knows nothing of models, settings or tables.
"""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Sequence

from chatlab.samples import distinct

__all__ = ["agreement", "distinct_words", "exact_match", "normalised"]


def normalised(text: str) -> str:
    """Return a text as it is compared: without case, punctuation at its ends, or a difference of white space.

    >>> normalised(" The  capital is Paris. ")
    'the capital is paris'
    """
    return " ".join(text.casefold().split()).strip(string.punctuation + " ")


def exact_match(reply: str, expected: Sequence[str]) -> bool:
    """Whether a reply is one of the expected ones, once both are normalised.

    >>> exact_match("Paris.", ["paris"]), exact_match("It is Paris.", ["paris"])
    (True, False)
    """
    return normalised(reply) in {normalised(each) for each in expected}


def agreement(replies: Sequence[str]) -> float:
    """Return the share (0–1) of pairs of replies that are equal once normalised; NaN for fewer than two.

    It is how likely two replies drawn from these say the same.

    >>> agreement(["Paris.", "paris", "Lyon"])
    0.3333333333333333
    """
    pairs = math.comb(len(replies), 2)
    equal = sum(math.comb(number, 2) for number in Counter(map(normalised, replies)).values())
    return equal / pairs if pairs else math.nan


def distinct_words(replies: Sequence[str], *, n: int) -> float:
    """Return distinct-n over words: the share (0–1) of different runs of n words among all; NaN where there are none.

    Words stand between white space, so that replies of any two models can be compared. See `chatlab.samples.distinct`.

    >>> distinct_words(["to be or not to be"], n=1)
    0.6666666666666666
    """
    words = [reply.split() for reply in replies]
    return distinct(words, n=n) if any(len(each) >= n for each in words) else math.nan
