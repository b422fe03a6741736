"""Whether a management key is of the account that a journal's rotations belong to."""

from collections.abc import Iterable

from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.errors import AccountChangedError, NotFoundResponseError
from openrouter_keys.journal import rotations
from openrouter_keys.journal.journal import Journal
from openrouter_keys.models import Key
from openrouter_keys.operations import list_
from openrouter_keys.results import Err, attempt


async def refuse_another_account(
    transport: Transport, journal: Journal, clock: ServiceClock
) -> None:
    """Refuse a management key that sees no workspace of the rotations that are not through.

    Its 404s would be taken to say that keys are gone. It cannot be known where a workspace has no
    key, or the service tells no key's workspace.

    Args:
        transport: what to ask.
        journal: what is known.
        clock: learns the service's time from the answers.

    Raises:
        AccountChangedError: it is another account's, or has lost its access.
        OpenRouterError: the service could not be asked.
    """
    known = await journal.do(rotations.workspaces)
    if not known:
        return
    page = await transport.perform(list_(), {})
    clock.learn(page.http)
    found = _workspaces(page.data)
    if found & {*map(str.casefold, known)}:
        return
    for workspace_id in known:
        outcome = await attempt(transport.perform(list_(workspace_id=workspace_id), {}))
        if isinstance(outcome, Err):
            if not isinstance(outcome.error, NotFoundResponseError):
                raise outcome.error
        elif not (shown := _workspaces(outcome.value.data)) or workspace_id.casefold() in shown:
            return
    raise AccountChangedError(known[0], min(found, default=None))


def _workspaces(keys: Iterable[Key]) -> set[str]:
    return {key.workspace_id.casefold() for key in keys if isinstance(key.workspace_id, str)}
