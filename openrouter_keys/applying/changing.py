"""Changes one ref: claims its rows, journals what is wanted, sends it, journals what came of it."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar, cast

from attrs import evolve, frozen

from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys._protocol.drift import unchanged
from openrouter_keys._reconcile.absence import Absence
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys.applying.compare import Pruning, Replacing, Updating
from openrouter_keys.applying.known import KnownKey, asked_of, hashes_of, mark_of
from openrouter_keys.converter import unstructure
from openrouter_keys.ensuring.context import EnsureContext
from openrouter_keys.ensuring.ensure import write_change
from openrouter_keys.ensuring.release import let_go, settle
from openrouter_keys.errors import (
    JSON,
    JournalError,
    OpenRouterError,
    ResponseError,
    ResponseValidationError,
)
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.rotations import REPLACED, as_before
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.journal.specs import KeySpec, canonical_plan
from openrouter_keys.models import Key, UpdateKeysRequest
from openrouter_keys.operations import Operation, update
from openrouter_keys.provisioning.circuit_breaker import REJECTED
from openrouter_keys.provisioning.rate_limiter import RateLimiter
from openrouter_keys.provisioning.verdicts import Verdict, verdict
from openrouter_keys.results import Ok, attempt
from openrouter_keys.rotation.registration import TAKEN
from openrouter_keys.rotation.replacement import replanned, spent

R = TypeVar("R")

# Answers that another attempt would get too.
_REFUSALS: Final = frozenset(range(400, 500)) - {408, 425}
# The rate limiter has to see every attempt.
_ONCE: Final[RequestOptions] = {"retries": RetryConfig("none")}
# Seconds that a change waits for others with the journal, beside what a create may take.
_PATIENCE: Final = 120.0
#: Why a change is not done of a ref that has changed since it was planned.
MEANWHILE: Final = "another process changed it meanwhile: apply again"


class ChangedMeanwhileError(OpenRouterError):
    """The journal has other keys of a ref than when the plan was made."""


@frozen(kw_only=True)
class ApplyContext(EnsureContext):
    """The parts of `ensure` and `release`, for many refs in one run.

    Attributes:
        clock: the service's.
        limiter: the gate of all requests but creates.
        absence: proves that keys are gone.
    """

    clock: ServiceClock
    limiter: RateLimiter
    absence: Absence

    def fresh(self) -> "ApplyContext":
        """Return the context of another change, which waits as long as a run does."""
        patience = _PATIENCE + self.journal.longest_timeout + 3 * self.settings.quiet_period
        return evolve(self, until=self.transport.clockwork.monotonic() + patience)

    async def perform(self, operation: Operation[R]) -> R:
        """Send an operation when its turn has come, and adapt the pace to how it went."""
        for _ in range(REJECTED):
            async with self.limiter.turn():
                outcome = await attempt(self.transport.perform(operation, _ONCE))
                if isinstance(outcome, Ok):
                    self.limiter.accepted()
                    return outcome.value
                error = outcome.error
                if verdict(error) is not Verdict.AGAIN:
                    if isinstance(error, ResponseError) and error.status_code in _REFUSALS:
                        raise error
                    break
                self.limiter.rejected(error.retry_after)
        # What came of it is not known: no change is the worse for being repeated.
        async with self.limiter.turn():
            return await self.transport.perform(operation, self.settings.options)

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[tuple[Journal, ServiceClock]]:
        """Give the journal of the run that all changes share, and the service's clock."""
        yield self.journal, self.clock

    async def not_gone(
        self,
        clock: ServiceClock,
        workspace_id: str | None,
        hashes: Sequence[str],
        *,
        is_own_account: bool,
    ) -> Mapping[str, str]:
        """Return why keys may be there: one list of a workspace serves for all of its keys."""
        if is_own_account:  # then an empty list counts
            return await super().not_gone(clock, workspace_id, hashes, is_own_account=True)
        reasons = {hash: await self.absence.not_gone(workspace_id, hash, {}) for hash in hashes}
        return {hash: why for hash, why in reasons.items() if why is not None}


async def change(context: ApplyContext, step: Updating) -> None:
    """Update a key to what its spec says; if it is so already, only the journal is changed."""
    known, found = await _claimed_all(context, step.known, step.plan)
    # A key that is not handed over yet is compared with the record that the journal has.
    data = step.shown
    if step.request is not None:
        fields = cast("dict[str, JSON]", unstructure(step.request))
        if not await context.journal.want_all(found, step.plan, fields, replanned):
            raise ChangedMeanwhileError(MEANWHILE)
        data = await _updated(context, hashes_of(known)[-1], step.request)
    await write_change(context.journal, known, step.plan, data)


