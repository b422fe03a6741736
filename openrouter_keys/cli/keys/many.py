"""What a command does with many keys, many at once, and what comes of each."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

import anyio
from attrs import define

from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys.cli.exit_codes import DONE, FAILED, SOME_FAILED
from openrouter_keys.cli.terminal.messages import counted, named, say
from openrouter_keys.cli.terminal.output import Output, in_columns, print_records
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.errors import (
    ForbiddenResponseError,
    OpenRouterError,
    QuotaExhaustedError,
    UnauthorizedResponseError,
)
from openrouter_keys.models import Key
from openrouter_keys.results import Err, attempt

T = TypeVar("T")

#: What fails for one key would fail for all.
FOR_ALL: Final = (UnauthorizedResponseError, ForbiddenResponseError, QuotaExhaustedError)
_COLUMNS: Final = ("hash", "name", "outcome")
_AT_ONCE: Final = 16


@define
class Target:
    """A key that something is to be done with, and its outcome.

    Attributes:
        hash: the key's.
        data: its record; None: not known.
        outcome: what came of it.
        failed: whether it could not be done.
    """

    hash: str
    data: Key | None = None
    outcome: str = ""
    failed: bool = False

    @property
    def name(self) -> str:
        """The key's name; empty: not known."""
        return "" if self.data is None else self.data.name

    def fail(self, error: OpenRouterError) -> None:
        """It could not be done; an error that all others would have too is raised."""
        if isinstance(error, FOR_ALL):
            raise error
        self.leave("not found" if is_api_404(error) else str(error))

    def leave(self, why: str) -> None:
        """It is not done."""
        self.outcome, self.failed = why, True

    def record(self) -> Record:
        """Return what is printed of it."""
        return {"hash": self.hash, "name": self.name, "outcome": self.outcome}


async def each(keys: Iterable[T], do: Callable[[T], Awaitable[None]]) -> None:
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


async def look_up(client: AsyncOpenRouter, targets: Iterable[Target]) -> None:
    """Read the records that are not known; a key that is not there has failed."""

    async def look(target: Target) -> None:
        found = await attempt(client.api_keys.get(target.hash))
        if isinstance(found, Err):
            target.fail(found.error)
        else:
            target.data = found.value.data

    await each([target for target in targets if target.data is None], look)


def shown(targets: Sequence[Target]) -> str:
    """Return how many keys in words, with the first names."""
    return f"{counted(len(targets), 'key')} ({named([target.name for target in targets])})"


def say_interrupted(targets: Sequence[Target], done: str, rest: str) -> None:
    """Say how far it came.

    Args:
        targets: the keys.
        done: the outcome of those that are done.
        rest: what may be said of the others.
    """
    count = sum(target.outcome == done for target in targets)
    say(f"{count:,} {done}; {len(targets) - count:,} {rest}: the same command goes on")


async def print_targets(targets: Sequence[Target], out: Output) -> int:
    """Print what came of each key, and return the exit code."""
    records = [target.record() for target in targets]
    await print_records(records, out, _COLUMNS, in_columns(_COLUMNS, {}))
    failed = sum(target.failed for target in targets)
    if not failed:
        return DONE
    return FAILED if failed == len(targets) else SOME_FAILED
