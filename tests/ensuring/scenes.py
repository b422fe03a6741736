"""Calls of `ensure` and `release` that are interrupted, and what must hold after the next one."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from openrouter_keys import AsyncOpenRouter, Ensured, KeySpec
from openrouter_keys.emulator import Emulator
from openrouter_keys.journal.journal import Journal
from tests.ensuring.rows import World
from tests.journals import spec

Act: TypeAlias = Callable[[World], Awaitable[Ensured | bool]]

BEFORE = spec(limit=5)
AFTER = spec(limit=6)
_LONG = 600.0


async def _created(world: World) -> None:
    await world.ensure(BEFORE)


async def _nothing(_: World) -> None:
    pass


async def _gone(world: World) -> None:
    await world.ensure(BEFORE)
    for hash in [*world.emulator.account.keys]:
        del world.emulator.account.keys[hash]
    world.emulator.account.add("another's")


def _replaced(retire_after: float | None) -> Callable[[World], Awaitable[None]]:
    async def prepare(world: World) -> None:
        first = await world.ensure(BEFORE)
        report = await world.client.rotate(
            [first.data.hash],
            journal=world.journal,
            on_result=lambda _: None,
            retire_after=retire_after,
        )
        assert report.rotated == 1

    return prepare


def _ensure(asked: KeySpec, **given: bool) -> Act:
    async def act(world: World) -> Ensured:
        return await world.ensure(asked, wait=_LONG, **given)

    return act


async def _release(world: World) -> bool:
    return await world.release(wait=_LONG)


def _prepared(state: str) -> Callable[[World], Awaitable[None]]:
    async def prepare(world: World) -> None:
        await world.bring(state)

    return prepare


#: What is there before, and the call that is interrupted.
SCENES: dict[str, tuple[Callable[[World], Awaitable[None]], Act]] = {
    "create": (_nothing, _ensure(AFTER)),
    "create after a doubt": (_prepared("doubt-made"), _ensure(BEFORE)),
    "create by another spec": (_prepared("doubt-made"), _ensure(AFTER)),
    "create after a refusal": (_prepared("failed"), _ensure(AFTER)),
    "resume": (_prepared("made-unread"), _ensure(BEFORE)),
    "update": (_created, _ensure(AFTER)),
    "update of a replacement": (_replaced(0), _ensure(AFTER)),
    "recreate": (_gone, _ensure(BEFORE, verify=True, recreate=True)),
    "recreate at an update": (_gone, _ensure(AFTER, recreate=True)),
    "release": (_created, _release),
    "release in doubt": (_prepared("doubt-made"), _release),
    "release of a replacement": (_replaced(0), _release),
    "release of two keys": (_replaced(None), _release),
    "release of a rejected key": (_prepared("rejected"), _release),
    "ensure after a release": (_prepared("releasing"), _ensure(AFTER)),
}


def others(emulator: Emulator) -> set[str]:
    """The hashes of keys that are none of ours."""
    return {key.hash for key in emulator.account.keys.values() if key.name == "another's"}


async def assert_ensured(world: World) -> None:
    """The next `ensure` gives the only key; the one after it the same, without a request."""
    ensured = await world.ensure(AFTER, wait=_LONG, verify=True, recreate=True)
    apart = others(world.emulator) | {entry.hash async for entry in world.journal.rotations()}
    live = [key for key in world.emulator.account.keys.values() if key.hash not in apart]
    assert [(key.secret, key.limit) for key in live] == [(ensured.key, 6)]
    world.emulator.requests.clear()
    again = await world.ensure(AFTER)
    assert (again.key, again.data.limit, again.outcome) == (ensured.key, 6, "existing")
    assert not world.emulator.requests


async def assert_released(world: World) -> None:
    """The next `release` leaves no key, and no row."""
    await world.release(wait=_LONG)
    assert {*world.emulator.account.keys} == others(world.emulator)
    assert not [entry async for entry in world.journal.every()]
    assert not await world.release()


class Steps:
    """Does something at one step of a call.

    Args:
        at: the step.
        act: what is done.
    """

    def __init__(self, at: int, act: Callable[[], Awaitable[object]]) -> None:
        self._at, self._act, self.count = at, act, 0
        self.came: object = None

    async def step(self) -> None:
        self.count += 1
        if self.count != self._at:
            return
        self.came = await self._act()

    @asynccontextmanager
    async def beside(self, client: AsyncOpenRouter) -> AsyncGenerator[None]:
        """Step before and after each request of a client, and before each change of a row."""
        perform, change = client._transport.perform, Journal._change
        busy = False

        async def performed(*given: Any) -> Any:
            await self.step()
            try:
                return await perform(*given)
            finally:
                await self.step()

        async def changed(journal: Journal, *ways: Any, **values: Any) -> Any:
            nonlocal busy
            if not busy:  # not for what it does itself
                busy = True
                try:
                    await self.step()
                finally:
                    busy = False
            return await change(journal, *ways, **values)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client._transport, "perform", performed)
            patch.setattr(Journal, "_change", changed)
            yield


__all__ = ["AFTER", "BEFORE", "SCENES", "Steps", "assert_ensured", "assert_released"]
