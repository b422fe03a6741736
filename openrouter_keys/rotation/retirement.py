"""The last phase of a rotation: disables an old key, settles its budget, deletes it."""

import asyncio
import copy
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from typing import Final, TypeVar

from openrouter_keys._protocol.drift import unchanged
from openrouter_keys._reconcile.absence import not_gone
from openrouter_keys._transport.deletion import Removal, remove, unless_missing
from openrouter_keys.converter import write_time
from openrouter_keys.errors import JournalError, OpenRouterError, QuotaExhaustedError
from openrouter_keys.journal.entries import CHUNK
from openrouter_keys.journal.rotations import RotationEntry
from openrouter_keys.journal.runs import Claim
from openrouter_keys.journal.schema import OldKey
from openrouter_keys.models import Key, UpdateKeysRequest
from openrouter_keys.operations import Operation, get, update
from openrouter_keys.results import Err, attempt
from openrouter_keys.rotation.context import RotationContext
from openrouter_keys.rotation.replacement import lowered

R = TypeVar("R")

# Seconds; a sleep does not end sooner for the time that the machine was suspended.
_LONGEST_SLEEP: Final = 60.0
_GONE: Final = (
    "its replacement {} is gone, so the old key is left as it is: rotate it with a new journal"
)
_OFF: Final = (
    "its replacement {} is disabled, so the old key is left as it is: enable the replacement"
)
_UNPROVEN: Final = (
    "nothing proves that its replacement is the key {}, as the create's answer says: the SHA-256 "
    "of its secret is {}; so the old key is left as it is: look at both, and delete the old key "
    "yourself"
)
_MIXED_UP: Final = (
    "the create's answer says that its replacement is the key {}, which is in another rotation of "
    "this journal, or this very key; so the old key is left as it is: give its user another one, "
    "and delete it yourself"
)
_BUSY: Final = "another process is changing its replacement {}: run again"


class NotRetiredError(OpenRouterError):
    """An old key cannot be retired now."""


