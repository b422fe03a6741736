"""One key's way: the gate, the durable intent, the create, and what follows on its outcome."""

from datetime import datetime, timedelta

from openrouter_keys._base.masking import scrub
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys._reconcile.absence import not_gone
from openrouter_keys._reconcile.reconcile import removed
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.deletion import Removal
from openrouter_keys._transport.transport import Transport
from openrouter_keys.converter import decode
from openrouter_keys.errors import (
    CreatedKeyUnreadableError,
    CreateOutcomeUnknownError,
    JournalError,
    OpenRouterError,
    QuotaExhaustedError,
    ResponseValidationError,
    SecretLostError,
    TooManyRequestsResponseError,
)
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import CreateKeysResponse, Key
from openrouter_keys.operations import create
from openrouter_keys.provisioning.delivery import Delivered, Delivery
from openrouter_keys.provisioning.outage import Patience
from openrouter_keys.provisioning.pacing import Pacer
from openrouter_keys.provisioning.progress import Tally
from openrouter_keys.provisioning.queue import Job
from openrouter_keys.provisioning.reconciler import Lookback
from openrouter_keys.provisioning.report import ProvisionProblem, UndeliveredKey
from openrouter_keys.provisioning.stop import Halt
from openrouter_keys.provisioning.verdicts import Verdict, verdict
from openrouter_keys.results import Err, Ok, attempt

# The pacer has to see every attempt, and a run decides by itself what follows.
_ONCE: RequestOptions = {"retries": RetryConfig("none")}


