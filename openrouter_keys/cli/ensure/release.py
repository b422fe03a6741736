"""`release`: the keys of refs deleted, so that the refs may be ensured anew."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final

from attrs import define
from cyclopts import Parameter

from openrouter_keys._inputs.options import QUIET_PERIOD
from openrouter_keys.cli.exit_codes import DONE, FAILED, IN_DOUBT, SOME_FAILED, code_of
from openrouter_keys.cli.journal.export import reading
from openrouter_keys.cli.keys.many import FOR_ALL, each
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.journal import OPTION, JournalOption, Place, needed
from openrouter_keys.cli.terminal.messages import keys, named, say
from openrouter_keys.cli.terminal.output import Output, in_columns, print_records
from openrouter_keys.cli.terminal.prompts import DryRun, Yes, confirm
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import QuietPeriod, Wait
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.errors import OpenRouterError
from openrouter_keys.journal.journal import Journal

_COLUMNS: Final = ("ref", "name", "hash", "outcome")
_RELEASED: Final = "released"
_UNKNOWN: Final = "not in the journal"


@define
class _Release:
    """A ref to be released, and its outcome.

    Attributes:
        code: the exit code that it is worth.
    """

    ref: str
    name: str | None = None
    hash: str | None = None
    outcome: str = _UNKNOWN
    code: int = DONE

    def fail(self, error: OpenRouterError) -> None:
        """It is not released; an error that all others would have too is raised."""
        if isinstance(error, FOR_ALL):
            raise error
        self.outcome, self.code = str(error), code_of(error)

    def record(self) -> Record:
        """Return what is printed of it."""
        return {"ref": self.ref, "name": self.name, "hash": self.hash, "outcome": self.outcome}


async def release(
    refs: Annotated[
        list[str],
        Parameter(name="REF", negative="", help="Your own ids for the keys."),
    ],
    /,
    *,
    journal: JournalOption = None,
    wait: Wait = None,
    quiet_period: QuietPeriod = QUIET_PERIOD,
    yes: Yes = False,
    dry_run: DryRun = False,
    out: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Delete the keys of refs for good, and forget the refs: `ensure` creates new keys for them.

    Programs that use the keys stop working. A ref that the journal does not know needs nothing.
    """
    place = needed(journal, OPTION)
    releases = await _looked_up(place, [*dict.fromkeys(refs)])
    known = [one for one in releases if one.outcome != _UNKNOWN]

    async def let_go(client: AsyncOpenRouter, opened: Journal, one: _Release) -> None:
        try:
            await client.release(
                one.ref, journal=opened, wait=wait, quiet_period=quiet_period or 0.0
            )
            one.outcome = _RELEASED
        except OpenRouterError as error:
            one.fail(error)

    if known and not dry_run:
        confirm(f"delete {keys(len(known))} for good ({_named(known)})", yes=yes)
        async with connection.client() as client, Journal.open(place.given) as opened:
            try:
                await each(known, lambda one: let_go(client, opened, one))
            except (asyncio.CancelledError, *FOR_ALL):
                _say_interrupted(known)
                raise
    await print_records([one.record() for one in releases], out, _COLUMNS, in_columns(_COLUMNS, {}))
    return _code(releases)


async def _looked_up(place: Place, refs: Sequence[str]) -> list[_Release]:
    releases = [_Release(ref) for ref in refs]
    async with reading(place) as found:
        for one in releases:
            if (entry := await found.find(one.ref)) is not None:
                one.name, one.hash = entry.name, entry.hash
                one.outcome = "would be released"
    return releases


def _named(releases: Sequence[_Release]) -> str:
    return named([one.ref for one in releases])


def _say_interrupted(releases: Sequence[_Release]) -> None:
    done = sum(one.outcome == _RELEASED for one in releases)
    say(f"{done:,} released; {len(releases) - done:,} may still exist: the same command goes on")


def _code(releases: Sequence[_Release]) -> int:
    codes = {one.code for one in releases}
    if IN_DOUBT in codes:
        return IN_DOUBT
    if DONE in codes:
        return DONE if codes == {DONE} else SOME_FAILED
    return FAILED
