"""Which keys are meant: by hashes, by first characters that no other has, or by names."""

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from openrouter_keys.cli.exit_codes import CommandError, UsageError
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.secrets.sources import STANDARD
from openrouter_keys.cli.terminal.messages import keys, say
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.models import Key

#: How a key is given.
WAYS: Final = "a hash, its first characters, as `list` shows them, or a name that one key has"

Hash: TypeAlias = Annotated[str, Parameter(help=f"The key: {WAYS}.")]

# The SHA-256 of the secret.
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_BEGINNING: Final = re.compile(r"[0-9a-f]{6,63}")
_PREFIX: Final = "sk-or-"
_COLUMNS: Final = ("hash", "name")
_LARGEST: Final = 100_000_000
_ELSEWHERE: Final = "of another workspace, give the whole hash"


def hashes_given(given: Sequence[str], connection: Connection) -> list[str]:
    """Return the keys that were given, or those on standard input for a `-`.

    Raises:
        CommandError: the management key is to come from there, too.
    """
    if [*given] != [STANDARD]:
        return [*given]
    return keys_in(STANDARD, connection)


def keys_in(file: str, connection: Connection) -> list[str]:
    """Return the keys that a file names, one a line: what `list` prints does as well.

    Args:
        file: its path; `-`: standard input.
        connection: where the management key comes from.

    Raises:
        UsageError: it cannot be read, or it is not clear which keys it names.
    """
    if file == STANDARD:
        connection.refuse_two_from_standard_input("the hashes")
        return [*_cells(sys.stdin, "standard input")]
    try:
        if Path(file).stat().st_size > _LARGEST:
            raise UsageError(f"{file} is too large to be a list of keys")
        return [*_cells(Path(file).read_text("utf-8-sig").splitlines(), file)]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8 text") from None


def _cells(lines: Iterable[str], file: str) -> Iterator[str]:
    """Go through the keys that a file's lines name; a line of a key's name in CSV is no key."""
    lines = iter(lines)
    first = next(lines, "").removeprefix("\ufeff")
    every: Iterable[str] = chain([first], lines)
    if "\t" in first:
        yield from _column([line.rstrip("\r\n").split("\t") for line in every])
    elif "," in first:
        try:
            yield from _column([*csv.reader(every, strict=True)])
        except csv.Error as error:
            raise UsageError(f"{file} is not readable as CSV: {error}") from None
    else:
        # A table's headings are in capitals.
        if first.strip().casefold() in _COLUMNS or first.startswith("HASH "):
            every = lines
        yield from (_of_line(line) for line in every if line.strip())


def _of_line(line: str) -> str:
    # What a table shows begins with a part of a hash; a name may hold spaces.
    word = line.split(maxsplit=1)[0]
    return word if _HASH.fullmatch(word) or _BEGINNING.fullmatch(word) else line.strip()


def _column(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Go through the cells that name keys: those of the column of hashes, or else of names."""
    header = [cell.strip().casefold() for cell in rows[0]]
    for name in _COLUMNS:
        if name in header:
            column = header.index(name)
            cells = (row[column].strip() for row in rows[1:] if len(row) > column)
            yield from (cell for cell in cells if cell)
            return
    for row in rows:
        cell = row[0].strip() if row else ""
        if cell and not (_HASH.fullmatch(cell) or _BEGINNING.fullmatch(cell)):
            hint = "begin with a header that has `hash` or `name`"
            raise UsageError(f"{cell!r} is no hash, and no header says what it is: {hint}")
        if cell:
            yield cell


async def whole_hashes(
    client: AsyncOpenRouter, given: Sequence[str], *, missing_ok: bool = False
) -> list[str]:
    """Return the whole hash for each key that was given.

    Keys are listed only if something else than a whole hash was given.

    Args:
        client: what lists them.
        given: hashes, their beginnings, or names.
        missing_ok: whether what no key has is said, and left out.

    Raises:
        CommandError: no key has it, or several have.
    """
    for each in given:
        if not each.strip():
            raise UsageError("the key's hash or name is empty")
        if each.startswith("-"):
            raise UsageError(f"there is no option {each}")
        if each.startswith(_PREFIX):
            # It stood on the command line, where others see it.
            hint = "replace the leaked key; `find` reads a secret from standard input"
            raise UsageError(f"a secret was given in place of a hash: {hint}")
    if all(map(_HASH.fullmatch, given)):
        return [*given]
    every = client.api_keys.iterate(include_disabled=True, include_expired=True)
    known = [key async for key in every]
    found: list[str] = []
    for each in given:
        if (hash := _whole(each, known)) is not None:
            found.append(hash)
        elif missing_ok:
            say(_missing(each, known))
        else:
            raise CommandError(_missing(each, known))
    return found


def _whole(given: str, known: Sequence[Key]) -> str | None:
    """Return the hash of the one key that is meant; None: no key is."""
    if _HASH.fullmatch(given):
        return given
    begins = bool(_BEGINNING.fullmatch(given))
    found = [key for key in known if key.name == given or (begins and key.hash.startswith(given))]
    if len(found) < 2:
        return found[0].hash if found else None
    if all(key.name == given for key in found):
        problem = f"{keys(len(found))} have the name {given!r}: give the hash of one"
    elif all(key.hash.startswith(given) for key in found):
        problem = f"{len(found)} keys' hashes begin with {given}: give more of it"
    else:
        problem = f"{given} is one key's name, and another's hash begins so: give more of a hash"
    raise CommandError(problem, more=[_line(key) for key in found])


def _line(key: Key) -> str:
    off = ", disabled" if key.disabled else ""
    return f"{key.hash}  {key.name!r}, created {key.created_at:%Y-%m-%d}{off}"


def _missing(given: str, known: Iterable[Key]) -> str:
    """Return what to say of what no key has."""
    alike = [key.name for key in known if key.name.casefold() == given.strip().casefold()]
    hint = f"there is {alike[0]!r}" if alike else _ELSEWHERE
    if any(sign in given for sign in "*?["):
        return f"no key has the name {given!r}: for a pattern, give --name"
    if _BEGINNING.fullmatch(given):
        return f"no key's hash begins with {given}, and none has it for its name: {hint}"
    return f"no key has the name {given!r}: {hint}; `list --all` shows all"
