"""`journal`: the states of a journal's keys, its copies, and its secrets. No network."""

import asyncio
import sys
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Group, Parameter

from openrouter_keys.cli.exit_codes import DONE, IN_DOUBT, CommandError, UsageError
from openrouter_keys.cli.journal.export import reading
from openrouter_keys.cli.options.journal import JournalArgument, Place, URLArgument, needed
from openrouter_keys.cli.terminal.messages import keys, say
from openrouter_keys.cli.terminal.prompts import DryRun, Yes, confirm
from openrouter_keys.cli.terminal.text import as_json, printable
from openrouter_keys.cli.values import Flag
from openrouter_keys.converter import write_time
from openrouter_keys.errors import JSON, JournalError
from openrouter_keys.journal import engines
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import DOUBTFUL, State

_MEANINGS: Final[Mapping[State, str]] = {
    State.INTENT: "in doubt, unless it is under way: its run ended",
    State.MADE: "made, and handed over by the next run",
    State.SETTLED: "made, and nothing is left to do",
    State.FAILED: "refused, or made otherwise than asked for",
    State.RELEASING: "being deleted; release it again, or ensure it anew",
    State.DOUBT: "in doubt: a key may exist, without its secret",
}
_FACTS: Final[Mapping[str, str]] = {
    "server_url": "the service that its keys are made at",
    "created_at": "when it was begun",
    "written_off": "made anew after a create without an answer, whose key may still turn up",
    "purgeable": "secrets of keys that need nothing more: export them, or purge them",
    "runs": "runs that have it open now",
    "under_way": "creates of those runs, which are in no doubt",
}

journal: Final = App(
    name="journal",
    help="Show a journal, copy it, and take secrets out of it.",
    group_commands=Group("Commands"),
    group_arguments=Group("Arguments", sort_key=1),
    group_parameters=Group("Options", sort_key=2),
)

journal.command(
    "openrouter_keys.cli.journal.export:export",
    name="export",
    help="Take the secrets out of a journal: to a terminal, a file or a program.",
)


@journal.command
async def status(
    journal: JournalArgument = None,
    /,
    *,
    json: Annotated[Flag, Parameter(help="Print one line of JSON.")] = False,
) -> int:
    """Show the states of a journal's keys, also beside runs that have it open.

    Ends with 5 if a key is in doubt that no such run is at: run the same again.
    """
    async with reading(needed(journal)) as found:
        created_at, server_url = await found.origin()
        counts = await found.counts()
        written_off = sum([1 async for _ in found.written_off()])
        purgeable = await found.purgeable()
        runs, under_way = await found.others()
    about: dict[str, JSON] = {
        "server_url": server_url,
        "created_at": write_time(created_at),
        "written_off": written_off,
        "purgeable": purgeable,
        "runs": runs,
        "under_way": under_way,
    }
    sys.stdout.write(_as_json(about, counts) if json else _as_text(about, counts))
    doubts = max(sum(counts[state] for state in DOUBTFUL) - under_way, 0)
    if doubts and not json:
        sys.stdout.flush()
        say(f"{keys(doubts)} in doubt: {_SETTLE}")
    return IN_DOUBT if doubts else DONE


_SETTLE: Final = "the same `provision`, `rotate` or `ensure` with this journal settles it"


def _as_json(about: Mapping[str, JSON], counts: Mapping[State, int]) -> str:
    states: dict[str, JSON] = {state.value: count for state, count in counts.items()}
    return as_json({**about, "keys": states}) + "\n"


def _as_text(about: Mapping[str, object], counts: Mapping[State, int]) -> str:
    facts = {name: "-" if value is None else printable(str(value)) for name, value in about.items()}
    facts["created_at"] = facts["created_at"].replace("T", " ").replace("Z", " UTC")
    lines = [f"{name:11}  {value:9}  {_FACTS[name]}" for name, value in facts.items()]
    lines += [f"{state:11}  {counts[state]:<9,}  {_MEANINGS[state]}" for state in State]
    return "\n".join(lines) + "\n"


# --- in PostgreSQL ---


@journal.command
async def init(
    journal: URLArgument = None,
    /,
    *,
    grant: Annotated[
        str | None,
        Parameter(metavar="ROLE", help="Let this role use the journal: that of your programs."),
    ] = None,
) -> None:
    """Make the tables of a journal in PostgreSQL, with a role that may make a schema.

    Only needed if the role of your programs may not: otherwise they are made on first use.
    """
    place = needed(journal)
    if place.file is not None:
        raise UsageError("give a PostgreSQL URL: the file of a journal is made on first use")
    await _or_refused(asyncio.to_thread(engines.init, place.given, grant=grant))
    say(f"{place} is there" + ("" if grant is None else f", and {grant} may use it"))


# --- purge ---


@journal.command
def purge(journal: JournalArgument = None, /, *, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Remove the secrets of settled keys, and of keys not as asked for; no byte of them is left.

    The journal still knows the keys, and makes none again. A secret that is not handed over yet
    stays.
    """
    place = needed(journal)
    count = asyncio.run(_purgeable(place))
    if count and not dry_run:
        confirm(
            f"forget the secrets of {keys(count)} in {place}, the last copy if {_UNLESS}", yes=yes
        )
    # Also where there is none: an earlier purge may have ended half-way.
    forgotten = count if dry_run else asyncio.run(_purged(place))
    would = "would forget" if dry_run else "forgot"
    say(f"{would} the secrets of {keys(forgotten)}")


_UNLESS: Final = "they were never exported or handed over"


async def _purgeable(place: Place) -> int:
    async with reading(place) as found:
        return await found.purgeable()


async def _purged(place: Place) -> int:
    try:
        return await Journal.purge(place.given)
    except JournalError as error:
        raise CommandError(str(error)) from error


# --- copies ---


@journal.command
async def backup(
    journal: Annotated[str | Path, Parameter(name="JOURNAL", help="The journal's file.")],
    to: Annotated[Path, Parameter(name="COPY", help="The new file, which only you can read.")],
    /,
) -> None:
    """Copy a whole journal also while runs use it; its file alone may lack the last keys."""
    place = needed(journal)
    await _or_refused(Journal.backup(place.given, to))
    say(f"copied {place} to {to}")


@journal.command
def accept(journal: JournalArgument = None, /, *, yes: Yes = False) -> None:
    """Go on with an older copy of a journal, or with one that lacks its log.

    Such a copy does not know the keys that were made after it, and makes them again: first list
    the newest keys, and delete the unused ones.
    """
    place = needed(journal)
    confirm(f"go on with {place}, and make again the keys that it does not know", yes=yes)
    asyncio.run(_or_refused(Journal.accept(place.given)))
    say(f"{place} can be used again")


async def _or_refused(done: Awaitable[object]) -> None:
    try:
        await done
    except JournalError as error:
        raise CommandError(str(error)) from error
