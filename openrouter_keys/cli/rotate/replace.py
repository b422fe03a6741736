"""`rotate`: makes the new keys, hands their secrets over; with `--grace`, retires the old ones."""

import asyncio
import sys
from collections.abc import Callable, Mapping

from attrs import evolve

from openrouter_keys.cli.rotate.countdown import in_words
from openrouter_keys.cli.rotate.request import Request
from openrouter_keys.cli.rotate.retire import interrupted, retire
from openrouter_keys.cli.rotate.view import ended, show
from openrouter_keys.cli.runs.results import results_of
from openrouter_keys.cli.runs.run import run
from openrouter_keys.cli.terminal.messages import keys
from openrouter_keys.cli.terminal.progress import progress_of
from openrouter_keys.cli.terminal.prompts import confirm
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.provisioning.report import ProvisionProgress
from openrouter_keys.rotation.replacement import refused
from openrouter_keys.rotation.report import Rotation, RotationReport, RotationState


async def make_replacements(client: AsyncOpenRouter, request: Request) -> int:
    """Make the new keys, with `--grace` retire the old ones, and return the exit code.

    Raises:
        CommandError: the answer to the question was no; nothing was done.
    """
    if request.grace is not None:
        what = f"rotate {keys(len(request.hashes))}" if request.hashes else "go on"
        when = f"{in_words(request.grace)} later" if request.grace else "at once"
        confirm(f"{what}, and delete the old keys {when}", yes=request.yes)
    before = await request.known()
    report = await _make(client, request)
    if isinstance(report, int):
        return report
    if request.grace is not None:
        request.say(str(report))
        try:
            report = _together(report, await retire(client, request, request.grace))
        except asyncio.CancelledError:
            return interrupted(request)
    return await _end(report, request, before)


async def _make(client: AsyncOpenRouter, request: Request) -> RotationReport | int:
    async def start(see: Callable[[ProvisionProgress], None]) -> RotationReport:
        return await client.rotate(
            request.hashes,
            journal=request.journal.given,
            on_result=results,
            budget=request.terms.budget,
            limit=request.terms.limit,
            expires_at=request.terms.expires_at,
            concurrency=request.pace.concurrency,
            rate=request.pace.rate,
            on_progress=see,
            quiet_period=request.pace.quiet_period or 0.0,
            recipient=request.recipient,
        )

    # A bar would get in the way of what goes to the same terminal.
    bar = not (request.to.show_secret and sys.stdout.isatty())
    with results_of(request.to, lines=request.to.show_secret) as results:
        return await run(start, request.outcome, progress_of(quiet=request.quiet, bar=bar), results)


def _together(made: RotationReport, retired: RotationReport) -> RotationReport:
    """Return one report of the replacement and the retirement."""
    return evolve(
        retired,
        rotated=made.rotated,
        skipped=made.skipped,
        failed=made.failed + retired.failed,
        failures=(*made.failures, *retired.failures),
        in_doubt=made.in_doubt,
        provision=made.provision,
    )


async def _end(report: RotationReport, request: Request, before: Mapping[str, Rotation]) -> int:
    shown = await _touched(report, request, before)
    if not request.to.show_secret:
        await show(shown, request.out, report)
    return ended(report, shown, request)


async def _touched(
    report: RotationReport, request: Request, before: Mapping[str, Rotation]
) -> list[Rotation]:
    """Return the rotations of this call: those asked for, and those not completed before it."""
    now, wanted = await request.known(), {*request.hashes}
    done = {hash for hash, each in before.items() if each.state is RotationState.DELETED}
    found = [each for hash, each in now.items() if hash in wanted or hash not in done]
    # The journal has no keys that cannot be rotated.
    unknown = [problem for problem in report.failures if problem.ref not in now]
    return found + [refused(problem.ref, problem.reason) for problem in unknown]
