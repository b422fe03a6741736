"""How rotations are shown: each old key and its new one, and how a call ended. No network."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, cast

from openrouter_keys.cli.exit_codes import code_of_report
from openrouter_keys.cli.rotate.request import Request
from openrouter_keys.cli.runs.outcome import SHOWN, export_command, listed
from openrouter_keys.cli.terminal.messages import command, keys, say
from openrouter_keys.cli.terminal.output import Output, in_columns, print_records
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.errors import JSON
from openrouter_keys.rotation.report import Rotation, RotationReport, RotationState

#: The fields of a rotation, as programs get them.
FIELDS: Final = (
    "hash", "name", "twin", "limit", "spent", "twin_limit", "limit_reset", "starts_anew", "state",
    "problem",
)  # fmt: skip
_COLUMNS: Final = ("old", "name", "twin", "may_spend", "state")
_HEADINGS: Final = {"old": "old key", "twin": "new key", "may_spend": "new key may spend"}
_STATES: Final[dict[str, str]] = {
    RotationState.REFUSED: "refused",
    RotationState.PLANNED: "not made",
    RotationState.MADE: "not handed",
    RotationState.HANDED_OVER: "both work",
    RotationState.DISABLED: "disabled",
    RotationState.DELETED: "replaced",
}
# A create, an update that disables, and a delete; another update may lower the new key's limit.
_CHANGES: Final[dict[str, int]] = {
    RotationState.REFUSED: 0,
    RotationState.PLANNED: 3,
    RotationState.MADE: 2,
    RotationState.HANDED_OVER: 2,
    RotationState.DISABLED: 2,
    RotationState.DELETED: 0,
}
_PERIODS: Final = {"daily": "/day", "weekly": "/week", "monthly": "/month"}
# As `SHORT_HASH` in `tables`, which programs do not load.
_SHORT: Final = 8


def record_of(rotation: Rotation) -> Record:
    """Return a rotation as programs get it."""
    spec = rotation.spec
    reset = None if spec is None else spec.limit_reset
    limit = None if spec is None else spec.limit
    return {
        "hash": rotation.hash,
        "name": rotation.name,
        "twin": rotation.twin,
        "limit": rotation.limit,
        "spent": rotation.spent,
        "twin_limit": limit if isinstance(limit, int | float) else None,
        "limit_reset": reset if isinstance(reset, str) else None,
        "starts_anew": rotation.starts_anew,
        "state": rotation.state.value,
        "problem": rotation.problem,
    }


async def show(
    rotations: Iterable[Rotation], out: Output, report: RotationReport | None = None
) -> None:
    """Print rotations, and for JSON how they ended."""
    await print_records(
        map(record_of, rotations),
        out,
        FIELDS,
        in_columns(_COLUMNS, _HEADINGS, _row),
        lambda: {} if report is None else {"report": _report(report)},
    )


def changes(rotations: Iterable[Rotation]) -> str:
    """Return in words how many changes of a daily quota the rotations still need, at most."""
    count = sum(_changes(rotation) for rotation in rotations)
    return f"needs up to {count:,} changes of the service's daily quota"


def _changes(rotation: Rotation) -> int:
    needed = _CHANGES[rotation.state]
    spec = rotation.spec
    lowers = spec is not None and isinstance(spec.limit, int | float) and spec.limit_reset is None
    return needed + lowers if needed else 0


def preview(rotations: Sequence[Rotation]) -> None:
    """Show on standard error the rotations that the next question is about."""
    # Loaded late, as below: programs need no table.
    from openrouter_keys.cli.terminal.tables import console, table_of  # noqa: PLC0415

    rows = [_row(record_of(rotation)) for rotation in rotations]
    console(stderr=True).print(table_of(rows, _COLUMNS, _HEADINGS))


def _row(record: Record) -> Record:
    state, twin = cast("str", record["state"]), cast("str | None", record["twin"])
    return {
        "old": cast("str", record["hash"])[:_SHORT],
        "name": record["name"],
        "twin": None if twin is None else twin[:_SHORT],
        "may_spend": None if state == RotationState.REFUSED else _may_spend(record),
        "state": _STATES[state],
    }


def _may_spend(record: Record) -> str:
    from openrouter_keys.cli.terminal.tables import money  # noqa: PLC0415

    limit, spent, twin = record["limit"], cast("float", record["spent"]), record["twin_limit"]
    if not isinstance(twin, int | float):
        return "no limit"
    reset = cast("str | None", record["limit_reset"])
    period = "" if reset is None else _PERIODS.get(reset, f", {reset}")
    if record["starts_anew"]:
        return f"{money(twin)}{period}, starts anew"
    if spent and isinstance(limit, int | float) and math.isclose(twin, max(limit - spent, 0)):
        return f"{money(twin)} of {money(limit)}: {money(spent)} spent"
    return f"{money(twin)}{period}"


def _report(report: RotationReport) -> JSON:
    counts = ("rotated", "retired", "waiting", "pending", "skipped", "failed", "in_doubt")
    stopped = None if report.exhausted is None else str(report.exhausted)
    return {"ok": report.ok, "stopped": stopped, **{name: getattr(report, name) for name in counts}}


def problems_of(rotations: Iterable[Rotation]) -> Iterator[str]:
    """Return lines on what went wrong last, with the names of the keys."""
    stuck = [rotation for rotation in rotations if rotation.problem is not None]
    for rotation in stuck[:SHOWN]:
        yield f"{_key(rotation.hash, rotation.name)}: {rotation.problem}"
    if len(stuck) > SHOWN:
        yield f"and {keys(len(stuck) - SHOWN)} more: see --json"


def _key(hash: str, name: str | None) -> str:
    return hash if name is None else f"{hash[:_SHORT]} {name!r}"


def ended(report: RotationReport, rotations: Sequence[Rotation], request: Request) -> int:
    """Say how the call went and what is left to do, and return the exit code.

    Args:
        report: how it ended.
        rotations: the rotations of the call.
        request: what was asked for.
    """
    for line in _problems(report, rotations):
        say(line)
    if report.exhausted is not None:
        say(f"stopped: {report.exhausted}")
    summary = str(report)
    write = request.say if report.ok else say
    write("nothing is left to do" if summary == "nothing" else summary)
    for line in _left(report, request):
        request.say(line)
    unproven = report.provision is not None and report.provision.unproven
    return code_of_report(ok=report.ok, in_doubt=report.in_doubt or unproven)


def _left(report: RotationReport, request: Request) -> Iterator[str]:
    journal = request.journal.words("--journal")
    if report.pending:
        yield f"go on with: {command('rotate', *journal)}"
    if request.to.secret_file and not report.rotated:
        yield f"no new secret was handed over, so {request.to.secret_file} was not made"
    if report.rotated and not request.to.hands_over:
        export = export_command(request.journal)
        yield f"the new secrets are in the journal; take them out with: {export}"
    if report.waiting > report.pending:
        finish = command("rotate", "--finish", *journal)
        when = "once the new keys are in use, delete the old ones"
        if report.exhausted is not None:
            when = f"wait until {report.exhausted.resets_at:%Y-%m-%d %H:%M} UTC, then go on"
        yield f"{when} with: {finish}"


def _problems(report: RotationReport, rotations: Iterable[Rotation]) -> Iterator[str]:
    """Return lines on what failed or is in doubt, with the names of the keys."""
    names = {rotation.hash: rotation.name for rotation in rotations}
    doubts = () if report.provision is None else report.provision.doubts

    def key(ref: str) -> str:
        return _key(ref, names.get(ref))

    yield from listed("failed", report.failed, report.failures, key)
    yield from listed("in doubt", report.in_doubt, doubts, key)
