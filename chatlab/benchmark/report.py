"""The report of a benchmark: medians and ratios, as a table, as JSON, and in plain words.

In: samples. Out: a `Report` that shows itself as text and in a notebook. Knows nothing of how anything was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from chatlab.benchmark.measures import MEASURES, Sample
from chatlab.display import count_of, escape, table_html, table_text, view

__all__ = ["Report"]

BAR = 20  # characters
HEADER = ["", "ratio", "median", "lowest – highest", ""]


@dataclass
class Report:
    """What `chatlab.benchmark.run` measured: the `machine`, every sample, and why something was not measured.

    `complete` is False where it was interrupted. `median` and `ratio` give single figures.

    >>> samples = [Sample("decode", line, value, 2) for line, value in [("chatlab", 90), ("Transformers", 10)]]
    >>> Report({"cores": "2"}, samples).ratio("decode", "Transformers")
    9.0
    """

    machine: Mapping[str, str]
    samples: list[Sample] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    history_tokens: int = 0
    complete: bool = True

    def measures(self) -> list[str]:
        """Return the keys of what was measured, in order."""
        return [key for key in MEASURES if any(sample.measure == key for sample in self.samples)]

    def lines(self, measure: str) -> dict[str, list[float]]:
        """Return the figures of a measure, line by line, one a run."""
        lines: dict[str, list[float]] = {}
        for sample in self.samples:
            if sample.measure == measure:
                lines.setdefault(sample.line, []).append(sample.value)
        return lines

    def median(self, measure: str, line: str) -> float:
        """Return the median of a line's figures."""
        return median(self.lines(measure)[line])

    def ratio(self, measure: str, line: str) -> float:
        """Return what the measure's first line is, divided by this one: the median over the runs."""
        lines = self.lines(measure)
        first = next(iter(lines))
        if line == first:
            return 1.0
        return median(one / other for one, other in zip(lines[first], lines[line], strict=True))

    def threads(self, measure: str) -> list[int]:
        """Return the numbers of threads that every engine might use meanwhile."""
        return sorted({sample.threads for sample in self.samples if sample.measure == measure})

    def rows(self) -> list[list[str]]:
        """Return the table: for each measure a title, then its lines."""
        rows = []
        for measure in self.measures():
            title, unit = MEASURES[measure]
            rows.append([f"{title}, {unit}", "", "", "", ""])
            lines = self.lines(measure)
            longest = max(map(median, lines.values()))
            for number, (line, values) in enumerate(lines.items()):
                middle = median(values)
                rows.append(
                    [
                        f"  {line}",
                        _figure(self.ratio(measure, line)) if number else "",
                        _figure(middle),
                        f"{_figure(min(values))} – {_figure(max(values))}" if len(values) > 1 else "",
                        "█" * round(BAR * middle / longest) if len(lines) > 1 and longest > 0 else "",
                    ]
                )
        return rows

    def remarks(self) -> list[str]:
        """Return in plain words what the figures mean, and what is missing."""
        said = []
        if self.measures():
            said.append("ratio: the first line of its part, divided by this line; the median over the runs.")
        if "decode" in self.measures():
            threads = " or ".join(map(str, self.threads("decode")))
            said.append(
                f"A reply of 100 tokens takes about {_figure(100 / self.median('decode', 'chatlab'))} s here. Every "
                f"engine might use as many threads as cores were free ({threads} for one reply), for with more of them "
                f"every engine is slow; chatlab takes fewer where that is faster."
            )
        if "next_turn" in self.measures():
            later, first = (median(values) for values in self.lines("next_turn").values())
            said.append(
                f"After a history of {self.history_tokens:,} tokens a reply begins within {_figure(later)} s, and "
                f"within {_figure(first)} s where the history is read for the first time."
            )
        said += [f"Not measured: {what}: {why}." for what, why in self.absent.items()]
        if not self.complete:
            said.append("It was interrupted: only what had been measured by then is shown.")
        return said

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it, every single figure included."""
        return {
            "machine": dict(self.machine),
            "complete": self.complete,
            "measures": {
                measure: {
                    "title": MEASURES[measure][0],
                    "unit": MEASURES[measure][1],
                    "threads": self.threads(measure),
                    "lines": {
                        line: {
                            "median": median(values),
                            "ratio": self.ratio(measure, line),
                            "samples": values,
                        }
                        for line, values in self.lines(measure).items()
                    },
                }
                for measure in self.measures()
            },
            "not_measured": self.absent,
            "remarks": self.remarks(),
        }

    def __str__(self) -> str:
        facts = "\n".join(f"{name}: {value}" for name, value in self.machine.items())
        table = table_text(HEADER, self.rows())
        return "\n\n".join([facts, table, "\n".join(self.remarks())])

    def __repr__(self) -> str:
        return f"Report of {count_of(len(self.measures()), 'measure')}, {count_of(len(self.samples), 'sample')}"

    def _repr_html_(self) -> str:
        """Show the machine, the table and the remarks."""
        facts = ", ".join(f"{name}: {value}" for name, value in self.machine.items())
        remarks = "".join(f"<p>{escape(remark)}</p>" for remark in self.remarks())
        return view(f'<div class="chatlab-note">{escape(facts)}</div>{table_html(HEADER, self.rows())}{remarks}')


def _figure(value: float) -> str:
    """Return a number with as many digits as say something.

    >>> [_figure(value) for value in (1234.5, 95.12, 1.237, 0.0312)]
    ['1,234', '95.1', '1.24', '0.031']
    """
    decimals = next((places for limit, places in ((100, 0), (10, 1), (1, 2)) if abs(value) >= limit), 3)
    return f"{value:,.{decimals}f}"