class Retirement:
    """Retires old keys whose replacements were acknowledged.

    Every step can be repeated: the next call repeats an interrupted one.

    Args:
        context: the rotation's; the times of hand-overs in the journal are by its clock.

    Attributes:
        exhausted: the daily quota that stopped it; None: none did.
    """

    def __init__(self, context: RotationContext) -> None:
        self.exhausted: QuotaExhaustedError | None = None
        self._context = context
        self._transport = context.transport
        self._journal = context.journal
        self._clock = context.clock
        self._after = context.settings.retire_after or 0.0
        self._began = context.transport.clockwork.steady()

    async def retire_all(self) -> int:
        """Retire each key when it is due, and return how many were retired.

        An exhausted daily quota stops it; the next call goes on.
        """
        retired, last = 0, ("", 0)
        while self.exhausted is None and (
            entries := await self._journal.unretired_rotations(*last)
        ):
            while (wait := self._wait(entries[0])) > 0:
                await self._transport.clockwork.sleep(min(wait, _LONGEST_SLEEP))
            due = [*takewhile(lambda entry: self._wait(entry) <= 0, entries)]
            retired += await self._retire(due)
            if due:
                last = _place(due[-1])
        return retired

    async def retire(self, hashes: Collection[str]) -> set[str]:
        """Retire some keys now, those whose replacements were handed over, and return which."""
        last, due = ("", 0), list[RotationEntry]()
        while entries := await self._journal.unretired_rotations(*last):
            due += [each for each in entries if each.hash in hashes and each.handed_over_at]
            last = _place(entries[-1])
        for start in range(0, len(due), CHUNK):
            await self._retire(due[start : start + CHUNK])
        retired = {each.hash for each in due}
        last = ("", 0)
        while entries := await self._journal.unretired_rotations(*last):
            retired -= {each.hash for each in entries}
            last = _place(entries[-1])
        return retired

    def _wait(self, entry: RotationEntry) -> float:
        """Return the seconds until its old key may be retired."""
        if entry.handed_over_at is None:
            return math.inf
        # At least this time has passed, even if the clock was set back since an earlier call.
        passed = self._transport.clockwork.steady() - self._began
        if not self._clock.disputed:  # otherwise this machine's clock may be ahead by days
            passed = max(passed, (self._clock.now() - entry.handed_over_at).total_seconds())
        return self._after - passed

    async def _retire(self, entries: Sequence[RotationEntry]) -> int:
        # Nobody changes a replacement between a look at it and what follows from that.
        claims = await self._journal.claim(*(entry.hash for entry in entries), settled=True)
        outcomes = await asyncio.gather(
            *(attempt(self._claimed(entry, claims)) for entry in entries)
        )
        missing = defaultdict[str | None, list[RotationEntry]](list)
        retired = 0
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, Err):
                await self._fail(entry, outcome.error)
            elif outcome.value is Removal.DELETED:
                retired += 1
            else:
                missing[entry.workspace_id].append(entry)
        for home, those in missing.items():
            retired += await self._settle(home, those)
        return retired

    async def _settle(self, home: str | None, missing: Sequence[RotationEntry]) -> int:
        """Find out which keys of a 404 are gone, and return how many."""
        hashes = [entry.hash for entry in missing]
        left = await not_gone(self._transport, self._clock, home, hashes)
        for entry in missing:
            if entry.hash in left:
                await self._fail(entry, NotRetiredError(left[entry.hash]))
            else:
                await self._advance(entry, OldKey.DELETED)
        return len(missing) - len(left)

    async def _fail(self, entry: RotationEntry, error: OpenRouterError) -> None:
        if isinstance(error, JournalError):
            raise error
        if isinstance(error, QuotaExhaustedError):
            return  # the quota stopped it, not the key
        await self._context.fail(entry.hash, str(error))

    # --- one key ---

    async def _claimed(self, entry: RotationEntry, claims: Mapping[str, Claim]) -> Removal:
        """Retire a key, unless another process is at its replacement."""
        claim = claims.get(entry.hash)
        if claim is not None and not claim.ours:
            raise NotRetiredError(_BUSY.format(entry.twin))
        try:
            return await self._retire_one(entry)
        finally:
            if claim is not None and claim.new:
                await self._journal.free(entry.hash)

    async def _retire_one(self, entry: RotationEntry) -> Removal:
        """Retire a key, unless the service says that it is missing already."""
        twin = await self._twin(entry)
        old = await self._change(entry.hash, UpdateKeysRequest(disabled=True))
        if old is None:
            return Removal.MISSING
        await self._advance(entry, OldKey.DISABLED)
        # Before the delete: afterwards the service has no record of its spending.
        await self._lower(twin, lowered(entry, old, twin))
        removal = await remove(self._perform, entry.hash)
        if removal is Removal.DELETED:
            await self._advance(entry, OldKey.DELETED)
        return removal

    async def _twin(self, entry: RotationEntry) -> Key:
        made = await self._journal.find(entry.hash)
        if made is None or not made.proven:
            own = None if made is None else made.secret_hash
            raise NotRetiredError(_UNPROVEN.format(entry.twin, own or "not known"))
        twin = str(entry.twin)
        if await self._journal.is_mixed_up(entry.hash, twin):
            raise NotRetiredError(_MIXED_UP.format(twin))
        answer = await unless_missing(self._perform, get(twin), twin)
        if answer is None:
            raise NotRetiredError(_GONE.format(twin))
        if answer.data.disabled:
            raise NotRetiredError(_OFF.format(twin))
        return answer.data

    async def _lower(self, twin: Key, limit: float | None) -> None:
        if limit is None:
            return
        if await self._change(twin.hash, UpdateKeysRequest(limit=limit)) is None:
            raise NotRetiredError(_GONE.format(twin.hash))

    async def _change(self, hash: str, asked: UpdateKeysRequest) -> Key | None:
        """Change a key and return its record, which shows the change; None: the key is gone."""
        answer = await unless_missing(self._perform, update(hash, asked), hash)
        if answer is None:
            return None
        if problem := unchanged(hash, asked, answer.data):
            raise NotRetiredError(problem)
        return answer.data

    async def _perform(self, operation: Operation[R]) -> R:
        async with self._context.limiter.turn():
            if self.exhausted is not None:
                raise copy.copy(self.exhausted)
            try:
                return await self._transport.perform(operation)
            except QuotaExhaustedError as error:
                self.exhausted = error
                raise

    async def _advance(self, entry: RotationEntry, old_key: OldKey) -> None:
        await self._journal.advance_rotation(entry.hash, old_key)


def _place(entry: RotationEntry) -> tuple[str, int]:
    at = entry.handed_over_at
    return "" if at is None else write_time(at), entry.id
