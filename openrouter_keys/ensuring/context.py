"""What `ensure` and `release` share: the journal, the time that is left, a run for one ref."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from attrs import frozen

from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.ensuring.settings import ReleaseSettings
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.operations import Operation
from openrouter_keys.provisioning.context import Scope, clock_of
from openrouter_keys.provisioning.run import ask_account, unsettled

R = TypeVar("R")

#: Seconds between two looks at what another process does.
_POLL: Final = 0.1
#: Seconds after which a caller who waits no longer may ask again.
_LATER: Final = 1.0
#: Seconds for which a run need not ask for the service's time, and whose account it is, again.
_FRESH: Final = 600.0


class _Account:
    """What the calls with one client and one journal know of the account, and of its time."""

    def __init__(self, transport: Transport, journal: Journal) -> None:
        self._transport, self._journal = transport, journal
        self._asking = asyncio.Lock()
        self._asked_at = -_FRESH
        self.clock = clock_of(transport)

    async def ask(self) -> ServiceClock:
        """Ask, if nobody did just now, and return the service's clock."""
        async with self._asking:
            now = self._transport.clockwork.monotonic()
            if now - self._asked_at >= _FRESH:
                await ask_account(self._transport, self._journal, self.clock)
                self._asked_at = now
        return self.clock


_Accounts: TypeAlias = "WeakKeyDictionary[Journal, _Account]"
_accounts: "WeakKeyDictionary[Transport, _Accounts]" = WeakKeyDictionary()


@frozen
class EnsureContext:
    """The parts of one call.

    Attributes:
        transport: the client's.
        journal: an open one.
        settings: the caller's.
        timeout: seconds that each call may take.
        until: when the caller waits no longer, by the monotonic clock.
    """

    transport: Transport
    journal: Journal
    settings: ReleaseSettings
    timeout: float
    until: float

    @property
    def left(self) -> float:
        """The seconds that the caller still waits."""
        return self.until - self.transport.clockwork.monotonic()

    def scope(self, ref: str, place: tuple[str | None, str]) -> Scope:
        """Return what a run for one ref is for."""
        return Scope(ref, place, self.until)

    async def claim(self, journal: Journal, entry: Entry, place: tuple[str | None, str]) -> bool:
        """Make a row a run's own, if it is still as it was read; otherwise, wait for a moment.

        Raises:
            CreateOutcomeUnknownError: another process is at it, and the caller waits no longer.
        """
        claim = (await journal.claim(entry.ref, settled=True)).get(entry.ref)
        if claim is not None and claim.ours:
            return await journal.find(entry.ref) == entry
        if claim is not None:
            if self.left < _POLL:
                raise unsettled(self.scope(entry.ref, place), _LATER)
            await self.transport.clockwork.sleep(_POLL)
        return False

    async def perform(self, operation: Operation[R]) -> R:
        """Send an operation with the caller's options."""
        return await self.transport.perform(operation, self.settings.options)

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[tuple[Journal, ServiceClock]]:
        """Begin a run, which may change rows; give its journal and the service's clock."""
        accounts = _accounts.setdefault(self.transport, WeakKeyDictionary())
        account = accounts.get(self.journal) or _Account(self.transport, self.journal)
        accounts[self.journal] = account
        clock = await account.ask()
        async with self.journal.begin(self.timeout) as journal:
            yield journal, clock


@asynccontextmanager
async def opened(transport: Transport, settings: ReleaseSettings) -> AsyncGenerator[EnsureContext]:
    """Open the journal of a call, unless it is open, or the client is not usable."""
    transport.ready()
    timeout = transport.options.with_(settings.options).timeout
    wait = timeout if settings.wait is None else settings.wait
    until = transport.clockwork.monotonic() + wait
    server_url = transport.options.server_url
    if isinstance(settings.journal, Journal):
        await settings.journal.belong_to(server_url)
        yield EnsureContext(transport, settings.journal, settings, timeout, until)
        return
    async with Journal.open(settings.journal, server_url=server_url) as journal:
        yield EnsureContext(transport, journal, settings, timeout, until)
