"""Whether keys that the service does not find are gone. No delete.

Two 404s do not prove it: the servers that answer may lag behind, or the management key may be
another account's. The proof is a whole list of the keys' workspace without them. If that list is
empty, it must be known otherwise that the management key is their account's.
"""

import asyncio
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import define, field

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._base.masking import escaped
from openrouter_keys._reconcile.listing import Lister, Listing, is_at_home
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.results import Err, Ok, attempt

_EVER: Final = datetime.min.replace(tzinfo=UTC)
#: By so much a list may write a key's time earlier than the key's own record.
_COARSE: Final = timedelta(minutes=2)
_MISSING: Final = "the service says that there is no such key, and {}: look again later"
_LISTED: Final = _MISSING.format("lists it")
_INCOMPLETE: Final = _MISSING.format("nothing proves that all of its workspace were listed ({})")
_EMPTY: Final = (
    "the service says that there is no such key, and lists no key of its workspace, which proves "
    "nothing, since another account's list may be empty too: if this is its account's management "
    "key, create a key there (openrouter-keys create NAME{}), then run again"
)


async def is_there(transport: Transport, clock: ServiceClock, hash: str) -> bool:
    """Whether the service shows a key: then the management key is its account's."""
    return isinstance(await attempt(Lister(transport, clock, {}).look(hash)), Ok)


async def not_gone(
    transport: Transport,
    clock: ServiceClock,
    workspace_id: str | None,
    hashes: Collection[str],
    *,
    made_at: datetime | None = None,
    is_own_account: bool = False,
) -> dict[str, str]:
    """Return why keys that the service does not find may be there, by their hashes.

    Args:
        transport: what to ask.
        clock: learns the service's time from the answers.
        workspace_id: where they were; None: in the default workspace.
        hashes: the keys'.
        made_at: when the first of them was made, as its record shows; None: not known.
        is_own_account: whether it is known that the management key is their account's: then an
            empty list counts.

    Returns:
        What is left out is proven to be gone.
    """
    since = _EVER if made_at is None else made_at - _COARSE
    listed = await attempt(Lister(transport, clock, {}).list(workspace_id, since, {}))
    return _not_gone(listed, workspace_id, hashes, is_own_account=is_own_account)


@define
class Absence:
    """Lists each workspace once, to show which of any number of keys are gone.

    Args:
        transport: what to ask.
        clock: learns the service's time from the answers.
        wait: seconds before a list is asked for: servers that answer may lag behind.
    """

    transport: Transport
    clock: ServiceClock
    wait: float
    _order: asyncio.Lock = field(init=False, factory=asyncio.Lock)
    _listed: dict[str | None, Ok[Listing] | Err] = field(
        init=False, factory=dict[str | None, Ok[Listing] | Err]
    )

    async def not_gone(
        self, workspace_id: str | None, hash: str, known: Mapping[str, str | None]
    ) -> str | None:
        """Return why a key that the service does not find may be there; None: it is gone.

        Args:
            workspace_id: where it was; None: in the default workspace.
            hash: the key's; it was made before the first list is asked for.
            known: keys that must be listed, as for `Lister.list`.
        """
        async with self._order:
            if workspace_id not in self._listed:
                await self.transport.clockwork.sleep(self.wait)
                listing = Lister(self.transport, self.clock, {}).list(workspace_id, _EVER, known)
                self._listed[workspace_id] = await attempt(listing)
        return _not_gone(self._listed[workspace_id], workspace_id, [hash]).get(hash)


def _not_gone(
    listed: Ok[Listing] | Err,
    workspace_id: str | None,
    hashes: Collection[str],
    *,
    is_own_account: bool = False,
) -> dict[str, str]:
    if isinstance(listed, Err):
        return dict.fromkeys(hashes, _INCOMPLETE.format(listed.error))
    if listed.value.problem is not None:
        return dict.fromkeys(hashes, _INCOMPLETE.format(listed.value.problem))
    keys = listed.value.keys
    if not (any(is_at_home(key, workspace_id) for key in keys.values()) or is_own_account):
        option = "" if workspace_id is None else f" --workspace-id {escaped(workspace_id)}"
        return dict.fromkeys(hashes, _EMPTY.format(option))
    return {hash: _LISTED for hash in hashes if canonical(hash) in keys}
