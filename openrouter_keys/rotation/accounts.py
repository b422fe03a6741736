"""Checks that a management key belongs to the account of a journal's rotations."""

from collections.abc import Iterable, Sequence

from openrouter_keys._base.identifiers import canonical
from openrouter_keys.errors import AccountChangedError, NotFoundResponseError
from openrouter_keys.models import Key
from openrouter_keys.operations import list_
from openrouter_keys.results import Err, attempt
from openrouter_keys.rotation.context import RotationContext
from openrouter_keys.rotation.planning import Planner


async def refuse_another_account(
    context: RotationContext, planner: Planner, hashes: Sequence[str]
) -> None:
    """Refuse a management key that sees no workspace of the open rotations, and none of the keys.

    Its 404s would mean that keys are gone. A workspace without keys, or a service that does not
    show the workspaces of keys, proves nothing.

    Args:
        context: the rotation's; its clock learns the service's time from the answers.
        planner: reads the keys.
        hashes: the keys to rotate.

    Raises:
        AccountChangedError: it is another account's, or has lost its access, or the workspaces
            were deleted.
        OpenRouterError: the service could not be asked.
    """
    transport = context.transport
    known = await context.journal.rotation_workspaces()
    if not known:
        return
    page = await transport.perform(list_())
    context.clock.learn(page.http)
    found = _workspaces(page.data)
    if found & {*map(canonical, known)}:
        return
    for workspace_id in known:
        outcome = await attempt(transport.perform(list_(workspace_id=workspace_id)))
        if isinstance(outcome, Err):
            if not isinstance(outcome.error, NotFoundResponseError):
                raise outcome.error
        elif not (shown := _workspaces(outcome.value.data)) or canonical(workspace_id) in shown:
            return
    # The workspaces may have been deleted; the management key may still see the keys.
    async for looked in planner.look(hashes):
        if any(rotation.name is not None for rotation in looked):
            return
    raise AccountChangedError(known[0], min(found, default=None))


def _workspaces(keys: Iterable[Key]) -> set[str]:
    return {canonical(key.workspace_id) for key in keys if isinstance(key.workspace_id, str)}
