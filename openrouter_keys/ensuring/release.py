"""The keys of a ref deleted, so that the ref may be ensured anew."""

from collections.abc import Sequence

from openrouter_keys._reconcile.absence import is_there
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.deletion import Removal, remove
from openrouter_keys._transport.transport import Transport
from openrouter_keys.ensuring.context import EnsureContext, opened
from openrouter_keys.ensuring.settings import ReleaseSettings
from openrouter_keys.errors import JournalError, KeyGoneError
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import DOUBTFUL
from openrouter_keys.provisioning.context import context_of
from openrouter_keys.provisioning.reconciler import Reconciler, reason_of
from openrouter_keys.provisioning.run import unsettled
from openrouter_keys.provisioning.settings import RunSettings

_ANOTHERS = (
    "the key {hash} of {ref!r} is left as it is: it is another ref's, and the answer of the create "
    "was a copy: look for an unused key named {name!r}, and delete it; then release the other ref, "
    "or delete this row with sqlite3"
)
_UNPROVEN = (
    "the key of {ref!r} is left as it is: nothing proves that the hash in the answer, {hash}, is "
    "its own: look at that key, and delete it if it is yours; then release the ref again"
)


async def release(transport: Transport, ref: str, settings: ReleaseSettings) -> bool:
    """Delete the key of a ref; see `AsyncOpenRouter.release`."""
    async with opened(transport, settings, "release") as context:
        known = await context.journal.succession(ref)
        was_known = bool(known)
        while known and not await let_go(context, known):
            known = await context.journal.succession(ref)
        return was_known


async def let_go(context: EnsureContext, known: Sequence[Entry]) -> bool:
    """Delete the keys of a ref, and forget the ref.

    Args:
        context: the call's.
        known: what the journal knew of the ref and of its key's replacements.

    Returns:
        Whether it is done; False: the journal has to be asked again.
    """
    async with context.run() as (journal, clock):
        if not (found := await context.claim_all(journal, known)):
            return False
        own = found[0]
        for entry in found:
            if await journal.is_anothers(entry):
                problem = _ANOTHERS.format(hash=entry.hash, ref=entry.ref, name=entry.name)
                raise JournalError(problem)
        if own.state in DOUBTFUL:
            await settle(context, journal, clock, own)
        # First: nobody gets a secret, and no rotation begins from now on.
        if not await journal.release_all(found):
            return False
        if found[-1] is not own and found[-1].state in DOUBTFUL:
            await settle(context, journal, clock, found[-1])
        is_own_account = False
        for entry in reversed(found):  # its own row goes last: it leads to the others
            await journal.release(entry.ref)
            if entry.hash is not None and entry.state not in DOUBTFUL:
                is_own_account |= await _delete(
                    context, clock, entry, is_own_account=is_own_account
                )
            await _forget(context, journal, clock, entry)
    return True


async def _forget(
    context: EnsureContext, journal: Journal, clock: ServiceClock, entry: Entry
) -> None:
    await journal.gone(entry.ref)
    if entry.written_off and entry.state not in DOUBTFUL:
        await settle(context, journal, clock, entry)
    await journal.forget_released(entry.ref)


async def _delete(
    context: EnsureContext, clock: ServiceClock, entry: Entry, *, is_own_account: bool
) -> bool:
    """Delete a key that the journal has, or see that it is gone.

    Args:
        context: the call's.
        clock: the service's.
        entry: the key's.
        is_own_account: whether the management key is known to be the keys' account's.

    Returns:
        Whether it is known now.
    """
    # A hash that an answer merely claims may be another's key.
    own = entry.hash if entry.proven else entry.secret_hash
    shown = is_own_account
    if own is not None:
        # Before the delete: afterwards nothing may show whose account this is.
        shown |= await is_there(context.transport, clock, own)
        if await remove(context.perform, own) is Removal.DELETED:
            return True
    hashes = [hash for hash in (own, entry.hash) if hash is not None]
    left = await context.not_gone(clock, entry.workspace_id, hashes, is_own_account=shown)
    for hash, why in left.items():
        if not entry.proven:
            raise JournalError(_UNPROVEN.format(hash=entry.hash, ref=entry.ref))
        raise KeyGoneError(entry.ref, hash, why)
    return shown


async def settle(
    context: EnsureContext, journal: Journal, clock: ServiceClock, entry: Entry
) -> None:
    """Delete the keys of a ref's creates without an answer, once none can land any more.

    Raises:
        CreateOutcomeUnknownError: it takes longer than the caller waits, or a key cannot be proven
            to be theirs.
    """
    scope = context.scope(entry)
    settings = RunSettings(
        journal=journal,
        on_result=lambda _: None,
        quiet_period=context.settings.quiet_period,
        options=context.settings.options,
    )
    shared = context_of(context.transport, journal, settings, clock, scope, account=context.account)
    reconciler = Reconciler(shared)
    reconciler.begin()
    reconciler.claimed(context.claims)
    while (wait := await reconciler.due(2)) is not None:
        if wait > context.left:
            raise unsettled(scope, wait)
        await context.transport.clockwork.sleep(max(wait, 0))
        findings = await reconciler.look()
        for problem in (*findings.left, *findings.unproven, *findings.beside):
            if problem.ref == entry.ref:
                raise unsettled(scope, None, reason_of(problem))
        if findings.exhausted is not None:
            raise findings.exhausted
        found = await journal.find(entry.ref)
        if found is None or (found.state not in DOUBTFUL and not found.written_off):
            return
