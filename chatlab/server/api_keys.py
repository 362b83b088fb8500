"""API keys: a file with a key for each learner, and what each may use.

In: names, and keys as clients send them. Out: whose key it is, with that learner's budget; the file itself, whole or
not at all. It holds no key: a key is shown once, when it is made, and only its digest is kept. Knows nothing of HTTP.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from chatlab.errors import KeyFileError
from chatlab.files import write_whole

__all__ = ["Budget", "KeyFile", "KeyHolder", "fingerprint"]

logger = logging.getLogger("chatlab.server")

FORMAT = 1
PREFIX = "sk-chatlab-"  # so that a key is known for what it is, by people and by scanners of published code
KEY_BYTES = 32
NAME = re.compile(r"\w(?:[\w .@-]{0,38}[\w.])?")
SECONDS_TO_WAIT = 10.0  # for another command that is writing


def fingerprint(key: str) -> bytes:
    """Return the digest of a key, which can be compared, and kept, without telling the key.

    A fast hash is right here. A slow one, as for passwords, makes guessing dear where there is little to guess; a key
    has 256 random bits, which nobody guesses at any speed, and each request has to be checked quickly.

    >>> fingerprint("sk-chatlab-abc").hex()[:12]
    '96e5cca0a74c'
    """
    return hashlib.sha256(key.encode()).digest()


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much one key may use: requests and tokens in a minute, tokens in a day; None is without a limit.

    Tokens are those of prompts and replies together. A day is the calendar day of the server's clock.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None


LIMITS = tuple(each.name for each in fields(Budget))
USUAL = Budget(requests_per_minute=60, tokens_per_minute=20_000, tokens_per_day=500_000)  # what a new file begins with


@dataclass(frozen=True)
class KeyHolder:
    """Whose key it is: a learner, or a teacher, who may see what everybody uses."""

    name: str
    budget: Budget
    teacher: bool = False
    made: str = ""
    digest: bytes = field(default=b"", repr=False)


class KeyFile:
    """The keys of a room, in one YAML file; a server that runs notices each change of it.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> keys = KeyFile(Path(folder.name) / "api-keys.yaml")
    >>> key = keys.add("ada")
    >>> keys.whose(key).name, keys.whose("sk-chatlab-guessed"), key in keys.path.read_text()
    ('ada', None, False)
    >>> keys.revoke("ada")
    >>> keys.whose(key) is None
    True
    >>> folder.cleanup()
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._holders: dict[str, KeyHolder] = {}
        self._seen: tuple[int, ...] | None = None

    def holders(self) -> dict[str, KeyHolder]:
        """Return everyone with a key, by name. Raises `KeyFileError` where there is no such file, or it is no such."""
        return _holders(self._read())

    def whose(self, key: str) -> KeyHolder | None:
        """Return whose key it is, None where it is nobody's; the file is read again if it has changed.

        One that cannot be read any more changes nothing: the keys that were good stay good, and the log says so.
        """
        self._look_again()
        found, digest = None, fingerprint(key)
        # All keys are compared, each in constant time, so that the time taken tells nothing about any of them.
        for holder in self._holders.values():
            if hmac.compare_digest(digest, holder.digest):
                found = holder
        return found

    def current(self) -> dict[str, KeyHolder]:
        """Return everyone with a key, by name, as `whose` knows them: where the file is spoilt, as they were before."""
        self._look_again()
        return self._holders

    def add(self, name: str, *, teacher: bool = False, limits: Mapping[str, int | None] | None = None) -> str:
        """Make a key for someone and return it; nobody can find it out later. `limits` are those that differ.

        Raises `KeyFileError` for a name that is taken or cannot be one.
        """
        if not NAME.fullmatch(name):
            raise KeyFileError(
                f"{name[:60]!r} cannot be a name: take up to 40 letters and digits, with spaces or any of .@_- inside."
            )
        key = PREFIX + secrets.token_urlsafe(KEY_BYTES)

        def add(content: dict[str, Any]) -> None:
            if name in content["keys"]:
                raise KeyFileError(f"{name!r} has a key. Take another name, or revoke that key first.")
            entry: dict[str, Any] = {"sha256": fingerprint(key).hex(), "made": date.today().isoformat()}
            if teacher:
                entry["teacher"] = True
            if limits:
                entry["budget"] = dict(limits)
            content["keys"][name] = entry

        self._change(add, create=True)
        return key

    def revoke(self, name: str) -> None:
        """Forget a key: from now on it opens nothing. Raises `KeyFileError` where nobody has that name."""
        self._change(lambda content: content["keys"].pop(_known(content, name)))

    def set_limits(self, limits: Mapping[str, int | None], name: str | None = None) -> None:
        """Change the limits given, for one key, or for everyone who has none of their own."""

        def change(content: dict[str, Any]) -> None:
            entry = content if name is None else content["keys"][_known(content, name)]
            entry["budget"] = {**(entry.get("budget") or {}), **limits}

        self._change(change)

    def _look_again(self) -> None:
        seen: tuple[int, ...] = ()
        with contextlib.suppress(OSError):
            about = os.stat(self.path)
            seen = (about.st_mtime_ns, about.st_size, about.st_ino)
        if seen == self._seen:
            return
        try:
            self._holders = self.holders()
        except KeyFileError as error:
            logger.warning("The keys stay as they were: %s", error)
        else:
            logger.info("%d keys read from %s.", len(self._holders), self.path)
        self._seen = seen

    def _change(self, change: Callable[[dict[str, Any]], object], *, create: bool = False) -> None:
        """Read, change and write the file, with no other command in between."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f"{self.path.name}.lock"), timeout=SECONDS_TO_WAIT):
                new = create and not self.path.exists()
                content = {"format": FORMAT, "budget": _given(USUAL), "keys": {}} if new else self._read()
                change(content)
                _holders(content)  # what could not be read again is not written
                text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
                write_whole(self.path, text.encode(), mode=0o600)
        except OSError as error:
            raise KeyFileError(f"The key file {self.path} cannot be written: {error.strerror or error}.") from error

    def _read(self) -> dict[str, Any]:
        try:
            content = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise KeyFileError(
                f"There is no key file {self.path}. `chatlab keys add NAME --file {self.path}` makes one."
            ) from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise KeyFileError(f"The key file {self.path} cannot be read: {' '.join(str(error).split())}.") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise KeyFileError(f"{self.path} is not a key file of format {FORMAT}: make one with `chatlab keys add`.")
        content["keys"] = content.get("keys") or {}
        return content


def _known(content: Mapping[str, Any], name: str) -> str:
    if name not in content["keys"]:
        there = ", ".join(content["keys"]) or "nobody"
        raise KeyFileError(f"Nobody called {name!r} has a key. There is: {there}.")
    return name


def _given(budget: Budget) -> dict[str, int | None]:
    return {name: getattr(budget, name) for name in LIMITS}


def _holders(content: Mapping[str, Any]) -> dict[str, KeyHolder]:
    """Return everyone in the file, by name, each with the file's limits where they have none of their own."""
    usual = _limits(content.get("budget"), "budget")
    holders = {}
    try:
        for name, entry in dict(content["keys"]).items():
            budget = Budget(**{**usual, **_limits(entry.get("budget"), f"the budget of {name!r}")})
            holders[str(name)] = KeyHolder(
                str(name),
                budget,
                teacher=entry.get("teacher") is True,
                made=str(entry.get("made", "")),
                digest=bytes.fromhex(entry["sha256"]),
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise KeyFileError(f"The key file has an entry that is none ({error!r}). Each has its sha256.") from error
    return holders


def _limits(given: object, where: str) -> dict[str, int | None]:
    """Return the limits that stand somewhere in the file; raise for what is none."""
    if given is None:
        return {}
    if not isinstance(given, dict) or not set(given) <= set(LIMITS):
        raise KeyFileError(f"In the key file, {where} must hold {', '.join(LIMITS)}, or some of them; it is {given!r}.")
    for name, limit in given.items():
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise KeyFileError(f"In the key file, {name} in {where} must be a number from 1, or null; it is {limit!r}.")
    return given
