"""`ensure` and `release` beside a rotation: an update is not lost, and no replacement is left."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from openrouter_keys.emulator import Emulator, Fault, StoredKey
from openrouter_keys.errors import CreateOutcomeUnknownError, OpenRouterError
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
    world.client._transport.grace = 0.1
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


def _only(emulator: Emulator) -> StoredKey:
    (key,) = emulator.account.keys.values()
    return key


def _take(_: ProvisionResult) -> None:
    """Take a secret."""


async def _rotate(world: World, old: str, **given: Any) -> Any:
    journal = world.journal
    given = {"on_result": _take, "retire_after": 0, "quiet_period": 1, **given}
    return await world.client.rotate([old], journal=journal, **given)


_STOPPED = Fault("create", status=402)
_REFUSED = Fault("create", status=400)
_LOST = Fault("create", status=502, phase="after")


_MONTHLY = {"limit_reset": "monthly"}


@pytest.mark.parametrize(
    ("before", "after", "terms", "live"),
    [
        ({"limit": 50, **_MONTHLY}, {"limit": 5, **_MONTHLY}, {}, 5),
        ({"limit": 5, **_MONTHLY}, {"limit": 50, **_MONTHLY}, {}, 50),
        ({"limit": 10}, {"limit": 20}, {}, 16),
        ({"limit": 10}, {"limit": 20}, {"fault": _REFUSED}, 16),
        ({"limit": 10}, {"limit": 20}, {"fault": _LOST}, 16),
        ({"limit": 10}, {"limit": 2}, {}, 0),
        ({"limit": 10}, {"limit": 20}, {"budget": "full"}, 20),
        ({"limit": 10}, {"limit": None}, {}, None),
        ({"limit": None}, {"limit": 10}, {}, 6),
        ({"limit": 10, "limit_reset": None}, {"limit": 10, **_MONTHLY}, {}, 10),
        ({"limit": 10}, {"limit": 20}, {"limit": 7}, 7),
        ({"limit": 10}, {"limit": 10, "name": "another"}, {}, 6),
    ],
)
async def test_a_replacement_that_is_planned_follows_an_update(
    world: World,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    terms: Mapping[str, Any],
    live: float | None,
) -> None:
    """3 are spent before the plan, and 1 after it."""
    emulator, given = world.emulator, dict(terms)
    fault = given.pop("fault", _STOPPED)
    old = (await world.ensure(spec(**before))).data.hash
    emulator.account.spend(old, 3)
    emulator.faults.append(fault)
    rotating = asyncio.create_task(_rotate(world, old, **given))
    while emulator.count("create") < 2 and not rotating.done():
        await asyncio.sleep(0)
    if fault is _LOST:
        rotating.cancel()
    await asyncio.wait([rotating])
    emulator.faults.clear()
    emulator.account.spend(old, 1)
    ensured = await world.ensure(spec(**after), wait=600)
    assert (ensured.outcome, ensured.data.limit) == ("updated", after["limit"])
    report = await _rotate(world, old)
    assert (report.retired, report.failures) == (1, ())
    ensured = await world.ensure(spec(**after), verify=True)
    assert (ensured.outcome, ensured.data.hash) == ("existing", _only(emulator).hash)
    assert ensured.data.hash != old
    assert (ensured.data.limit, ensured.data.name) == (live, after.get("name", ensured.data.name))


@pytest.mark.parametrize("limit", [5, 50])
@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        (Fault("get", "slow", delay=0.3, phase="before"), "get"),
        (Fault("get", "slow", delay=0.3, phase="after"), "get"),
        (Fault("create", "slow", delay=0.3, phase="before"), "create"),
        (Fault("create", "slow", delay=0.3, phase="after"), "create"),
    ],
    ids=["not-read", "read", "not-made", "made"],
)
async def test_an_update_beside_a_rotation_is_not_lost(
    world: World, emulator: Emulator, limit: int, fault: Fault, sent: str
) -> None:
    old = (await world.ensure(spec(limit=20, limit_reset="monthly"))).data.hash
    emulator.requests.clear()
    emulator.faults.append(fault)
    rotating = asyncio.create_task(_rotate(world, old))
    while not emulator.count(sent):
        await asyncio.sleep(0)
    asked = spec(limit=limit, limit_reset="monthly")
    assert (await world.ensure(asked, wait=600)).data.limit == limit
    await rotating
    await _rotate(world, old)
    ensured = await world.ensure(asked, verify=True)
    assert (ensured.data.hash, ensured.data.limit) == (_only(emulator).hash, limit)
    assert ensured.data.hash != old


@pytest.mark.parametrize("phase", ["before", "after"])
async def test_a_rotation_follows_an_update_without_an_answer(
    world: World, emulator: Emulator, phase: str
) -> None:
    old = (await world.ensure(spec(limit=20))).data.hash
    emulator.faults.append(Fault("update", status=502, phase=phase, times=9))  # type: ignore[arg-type]
    with pytest.raises(OpenRouterError):
        await world.ensure(spec(limit=5))
    emulator.faults.clear()
    assert (await _rotate(world, old)).retired == 1
    assert _only(emulator).limit == 5
    assert (await world.ensure(spec(limit=5))).data.limit == 5
    assert (await world.ensure(spec(limit=20))).data.limit == 20
    assert _only(emulator).limit == 20


async def test_an_update_waits_for_a_replacement_no_longer_than_it_is_to(
    world: World, emulator: Emulator
) -> None:
    old = (await world.ensure(spec(limit=20))).data.hash
    emulator.faults.append(Fault("create", "stalled", phase="after"))
    rotating = asyncio.create_task(_rotate(world, old))
    while emulator.count("create") < 2:
        await asyncio.sleep(0)
    with pytest.raises(CreateOutcomeUnknownError):
        await world.ensure(spec(limit=5), wait=0)
    assert not emulator.count("update")
    world.client._transport.grace = 0.1
    rotating.cancel()
    await asyncio.wait([rotating])


@pytest.mark.parametrize(
    ("operation", "phase"),
    [("get", "after"), ("update", "before"), ("update", "after"), ("delete", "before")],
)
@pytest.mark.parametrize("limit", [100, 20])
async def test_a_retirement_undoes_no_update(
    world: World, emulator: Emulator, operation: Any, phase: Any, limit: int
) -> None:
    old = (await world.ensure(spec(limit=50))).data.hash
    await _rotate(world, old, retire_after=None)
    emulator.account.spend(old, 10)
    emulator.requests.clear()
    emulator.faults.append(Fault(operation, "slow", delay=0.3, phase=phase))
    rotating = asyncio.create_task(_rotate(world, old))
    while not emulator.count(operation):
        await asyncio.sleep(0)
    ensured = await world.ensure(spec(limit=limit), wait=600)
    assert (ensured.outcome, ensured.data.limit) == ("updated", limit)
    assert (await rotating).retired == 1
    assert _only(emulator).limit == limit


@pytest.mark.parametrize("state", ["old", "disabled"])
async def test_no_key_is_retired_while_its_replacement_is_changed(
    world: World, emulator: Emulator, state: str
) -> None:
    """The next call retires it."""
    old = (await world.ensure(spec(limit=50))).data.hash
    await _rotate(world, old, retire_after=None)
    if state == "disabled":
        emulator.account.keys[old].disabled = True
        await world.journal.advance_rotation(old, OldKey.DISABLED)
    emulator.account.spend(old, 10)
    emulator.faults.append(Fault("update", "slow", delay=0.3, phase="before"))
    updating = asyncio.create_task(world.ensure(spec(limit=100)))
    while not emulator.count("update"):
        await asyncio.sleep(0)
    report = await _rotate(world, old)
    assert report.retired == 0
    (failure,) = report.failures
    assert "another process is changing its replacement" in failure.reason
    assert (await updating).data.limit == 100
    assert (await _rotate(world, old)).retired == 1
    assert _only(emulator).limit == 100


async def test_a_retirement_leaves_the_replacement_of_one_key_before_it_ends_another(
    world: World, emulator: Emulator
) -> None:
    first, second = [(await world.ensure(spec(ref, limit=50))).data.hash for ref in "ab"]
    for old in (first, second):
        await _rotate(world, old, retire_after=None)
    emulator.faults.append(Fault("delete", "slow", delay=0.5, phase="before", times=1))
    rotating = asyncio.create_task(_rotate(world, first))
    while len(emulator.account.keys) > 3:
        await asyncio.sleep(0)
    (deleted,) = {first, second} - emulator.account.keys.keys()
    ref = "a" if deleted == first else "b"
    assert (await world.ensure(spec(ref, limit=60), wait=600)).data.limit == 60
    assert not rotating.done()
    assert (await rotating).retired == 2
