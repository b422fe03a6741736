"""`release` of a key while a rotation makes its replacement: neither is left."""

import asyncio

import pytest

from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.errors import CreateOutcomeUnknownError
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import OldKey, State
from openrouter_keys.provisioning.report import ProvisionResult
from openrouter_keys.rotation.retirement import Retirement
from tests.ensuring.conftest import LIMITED
from tests.ensuring.rows import World, secrets
from tests.journals import spec


@pytest.mark.parametrize("kind", ["slow", "lost", "planned", "looked"])
async def test_release_leaves_no_replacement(world: World, emulator: Emulator, kind: str) -> None:
    """Its create is under way, was lost, or is not sent yet, or not planned yet."""
    old = (await world.ensure(LIMITED)).data.hash
    fault = {
        "slow": Fault("create", "slow", delay=0.2, phase="before"),
        "lost": Fault("create", status=502, phase="after"),
        "planned": Fault("get", "slow", delay=0.2, phase="before"),
        "looked": Fault("get", "slow", delay=0.5, phase="after"),
    }[kind]
    handed: list[ProvisionResult] = []
    emulator.faults.append(fault)
    rotating = asyncio.create_task(
        world.client.rotate([old], journal=world.journal, on_result=handed.append, retire_after=0)
    )
    while kind in ("slow", "lost") and emulator.count("create") < 2 and not rotating.done():
        await asyncio.sleep(0.01)
    while kind == "looked" and emulator.count("get") < 1:
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


async def test_release_sees_a_rotation_that_begins_meanwhile(
    world: World, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = (await world.ensure(LIMITED)).data.hash
    ask, begun = Journal.is_anothers, False

    async def asking(self: Journal, entry: Entry) -> bool:
        nonlocal begun
        if not begun:
            begun = True
            report = await world.client.rotate(
                [old], journal=world.journal, on_result=lambda _: None
            )
            assert report.rotated == 1
        return await ask(self, entry)

    monkeypatch.setattr(Journal, "is_anothers", asking)
    assert await world.release(wait=600)
    assert begun
    assert secrets(emulator) == []
    assert [entry.ref async for entry in world.journal.every()] == []


async def test_a_create_and_a_replacement_in_doubt_of_one_name_are_settled_together(
    world: World, emulator: Emulator
) -> None:
    """The one named no workspace, the other that of the old key."""
    old = (await world.ensure(spec("a", name="same"))).data.hash
    emulator.faults.append(Fault("create", "stalled", phase="after", times=2))
    calls = [
        asyncio.create_task(call)
        for call in (
            world.client.rotate([old], journal=world.journal, on_result=lambda _: None),
            world.ensure(spec("b", name="same")),
        )
    ]
    while len(emulator.account.keys) < 3:
        await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert len(emulator.account.keys) == 3
    ensured = await world.ensure(spec("b", name="same"), wait=600)
    assert ensured.outcome == "created"
    assert {old, ensured.data.hash} == emulator.account.keys.keys()


async def test_a_rotation_that_waits_to_retire_old_keys_holds_no_other_ref(
    world: World, emulator: Emulator
) -> None:
    """It has settled what was in doubt before, and that is free for others then."""
    old = (await world.ensure(spec("a"))).data.hash
    emulator.faults.append(Fault("create", status=502, phase="after"))
    with pytest.raises(CreateOutcomeUnknownError):
        await world.ensure(spec("b"), wait=0)
    retires = asyncio.Event()

    async def wait(_: Retirement) -> int:
        retires.set()
        return await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Retirement, "retire_all", wait)
        rotating = asyncio.create_task(
            world.client.rotate(
                [old], journal=world.journal, on_result=lambda _: None, retire_after=3600
            )
        )
        await retires.wait()
        assert (await world.ensure(spec("b"))).outcome == "created"
        assert await world.release("b")
        rotating.cancel()
        await asyncio.wait([rotating])
