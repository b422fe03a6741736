"""A run whose rows are taken over at each step of its call: it hands over no key but the live one.

It seems to be gone for as long as another call takes, as that of a process that is stopped does.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from openrouter_keys import AsyncOpenRouter, Ensured
from openrouter_keys.emulator import Emulator
from openrouter_keys.errors import OpenRouterError, TakenOverError
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.store import Store
from tests.ensuring.rows import World, secrets
from tests.ensuring.scenes import AFTER, SCENES, assert_ensured, assert_released
from tests.provisions import JumpingTime, client_of

Act: TypeAlias = Callable[[World], Awaitable[object]]


async def ensures(world: World) -> Ensured:
    return await world.ensure(AFTER, wait=600, verify=True, recreate=True)


async def releases(world: World) -> bool:
    return await world.release(wait=600)


class Interloper:
    """Does something at one step of a call, while its run seems to be gone.

    Args:
        at: the step.
        act: what is done, with another client.
    """

    def __init__(self, at: int, act: Callable[[], Awaitable[object]]) -> None:
        self._at, self._act, self.count = at, act, 0
        self.came: object = None

    async def step(self) -> None:
        self.count += 1
        if self.count != self._at:
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "lives", lambda *_: False)
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
            if not busy:  # not for those of the interloper
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


@pytest.mark.parametrize("act", [ensures, releases])
@pytest.mark.parametrize("scene", SCENES)
async def test_taken_over_at_each_step(
    client: AsyncOpenRouter, emulator: Emulator, time: JumpingTime, scene: str, act: Act
) -> None:
    if (scene, act) == ("release of a rejected key", ensures):
        pytest.skip("it is refused until it is released")
    at, goes_on = 0, True
    async with client_of(emulator, time) as other:
        while goes_on:
            at += 1
            emulator.account.clear()
            emulator.account.add("another's")  # an empty list proves nothing
            async with Journal.open(None) as journal:
                world = World(client, emulator, journal)
                prepare, call = SCENES[scene]
                await prepare(world)
                interloper = Interloper(at, lambda j=journal: act(World(other, emulator, j)))
                try:
                    async with interloper.beside(client):
                        got: object = await call(world)
                except OpenRouterError as error:
                    got = error
                try:
                    if isinstance(got, Ensured) and act is ensures:
                        assert got.key in secrets(emulator)
                    if isinstance(got, OpenRouterError):
                        assert isinstance(got, TakenOverError), got
                    await (assert_ensured if at % 2 else assert_released)(world)
                except BaseException as error:
                    error.add_note(f"step {at}; {got!r}; {interloper.came!r}")
                    raise
                goes_on = interloper.count >= at
    assert at > 3
