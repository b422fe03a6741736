"""Whose account a management key is of, by what a journal knows: compared, then proven."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import define, field

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys._reconcile.listing import Lister
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.errors import (
    AccountChangedError,
    InvalidArgumentError,
    NotFoundResponseError,
)
from openrouter_keys.journal.journal import Journal
from openrouter_keys.models import Key
from openrouter_keys.operations import list_
from openrouter_keys.results import Err, attempt

# Seconds before keys that were not found are looked at once more: servers may lag behind.
_LAG: Final = 5.0


@define
class Account:
    """Whether a management key is of the account in which a journal's keys were made.

    It holds neither the client nor the journal, which may go before it.

    Attributes:
        is_proven: whether the account is the journal's, or the journal has no key yet.
    """

    is_proven: bool = False
    # The default workspaces that keys of the account show.
    _homes: set[str] = field(init=False, factory=set[str])
    _shown: frozenset[str] = field(init=False, default=frozenset())
    # Of the journal, before this run added to it.
    _known: Mapping[str, str | None] = field(init=False, factory=dict[str, str | None])
    _order: asyncio.Lock = field(init=False, factory=asyncio.Lock)

    async def ask(self, transport: Transport, journal: Journal, clock: ServiceClock) -> None:
        """Ask whether the key may manage keys, whose account it is, and what time it is there.

        Raises:
            AccountChangedError: the journal's keys are another account's.
        """
        page = await transport.perform(list_(), {})
        clock.learn(page.http)
        await self.compare(transport, journal, clock, page.data)

    async def compare(
        self, transport: Transport, journal: Journal, clock: ServiceClock, shown: Iterable[Key]
    ) -> None:
        """Refuse another account than the journal's, and remember the keys that are the journal's.

        Args:
            transport: the client's.
            journal: an open one.
            clock: learns the service's time from the answers.
            shown: keys of the account's default workspace.

        Raises:
            AccountChangedError: the journal's keys are another account's.
        """
        # A reconcile of another account would find nothing, and forget what is in doubt.
        known, shown = await journal.home(), [*shown]
        ids = (key.workspace_id for key in shown if isinstance(key.workspace_id, str))
        found = {canonical(id): id for id in ids}
        self._shown = frozenset(canonical(key.hash) for key in shown)
        self._known = await journal.ends()
        if known is not None and found:
            home, hash = known
            # Somebody may have moved that key, or deleted it: then others show the account.
            looked = {hash: home, **self._known}
            if canonical(home) not in found and not await self._shows_any(
                transport, journal, clock, looked
            ):
                raise AccountChangedError(home, min(found.values()))
            self._homes |= found.keys()
            self.is_proven = True
        transport.made.remember(await journal.last())

    async def prove(self, transport: Transport, journal: Journal, clock: ServiceClock) -> None:
        """Refuse an account that shows none of the journal's keys.

        To be called before a create, and before it counts that the account does not have a key. An
        account without a key, or a service that shows no workspaces, could not be compared. The
        keys at both ends of the journal are looked at, then their workspaces. Keys that are known
        to be deleted, or are being deleted, count for nothing.

        Raises:
            AccountChangedError: no key, and no workspace of one, is there.
            OpenRouterError: the service could not be asked.
        """
        async with self._order:
            if self.is_proven:
                return
            looked = await journal.ends()
            is_there = not looked or await self._shows_any(transport, journal, clock, looked)
            if not is_there:
                await transport.clockwork.sleep(_LAG)
                is_there = await self._shows_any(transport, journal, clock, looked)
            if not is_there:
                known = next((home for home in looked.values() if home is not None), None)
                raise AccountChangedError(known, None, tuple(looked))
            self.is_proven = True

    async def _shows_any(
        self,
        transport: Transport,
        journal: Journal,
        clock: ServiceClock,
        looked: Mapping[str, str | None],
    ) -> bool:
        listed = self._shown and await journal.among(self._shown)
        return bool(listed) or await _finds_any(transport, clock, looked)

    async def is_home(self, journal: Journal, key: Key) -> bool:
        """Return whether a new key is where the journal's keys are, if none named a workspace.

        False proves nothing: see `left_home`.
        """
        if not isinstance(key.workspace_id, str):
            return True  # an older service: it shows none
        if not self._homes and (known := await journal.home()) is not None:
            self._homes.add(canonical(known[0]))
        is_home = not self._homes or canonical(key.workspace_id) in self._homes
        self.is_proven |= is_home
        return is_home

    async def left_home(
        self, transport: Transport, journal: Journal, clock: ServiceClock, key: Key
    ) -> str | None:
        """Return where the journal's keys are, if another account has made a key; None: it has not.

        Args:
            transport: the client's.
            journal: an open one.
            clock: learns the service's time from the answers.
            key: a new one, of which `is_home` returned False.
        """
        known = await journal.home()
        # What was listed before this key was made shows nothing of the account that made it.
        if known is None or await _finds_any(transport, clock, {known[1]: known[0], **self._known}):
            self._homes.add(canonical(str(key.workspace_id)))
            return None
        return known[0]


async def _finds_any(
    transport: Transport, clock: ServiceClock, looked: Mapping[str, str | None]
) -> bool:
    """Whether the service shows a key of some, or keys in a workspace of one."""
    for hash in looked:
        if await _finds(transport, clock, hash):
            return True
    for home in dict.fromkeys(home for home in looked.values() if home is not None):
        if await _has_keys(transport, home):
            return True
    return False


async def _finds(transport: Transport, clock: ServiceClock, hash: str) -> bool:
    """Whether the service shows a key to this management key.

    Raises:
        OpenRouterError: it could not be asked.
    """
    found = await attempt(Lister(transport, clock, {}).look(hash))
    if not isinstance(found, Err):
        return True
    if is_api_404(found.error) or isinstance(found.error, InvalidArgumentError):
        return False
    raise found.error


async def _has_keys(transport: Transport, workspace_id: str) -> bool:
    """Whether a workspace is in the account, and has a key."""
    asked = list_(include_disabled=True, include_expired=True, workspace_id=workspace_id)
    page = await attempt(transport.perform(asked, {}))
    if not isinstance(page, Err):
        ids = (key.workspace_id for key in page.value.data if isinstance(key.workspace_id, str))
        return canonical(workspace_id) in map(canonical, ids)
    if isinstance(page.error, NotFoundResponseError):
        return False
    raise page.error
