"""The key of a ref deleted, so that the ref may be ensured anew."""

from openrouter_keys._reconcile.absence import is_there, not_gone
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.deletion import Removal, remove
from openrouter_keys._transport.transport import Transport
from openrouter_keys.ensuring.context import EnsureContext, opened
from openrouter_keys.ensuring.settings import ReleaseSettings
from openrouter_keys.errors import CreateOutcomeUnknownError, KeyGoneError
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import DOUBTFUL
from openrouter_keys.provisioning.context import context_of
from openrouter_keys.provisioning.reconciler import Reconciler
from openrouter_keys.provisioning.run import unsettled
from openrouter_keys.provisioning.settings import RunSettings


async def release(transport: Transport, ref: str, settings: ReleaseSettings) -> bool:
    """Delete the key of a ref; see `AsyncOpenRouter.release`."""
    async with opened(transport, settings) as context:
        was_known = False
        while known := await context.journal.succession(ref):
            was_known = True
            async with context.run() as (journal, clock):
                for entry in reversed(known):  # the ref's own goes last, with what leads to others
                    place = entry.workspace_id, entry.name
                    if not await context.claim(journal, entry, place):
                        break
                    await _release(context, journal, clock, entry)
        return was_known


async def _release(
    context: EnsureContext, journal: Journal, clock: ServiceClock, entry: Entry
) -> None:
    if entry.state in DOUBTFUL:
        await settle(context, journal, clock, entry)
    await journal.release(entry.ref)
    if entry.hash is not None and entry.state not in DOUBTFUL:
        await _delete(context, clock, entry, entry.hash)
    await journal.gone(entry.ref)
    if entry.written_off:
        await settle(context, journal, clock, entry)
    await journal.forget_released(entry.ref)


async def _delete(context: EnsureContext, clock: ServiceClock, entry: Entry, hash: str) -> None:
    """Delete a key that the journal has, or see that it is gone."""
    # Before the delete: afterwards nothing may show whose account this is.
    shown = await is_there(context.transport, clock, hash)
    if await remove(context.perform, hash) is Removal.DELETED:
        return
    left = await not_gone(
        context.transport, clock, entry.workspace_id, [hash], is_own_account=shown
    )
    if hash in left:
        raise KeyGoneError(entry.ref, hash, left[hash])


async def settle(
    context: EnsureContext, journal: Journal, clock: ServiceClock, entry: Entry
) -> None:
    """Delete the keys of a ref's creates without an answer, once none can land any more.

    Raises:
        CreateOutcomeUnknownError: it takes longer than the caller waits, or a key cannot be proven
            to be theirs.
    """
    scope = context.scope(entry.ref, (entry.workspace_id, entry.name))
    settings = RunSettings(
        journal=journal,
        on_result=lambda _: None,
        quiet_period=context.settings.quiet_period,
        options=context.settings.options,
    )
    reconciler = Reconciler(context_of(context.transport, journal, settings, clock, scope))
    reconciler.begin()
    while (wait := await reconciler.due(2)) is not None:
        if wait > context.left:
            raise unsettled(scope, wait)
        await context.transport.clockwork.sleep(max(wait, 0))
        findings = await reconciler.look()
        for problem in (*findings.left, *findings.unproven, *findings.beside):
            if problem.ref == entry.ref:
                raise CreateOutcomeUnknownError(f"{problem.reason}: {', '.join(problem.hashes)}")
        if findings.exhausted is not None:
            raise findings.exhausted
        found = await journal.find(entry.ref)
        if found is None or (found.state not in DOUBTFUL and not found.written_off):
            return
