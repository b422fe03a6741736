"""`rotate`: makes the twins, hands their secrets over, and waits for the old keys' grace."""

import asyncio
import sys
from collections.abc import Callable, Mapping

from attrs import evolve

from openrouter_keys.cli.rotate.countdown import in_words
from openrouter_keys.cli.rotate.finish import interrupted, retire
from openrouter_keys.cli.rotate.order import Order
from openrouter_keys.cli.rotate.view import ended, show
from openrouter_keys.cli.runs.run import run
from openrouter_keys.cli.secrets.sinks import results_of
from openrouter_keys.cli.terminal.messages import keys
from openrouter_keys.cli.terminal.progress import progress_of
from openrouter_keys.cli.terminal.prompts import confirm
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.provisioning.report import ProvisionProgress
from openrouter_keys.rotation.replacement import refused
from openrouter_keys.rotation.report import Rotation, RotationReport, RotationState


async def make_twins(client: AsyncOpenRouter, order: Order) -> int:
    """Make the twins, retire the old keys if there is a grace, and return the exit code.

    Raises:
        CommandError: the grace was not agreed to; nothing was done.
    """
    if order.grace is not None:
        what = f"rotate {keys(len(order.hashes))}" if order.hashes else "go on"
        when = f"{in_words(order.grace)} later" if order.grace else "at once"
        confirm(f"{what}, and delete the old keys {when}", yes=order.yes)
    before = await order.known()
    report = await _make(client, order)
    if isinstance(report, int):
        return report
    if order.grace is not None:
        order.tell(str(report))
        try:
            report = _together(report, await retire(client, order, order.grace))
        except asyncio.CancelledError:
            return interrupted(order)
    return await _end(report, order, before)


async def _make(client: AsyncOpenRouter, order: Order) -> RotationReport | int:
    async def start(see: Callable[[ProvisionProgress], None]) -> RotationReport:
        return await client.rotate(
            order.hashes,
            journal=order.journal,
            on_result=results,
            budget=order.budget,
            concurrency=order.pace.concurrency,
            rate=order.pace.rate,
            on_progress=see,
            quiet_period=order.pace.quiet_period or 0.0,
            recipient=order.recipient,
        )

    # A bar would get in the way of what goes to the same terminal.
    bar = not (order.to.show_secret and sys.stdout.isatty())
    with results_of(order.to, lines=order.to.show_secret) as results:
        return await run(start, order.outcome, progress_of(quiet=order.quiet, bar=bar), results)


def _together(made: RotationReport, retired: RotationReport) -> RotationReport:
    """Return how both halves ended."""
    return evolve(
        retired,
        rotated=made.rotated,
        skipped=made.skipped,
        failed=made.failed + retired.failed,
        failures=(*made.failures, *retired.failures),
        in_doubt=made.in_doubt,
        provision=made.provision,
    )


async def _end(report: RotationReport, order: Order, before: Mapping[str, Rotation]) -> int:
    shown = await _touched(report, order, before)
    if not order.to.show_secret:
        await show(shown, order.out, report)
    return ended(report, shown, order)


async def _touched(
    report: RotationReport, order: Order, before: Mapping[str, Rotation]
) -> list[Rotation]:
    """Return what this call was about: what it was given, and what was not through before it."""
    now, wanted = await order.known(), {*order.hashes}
    done = {hash for hash, each in before.items() if each.state is RotationState.DELETED}
    told = [each for hash, each in now.items() if hash in wanted or hash not in done]
    # What cannot be rotated is in no journal.
    unknown = [problem for problem in report.failures if problem.ref not in now]
    return told + [refused(problem.ref, problem.reason) for problem in unknown]
