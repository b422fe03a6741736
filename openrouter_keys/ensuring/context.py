"""What `ensure` and `release` share: the journal, the time that is left, a run for one ref."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from attrs import field, frozen

from openrouter_keys._reconcile.absence import not_gone
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.ensuring.settings import ReleaseSettings
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.runs import Claim
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.operations import Operation
from openrouter_keys.provisioning.account import Account
from openrouter_keys.provisioning.context import Scope, clock_of
from openrouter_keys.provisioning.run import unsettled

R = TypeVar("R")

# A replacement in one of these is not made, or not known to be.
_UNMADE: Final = (*DOUBTFUL, State.FAILED)
#: Seconds between two looks at what another process does.
_POLL: Final = 0.1
#: Seconds after which a caller who waits no longer may ask again.
_LATER: Final = 1.0
#: Seconds for which a run need not ask for the service's time, and whose account it is, again.
_FRESH: Final = 600.0


class _Account:
    """What the calls with one client and one journal know of the account, and of its time.

    It holds neither of the two: it must not keep them from being collected.
    """

    def __init__(self, transport: Transport) -> None:
        self._asking = asyncio.Lock()
        self._asked_at: float | None = None
        self.clock = clock_of(transport)
        self.own = Account()

    async def ask(self, transport: Transport, journal: Journal) -> ServiceClock:
        """Ask, if nobody did just now, and return the service's clock."""
        async with self._asking:
            now = transport.clockwork.monotonic()
            if self._asked_at is None or now - self._asked_at >= _FRESH:
                own = Account()
                await own.ask(transport, journal, self.clock)
                await own.prove(transport, journal, self.clock)
                self.own = own
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
        operation: what was called, for errors.
        timeout: seconds that each of its requests can take.
        until: when the caller waits no longer, by the monotonic clock.
        claims: what came of the rows that were claimed.
    """

    transport: Transport
    journal: Journal
    settings: ReleaseSettings
    operation: str
    timeout: float
    until: float
    claims: dict[str, Claim] = field(init=False, factory=dict[str, Claim])

    @property
    def left(self) -> float:
        """The seconds that the caller still waits."""
        return self.until - self.transport.clockwork.monotonic()

    def scope(self, of: Entry | KeySpec) -> Scope:
        """Return what a run for one ref is for."""
        return Scope(of.ref, (of.workspace_id, of.name), self.until, self.operation)

    async def claim(self, journal: Journal, *known: Entry, unmade: bool = False) -> bool:
        """Make rows a run's own, if they are as they were read; otherwise, wait for a moment.

        Args:
            journal: the run's.
            known: what `Journal.succession` returned.
            unmade: how it was asked.

        Raises:
            CreateOutcomeUnknownError: another process is at it, and the caller waits no longer.
        """
        claims = await journal.claim(*(entry.ref for entry in known), settled=True)
        # Claimed again, a row is not new any more, and its creates are still under way.
        self.claims.update({ref: one for ref, one in claims.items() if one.new or not one.ours})
        if all(claim.ours for claim in claims.values()):
            return await journal.succession(known[0].ref, unmade=unmade) == [*known]
        for ref, claim in claims.items():
            if claim.new:  # or two that wait for each other's rows wait for ever
                await journal.free(ref)
        if self.left < _POLL:
            raise unsettled(self.scope(known[0]), _LATER)
        await self.transport.clockwork.sleep(_POLL)
        return False

    async def claim_all(self, journal: Journal, known: Sequence[Entry]) -> list[Entry]:
        """Claim the rows of a ref as `claim` does, and of a replacement that may be in the making.

        Args:
            journal: the run's.
            known: what `Journal.succession` returned.

        Returns:
            What it returns with what is unmade; nothing: the journal has to be asked again.

        Raises:
            CreateOutcomeUnknownError: as `claim` does.
        """
        # A rotation may be making another one just now.
        found = await journal.succession(known[0].ref, unmade=True)
        is_made = any(each.state not in _UNMADE for each in found[len(known) :])
        if is_made or found[: len(known)] != [*known]:
            return []
        return found if await self.claim(journal, *found, unmade=True) else []

    async def perform(self, operation: Operation[R]) -> R:
        """Send an operation with the caller's options."""
        return await self.transport.perform(operation, self.settings.options)

    async def not_gone(
        self,
        clock: ServiceClock,
        workspace_id: str | None,
        hashes: Sequence[str],
        *,
        is_own_account: bool,
    ) -> Mapping[str, str]:
        """Return why keys that the service does not find may be there; see `not_gone`."""
        return await not_gone(
            self.transport, clock, workspace_id, hashes, is_own_account=is_own_account
        )

    @property
    def account(self) -> Account:
        """Whether the management key is of the journal's account."""
        return self._asked().own

    def _asked(self) -> _Account:
        accounts = _accounts.setdefault(self.transport, WeakKeyDictionary())
        if (account := accounts.get(self.journal)) is None:
            accounts[self.journal] = account = _Account(self.transport)
        return account

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[tuple[Journal, ServiceClock]]:
        """Begin a run, which may change rows; give its journal and the service's clock."""
        clock = await self._asked().ask(self.transport, self.journal)
        timeout = max(self.transport.options.timeout, self.timeout)
        async with self.journal.begin(timeout) as journal:
            yield journal, clock


@asynccontextmanager
async def opened(
    transport: Transport, settings: ReleaseSettings, operation: str
) -> AsyncGenerator[EnsureContext]:
    """Open the journal of a call, unless it is open, or the client or an option is not usable."""
    transport.ready()
    timeout = transport.options.with_(settings.options).timeout
    wait = timeout if settings.wait is None else settings.wait
    until = transport.clockwork.monotonic() + wait
    server_url = transport.options.server_url
    if isinstance(settings.journal, Journal):
        await settings.journal.belong_to(server_url)
        yield EnsureContext(transport, settings.journal, settings, operation, timeout, until)
        return
    async with Journal.open(settings.journal, server_url=server_url) as journal:
        yield EnsureContext(transport, journal, settings, operation, timeout, until)
