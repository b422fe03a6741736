"""A key that was made, on its way to the caller: journaled, compared, handed over. No create."""

import enum
import inspect
from datetime import datetime

from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._protocol.drift import mismatches, unchanged
from openrouter_keys._transport.transport import Transport
from openrouter_keys.converter import encode
from openrouter_keys.errors import (
    AnotherKeyError,
    OpenRouterError,
    ResponseValidationError,
    SecretNotKeptError,
)
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import Key, UpdateKeysRequest
from openrouter_keys.operations import get, update
from openrouter_keys.provisioning.progress import Tally
from openrouter_keys.provisioning.report import (
    OnResult,
    ProvisionProblem,
    ProvisionResult,
    UndeliveredKey,
)
from openrouter_keys.results import Err, Ok, attempt

_UNPROVEN = (
    "is left as it is: the answer tells the hash {0.hash}, and that of its secret is "
    "{0.secret_hash}, so another's key may be meant: look at both, and disable yours"
)
_ANOTHERS = (
    "is left as it is: it was made earlier, for somebody else, and the answer is a copy that a "
    "cache or a proxy gave: look for an unused key of this name, and delete it"
)


class Delivered(enum.Enum):
    """What became of a hand-over."""

    TAKEN = "whoever takes the keys has it"
    REJECTED = "it is not as it was asked for"
    WAITS = "its record could not be asked for just now"


class Delivery:
    """Hands keys over, each once its secret is durable and it is found to be as asked for.

    Args:
        transport: what to read back, and to disable with.
        journal: where secrets become durable.
        tally: what to count in.
        on_result: whom to hand over to; None: the journal is enough.
        keeps: whether the journal outlives the process, with the secrets.
    """

    def __init__(
        self,
        transport: Transport,
        journal: Journal,
        tally: Tally,
        *,
        on_result: OnResult | None,
        keeps: bool,
    ) -> None:
        self._transport = transport
        self._journal = journal
        self._tally = tally
        self._on_result = on_result
        self._keeps = keeps

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
            SecretNotKeptError: it could not be written down; the report has the secret.
        """
        self._tally.held[spec.ref] = made
        # Without anybody to take it, what is as asked for is settled by being written down.
        settled = self._on_result is None and data is not None and not _wrong(spec, data)
        record = None if data is None else encode(data).decode()
        try:
            await self._journal.keep(
                spec.ref,
                secret=made.key,
                hash=made.hash,
                record=record,
                settled=settled,
                ended_at=ended_at,
            )
        except SecretNotKeptError:
            # The next run takes it for a key that nobody holds, as the report says.
            self._transport.made.discard(made.identity)
            raise
        if self._keeps:
            del self._tally.held[spec.ref]
        return Delivered.TAKEN if settled else await self.deliver(spec, made, data)

    async def deliver(self, spec: KeySpec, made: UndeliveredKey, data: Key | None) -> Delivered:
        """Hand a key over that is written down, if it is as it was asked for.

        Args:
            spec: what was asked for.
            made: the key.
            data: the key's record; None: the create's answer could not be read.
        """
        outcome = Ok(data) if data is not None else await self._read_back(made.hash)
        if isinstance(outcome, Err) and not _is_unreadable(outcome.error):
            return Delivered.WAITS
        found = outcome.value if isinstance(outcome, Ok) else None
        wrong = _wrong(spec, found)
        if found is None or wrong:
            await self._reject(made, wrong)
            return Delivered.REJECTED
        if self._on_result is not None:
            await self._hand_over(
                self._on_result, ProvisionResult(ref=spec.ref, spec=spec, key=made.key, data=found)
            )
        self._tally.held.pop(spec.ref, None)
        await self._journal.acknowledge(spec.ref)
        return Delivered.TAKEN

    async def salvage(self) -> None:
        """Take from a journal that is lost the secrets that nobody has, for the report."""
        states = (State.MADE,) if self._on_result is not None else (State.MADE, State.SETTLED)
        async for entry in self._journal.salvage(*states):
            if entry.secret is not None and entry.hash is not None:
                self._tally.held[entry.ref] = UndeliveredKey(
                    ref=entry.ref, key=entry.secret, hash=entry.hash
                )

    async def _hand_over(self, on_result: OnResult, result: ProvisionResult) -> None:
        took = on_result(result)
        if inspect.isawaitable(took):
            await took

    async def _read_back(self, hash: str) -> Ok[Key] | Err:
        outcome = await attempt(self._transport.perform(get(hash), {}))
        return outcome if isinstance(outcome, Err) else Ok(outcome.value.data)

    async def _reject(self, made: UndeliveredKey, wrong: tuple[str, ...]) -> None:
        """Disable a key that nobody asked for in this form: one without its limit is a risk."""
        reason = f"the key is not as it was asked for ({', '.join(wrong)})"
        left = await self._left_as_it_is(made.ref, made.identity)
        if left is not None:
            # Left as made, so that the next run tries again.
            reason = f"{reason}, and {left}"
        else:
            reason = f"{reason}, and was disabled"
            await self._journal.reject(made.ref, reason)
        self._tally.held.pop(made.ref, None)
        problem = ProvisionProblem(ref=made.ref, reason=reason, hashes=made.identity.hashes)
        self._tally.mismatched.add(problem)

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
