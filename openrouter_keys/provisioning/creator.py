"""One key's way: the gate, the durable intent, the create, and what follows on its outcome."""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import cast

from openrouter_keys._base.masking import scrub
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys._reconcile.absence import Absence, is_there, not_gone
from openrouter_keys._reconcile.listing import Lister
from openrouter_keys._reconcile.matching import hash_in
from openrouter_keys._reconcile.reconcile import removed
from openrouter_keys._transport.deletion import Removal
from openrouter_keys.converter import decode
from openrouter_keys.errors import (
    CreatedKeyUnreadableError,
    CreateOutcomeUnknownError,
    OpenRouterError,
    PlanChangedError,
    QuotaExhaustedError,
    ResponseValidationError,
    SecretLostError,
    TakenOverError,
    TooManyRequestsResponseError,
)
from openrouter_keys.journal.entries import Entry, NotReplacedError
from openrouter_keys.journal.runs import Claim
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import CreateKeysResponse, Key
from openrouter_keys.operations import create
from openrouter_keys.provisioning.circuit_breaker import OUTAGE
from openrouter_keys.provisioning.context import Context
from openrouter_keys.provisioning.delivery import Delivered, Delivery
from openrouter_keys.provisioning.queue import Job
from openrouter_keys.provisioning.reconciler import Reconciler
from openrouter_keys.provisioning.report import ProvisionProblem, UndeliveredKey
from openrouter_keys.provisioning.verdicts import Verdict, verdict
from openrouter_keys.results import Err, Ok, attempt

# The rate limiter has to see every attempt, and a run decides by itself what follows.
_ONCE = RetryConfig("none")
# Seconds after which an intent is written anew. Whoever takes it over, from a run that was killed
# or cut off, counts from its time how long its create may still land.
_STALE = 1.0

_log = logging.getLogger("openrouter_keys")


class _Unsent:
    """A create whose intent is durable and is not sent: its round ended, or it waited too long."""


