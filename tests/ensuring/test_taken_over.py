"""A run whose rows are taken over at each step of its call: it hands over no key but the live one.

It seems to be gone for as long as another call takes, as that of a process that is stopped does.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import pytest

from openrouter_keys import AsyncOpenRouter, Ensured
from openrouter_keys.emulator import Emulator
from openrouter_keys.errors import OpenRouterError, TakenOverError
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.store import Store
from tests.ensuring.rows import World, secrets
from tests.ensuring.scenes import AFTER, BEFORE, SCENES, Steps, assert_ensured, assert_released
from tests.provisions import JumpingTime, client_of

Act: TypeAlias = Callable[[World], Awaitable[object]]


async def ensures(world: World) -> Ensured:
    return await world.ensure(AFTER, wait=600, verify=True, recreate=True)


def _never(_: Store, __: int) -> bool:
    return False


async def taking_over(act: Act, world: World) -> object:
    """Do something while all other runs seem to be gone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "lives", _never)
        return await act(world)


async def releases(world: World) -> bool:
    return await world.release(wait=600)


@pytest.mark.slow
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
            async with Journal.open(":memory:") as journal:
                world = World(client, emulator, journal)
                prepare, call = SCENES[scene]
                await prepare(world)
                steps = Steps(at, partial(taking_over, act, World(other, emulator, journal)))
                try:
                    async with steps.beside(client):
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
                    error.add_note(f"step {at}; {got!r}; {steps.came!r}")
                    raise
                goes_on = steps.count >= at
    assert at > 3


CALLS: dict[str, Act] = {
    "ensure": lambda world: world.ensure(BEFORE, wait=600),
    "ensure of another spec": lambda world: world.ensure(AFTER, wait=600),
    "release": lambda world: world.release(wait=600),
    "provision": lambda world: world.client.provision([BEFORE], journal=world.journal),
}


@pytest.mark.parametrize("ends_with_process", [True, False])
@pytest.mark.parametrize("call", CALLS)
async def test_a_create_of_a_run_that_may_only_be_cut_off_is_waited_for(
    call: str,
    *,
    ends_with_process: bool,
    world: World,
    time: JumpingTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Store, "ends_with_process", ends_with_process)
    async with world.journal.begin(200) as other:
        await other.intend(BEFORE, time.now())
    await CALLS[call](world)
    assert sum(time.slept) >= (30 if ends_with_process else 225)
    assert (sum(time.slept) < 200) is ends_with_process
