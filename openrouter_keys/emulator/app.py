"""The emulator itself: its settings, its address, its start and stop. No HTTP."""

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Final, Self

from anyio.from_thread import start_blocking_portal

from openrouter_keys.emulator.contracts import ContractName
from openrouter_keys.emulator.control import CONTROL
from openrouter_keys.emulator.exchange import Exchange
from openrouter_keys.emulator.faults import Fault
from openrouter_keys.emulator.ledger import Ledger, Request
from openrouter_keys.emulator.limits import DailyQuota, RateLimit
from openrouter_keys.emulator.serving import Serving
from openrouter_keys.emulator.settings import apply, fresh, settings_of
from openrouter_keys.emulator.state import Account
from openrouter_keys.emulator.store import Store

# The official SDK has the last one.
_KEY_VARIABLES: Final = (
    "OPENROUTER_MANAGEMENT_KEY",
    "OPENROUTER_PROVISIONING_KEY",
    "OPENROUTER_API_KEY",
)


class Emulator:
    """OpenRouter's key endpoints on a local socket.

    ``async with`` serves on the running asyncio loop, ``with`` in a background thread. Leaving
    drops the requests in flight, also those that land late, and keeps the state for the next time.
    Every argument is also an attribute that may be changed while serving, except ``host``,
    ``allow_remote``, ``port``, ``seed`` and ``state``.

    Args:
        account: the state to serve. None: an empty account, or that of the state file.
        host: the address to listen on.
        allow_remote: whether other machines may reach the address.
        port: the port to listen on. 0: a free one, another at each start.
        latency: seconds before a request is applied and answered.
        rate_limit: how many requests are accepted. None: all.
        daily_quota: how many creates, updates and deletes a day are accepted. None: all.
        faults: what goes wrong, in this order; a fault that strikes is used up.
        page_size: how many keys a list returns at most.
        contract: the date of the service's contract that answers follow.
        max_body: the most bytes of a request's body; a longer one is answered with 413.
        ledger_size: how many requests the ledger keeps; it counts older ones by operation.
        ledger_bytes: how much memory they may use, by a high estimate; it counts older ones too.
        connections: how many may be open at once, also those of requests that land late. One more
            closes the connection whose client lets the emulator wait longest, or itself.
        client_timeout: seconds in which a client must send the rest of a request, and read its
            answer; then its connection is closed. A connection keeps the value of its start.
        idle_timeout: seconds after which a connection without a request is closed; kept likewise.
        seed: of the random choice of faults with a probability.
        state: an SQLite file for keys, management key, workspaces and ledger (without headers and
            bodies). It is read now and written while serving: what a request did is in it before
            its client gets the answer, even if this process is killed. What is changed by hand is
            written on leaving. None: nothing is kept.

    Raises:
        ValueError: an argument has the wrong type or is out of its range, or other machines could
            reach the address.
        StateError: the state file is not an emulator's, in use, or of another account.
    """

    def __init__(
        self,
        account: Account | None = None,
        *,
        host: str = "127.0.0.1",
        allow_remote: bool = False,
        port: int = 0,
        latency: float = 0.0,
        rate_limit: RateLimit | None = None,
        daily_quota: DailyQuota | None = None,
        faults: Iterable[Fault] = (),
        page_size: int = 100,
        contract: ContractName = "2026-11",
        max_body: int = 10_000_000,
        ledger_size: int = 100_000,
        ledger_bytes: int = 300_000_000,
        connections: int = 1000,
        client_timeout: float = 60.0,
        idle_timeout: float = 3600.0,
        seed: int = 0,
        state: str | os.PathLike[str] | None = None,
    ) -> None:
        self._host = _checked(host, allow_remote=allow_remote)
        self._wanted_port = self._port = port
        self.account: Account = Account() if account is None else account
        self.latency = latency
        self.rate_limit = rate_limit
        self.daily_quota = daily_quota
        self.faults: list[Fault] = [*faults]
        self.page_size = page_size
        self.contract: ContractName = contract
        self.max_body = max_body
        self.ledger_size = ledger_size
        self.ledger_bytes = ledger_bytes
        self.connections = connections
        self.client_timeout = client_timeout
        self.idle_timeout = idle_timeout
        self._made_with = settings_of(self), [*self.faults]
        self._store = None if state is None else Store(state)
        self.requests: list[Request] = []
        self.dropped: Counter[str] = Counter()
        if self._store is not None:
            self.requests, self.dropped = self._store.load(self.account)
        self._exchange = Exchange(self, Ledger(self), self._host, self._store, seed)
        self._serving: Serving | None = None
        self._background = ExitStack()

    @property
    def base_url(self) -> str:
        """The URL of the operations; after leaving, the last one.

        Raises:
            RuntimeError: it has no port before it is entered.
        """
        return f"{self._origin}/api/v1"

    @property
    def control_url(self) -> str:
        """The URL at which other processes read and change it, with the management key.

        Raises:
            RuntimeError: it has no port before it is entered.
        """
        return f"{self._origin}{CONTROL}"

    @property
    def _origin(self) -> str:
        if not self._port:
            raise RuntimeError("The emulator has no port yet: enter it with `with` or `async with`")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def api_key(self) -> str:
        """The management key."""
        return self.account.management_key

    def environment(self) -> dict[str, str]:
        """Return the variables of the environment by which clients find it, in any process.

        They set the base URL, and the management key under each name that clients look for.

        Raises:
            RuntimeError: it has no port before it is entered.
        """
        keys = dict.fromkeys(_KEY_VARIABLES, self.api_key)
        return {"OPENROUTER_BASE_URL": self.base_url, **keys}

    def count(self, operation: str) -> int:
        """Return how many requests of this operation have arrived."""
        kept = sum(request.operation == operation for request in self.requests)
        return self.dropped[operation] + kept

    def reset(self) -> None:
        """Restore the settings and faults that it was made with, remove all keys, empty the ledger.

        Advanced time is reset, random choices start from the seed, requests in flight are dropped.
        The account's management key, workspaces, members, budgets and clock stay.
        """
        settings, faults = self._made_with
        apply(fresh(settings), self)
        self.faults[:] = faults
        self._exchange.start_anew()

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio"))
            portal.call(self._start)
            stack.callback(portal.call, self._stop)
            self._background = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._background.close()

    async def _start(self) -> None:
        if self._serving is not None:
            raise RuntimeError("The emulator is serving already")
        if self._store is not None:
            self._store.open(self.account)
        self._serving = Serving(self._exchange.answer, self)
        try:
            self._port = await self._serving.start(self._host, self._wanted_port)
        except BaseException:
            await self._stop()
            raise

    async def _stop(self) -> None:
        serving, self._serving = self._serving, None
        try:
            if serving is not None:
                await serving.stop()
        finally:
            if self._store is not None:
                self._store.close(self.account)


def _checked(host: str, *, allow_remote: bool) -> str:
    if not allow_remote and not _is_loopback(host):
        raise ValueError(
            f"host: {host!r} can be reached from other machines, which may know the emulator's "
            "key: use 127.0.0.1, or allow_remote=True (--allow-remote)"
        )
    return host


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name, which may mean any machine
        return False
