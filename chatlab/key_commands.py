"""Key commands: `chatlab keys add`, `list`, `revoke`, `budget` and `usage`.

In: what is typed in a terminal. Out: a key file that `chatlab serve --api-keys` reads, and what its learners have used.
Knows nothing of its own, nor of
the server that is running: it notices the change of the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from chatlab.server.api_keys import KeyFile

__all__ = ["app"]

app = typer.Typer(help="Make and revoke the keys of a room, one for each learner. Alone: list.")

File = Annotated[Path, typer.Option(help="The key file, as given to `chatlab serve --api-keys`.")]
Limit = Annotated[str | None, typer.Option(help="A number, or 'none' for no limit.")]
FILE = Path("api-keys.yaml")


@app.callback(invoke_without_command=True)
def _keys(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_keys()


@app.command()
def add(
    names: Annotated[list[str], typer.Argument(help="Whose keys to make.")],
    file: File = FILE,
    teacher: Annotated[bool, typer.Option("--teacher", help="A key that may see what everybody uses.")] = False,
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
    tokens_per_day: Limit = None,
) -> None:
    """Make keys and print them, once: only their digests are kept."""
    limits = _limits(requests_per_minute, tokens_per_minute, tokens_per_day)
    for name in names:
        print(f"{name}: {_key_file(file).add(name, teacher=teacher, limits=limits)}")


@app.command("list")
def list_keys(file: File = FILE) -> None:
    """List who has a key, and what it may use."""
    holders = _key_file(file).holders().values()
    rows = [("name", "made", "requests/min", "tokens/min", "tokens/day", "")]
    for holder in holders:
        budget = holder.budget
        limits = [budget.requests_per_minute, budget.tokens_per_minute, budget.tokens_per_day]
        shown = ["no limit" if limit is None else f"{limit:,}" for limit in limits]
        rows.append((holder.name, holder.made, *shown, "teacher" if holder.teacher else ""))  # type: ignore[arg-type]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def revoke(names: Annotated[list[str], typer.Argument(help="Whose keys to revoke.")], file: File = FILE) -> None:
    """Revoke keys: a server that is running refuses them from its next request on."""
    for name in names:
        _key_file(file).revoke(name)
        print(f"{name}'s key is revoked.")


@app.command()
def budget(
    name: Annotated[str | None, typer.Argument(help="Whose; without it, everyone's who has none of their own.")] = None,
    file: File = FILE,
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
    tokens_per_day: Limit = None,
) -> None:
    """Change how much a key may use, and list all; tokens are those of prompts and replies together."""
    limits = _limits(requests_per_minute, tokens_per_minute, tokens_per_day)
    if limits:
        _key_file(file).set_limits(limits, name)
    list_keys(file)


@app.command()
def usage(
    file: File = FILE,
    write: Annotated[Path | None, typer.Option(help="Write to this file instead of the screen.")] = None,
) -> None:
    """Print what everybody has used, day by day, as CSV."""
    from chatlab.files import write_whole
    from chatlab.server.usage import Usage, usage_path

    _key_file(file).holders()
    table = Usage(usage_path(file)).to_csv()
    if write is None:
        print(table, end="")
    else:
        write_whole(write, table.encode())
        print(f"Written: {write}")


def _key_file(path: Path) -> KeyFile:
    from chatlab.server.api_keys import KeyFile

    return KeyFile(path)


def _limits(*given: str | None) -> dict[str, int | None]:
    """Return the limits that were given, by name."""
    from chatlab.server.api_keys import LIMITS

    limits: dict[str, int | None] = {}
    for name, text in zip(LIMITS, given, strict=True):
        if text == "none":
            limits[name] = None
        elif text is not None:
            if not text.isdecimal() or int(text) < 1:
                raise typer.BadParameter(f"--{name.replace('_', '-')} is a number from 1, or 'none', not {text!r}.")
            limits[name] = int(text)
    return limits
