"""What a run makes of its caller's own failures: a source, an `on_result`, an `on_progress`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import (
    AsyncOpenRouter,
    KeySpec,
    ProvisionProgress,
    ProvisionResult,
)
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.errors import ClientClosedError
from openrouter_keys.provisioning.report import OnResult
from tests.provisions import (
    SMALL_BATCH,
    JumpingTime,
    assert_whole,
    client_of,
    counts,
    specs,
    stopped,
)


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncOpenRouter]:
    async with client_of(emulator) as client:
        yield client


class AwayError(Exception):
    """Something of the caller's does not work."""


# --- the source ---


def _breaking(whole: int) -> Iterator[KeySpec]:
    yield from specs(whole)
    raise AwayError("the customers' database is away")


async def _breaking_later(whole: int) -> AsyncIterator[KeySpec]:
    for each in _breaking(whole):
        yield each
        await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("source", [_breaking, _breaking_later])
@pytest.mark.parametrize("whole", [0, 3, SMALL_BATCH + 3])
async def test_a_source_that_raises_stops_the_run_and_nothing_is_lost(
    *,
    source: Callable[[int], Any],
    whole: int,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    error = await stopped(
        client.provision(source(whole), journal=path, on_result=taken.append, concurrency=4)
    )

    assert isinstance(error.__cause__, AwayError)
    assert "database is away" in str(error)
    assert error.report.created == len(taken) == len(emulator.account.keys) <= whole
    assert (error.report.in_doubt, error.report.undelivered) == (0, ())

    await client.provision(specs(whole), journal=path, on_result=taken.append)
    assert_whole(emulator, specs(whole), taken)


async def test_specs_that_were_read_before_the_source_failed_are_made_meanwhile(
    client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    made = asyncio.Event()

    async def source() -> AsyncIterator[KeySpec]:
        yield specs(1)[0]
        await asyncio.wait_for(made.wait(), 20)
        raise AwayError

    def take(result: ProvisionResult) -> None:
        taken.append(result)
        made.set()

    error = await stopped(client.provision(source(), journal=path, on_result=take))

    assert "AwayError" in str(error)  # it has no text of its own
    assert len(taken) == error.report.created


@pytest.mark.parametrize("fault", [Fault("create", status=521), Fault("create", status=502)])
async def test_a_spec_that_has_to_be_sent_again_does_not_wait_for_later_ones(
    fault: Fault, emulator: Emulator, path: Path
) -> None:
    made = asyncio.Event()

    async def source() -> AsyncIterator[KeySpec]:
        for each in specs(2):
            yield each
            await made.wait()

    emulator.faults.append(fault)
    async with client_of(emulator, JumpingTime(), grace=0.0) as client, asyncio.timeout(3):
        report = await client.provision(source(), journal=path, on_result=lambda _: made.set())

    assert report.created == 2


# --- on_result ---


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("keeps", [True, False])
async def test_an_on_result_that_raises_stops_the_run_and_nothing_is_lost(
    *,
    kind: str,
    keeps: bool,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    def take(result: ProvisionResult) -> None:
        if len(taken) == 5:
            raise AwayError("the vault is sealed")
        taken.append(result)

    async def take_later(result: ProvisionResult) -> None:
        await asyncio.sleep(0)
        take(result)

    on_result: OnResult = take if kind == "sync" else take_later

    error = await stopped(
        client.provision(
            specs(60), journal=path, on_result=on_result, concurrency=8, store_secrets=keeps
        )
    )

    assert isinstance(error.__cause__, AwayError)
    made = len(emulator.account.keys)
    assert error.report.created == len(taken) == 5
    assert (error.report.pending, error.report.ok) == (made - 5, False)
    assert await counts(path) == {"settled": 5, "made": made - 5}
    # Nothing new began: only what was under way.
    assert made <= 5 + 2 * 8
    secrets = {key.secret for key in emulator.account.keys.values()} - {it.key for it in taken}
    undelivered = {it.key for it in error.report.undelivered}
    assert undelivered == (set() if keeps else secrets)

    report = await client.provision(
        specs(60), journal=path, on_result=taken.append, store_secrets=keeps
    )
    assert (report.resumed, report.deleted) == ((made - 5, 0) if keeps else (0, made - 5))
    assert_whole(emulator, specs(60), taken)


async def test_an_on_result_that_was_cancelled_by_somebody_else_stops_the_run(
    client: AsyncOpenRouter, path: Path
) -> None:
    async def take(_: ProvisionResult) -> None:
        away = asyncio.get_running_loop().create_future()
        away.cancel()
        await away

    error = await stopped(client.provision(specs(1), journal=path, on_result=take))

    assert isinstance(error.__cause__, asyncio.CancelledError)


async def test_a_report_is_not_ok_while_a_secret_was_not_taken(
    client: AsyncOpenRouter, path: Path
) -> None:
    def take(_: ProvisionResult) -> None:
        raise AwayError

    error = await stopped(client.provision(specs(1), journal=path, on_result=take))

    assert not error.report.ok


async def test_on_result_is_awaited_several_times_at_once(
    client: AsyncOpenRouter, path: Path
) -> None:
    many = asyncio.Barrier(4)

    async def take(_: ProvisionResult) -> None:
        await asyncio.wait_for(many.wait(), 20)

    report = await client.provision(specs(8), journal=path, on_result=take, concurrency=2)

    assert report.created == 8


@pytest.mark.slow
async def test_a_client_that_is_closed_meanwhile_stops_the_run(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    async def take(result: ProvisionResult) -> None:
        taken.append(result)
        await client.close()

    error = await stopped(client.provision(specs(60), journal=path, on_result=take, concurrency=2))

    assert isinstance(error.__cause__, ClientClosedError)
    async with client_of(emulator, JumpingTime()) as another:
        await another.provision(specs(60), journal=path, on_result=taken.append)
    assert_whole(emulator, specs(60), taken)


# --- on_progress ---


@pytest.mark.slow
async def test_an_on_progress_that_raises_stops_the_run_and_nothing_is_lost(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taken: list[ProvisionResult]
) -> None:
    raised: list[AwayError] = []

    def on_progress(progress: ProvisionProgress) -> None:
        if progress.created and not raised:
            raised.append(AwayError("the terminal is gone"))
            raise raised[0]

    async def take(result: ProvisionResult) -> None:
        await asyncio.sleep(0.15)  # progress is told now and then only
        taken.append(result)

    run = client.provision(
        specs(60), journal=path, on_result=take, on_progress=on_progress, concurrency=2
    )
    error = await stopped(run)

    assert error.__cause__ is raised[0]
    assert len(taken) == len(emulator.account.keys) < 60
    await client.provision(specs(60), journal=path, on_result=taken.append)
    assert_whole(emulator, specs(60), taken)


def _raising(_: ProvisionProgress) -> None:
    raise AwayError("the terminal is gone")


async def test_an_on_progress_that_always_raises_keeps_no_report_from_its_caller(
    client: AsyncOpenRouter, path: Path
) -> None:
    error = await stopped(client.provision(specs(1), journal=path, on_progress=_raising))

    assert isinstance(error.__cause__, AwayError)


async def test_an_on_progress_that_raises_at_the_end_loses_no_secret(
    client: AsyncOpenRouter, path: Path
) -> None:
    def on_progress(progress: ProvisionProgress) -> None:
        if progress.phase == "ended":
            raise AwayError

    def take(_: ProvisionResult) -> None:
        raise AwayError

    error = await stopped(client.provision(specs(1), on_result=take, on_progress=on_progress))

    assert len(error.report.undelivered) == 1


@pytest.mark.slow
async def test_an_on_progress_that_raises_swallows_no_cancellation(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    def on_progress(progress: ProvisionProgress) -> None:
        if progress.phase == "ended":
            raise AwayError

    emulator.faults.append(Fault("create", "slow", delay=0.2))
    run = asyncio.create_task(client.provision(specs(1), journal=path, on_progress=on_progress))
    while not emulator.count("create"):
        await asyncio.sleep(0.001)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
