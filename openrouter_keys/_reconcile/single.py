"""Single creates with an unknown outcome: waits, finds and deletes their keys, creates anew."""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import TypeAlias

from attrs import frozen

from openrouter_keys._base.clock import Moment
from openrouter_keys._base.masking import escaped
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._reconcile.matching import Doubt, request_of
from openrouter_keys._reconcile.reconcile import Reconciliation, reconcile
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.errors import CreateOutcomeUnknownError, OpenRouterError, SecretLostError
from openrouter_keys.models import CreateKeysRequest, CreateKeysResponse
from openrouter_keys.operations import create, list_

#: Keys that this client made so long before a create must be listed when its key is searched for.
_REACH = timedelta(minutes=10)
#: How often a create is made anew, at most, counting the first.
_CREATES = 3

#: What a create raises that made a key, or may have, and lost its secret.
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
            try:
                return await self.transport.perform(create(request), self.options)
            except (CreateOutcomeUnknownError, SecretLostError) as unknown:
                error: Unknown = unknown
            found = await self._look(request, error)
            if not found.settled or creates == _CREATES:
                error.add_note(_told(found))
                raise error
            _log.info("create: again, since %s", _told(found))
        raise AssertionError  # the last turn returned or raised

    async def _look(self, request: CreateKeysRequest, error: Unknown) -> Reconciliation:
        """Settle; if that fails, the caller still gets the error of the create."""
        try:
            return await self.settle(error, request)
        except asyncio.CancelledError as cancelled:
            cancelled.add_note(str(error))
            _log.warning("%s", error)
            raise cancelled from error
        except Exception as unsettled:  # the facts of the create must not be lost
            text = escaped(f"{type(unsettled).__name__}: {unsettled}")
            ours = isinstance(unsettled, OpenRouterError)
            error.add_note(f"it could not be reconciled: {unsettled if ours else text}")
            raise error from unsettled

    async def settle(
        self, error: Unknown, request: CreateKeysRequest | None = None
    ) -> Reconciliation:
        """Look for the key of a create without an answer, and delete it if it is provably its own.

        Args:
            error: what the create raised.
            request: what was asked for; None: what the error says.

        Raises:
            InvalidArgumentError: the error has no times: no create raised it.
        """
        clockwork = self.transport.clockwork
        sent, ended = self._exchange(error)
        wait = self.quiet_period - max(min(self._passed(ended)), 0)
        if wait > 0:
            _log.info(
                "waiting %.0f s, until a create without an answer can no longer make a key", wait
            )
            await clockwork.sleep(wait)
        clock = ServiceClock(clockwork.now, clockwork.steady)
        # Only an answer shows by how much the service's clock differs from this machine's.
        clock.learn((await self.transport.perform(list_(), self.options)).http)
        doubt = Doubt(
            request=_asked(error) if request is None else request,
            since=clock.now() - timedelta(seconds=max(self._passed(sent))),
            sent=clock.now() - timedelta(seconds=min(self._passed(sent))),
            until=clock.now() - timedelta(seconds=max(self._passed(ended)) - self.quiet_period),
            given=error.hash if isinstance(error, SecretLostError) else None,
        )
        return await reconcile(
            self.transport,
            [doubt],
            clock,
            knows=_knows_none,
            known=self._known,
            reach=_REACH,
            options=self.options,
        )

    async def _known(self, workspace_id: str | None, since: datetime) -> dict[str, str | None]:
        """Return the last keys that this client made there since a time, for `reconcile`."""
        return {
            hash: key.workspace_id
            for hash, (asked, key) in self.transport.recent.items()
            if asked == workspace_id and key.created_at >= since
        }

    def _exchange(self, error: Unknown) -> tuple[Moment, Moment]:
        """Return when a create was sent, and when it was given up."""
        if error.started_at is None or error.ended_at is None:
            checks.refuse("error", "must be one that a create raised: this one tells no times")
        if error.steady is not None:
            return (error.started_at, error.steady[0]), (error.ended_at, error.steady[1])
        now, at = self.transport.clockwork.moment()
        sent, ended = (
            (time, at - (now - time).total_seconds()) for time in (error.started_at, error.ended_at)
        )
        return sent, ended

    def _passed(self, moment: Moment) -> tuple[float, float]:
        """The seconds since then by both clocks: one can be set, the other may sleep.

        Where they differ, either may be right: a key is proven by both, and reported by any.
        """
        now, at = self.transport.clockwork.moment()
        return (now - moment[0]).total_seconds(), at - moment[1]


def _asked(error: Unknown) -> CreateKeysRequest:
    if error.asked is not None:
        return request_of(error.asked)
    return CreateKeysRequest(name=error.name, workspace_id=error.workspace_id)


async def _knows_none(_: str) -> bool:
    return False


def _told(found: Reconciliation) -> str:
    if found.settled:
        return f"nothing is left of it ({len(found.deleted)} keys deleted)"
    hashes = ", ".join(key.hash for key in (*found.left, *found.unproven))
    parts = [f"these keys may be its own, and were not deleted: {hashes}"] if hashes else []
    parts += [f"the key {hash} cannot be looked at: {why}" for hash, why in found.unread]
    parts += [f"nothing proves that all keys were listed: {why}" for _, why in found.incomplete]
    parts += [] if found.exhausted is None else [str(found.exhausted)]
    return escaped("; ".join(parts))
