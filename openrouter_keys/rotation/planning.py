"""Looks at the keys that are to be rotated, and says what their twins are to be. No journal."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Final, TypeVar

from openrouter_keys._base.masking import scrub
from openrouter_keys._transport.deletion import unless_missing
from openrouter_keys._transport.transport import Transport
from openrouter_keys.journal.entries import CHUNK
from openrouter_keys.operations import Operation, get
from openrouter_keys.provisioning.rate_limiter import RateLimiter
from openrouter_keys.results import Err, attempt
from openrouter_keys.rotation.arguments import BudgetRule
from openrouter_keys.rotation.replacement import contradiction, planned, refused
from openrouter_keys.rotation.report import Rotation

R = TypeVar("R")

_log = logging.getLogger("openrouter_keys")

#: The problem of a key that the service does not have.
GONE: Final = "is not there: deleted already, or another account's"
_ANOTHER: Final = "was answered with another key: give hashes as the service tells them"


class Planning:
    """Decides what a key's twin is to be.

    Args:
        transport: what to ask.
        limiter: the gate.
        budget: how a twin's limit is chosen.
    """

    def __init__(self, transport: Transport, limiter: RateLimiter, budget: BudgetRule) -> None:
        self._transport = transport
        self._limiter = limiter
        self._budget: BudgetRule = budget

    async def look(self, hashes: Sequence[str]) -> AsyncGenerator[list[Rotation], None]:
        """Ask for keys, some hundred at a time; what cannot be rotated is refused."""
        for start in range(0, len(hashes), CHUNK):
            yield await asyncio.gather(*map(self._look, hashes[start : start + CHUNK]))

    async def _look(self, hash: str) -> Rotation:
        async with self._limiter.turn():
            looked = unless_missing(self._perform, get(hash), hash)
            outcome = await attempt(looked)
        if isinstance(outcome, Err):
            return refused(hash, scrub(str(outcome.error)))
        if outcome.value is None:
            return refused(hash, GONE)
        key = outcome.value.data
        if key.hash != hash:
            return refused(hash, _ANOTHER)
        if (told := contradiction(key)) is not None:
            _log.warning(told)
        return planned(key, self._budget, self._transport.clockwork.now())

    async def _perform(self, operation: Operation[R]) -> R:
        return await self._transport.perform(operation, {})
