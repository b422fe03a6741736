"""What ends a run before it is through, what is sent after that, and what the report tells."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TraceConfig, TraceRequestEndParams
from attrs import evolve

from openrouter_keys import (
    AsyncOpenRouter,
    KeySpec,
    ProvisionProgress,
    ProvisionResult,
    ServiceOutageError,
    TooManyFailuresError,
)
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.errors import NotSentError, ResponseError, TooManyRequestsResponseError
from openrouter_keys.provisioning import run
from openrouter_keys.provisioning.stop import StopSignal
from tests.provisions import JumpingTime, assert_whole, client_of, counts, specs, stopped

PATIENCE = 20.0


# --- what the service answers ---


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("skip", [0, 3])
async def test_what_refuses_the_key_stops_the_run(
    *,
    skip: int,
    status: int,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    emulator.faults.append(Fault("create", status=status, skip=skip))
    run = client.provision(specs(9), journal=path, on_result=taken.append, concurrency=1)

    error = await stopped(run)

    assert isinstance(error.__cause__, ResponseError)
    assert error.__cause__.status_code == status
    made = len(emulator.account.keys)
    assert skip <= made <= skip + 1
    assert (error.report.created, error.report.failed, error.report.in_doubt) == (made, 0, 0)
    assert f"answered {status}" in str(error)
    assert "goes on from there" in str(error)
    # The refused create left nothing behind, and the journal goes on.
    report = await client.provision(specs(9), journal=path, on_result=taken.append)
    assert (report.settled_before, report.created) == (made, 9 - made)
    assert_whole(emulator, specs(9), taken)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_manages_nothing_stops_the_run_before_the_first_create(
    status: int, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults.append(Fault("list", status=status))

    error = await stopped(client.provision(specs(9), journal=path))

    assert isinstance(error.__cause__, ResponseError)
    assert error.__cause__.status_code == status
    assert emulator.count("create") == 0
    assert await counts(path) == {}


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
async def test_what_refuses_a_spec_fails_it_and_the_run_goes_on(
    *,
    status: int,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    emulator.faults.append(Fault("create", status=status, skip=1))

    report = await client.provision(specs(5), journal=path, on_result=taken.append, concurrency=1)

    assert (report.created, report.failed, report.ok) == (4, 1, False)
    (failure,) = report.failures
    assert (failure.ref, failure.hashes) == ("1", ())
    assert f"answered {status}" in failure.reason
    assert [result.ref for result in taken] == ["0", "2", "3", "4"]
    assert await counts(path) == {"settled": 4, "failed": 1}


@pytest.mark.parametrize("refusal", [{"status": 402}, {"status": 401}, {"status": 403}])
async def test_nothing_is_sent_once_the_key_was_refused(
    refusal: dict[str, Any], emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults.append(Fault("create", **refusal, skip=3))

    await stopped(client.provision(specs(9), journal=path, concurrency=1))

    assert emulator.count("create") == 4


@pytest.mark.parametrize("most", [0, 1, 3])
async def test_more_refusals_than_the_caller_bears_stop_the_run(
    *, most: int, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults.append(Fault("create", status=400, times=None))

    error = await stopped(
        client.provision(specs(9), journal=path, max_failures=most, concurrency=1)
    )

    assert isinstance(error.__cause__, TooManyFailuresError)
    assert f"more than {most} keys" in str(error)
    # One more may be on its way while the last one is written down.
    assert most + 1 <= emulator.count("create") <= most + 2
    assert error.report.failed == len(error.report.failures) == emulator.count("create")


async def test_as_many_refusals_as_the_caller_bears_do_not_stop_the_run(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults.append(Fault("create", status=400, times=2))

    report = await client.provision(specs(9), journal=path, max_failures=2)

    assert (report.failed, report.created) == (2, 7)


@pytest.mark.slow
async def test_any_number_of_refusals_is_borne_unless_told_otherwise(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults.append(Fault("create", status=400, times=None))

    report = await client.provision(specs(150), journal=path)

    assert (report.failed, report.created) == (150, 0)


async def test_keys_not_as_asked_for_count_as_refusals(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.account.extra_fields["limit"] = 7.0
    run = client.provision(specs(9, limit=5), journal=path, max_failures=1, concurrency=1)

    error = await stopped(run)

    assert isinstance(error.__cause__, TooManyFailuresError)
    assert 2 <= error.report.mismatched == emulator.count("create") <= 3


async def test_a_retry_after_beyond_two_minutes_stops_the_run_at_once(
    emulator: Emulator, path: Path
) -> None:
    emulator.faults.append(Fault("create", status=429, headers={"Retry-After": "121"}, skip=2))
    async with client_of(emulator) as client, asyncio.timeout(PATIENCE):
        error = await stopped(client.provision(specs(9), journal=path, concurrency=1))

    assert isinstance(error.__cause__, TooManyRequestsResponseError)
    assert error.__cause__.retry_after == 121
    assert (error.report.created, error.report.in_doubt, emulator.count("create")) == (2, 0, 3)


async def test_a_shorter_retry_after_is_waited_for(
    *, emulator: Emulator, client: AsyncOpenRouter, path: Path, time: JumpingTime
) -> None:
    emulator.faults.append(Fault("create", status=429, headers={"Retry-After": "119"}))

    report = await client.provision(specs(3), journal=path, concurrency=1)

    assert (report.created, report.failed) == (3, 0)
    assert 119 <= sum(time.slept) < 140


async def test_what_is_rejected_after_a_stop_does_not_wait_for_its_next_turn(
    emulator: Emulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_stopped = asyncio.Event()
    stop = StopSignal.stop

    def stopping(signal: StopSignal, reason: BaseException) -> None:
        stop(signal, reason)
        has_stopped.set()

    async def hold_back(_: object, __: object, told: TraceRequestEndParams) -> None:
        if told.response.status == 429:
            await asyncio.wait_for(has_stopped.wait(), PATIENCE)

    def session() -> ClientSession:
        trace = TraceConfig()
        trace.on_request_end.append(hold_back)
        return ClientSession(trace_configs=[trace])

    monkeypatch.setattr(StopSignal, "stop", stopping)
    emulator.faults += [
        Fault("create", status=429, headers={"Retry-After": "100"}),
        Fault("create", status=402, times=None),
    ]
    waited: list[float] = []
    time = JumpingTime(lambda seconds: waited.append(seconds) if has_stopped.is_set() else None)
    async with client_of(emulator, time, session=session) as client:
        await stopped(client.provision(specs(9), journal=path, concurrency=2))

    assert waited == []


# --- many in doubt ---


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 3, 6, 100])
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_no_more_specs_wait_for_a_reconcile_than_memory_is_meant_for(
    *,
    most: int,
    concurrency: int,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "CROWD", most)
    emulator.faults.append(Fault("create", kind="closed", phase="after", times=6))
    told, taken = list[ProvisionProgress](), list[ProvisionResult]()
    report = await client.provision(
        specs(12),
        journal=path,
        on_result=taken.append,
        on_progress=told.append,
        concurrency=concurrency,
    )
    assert report.ok
    assert_whole(emulator, specs(12), taken)
    in_doubt = max(progress.in_doubt for progress in told)
    assert in_doubt <= min(6, most + 2 * concurrency)
    assert (in_doubt == 6) or most < 6


# --- a service that is down ---


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("retry_after", [{}, {"Retry-After": "1"}])
async def test_endless_rejections_end_the_run(
    *,
    retry_after: dict[str, str],
    concurrency: int,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    time: JumpingTime,
) -> None:
    emulator.faults.append(Fault("create", status=429, headers=retry_after, times=None))

    error = await stopped(client.provision(specs(9), journal=path, concurrency=concurrency))

    assert isinstance(error.__cause__, TooManyRequestsResponseError)
    assert emulator.count("create") <= 150
    assert sum(time.slept) < 3600
    assert await counts(path) == {}


OUTAGES = {
    "502 before": Fault("create", status=502, times=None),
    "502 after": Fault("create", status=502, phase="after", times=None),
    "503 after": Fault("create", status=503, phase="after", times=None),
    "closed after": Fault("create", "closed", phase="after", times=None),
    "the edge": Fault("create", status=521, times=None),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"),
    [*((name, count) for name in OUTAGES for count in (1, 24)), ("502 after", 60)],
)
async def test_an_outage_ends_the_run_and_a_later_one_puts_all_right(
    *,
    name: str,
    count: int,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    time: JumpingTime,
    taken: list[ProvisionResult],
) -> None:
    emulator.faults.append(OUTAGES[name])

    error = await stopped(client.provision(specs(count), journal=path, on_result=taken.append))

    assert isinstance(error.__cause__, ServiceOutageError)
    assert "is the service up?" in str(error)
    assert sum(time.slept) < 3600
    assert 8 <= emulator.count("create") <= 9 * min(count, 20 + 32)
    assert (error.report.created, error.report.failed, taken) == (0, 0, [])
    assert len(emulator.account.keys) <= error.report.in_doubt <= count

    emulator.faults.clear()
    report = await client.provision(specs(count), journal=path, on_result=taken.append)
    assert (report.created, report.ok) == (count, True)
    assert_whole(emulator, specs(count), taken)


LOST = Fault("create", "closed", phase="after")
UNDELETED: dict[str, Fault] = {
    "502": Fault("delete", status=502, times=None),
    "closed": Fault("delete", "closed", times=None),
    "refused": Fault("delete", status=403, times=None),
    "not deleted": Fault("delete", status=200, body=b'{"deleted": false}', times=None),
    "a page's 404": Fault("delete", status=404, body=b"<html>", times=None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNDELETED)
async def test_keys_that_cannot_be_deleted_are_not_told_as_creates_that_fail(
    name: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults += [evolve(LOST), UNDELETED[name]]
    error = await stopped(client.provision(specs(1), journal=path))
    assert isinstance(error.__cause__, ServiceOutageError)
    (hash,) = emulator.account.keys
    assert f"these keys could not be deleted: {hash}" in str(error)
    assert "no create succeeded" not in str(error)


async def test_a_list_that_fails_is_not_told_as_creates_that_fail(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults += [evolve(LOST), Fault("list", status=502, skip=1, times=None)]
    error = await stopped(client.provision(specs(1), journal=path))
    assert "the keys could not be listed: list answered 502" in str(error)


async def test_a_record_that_cannot_be_read_is_not_told_as_a_create_that_fails(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    cut = Fault("create", "cut", phase="after", portion=0.999)
    emulator.faults += [cut, Fault("get", status=502, times=None)]
    run = client.provision(specs(1), journal=path, on_result=print)
    assert "the records of keys that were made could not be asked for" in str(await stopped(run))


STOPS: dict[str, tuple[list[Fault], dict[str, Any]]] = {
    "the key may not list": ([Fault("list", status=403)], {}),
    "the key may not create": ([Fault("create", status=403)], {}),
    "no money": ([Fault("create", status=402)], {}),
    "too much is handed out": ([], {"max_total_limit": 0.5}),
}


@pytest.mark.parametrize("name", STOPS)
async def test_the_report_of_a_stopped_run_is_never_ok(
    name: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    faults, given = STOPS[name]
    emulator.faults += faults
    told: list[ProvisionProgress] = []
    run = client.provision(specs(2, limit=1), journal=path, on_progress=told.append, **given)
    report = (await stopped(run)).report
    assert (report.stopped, report.ok, told[-1].report) == (True, False, report)


async def test_the_report_of_a_run_whose_specs_end_early_is_not_ok(
    client: AsyncOpenRouter, path: Path
) -> None:
    def broken() -> Iterator[KeySpec]:
        yield from specs(3)
        raise ConnectionError

    report = (await stopped(client.provision(broken(), journal=path))).report
    assert (report.stopped, report.ok) == (True, False)


async def test_the_report_of_a_cancelled_run_is_not_ok(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults.append(Fault("list", "stalled"))
    told: list[ProvisionProgress] = []
    run = asyncio.create_task(client.provision(specs(3), journal=path, on_progress=told.append))
    while not emulator.requests:
        await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    report = told[-1].report
    assert report is not None
    assert (report.stopped, report.ok) == (True, False)


async def test_a_service_that_cannot_be_reached_stops_the_run_before_the_first_create(
    *, client: AsyncOpenRouter, emulator: Emulator, path: Path, time: JumpingTime
) -> None:
    await emulator.__aexit__(None, None, None)

    error = await stopped(client.provision(specs(9), journal=path))

    assert isinstance(error.__cause__, NotSentError)
    assert sum(time.slept) < 60
    await emulator.__aenter__()


@pytest.mark.slow
async def test_a_service_that_goes_away_ends_the_run(
    *, client: AsyncOpenRouter, emulator: Emulator, path: Path, time: JumpingTime
) -> None:
    async def leave(_: ProvisionResult) -> None:
        if emulator._serving is not None:
            await emulator.__aexit__(None, None, None)

    run = client.provision(specs(60), journal=path, on_result=leave, concurrency=1)
    error = await stopped(run)

    assert isinstance(error.__cause__, ServiceOutageError)
    assert error.report.created >= 1
    assert error.report.in_doubt <= 1  # what was under way when it went
    assert sum(time.slept) < 3600
    await emulator.__aenter__()


@pytest.mark.slow
async def test_a_service_that_makes_a_key_now_and_then_is_not_given_up(
    *,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    taken: list[ProvisionResult],
) -> None:
    emulator.faults.append(Fault("create", status=521, probability=0.6, times=None))
    told: list[ProvisionProgress] = []

    report = await client.provision(
        specs(100), journal=path, on_result=taken.append, on_progress=told.append, concurrency=1
    )

    assert report.created == 100
    # More rounds than a service gets that makes none.
    assert sum(progress.phase == "waiting" for progress in told) > 8
    assert_whole(emulator, specs(100), taken)


@pytest.mark.slow
async def test_the_pace_comes_down_with_a_service_that_fails_and_up_again(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults.append(Fault("create", status=521, times=20))
    told: list[ProvisionProgress] = []

    await client.provision(specs(100), journal=path, on_progress=told.append, concurrency=8)

    assert min(progress.concurrency for progress in told) < 8
    assert told[-1].concurrency == 8


async def test_the_rate_comes_down_with_a_service_that_rejects(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.faults.append(Fault("create", status=429, skip=5))
    told: list[ProvisionProgress] = []

    await client.provision(specs(20), journal=path, on_progress=told.append)

    assert math.isinf(told[0].rate)
    assert math.isfinite(told[-1].rate)
