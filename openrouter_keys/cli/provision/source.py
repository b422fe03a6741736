"""The file that says which keys there are to be, and the journal beside it."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.journal.export import reading
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.journal import Place, place_of
from openrouter_keys.cli.secrets.sources import STANDARD
from openrouter_keys.cli.specs.expiries import known_expiries
from openrouter_keys.cli.specs.file import FileFormat, SpecFile, spec_file
from openrouter_keys.journal.engines import is_begun


def source_of(file: str | Path | None, connection: Connection, what: str) -> str:
    """Return the file that is given.

    Args:
        file: as the command line has it.
        connection: may want standard input for itself.
        what: what is done with its keys.

    Raises:
        UsageError: none is given, or standard input is wanted twice.
    """
    if file is None:
        raise UsageError(f"give FILE, the keys to {what}; --example prints one to begin with")
    if str(file) == STANDARD:
        connection.refuse_two_from_standard_input(f"the keys to {what}")
    return str(file)


def journal_of(file: str, journal: str | Path | None) -> Place:
    """Return the journal that is named, or else the one beside the file.

    Raises:
        UsageError: none is named, and standard input has no name.
    """
    if (place := place_of(journal)) is not None:
        return place
    if file == STANDARD:
        raise UsageError("standard input has no name: give --journal FILE")
    return Place(f"{file}.journal")


def begun(journal: Place) -> Place | None:
    """Return a journal that was begun; None: it is not there yet."""
    return journal if is_begun(journal.given) else None


@contextmanager
def opened(
    file: str, format: FileFormat | None, journal: Place, *, may_be_empty: bool = False
) -> Generator[SpecFile]:
    """Open the keys that there are to be; those that the journal knows keep their expiry.

    Args:
        file: its path; `-`: standard input.
        format: its format; None: by its name.
        journal: it may not be there yet.
        may_be_empty: whether there may be no rows.
    """
    with spec_file(file, format, may_be_empty=may_be_empty) as specs:
        # While a pipe is read, another process may begin the journal.
        if specs.has_durations and begun(journal) is not None:
            specs.keep(asyncio.run(_expiries(journal)))
        yield specs


async def _expiries(journal: Place) -> dict[str, datetime]:
    async with reading(journal) as known:
        return await known_expiries(known)
