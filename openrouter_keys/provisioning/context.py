"""What the parts of a run share: its settings, its journal, its clock, its stop signal."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from attrs import evolve, frozen

from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.journal.addresses import MEMORY
from openrouter_keys.journal.encryption import sealing
from openrouter_keys.journal.journal import Journal
from openrouter_keys.provisioning.account import Account
from openrouter_keys.provisioning.circuit_breaker import CircuitBreaker
from openrouter_keys.provisioning.counters import Counters
from openrouter_keys.provisioning.rate_limiter import RateLimiter
from openrouter_keys.provisioning.settings import Pace, RunSettings
from openrouter_keys.provisioning.stop import StopSignal


@frozen
class Scope:
    """The one ref that a run is for, which waits for nothing else.

    Attributes:
        ref: the caller's own id.
        place: the workspace and the name asked for.
        until: when its caller waits no longer, by the monotonic clock.
        operation: what its caller called, for errors.
    """

    ref: str
    place: tuple[str | None, str]
    until: float
    operation: str


@frozen
class Context:
    """The parts that a run's other parts need.

    Attributes:
        transport: the client's.
        journal: what is known durably; each step is in it before it is taken.
        settings: the caller's; no more creates at once than the client has room for.
        clock: the service's.
        limiter: lets requests through at the pace that the service accepts.
        breaker: counts what fails while nothing succeeds.
        stop: says whether the run goes on.
        counters: what became of the keys.
        account: whether the management key is of the journal's account.
        scope: what the run is for, if it is for one ref; None: for any number.
        changed: gets the refs of which another process changed what is asked for, after the
            caller read that: they are left to it. None: the first of them stops the run.
    """

    transport: Transport
    journal: Journal
    settings: RunSettings
    clock: ServiceClock
    limiter: RateLimiter
    breaker: CircuitBreaker
    stop: StopSignal
    counters: Counters
    account: Account
    scope: Scope | None = None
    changed: set[str] | None = None


@asynccontextmanager
async def opened(transport: Transport, settings: RunSettings) -> AsyncGenerator[Journal]:
    """Open the journal of a run, unless the client or the recipient is not usable."""
    transport.ready()
    if isinstance(settings.journal, Journal):
        begun = settings.journal.begin(
            transport.options.timeout, server_url=transport.options.server_url
        )
        async with begun as journal:
            yield journal
        return
    async with Journal.open(
        MEMORY if settings.journal is None else settings.journal,
        server_url=transport.options.server_url,
        longest_timeout=transport.options.timeout,
        store_secrets=settings.store_secrets,
        seal=None if settings.recipient is None else sealing(settings.recipient),
    ) as journal:
        yield journal


def context_of(
    transport: Transport,
    journal: Journal,
    settings: RunSettings,
    clock: ServiceClock | None = None,
    scope: Scope | None = None,
    *,
    account: Account | None = None,
    changed: set[str] | None = None,
) -> Context:
    """Return the context of a new run.

    Args:
        transport: the client's.
        journal: an open one.
        settings: the caller's.
        clock: the service's; None: one that has yet to learn the service's time.
        scope: the one ref that it is for; None: it is for any number.
        account: what is known of whose account it is; None: nothing yet.
        changed: as of `Context`.
    """
    # Creates wait at the run's own gate, where the wait does not count as their time.
    settings = evolve(settings, concurrency=min(settings.concurrency, transport.ready()))
    monotonic = transport.clockwork.monotonic
    limiter = limiter_of(transport, settings, ahead=True)
    breaker = CircuitBreaker(
        settings.concurrency,
        clock=monotonic,
        timeout=transport.options.timeout,
        quiet_period=settings.quiet_period,
    )
    return Context(
        transport,
        journal,
        settings,
        clock or clock_of(transport),
        limiter,
        breaker,
        StopSignal(breaker),
        Counters(on_progress=settings.on_progress, clock=monotonic, limiter=limiter),
        account or Account(),
        scope,
        changed,
    )


def clock_of(transport: Transport) -> ServiceClock:
    """Return a clock that has yet to learn the service's time."""
    return ServiceClock(transport.clockwork.now, transport.clockwork.steady)


def limiter_of(transport: Transport, pace: Pace, *, ahead: bool = False) -> RateLimiter:
    """Return a gate for no more requests at once than the client has room for.

    Args:
        transport: the client's.
        pace: the caller's.
        ahead: as of `RateLimiter`.
    """
    clockwork = transport.clockwork
    return RateLimiter(
        min(pace.concurrency, transport.ready()),
        rate=pace.rate,
        ahead=ahead,
        clock=clockwork.monotonic,
        sleep=clockwork.sleep,
        random=clockwork.random,
    )
