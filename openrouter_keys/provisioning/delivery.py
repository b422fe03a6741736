"""A key that was made, on its way to the caller: journaled, compared, handed over. No create."""

import enum
import inspect
from datetime import datetime

from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._protocol.drift import mismatches, unchanged
from openrouter_keys._reconcile.reconcile import removed
from openrouter_keys._transport.deletion import Removal
from openrouter_keys.errors import (
    AccountChangedError,
    AnotherKeyError,
    OpenRouterError,
    ResponseValidationError,
    SecretNotKeptError,
    TakenOverError,
)
from openrouter_keys.journal.records import text_of
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import Key, UpdateKeysRequest
from openrouter_keys.operations import get, update
from openrouter_keys.provisioning.context import Context
from openrouter_keys.provisioning.report import ProvisionProblem, ProvisionResult, UndeliveredKey
from openrouter_keys.results import Err, Ok, attempt

_UNPROVEN = (
    "is left as it is: the answer has the hash {0.hash}, and that of its secret is "
    "{0.secret_hash}, so it may mean another's key: look at both, and disable yours"
)
_ANOTHERS = (
    "is left as it is: it was made earlier, for somebody else, and the answer is a copy that a "
    "cache or a proxy gave: look for an unused key of this name, and delete it"
)


class Delivered(enum.Enum):
    """How a hand-over ended."""

    TAKEN = "the caller, or the journal, has the key"
    REJECTED = "the key is not as it was asked for"
    WAITS = "the key's record could not be read just now"


