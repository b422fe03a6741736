"""`rotate`: each key gets a new one, whose secret is handed over before the old one is deleted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from attrs import evolve
from cyclopts import Parameter

from openrouter_keys._base.unset import UNSET
from openrouter_keys.cli.exit_codes import DONE, SOME_FAILED, UsageError
from openrouter_keys.cli.keys.fields import future_of
from openrouter_keys.cli.keys.given import Given
from openrouter_keys.cli.keys.hashes import WAYS, hashes_given, whole_hashes
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.options.journal import OPTION, JournalOption, Place, needed, place_of
from openrouter_keys.cli.rotate.replace import make_replacements
from openrouter_keys.cli.rotate.request import Request, stored
from openrouter_keys.cli.rotate.retire import finish_rotation, show_due
from openrouter_keys.cli.rotate.view import changes, problems_of, show
from openrouter_keys.cli.runs.options import Pace, check_recipient
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.terminal.messages import keys, say
from openrouter_keys.cli.terminal.output import Output
from openrouter_keys.cli.terminal.prompts import DryRun, Yes
from openrouter_keys.cli.values import Duration, Expiry, Flag, Limit, Quiet, Recipient
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.journal.engines import is_begun
from openrouter_keys.rotation.report import RotationState
from openrouter_keys.rotation.settings import BudgetRule, Terms

_NOBODY: Final = (
    "nothing would have the new secrets when the old keys stop working: with --grace, give "
    "--secret-file or --to-command; or leave --grace out, and use --finish later"
)
_NOTHING: Final = (
    "give the hashes of the keys to rotate, and --journal FILE, a new file; to go on with another "
    "rotation, give its --journal FILE alone"
)


async def rotate(
    hashes: Annotated[
        tuple[str, ...],
        Parameter(
            name="HASH",
            negative="",
            allow_leading_hyphen=True,
            show_default=False,
            help=f"The old keys: {WAYS}; - reads them from standard input, one a line. Without "
            "any, the rotations of the journal go on.",
        ),
    ] = (),
    /,
    *,
    journal: JournalOption = None,
    budget: Annotated[
        BudgetRule,
        Parameter(
            help="How much of a limit that never resets the new key has: what is left, or all."
        ),
    ] = "remaining",
    limit: Limit = UNSET,
    expires_at: Expiry = UNSET,
    grace: Annotated[
        Duration,
        Parameter(
            help="Wait, and delete each old key this long after its new key was handed over."
        ),
    ] = None,
    finish: Annotated[
        Flag, Parameter(help="Delete the old keys whose new keys were handed over; make no keys.")
    ] = False,
    status: Annotated[Flag, Parameter(help="Show the state of each key in the journal.")] = False,
    recipient: Recipient = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    pace: Pace = Pace(),
    to: Destination = Destination(),
    out: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Replace keys by new ones with the same settings; the old ones work until you delete them.

    First `rotate HASH --journal FILE` makes the new keys, then `rotate --finish --journal FILE`
    deletes the old ones; `--grace 1h` does both. A new key may spend what is left of the limit; a
    limit that resets starts at zero. --limit and --expires-at give new keys others than their old
    keys have. After an interrupt or an error, run the same command again.
    """
    if finish and status:
        raise UsageError("give --finish, which deletes, or --status, which shows")
    check_recipient(recipient)
    if not (hashes or place_of(journal) or finish or status):
        raise UsageError(_NOTHING)
    request = Request(
        hashes=hashes,
        journal=_journal(journal, needs_one=not (dry_run and hashes)),
        terms=Terms(budget=budget, limit=limit, expires_at=future_of(expires_at)),
        grace=grace,
        recipient=recipient,
        yes=yes,
        quiet=quiet,
        pace=pace,
        to=to,
        out=out,
    )
    _refuse_conflicts(request, finish=finish, status=status)
    if status:
        return await _show_status(request)
    if finish and dry_run:
        return await show_due(request)
    given = hashes_given(hashes, connection)
    async with connection.client() as client:
        if finish:
            return await finish_rotation(client, request)
        request = evolve(request, hashes=await _whole(client, request, given))
        return await (_plan(client, request) if dry_run else make_replacements(client, request))


def _journal(journal: str | Path | None, *, needs_one: bool) -> Place:
    if needs_one:
        return needed(journal, OPTION, ": it makes sure that an interrupted rotation can go on")
    return place_of(journal) or Place("")


def _refuse_conflicts(request: Request, *, finish: bool, status: bool) -> None:
    to = request.to
    if finish or status:
        if request.hashes or request.to.hands_over:
            word = "--finish" if finish else "--status"
            raise UsageError(f"{word} takes no hashes, and hands no secrets over")
    elif not request.hashes and not is_begun(request.journal.given):
        message = f"{request.journal} does not exist: give the hashes of keys to begin a rotation"
        raise UsageError(message)
    if not request.hashes and request.terms != Terms(budget=request.terms.budget):
        raise UsageError("--limit and --expires-at go with HASH: plans stay as they are")
    if request.grace is not None and not (request.to.hands_over or finish):
        raise UsageError(_NOBODY)
    if to.show_secret and not request.out.jsonl:
        raise UsageError("--show-secret goes with --jsonl")
    if to.show_secret and (to.secret_file or to.to_command):
        raise UsageError("give --show-secret, --secret-file or --to-command, not two of them")


async def _whole(client: AsyncOpenRouter, request: Request, given: Sequence[Given]) -> list[str]:
    """Complete the hashes; only the journal has those of old keys that are deleted.

    A key that is being rotated has its name together with its replacement: its journal knows it.
    """
    known, clear = await request.known(), list[Given]()
    for each in given:
        alike = [
            hash
            for hash, rotation in known.items()
            if (each.hash and hash.startswith(each.hash))
            or (each.names == (rotation.name,) and rotation.state is not RotationState.DELETED)
        ]
        clear.append(Given((), alike[0]) if len(alike) == 1 else each)
    return [*dict.fromkeys(await whole_hashes(client, clear))]


async def _show_status(request: Request) -> int:
    rotations = await stored(request.journal)
    await show(rotations, request.out)
    for line in problems_of(rotations):
        say(line)
    return DONE


async def _plan(client: AsyncOpenRouter, request: Request) -> int:
    known = await request.known()
    new = await client.plan_rotation(
        [hash for hash in request.hashes if hash not in known],
        budget=request.terms.budget,
        limit=request.terms.limit,
        expires_at=request.terms.expires_at,
        concurrency=request.pace.concurrency,
        rate=request.pace.rate,
    )
    planned = {**known, **{rotation.hash: rotation for rotation in new}}
    wanted = [planned[hash] for hash in request.hashes] or [*known.values()]
    await show(wanted, request.out)
    refused = [rotation for rotation in new if rotation.state is RotationState.REFUSED]
    for line in problems_of(refused):
        say(line)
    made = (RotationState.PLANNED, RotationState.MADE)
    count = keys(sum(rotation.state in made for rotation in wanted))
    request.say(f"would rotate {count}")
    request.say(changes(wanted))
    return SOME_FAILED if refused else DONE
