"""Single creates whose outcome nobody knows: waited for, looked for, deleted, made anew."""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import TypeAlias

from attrs import frozen

from openrouter_keys._base.masking import escaped
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._reconcile.matching import Doubt
from openrouter_keys._reconcile.reconcile import Reconciliation, reconcile
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.errors import CreateOutcomeUnknownError, OpenRouterError, SecretLostError
from openrouter_keys.models import CreateKeysRequest, CreateKeysResponse
from openrouter_keys.operations import create, list_

#: Seconds after which a create whose connection was lost is taken to have landed, or never to.
QUIET_PERIOD = 30.0
#: How often a create is made anew, at most, counting the first.
_CREATES = 3

#: A time by the clock that somebody may set, and by the one that stands still in a suspend.
Moment: TypeAlias = tuple[datetime, float]

#: A create that made a key, or may have, whose secret nobody holds.
Unknown: TypeAlias = CreateOutcomeUnknownError | SecretLostError

_log = logging.getLogger("openrouter_keys")


@frozen
class Settler:
    """Settles creates without an answer.

    Args:
        transport: what to create, look and delete with.
        options: those of the creates.
        quiet_period: seconds to wait for late commits.
    """

    transport: Transport
    options: RequestOptions
    quiet_period: float

    def __attrs_post_init__(self) -> None:
        checks.seconds("quiet_period", self.quiet_period)

    async def create(self, request: CreateKeysRequest) -> CreateKeysResponse:
        """Create a key, again once it is settled that nothing is left of one without an answer.

        Raises:
            CreateOutcomeUnknownError: it could not be settled, or no create was ever answered.
        """
        for creates in range(1, _CREATES + 1):
            began = self._now()
            try:
                return await self.transport.perform(create(request), self.options)
            except (CreateOutcomeUnknownError, SecretLostError) as unknown:
                error: Unknown = unknown
            found = await self._look(request, began, error)
            if not found.settled or creates == _CREATES:
                error.add_note(_told(found))
                raise error
            _log.info("create: again, since %s", _told(found))
        raise AssertionError  # the last turn returned or raised

    async def _look(
        self, request: CreateKeysRequest, began: Moment, error: Unknown
    ) -> Reconciliation:
        """Settle; whatever keeps from it, the caller is told of the create."""
        try:
            return await self.settle(request, began, self._now(), told_by(error))
        except asyncio.CancelledError as cancelled:
            cancelled.add_note(str(error))
            _log.warning("%s", error)
            raise
        except Exception as unsettled:  # the facts of the create must not be lost
            told = escaped(f"{type(unsettled).__name__}: {unsettled}")
            ours = isinstance(unsettled, OpenRouterError)
            error.add_note(f"it could not be reconciled: {unsettled if ours else told}")
            raise error from unsettled

    async def settle(
        self,
        request: CreateKeysRequest,
        began: Moment,
        ended: Moment,
        told: str | None = None,
    ) -> Reconciliation:
        """Look for the key of a create without an answer, and delete it if it is provably its own.

        Args:
            request: what was asked for.
            began: when it was sent.
            ended: when it was given up.
            told: the hash that its answer told without the secret; None: none.
        """
        clockwork = self.transport.clockwork
        wait = self.quiet_period - min(self._passed(ended))
        if wait > 0:
            await clockwork.sleep(wait)
        clock = ServiceClock(clockwork.now, clockwork.monotonic)
        # Only an answer tells by how much the service's clock differs from this machine's.
        clock.learn((await self.transport.perform(list_(), self.options)).http)
        doubt = Doubt(
            request=request,
            since=clock.now() - timedelta(seconds=max(self._passed(began))),
            until=clock.now() - timedelta(seconds=min(self._passed(ended)) - self.quiet_period),
            told=told,
        )
        return await reconcile(
            self.transport, [doubt], clock, knows=_nobody_knows, options=self.options
        )

    def moment(self, time: datetime) -> Moment:
        """Return a time by both clocks of which one alone was told."""
        now, at = self._now()
        return time, at - (now - time).total_seconds()

    def _now(self) -> Moment:
        return self.transport.clockwork.now(), self.transport.clockwork.monotonic()

    def _passed(self, moment: Moment) -> tuple[float, float]:
        """The seconds since then by both clocks: one can be set, the other sleeps with the machine.

        Which of them is right, nobody can say: the window has to hold both.
        """
        now, at = self._now()
        return (now - moment[0]).total_seconds(), at - moment[1]


def told_by(error: Unknown) -> str | None:
    """Return the hash that an answer told which lost the secret; None: none."""
    return error.hash if isinstance(error, SecretLostError) else None


async def _nobody_knows(_: str) -> bool:
    return False


def _told(found: Reconciliation) -> str:
    if found.settled:
        return f"nothing is left of it ({len(found.deleted)} keys deleted)"
    hashes = ", ".join(key.hash for key in (*found.left, *found.unproven))
    told = [f"these keys may be its own, and were not deleted: {hashes}"] if hashes else []
    told += [f"nothing proves that all keys were listed: {why}" for _, why in found.incomplete]
    told += [] if found.exhausted is None else [str(found.exhausted)]
    return escaped("; ".join(told))
