"""`release` of a key while a rotation makes its replacement: neither is left."""

import asyncio

import pytest

from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.journal.schema import OldKey, State
from openrouter_keys.provisioning.report import ProvisionResult
from tests.ensuring.conftest import LIMITED
from tests.ensuring.rows import World, secrets


@pytest.mark.parametrize("kind", ["slow", "lost", "planned"])
async def test_release_leaves_no_replacement(world: World, emulator: Emulator, kind: str) -> None:
    """Its create is under way, was lost, or is not sent yet."""
    old = (await world.ensure(LIMITED)).data.hash
    fault = {
        "slow": Fault("create", "slow", delay=0.2, phase="before"),
        "lost": Fault("create", status=502, phase="after"),
        "planned": Fault("get", "slow", delay=0.2, phase="before"),
    }[kind]
    handed: list[ProvisionResult] = []
    emulator.faults.append(fault)
    rotating = asyncio.create_task(
        world.client.rotate([old], journal=world.journal, on_result=handed.append, retire_after=0)
    )
    while kind != "planned" and emulator.count("create") < 2 and not rotating.done():
        await asyncio.sleep(0.01)
    if kind == "lost":
        rotating.cancel()
        await asyncio.wait([rotating])
    assert await world.release(wait=600)
    await asyncio.wait([rotating])
    assert secrets(emulator) == []
    assert [entry.ref async for entry in world.journal.every()] == []
    left = [rotation.old_key async for rotation in world.journal.rotations()]
    assert {*left} <= {OldKey.DELETED}
    ensured = await world.ensure(LIMITED, wait=600)
    assert secrets(emulator) == [ensured.key]
    assert [entry.state async for entry in world.journal.every()] == [State.SETTLED]
