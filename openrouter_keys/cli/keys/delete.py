"""`delete`: one key, many, or those whose hashes stand on standard input."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, TypeVar

import anyio
from attrs import define
from cyclopts import Parameter

from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys.cli.exit_codes import DONE, FAILED, SOME_FAILED
from openrouter_keys.cli.keys.hashes import WAYS, hashes_given, whole_hashes
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.terminal.messages import counted, named, say
from openrouter_keys.cli.terminal.output import Output, in_columns, print_records
from openrouter_keys.cli.terminal.prompts import DryRun, Yes, confirm
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.errors import (
    ForbiddenResponseError,
    OpenRouterError,
    QuotaExhaustedError,
    UnauthorizedResponseError,
)
from openrouter_keys.results import Err, attempt

T = TypeVar("T")

#: What fails for one key would fail for all.
FOR_ALL: Final = (UnauthorizedResponseError, ForbiddenResponseError, QuotaExhaustedError)
_COLUMNS: Final = ("hash", "name", "outcome")
_AT_ONCE: Final = 16
_DELETED: Final = "deleted"
NOT_DELETED: Final = "the service answered that it was not deleted: delete it again"


@define
class _Deletion:
    """A key to be deleted, and its outcome."""

    hash: str
    name: str = ""
    outcome: str = ""
    failed: bool = False

    def fail(self, error: OpenRouterError) -> None:
        """It is not deleted; an error that all others would have too is raised."""
        if isinstance(error, FOR_ALL):
            raise error
        self.leave("not found" if is_api_404(error) else str(error))

    def leave(self, why: str) -> None:
        """It is not deleted."""
        self.outcome, self.failed = why, True

    def record(self) -> Record:
        """Return what is printed of it."""
        return {"hash": self.hash, "name": self.name, "outcome": self.outcome}


async def delete(
    hashes: Annotated[
        list[str],
        Parameter(
            name="HASH",
            negative="",
            allow_leading_hyphen=True,
            help=f"The keys: {WAYS}; - reads them from standard input, one a line.",
        ),
    ],
    /,
    *,
    yes: Yes = False,
    dry_run: DryRun = False,
    out: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Delete keys for good: programs that use them stop working."""
    given = hashes_given(hashes, connection)
    async with connection.client() as client:
        deletions = [_Deletion(hash) for hash in dict.fromkeys(await whole_hashes(client, given))]
        await each(deletions, lambda key: _look_up(client, key))
        there = [key for key in deletions if not key.failed]
        if there and not dry_run:
            confirm(f"delete {_named(there)}", yes=yes)
            try:
                await each(there, lambda key: _delete(client, key))
            except (asyncio.CancelledError, QuotaExhaustedError):
                _say_interrupted(there)
                raise
    records = [key.record() for key in deletions]
    await print_records(records, out, _COLUMNS, in_columns(_COLUMNS, {}))
    failed = sum(key.failed for key in deletions)
    if not failed:
        return DONE
    return FAILED if failed == len(deletions) else SOME_FAILED


def _say_interrupted(keys: Sequence[_Deletion]) -> None:
    deleted = sum(key.outcome == _DELETED for key in keys)
    rest = len(keys) - deleted
    say(f"{deleted:,} deleted; {rest:,} may still exist: the same command goes on")


async def each(keys: Sequence[T], do: Callable[[T], Awaitable[None]]) -> None:
    """Do something with each key, many at once; the first error ends it, and is raised."""
    waiting, failure = iter(keys), list[OpenRouterError]()

    async def work() -> None:
        for key in waiting:
            try:
                await do(key)
            except OpenRouterError as error:
                failure.append(error)
            if failure:
                return

    async with anyio.create_task_group() as group:
        for _ in range(_AT_ONCE):
            group.start_soon(work)
    if failure:
        raise failure[0]


async def _look_up(client: AsyncOpenRouter, key: _Deletion) -> None:
    found = await attempt(client.api_keys.get(key.hash))
    if isinstance(found, Err):
        key.fail(found.error)
    else:
        key.name, key.outcome = found.value.data.name, "would be deleted"


async def _delete(client: AsyncOpenRouter, key: _Deletion) -> None:
    done = await attempt(client.api_keys.delete(key.hash))
    if isinstance(done, Err):
        key.fail(done.error)
    elif not done.value.deleted:
        key.leave(NOT_DELETED)
    else:
        key.outcome = _DELETED


def _named(keys: Sequence[_Deletion]) -> str:
    return f"{counted(len(keys), 'key')} for good ({named([key.name for key in keys])})"
