"""Runs of `provision` for tests: a client whose time jumps, and what must hold after a run."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from openrouter_keys import (
    AsyncOpenRouter,
    KeySpec,
    ProvisioningStoppedError,
    ProvisionReport,
    ProvisionResult,
)
from openrouter_keys._base.clock import Clockwork
from openrouter_keys.emulator import Emulator
from openrouter_keys.journal.journal import Journal
from tests.clients import FakeTime
from tests.journals import spec

#: How many specs come in a batch, with the fixture `small_batches`.
SMALL_BATCH = 12


@define
class JumpingTime(FakeTime):
    """`FakeTime` whose time of day jumps too."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=sum(self.slept))

    def clockwork(self) -> Clockwork:
        return evolve(super().clockwork(), now=self.now)


@define
class SetTime:
    """The time of a machine whose clock somebody sets; that of the service goes right.

    Attributes:
        true: the right time.
        set_by: by how many seconds the clock is wrong.
    """

    true: JumpingTime
    set_by: float = 0.0

    def now(self) -> datetime:
        return self.true.now() + timedelta(seconds=self.set_by)

    def clockwork(self) -> Clockwork:
        return evolve(self.true.clockwork(), now=self.now)


@asynccontextmanager
async def client_of(
    emulator: Emulator, time: JumpingTime | None = None, **given: Any
) -> AsyncGenerator[AsyncOpenRouter, None]:
    """A client of an emulator; with a time of its own, which both live by, nothing waits."""
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url, **given) as client:
        if time is not None:
            client._transport.clockwork = time.clockwork()
            emulator.account.clock = time.now
        yield client


def refuse(_: ProvisionResult) -> None:
    """Take no secret."""
    raise ConnectionError("the customers' database is away")


async def refuse_later(_: ProvisionResult) -> None:
    await asyncio.sleep(0)
    raise ConnectionError("the customers' database is away")


def specs(count: int, **given: Any) -> list[KeySpec]:
    return [spec(str(number), **given) for number in range(count)]


async def stopped(run: Awaitable[ProvisionReport]) -> ProvisioningStoppedError:
    with pytest.raises(ProvisioningStoppedError) as caught:
        await run
    return caught.value


async def counts(path: Path) -> dict[str, int]:
    """How many keys a journal has in each state, but those without any."""
    async with Journal.open(path) as journal:
        return {state.value: count for state, count in (await journal.counts()).items() if count}


def assert_whole(
    emulator: Emulator, wanted: Iterable[KeySpec], taken: Iterable[ProvisionResult]
) -> None:
    """Each spec has one key, whose secret was handed over, and no other key is there."""
    made = [(key.name, key.secret) for key in emulator.account.keys.values()]
    assert sorted(name for name, _ in made) == sorted(spec.name for spec in wanted)
    assert {(result.spec.name, result.key) for result in taken} == {*made}
    assert not any(key.disabled for key in emulator.account.keys.values())
