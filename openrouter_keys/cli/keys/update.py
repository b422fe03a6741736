"""`update`, `enable` and `disable`: what is given is changed, and the rest stays as it is."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final, cast

from attrs import asdict
from cyclopts import Parameter

from openrouter_keys._base.unset import UNSET
from openrouter_keys._protocol.drift import unchanged
from openrouter_keys.cli.exit_codes import DONE, CommandError, UsageError
from openrouter_keys.cli.keys.chosen import Chosen, ChosenByName, Hashes
from openrouter_keys.cli.keys.get import data_of
from openrouter_keys.cli.keys.many import (
    Target,
    each,
    look_up,
    print_targets,
    say_interrupted,
    shown,
)
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.terminal.messages import say
from openrouter_keys.cli.terminal.output import RecordOutput, print_json, print_record
from openrouter_keys.cli.terminal.prompts import DryRun, Yes, confirm
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import Byok, Limit, Reset
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.converter import unstructure
from openrouter_keys.errors import QuotaExhaustedError
from openrouter_keys.models import UpdateKeysRequest
from openrouter_keys.results import Err, attempt

_CHANGED: Final = "changed"
_AS_ASKED: Final = "as asked for already"


async def update(
    hashes: Hashes = (),
    /,
    *,
    name: Annotated[str | None, Parameter(help="The new name, of one key.")] = None,
    disabled: Annotated[
        bool | None,
        Parameter(negative="--enabled", help="Stop the key from working, or let it work again."),
    ] = None,
    limit: Limit = UNSET,
    limit_reset: Reset = UNSET,
    include_byok_in_limit: Byok = None,
    workspace_id: Annotated[
        str | None, Parameter(metavar="UUID", help="Move the key to this workspace.")
    ] = None,
    of: Chosen = Chosen(),
    yes: Yes = False,
    dry_run: DryRun = False,
    out: RecordOutput = RecordOutput(),
    connection: Connection = Connection(),
) -> int:
    """Change what is given, and nothing else. `--limit none` removes the limit.

    The command asks before it changes more than one key.
    """
    request = UpdateKeysRequest(
        name=name,
        disabled=disabled,
        limit=limit,
        limit_reset=limit_reset,
        include_byok_in_limit=include_byok_in_limit,
        workspace_id=workspace_id,
    )
    if name is not None and (of.is_given or len(hashes) > 1):
        raise UsageError("--name is the new name of one key: give its hash or its old name")
    does = _Change("update", request, yes=yes, dry_run=dry_run, out=out)
    return await does.to(hashes, of, connection)


async def disable(
    hashes: Hashes = (),
    /,
    *,
    of: ChosenByName = ChosenByName(),
    yes: Yes = False,
    dry_run: DryRun = False,
    out: RecordOutput = RecordOutput(),
    connection: Connection = Connection(),
) -> int:
    """Stop keys from working; `enable` lets them work again.

    The command asks before it changes more than one key.
    """
    does = _Change("disable", UpdateKeysRequest(disabled=True), yes=yes, dry_run=dry_run, out=out)
    return await does.to(hashes, of, connection)


async def enable(
    hashes: Hashes = (),
    /,
    *,
    of: ChosenByName = ChosenByName(),
    yes: Yes = False,
    dry_run: DryRun = False,
    out: RecordOutput = RecordOutput(),
    connection: Connection = Connection(),
) -> int:
    """Let disabled keys work again.

    The command asks before it changes more than one key.
    """
    does = _Change("enable", UpdateKeysRequest(disabled=False), yes=yes, dry_run=dry_run, out=out)
    return await does.to(hashes, of, connection)


class _Change:
    """One update, for one key or for many.

    Args:
        verb: what the command does with keys.
        request: what is changed.
        yes: whether not to ask.
        dry_run: whether to change nothing.
        out: how to print.
    """

    def __init__(
        self, verb: str, request: UpdateKeysRequest, *, yes: bool, dry_run: bool, out: RecordOutput
    ) -> None:
        self._verb, self._request = verb, request
        self._yes, self._dry_run, self._out = yes, dry_run, out

    async def to(self, given: Sequence[str], of: Chosen, connection: Connection) -> int:
        """Change the keys that were chosen, and return the exit code."""
        read = of.read(given, connection)
        async with connection.client() as client:
            targets = await of.targets(client, read)
            if len(targets) == 1 and not of.is_given:
                return await self._one(client, targets[0].hash)
            return await self._many(client, targets)

    async def _one(self, client: AsyncOpenRouter, hash: str) -> int:
        if self._dry_run:
            say(f"would change {hash}")
            print_json(cast("Record", unstructure(self._request)))
            return DONE
        changed = await client.api_keys.update(hash, **asdict(self._request))
        if problem := unchanged(hash, self._request, changed.data):
            raise CommandError(f"{problem}: look at it, and change it again")
        asked = cast("Record", unstructure(self._request))
        print_record(self._out.of(data_of(changed), *asked), self._out)
        return DONE

    async def _many(self, client: AsyncOpenRouter, targets: Sequence[Target]) -> int:
        await look_up(client, targets)
        there = [target for target in targets if not target.failed]
        others = [target for target in there if not self._is_as_asked(target)]
        for target in there:
            target.outcome = "would be changed" if target in others else _AS_ASKED
        if others and not self._dry_run:
            confirm(f"{self._verb} {shown(others)}", yes=self._yes)
            try:
                await each(others, lambda target: self._change(client, target))
            except (asyncio.CancelledError, QuotaExhaustedError):
                say_interrupted(others, _CHANGED, "may be as before")
                raise
        return await print_targets(targets, self._out)

    def _is_as_asked(self, target: Target) -> bool:
        # Changes have a daily quota, and the same command goes on after an interrupt.
        return target.data is not None and not unchanged(target.hash, self._request, target.data)

    async def _change(self, client: AsyncOpenRouter, target: Target) -> None:
        done = await attempt(client.api_keys.update(target.hash, **asdict(self._request)))
        if isinstance(done, Err):
            target.fail(done.error)
        elif problem := unchanged(target.hash, self._request, done.value.data):
            target.leave(problem)
        else:
            target.data, target.outcome = done.value.data, _CHANGED
