"""Rotation: goes through the phases with one journal."""

from collections.abc import Sequence

from attrs import evolve

from openrouter_keys._transport.transport import Transport
from openrouter_keys.converter import write_time
from openrouter_keys.errors import AccountChangedError, QuotaExhaustedError
from openrouter_keys.journal.entries import CHANGED
from openrouter_keys.provisioning.context import clock_of, context_of, limiter_of, opened
from openrouter_keys.provisioning.counters import TOLD
from openrouter_keys.provisioning.report import ProvisionReport
from openrouter_keys.provisioning.run import provision_in
from openrouter_keys.results import Err, attempt
from openrouter_keys.rotation.accounts import refuse_another_account
from openrouter_keys.rotation.context import RotationContext
from openrouter_keys.rotation.planning import Planner
from openrouter_keys.rotation.registration import Registration
from openrouter_keys.rotation.report import Rotation, RotationReport
from openrouter_keys.rotation.retirement import Retirement
from openrouter_keys.rotation.settings import Hashes, PlanSettings, RotationSettings, distinct
from openrouter_keys.rotation.stored import Unmade


async def plan_rotation(
    transport: Transport, hashes: Hashes, settings: PlanSettings
) -> list[Rotation]:
    """Look at keys, and change nothing; see `AsyncOpenRouter.plan_rotation`."""
    planner = Planner(transport, limiter_of(transport, settings), settings.terms)
    wanted = await distinct(hashes)
    return [rotation async for looked in planner.look(wanted) for rotation in looked]


async def rotate(
    transport: Transport, hashes: Hashes, settings: RotationSettings
) -> RotationReport:
    """Replace keys; see `AsyncOpenRouter.rotate`."""
    wanted = await settings.read(hashes)
    async with opened(transport, settings) as journal:
        limiter, clock = limiter_of(transport, settings), clock_of(transport)
        context = RotationContext(transport, journal, settings, clock, limiter)
        planner = Planner(transport, limiter, settings.terms)
        checked = await attempt(refuse_another_account(context, planner, wanted))
        # Other errors meet the creates, too, which raise them with their report.
        if isinstance(checked, Err) and (
            settings.confirms or isinstance(checked.error, AccountChangedError)
        ):
            raise checked.error
        made, skipped = (None, 0) if settings.confirms else await _make(context, planner, wanted)
        retirement = Retirement(context)  # its time begins now
        retired = 0 if settings.retire_after is None else await retirement.retire_all()
        return await _report(context, made, retired, skipped, retirement.exhausted)


async def _make(
    context: RotationContext, planner: Planner, hashes: Sequence[str]
) -> tuple[ProvisionReport, int]:
    """Plan new rotations, then make and hand over each replacement that was not handed over.

    Returns:
        How it ended, and how many of the hashes are replacements that this journal made.
    """
    clock = context.clock
    # In a run of its own: others need not wait for its rows until the old keys are retired.
    async with context.journal.begin(context.transport.options.timeout) as journal:
        registration = Registration(evolve(context, journal=journal), planner)
        await registration.look_again()
        await registration.enter(hashes)
        await journal.time_hand_overs(lambda: write_time(clock.now()))
        _, pending = await journal.rotation_counts()
        unmade = Unmade(journal, pending - len(registration.left_out), registration.left_out)
        changed = set[str]()
        run = context_of(context.transport, journal, context.settings, clock, changed=changed)
        made = await provision_in(run, unmade)
        for hash in sorted(changed):  # an update planned its replacement anew meanwhile
            await context.fail(hash, CHANGED)
        return made, registration.skipped


async def _report(
    context: RotationContext,
    made: ProvisionReport | None,
    retired: int,
    skipped: int,
    exhausted: QuotaExhaustedError | None,
) -> RotationReport:
    waiting, pending = await context.journal.rotation_counts()
    problems = context.problems
    failures = (*problems.first, *(() if made is None else (*made.failures, *made.mismatches)))
    return RotationReport(
        rotated=0 if made is None else made.created + made.resumed,
        retired=retired,
        waiting=waiting,
        pending=pending,
        skipped=skipped,
        failed=problems.count + (0 if made is None else made.failed + made.mismatched),
        failures=failures[:TOLD],
        in_doubt=0 if made is None else made.in_doubt,
        provision=made,
        exhausted=exhausted,
    )
