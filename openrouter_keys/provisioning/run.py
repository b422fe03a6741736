"""A run from its first spec to its report: rounds of creates, and a reconcile after each."""

import asyncio
import logging
import math
from collections.abc import Sequence, Sized
from contextlib import suppress

import anyio
from attrs import evolve

from openrouter_keys._inputs.retry_config import BackoffStrategy
from openrouter_keys._transport.transport import Transport
from openrouter_keys.errors import (
    CreateOutcomeUnknownError,
    JournalError,
    ServiceOutageError,
    TooManyFailuresError,
)
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.provisioning.context import Context, Scope, context_of, opened
from openrouter_keys.provisioning.counters import Problems
from openrouter_keys.provisioning.creator import Creator
from openrouter_keys.provisioning.delivery import Delivery
from openrouter_keys.provisioning.queue import Job, Queue
from openrouter_keys.provisioning.reconciler import Findings, Reconciler
from openrouter_keys.provisioning.report import (
    ProvisioningStoppedError,
    ProvisionProblem,
    ProvisionReport,
)
from openrouter_keys.provisioning.settings import RunSettings
from openrouter_keys.provisioning.spec_source import Specs, check_specs
from openrouter_keys.provisioning.verdicts import Verdict, verdict
from openrouter_keys.results import Err, attempt

#: So many specs at most wait for a reconcile; then a round ends, so that memory stays bounded.
CROWD = 10_000
# Seconds for which a source may be idle, at least.
_IDLE = 0.1
# Seconds between two looks at what other runs do; and, beside what a create may take, for which
# nothing of it need change.
_POLL = 0.25
_STILL = 120.0
# How much longer than a look is the time until the next one.
_PAUSES = 5
# Workers for each create under way: others wait for the disk, or for `on_result`.
_CREWS = 2
_STUCK = "another run with this journal is at it, and gets no further: see to that run"
_RESUME = "the same call with the same journal goes on from there"
_NO_RESUME = "there is no journal on disk to go on from: the report lists what there is"

_log = logging.getLogger("openrouter_keys")


async def provision(transport: Transport, specs: Specs, settings: RunSettings) -> ProvisionReport:
    """Make a key for each spec; see `AsyncOpenRouter.provision`."""
    check_specs(specs)
    async with opened(transport, settings) as journal:
        return await provision_in(context_of(transport, journal, settings), specs)


async def provision_in(context: Context, specs: Specs) -> ProvisionReport:
    """Make a key for each spec, with a journal that is open already."""
    if isinstance(specs, Sized):
        context.counters.total = len(specs)
    known = sum((await context.journal.counts()).values()) > 0
    return await Run(context, Queue(specs, context, looks_up=known)).report()