async def _claimed_all(
    context: ApplyContext, before: KnownKey, plan: str
) -> tuple[Sequence[Entry], Sequence[Entry]]:
    """Claim the rows of a ref, and of a replacement that may be in the making, as `claim_all` does.

    Args:
        context: the run's.
        before: what was known when it was planned.
        plan: what is to be asked for.

    Returns:
        What `Journal.succession` returns, without and with what is unmade; nothing is in doubt.
    """
    found: Sequence[Entry] = ()
    while known := await context.journal.succession(before.ref):
        if found := await context.claim_all(context.journal, known):
            break
    if not _as_planned(before, plan)(known):
        await _free(context, known)
        raise ChangedMeanwhileError(MEANWHILE)
    for each in (known[0], *found[len(known) :]):
        if each.written_off or each.state in DOUBTFUL:
            # Its creates are looked for by what they asked for: that is forgotten now.
            await settle(context, context.journal, context.clock, each)
    return known, found


async def release(context: ApplyContext, before: KnownKey) -> None:
    """Delete the keys of a ref, and forget the ref."""
    while known := await context.journal.succession(before.ref):
        if mark_of(known) == before.mark:
            if await let_go(context, known):
                return
        # Another process may be releasing them just now.
        elif await context.claim(context.journal, *known):
            await _free(context, known)
            raise ChangedMeanwhileError(MEANWHILE)


async def is_done(context: ApplyContext, spec: KeySpec) -> bool:
    """Whether another process has the key of a ref as a spec says; it waits while one is at it."""
    while known := await context.journal.succession(spec.ref):
        if await context.claim(context.journal, *known):
            break
    await _free(context, known)
    if len(known) != 1 or not _is_settled(known) or known[0].wanted is not None:
        return False
    plan = canonical_plan(known[0].plan)
    if spec.disabled and plan == evolve(spec, disabled=False).plan:
        await disable_made(context, spec)  # the other process was about to
        return True
    return plan == spec.plan


async def disable(context: ApplyContext, step: Pruning) -> None:
    """Disable the keys of a ref that no spec names; the journal remembers that."""
    plan = canonical_plan({**step.known.plan, "disabled": True})
    known, found = await _claimed_all(context, step.known, plan)
    if not await context.journal.want_all(found, plan, {}, as_before):
        raise ChangedMeanwhileError(MEANWHILE)
    data = None
    for hash in step.disabled:
        data = await _updated(context, hash, UpdateKeysRequest(disabled=True))
    await write_change(context.journal, known, plan, data)


async def disable_made(context: ApplyContext, spec: KeySpec) -> None:
    """Disable a key that was created just now, since its spec says so."""
    known = await _claimed(context, spec.ref, _is_settled)
    await context.journal.want(spec.ref, spec.plan)
    data = await _updated(context, hashes_of(known)[-1], UpdateKeysRequest(disabled=True))
    await write_change(context.journal, known, spec.plan, data)


async def begin_replacement(context: ApplyContext, step: Replacing, old: Key | None) -> None:
    """Write that a key is to be replaced.

    Args:
        context: the run's.
        step: the change.
        old: the key's record; None: it is gone.
    """
    known = await _claimed(context, step.spec.ref, _as_planned(step.known))
    if step.known.unretired is None:
        # A replacement is replaced only once it is the ref's own key.
        for hash in hashes_of(known)[:-1]:
            await context.journal.absorb(step.spec.ref, hash)
    if old is not None:  # what is planned already stays
        hashes = await context.journal.known_hashes([old.hash])
        if hashes.refs - hashes.rotated:
            raise JournalError(f"its hash {TAKEN}")
        planned = (old.hash, step.asked.plan, REPLACED, old.limit, spent(old))
        await context.journal.plan_rotations([planned])


async def end_replacement(context: ApplyContext, step: Replacing) -> None:
    """Write that a key was replaced, and its old key deleted."""
    ref = step.spec.ref
    await context.journal.absorb(ref, step.asked.ref)
    await context.journal.update(ref, step.asked.plan, None)


async def _updated(context: ApplyContext, hash: str, request: UpdateKeysRequest) -> Key:
    answer = await context.perform(update(hash, request))
    problem = unchanged(hash, request, answer.data)
    if problem is not None:
        raise ResponseValidationError(problem)
    return answer.data


async def _claimed(
    context: ApplyContext, ref: str, is_same: Callable[[Sequence[Entry]], bool]
) -> list[Entry]:
    """Claim the rows of a ref, as soon as no other process is at them."""
    while known := await context.journal.succession(ref):
        if await context.claim(context.journal, *known):
            if is_same(known):
                return known
            await _free(context, known)
            break
    raise ChangedMeanwhileError(MEANWHILE)


async def _free(context: ApplyContext, known: Sequence[Entry]) -> None:
    """Leave the rows of a ref to others, but for those that are not settled."""
    for entry in known:
        await context.journal.free(entry.ref)


def _is_settled(known: Sequence[Entry]) -> bool:
    return bool(known) and known[-1].state is State.SETTLED


def _as_planned(before: KnownKey, plan: str | None = None) -> Callable[[Sequence[Entry]], bool]:
    """Return what says whether a ref's keys, and what is asked for, are as when it was planned.

    Args:
        before: what was known then.
        plan: what is to be asked for: another process may have been faster with just that.
    """

    def is_so(known: Sequence[Entry]) -> bool:
        if not known or hashes_of(known) != before.hashes:
            return False
        is_done = known[0].wanted is None and canonical_plan(known[0].plan) == plan
        return is_done or asked_of(known[0]) == (before.plan, before.wanted)

    return is_so
