"""Single creates whose outcome nobody knows: waited for, looked for, deleted, made anew."""

import logging
from datetime import datetime, timedelta

from openrouter_keys import checks
from openrouter_keys.errors import CreateOutcomeUnknownError, SecretLostError
from openrouter_keys.models import CreateKeysRequest, CreateKeysResponse
from openrouter_keys.operations import create, list_
from openrouter_keys.options import RequestOptions
from openrouter_keys.reconcile import Doubt, Reconciliation, reconcile
from openrouter_keys.service_clock import ServiceClock
from openrouter_keys.transport import Transport

#: Seconds after which a create whose connection was lost is taken to have landed, or never to.
QUIET_PERIOD = 30.0
#: How often a create is made anew, at most, counting the first.
_CREATES = 3

_log = logging.getLogger("openrouter_keys")


async def created(
    transport: Transport,
    request: CreateKeysRequest,
    options: RequestOptions,
    quiet_period: float = QUIET_PERIOD,
) -> CreateKeysResponse:
    """Create a key, again once it is settled that nothing is left of a create without an answer.

    Raises:
        CreateOutcomeUnknownError: it could not be settled, or no create was ever answered.
    """
    checks.seconds("quiet_period", quiet_period)
    for creates in range(1, _CREATES + 1):
        began = transport.clockwork.now()
        try:
            return await transport.perform(create(request), options)
        except (CreateOutcomeUnknownError, SecretLostError) as error:
            window = began, transport.clockwork.now()
            found = await _settled(transport, request, window, quiet_period)
            if not found.settled or creates == _CREATES:
                error.add_note(_told(found))
                raise
            _log.info("create: again, since %s", _told(found))
    raise AssertionError  # the last turn returned or raised


async def settle(
    transport: Transport, error: CreateOutcomeUnknownError, quiet_period: float
) -> Reconciliation:
    """Look for the key of a create without an answer, and delete it if it is provably its own."""
    checks.seconds("quiet_period", quiet_period)
    if error.started_at is None or error.ended_at is None:
        checks.refuse("error", "must be one that a create raised: this one tells no times")
    request = CreateKeysRequest(name=error.name, workspace_id=error.workspace_id)
    return await _settled(transport, request, (error.started_at, error.ended_at), quiet_period)


async def _settled(
    transport: Transport,
    request: CreateKeysRequest,
    window: tuple[datetime, datetime],
    quiet_period: float,
) -> Reconciliation:
    quiet = timedelta(seconds=quiet_period)
    wait = (window[1] + quiet - transport.clockwork.now()).total_seconds()
    if wait > 0:
        await transport.clockwork.sleep(wait)
    clock = ServiceClock(transport.clockwork.now)
    # Only an answer tells by how much the service's clock differs from this machine's.
    page = await transport.perform(list_(workspace_id=request.workspace_id), {})
    clock.observe(page.http.headers)
    doubt = Doubt(
        request=request,
        since=clock.translated(window[0]),
        until=clock.translated(window[1] + quiet),
    )
    return await reconcile(transport, [doubt], clock, knows=_nobody_knows)


async def _nobody_knows(_: str) -> bool:
    return False


def _told(found: Reconciliation) -> str:
    if found.settled:
        return f"nothing is left of it ({len(found.deleted)} keys deleted)"
    hashes = ", ".join(key.hash for key in (*found.left, *found.unproven))
    return f"these keys may be its own, and were not deleted: {hashes}"
