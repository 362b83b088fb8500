"""How fast tiktoken and the Hugging Face tokenizer count a megabyte of text. Prints a table; asserts nothing.

Run it with `python tests/benchmarks/tokenizing.py`. The text is Python's own documentation and source, prose and code;
each figure is the median of several runs on one thread, with the vocabulary loaded beforehand.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

MEGABYTE = 1_000_000


def text_of(size: int) -> str:
    """Return that many bytes of text from Python's standard library, in the order of its files' names."""
    text = ""
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        text += path.read_text(encoding="utf-8")
        if len(text.encode()) >= size:
            return text.encode()[:size].decode(errors="ignore")
    return text


def measure(count: Callable[[], int], *, runs: int = 5) -> tuple[int, float]:
    """Return the count and the median of the seconds it takes."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        tokens = count()
        seconds.append(time.perf_counter() - started)
    return tokens, statistics.median(seconds)


def main() -> None:
    """Measure everything and print the table."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import chatlab
    from chatlab.encodings import encoding
    from chatlab.tokens import count_tokens

    model, text = chatlab.load(), text_of(MEGABYTE)
    own, cl100k_base = encoding(model), encoding("cl100k_base")
    rows = [
        (f"tiktoken, {model.name}", lambda: len(own.encode_ordinary(text))),
        ("tiktoken, cl100k_base", lambda: len(cl100k_base.encode_ordinary(text))),
        (f"Hugging Face, {model.name}", lambda: len(model.tokenizer.encode(text, verbose=False))),
        ("chatlab.count_tokens(text)", lambda: count_tokens(text, model=model)),
        ('chatlab.count_tokens(text, encoding="cl100k_base")', lambda: count_tokens(text, encoding="cl100k_base")),
    ]
    print(f"{'1 MB of text':<52}{'tokens':>9}{'seconds':>9}{'tokens/s':>12}")
    for name, count in rows:
        tokens, seconds = measure(count)
        print(f"{name:<52}{tokens:>9}{seconds:>9.2f}{tokens / seconds:>12,.0f}")


if __name__ == "__main__":
    main()
