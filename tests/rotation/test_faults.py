"""Rotation while the service fails: never two live twins, and no old key retired too early."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from openrouter_keys import (
    AsyncOpenRouter,
    ProvisioningStoppedError,
    RotationReport,
)
from openrouter_keys.emulator import Emulator, Fault, StoredKey
from openrouter_keys.errors import JournalError
from openrouter_keys.journal import entries
from tests.provisions import client_of
from tests.rotations import (
    Taker,
    assert_none_retired_too_early,
    assert_one_twin_each,
    hashes,
    live,
    old_keys,
    states,
)


def once(kind: Any, **given: Any) -> Callable[[Any], Fault]:
    return lambda operation: Fault(operation, kind, times=3, **given)


FAULTS: dict[str, Callable[[Any], Fault]] = {
    "429": once("status", status=429, headers={"Retry-After": "1"}),
    "400": once("status", status=400),
    "403": once("status", status=403),
    "404": once("status", status=404),
    "500": once("status", status=500),
    "502, done": once("status", status=502, phase="after"),
    "503": once("status", status=503),
    "521": once("status", status=521),
    "closed": once("closed"),
    "closed, done": once("closed", phase="after"),
    "reset, done": once("reset", phase="after"),
    "cut": once("cut", phase="after"),
    "no JSON": once("not_json", phase="after"),
    "empty": once("empty", phase="after"),
    "garbage": once("garbage", phase="after"),
}


async def rotate_until_whole(
    client: AsyncOpenRouter, old: list[StoredKey], path: Path, taker: Taker, calls: int = 6
) -> None:
    """The same call, until it says that all is well."""
    report: RotationReport | None = None
    for _ in range(calls):
        try:
            report = await client.rotate(
                hashes(old), journal=path, on_result=taker, retire_after=0, concurrency=3
            )
        except ProvisioningStoppedError:
            continue
        if report.ok:
            return
    raise AssertionError(f"not whole after {calls} calls: {report}")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("operation", ["get", "update", "delete", "create", "list"])
async def test_whatever_fails_the_same_call_ends_with_one_twin_for_each(
    *,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taker: Taker,
    operation: str,
    name: str,
) -> None:
    old = old_keys(emulator, 5)
    emulator.faults.append(FAULTS[name](operation))
    if (operation, name) == ("get", "404"):
        # Those are told to be gone, and so are rotated by another call, which looks again.
        report = await client.rotate(hashes(old), journal=path, on_result=taker)
        assert (report.failed, report.rotated) == (3, 2)
    await rotate_until_whole(client, old, path, taker)
    assert_one_twin_each(emulator, old, taker)
    assert_none_retired_too_early(emulator, hashes(old), taker)
    assert await states(path) == ["deleted"] * 5


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["create", "update", "delete"])
async def test_what_lands_late_is_waited_for(
    emulator: Emulator, path: Path, taker: Taker, operation: Any
) -> None:
    old = old_keys(emulator, 4)
    emulator.faults.append(Fault(operation, "late", times=2, delay=0.2))
    async with client_of(emulator) as client:
        report = await client.rotate(
            hashes(old), journal=path, on_result=taker, retire_after=0, quiet_period=0.5
        )
    assert report.ok
    assert_one_twin_each(emulator, old, taker)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_through_a_storm_of_faults_no_twin_is_made_twice(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker, seed: int
) -> None:
    chance = Random(seed)
    old = old_keys(emulator, 20)
    kinds = [name for name in FAULTS if name not in ("404", "403")]
    for operation in ("get", "update", "delete", "create"):
        for name in chance.sample(kinds, 4):
            emulator.faults.append(FAULTS[name](operation))
    chance.shuffle(emulator.faults)
    await rotate_until_whole(client, old, path, taker, calls=12)
    assert_one_twin_each(emulator, old, taker)
    assert_none_retired_too_early(emulator, hashes(old), taker)


# --- stops and cancels ---


async def test_a_stop_is_let_through_and_nothing_is_retired(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 4)
    emulator.faults.append(Fault("create", status=402, skip=2))
    with pytest.raises(ProvisioningStoppedError) as caught:
        await client.rotate(
            hashes(old), journal=path, on_result=taker, retire_after=0, concurrency=1
        )
    assert caught.value.report.created == 2
    assert live(emulator, old) == [True] * 4
    await rotate_until_whole(client, old, path, taker)
    assert_one_twin_each(emulator, old, taker)


async def test_a_failure_to_retire_one_stops_no_other(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 5)
    emulator.faults += [Fault("update", status=403), Fault("delete", status=500, times=3, skip=1)]
    report = await client.rotate(
        hashes(old), journal=path, on_result=taker, retire_after=0, concurrency=1
    )
    assert (report.ok, report.rotated, report.waiting) == (False, 5, report.failed)
    assert report.failed in (1, 2)
    assert report.retired == 5 - report.failed
    again = await client.rotate((), journal=path, retire_after=0)
    assert (again.ok, again.retired) == (True, report.failed)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["get", "create", "update", "delete"])
@pytest.mark.parametrize("phase", ["before", "after"])
async def test_a_cancelled_call_is_gone_on_with(
    *,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taker: Taker,
    operation: Any,
    phase: Any,
) -> None:
    old = old_keys(emulator, 6)
    emulator.faults.append(Fault(operation, "stalled", phase=phase, times=None, skip=2))
    run = asyncio.create_task(
        client.rotate(hashes(old), journal=path, on_result=taker, retire_after=0, concurrency=3)
    )
    async with asyncio.timeout(20):
        while not any(request.fault for request in emulator.requests):
            await asyncio.sleep(0.001)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    emulator.faults.clear()
    await rotate_until_whole(client, old, path, taker)
    assert_one_twin_each(emulator, old, taker)
    assert_none_retired_too_early(emulator, hashes(old), taker)


@pytest.mark.slow
async def test_a_call_that_is_cancelled_while_it_waits_retires_nothing(
    emulator: Emulator, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 3)
    async with client_of(emulator) as client:
        run = asyncio.create_task(
            client.rotate(hashes(old), journal=path, on_result=taker, retire_after=600)
        )
        async with asyncio.timeout(20):
            while len(taker.taken) < 3:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert live(emulator, old) == [True] * 3
        assert (await client.rotate((), journal=path, retire_after=0)).retired == 3


async def test_a_journal_that_cannot_be_written_retires_nothing_more(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = old_keys(emulator, 3)
    await client.rotate(hashes(old), journal=path)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(entries, "change", full)
    with pytest.raises(JournalError, match="journal"):
        await client.rotate((), journal=path, retire_after=0)
    assert emulator.count("delete") == 0
