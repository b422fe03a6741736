"""The same call with the same journal: what it goes on with, and what it leaves as it is."""

from datetime import timedelta
from pathlib import Path

import pytest

from openrouter_keys import (
    AsyncOpenRouter,
    ProvisionResult,
)
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.journal.journal import Journal
from openrouter_keys.provisioning.report import OnResult
from tests.journals import spec
from tests.provisions import (
    SMALL_BATCH,
    JumpingTime,
    assert_whole,
    client_of,
    counts,
    refuse,
    refuse_later,
    specs,
    stopped,
)

# --- what is gone on with ---


@pytest.mark.usefixtures("small_batches")
async def test_what_is_settled_is_neither_created_again_nor_asked_about(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    wanted = specs(2 * SMALL_BATCH + 5)
    await client.provision(wanted, journal=path, on_result=taken.append)
    emulator.requests.clear()

    report = await client.provision(wanted, journal=path, on_result=taken.append)

    assert [request.operation for request in emulator.requests] == ["list"]
    assert (report.settled_before, report.created, report.resumed) == (len(wanted), 0, 0)
    assert str(report) == f"{len(wanted)} settled before"
    assert len(taken) == len(wanted)


async def test_specs_that_were_added_are_made(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    await client.provision(specs(3), journal=path, on_result=taken.append)
    report = await client.provision(specs(5), journal=path, on_result=taken.append)

    assert (report.settled_before, report.created) == (3, 2)
    assert_whole(emulator, specs(5), taken)


@pytest.mark.slow
@pytest.mark.parametrize("raises", [refuse, refuse_later])
async def test_what_on_result_did_not_take_is_handed_over_again(
    raises: OnResult,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    error = await stopped(client.provision(specs(3), journal=path, on_result=raises, concurrency=1))

    assert isinstance(error.__cause__, ConnectionError)
    assert "the customers' database is away" in str(error)
    assert (error.report.created, error.report.undelivered) == (0, ())
    made = emulator.count("create")
    assert await counts(path) == {"made": made}

    emulator.requests.clear()
    report = await client.provision(specs(3), journal=path, on_result=taken.append)

    assert (report.resumed, report.created) == (made, 3 - made)
    assert [request.operation for request in emulator.requests].count("get") == made
    assert_whole(emulator, specs(3), taken)
    assert await counts(path) == {"settled": 3}


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
async def test_what_was_refused_is_tried_again(
    status: int,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    emulator.faults.append(Fault("create", status=status))
    first = await client.provision(specs(3), journal=path, on_result=taken.append)
    assert (first.failed, first.created) == (1, 2)

    report = await client.provision(specs(3), journal=path, on_result=taken.append)

    assert (report.failed, report.created, report.settled_before) == (0, 1, 2)
    assert_whole(emulator, specs(3), taken)


@pytest.mark.slow
async def test_a_key_that_is_not_as_asked_for_is_never_made_again(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    emulator.account.extra_fields["limit"] = 7.0
    first = await client.provision(specs(1, limit=5), journal=path, on_result=taken.append)
    emulator.account.extra_fields.clear()
    emulator.requests.clear()

    report = await client.provision(specs(1, limit=5), journal=path, on_result=taken.append)

    assert [request.operation for request in emulator.requests] == ["list"]
    assert (report.mismatched, report.mismatches) == (1, first.mismatches)
    assert (report.ok, taken) == (False, [])


# --- secrets that are stored nowhere ---


async def test_a_key_whose_secret_was_not_stored_is_deleted_and_made_anew(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    run = client.provision(specs(1), journal=path, on_result=refuse, store_secrets=False)
    error = await stopped(run)
    (lost,) = emulator.account.keys.values()
    (undelivered,) = error.report.undelivered
    assert (undelivered.ref, undelivered.key, undelivered.hash) == ("0", lost.secret, lost.hash)
    assert not error.report.ok

    report = await client.provision(
        specs(1), journal=path, on_result=taken.append, store_secrets=False
    )

    assert (report.created, report.deleted, report.resumed) == (1, 1, 0)
    assert lost.hash not in emulator.account.keys
    assert_whole(emulator, specs(1), taken)


@pytest.mark.slow
async def test_a_key_whose_secret_was_not_stored_is_not_made_anew_while_it_is_there(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    await stopped(client.provision(specs(1), journal=path, on_result=refuse, store_secrets=False))
    (lost,) = emulator.account.keys.values()
    emulator.faults.append(Fault("delete", status=502, times=3))

    report = await client.provision(
        specs(1), journal=path, on_result=taken.append, store_secrets=False
    )

    assert (report.failed, report.failures[0].hashes, report.ok) == (1, (lost.hash,), False)
    assert (taken, [*emulator.account.keys]) == ([], [lost.hash])

    await client.provision(specs(1), journal=path, on_result=taken.append, store_secrets=False)
    assert_whole(emulator, specs(1), taken)


# --- what was in doubt ---


async def _interrupted(emulator: Emulator, path: Path, time: JumpingTime) -> str:
    """A run that was killed while its create was under way; return the hash of what it made."""
    async with Journal.open(path, server_url=emulator.base_url) as journal:
        await journal.intend(spec("0"), time.now())
    return emulator.account.create({"name": "customer-0"}).hash


async def test_a_create_that_was_under_way_is_settled_before_another_is_sent(
    emulator: Emulator, path: Path, taken: list[ProvisionResult]
) -> None:
    time = JumpingTime()
    orphan = await _interrupted(emulator, path, time)
    async with client_of(emulator, time) as client:
        report = await client.provision(
            specs(3), journal=path, on_result=taken.append, quiet_period=17
        )

    assert 10 < sum(time.slept) <= 17 * 2
    assert (report.created, report.deleted, report.ok) == (3, 1, True)
    assert orphan not in emulator.account.keys
    assert_whole(emulator, specs(3), taken)
    done = [each.operation for each in emulator.requests if each.operation in ("create", "delete")]
    assert done == ["delete", "create", "create", "create"]


@pytest.mark.slow
async def test_what_was_under_way_for_a_spec_that_does_not_come_again_is_settled_too(
    emulator: Emulator, path: Path, taken: list[ProvisionResult]
) -> None:
    time = JumpingTime()
    await _interrupted(emulator, path, time)
    async with client_of(emulator, time) as client:
        report = await client.provision([spec("9")], journal=path, on_result=taken.append)

    assert (report.created, report.deleted, report.in_doubt, report.ok) == (1, 1, 0, True)
    assert_whole(emulator, [spec("9")], taken)


async def test_the_quiet_period_begins_when_a_create_is_given_up(
    emulator: Emulator, path: Path, taken: list[ProvisionResult]
) -> None:
    time = JumpingTime()
    emulator.faults += [
        Fault("create", status=429, headers={"Retry-After": "100"}),
        Fault("create", status=502, phase="after"),
    ]
    async with client_of(emulator, time) as client:
        await client.provision(
            specs(1), journal=path, on_result=taken.append, quiet_period=40, concurrency=1
        )

    paused, quiet = time.slept[:2]
    assert paused >= 100
    assert 39 < quiet <= 40
    assert_whole(emulator, specs(1), taken)


@pytest.mark.slow
@pytest.mark.parametrize("hours", [-3, 3])
async def test_a_service_whose_clock_is_off_is_reconciled_by_its_own_time(
    hours: int, emulator: Emulator, path: Path, taken: list[ProvisionResult]
) -> None:
    time = JumpingTime()
    emulator.faults.append(Fault("create", status=502, phase="after"))
    async with client_of(emulator, time) as client:
        emulator.account.clock = lambda: time.now() + timedelta(hours=hours)
        report = await client.provision(specs(3), journal=path, on_result=taken.append)

    assert (report.created, report.deleted, report.ok) == (3, 1, True)
    assert_whole(emulator, specs(3), taken)


@pytest.mark.slow
async def test_a_key_that_nobody_can_prove_to_be_ours_is_told_and_nothing_is_sent_for_it(
    emulator: Emulator, path: Path, taken: list[ProvisionResult]
) -> None:
    time = JumpingTime()
    used = await _interrupted(emulator, path, time)
    emulator.account.spend(used, 0.5)
    async with client_of(emulator, time) as client:
        report = await client.provision(specs(2), journal=path, on_result=taken.append)

    assert (report.created, report.in_doubt, report.ok) == (1, 1, False)
    assert (report.doubts[0].ref, report.doubts[0].hashes) == ("0", (used,))
    assert [result.ref for result in taken] == ["1"]
    assert used in emulator.account.keys
