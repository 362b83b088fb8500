"""On a cluster: the replies of a sweep made by several processes, which Ray runs and tries again.

In: runs, and a Ray cluster. Out: what `making.make_replies` yields for them, the same to the last bit. Knows nothing of
processes or machines: a worker that is killed, or a machine that goes, is Ray's affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from chatlab.chat_model import ChatModel
from chatlab.cluster import connect_ray
from chatlab.cluster_model import TravellingModel
from chatlab.engines import Engine
from chatlab.errors import BadRequestError
from chatlab.experiments.grid import Run
from chatlab.experiments.making import Made, make_replies, threads_of
from chatlab.messages import Message
from chatlab.requests import ChatOptions

__all__ = ["make_replies_on"]

BATCH = 8  # replies that a worker makes side by side, and makes again if it is killed meanwhile


def make_replies_on(cluster: str | bool, runs: Sequence[Run]) -> Iterator[tuple[int, Made]]:
    """Yield the number of each run and what came of it, batch by batch, as the workers have made them.

    Each worker has one core and loads the model once. Raises `BadRequestError` for a model on a server, which has
    nothing to compute here.
    """
    ray = connect_ray(cluster)
    batch = ray.remote(num_cpus=1, max_retries=-1, scheduling_strategy="SPREAD")(_batch)
    made: dict[Any, list[int]] = {}
    try:
        for model, numbers in _by_model(runs).items():
            if not isinstance(model, ChatModel):
                raise BadRequestError(
                    f"{model!r} is on a server, so a cluster has nothing to compute for it. Leave out cluster=.",
                    param="cluster",
                )
            travelling = ray.put(TravellingModel.of(model, threads=threads_of(model) or 1))
            for start in range(0, len(numbers), BATCH):
                some = numbers[start : start + BATCH]
                made[batch.remote(travelling, [(runs[number].messages, runs[number].options) for number in some])] = (
                    some
                )
        while made:
            [done], _ = ray.wait(list(made), num_returns=1)
            yield from zip(made.pop(done), ray.get(done), strict=True)
    finally:
        for reference in made:
            ray.cancel(reference)


def _by_model(runs: Sequence[Run]) -> dict[Engine, list[int]]:
    numbers: dict[Engine, list[int]] = {}
    for number, run in enumerate(runs):
        numbers.setdefault(run.model, []).append(number)
    return numbers


def _batch(travelling: TravellingModel, requests: Sequence[tuple[Sequence[Message], ChatOptions]]) -> list[Made]:
    """Make some replies, in a worker, and return them in the order of the requests."""
    model = travelling.get()
    made = dict(make_replies([Run({}, model, messages, options, None) for messages, options in requests]))
    return [made[number] for number in range(len(requests))]