class Delivery:
    """Hands keys over, each once its secret is durable and it is found to be as asked for.

    Args:
        context: the run's.
    """

    def __init__(self, context: Context) -> None:
        self._transport = context.transport
        self._journal = context.journal
        self._counters = context.counters
        self._settings = context.settings
        self._stop = context.stop
        self._account, self._clock = context.account, context.clock

    async def keep(
        self, spec: KeySpec, made: UndeliveredKey, data: Key | None, ended_at: datetime
    ) -> Delivered:
        """Write a new key down, then hand it over, as `deliver` does.

        Args:
            spec: what was asked for.
            made: the key.
            data: the key's record; None: the create's answer could not be read.
            ended_at: when the create was answered, by the service's clock.

        Raises:
            TakenOverError: another run has the ref now; the key was deleted, or that run does it.
            SecretNotKeptError: it could not be written down; the report has the secret.
            AccountChangedError: another account has made it than the journal's other keys; it was
                deleted there, or the journal keeps its secret and the report its hash.
        """
        self._counters.held[spec.ref] = made
        # Without `on_result`, what is as asked for is settled by being written down.
        settled = self._settings.on_result is None and data is not None and not _wrong(spec, data)
        # The client may have another management key since the account was asked for.
        abroad = None if data is None or await self._is_home(spec, data) else data
        record = None if data is None else text_of(data)
        try:
            await self._journal.keep(
                spec.ref,
                secret=made.key,
                hash=made.hash,
                record=record,
                settled=settled and abroad is None,
                ended_at=ended_at,
            )
        except TakenOverError:
            # Its new owner looks for this key, too; here is the proof that it is ours.
            del self._counters.held[spec.ref]
            await self._delete(made)
            raise
        except SecretNotKeptError:
            # The next run takes it for a lost key, as the report says.
            self._transport.made.discard(made.identity)
            raise
        if self._settings.keeps:
            del self._counters.held[spec.ref]
        if abroad is not None:
            await self._refuse_another_account(made, abroad)
            settled = False
        return Delivered.TAKEN if settled else await self.deliver(spec, made, data)

    async def _is_home(self, spec: KeySpec, data: Key) -> bool:
        named = spec.workspace_id is not None  # then the service refuses another account's
        return named or await self._account.is_home(self._journal, data)

    async def _refuse_another_account(self, made: UndeliveredKey, data: Key) -> None:
        """Delete a key that another account has made than the journal's other keys.

        Nobody has its secret, so the next run makes another in the right account. Where it cannot
        be deleted, the journal keeps its secret, and the report has its hash.

        Raises:
            AccountChangedError: it has.
        """
        home = await self._account.left_home(self._transport, self._journal, self._clock, data)
        if home is None:
            return
        error = AccountChangedError(home, data.workspace_id)
        self._stop.stop(error)  # before the delete: no other create is sent
        reason = f"another account made the key, in the workspace {data.workspace_id}, and it was "
        if await self._is_deleted(made):
            reason += "deleted there"
            self._counters.deleted += 1
            await self._journal.discard(made.ref, reason)
            self._counters.held.pop(made.ref, None)
        else:
            reason += "not deleted: delete it there"
        hashes = made.identity.hashes
        self._counters.failures.add(ProvisionProblem(ref=made.ref, reason=reason, hashes=hashes))
        raise error

    async def _is_deleted(self, made: UndeliveredKey) -> bool:
        """Delete a new key that is written down, if its hash is proven to be its own."""
        identity = made.identity
        if not identity.proven or await self._journal.holds_for_another(made.hash, made.ref):
            return False
        if self._transport.made.is_of_another_client(identity):
            return False
        removal = await attempt(removed(self._transport, made.hash))
        return isinstance(removal, Ok) and removal.value is Removal.DELETED

    async def _delete(self, made: UndeliveredKey) -> None:
        """Delete a key that is handed to nobody, if it is provably its create's."""
        proven = made.identity.proven and not await self._journal.holds(made.hash)
        if proven and not self._transport.made.is_of_another_client(made.identity):
            removal = await removed(self._transport, made.hash)
            self._counters.deleted += removal is Removal.DELETED
        self._transport.made.discard(made.identity)

    async def deliver(self, spec: KeySpec, made: UndeliveredKey, data: Key | None) -> Delivered:
        """Hand a key over that is written down, if it is as it was asked for.

        Args:
            spec: what was asked for.
            made: the key.
            data: the key's record; None: the create's answer could not be read.
        """
        if data is None:
            outcome = await attempt(self._transport.perform(get(made.hash), {}))
            if isinstance(outcome, Ok):
                data = outcome.value.data
            elif not _is_unreadable(outcome.error):
                return Delivered.WAITS
        wrong = _wrong(spec, data)
        if data is None or wrong:
            await self._reject(made, wrong)
            return Delivered.REJECTED
        if self._settings.on_result is not None:
            took = self._settings.on_result(
                ProvisionResult(ref=spec.ref, spec=spec, key=made.key, data=data)
            )
            if inspect.isawaitable(took):
                await took
        self._counters.held.pop(spec.ref, None)
        await self._journal.acknowledge(spec.ref)
        return Delivered.TAKEN

    async def salvage(self) -> None:
        """Take from a journal that is lost the secrets that nobody took, for the report."""
        # A callback with `takes_secrets = False` never gets a secret: settled rows have them too.
        on_result = self._settings.on_result
        taken = on_result is not None and getattr(on_result, "takes_secrets", True)
        states = (State.MADE,) if taken else (State.MADE, State.SETTLED)
        async for entry in self._journal.salvage(*states):
            if entry.secret is not None and entry.hash is not None:
                self._counters.held[entry.ref] = UndeliveredKey(
                    ref=entry.ref, key=entry.secret, hash=entry.hash
                )

    async def _reject(self, made: UndeliveredKey, wrong: tuple[str, ...]) -> None:
        """Disable a key that was not asked for in this form: one without its limit is a risk."""
        reason = f"the key is not as it was asked for ({', '.join(wrong)})"
        left = await self._left_as_it_is(made.ref, made.identity)
        if left is not None:
            # Left as made, so that the next run tries again.
            reason = f"{reason}, and {left}"
        else:
            reason = f"{reason}, and was disabled"
            await self._journal.reject(made.ref, reason)
        self._counters.held.pop(made.ref, None)
        problem = ProvisionProblem(ref=made.ref, reason=reason, hashes=made.identity.hashes)
        self._counters.mismatches.add(problem)

    async def _left_as_it_is(self, ref: str, made: MadeKey) -> str | None:
        """Disable a key; return why it was not."""
        if not made.proven:
            return _UNPROVEN.format(made)
        known = await self._journal.holds_for_another(made.hash, ref)
        if known or self._transport.made.is_of_another_client(made):
            return _ANOTHERS
        asked = UpdateKeysRequest(disabled=True)
        outcome = await attempt(self._transport.perform(update(made.hash, asked), {}))
        if isinstance(outcome, Err):
            return f"could not be disabled: {outcome.error}"
        problem = unchanged(made.hash, asked, outcome.value.data)
        return None if problem is None else f"could not be disabled: {problem}"


def _is_unreadable(error: OpenRouterError) -> bool:
    """Whether a key's record was answered, and cannot be compared; another key's says nothing."""
    unreadable = isinstance(error, ResponseValidationError)
    return unreadable and not isinstance(error, AnotherKeyError)


def _wrong(spec: KeySpec, data: Key | None) -> tuple[str, ...]:
    return ("unreadable",) if data is None else mismatches(spec.request(), data)
