"""Rotation of keys that others change, whose twins nobody has, or are in doubt."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys import (
    AsyncOpenRouter,
    KeySpec,
    ProvisioningStoppedError,
    ProvisionProgress,
    ProvisionResult,
)
from openrouter_keys.converter import encode
from openrouter_keys.emulator import Emulator, Fault, StoredKey
from openrouter_keys.journal.journal import Journal
from tests.journals import HASH, SECRET
from tests.provisions import refuse
from tests.rotations import (
    Taker,
    assert_one_twin_each,
    hashes,
    live,
    old_keys,
    states,
    told,
    twin_of,
)

DAY_BEFORE = datetime.now(UTC) - timedelta(days=1)


# --- keys that others change ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"disabled": True}, "is disabled"),
        ({"expires_at": datetime.now(UTC) - timedelta(days=1)}, "has expired"),
        ({"limit_reset": "yearly"}, "limit_reset"),
        ({"name": ""}, "name"),
    ],
)
async def test_a_key_that_cannot_have_a_twin_is_told_and_stops_no_other(
    *,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taker: Taker,
    attributes: dict[str, Any],
    reason: str,
) -> None:
    (good,) = old_keys(emulator, 1)
    bad = emulator.account.add(**{"name": "bad", **attributes})
    report = await client.rotate(
        [bad.hash, good.hash], journal=path, on_result=taker, retire_after=0
    )
    (problem,) = report.failures
    assert (problem.ref, problem.hashes) == (bad.hash, (bad.hash,))
    assert reason in problem.reason
    assert (report.ok, report.failed, report.rotated, report.retired) == (False, 1, 1, 1)
    assert bad.hash in emulator.account.keys
    assert [*await told(path)] == [good.hash]


async def test_a_key_that_does_not_tell_its_workspace_is_not_rotated(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.account.hidden_fields = {"workspace_id"}
    (old,) = old_keys(emulator, 1)
    report = await client.rotate([old.hash], journal=path)
    assert "workspace" in report.failures[0].reason
    assert emulator.count("create") == 0


async def test_an_answer_about_another_key_is_not_believed(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    (old,) = old_keys(emulator, 1)
    emulator.account.keys[old.hash.upper()] = old
    report = await client.rotate([old.hash.upper()], journal=path)
    assert "another key" in report.failures[0].reason
    assert emulator.count("create") == 0


@pytest.mark.slow
async def test_an_old_key_that_somebody_deleted_is_done(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 2)
    await client.rotate(hashes(old), journal=path, on_result=taker)
    emulator.account.delete(old[0].hash)
    old[1].disabled = True
    report = await client.rotate((), journal=path, retire_after=0)
    assert (report.ok, report.retired) == (True, 2)
    assert_one_twin_each(emulator, old, taker)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["deleted", "disabled"])
async def test_an_old_key_is_not_retired_while_its_twin_does_not_work(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker, how: str
) -> None:
    old = old_keys(emulator, 2)
    await client.rotate(hashes(old), journal=path, on_result=taker)
    twin = twin_of(emulator, old[0])
    if how == "deleted":
        emulator.account.delete(twin.hash)
    else:
        twin.disabled = True

    report = await client.rotate((), journal=path, retire_after=0)

    assert (report.ok, report.retired, report.waiting, report.failed) == (False, 1, 1, 1)
    assert live(emulator, old) == [True, False]
    assert report.failures[0].ref == old[0].hash
    assert twin.hash in report.failures[0].reason
    assert (await told(path))[old[0].hash].problem == report.failures[0].reason


@pytest.mark.slow
async def test_a_key_that_is_said_to_be_disabled_and_is_not_is_not_deleted(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path, on_result=taker)
    shown = encode((await client.api_keys.get(old.hash)).data)
    emulator.faults.append(Fault("update", "body", body=b'{"data": %s}' % shown))
    report = await client.rotate((), journal=path, retire_after=0)
    assert "shows no change of disabled" in report.failures[0].reason
    assert old.hash in emulator.account.keys


@pytest.mark.slow
@pytest.mark.parametrize("how", ["deleted", "disabled"])
@pytest.mark.parametrize("fault", [Fault("create", status=400), Fault("create", status=402)])
async def test_who_was_cut_off_after_the_plan_gets_no_twin(
    *,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taker: Taker,
    how: str,
    fault: Fault,
) -> None:
    old = old_keys(emulator, 1)
    emulator.account.add("another")  # without any key, it may be another account
    emulator.faults.append(fault)
    with suppress(ProvisioningStoppedError):
        await client.rotate(hashes(old), journal=path, on_result=taker)
    if how == "deleted":
        emulator.account.delete(old[0].hash)
    else:
        old[0].disabled = True

    report = await client.rotate((), journal=path, on_result=taker, retire_after=0)

    assert (report.ok, report.rotated, report.failed) == (False, 0, 1)
    assert report.failures[0].ref == old[0].hash
    assert emulator.count("create") == 1
    assert taker.taken == []
    heard: list[ProvisionProgress] = []
    again = await client.rotate(
        (), journal=path, on_result=taker, retire_after=0, on_progress=heard.append
    )
    assert heard[-1].total == 0
    if how == "deleted":
        assert (again.ok, await states(path)) == (True, ["deleted"])
        return
    assert (again.failed, again.pending, await states(path)) == (1, 1, ["planned"])
    old[0].disabled = False
    again = await client.rotate((), journal=path, on_result=taker, retire_after=0)
    assert (again.ok, again.rotated, again.retired) == (True, 1, 1)


@pytest.mark.slow
async def test_a_twin_that_is_made_is_handed_over_though_its_old_key_is_gone(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)

    with pytest.raises(ProvisioningStoppedError):
        await client.rotate([old.hash], journal=path, on_result=refuse)
    emulator.account.delete(old.hash)
    report = await client.rotate((), journal=path, on_result=taker, retire_after=0)
    assert (report.ok, report.rotated, report.retired) == (True, 1, 1)
    assert_one_twin_each(emulator, [old], taker)


@pytest.mark.parametrize("change", ["limit", "name", "both", "there and back"])
async def test_a_replacement_that_is_planned_anew_while_the_call_goes_on(
    change: str, emulator: Emulator, client: AsyncOpenRouter, taker: Taker
) -> None:
    """Its create was refused, and an update plans it anew: that row alone waits for a call."""
    specs = [KeySpec(ref=ref, name=ref, limit=5) for ref in "abc"]
    changes: dict[str, dict[str, Any]] = {
        "limit": {"limit": 9},
        "name": {"name": "new"},
        "both": {"limit": 9, "name": "new"},
        "there and back": {"limit": 5},
    }
    wanted = evolve(specs[2], **changes[change])
    async with Journal.open(":memory:") as journal:
        await client.provision(specs, journal=journal, concurrency=1)
        old = [*emulator.account.keys]
        emulator.faults.append(Fault("create", status=400, times=3))
        await client.rotate(old, journal=journal, on_result=taker)

        updated = asyncio.Event()

        async def take(result: ProvisionResult) -> None:
            taker(result)
            if len(taker.taken) == 1:
                await client.ensure(evolve(specs[2], limit=7), journal=journal)
                await client.ensure(wanted, journal=journal)
                updated.set()
            await updated.wait()  # the last one is in the queue until then

        report = await client.rotate((), journal=journal, on_result=take, concurrency=1)
        if change == "there and back":
            assert (report.rotated, report.failures) == (3, ())
        else:
            assert report.rotated == 2
            (problem,) = report.failures
            assert (problem.ref, "changed meanwhile" in problem.reason) == (old[2], True)
        report = await client.rotate((), journal=journal, on_result=taker, retire_after=0)
        assert (report.ok, report.waiting) == (True, 0)
        key = emulator.account.keys[str((await journal.succession("c"))[-1].hash)]
        assert (key.name, key.limit) == (wanted.name, wanted.limit)


# --- twins that nobody has ---


async def test_a_twin_that_was_not_handed_over_is_never_a_reason_to_retire(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 3)

    with pytest.raises(ProvisioningStoppedError):
        await client.rotate(
            hashes(old), journal=path, on_result=refuse, retire_after=0, concurrency=1
        )
    assert "made" in await states(path)

    confirmed = await client.rotate((), journal=path, retire_after=0)

    assert (confirmed.ok, confirmed.retired, confirmed.pending) == (False, 0, 3)
    assert "3 without a replacement in hand" in str(confirmed)
    assert live(emulator, old) == [True] * 3
    made = {key.secret for key in emulator.account.keys.values()} - {key.secret for key in old}
    await client.rotate((), journal=path, on_result=taker, retire_after=0)
    assert made <= {*taker.secrets.values()}
    assert_one_twin_each(emulator, old, taker)


@pytest.mark.slow
async def test_secrets_that_are_not_stored_are_made_anew(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 2)

    with pytest.raises(ProvisioningStoppedError):
        await client.rotate(hashes(old), journal=path, on_result=refuse, store_secrets=False)
    await client.rotate((), journal=path, on_result=taker, retire_after=0, store_secrets=False)
    assert_one_twin_each(emulator, old, taker)


@pytest.mark.slow
async def test_a_twin_that_is_not_as_asked_for_is_no_reason_to_retire(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    emulator.faults.append(Fault("create", status=400))
    await client.rotate([old.hash], journal=path, on_result=taker)
    emulator.account.extra_fields = {"limit": 40}
    report = await client.rotate((), journal=path, on_result=taker, retire_after=0)
    assert (report.failed, report.retired, report.pending, taker.taken) == (1, 0, 1, [])
    assert "limit" in report.failures[0].reason
    assert live(emulator, [old]) == [True]
    assert twin_of(emulator, old).disabled


# --- creates in doubt ---


@pytest.mark.slow
async def test_a_reconcile_never_takes_an_old_key_for_its_twin(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    # Made a moment ago, never used, and asked for just as its twin is.
    old = old_keys(emulator, 3, usage=0)
    emulator.faults.append(Fault("create", "closed", times=3))
    report = await client.rotate(hashes(old), journal=path, on_result=taker)
    assert (report.ok, report.rotated) == (True, 3)
    assert live(emulator, old) == [True] * 3
    assert emulator.count("delete") == 0


async def leave_in_doubt(
    emulator: Emulator, client: AsyncOpenRouter, old: StoredKey, path: Path
) -> StoredKey:
    """Interrupt a rotation whose twin is made, and not answered for; return that twin."""
    emulator.faults.append(Fault("create", "stalled", phase="after"))
    run = asyncio.create_task(client.rotate([old.hash], journal=path))
    before = len(emulator.account.keys)
    async with asyncio.timeout(20):
        while len(emulator.account.keys) == before:
            await asyncio.sleep(0.001)
    run.cancel()
    await asyncio.wait({run})
    return [*emulator.account.keys.values()][-1]


@pytest.mark.slow
async def test_what_may_be_a_twin_in_doubt_is_not_rotated_in_turn(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1, created_at=DAY_BEFORE)
    orphan = await leave_in_doubt(emulator, client, old, path)

    report = await client.rotate([*emulator.account.keys], journal=path, on_result=taker)

    assert (report.rotated, report.failed) == (1, 1)
    assert report.failures[0].ref == orphan.hash
    assert "in doubt" in report.failures[0].reason
    assert len(emulator.account.keys) == 2
    assert (await client.rotate((), journal=path, retire_after=0)).ok
    assert_one_twin_each(emulator, [old], taker)


@pytest.mark.slow
async def test_what_may_have_landed_late_is_not_rotated_either(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1, created_at=DAY_BEFORE)
    orphan = await leave_in_doubt(emulator, client, old, path)
    async with Journal.open(path) as journal:  # as if its create had been written off
        await journal.claim(old.hash)
        await journal.again(old.hash, datetime.now(UTC))
        await journal.keep(old.hash, secret=SECRET, hash=HASH, settled=True)

    report = await client.rotate([orphan.hash], journal=path, on_result=taker)

    assert "in doubt" in report.failures[0].reason
    assert [*emulator.account.keys.values()] == [old]


@pytest.mark.slow
async def test_what_a_create_in_doubt_made_in_the_default_workspace_is_not_rotated(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults.append(Fault("create", "stalled", phase="after"))
    run = asyncio.create_task(client.provision([KeySpec(ref="r", name="n")], journal=path))
    async with asyncio.timeout(20):
        while not emulator.account.keys:
            await asyncio.sleep(0.001)
    run.cancel()
    await asyncio.wait({run})
    report = await client.rotate([*emulator.account.keys], journal=path)
    assert (report.failed, report.rotated, emulator.account.keys) == (1, 0, {})


@pytest.mark.slow
async def test_a_doubt_keeps_no_older_key_of_the_same_name_from_being_rotated(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1, created_at=DAY_BEFORE)
    other = emulator.account.add(old.name, limit=99, created_at=DAY_BEFORE)
    await leave_in_doubt(emulator, client, old, path)
    report = await client.rotate([other.hash], journal=path, on_result=taker, retire_after=0)
    assert (report.ok, report.rotated) == (True, 2)
    assert_one_twin_each(emulator, [old, other], taker)


@pytest.mark.slow
async def test_a_twin_that_was_not_handed_over_yet_is_not_rotated_either(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    with pytest.raises(ProvisioningStoppedError):
        await client.rotate([old.hash], journal=path, on_result=refuse)
    report = await client.rotate([*emulator.account.keys], journal=path, on_result=taker)
    assert (report.rotated, report.skipped, report.ok) == (1, 1, True)
    assert emulator.count("create") == 1


@pytest.mark.slow
async def test_a_hash_that_is_a_ref_of_another_key_is_not_rotated_with_that_journal(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.provision([KeySpec(ref=old.hash, name="customer-0", limit=7)], journal=path)
    report = await client.rotate([old.hash], journal=path)
    assert "another journal" in report.failures[0].reason
    assert (await client.rotate((), journal=path, retire_after=0)).retired == 0
    assert live(emulator, [old]) == [True]
