"""`apply`: from the plan to the report."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import anyio
from attrs import evolve

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._transport.transport import Transport
from openrouter_keys.applying.changing import (
    MEANWHILE,
    ApplyContext,
    ChangedMeanwhileError,
    begin_replacement,
    change,
    disable,
    disable_made,
    end_replacement,
    is_done,
    release,
)
from openrouter_keys.applying.compare import (
    Making,
    Pruning,
    Replacing,
    Step,
    Updating,
)
from openrouter_keys.applying.outcome import Outcome
from openrouter_keys.applying.planning import Look, read
from openrouter_keys.applying.report import (
    ApplyPhase,
    ApplyReport,
    ApplyStoppedError,
    TooManyPrunedError,
)
from openrouter_keys.applying.settings import ApplySettings
from openrouter_keys.converter import write_time
from openrouter_keys.ensuring.settings import ReleaseSettings
from openrouter_keys.errors import (
    JournalFullError,
    JournalInUseError,
    JournalLostError,
    OpenRouterError,
    QuotaExhaustedError,
)
from openrouter_keys.journal.entries import CHUNK
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.provisioning.context import context_of, opened
from openrouter_keys.provisioning.queue import Queue
from openrouter_keys.provisioning.report import (
    OnResult,
    ProvisioningStoppedError,
    ProvisionProblem,
    ProvisionResult,
    UndeliveredKey,
)
from openrouter_keys.provisioning.run import Run
from openrouter_keys.provisioning.spec_source import Allowance, Specs
from openrouter_keys.results import Err, attempt
from openrouter_keys.rotation.context import RotationContext
from openrouter_keys.rotation.retirement import Retirement
from openrouter_keys.rotation.settings import RotationSettings

P = TypeVar("P", ProvisionProblem, UndeliveredKey)
S = TypeVar("S", bound=Step)

_log = logging.getLogger("openrouter_keys")

# What no other change with the journal, or with the management key, would do better with.
_STOPS = (JournalFullError, JournalLostError, JournalInUseError, QuotaExhaustedError)
# Of the management key, or of the account's money.
_STATUSES = (401, 402)
_SERVERS_FAULT = 500
# Workers for each request under way: others wait for the disk.
_CREWS = 2


async def apply(transport: Transport, specs: Specs, settings: ApplySettings) -> ApplyReport:
    """Have the account as the specs say; see `AsyncOpenRouter.apply`."""
    wanted = await read(specs)
    allowance = Allowance(settings.max_total_limit)
    for spec in wanted:
        allowance.take(spec)
    async with opened(transport, settings.run()) as journal:
        look = await Look.at(transport, journal, wanted, settings)
        plan = look.comparison.plan
        if plan.excess is not None:
            raise TooManyPrunedError(plan, plan.excess)
        return await _Apply(transport, journal, settings, look).report()


class _Handing:
    """Hands keys over under their own refs: a replacement is made under its old key's hash.

    Args:
        on_result: the caller's.
        made_for: the changes, by the refs that keys are made under.
    """

    def __init__(self, on_result: OnResult, made_for: Mapping[str, Making | Replacing]) -> None:
        self.takes_secrets = getattr(on_result, "takes_secrets", True)
        self._on_result, self._made_for = on_result, made_for

    async def __call__(self, result: ProvisionResult) -> None:
        spec = self._made_for[result.ref].spec
        took = self._on_result(evolve(result, ref=spec.ref, spec=spec))
        if inspect.isawaitable(took):
            await took


class _Apply:
    """One call of `apply`, once it is known what is to be done."""

    def __init__(
        self, transport: Transport, journal: Journal, settings: ApplySettings, look: Look
    ) -> None:
        self._transport, self._journal, self._settings = transport, journal, settings
        self._shown, self._found = look.account.shown, look.comparison
        self._proof = look.account.proof
        self._context = ApplyContext(
            transport,
            journal,
            ReleaseSettings(journal=journal, quiet_period=settings.quiet_period),
            "apply",
            transport.options.timeout,
            0.0,
            clock=look.clock,
            limiter=look.limiter,
            absence=look.account.absence,
        )
        # By the refs that keys are made under: for a replacement, the hash of its old key.
        self._made_for: dict[str, Making | Replacing] = {}
        self._old: dict[str, Replacing] = {}
        # The refs whose specs another process changed meanwhile.
        self._changed = set[str]()
        self._outcome = Outcome(look.comparison.plan, settings, transport.clockwork)

    async def report(self) -> ApplyReport:
        """Do all changes, and return how it ended.

        Raises:
            ApplyStoppedError: it ended before it was through.
        """
        if await self._is_declined():
            return self._outcome.end(self._made_for, declined=True)
        try:
            await self._go_through()
        except asyncio.CancelledError as cancelled:
            with anyio.CancelScope(shield=True):
                await self._find_not_handed_over()
            report = self._outcome.end(self._made_for, stopped=True)
            text = f"apply: cancelled: {report}; {report.hint}"
            cancelled.add_note(text)
            _log.warning(text)
            raise
        except Exception as error:
            await self._find_not_handed_over()
            raise ApplyStoppedError(
                error, self._outcome.end(self._made_for, stopped=True)
            ) from error
        return self._outcome.end(self._made_for)

    async def _find_not_handed_over(self) -> None:
        """Find the keys that were made, and whose secrets nobody has taken, for the report."""
        refs = [*self._made_for] if self._journal.keeps else []
        for start in range(0, len(refs), CHUNK):
            found = await attempt(self._journal.states_of(refs[start : start + CHUNK]))
            if not isinstance(found, Err):  # the report has what is known without it
                made = (ref for ref, state in found.value.items() if state is State.MADE)
                self._outcome.not_handed_over += [self._made_for[ref].change.ref for ref in made]

    async def _is_declined(self) -> bool:
        if self._settings.on_plan is None:
            return False
        agreed = self._settings.on_plan(self._found.plan)
        if inspect.isawaitable(agreed):
            agreed = await agreed
        return agreed is False

    async def _go_through(self) -> None:
        """Do it: what is to be there is made before anything else goes for good."""
        found = self._found
        released = [step for step in found.making if step.known is not None]
        await self._each("changing", found.updating, self._update)
        await self._each("changing", released, self._release)
        # What could not be changed or released is still what it was.
        left = self._outcome.failed | self._outcome.done_elsewhere
        await self._make([step for step in found.making if step.spec.ref not in left])
        await self._each("pruning", found.pruning, self._prune)

    async def _update(self, step: Updating) -> None:
        await change(self._context.fresh(), step)
        if step.request is not None:
            self._outcome.done[step.change.action] += 1

    async def _release(self, step: Making) -> None:
        if step.known is not None:
            await release(self._context.fresh(), step.known)

    async def _prune(self, step: Pruning) -> None:
        if step.disabled:
            await disable(self._context.fresh(), step)
        else:
            await release(self._context.fresh(), step.known)
        self._outcome.done["prune"] += 1

    # --- keys that are made ---

    async def _make(self, making: Sequence[Making]) -> None:
        """Create keys, hand over what was created, and replace what is to be replaced."""
        await self._each("creating", self._found.replacing, self._begin_replacement)
        self._made_for = {step.spec.ref: step for step in making} | self._old
        specs = {ref: _asked(step) for ref, step in self._made_for.items()}
        if not specs and not await self._is_in_doubt():
            return
        await self._run([*specs.values()])
        for ref in sorted(self._changed):
            await self._see_to(self._made_for[ref], ChangedMeanwhileError(MEANWHILE))
        settled = {ref: self._made_for[ref] for ref in await self._settled([*specs.values()])}
        replaced = {hash: step for hash, step in self._old.items() if hash in settled}
        self._outcome.done.update(
            each.change.action for ref, each in settled.items() if ref not in replaced
        )
        self._outcome.anew = sum(each.known.unretired is None for each in replaced.values())
        self._outcome.anew += self._outcome.done["recreate"] + self._outcome.done["replace"]
        await self._retire(replaced)
        disabled = [step for step in settled.values() if step.spec.disabled]
        await self._each("changing", disabled, self._disable_made)

    async def _begin_replacement(self, step: Replacing) -> None:
        hash = step.asked.ref
        await begin_replacement(self._context.fresh(), step, self._shown.get(canonical(hash)))
        self._old[hash] = step

    async def _is_in_doubt(self) -> bool:
        """Whether a create without an answer may still have made a key."""
        async for _ in self._journal.unfinished(*DOUBTFUL):
            return True
        async for _ in self._journal.written_off():
            return True
        return False

    async def _run(self, specs: Sequence[KeySpec]) -> None:
        self._outcome.enter("creating", len(specs))
        on_result = self._settings.on_result
        handing = None if on_result is None else _Handing(on_result, self._made_for)
        clock = self._context.clock
        await self._journal.time_hand_overs(lambda: write_time(clock.now()))
        settings = self._settings.run(self._journal, handing, self._outcome.see)
        context = context_of(
            self._transport,
            self._journal,
            settings,
            clock,
            account=self._proof,
            changed=self._changed,
        )
        context.counters.total = len(specs)
        try:
            self._outcome.made = await Run(context, Queue(specs, context, looks_up=True)).report()
        except ProvisioningStoppedError as stopped:
            self._outcome.made = stopped.report
            raise (stopped.__cause__ or stopped) from None

    async def _settled(self, specs: Sequence[KeySpec]) -> list[str]:
        """Return the refs whose keys are made and handed over."""
        settled: list[str] = []
        for start in range(0, len(specs), CHUNK):
            chunk = specs[start : start + CHUNK]
            found = await attempt(self._journal.states(chunk))
            if isinstance(found, Err):
                continue  # another process has changed one of them since
            states = zip(chunk, found.value, strict=True)
            settled += [spec.ref for spec, state in states if state is State.SETTLED]
        return settled

    async def _retire(self, steps: Mapping[str, Replacing]) -> None:
        """Delete the keys that were replaced, by their hashes."""
        if not steps:
            return
        self._outcome.enter("retiring", len(steps))
        settings = RotationSettings(journal=self._journal, on_result=_nothing, retire_after=0.0)
        context = RotationContext(
            self._transport, self._journal, settings, self._context.clock, self._context.limiter
        )
        retirement = Retirement(context)
        for hash in await retirement.retire(steps):
            await end_replacement(self._context, steps[hash])
            self._outcome.done["replace"] += 1
        for problem in context.problems.first:
            self._outcome.count(evolve(problem, ref=steps[problem.ref].change.ref))
        if retirement.exhausted is not None:
            raise retirement.exhausted

    async def _disable_made(self, step: Making | Replacing) -> None:
        await disable_made(self._context.fresh(), step.spec)

    # --- many at once ---

    async def _each(
        self, phase: ApplyPhase, steps: Sequence[S], act: Callable[[S], Awaitable[None]]
    ) -> None:
        """Do something for each step, any number at once; what is cancelled can be repeated."""
        if not steps:
            return
        self._outcome.enter(phase, len(steps))
        waiting = iter(steps)

        async def work() -> None:
            for step in waiting:
                outcome = await attempt(act(step))
                if isinstance(outcome, Err):
                    await self._see_to(step, outcome.error)
                else:
                    self._outcome.succeed()
                self._outcome.advance()

        count = min(len(steps), _CREWS * self._settings.concurrency)
        workers = [asyncio.create_task(work()) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(*workers, return_exceptions=True)

    async def _see_to(self, step: Step, error: OpenRouterError) -> None:
        """Count a failure, unless another process was faster with just that."""
        if isinstance(error, ChangedMeanwhileError) and isinstance(step, Making | Replacing):
            done = await attempt(is_done(self._context.fresh(), step.spec))
            if not isinstance(done, Err) and done.value:
                self._outcome.done_elsewhere.add(step.change.ref)
                return
        self._outcome.fail(step, error)


def _asked(step: Making | Replacing) -> KeySpec:
    """Return what a create asks for: it cannot disable a key."""
    return step.asked if isinstance(step, Replacing) else evolve(step.spec, disabled=False)


def _nothing(_: ProvisionResult) -> None:
    """Take no key: a retirement hands none over."""
