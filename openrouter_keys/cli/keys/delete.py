"""`delete`: one key, many, those that a file names, or those whose names match."""

import asyncio
from typing import Annotated, Final

from cyclopts import Parameter

from openrouter_keys.cli.keys.chosen import ChosenByName, Hashes
from openrouter_keys.cli.keys.many import (
    Target,
    each,
    look_up,
    print_targets,
    say_interrupted,
    shown,
)
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.terminal.output import Output
from openrouter_keys.cli.terminal.prompts import DryRun, Yes, confirm
from openrouter_keys.cli.values import Flag
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.errors import QuotaExhaustedError
from openrouter_keys.results import Err, attempt

_DELETED: Final = "deleted"
_NOT_FOUND: Final = "not found"
NOT_DELETED: Final = "the service answered that it was not deleted: delete it again"


async def delete(
    hashes: Hashes = (),
    /,
    *,
    of: ChosenByName = ChosenByName(),
    missing_ok: Annotated[
        Flag, Parameter(help="A key that is not there is no failure: it is deleted already.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    out: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Delete keys for good: programs that use them stop working."""
    read = of.read(hashes, connection)
    async with connection.client() as client:
        targets = await of.targets(client, read, missing_ok=missing_ok)
        await look_up(client, targets)
        there = [target for target in targets if not target.failed]
        for target in there:
            target.outcome = "would be deleted"
        if there and not dry_run:
            confirm(f"delete {_named(there)}", yes=yes)
            try:
                await each(there, lambda target: _delete(client, target))
            except (asyncio.CancelledError, QuotaExhaustedError):
                say_interrupted(there, _DELETED, "may still exist")
                raise
    if missing_ok:
        for target in targets:
            target.failed = target.failed and target.outcome != _NOT_FOUND
    return await print_targets(targets, out)


async def _delete(client: AsyncOpenRouter, target: Target) -> None:
    done = await attempt(client.api_keys.delete(target.hash))
    if isinstance(done, Err):
        target.fail(done.error)
    elif not done.value.deleted:
        target.leave(NOT_DELETED)
    else:
        target.outcome = _DELETED


def _named(targets: list[Target]) -> str:
    count, _, names = shown(targets).partition(" (")
    return f"{count} for good ({names}"
