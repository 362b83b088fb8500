"""Findings: what lint has to say, and the mends that can be applied.

In: rules' verdicts on a list of messages. Out: `Findings`, a list that shows itself, one line or row for each, and that
can return the messages mended. Knows nothing of the rules themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from chatlab.display import escape, view
from chatlab.messages import Message

__all__ = ["Change", "Finding", "Findings"]

# What a mend does: messages in, as far as they can be told from anything else; messages out.
Change: TypeAlias = Callable[[Any], list[Any]]


@dataclass(frozen=True)
class Finding:
    """One thing to look at: `rule` names it, `place` says where, `reason` why it matters, `mend` what to do."""

    rule: str
    severity: Literal["error", "warning"]
    place: str
    reason: str
    mend: str
    _change: Change | None = field(default=None, repr=False, compare=False)

    @property
    def fixable(self) -> bool:
        """Whether `fix()` can mend this by itself, as things stand; some only once another mistake is mended."""
        return self._change is not None

    def __str__(self) -> str:
        return f"{self.severity} at {self.place} ({self.rule}): {self.reason} {self.mend}"


class Findings(list[Finding]):
    """A list of findings that shows itself, one finding a line; `fix()` returns the messages mended.

    >>> finding = Finding("blank-content", "warning", "messages[0]", "The message says nothing.", "Fill it or drop it.")
    >>> Findings([finding], fix=list)
    warning at messages[0] (blank-content): The message says nothing. Fill it or drop it.
    >>> Findings([], fix=list)
    nothing to mend
    """

    def __init__(self, findings: Iterable[Finding], *, fix: Callable[[], list[Any]]) -> None:
        super().__init__(findings)
        self._fix = fix

    def fix(self) -> list[Message]:
        """Return a new list of messages with every mend applied that needs no decision of yours; never raises.

        What is left after that, such as a missing question, only you can know: lint the result to see it.
        """
        return self._fix()

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or "nothing to mend"

    def _repr_html_(self) -> str:
        """Show the findings as a table."""
        if not self:
            return view("nothing to mend")
        names = ("severity", "place", "rule", "reason", "mend")
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(getattr(finding, name))}</td>' for name in names)}</tr>" for finding in self
        )
        return view(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>", css_class="chatlab-findings")