class Creator:
    """Makes keys, any number at once.

    Args:
        context: the run's.
        delivery: hands over the keys that were made.
        reconciler: is notified of each create that is given up.
    """

    def __init__(self, context: Context, delivery: Delivery, reconciler: Reconciler) -> None:
        self._transport = context.transport
        self._journal = context.journal
        self._clock = context.clock
        self._limiter = context.limiter
        self._breaker = context.breaker
        self._stop = context.stop
        self._counters = context.counters
        self._delivery = delivery
        self._reconciler = reconciler
        self._absence = Absence(context.transport, context.clock, context.settings.quiet_period)
        self._account = context.account
        self._changed = context.changed
        self._scope = context.scope
        # Checked once, not for each key.
        given = {**context.settings.options, "retries": _ONCE}
        self._once = context.transport.options.with_(cast("RequestOptions", given))
        # How many looks in a row had no answer.
        self._unanswered = 0
        # Of the turns that have begun, so many creates are under way at once.
        self._room = asyncio.Semaphore(context.settings.concurrency)

    async def make(self, job: Job) -> Job | None:
        """Do what is left to do for a spec.

        Args:
            job: the spec; if it is in doubt, no key of it is left.

        Returns:
            None: nothing is left to do. A job: it has to wait for another round.
        """
        if job.state is State.SETTLED:
            self._counters.settled_before += 1
            return None
        try:
            return await self._go_on(job)
        except TakenOverError as error:
            _log.warning("provision: %s", error)
            return Job(job.spec, State.INTENT, elsewhere=True)
        except PlanChangedError:
            if self._changed is None:
                raise
            self._changed.add(job.spec.ref)
            return None
        except NotReplacedError as error:
            self._counters.failures.add(ProvisionProblem(ref=job.spec.ref, reason=str(error)))
            return None

    async def _go_on(self, job: Job) -> Job | None:
        if job.made is not None:
            delivered = await self._delivery.deliver(job.spec, job.made, None)
            return self._after(job.spec, job.made, delivered)
        if job.state is None:
            return await self._create(job)
        claims = await self._journal.claim(job.spec.ref)
        self._reconciler.claimed(claims)
        claim = claims.get(job.spec.ref)
        if claim is None:
            return await self._create(Job(job.spec, None))  # another run has released it
        if claim.ours:
            await self._journal.states([job.spec])  # another run may have changed what is asked for
        if claim.state in DOUBTFUL and job.state in DOUBTFUL:
            return await self._create(job) if claim.ours else self._elsewhere(job, claim)
        if claim.state is not job.state:
            return await self._look_up(job.spec, claim.state)  # another run went on with it
        return await self._see_to(job) if claim.ours else self._elsewhere(job, claim)

    def _elsewhere(self, job: Job, claim: Claim) -> Job:
        # If it comes back, it comes in doubt: what was cleared before is another run's by now.
        return Job(job.spec, claim.state, elsewhere=True)

    async def _look_up(self, spec: KeySpec, state: State) -> Job | None:
        job = Job(spec, state)
        return job if job.in_doubt else await self.make(job)

    # --- what an earlier run left ---

    async def _see_to(self, job: Job) -> Job | None:
        entry = await self._journal.find(job.spec.ref)
        if entry is None or entry.hash is None:
            return await self._create(job)
        if entry.state is State.RELEASING:
            return await self._go_on_releasing(job, entry)
        if entry.state is State.FAILED:
            self._counters.mismatches.add(_problem(entry, entry.reason or "not as asked for"))
            self._counters.mismatched_before += 1
        elif entry.secret is not None:
            return await self._resume(job, entry, entry.secret, entry.hash)
        elif entry.sealed is not None:
            self._counters.failures.add(_problem(entry, _SEALED))
        elif not entry.proven:
            self._counters.failures.add(_problem(entry, _UNPROVEN))
        elif (why := await self._not_removed(entry, entry.hash)) is None:
            self._counters.deleted += 1
            return await self._create(job)
        else:
            self._counters.failures.add(_problem(entry, why))
        return None

    async def _go_on_releasing(self, job: Job, entry: Entry) -> Job | None:
        """Delete a released key with its replacements, the last one first; then create another."""
        known = await self._journal.succession(entry.ref)
        claims = await self._journal.claim(*(each.ref for each in known), settled=True)
        self._reconciler.claimed(claims)
        for claim in claims.values():
            if not claim.ours:
                return self._elsewhere(job, claims[entry.ref])
        for each in reversed(known):
            why = _UNPROVEN if each.hash is not None and not each.proven else None
            if each.hash is not None and why is None:
                await self._journal.release(each.ref)
                why = await self._not_removed(each, each.hash)
            if why is not None:
                self._counters.failures.add(_problem(each, why))
                return None
            # In another account it is not there either.
            await self._account.prove(self._transport, self._journal, self._clock)
            await self._journal.gone(each.ref)
            if each.ref != entry.ref:
                await self._journal.forget_released(each.ref)
        return await self._create(job)

    async def _not_removed(self, entry: Entry, hash: str) -> str | None:
        """Delete a key whose secret is lost; return why it may be there; None: it is gone."""
        # Before the delete: afterwards nothing may show whose account this is.
        shown = await is_there(self._transport, self._clock, hash)
        self._account.is_proven |= shown
        removal = await removed(self._transport, hash)
        unfinished = _UNRELEASED if entry.state is State.RELEASING else _UNSTORED
        if removal is None:
            return unfinished
        if removal is Removal.DELETED:
            return None
        data, home = _record_of(entry)
        left = await not_gone(
            self._transport,
            self._clock,
            home,
            [hash],
            made_at=None if data is None else data.created_at,
            is_own_account=shown,
        )
        return f"{unfinished} ({left[hash]})" if hash in left else None

    async def _resume(self, job: Job, entry: Entry, secret: str, hash: str) -> Job | None:
        made = UndeliveredKey(ref=entry.ref, key=secret, hash=hash)
        del secret  # crash reporters send local variables home
        data, home = _record_of(entry)
        if await self._is_missing(entry, hash):
            known = await self._journal.known(entry.workspace_id, entry.first_attempt_at)
            with self._stop.interrupts():
                why = await self._absence.not_gone(home, hash, known)
            if why is None:
                await self._journal.discard(entry.ref, _GONE)
                return await self._create(job)
            self._counters.failures.add(_problem(entry, f"{_MISSING} ({why})"))
            return None
        delivered = await self._delivery.deliver(job.spec, made, data)
        self._counters.resumed += delivered is Delivered.TAKEN
        return job if delivered is Delivered.WAITS else None

    async def _is_missing(self, entry: Entry, hash: str) -> bool:
        """Whether the service does not find a key that an earlier run made.

        No answer counts as no: the caller must get each secret that may be of use.
        """
        if not entry.proven or self._unanswered >= OUTAGE:
            return False
        with self._stop.interrupts():
            await self._limiter.enter()
        try:
            async with self._room:
                look = await attempt(Lister(self._transport, self._clock, {}).look(hash))
        finally:
            self._limiter.leave()
        missing = isinstance(look, Err) and is_api_404(look.error)
        self._unanswered = 0 if missing or isinstance(look, Ok) else self._unanswered + 1
        return missing

    # --- a create ---

    async def _create(self, job: Job) -> Job | None:
        spec, state = job.spec, job.state
        while (outcome := await self._send(spec, again=state is not None)) is not None:
            ended_at, data = self._clock.now(), None
            match outcome:
                case Ok(answer):
                    made = UndeliveredKey(ref=spec.ref, key=answer.key, hash=answer.data.hash)
                    # The key had been made when the headers came.
                    ended_at -= timedelta(seconds=answer.http.body_seconds)
                    data = answer.data
                case State() as known:
                    return await self._look_up(spec, known)
                case _Unsent():
                    state = await self._not_processed(spec)
                    continue
                case Err(CreatedKeyUnreadableError() as error):
                    made = UndeliveredKey(ref=spec.ref, key=error.key, hash=error.hash)
                case Err(error):
                    what = verdict(error)
                    if what is not Verdict.AGAIN:
                        return await self._not_made(spec, error, what)
                    state = await self._not_processed(spec)
                    if self._waits_too_long(error):
                        self._stop.stop(error)
                    continue
            delivered = await self._delivery.keep(spec, made, data, ended_at)
            return self._after(spec, made, delivered)
        # Where nothing is known anew, a reconcile that cleared it need not be repeated.
        return job if state is job.state else Job(spec, state)

    def _waits_too_long(self, error: OpenRouterError) -> bool:
        """Whether the caller of a run for one ref waits no longer."""
        now, pause = self._transport.clockwork.monotonic(), error.retry_after or 0
        return self._scope is not None and now + pause >= self._scope.until

    async def _send(
        self, spec: KeySpec, *, again: bool
    ) -> Ok[CreateKeysResponse] | Err | State | _Unsent | None:
        """Send a create once, when its turn has come.

        Returns:
            Its outcome. A state: nothing was sent, since another run was faster. `_Unsent`: only
            its intent was written. None: nothing was, since the round has ended meanwhile.
        """
        if self._stop.stopped:
            return None
        if not self._account.is_proven:
            await self._account.prove(self._transport, self._journal, self._clock)
        if not self._limiter.enters():
            with self._stop.interrupts():
                await self._limiter.enter()
        try:
            if self._stop.paused:
                return None
            at = self._clock.now()
            if again:
                await self._journal.again(spec.ref, at, spec.plan)
            elif (known := await self._journal.intend(spec, at)) is not None:
                return known
            # Cancelled, it is journaled and reconciled, not deleted at once.
            operation = create(spec.request(), undo_if_cancelled=False)
            steady = self._transport.clockwork.steady
            written = steady()
            async with self._room:
                if self._is_held_back or steady() - written > _STALE:
                    return _Unsent()
                outcome = await attempt(self._transport.perform(operation, self._once))
                self._learn(outcome.error if isinstance(outcome, Err) else None)
                return outcome
        finally:
            self._limiter.leave()

    @property
    def _is_held_back(self) -> bool:
        """Whether nothing may be sent now: the round has ended, or the service asks for a pause."""
        return self._stop.paused or self._limiter.is_paused

    def _learn(self, error: OpenRouterError | None) -> None:
        """Adapt the pace to an outcome, and stop the run if nothing can come of another create."""
        what = None if error is None else verdict(error)
        if isinstance(error, QuotaExhaustedError):
            pass  # it says nothing about the pace
        elif isinstance(error, TooManyRequestsResponseError):
            self._limiter.rejected(error.retry_after)
            self._breaker.rejected(error)
        elif isinstance(error, CreateOutcomeUnknownError) or what is Verdict.LATER:
            self._limiter.troubled()
            self._breaker.unanswered(error)
        else:
            self._limiter.accepted()
            # A service whose answers always lack the secret makes keys without end.
            if isinstance(error, SecretLostError):
                self._breaker.unanswered(error)
            else:
                self._breaker.succeeded()
        is_final = what is Verdict.AGAIN and self._breaker.is_final
        if error is not None and (what is Verdict.STOP or is_final):
            self._stop.stop(error)  # before another worker gets a turn

    def _after(self, spec: KeySpec, made: UndeliveredKey, delivered: Delivered) -> Job | None:
        self._counters.created += delivered is Delivered.TAKEN
        return Job(spec, State.MADE, made) if delivered is Delivered.WAITS else None

    async def _not_made(self, spec: KeySpec, error: OpenRouterError, what: Verdict) -> Job | None:
        if what is Verdict.DOUBT:
            self._reconciler.given_up(spec.ref)
            hash = hash_in(error.hash) if isinstance(error, SecretLostError) else None
            sent_at, ended_at = self._exchange(error)
            await self._journal.doubt(
                spec.ref, str(error), sent_at=sent_at, ended_at=ended_at, told_hash=hash
            )
            return Job(spec, State.DOUBT)
        if what is Verdict.FAILED:
            await self._journal.fail(spec.ref, str(error))
            self._counters.failures.add(ProvisionProblem(ref=spec.ref, reason=scrub(str(error))))
            if self._scope is not None:
                self._stop.stop(error)
            return None
        return Job(spec, await self._not_processed(spec))

    def _exchange(self, error: OpenRouterError) -> tuple[datetime | None, datetime]:
        """Return when a create was sent, after its wait for a turn, and when it was given up."""
        now = self._clock.now()
        if not isinstance(error, CreateOutcomeUnknownError | SecretLostError) or not error.steady:
            return None, now
        passed = self._transport.clockwork.steady() - error.steady[0]
        return now - timedelta(seconds=passed), now

    async def _not_processed(self, spec: KeySpec) -> State | None:
        """Take back an intent of which nothing came; return what is left of its row."""
        in_doubt = await self._journal.forget_intent(spec.ref)
        return State.DOUBT if in_doubt else None


