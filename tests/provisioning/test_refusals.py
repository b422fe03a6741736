"""What a run with a journal refuses: changed specs, refs that come twice, journals not its own."""

from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import (
    AsyncOpenRouter,
    DuplicateRefError,
    JournalInsecureError,
    JournalMismatchError,
    KeySpec,
    PlanChangedError,
    ProvisionResult,
)
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.journal.journal import Journal
from tests.journals import AT, spec
from tests.provisions import (
    SMALL_BATCH,
    assert_whole,
    client_of,
    counts,
    refuse,
    specs,
    stopped,
)

EXTERNAL = {"user": "acme-7", "api_key": "partner-key-of-more-than-32-characters"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        ({"limit": 5}, {"limit": 6}, ("limit",)),
        ({"limit": 5}, {}, ("limit",)),
        ({}, {"limit": None}, ("limit",)),
        ({"name": "a"}, {"name": "b"}, ("name",)),
        ({"limit": 5}, {"limit_reset": "daily", "name": "b"}, ("limit", "limit_reset", "name")),
        ({"external": EXTERNAL}, {"external": {**EXTERNAL, "api_key": "k" * 32}}, ("external",)),
    ],
)
@pytest.mark.parametrize("was", ["settled", "made", "failed"])
async def test_a_changed_spec_stops_the_run_before_anything_is_sent_for_its_batch(
    *,
    was: str,
    before: dict[str, Any],
    after: dict[str, Any],
    fields: tuple[str, ...],
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
) -> None:
    if was == "made":
        await stopped(client.provision([spec(**before)], journal=path, on_result=refuse))
    else:
        emulator.faults += [Fault("create", status=400)] if was == "failed" else []
        await client.provision([spec(**before)], journal=path)
    emulator.requests.clear()

    error = await stopped(client.provision([*specs(3), spec(**after)], journal=path))

    assert isinstance(error.__cause__, PlanChangedError)
    assert (error.__cause__.ref, error.__cause__.changed) == ("r", fields)
    assert all(field in str(error) for field in fields)
    assert [request.operation for request in emulator.requests] == ["list"]
    assert await counts(path) == {was: 1}


async def test_the_same_limit_written_otherwise_is_no_change(
    client: AsyncOpenRouter, path: Path
) -> None:
    await client.provision([spec(limit=50)], journal=path)
    report = await client.provision([spec(limit=50.0)], journal=path)
    assert report.settled_before == 1


FEW = specs(SMALL_BATCH - 1)
MANY = specs(2 * SMALL_BATCH)


DUPLICATES: dict[str, list[KeySpec]] = {
    "side by side": [*FEW, spec("x"), spec("x")],
    "in one batch": [spec("x"), *FEW[1:], spec("x")],
    "in two batches": [spec("x"), *MANY, spec("x")],
    "with another plan": [spec("x"), *MANY, spec("x", limit=1)],
}


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", DUPLICATES)
async def test_a_ref_that_comes_twice_stops_the_run_and_has_one_key_at_most(
    *,
    name: str,
    known: bool,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    if known:  # then every batch is looked up
        await client.provision([spec("earlier")], journal=path, on_result=taken.append)

    error = await stopped(client.provision(DUPLICATES[name], journal=path, on_result=taken.append))

    assert isinstance(error.__cause__, DuplicateRefError)
    assert error.__cause__.ref == "x"
    assert sum(key.name == "customer-x" for key in emulator.account.keys.values()) <= 1
    # Put right, the same journal goes on.
    whole = [*([spec("earlier")] if known else []), *MANY, spec("x")]
    await client.provision(whole, journal=path, on_result=taken.append)
    assert_whole(emulator, whole, taken)


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("before", [0, SMALL_BATCH - 1], ids=["in one batch", "in two batches"])
@pytest.mark.parametrize("was", ["settled", "made", "failed"])
async def test_a_ref_of_an_earlier_run_that_comes_twice_stops_the_run(
    *, was: str, before: int, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    fillers = specs(before)
    await client.provision(fillers, journal=path)
    if was == "made":
        await stopped(client.provision([spec("x")], journal=path, on_result=refuse))
    else:
        emulator.faults += [Fault("create", status=400)] if was == "failed" else []
        await client.provision([spec("x")], journal=path)

    error = await stopped(client.provision([*fillers, spec("x"), spec("x")], journal=path))

    assert isinstance(error.__cause__, DuplicateRefError)
    assert sum(key.name == "customer-x" for key in emulator.account.keys.values()) <= 1


async def test_a_journal_that_others_can_read_is_refused_and_nothing_is_sent(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    path.touch(0o644)
    with pytest.raises(JournalInsecureError, match="chmod 600"):
        await client.provision(specs(1), journal=path)
    assert emulator.requests == []


async def test_another_servers_journal_is_refused_and_nothing_is_sent(
    emulator: Emulator, path: Path
) -> None:
    async with Journal.open(path, server_url="https://openrouter.ai/api/v1") as journal:
        await journal.intend(spec("0"), AT)
    async with client_of(emulator) as client:
        with pytest.raises(JournalMismatchError, match=r"openrouter\.ai"):
            await client.provision(specs(1), journal=path)
    assert emulator.requests == []
