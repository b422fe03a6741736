"""`rotate --finish`: asks, then deletes the old keys whose new ones were handed over."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from openrouter_keys.cli.exit_codes import DONE
from openrouter_keys.cli.rotate.countdown import counted_down, last_due
from openrouter_keys.cli.rotate.request import Request, holding, stored
from openrouter_keys.cli.rotate.view import changes, ended, preview, show
from openrouter_keys.cli.runs.outcome import export_command
from openrouter_keys.cli.terminal.interrupts import interrupts, signal_code
from openrouter_keys.cli.terminal.messages import counted, keys, named, redraws, rewrite, say
from openrouter_keys.cli.terminal.prompts import confirm
from openrouter_keys.cli.terminal.warnings import warnings_to
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.rotation.report import Rotation, RotationReport, RotationState

_STOPPING: Final = "stopping: what is under way is finished; Ctrl-C again stops at once"
_DUE: Final = (RotationState.HANDED_OVER, RotationState.DISABLED)


async def show_due(request: Request) -> int:
    """Show which old keys would be deleted."""
    due = await _due(request)
    await show(due, request.out)
    request.say(f"would delete {keys(len(due))}")
    request.say(changes(due))
    return DONE


async def finish_rotation(client: AsyncOpenRouter, request: Request) -> int:
    """Retire the old keys, and return the exit code.

    Raises:
        CommandError: the answer to the question was no; nothing was done.
        JournalError: the journal cannot be read.
    """
    due = await _due(request)
    if due and not request.yes and sys.stderr.isatty():
        preview(due)
    held = await holding(request.journal) & {rotation.hash for rotation in due}
    where = "whose new keys were handed over"
    if held:
        request.say(_unsure(request, len(held)))
        where = f"whose new secrets may be nowhere but in {request.journal}"
    if due:
        confirm(f"delete {_named(due)} for good, {where}", yes=request.yes)
    try:
        report = await retire(client, request, request.grace or 0.0)
    except asyncio.CancelledError:
        return interrupted(request)
    hashes = {rotation.hash for rotation in due}
    shown = [rotation for rotation in await stored(request.journal) if rotation.hash in hashes]
    await show(shown, request.out, report)
    return ended(report, shown, request)


async def retire(client: AsyncOpenRouter, request: Request, grace: float) -> RotationReport:
    """Delete each old key once its grace period is over, and count that down.

    Args:
        client: sends the requests.
        request: what was asked for.
        grace: seconds from the hand-over of the new key on.
    """
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        if redraws():
            rewrite("")
        say(_STOPPING)

    def warn(text: str) -> None:
        # After a signal the last messages say what is left.
        if not stopping:
            say(text)

    # Each step can be repeated.
    with interrupts(stop, request.outcome.final_message), warnings_to(warn):
        until = await last_due(request.journal, grace)
        async with counted_down(until, quiet=request.quiet):
            return await client.rotate(
                (),
                journal=request.journal.given,
                retire_after=grace,
                concurrency=request.pace.concurrency,
                rate=request.pace.rate,
            )


def interrupted(request: Request) -> int:
    """Say that the old keys still work, and return the exit code."""
    say("interrupted: the old keys that are not deleted yet work as before")
    say(f"go on with: {request.outcome.again()}")
    return signal_code()


async def _due(request: Request) -> list[Rotation]:
    return [rotation for rotation in await stored(request.journal) if rotation.state in _DUE]


def _unsure(request: Request, count: int) -> str:
    have = f"the new secrets of {keys(count)} are in {request.journal}"
    unknown = "it does not know whether anything else has them"
    return f"{have}; {unknown}; if not: {export_command(request.journal)}"


def _named(due: Sequence[Rotation]) -> str:
    names = named([rotation.name or "" for rotation in due])
    return f"{counted(len(due), 'old key')} ({names})"
