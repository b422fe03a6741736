"""`plan_apply`: what `apply` would do. Nothing is sent but reads."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from attrs import frozen

from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.applying.account import Account
from openrouter_keys.applying.compare import Comparison, compare
from openrouter_keys.applying.known import read_known
from openrouter_keys.applying.report import Plan
from openrouter_keys.applying.settings import PlanSettings
from openrouter_keys.errors import DuplicateRefError, JournalMismatchError
from openrouter_keys.journal.addresses import MEMORY, place_of
from openrouter_keys.journal.engines import is_begun
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.provisioning.context import clock_of, limiter_of
from openrouter_keys.provisioning.rate_limiter import RateLimiter
from openrouter_keys.provisioning.spec_source import Specs, batches, check_specs


async def plan_apply(transport: Transport, specs: Specs, settings: PlanSettings) -> Plan:
    """Return what `apply` would do; see `AsyncOpenRouter.plan_apply`."""
    wanted = await read(specs)
    transport.ready()
    async with AsyncExitStack() as stack:
        journal = settings.journal
        if not isinstance(journal, Journal):
            there = await asyncio.to_thread(is_begun, place_of(journal))
            opening = Journal.read(journal) if there else Journal.open(MEMORY)
            journal = await stack.enter_async_context(opening)
        _, known = await journal.origin()
        if known not in (None, transport.options.server_url):
            problem = f"belongs to {known}, not to {transport.options.server_url}"
            raise JournalMismatchError("the journal", f"{problem}: give another one")
        look = await Look.at(transport, journal, wanted, settings)
        return look.comparison.plan


async def read(specs: Specs) -> list[KeySpec]:
    """Read all specs, each with a ref of its own."""
    check_specs(specs)
    found: dict[str, KeySpec] = {}
    async for batch in batches(specs):
        for spec in batch:
            if spec.ref in found:
                raise DuplicateRefError(spec.ref)
            found[spec.ref] = spec
    return [*found.values()]


@frozen
class Look:
    """What was found before anything is changed."""

    clock: ServiceClock
    limiter: RateLimiter
    account: Account
    comparison: Comparison

    @classmethod
    async def at(
        cls,
        transport: Transport,
        journal: Journal,
        specs: Sequence[KeySpec],
        settings: PlanSettings,
    ) -> "Look":
        """Read the journal, list the account, and compare."""
        known = await read_known(journal)
        clock, limiter = clock_of(transport), limiter_of(transport, settings)
        account = Account(transport, journal, clock, limiter)
        await account.look(known, specs)
        comparison = compare(
            specs, known, account.shown, account.unseen, account.namesakes, settings=settings
        )
        if comparison.creates or comparison.pruning:
            await account.prove()
        return cls(clock, limiter, account, comparison)