def _record_of(entry: Entry) -> tuple[Key | None, str | None]:
    """Return a key's record and its workspace, as far as the journal has them."""
    data = None if entry.record is None else _read(entry.record)
    return data, (None if data is None else data.workspace_id) or entry.workspace_id


def _read(record: str) -> Key | None:
    try:
        return decode(record.encode(), Key)
    except ResponseValidationError:
        return None  # it was damaged: the service is asked


_SEALED = (
    "an earlier run made the key and did not hand it over, and its secret is sealed in the "
    "journal: export it with the identity"
)
_GONE = "an earlier run made the key and did not hand it over, and the key is gone"
_MISSING = "an earlier run made the key and did not hand it over, and it may be gone"
_UNSTORED = (
    "an earlier run made the key and did not hand it over, its secret was not stored, and it could "
    "not be deleted to be made anew"
)
_UNRELEASED = "the key was released, and it could not be deleted"
_UNPROVEN = (
    "an earlier run made the key and did not hand it over, its secret was not stored, and nothing "
    "proves that the hash in the answer is its own: look for it, and delete it yourself"
)


def _problem(entry: Entry, reason: str) -> ProvisionProblem:
    hashes = tuple(hash for hash in (entry.hash, entry.secret_hash) if hash)
    return ProvisionProblem(ref=entry.ref, reason=reason, hashes=hashes)
