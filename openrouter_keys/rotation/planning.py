"""Reads the keys to rotate, and plans their replacements. No journal."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from attrs import frozen

from openrouter_keys._base.masking import scrub
from openrouter_keys._transport.deletion import unless_missing
from openrouter_keys._transport.transport import Transport
from openrouter_keys.journal.entries import CHUNK
from openrouter_keys.operations import get
from openrouter_keys.provisioning.rate_limiter import RateLimiter
from openrouter_keys.results import Err, attempt
from openrouter_keys.rotation.replacement import contradiction, planned, refused
from openrouter_keys.rotation.report import Rotation
from openrouter_keys.rotation.settings import Terms

_log = logging.getLogger("openrouter_keys")

#: The problem of a key that the service does not have.
GONE: Final = "is not there: deleted already, or another account's"
_ANOTHER: Final = "was answered with another key: give hashes as the service writes them"


@frozen
class Planner:
    """Plans the replacement of a key.

    Args:
        transport: the client's.
        limiter: the gate.
        terms: what a replacement has otherwise than its old key.
    """

    transport: Transport
    limiter: RateLimiter
    terms: Terms

    async def look(self, hashes: Sequence[str]) -> AsyncGenerator[list[Rotation], None]:
        """Read keys, some hundred at a time, and plan each; refuse those that cannot be rotated."""
        for start in range(0, len(hashes), CHUNK):
            yield await asyncio.gather(*map(self._look, hashes[start : start + CHUNK]))

    async def _look(self, hash: str) -> Rotation:
        async with self.limiter.turn():
            looked = unless_missing(self.transport.perform, get(hash), hash)
            outcome = await attempt(looked)
        if isinstance(outcome, Err):
            return refused(hash, scrub(str(outcome.error)))
        if outcome.value is None:
            return refused(hash, GONE)
        key = outcome.value.data
        if key.hash != hash:
            return refused(hash, _ANOTHER)
        if (warning := contradiction(key)) is not None:
            _log.warning(warning)
        return planned(key, self.terms, self.transport.clockwork.now())
