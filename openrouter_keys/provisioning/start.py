"""Bulk provisioning: takes a caller's arguments, and puts a run together from its parts."""

import os
from collections.abc import AsyncGenerator, Sized
from contextlib import asynccontextmanager

from attrs import evolve, field, frozen

from openrouter_keys._inputs import checks
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.journal.encryption import sealing
from openrouter_keys.journal.journal import Journal
from openrouter_keys.provisioning.allowance import Allowance
from openrouter_keys.provisioning.creator import Making
from openrouter_keys.provisioning.delivery import Delivery
from openrouter_keys.provisioning.outage import Patience
from openrouter_keys.provisioning.pacing import Pacer
from openrouter_keys.provisioning.progress import Tally
from openrouter_keys.provisioning.queue import Jobs
from openrouter_keys.provisioning.reconciler import Lookback
from openrouter_keys.provisioning.report import OnProgress, OnResult, ProvisionReport
from openrouter_keys.provisioning.run import Run
from openrouter_keys.provisioning.spec_source import Specs, check_specs
from openrouter_keys.provisioning.stop import Halt

_RESUME = "the same call with the same journal goes on from there"
_NO_RESUME = "there is no journal on disk to go on from: the report tells what there is"


@frozen(kw_only=True)
class Settings:
    """What a caller sets for a run; `AsyncOpenRouter.provision` says what each means."""

    journal: str | os.PathLike[str] | None
    concurrency: int
    rate: float | None
    on_result: OnResult | None
    on_progress: OnProgress | None
    quiet_period: float
    max_failures: int | None = field(validator=checks.given(checks.at_least(0)))
    max_total_limit: float | None = field(validator=checks.given(checks.at_least(0)))
    store_secrets: bool
    recipient: str | None = field(repr=False)

    def __attrs_post_init__(self) -> None:
        checks.count("concurrency", self.concurrency)
        checks.seconds("quiet_period", self.quiet_period)
        if self.journal == "":
            checks.refuse("journal", "must be the path of a file, or None")
        if self.on_result is None and not self.keeps:
            checks.refuse(
                "on_result",
                "somebody has to take the secrets: give on_result=, or a journal= that stores them",
            )

    @property
    def keeps(self) -> bool:
        """Whether the secrets outlive the process without anybody taking them."""
        return self.journal is not None and self.store_secrets


async def provision(transport: Transport, specs: Specs, settings: Settings) -> ProvisionReport:
    """Make a key for each spec; see `AsyncOpenRouter.provision`."""
    check_specs(specs)
    async with opened(transport, settings) as journal:
        return await provision_in(journal, transport, specs, settings)


@asynccontextmanager
async def opened(transport: Transport, settings: Settings) -> AsyncGenerator[Journal]:
    """Open the journal of a run, once all that was set is found to be usable."""
    seal = None if settings.recipient is None else sealing(settings.recipient)
    # Refuses a wrong rate before a file is made.
    pacer_of(transport, concurrency=settings.concurrency, rate=settings.rate)
    async with Journal.open(
        settings.journal,
        server_url=transport.options.server_url,
        longest_timeout=transport.options.timeout,
        store_secrets=settings.store_secrets,
        seal=seal,
    ) as journal:
        yield journal


async def provision_in(
    journal: Journal,
    transport: Transport,
    specs: Specs,
    settings: Settings,
    *,
    clock: ServiceClock | None = None,
) -> ProvisionReport:
    """Make a key for each spec, as `provision` does, with a journal that is open already.

    Args:
        journal: the journal.
        transport: the client's.
        specs: what is to be made.
        settings: the caller's.
        clock: learns the service's time before anything is made; None: one of its own.
    """
    # Creates queue at the run's own gate, where their time does not count.
    settings = evolve(settings, concurrency=min(settings.concurrency, transport.ready()))
    pacer = pacer_of(transport, concurrency=settings.concurrency, rate=settings.rate)
    run = await _run(
        transport, journal, specs, settings, pacer=pacer, clock=clock or clock_of(transport)
    )
    return await run.report()


def clock_of(transport: Transport) -> ServiceClock:
    """Return a clock that has yet to learn the service's time."""
    return ServiceClock(transport.clockwork.now, transport.clockwork.monotonic)


def pacer_of(transport: Transport, *, concurrency: int, rate: float | None) -> Pacer:
    """Return a gate for no more requests at once than the client has room for."""
    clockwork = transport.clockwork
    return Pacer(
        min(checks.count("concurrency", concurrency), transport.ready()),
        rate=rate,
        clock=clockwork.monotonic,
        sleep=clockwork.sleep,
        random=clockwork.random,
    )


async def _run(
    transport: Transport,
    journal: Journal,
    specs: Specs,
    settings: Settings,
    *,
    pacer: Pacer,
    clock: ServiceClock,
) -> Run:
    known = sum((await journal.counts()).values()) > 0
    halt = Halt()
    patience = Patience(
        settings.concurrency,
        clock=transport.clockwork.monotonic,
        timeout=transport.options.timeout,
        quiet_period=settings.quiet_period,
    )
    lookback = Lookback(transport, journal, clock, quiet_period=settings.quiet_period)
    tally = Tally(
        total=len(specs) if isinstance(specs, Sized) else None,
        on_progress=settings.on_progress,
        clock=transport.clockwork.monotonic,
        pacer=pacer,
    )
    delivery = Delivery(
        transport, journal, tally, on_result=settings.on_result, keeps=settings.keeps
    )
    making = Making(
        transport,
        journal,
        delivery=delivery,
        pacer=pacer,
        clock=clock,
        lookback=lookback,
        patience=patience,
        halt=halt,
        tally=tally,
    )
    allowance = Allowance(settings.max_total_limit)
    return Run(
        transport,
        journal,
        Jobs(specs, journal, looks_up=known, allowance=allowance),
        making,
        lookback=lookback,
        clock=clock,
        patience=patience,
        halt=halt,
        tally=tally,
        concurrency=settings.concurrency,
        quiet_period=settings.quiet_period,
        max_failures=settings.max_failures,
        hint=_NO_RESUME if settings.journal is None else _RESUME,
    )
