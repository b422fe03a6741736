"""A run from its first spec to its report: rounds of creates, and a reconcile after each."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import anyio

from openrouter_keys._inputs.retry_config import BackoffStrategy
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.errors import (
    AccountChangedError,
    JournalError,
    ServiceOutageError,
    TooManyFailuresError,
)
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.models import Key
from openrouter_keys.operations import list_
from openrouter_keys.provisioning.creator import Making
from openrouter_keys.provisioning.outage import Patience
from openrouter_keys.provisioning.progress import Problems, Tally
from openrouter_keys.provisioning.queue import Job, Jobs
from openrouter_keys.provisioning.reconciler import Findings, Lookback
from openrouter_keys.provisioning.report import (
    ProvisioningStoppedError,
    ProvisionProblem,
    ProvisionReport,
)
from openrouter_keys.provisioning.stop import Halt
from openrouter_keys.provisioning.verdicts import Verdict, verdict
from openrouter_keys.results import Err, attempt

#: So many specs at most wait for a reconcile; then a round ends, so that memory stays bounded.
CROWD = 10_000
# Seconds for which a source may be idle, at least.
_IDLE = 0.1
# Workers for each create under way: others wait for the disk, or for who takes the secret.
_CREWS = 2

_log = logging.getLogger("openrouter_keys")


class Run:
    """One run; its parts are handed in.

    Args:
        transport: the client's.
        journal: what is known.
        jobs: what is to be done.
        making: makes the keys.
        lookback: reconciles.
        clock: the service's.
        patience: when to pause, and when to give up.
        halt: stops it.
        tally: counts, and tells.
        concurrency: how many creates are under way at once, at most.
        quiet_period: seconds for which a source may be idle while something waits for a round.
        max_failures: how many keys may be refused; None: any number.
        hint: what to do when it stopped.
    """

    def __init__(
        self,
        transport: Transport,
        journal: Journal,
        jobs: Jobs,
        making: Making,
        *,
        lookback: Lookback,
        clock: ServiceClock,
        patience: Patience,
        halt: Halt,
        tally: Tally,
        concurrency: int,
        quiet_period: float,
        max_failures: int | None,
        hint: str,
    ) -> None:
        self._transport = transport
        self._journal = journal
        self._jobs = jobs
        self._making = making
        self._lookback = lookback
        self._clock = clock
        self._patience = patience
        self._halt = halt
        self._tally = tally
        self._concurrency = concurrency
        self._quiet_period = quiet_period
        self._max_failures = max_failures
        self._hint = hint
        self._waiting: dict[str, Job] = {}
        self._has_waiting = asyncio.Event()
        self._round, self._asking = Halt(), 0
        self._cleared: set[str] = set()
        self._unproven: set[str] = set()
        self._undecided: set[str] = set()
        self._unsettled: str | None = None
        self._hashes: dict[str, tuple[str, ...]] = {}

    async def report(self) -> ProvisionReport:
        """Go through all specs, and return how it ended.

        Raises:
            ProvisioningStoppedError: it ended before it was through.
        """
        try:
            await self._go_through()
        except asyncio.CancelledError as cancelled:
            self._halt.stop(cancelled)
            with anyio.CancelScope(shield=True):
                told = f"provision: cancelled: {await self._end()}; {self._hint}"
                cancelled.add_note(told)
                _log.warning(told)
            raise
        except Exception as error:  # noqa: BLE001 - told with the report, whatever it is
            self._halt.stop(error)
        report = await self._end()
        if self._halt.reason is not None:
            raise ProvisioningStoppedError(
                self._halt.reason, report, self._hint
            ) from self._halt.reason
        return report

    async def _go_through(self) -> None:
        await self._begin()
        while not self._halt.stopped:
            self._tally.enter("creating")
            await self._create_all()
            if self._jobs.over and not self._waiting:
                break
            if not self._halt.stopped:
                await self._next_round()
        if not self._halt.stopped:
            await self._look_once_more()

    # --- creates ---

    async def _create_all(self) -> None:
        """Create until nothing is left, or a pause is due; on a cancel, what is under way ends."""
        self._round, self._asking = Halt(), 0
        workers = [asyncio.create_task(self._work()) for _ in range(_CREWS * self._concurrency)]
        watch = asyncio.create_task(self._end_when_idle(workers))
        try:
            await asyncio.wait(workers)
        except asyncio.CancelledError as cancelled:
            self._halt.stop(cancelled)
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

    async def _end_when_idle(self, workers: Sequence["asyncio.Task[None]"]) -> None:
        """End the round when all wait for a slow source, and something waits for the next round."""
        while self._jobs.may_idle:
            await self._has_waiting.wait()
            await self._transport.clockwork.sleep(max(self._quiet_period, _IDLE))
            if self._asking == sum(not worker.done() for worker in workers):
                self._round.stop(TimeoutError("the source is idle"))
                return

    async def _work(self) -> None:
        try:
            while (job := await self._next_job()) is not None:
                waits = await self._making.make(job)
                if waits is not None:
                    self._wait(waits)
                self._count()
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                self._halt.stop(cancelled)  # not this was cancelled, but what `on_result` awaited
            raise
        except Exception as error:  # noqa: BLE001 - what ends one worker ends the run, and is told
            self._halt.stop(error)

    async def _next_job(self) -> Job | None:
        while not (self._halt.stopped or self._patience.needs_a_pause or self._is_crowded):
            job = await self._ask()
            self._tally.read = self._jobs.read
            if job is None or job.state not in DOUBTFUL or job.spec.ref in self._cleared:
                if job is not None:
                    self._cleared.discard(job.spec.ref)
                return job
            self._wait(job)
        return None

    async def _ask(self) -> Job | None:
        self._asking += 1
        try:
            with self._halt.interrupts(), self._round.interrupts():
                return await self._jobs.next()
        finally:
            self._asking -= 1

    @property
    def _is_crowded(self) -> bool:
        return len(self._waiting) >= CROWD

    def _wait(self, job: Job) -> None:
        self._waiting[job.spec.ref] = job
        self._has_waiting.set()
        self._tally.in_doubt += job.state in DOUBTFUL

    def _count(self) -> None:
        if self._max_failures is not None and self._tally.refused > self._max_failures:
            self._halt.stop(TooManyFailuresError(self._max_failures))
        self._tally.changed()

    # --- rounds ---

    async def _begin(self) -> None:
        """Ask whether the key may manage keys, and what time it is; settle what was left."""
        page = await self._transport.perform(list_(), {})
        self._clock.learn(page.http)
        await self._refuse_another_account(page.data)
        self._transport.made.remember(await self._journal.last())
        self._lookback.begin()
        await self._look(quiet_periods=1)

    async def _refuse_another_account(self, listed: Sequence[Key]) -> None:
        """Refuse a key whose default workspace is not where the journal's keys were made.

        A reconcile would look in the wrong one, find nothing, and forget what is in doubt.
        """
        known = await self._journal.default_workspace()
        found = {key.workspace_id for key in listed if isinstance(key.workspace_id, str)}
        if known is not None and found and known not in found:
            raise AccountChangedError(known, min(found))

    async def _next_round(self) -> None:
        if self._patience.is_over:
            error = ServiceOutageError(self._patience.rounds, self._patience.last, self._obstacle())
            self._halt.stop(error)
            return
        self._patience.next_round()
        if any(job.state in DOUBTFUL for job in self._waiting.values()):
            await self._try_to_look()
        if self._halt.stopped:
            return
        if self._patience.rounds > 1 or not self._tally.in_doubt:
            self._tally.enter("waiting")
            clockwork = self._transport.clockwork
            await clockwork.sleep(BackoffStrategy().wait(self._patience.rounds, clockwork.random()))
        self._requeue()

    async def _try_to_look(self) -> None:
        outcome = await attempt(self._look(quiet_periods=1))
        self._unsettled = None
        if isinstance(outcome, Err):
            self._unsettled = f"the keys could not be listed: {outcome.error}"
            if verdict(outcome.error) is Verdict.STOP:
                raise outcome.error
            _log.warning("provision: the reconcile waits for another round: %s", outcome.error)
        elif outcome.value is not None and outcome.value.left:
            hashes = {hash for problem in outcome.value.left for hash in problem.hashes}
            self._unsettled = f"these keys could not be deleted: {', '.join(sorted(hashes))}"

    def _obstacle(self) -> str | None:
        """Return what kept the last round from going on, if it was no create."""
        if self._patience.last is not None:
            return None
        if any(job.state is State.MADE for job in self._waiting.values()):
            return "the records of keys that were made could not be asked for"
        return self._unsettled

    async def _look(self, *, quiet_periods: int, last: bool = False) -> Findings | None:
        wait = await self._lookback.due(quiet_periods)
        if wait is None:
            return None
        if wait > 0:
            self._tally.enter("waiting")
            await self._transport.clockwork.sleep(wait)
        self._tally.enter("reconciling")
        findings = await self._lookback.look(last=last)
        self._tally.deleted += findings.deleted
        self._cleared = set(findings.cleared)
        self._unproven = {problem.ref for problem in findings.unproven}
        told = (*findings.unproven, *findings.left)
        self._hashes = {problem.ref: problem.hashes for problem in told}
        if findings.exhausted is not None:
            self._halt.stop(findings.exhausted)
        return findings

    def _requeue(self) -> None:
        """Let go on what can; what cannot be told stays in doubt, and what is left waits."""
        for ref, job in [*self._waiting.items()]:
            if job.state not in DOUBTFUL or ref in self._cleared:
                self._jobs.put(job)
            elif ref in self._unproven:
                self._undecided.add(ref)
            else:
                continue
            del self._waiting[ref]
        self._tally.in_doubt = len(self._waiting)
        if not self._waiting:
            self._has_waiting.clear()

    async def _look_once_more(self) -> None:
        """Look for late commits of creates that were made anew."""
        findings = await self._look(quiet_periods=2, last=True)
        if findings is not None:
            for problem in (*findings.left, *findings.beside):
                self._tally.unproven.append(problem)

    async def _end(self) -> ProvisionReport:
        await self._jobs.close()
        doubts, pending = Problems(), 0
        try:
            await self._count_doubts(doubts)
            pending = (await self._journal.counts())[State.MADE]
        except JournalError as error:
            self._halt.stop(error)  # the report tells what is known without it
        with suppress(JournalError):
            await self._making.salvage()
        return self._tally.report(doubts, pending=pending, stopped=self._halt.stopped)

    async def _count_doubts(self, doubts: Problems) -> None:
        async for entry in self._journal.unfinished(*DOUBTFUL):
            # What an earlier run left, and is settled, is nobody's problem any more.
            if entry.ref not in self._cleared or entry.ref in self._undecided:
                reason = entry.reason or "a create was under way when its run ended"
                hashes = self._hashes.get(entry.ref, ())
                doubts.add(ProvisionProblem(ref=entry.ref, reason=reason, hashes=hashes))
