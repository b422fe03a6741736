"""`sweep`: the keys that no journal knows, listed; disabled or deleted if that is asked for."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, cast

from cyclopts import Parameter

from openrouter_keys.cli.exit_codes import DONE, FAILED, SOME_FAILED, UsageError, code_of
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.journal import place_of
from openrouter_keys.cli.terminal.messages import keys, named, say
from openrouter_keys.cli.terminal.output import Output, in_columns, print_records
from openrouter_keys.cli.terminal.prompts import DryRun, Yes, confirm
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import Duration, Flag, InWorkspace, Pattern
from openrouter_keys.converter import unstructure
from openrouter_keys.sweeping.report import SweepAction, SweepReport, SweptKey

_COLUMNS: Final = (
    "hash", "name", "usage", "byok_usage", "last_used_at", "created_at", "updated_at", "disabled",
    "outcome",
)  # fmt: skip
_HEADINGS: Final = {
    "usage": "spent",
    "byok_usage": "own providers",
    "last_used_at": "last used",
    "created_at": "created",
    "updated_at": "changed",
}


async def sweep(
    *,
    journal: Annotated[
        list[str | Path] | None,
        Parameter(
            metavar="FILE|URL",
            negative="",
            allow_leading_hyphen=True,
            help="A journal of the account; give all of them, each with --journal. Else "
            "OPENROUTER_KEYS_JOURNAL.",
        ),
    ] = None,
    unused: Annotated[Flag, Parameter(help="Only keys of which the service shows no use.")] = False,
    older_than: Annotated[
        Duration, Parameter(help="Only keys that were created longer ago than this, such as 30d.")
    ] = None,
    name: Pattern = None,
    workspace_id: InWorkspace = None,
    disable: Annotated[Flag, Parameter(help="Disable the keys; `enable` takes it back.")] = False,
    delete: Annotated[
        Flag, Parameter(help="Delete the keys for good, after they were disabled.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    out: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """List the keys that no journal knows, disabled and expired ones, too.

    With --disable or --delete, the command asks first, and looks at each key and at the journals
    once more before it changes the key. It never touches a key of a journal, one that a create may
    have made that is not settled, or the management key. After an interrupt, run it again.
    """
    if disable and delete:
        raise UsageError("give --disable or --delete; --delete disables first")
    action: SweepAction | None = "delete" if delete else "disable" if disable else None
    given: Sequence[str | Path | None] = journal or [None]
    journals = [place.given for each in given if (place := place_of(each)) is not None]

    def approve(found: Sequence[SweptKey]) -> bool:
        if dry_run:
            return False
        confirm(_question(found, delete=delete), yes=yes)
        return True

    async with connection.client() as client:
        try:
            report = await client.sweep(
                journals=journals,
                unused=unused,
                older_than=older_than,
                name=name,
                workspace_id=workspace_id,
                action=action,
                approve=approve,
            )
        except asyncio.CancelledError:
            if action is not None:
                say("a key may be disabled and not deleted: the same command goes on")
            raise
    await print_records(
        _records(report), out, _COLUMNS, in_columns(_COLUMNS, _HEADINGS), lambda: _counts(report)
    )
    if not journals:
        say("no journal was given: each key counts as one that no journal knows")
    say(_summary(report))
    return _code(report)


def _question(found: Sequence[SweptKey], *, delete: bool) -> str:
    used = sum(not key.unused for key in found)
    in_use = f", {used:,} of which were used" if used else ""
    names = named([key.data.name for key in found])
    does = f"delete {keys(len(found))} for good" if delete else f"disable {keys(len(found))}"
    return f"{does} ({names}){in_use}"


def _records(report: SweepReport) -> Iterable[Record]:
    for key in report.keys:
        outcome = key.outcome if key.problem is None else f"{key.outcome}: {key.problem}"
        yield _record(key, "unknown" if outcome == "found" else outcome)
    for key in report.in_doubt:
        yield _record(key, f"in doubt: {key.problem}")


def _record(key: SweptKey, outcome: str) -> Record:
    data = cast("Record", unstructure(key.data))
    return {**data, "unused": key.unused, "outcome": outcome}


def _counts(report: SweepReport) -> Record:
    return {
        "known": report.known,
        "others": report.others,
        "stopped": None if report.stopped is None else str(report.stopped),
    }


def _summary(report: SweepReport) -> str:
    parts = [f"{keys(len(report.keys))} that no journal knows"]
    done = {word: report.count(word) for word in ("disabled", "deleted", "kept")}
    parts += [f"{count:,} {word}" for word, count in done.items() if count]
    if report.in_doubt:
        parts.append(f"{len(report.in_doubt):,} in doubt: settle the journal's creates first")
    if report.others:
        parts.append(f"{report.others:,} more that were not asked for")
    parts.append(f"{report.known:,} in the journals")
    return "; ".join(parts)


def _code(report: SweepReport) -> int:
    if report.stopped is not None:
        say(f"stopped: {report.stopped}")
        return code_of(report.stopped)
    if not report.count("kept"):
        return DONE
    return SOME_FAILED if report.count("disabled") + report.count("deleted") else FAILED
