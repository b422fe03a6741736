"""Which keys are meant: by whole hashes, or by first characters that no other key has."""

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from openrouter_keys.cli.exit_codes import CommandError, UsageError
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.secrets.sources import STANDARD
from openrouter_keys.client import AsyncOpenRouter

Hash: TypeAlias = Annotated[
    str, Parameter(help="The hash of the key, or its first characters, as `list` shows them.")
]

# The SHA-256 of the secret.
_HASH: Final = re.compile(r"[0-9a-f]{6,64}")
_BEGINNING: Final = re.compile(r"[0-9a-f]{6,63}")
_PREFIX: Final = "sk-or-"


def hashes_given(given: Sequence[str], connection: Connection) -> list[str]:
    """Return the hashes that were given, or those on standard input for a `-`.

    Raises:
        CommandError: the management key is to come from there, too.
    """
    if [*given] != [STANDARD]:
        return [*given]
    connection.refuse_two_from_standard_input("the hashes")
    # The first word of each row, so that what `list` prints does as well, with `--csv` too.
    hashes = [words[0] for row in _rows(sys.stdin) if (words := row.split())]
    return [hash for hash in hashes if hash.lower() != "hash"]


def _rows(lines: Iterable[str]) -> Iterator[str]:
    """Each line, or the first cell of each row of CSV: a line of a key's name is no hash."""
    lines = iter(lines)
    first = next(lines, "")
    if "," not in first:
        yield first
        yield from lines
        return
    try:
        yield from (row[0] for row in csv.reader(chain([first], lines), strict=True) if row)
    except csv.Error as error:
        raise UsageError(f"standard input is not readable as CSV: {error}") from None


async def whole_hashes(client: AsyncOpenRouter, given: Sequence[str]) -> list[str]:
    """Return the whole hash for each that was given.

    Keys are listed only if a beginning was given.

    Raises:
        CommandError: it is no hash, or no key's hash begins so, or several do.
    """
    for each in given:
        if each.startswith("-"):
            raise UsageError(f"there is no option {each}")
        if each.startswith(_PREFIX):
            # It stood on the command line, where others see it.
            hint = "replace the leaked key; `find` reads a secret from standard input"
            raise UsageError(f"a secret was given in place of a hash: {hint}")
        if not _HASH.fullmatch(each):
            hint = "six hexadecimal digits or more; `list --name` finds the key of a name"
            raise UsageError(f"{each!r} is no hash: {hint}")
    if not any(_BEGINNING.fullmatch(each) for each in given):
        return [*given]
    known = [
        key.hash
        async for key in client.api_keys.iterate(include_disabled=True, include_expired=True)
    ]
    return [_match(each, known) for each in given]


def _match(given: str, known: Sequence[str]) -> str:
    if not _BEGINNING.fullmatch(given):
        return given
    found = [hash for hash in known if hash.startswith(given)]
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} keys' hashes begin" if found else "no key's hash begins"
    hint = "give more of it" if found else "of another workspace, give the whole hash"
    raise CommandError(f"{problem} with {given}: {hint}")
