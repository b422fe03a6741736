"""Rotation: takes a caller's arguments, and goes through the phases with one journal."""

from collections.abc import Sequence
from functools import partial

from attrs import evolve

from openrouter_keys._inputs import checks
from openrouter_keys._reconcile.absence import not_gone
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.converter import write_time
from openrouter_keys.errors import AccountChangedError
from openrouter_keys.journal import rotations
from openrouter_keys.journal.journal import Journal
from openrouter_keys.provisioning.context import clock_of, context_of, limiter_of, opened
from openrouter_keys.provisioning.counters import TOLD, Problems
from openrouter_keys.provisioning.report import ProvisionReport
from openrouter_keys.provisioning.run import provision_in
from openrouter_keys.provisioning.settings import Pace, RunSettings
from openrouter_keys.results import Err, attempt
from openrouter_keys.rotation.accounts import refuse_another_account
from openrouter_keys.rotation.arguments import BudgetRule, Hashes, check_budget, distinct
from openrouter_keys.rotation.planning import Planning
from openrouter_keys.rotation.registration import Register
from openrouter_keys.rotation.report import Rotation, RotationReport
from openrouter_keys.rotation.retirement import Retiring
from openrouter_keys.rotation.stored import Unmade

_NOBODY = (
    "nobody would have the twins' secrets when their old keys stop working: give on_result=, or "
    "rotate without retire_after=, export the secrets from the journal, and then confirm: "
    "rotate((), journal=…, retire_after=0)"
)


async def plan_rotation(
    transport: Transport,
    hashes: Hashes,
    pace: Pace,
    *,
    budget: BudgetRule,
) -> list[Rotation]:
    """Look at keys, and change nothing; see `AsyncOpenRouter.plan_rotation`."""
    check_budget(budget)
    limiter = limiter_of(transport, pace)
    planning = Planning(transport, limiter, budget)
    wanted = await distinct(hashes)
    return [rotation async for looked in planning.look(wanted) for rotation in looked]


async def rotate(
    transport: Transport,
    hashes: Hashes,
    settings: RunSettings,
    *,
    budget: BudgetRule,
    retire_after: float | None,
) -> RotationReport:
    """Replace keys by twins; see `AsyncOpenRouter.rotate`."""
    check_budget(budget)
    if settings.journal is None:
        checks.refuse("journal", "must be the path of a file: no rotation could be gone on with")
    if retire_after is not None:
        checks.seconds("retire_after", retire_after)
    wanted = await distinct(hashes)
    confirms = retire_after is not None and settings.on_result is None
    if confirms and wanted:
        checks.refuse("on_result", _NOBODY)
    async with opened(transport, settings) as journal:
        limiter = limiter_of(transport, settings)
        problems, clock = Problems(), clock_of(transport)
        planning = Planning(transport, limiter, budget)
        checked = await attempt(refuse_another_account(transport, journal, clock, planning, wanted))
        # What else is wrong the making of twins comes upon, too, and tells it with its report.
        refused = checked.error if isinstance(checked, Err) else None
        if refused and (confirms or isinstance(refused, AccountChangedError)):
            raise refused
        register = Register(journal, planning, budget, problems)
        provision = (
            None
            if confirms
            else await _make(journal, transport, settings, register, wanted, clock=clock)
        )
        retired, exhausted = 0, None
        if retire_after is not None:
            retiring = Retiring(
                transport, journal, limiter, clock=clock, after=retire_after, problems=problems
            )
            retired, exhausted = await retiring.retire_all(), retiring.exhausted
        report = await _report(journal, provision, retired, register.skipped, problems)
        return evolve(report, exhausted=exhausted)


async def _make(
    journal: Journal,
    transport: Transport,
    settings: RunSettings,
    register: Register,
    hashes: Sequence[str],
    *,
    clock: ServiceClock,
) -> ProvisionReport:
    """Plan what is new, then make and hand over every twin of the journal that was not."""
    await register.look_again(partial(not_gone, transport, clock))
    await register.enter(hashes)
    await journal.do(lambda c: rotations.follow(c, lambda: write_time(clock.now())))
    _, pending = await journal.do(rotations.counts)
    unmade = Unmade(journal, pending - len(register.left_out), register.left_out)
    return await provision_in(context_of(transport, journal, settings, clock), unmade)


async def _report(
    journal: Journal,
    provision: ProvisionReport | None,
    retired: int,
    skipped: int,
    problems: Problems,
) -> RotationReport:
    waiting, pending = await journal.do(rotations.counts)
    made = () if provision is None else (*provision.failures, *provision.mismatches)
    return RotationReport(
        rotated=0 if provision is None else provision.created + provision.resumed,
        retired=retired,
        waiting=waiting,
        pending=pending,
        skipped=skipped,
        failed=problems.count
        + (0 if provision is None else provision.failed + provision.mismatched),
        failures=(*problems.first, *made)[:TOLD],
        in_doubt=0 if provision is None else provision.in_doubt,
        provision=provision,
    )