class Run:
    """One run.

    Args:
        context: its parts.
        queue: what is to be done.
    """

    def __init__(self, context: Context, queue: Queue) -> None:
        self._transport = context.transport
        self._journal = context.journal
        self._settings = context.settings
        self._clock = context.clock
        self._breaker = context.breaker
        self._stop = context.stop
        self._counters = context.counters
        self._queue = queue
        self._reconciler = Reconciler(context)
        self._delivery = Delivery(context)
        self._creator = Creator(context, self._delivery, self._reconciler)
        self._account = context.account
        self._scope = context.scope
        self._hint = _NO_RESUME if context.settings.journal is None else _RESUME
        self._waiting: dict[str, Job] = {}
        self._has_waiting = asyncio.Event()
        self._asking = 0
        self._findings = Findings()
        self._cleared: set[str] = set()
        self._undecided: set[str] = set()
        self._poll = _POLL
        # How far others were with what waits for them, and since when.
        self._others: dict[str, State | None] = {}
        self._others_since = 0.0
        self._stuck: set[str] = set()
        self._unsettled: str | None = None

    async def report(self) -> ProvisionReport:
        """Go through all specs, and return how it ended.

        Raises:
            ProvisioningStoppedError: it ended before it was through.
        """
        try:
            await self._go_through()
        except asyncio.CancelledError as cancelled:
            self._stop.stop(cancelled)
            with anyio.CancelScope(shield=True):
                note = f"provision: cancelled: {await self._end()}; {self._hint}"
                cancelled.add_note(note)
                _log.warning(note)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised with the report
            self._stop.stop(error)
        report = await self._end()
        if (reason := self._stop.reason) is not None:
            raise ProvisioningStoppedError(reason, report, self._hint) from reason
        return report

    async def _go_through(self) -> None:
        await self._begin()
        while not self._stop.stopped:
            if not self._queue.is_empty:
                self._counters.enter("creating")
                await self._create_all()
            if self._stop.stopped:
                return
            if self._queue.is_empty and not self._waiting:
                # Creates that were made anew may have landed late.
                await self._look(quiet_periods=2, last=True)
                self._counters.unproven += (*self._findings.left, *self._findings.beside)
                return
            await self._next_round()

    async def _begin(self) -> None:
        """Settle what was left; a run for one ref has asked about the account before."""
        if self._scope is None:
            await self._account.ask(self._transport, self._journal, self._clock)
        self._reconciler.begin()
        await self._look(quiet_periods=1)

    # --- creates ---

    async def _create_all(self) -> None:
        """Create until nothing is left, or a pause is due; on a cancel, what is under way ends."""
        self._asking = 0
        count = _CREWS * self._settings.concurrency
        workers = [asyncio.create_task(self._work()) for _ in range(count)]
        watch = asyncio.create_task(self._pause_when_idle(workers))
        try:
            await asyncio.wait(workers)
        except asyncio.CancelledError as cancelled:
            self._stop.stop(cancelled)
            # A cancelled anyio scope cancels again and again; one more cancel of the task itself
            # is heard: then nothing is waited for.
            with anyio.CancelScope(shield=True):
                await asyncio.wait(workers, timeout=self._transport.grace)
            raise
        finally:
            for task in (watch, *workers):
                task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(watch, *workers, return_exceptions=True)

    async def _pause_when_idle(self, workers: Sequence["asyncio.Task[None]"]) -> None:
        """End the round when all wait for a slow source, and something waits for the next round."""
        while self._queue.may_idle:
            await self._has_waiting.wait()
            await self._transport.clockwork.sleep(max(self._settings.quiet_period, _IDLE))
            if self._asking == sum(not worker.done() for worker in workers):
                self._stop.pause()
                return

    async def _work(self) -> None:
        try:
            while (job := await self._next_job()) is not None:
                waits = await self._creator.make(job)
                if waits is not None:
                    self._wait(waits)
                most = self._settings.max_failures
                if most is not None and self._counters.refused > most:
                    self._stop.stop(TooManyFailuresError(most))
                self._counters.changed()
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                self._stop.stop(cancelled)  # not this was cancelled, but what `on_result` awaited
            raise
        except Exception as error:  # noqa: BLE001 - what ends one worker ends the run
            self._stop.stop(error)

    async def _next_job(self) -> Job | None:
        while not self._stop.paused:
            job = self._queue.at_once() or await self._read_job()
            if job is not None and job.spec.ref in self._cleared:
                self._cleared.discard(job.spec.ref)
                job = evolve(job, cleared=True)
            if job is None or not job.in_doubt:
                return job
            self._wait(job)
        return None

    async def _read_job(self) -> Job | None:
        self._asking += 1
        try:
            with self._stop.interrupts(idle=True):
                return await self._queue.next()
        finally:
            self._asking -= 1

    def _wait(self, job: Job) -> None:
        self._waiting[job.spec.ref] = job
        self._has_waiting.set()
        self._counters.in_doubt += job.in_doubt
        if len(self._waiting) >= CROWD:
            self._stop.pause()

    # --- rounds ---

    async def _next_round(self) -> None:
        # A round is one of this run's own: what others are at is waited for in any case.
        can_go_on = await self._look_at_others()
        if self._breaker.is_open or not can_go_on:
            if not self._breaker.is_open and all(job.elsewhere for job in self._waiting.values()):
                await self._wait_for_others()
            else:
                await self._own_round()
        self._requeue()

    async def _own_round(self) -> None:
        rounds = self._breaker.rounds
        if self._breaker.is_final:
            raise self._breaker.rejection or ServiceOutageError(
                rounds, self._breaker.last, self._obstacle()
            )
        self._breaker.next_round()
        if any(job.in_doubt for job in self._waiting.values()):
            await self._try_to_look()
        if self._stop.stopped:
            return
        if rounds or not self._counters.in_doubt:
            self._counters.enter("waiting")
            random = self._transport.clockwork.random()
            await self._sleep(BackoffStrategy().wait(rounds + 1, random))

    async def _wait_for_others(self) -> None:
        """Wait for other runs, as long as what is waited for goes on."""
        clockwork = self._transport.clockwork
        self._counters.enter("waiting", elsewhere=len(self._waiting))
        await self._sleep(self._poll)
        now, others = clockwork.monotonic(), {ref: job.state for ref, job in self._waiting.items()}
        if others != self._others:
            self._others, self._others_since = others, now
        enough = _STILL + self._journal.longest_timeout + 2 * self._settings.quiet_period
        if now - self._others_since >= enough:
            self._stuck |= others.keys()
            self._waiting.clear()

    async def _sleep(self, seconds: float) -> None:
        """Wait for a round, unless the caller of a run for one ref waits no longer."""
        scope, clockwork = self._scope, self._transport.clockwork
        if scope is not None and clockwork.monotonic() + seconds > scope.until:
            last = self._breaker.last
            if last is None or any(job.in_doubt for job in self._waiting.values()):
                raise unsettled(scope, seconds) from last
            raise last
        await clockwork.sleep(seconds)

    async def _look_at_others(self) -> bool:
        """See how far others are with the specs that wait, and claim what is nobody's.

        Returns:
            Whether some can go on now that others did something about them.
        """
        looked = [ref for ref, job in self._waiting.items() if job.in_doubt or job.elsewhere]
        began = self._transport.clockwork.monotonic()
        claims = await self._journal.claim(*looked) if looked else {}
        self._reconciler.claimed(claims)
        # A look at many keeps others waiting.
        self._poll = max(_POLL, _PAUSES * (self._transport.clockwork.monotonic() - began))
        for ref in looked:
            claim = claims.get(ref)
            state = None if claim is None else claim.state
            elsewhere = claim is not None and not claim.ours and state is not State.SETTLED
            self._waiting[ref] = evolve(self._waiting[ref], state=state, elsewhere=elsewhere)
        return any(
            not (self._waiting[ref].in_doubt or self._waiting[ref].elsewhere) for ref in looked
        )

    async def _try_to_look(self) -> None:
        outcome = await attempt(self._look(quiet_periods=1))
        self._unsettled = None
        if isinstance(outcome, Err):
            self._unsettled = f"the keys could not be listed: {outcome.error}"
            is_over = isinstance(outcome.error, CreateOutcomeUnknownError)  # of `_sleep`
            if is_over or verdict(outcome.error) is Verdict.STOP:
                raise outcome.error
            _log.warning("provision: the reconcile waits for another round: %s", outcome.error)
        elif self._findings.left:
            hashes = {hash for problem in self._findings.left for hash in problem.hashes}
            self._unsettled = f"these keys could not be deleted: {', '.join(sorted(hashes))}"

    def _obstacle(self) -> str | None:
        """Return what kept the last round from going on, if it was no create."""
        if self._breaker.last is not None:
            return None
        if any(job.state is State.MADE for job in self._waiting.values()):
            return "the records of keys that were made could not be asked for"
        return self._unsettled

    async def _look(self, *, quiet_periods: int, last: bool = False) -> None:
        """Reconcile, once it is time; the findings are empty where nothing is in doubt."""
        wait = await self._reconciler.due(quiet_periods)
        if wait is None:
            self._findings = Findings()
            return
        if wait > 0:
            self._counters.enter("waiting")
            await self._sleep(wait)
        self._counters.enter("reconciling")
        self._findings = await self._reconciler.look(last=last)
        self._counters.deleted += self._findings.deleted
        self._cleared = set(self._findings.cleared)
        if self._findings.exhausted is not None:
            self._stop.stop(self._findings.exhausted)

    def _requeue(self) -> None:
        """Let go on what can; what cannot be settled stays in doubt, and what is left waits."""
        unproven = {problem.ref for problem in self._findings.unproven}
        for ref, job in [*self._waiting.items()]:
            if job.elsewhere:
                continue
            if not job.in_doubt or ref in self._cleared:
                # Kept with the job: the journal may count it as resolved, and no later look at it.
                self._queue.put(evolve(job, cleared=True))
            elif ref in unproven:
                self._undecided.add(ref)
            else:
                continue
            del self._waiting[ref]
        self._counters.in_doubt = len(self._waiting)
        if not self._waiting:
            self._has_waiting.clear()
        if len(self._waiting) < CROWD:
            self._stop.resume()

    async def _end(self) -> ProvisionReport:
        await self._queue.close()
        doubts, pending = Problems(), 0
        try:
            await self._count_doubts(doubts)
            pending = await self._journal.pending()
        except JournalError as error:
            self._stop.stop(error)  # the report has what is known without it
        with suppress(JournalError):
            await self._delivery.salvage()
        return self._counters.report(doubts, pending=pending, stopped=self._stop.stopped)

    async def _count_doubts(self, doubts: Problems) -> None:
        told = (*self._findings.unproven, *self._findings.left)
        hashes = {problem.ref: problem.hashes for problem in told}
        settled = self._undecided | self._stuck
        entries = [entry async for entry in self._journal.unfinished(*DOUBTFUL)]
        if self._scope is not None:
            entries = [entry for entry in entries if entry.ref == self._scope.ref]
        claims = await self._journal.claim(*(entry.ref for entry in entries))
        for entry in entries:
            claim = claims.get(entry.ref)
            if claim is None or not claim.ours:
                continue  # another run is at it
            settled.discard(entry.ref)
            # What an earlier run left, and is settled, is no problem any more.
            if entry.ref not in self._cleared or entry.ref in self._undecided:
                reason = entry.reason or "a create was under way when its run ended"
                problem = ProvisionProblem(
                    ref=entry.ref, reason=reason, hashes=hashes.get(entry.ref, ())
                )
                doubts.add(problem)
        for ref in sorted(settled):
            found = await self._journal.find(ref)
            if found is not None and found.state is State.FAILED:
                # The last look settled them, too late for another create in this run.
                reason = f"{found.reason}: run again to make the key anew"
                doubts.add(ProvisionProblem(ref=ref, reason=reason))
            elif ref in self._stuck and found is not None and found.state is State.SETTLED:
                self._counters.settled_before += 1
            elif ref in self._stuck:
                doubts.add(ProvisionProblem(ref=ref, reason=_STUCK))


def unsettled(
    scope: Scope, seconds: float | None, reason: str | None = None
) -> CreateOutcomeUnknownError:
    """Return the error of a ref that is not settled yet.

    Args:
        scope: the ref.
        seconds: after which it can be settled. None: not known.
        reason: why it is not. None: it only takes time.
    """
    later = "later" if seconds is None else f"in {math.ceil(seconds)} s, then it can be settled"
    why = reason or (
        f"a create of {scope.ref!r} may have made a key, or another process is at it: ask again "
        f"{later}"
    )
    error = CreateOutcomeUnknownError(why)
    error.workspace_id, error.name = scope.place
    error.operation, error.retry_after = scope.operation, seconds
    return error
