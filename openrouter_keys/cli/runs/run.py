"""A run from its first request to its last message: progress, signals, rescue, exit code."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from openrouter_keys.applying.report import ApplyStoppedError
from openrouter_keys.cli.exit_codes import BROKEN_PIPE
from openrouter_keys.cli.runs.outcome import Outcome
from openrouter_keys.cli.runs.results import Results
from openrouter_keys.cli.terminal.interrupts import interrupts, signal_code
from openrouter_keys.cli.terminal.progress import Progress
from openrouter_keys.cli.terminal.warnings import waits_to, warnings_to
from openrouter_keys.provisioning.report import ProvisioningStoppedError, ProvisionProgress

_Report = TypeVar("_Report")


async def run(
    start: Callable[[Callable[[ProvisionProgress], None]], Awaitable[_Report]],
    outcome: Outcome,
    progress: Progress,
    results: Results | None,
) -> _Report | int:
    """Return the report of a run; the exit code, if it was interrupted or stopped.

    Args:
        start: starts it, with an `on_progress`.
        outcome: says how it ended.
        progress: shows how far it is.
        results: takes its secrets; None: the journal alone keeps them.

    Raises:
        BrokenPipeError: the reader of standard output is gone.
    """

    def see(at: ProvisionProgress) -> None:
        outcome.see(at)
        if at.total:
            progress.show(at)

    def interrupt() -> None:
        outcome.stopped_by = "interrupted"
        progress.say(outcome.finishing())

    def warn(text: str) -> None:
        # After an interrupt the outcome says what is left.
        if outcome.stopped_by is None:
            progress.say(text)

    with interrupts(interrupt, outcome.final_message), warnings_to(warn), waits_to(warn):
        try:
            with progress:
                try:
                    return await start(see)
                finally:
                    await outcome.rescue(results)
        except asyncio.CancelledError:
            outcome.interrupted()
            return signal_code()
        except (ProvisioningStoppedError, ApplyStoppedError) as stopped:
            code = outcome.stopped(stopped)
            if code == BROKEN_PIPE:
                raise BrokenPipeError from stopped
            return code