class Making:
    """Makes keys, any number at once.

    Args:
        transport: what to create with.
        journal: where each step is written down before it is taken.
        delivery: where made keys go.
        pacer: the gate.
        clock: the service's.
        lookback: told when a create is given up.
        patience: told what goes well, and what does not.
        halt: stops it all.
        tally: what to count in.
    """

    def __init__(
        self,
        transport: Transport,
        journal: Journal,
        *,
        delivery: Delivery,
        pacer: Pacer,
        clock: ServiceClock,
        lookback: Lookback,
        patience: Patience,
        halt: Halt,
        tally: Tally,
    ) -> None:
        self._transport = transport
        self._journal = journal
        self._delivery = delivery
        self._pacer = pacer
        self._clock = clock
        self._lookback = lookback
        self._patience = patience
        self._halt = halt
        self._tally = tally

    async def make(self, job: Job) -> Job | None:
        """Do what is left to do for a spec.

        Args:
            job: the spec; if it is in doubt, no key of it is left.

        Returns:
            None: nothing is left to do. A job: it has to wait for another round.
        """
        if job.state is State.SETTLED:
            self._tally.settled_before += 1
            return None
        if job.made is not None:
            delivered = await self._delivery.deliver(job.spec, job.made, None)
            return self._told(job.spec, job.made, delivered)
        if job.state in (State.MADE, State.FAILED):
            return await self._go_on(job)
        return await self._create(job)

    async def salvage(self) -> None:
        """Take from a journal that is lost the secrets that nobody has, for the report."""
        await self._delivery.salvage()

    # --- what an earlier run left ---

    async def _go_on(self, job: Job) -> Job | None:
        entry = await self._journal.find(job.spec.ref)
        if entry is None or entry.hash is None:
            return await self._create(job)
        if entry.state is State.FAILED:
            self._tally.mismatched.add(_problem(entry, entry.reason or "not as asked for"))
            self._tally.mismatched_before += 1
        elif entry.secret is not None:
            return await self._resume(job, entry, entry.secret, entry.hash)
        elif entry.sealed is not None:
            self._tally.failed.add(_problem(entry, _SEALED))
        elif not entry.proven:
            self._tally.failed.add(_problem(entry, _UNPROVEN))
        elif (why := await self._not_removed(entry, entry.hash)) is None:
            self._tally.deleted += 1
            return await self._create(job)
        else:
            self._tally.failed.add(_problem(entry, why))
        return None

    async def _not_removed(self, entry: Entry, hash: str) -> str | None:
        """Delete a key whose secret nobody has; return why it may be there; None: it is gone."""
        removal = await removed(self._transport, hash)
        if removal is None:
            return _UNSTORED
        if removal is Removal.DELETED:
            return None
        data = None if entry.record is None else _read(entry.record)
        home = entry.workspace_id if data is None else data.workspace_id or entry.workspace_id
        why = (await not_gone(self._transport, self._clock, home, [hash])).get(hash)
        return None if why is None else f"{_UNSTORED} ({why})"

    async def _resume(self, job: Job, entry: Entry, secret: str, hash: str) -> Job | None:
        made = UndeliveredKey(ref=entry.ref, key=secret, hash=hash)
        del secret  # crash reporters send local variables home
        data = None if entry.record is None else _read(entry.record)
        delivered = await self._delivery.deliver(job.spec, made, data)
        self._tally.resumed += delivered is Delivered.TAKEN
        return job if delivered is Delivered.WAITS else None

    # --- a create ---

    async def _create(self, job: Job) -> Job | None:
        state = job.state
        while (outcome := await self._send(job.spec, again=state is not None)) is not None:
            match outcome:
                case Ok(answer):
                    made = UndeliveredKey(ref=job.spec.ref, key=answer.key, hash=answer.data.hash)
                    # The key had been made when the headers came.
                    body = timedelta(seconds=answer.http.body_seconds)
                    ended_at = self._clock.now() - body
                    return await self._created(job.spec, made, answer.data, ended_at)
                case Err(CreatedKeyUnreadableError() as error):
                    made = UndeliveredKey(ref=job.spec.ref, key=error.key, hash=error.hash)
                    return await self._created(job.spec, made, None, self._clock.now())
                case Err(error) if verdict(error) is Verdict.AGAIN:
                    state = await self._not_processed(job.spec)
                    self._patience.rejected()
                    if self._patience.is_over:
                        self._halt.stop(error)
                case Err(error):
                    return await self._not_made(job.spec, error)
        return Job(job.spec, state)

    async def _send(self, spec: KeySpec, *, again: bool) -> Ok[CreateKeysResponse] | Err | None:
        """Send a create once, when its turn has come; None: the round ended meanwhile."""
        if self._halt.stopped:
            return None
        with self._halt.interrupts():
            await self._pacer.enter()
        try:
            if self._is_over:
                return None
            await self._intend(spec, again=again)
            # Cancelled, it is journaled and reconciled, not deleted at once.
            operation = create(spec.request(), undo_if_cancelled=False)
            outcome = await attempt(self._transport.perform(operation, _ONCE))
            self._tell_pacer(outcome)
            if isinstance(outcome, Err) and verdict(outcome.error) is Verdict.STOP:
                self._halt.stop(outcome.error)  # before anybody else gets a turn
            return outcome
        finally:
            self._pacer.leave()

    @property
    def _is_over(self) -> bool:
        return self._halt.stopped or self._patience.needs_a_pause

    async def _intend(self, spec: KeySpec, *, again: bool) -> None:
        at = self._clock.now()
        if again:
            await self._journal.again(spec.ref, at)
        elif (known := await self._journal.intend(spec, at)) is not None:
            raise JournalError(f"{spec.ref!r} is {known} all of a sudden: run again")

    def _tell_pacer(self, outcome: Ok[CreateKeysResponse] | Err) -> None:
        error = outcome.error if isinstance(outcome, Err) else None
        if isinstance(error, QuotaExhaustedError):
            return  # it says nothing about the pace, and stops the run
        if isinstance(error, TooManyRequestsResponseError):
            self._pacer.rejected(error.retry_after)
        elif error is not None and _is_trouble(error):
            self._pacer.troubled()
            self._patience.unanswered(error)
        else:
            self._pacer.accepted()
            # A service that never tells a secret makes keys without end.
            if isinstance(error, SecretLostError):
                self._patience.unanswered(error)
            else:
                self._patience.succeeded()

    async def _created(
        self, spec: KeySpec, made: UndeliveredKey, data: Key | None, ended_at: datetime
    ) -> Job | None:
        delivered = await self._delivery.keep(spec, made, data, ended_at)
        return self._told(spec, made, delivered)

    def _told(self, spec: KeySpec, made: UndeliveredKey, delivered: Delivered) -> Job | None:
        self._tally.created += delivered is Delivered.TAKEN
        return Job(spec, State.MADE, made) if delivered is Delivered.WAITS else None

    async def _not_made(self, spec: KeySpec, error: OpenRouterError) -> Job | None:
        what = verdict(error)
        if what is Verdict.DOUBT:
            self._lookback.given_up(spec.ref)
            hash = error.hash if isinstance(error, SecretLostError) else None
            await self._journal.doubt(spec.ref, str(error), self._clock.now(), hash)
            return Job(spec, State.DOUBT)
        if what is Verdict.FAILED:
            await self._journal.fail(spec.ref, str(error))
            self._tally.failed.add(ProvisionProblem(ref=spec.ref, reason=scrub(str(error))))
            return None
        return Job(spec, await self._not_processed(spec))

    async def _not_processed(self, spec: KeySpec) -> State | None:
        """Take back an intent of which nothing came; return what is left of its row."""
        in_doubt = await self._journal.forget_intent(spec.ref)
        return State.DOUBT if in_doubt else None


def _read(record: str) -> Key | None:
    try:
        return decode(record.encode(), Key)
    except ResponseValidationError:
        return None  # it was damaged: the service is asked


def _is_trouble(error: OpenRouterError) -> bool:
    unanswered = isinstance(error, CreateOutcomeUnknownError)
    return unanswered or verdict(error) is Verdict.LATER


_SEALED = (
    "an earlier run made the key and did not hand it over, and its secret is sealed in the "
    "journal: export it with the identity"
)
_UNSTORED = (
    "an earlier run made the key and did not hand it over, its secret was not stored, and it could "
    "not be deleted to be made anew"
)

_UNPROVEN = (
    "an earlier run made the key and did not hand it over, its secret was not stored, and nothing "
    "proves that the hash which the answer told is its own: look for it, and delete it yourself"
)


def _problem(entry: Entry, reason: str) -> ProvisionProblem:
    hashes = tuple(hash for hash in (entry.hash, entry.secret_hash) if hash)
    return ProvisionProblem(ref=entry.ref, reason=reason, hashes=hashes)
