"""`adopt`: keys that exist join a journal, one by its hash, or those that have a file's names."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from openrouter_keys.adoption.report import AdoptedKey, AdoptionReport
from openrouter_keys.cli.exit_codes import DONE, FAILED, SOME_FAILED, UsageError
from openrouter_keys.cli.keys.given import typed
from openrouter_keys.cli.keys.hashes import WAYS, whole_hashes
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.journal import OPTION, JournalOption, Place, needed, place_of
from openrouter_keys.cli.secrets.sources import STANDARD
from openrouter_keys.cli.specs.file import FormatOption, spec_file
from openrouter_keys.cli.terminal.messages import keys, say
from openrouter_keys.cli.terminal.output import Output, in_columns, print_records
from openrouter_keys.cli.terminal.prompts import DryRun
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.journal.addresses import MEMORY
from openrouter_keys.journal.engines import is_begun
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.specs import KeySpec

_COLUMNS: Final = ("ref", "name", "hash", "outcome")
_MISSING: Final = "no key has this name"
_KNOWN: Final = "known before"
_SHOWN: Final = 10
_WHICH: Final = "give HASH and REF, or --file FILE"


async def adopt(
    key: Annotated[
        str | None,
        Parameter(name="HASH", help=f"The key: {WAYS}.", show_default=False),
    ] = None,
    ref: Annotated[
        str | None,
        Parameter(
            name="REF",
            help="Your own id for the key, such as a customer's number.",
            show_default=False,
        ),
    ] = None,
    /,
    *,
    file: Annotated[
        str | Path | None,
        Parameter(
            metavar="FILE",
            allow_leading_hyphen=True,
            help="The refs and names, in a file as `provision` takes it; - for standard input.",
        ),
    ] = None,
    format: FormatOption = None,
    journal: JournalOption = None,
    dry_run: DryRun = False,
    out: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Put a key that exists into a journal, as REF's, without its secret. The key stays as it is.

    From then on `ensure REF` updates it, `rotate` replaces it by one whose secret the journal has,
    and `release REF` deletes it. With --file, the keys that have the names in the file join the
    journal, FILE.journal unless you name another one, each under its row's ref. A name that two
    keys have, or two rows, is told: adopt those by their hashes.
    """
    if file is None:
        if key is None or ref is None:
            raise UsageError(_WHICH)
        if format is not None:
            raise UsageError("--format goes with --file")
        place = needed(journal, OPTION)
        async with connection.client() as client:
            (hash,) = await whole_hashes(client, [typed(key)])
            async with _opened(place, dry_run=dry_run) as opened:
                one = await client.adopt(hash, ref, journal=opened, dry_run=dry_run)
        await print_records([_row(one, dry_run=dry_run)], out, _COLUMNS, in_columns(_COLUMNS, {}))
        return DONE
    if key is not None:
        raise UsageError(f"{_WHICH}, not both")
    if str(file) == STANDARD:
        connection.refuse_two_from_standard_input("the names")
    place = _journal_of(str(file), journal)
    with spec_file(str(file), format) as specs:
        async with connection.client() as client, _opened(place, dry_run=dry_run) as opened:
            report = await client.adopt_all(specs, journal=opened, dry_run=dry_run)
        rows = _rows(specs, _outcomes(report, dry_run=dry_run))
        await print_records(rows, out, _COLUMNS, in_columns(_COLUMNS, {}))
        return _end(report, len(specs), dry_run=dry_run)


def _journal_of(file: str, journal: str | Path | None) -> Place:
    if (place := place_of(journal)) is not None:
        return place
    if file == STANDARD:
        raise UsageError("standard input has no name: give --journal FILE")
    return Place(f"{file}.journal")


@asynccontextmanager
async def _opened(place: Place, *, dry_run: bool) -> AsyncGenerator[Journal]:
    """Open the journal; to look, one that is not there is made nowhere."""
    there = not dry_run or is_begun(place.given)
    async with Journal.open(place.given if there else MEMORY) as journal:
        yield journal


def _row(adopted: AdoptedKey, *, dry_run: bool) -> Record:
    outcome = _word(dry_run=dry_run) if adopted.outcome == "adopted" else _KNOWN
    data = adopted.data
    return {"ref": adopted.ref, "name": data.name, "hash": data.hash, "outcome": outcome}


def _word(*, dry_run: bool) -> str:
    return "would be adopted" if dry_run else "adopted"


def _outcomes(report: AdoptionReport, *, dry_run: bool) -> Mapping[str, tuple[str, str | None]]:
    """Return what came of each ref that the journal did not know, and the hash of its key."""
    word = _word(dry_run=dry_run)
    return {
        **{ref: (word, hash) for ref, hash in report.adopted.items()},
        **dict.fromkeys(report.missing, (_MISSING, None)),
        **{
            problem.ref: (problem.reason, " ".join(problem.hashes) or None)
            for problem in report.refused
        },
    }


def _rows(
    specs: Iterable[KeySpec], outcomes: Mapping[str, tuple[str, str | None]]
) -> Iterable[Record]:
    for spec in specs:
        outcome, hash = outcomes.get(spec.ref, (_KNOWN, None))
        yield {"ref": spec.ref, "name": spec.name, "hash": hash, "outcome": outcome}


def _end(report: AdoptionReport, count: int, *, dry_run: bool) -> int:
    """Say how many keys joined, and return the exit code."""
    word = "would adopt" if dry_run else "adopted"
    parts = [f"{word} {keys(len(report.adopted))} of {count:,}"]
    if report.existing:
        parts.append(f"{report.existing:,} known before")
    if report.missing:
        parts.append(f"{len(report.missing):,} without a key: `provision` creates them")
    if report.refused:
        parts.append(f"{len(report.refused):,} refused")
    say("; ".join(parts))
    several = [problem for problem in report.refused if len(problem.hashes) > 1]
    for problem in several[:_SHOWN]:  # a table has the beginnings of hashes
        say(f"{problem.ref!r}: {', '.join(problem.hashes)}")
    if len(several) > _SHOWN:
        say(f"and {len(several) - _SHOWN:,} more: see --json")
    if report.ok:
        return DONE
    return SOME_FAILED if report.adopted or report.existing else FAILED
