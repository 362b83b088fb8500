"""What a trace costs against plain generation. Prints a table; asserts nothing.

Run it with `python tests/benchmarks/tracing.py`. Three ways to make the same reply take turns token by token, in one
process, so that a busy machine disturbs all alike; of each, the median step counts. "Plain" is the bare loop: model,
settings, choice, text, with nothing looked at.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator

import chatlab
from chatlab.generation import draw_tokens, steps_of
from chatlab.reading import drive, prefill
from chatlab.sampling import SamplingParams, process_logits, sample
from chatlab.tokens import Detokenizer, encode

TOKENS = 100
SEED = 1
PARAMS = SamplingParams(temperature=0.8, top_p=0.9)
PROMPT = "Once upon a time, there was a"


def plain(model: chatlab.ChatModel, input_ids: list[int]) -> Iterator[str]:
    """Yield a reply piece by piece, by the shortest loop that makes one."""
    detokenizer, dice, read = Detokenizer(model.tokenizer), random.Random(SEED), prefill(model, input_ids)
    logits, past_key_values, reply_ids = read.logits, read.past_key_values, []
    while True:
        scores = process_logits(logits, PARAMS, prompt_ids=input_ids, reply_ids=reply_ids)
        token_id = sample(scores, temperature=PARAMS.temperature, random_number=dice.random())
        yield detokenizer.decode(token_id)
        reply_ids.append(token_id)
        logits, past_key_values = model.next_token_logits([token_id], past_key_values)


def looked_at(model: chatlab.ChatModel, input_ids: list[int], *, top_logprobs: int) -> Iterator[str]:
    """Yield the same reply by the steps that `generate` yields and a trace keeps."""
    read = prefill(model, input_ids)
    drawn = draw_tokens(model, read, params=PARAMS, seed=SEED)
    for step in drive(model, steps_of(drawn, top_logprobs=top_logprobs, model=model)):
        yield step.text


def main() -> None:
    """Measure and print the table."""
    model = chatlab.load()
    input_ids = encode(PROMPT, model=model)
    ways = {
        "plain loop": plain(model, input_ids),
        "generate, no alternatives": looked_at(model, input_ids, top_logprobs=0),
        "trace, 5 alternatives": looked_at(model, input_ids, top_logprobs=5),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    texts = dict.fromkeys(ways, "")
    for _ in range(TOKENS):
        for name, pieces in ways.items():
            started = time.perf_counter()
            texts[name] += next(pieces, "")
            seconds[name].append(time.perf_counter() - started)
    print(f"{'':<28}{'ms a token':>11}{'against plain':>15}  goal")
    base = statistics.median(seconds["plain loop"][1:])  # the first one reads the prompt as well
    for name, each in seconds.items():
        usual = statistics.median(each[1:])
        goal = "under +10 %" if name.startswith("trace") else ""
        print(f"{name:<28}{1000 * usual:>11.1f}{usual / base - 1:>+15.1%}  {goal}".rstrip())
    print(f"the same reply by all three ways: {'yes' if len(set(texts.values())) == 1 else 'NO'}")


if __name__ == "__main__":
    main()
