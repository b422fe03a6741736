"""`provision` on a journal in which `ensure` and `release` were interrupted."""

import pytest

from openrouter_keys import ProvisioningStoppedError
from openrouter_keys.errors import PlanChangedError
from openrouter_keys.journal.schema import State
from tests.ensuring.conftest import LIMITED
from tests.ensuring.rows import World, row, secrets
from tests.ensuring.scenes import SCENES
from tests.journals import spec


@pytest.mark.parametrize(
    "scene", ["release", "release of a replacement", "release of two keys", "release in doubt"]
)
async def test_a_release_that_was_interrupted(world: World, scene: str) -> None:
    """The old key goes with its replacements; one new key is made, whatever its spec."""
    await SCENES[scene][0](world)
    world.emulator.account.add("another's")
    async with world.journal.begin() as run:
        await run.claim("r", settled=True)
        if scene == "release in doubt":
            world.emulator.account.keys.popitem()
            world.emulator.account.keys.clear()
            world.emulator.account.add("another's")
            await run.resolve("r", "nothing is left")
        await run.release("r")
    report = await world.client.provision([spec(limit=6)], journal=world.journal)
    assert report.created == 1, report
    entry = await row(world.journal)
    assert (entry.state, secrets(world.emulator)[1:]) == (State.SETTLED, [entry.secret])
    assert [each.ref async for each in world.journal.every()] == ["r"]


async def test_a_released_hash_that_is_only_claimed_is_left(world: World) -> None:
    mine, theirs = (world.emulator.account.add(name) for name in ("customer-r", "theirs"))
    assert mine.secret is not None
    async with world.journal.begin() as run:
        await run.intend(LIMITED, world.client._transport.clockwork.now())
        await run.keep("r", secret=mine.secret, hash=theirs.hash, settled=True)
        await run.claim("r", settled=True)
        await run.release("r")
    report = await world.client.provision([LIMITED], journal=world.journal)
    assert (report.created, report.failed) == (0, 1)
    assert theirs.hash in world.emulator.account.keys


async def test_an_update_that_was_interrupted_changes_no_spec(world: World) -> None:
    """The journal has the old spec until an update is through; then the old one is refused."""
    await world.bring("wanted")
    report = await world.client.provision([LIMITED], journal=world.journal)
    assert report.settled_before == 1
    await world.ensure(spec(limit=7))
    with pytest.raises(ProvisioningStoppedError) as caught:
        await world.client.provision([LIMITED], journal=world.journal)
    assert isinstance(caught.value.__cause__, PlanChangedError)
