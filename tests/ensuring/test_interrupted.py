"""`ensure` and `release` that are cancelled at each step: the next call goes on from there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.writer import Writer
from tests.ensuring.rows import World
from tests.ensuring.scenes import SCENES, assert_ensured, assert_released

Check: TypeAlias = Callable[[World], Awaitable[None]]


class Steps:
    """Counts the steps of a call: what it asks of the journal, and of the service.

    Args:
        at: the step at which `then` is called; 0: at none.
        then: called once.
    """

    def __init__(self, at: int, then: Callable[[], object]) -> None:
        self._at, self._then, self.count = at, then, 0

    def step(self) -> None:
        self.count += 1
        if self.count == self._at:
            self._then()

    def watch(self, world: World, patch: pytest.MonkeyPatch) -> None:
        transport = world.client._transport
        perform, put = transport.perform, Writer._put

        async def performed(*given: Any) -> Any:
            self.step()
            answer = await perform(*given)
            self.step()
            return answer

        def submitted(writer: Writer, job: Any) -> None:
            put(writer, job)
            self.step()

        patch.setattr(transport, "perform", performed)
        patch.setattr(Writer, "_put", submitted)


async def interrupted(world: World, scene: str, at: int) -> bool:
    """Cancel a call at a step; return whether it had that many."""
    prepare, act = SCENES[scene]
    await prepare(world)
    task: asyncio.Task[Any] = asyncio.ensure_future(act(world))
    steps = Steps(at, task.cancel)
    with pytest.MonkeyPatch.context() as patch:
        steps.watch(world, patch)
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return steps.count >= at


@pytest.mark.slow
@pytest.mark.parametrize("check", [assert_ensured, assert_released])
@pytest.mark.parametrize("scene", SCENES)
async def test_cancelled_at_each_step(
    client: AsyncOpenRouter, emulator: Emulator, scene: str, check: Check
) -> None:
    at, goes_on = 0, True
    while goes_on:
        at += 1
        emulator.account.clear()
        emulator.account.add("another's")  # an empty list proves nothing
        async with Journal.open(":memory:") as journal:
            world = World(client, emulator, journal)
            goes_on = await interrupted(world, scene, at)
            if scene == "release of a rejected key":
                await assert_released(world)
                continue
            try:
                await check(world)
            except BaseException as error:
                error.add_note(f"step {at}")
                raise
    assert at > 3
