"""Sweeps: prompts × settings × seeds, as a table of replies and what can be measured of them.

In: prompts, lists of settings, a model. Out: a `Sweep` over a pandas table, whose rows are kept on disk as they come.
Knows nothing of how replies are made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pandas as pd
from pandas.api.types import is_numeric_dtype
from tqdm.auto import tqdm

from chatlab.display import count_of, escape, table_html, table_text, view
from chatlab.engines import Engine
from chatlab.errors import BadRequestError
from chatlab.experiments.comparing import Comparison, compare
from chatlab.experiments.grid import Expected, Prompts, Run, plan
from chatlab.experiments.making import Made, check_runs, identity, key_of, make_replies
from chatlab.experiments.metrics import agreement, distinct_words, exact_match
from chatlab.experiments.on_cluster import make_replies_on
from chatlab.experiments.rows import Row, RowsFile
from chatlab.remote import engine_of
from chatlab.weights.home import home

if TYPE_CHECKING:
    from chatlab.plots.facets import Point
    from chatlab.plots.figures import Plot

__all__ = ["Judge", "Sweep", "sweep"]

Judge: TypeAlias = Callable[[Mapping[str, Any]], float | bool]
Models: TypeAlias = Engine | str | Path | Sequence[Engine | str | Path] | Mapping[str, Engine | str | Path] | None

MAX_COMPLETION_TOKENS = 64
SHOWN = 30  # conditions
PANELS = 12
LONGEST_LABEL = 60


class Sweep:
    """The replies of a sweep: `table` has a row for each, `summary` one for each condition.

    `missing` is how many replies are not there because the sweep was interrupted; the same call goes on with them.
    """

    def __init__(self, runs: Sequence[Run], made: Sequence[Made | None], *, judge: Judge | None) -> None:
        self.runs = [run for run, each in zip(runs, made, strict=True) if each is not None]
        self.missing = len(runs) - len(self.runs)
        self.axes = [name for name in runs[0].place if name != "seed"]
        self.table = _table(self.runs, [each for each in made if each is not None], judge, list(runs[0].place))

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """What each condition, a prompt with its settings, comes to over its seeds.

        `replies` is their number. `tokens`, `entropy` (bits), `exact` and `judge` are means; `distinct_1` and
        `distinct_2` are those of all replies together, `agreement` is the share of pairs of replies that are equal.
        """
        return pd.DataFrame(
            [
                {**dict(zip(self.axes, names, strict=True)), **_measures(rows)}
                for names, rows in self.table.groupby(self.axes, sort=False)
            ],
        )

    def compare(
        self,
        a: Mapping[str, Any],
        b: Mapping[str, Any],
        metric: str,
        *,
        by: Literal["prompt", "seed"] | None = None,
        confidence: float = 0.95,
        resamples: int = 10_000,
        seed: int = 0,
    ) -> Comparison:
        """Return how much larger a metric of the summary is under condition b than under a, with its interval.

        A condition is a dict of values, such as `{"temperature": 0}`; all replies with these values belong to it. The
        bootstrap draws prompts again or, where there is only one, seeds: `by` says which. `seed` is the bootstrap's
        own. Raises `BadRequestError` for a condition or metric that is not there.

        >>> from chatlab.testing import ScriptedModel
        >>> swept = sweep(["Hi", "Ho"], ScriptedModel("Hello!"), temperature=[0, 1], store=False, progress=False)
        >>> swept.compare({"temperature": 0}, {"temperature": 1}, "tokens").difference
        0.0
        """
        by = by or ("prompt" if self.table["prompt"].nunique() > 1 else "seed")
        self._check_metric(metric)
        chosen = [self._rows_of(name, condition) for name, condition in (("a", a), ("b", b))]
        units = [list(rows[by].unique()) for rows in chosen]
        if units[0] != units[1]:
            raise BadRequestError(f"a and b have different {by}s, so they cannot be compared one by one.", param="b")
        measured = [[self._mean(rows[rows[by] == unit], metric) for unit in units[0]] for rows in chosen]
        names = [", ".join(f"{name}={_label(value)}" for name, value in each.items()) for each in (a, b)]
        return compare(
            metric,
            (names[0], measured[0]),
            (names[1], measured[1]),
            unit=by,
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )

    def plot(self, metric: str = "agreement", *, x: str | None = None, facet: str | None = None) -> Plot:
        """Draw a metric of the summary over an axis `x`, a panel for each value of `facet`, a line for all others.

        `x` None is the first axis of numbers, `facet` None the first that is left. Small dots are single replies.
        Raises `BadRequestError` for an axis or metric that is not there.
        """
        from chatlab.plots.facets import Point, facet_lines  # Matplotlib only when something is drawn

        self._check_metric(metric)
        for name, axis in (("x", x), ("facet", facet)):
            if axis is not None and axis not in self.axes:
                raise BadRequestError(f"{name} is {axis!r}, but the axes are {', '.join(self.axes)}.", param=name)
        several = [name for name in self.axes if self.table[name].nunique() > 1 and name != facet] or self.axes
        x = x or next((name for name in several if is_numeric_dtype(self.table[name])), several[-1])
        facet = facet or next((name for name in [*several, *self.axes] if name != x), None)
        others = [name for name in several if name not in (x, facet)]
        panels: dict[str, dict[str, list[Point]]] = {}
        for names, rows in self.table.groupby(self.axes, sort=False):
            place = dict(zip(self.axes, names, strict=True))
            line = panels.setdefault(str(place[facet]) if facet else "", {}).setdefault(
                ", ".join(f"{name} {_label(place[name])}" for name in others), []
            )
            values = rows[metric].dropna() if metric in _MEANS else ()
            line.append(Point(place[x], _measures(rows)[metric], tuple(values)))
        if len(panels) > PANELS:
            raise BadRequestError(
                f"{len(panels)} values of {facet} are too many panels. Take another axis as facet=, or sweep fewer.",
                param="facet",
            )
        for lines in panels.values():
            for line in lines.values():
                if is_numeric_dtype(self.table[x]):
                    line.sort(key=lambda point: float(point.x))
        return facet_lines(panels, x=x, y=_WITH_UNITS.get(metric, metric))

    def _mean(self, rows: pd.DataFrame, metric: str) -> float:
        """Return the mean of a metric over the conditions that the rows belong to."""
        conditions = [_measures(each)[metric] for _, each in rows.groupby(self.axes, sort=False)]
        return sum(conditions) / len(conditions)

    def _check_metric(self, metric: str) -> None:
        if metric not in _METRICS:
            raise BadRequestError(f"metric must be one of {', '.join(_METRICS)}, but is {metric!r}.", param="metric")
        if not len(self):
            raise BadRequestError("There are no replies yet.", param="metric")

    def _rows_of(self, side: str, condition: Mapping[str, Any]) -> pd.DataFrame:
        rows = self.table
        for name, value in condition.items():
            if name not in self.axes or not (rows[name] == value).any():
                raise BadRequestError(f"There are no replies of {side} with {name}={value!r}.", param=side)
            rows = rows[rows[name] == value]
        return rows

    @property
    def _title(self) -> str:
        models = " and ".join(dict.fromkeys(run.model.name for run in self.runs)) or "nobody"
        shape = " × ".join(_number_of(name, self.table[name].nunique()) for name in [*self.axes, "seed"])
        missing = f" Interrupted: {self.missing} more are missing; the same call goes on." if self.missing else ""
        return f"Sweep of {shape}: {len(self)} replies by {models}.{missing}"

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        shown = self.summary.head(SHOWN).dropna(axis="columns", how="all")
        shows = [_label] * (len(self.axes) + 1) + [_cell] * (len(shown.columns) - len(self.axes) - 1)
        rows = [[show(value) for show, value in zip(shows, row, strict=True)] for row in shown.itertuples(index=False)]
        return list(shown.columns), rows

    @property
    def _left_out(self) -> str:
        more = len(self.summary) - SHOWN
        return f"... and {count_of(more, 'more condition')}: .summary has all, .table every reply." if more > 0 else ""

    def __repr__(self) -> str:
        header, rows = self._cells()
        return "\n".join(filter(None, [self._title, table_text(header, rows) if rows else "", self._left_out]))

    def _repr_html_(self) -> str:
        """Show the summary as a table, with the replies of each condition to unfold."""
        header, rows = self._cells()
        unfolded = "".join(
            f"<details><summary>{escape(', '.join(map(_label, names)))}</summary><ol>"
            + "".join(f'<li class="chatlab-text">{escape(reply)}</li>' for reply in rows["reply"])
            + "</ol></details>"
            for names, rows in [*self.table.groupby(self.axes, sort=False)][:SHOWN]
        )
        return view(
            f"<div>{escape(self._title)}</div>{table_html(header, rows)}<div>{escape(self._left_out)}</div>"
            f"<details><summary>replies</summary>{unfolded}</details>"
        )


def sweep(
    prompts: Prompts,
    model: Models = None,
    *,
    seeds: int | Iterable[int] = 1,
    expected: Expected | None = None,
    judge: Judge | None = None,
    max_completion_tokens: Any = MAX_COMPLETION_TOKENS,
    store: str | Path | Literal[False] | None = None,
    again: bool = False,
    cluster: str | bool | None = None,
    progress: bool = True,
    **grid: Any,
) -> Sweep:
    """Let a model reply to every prompt, with every combination of settings, once for each seed.

    `prompts` is a text, a list of texts or of message lists, or a dict from names to either. `model` is what
    `chat_completions` takes, a list of such, or a dict from names to them. In the `grid` stands any parameter of
    `chat_completions`, and `system`: a list is an axis, anything else holds for all replies; a value that is a list
    itself stands in a list, `stop=[["END"]]`. `system` may be a dict from names to wordings. `seeds` is a number or a
    list.

    `expected` are the right replies, one for all prompts, a list of one for each, or a dict by the prompts' names;
    several that are right stand in a list. `judge` is called with each row of the table, a dict, and returns a number
    or a bool. Neither is part of what is stored: change them, and no reply is made again.

    Each reply is a line of JSON in the file `store` (None: one for each model in chatlab's cache folder; False: none)
    as soon as it is there, and is not made again by a later call with the same request, model and version, unless
    `again`. Interrupt it (Ctrl-C, or Stop in a notebook) and you get the rows that are there.

    `cluster` lets Ray's workers make the replies, each with a core and a model of its own: "local" for the cores here,
    the address of a Ray cluster, or True for the one at hand. It needs `pip install 'chatlab-classroom[cluster]'`.

    On this machine the table is the same whatever the order, the batches or the interruptions, on the same kind of
    processor; replies at temperature 0 are made once for all seeds. A server's are what it answered the first time.
    Raises `BadRequestError` before any work for what a model would refuse.

    >>> from chatlab.testing import ScriptedModel
    >>> sweep("Hi", ScriptedModel("Hello!"), temperature=[0, 1], seeds=2, store=False, progress=False)
    Sweep of 1 prompt × 2 values of temperature × 2 seeds: 4 replies by scripted.
    prompt  temperature  replies  tokens  entropy  distinct_1  agreement
    Hi      0            2        7       0.00     0.50        1.00
    Hi      1            2        7       0.00     0.50        1.00
    """
    models = _models(model)
    grid = {"max_completion_tokens": max_completion_tokens, **grid}
    runs = plan(prompts, models, grid, seeds=seeds, expected=expected)
    identities = {each: identity(each) for each in models.values()}
    files = {each: _file(store, identities[each]) for each in models.values()}
    keys = [key_of(run, identities[run.model]) for run in runs]
    rows: dict[str, Row] = {}
    if not again:
        for file in filter(None, files.values()):
            rows |= file.read()
    missing = {key: run for key, run in zip(keys, runs, strict=True) if key not in rows}
    todo, todo_keys = list(missing.values()), list(missing)
    check_runs(todo)
    with tqdm(total=len(set(keys)), initial=len(set(keys)) - len(todo), unit="reply", disable=not progress) as bar:
        try:
            for number, made in make_replies_on(cluster, todo) if cluster else make_replies(todo):
                rows[todo_keys[number]] = _keep(files, todo[number], todo_keys[number], made)
                bar.update()
        except KeyboardInterrupt:
            pass  # what is there is in the file, and in the table
    return Sweep(runs, [rows.get(key) for key in keys], judge=judge)


def _models(model: Models) -> dict[str, Engine]:
    """Return the models by the names that tell them apart."""
    if isinstance(model, Mapping):
        return {name: engine_of(each) for name, each in model.items()}
    listed = model if isinstance(model, Sequence) and not isinstance(model, str) else [model]
    models = [engine_of(each) for each in listed]
    named = {each.name: each for each in models}
    if not models or len(named) < len(models):
        raise BadRequestError(
            f"model holds {count_of(len(models), 'model')} of {count_of(len(named), 'name')}. Give a dict from a name "
            "of your own for each to the model.",
            param="model",
        )
    return named


def _file(store: str | Path | Literal[False] | None, identity: Mapping[str, Any]) -> RowsFile | None:
    if store is False:
        return None
    if store is not None:
        return RowsFile(Path(store).expanduser())
    name = re.sub(r"[^\w.-]+", "-", f"{identity['name']}-{identity.get('weights') or identity['base_url']}")
    return RowsFile(home() / "sweeps" / f"{name}.jsonl")


def _keep(files: Mapping[Engine, RowsFile | None], run: Run, key: str, made: Made) -> Row:
    """Return the row of a reply, once it stands in its file."""
    options = {name: value for name, value in run.options.items() if value is not None}
    row = {"key": key, "model": run.model.name, "messages": list(run.messages), "options": options, **made}
    if file := files[run.model]:
        file.add(row)
    return row


def _table(runs: Sequence[Run], made: Sequence[Made], judge: Judge | None, place: list[str]) -> pd.DataFrame:
    """Return a row for each reply: its place, the reply, its measures."""
    rows = []
    for run, each in zip(runs, made, strict=True):
        row: dict[str, Any] = {**run.place, **{name: each[name] for name in _MADE}}
        row["distinct_1"] = distinct_words([row["reply"]], n=1)
        row["distinct_2"] = distinct_words([row["reply"]], n=2)
        row["exact"] = math.nan if run.expected is None else float(exact_match(row["reply"], run.expected))
        row["judge"] = math.nan if judge is None else float(judge(row))
        rows.append(row)
    table = pd.DataFrame(rows, columns=[*place, *_MADE, "distinct_1", "distinct_2", "exact", "judge"])
    return table.astype({name: float for name in ("prompt_tokens", "tokens", "entropy")})


_MEANS = ("tokens", "entropy", "exact", "judge")  # of a condition, each the mean of its replies
_WITH_UNITS = {"entropy": "entropy (bits)"}
_METRICS = (*_MEANS, "distinct_1", "distinct_2", "agreement")
_MADE = ("reply", "finish_reason", "prompt_tokens", "tokens", "entropy")


def _measures(rows: pd.DataFrame) -> dict[str, float]:
    """Return what the replies of one condition come to."""
    replies = list(rows["reply"])
    return {
        "replies": len(rows),
        "tokens": rows["tokens"].mean(),
        "entropy": rows["entropy"].mean(),
        "distinct_1": distinct_words(replies, n=1),
        "distinct_2": distinct_words(replies, n=2),
        "agreement": agreement(replies),
        "exact": rows["exact"].mean(),
        "judge": rows["judge"].mean(),
    }


def _number_of(axis: str, number: int) -> str:
    return count_of(number, axis) if axis in ("prompt", "model", "seed") else f"{count_of(number, 'value')} of {axis}"


def _cell(value: float) -> str:
    """Return a measure as a table shows it: nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.2f}" if value % 1 or value in (0, 1) else f"{value:g}"


def _label(value: object) -> str:
    """Return a value of an axis as a table shows it, on one line."""
    text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
