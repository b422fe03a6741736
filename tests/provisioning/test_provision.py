"""What `provision` makes of specs, and what it tells of that, while nothing is amiss."""

import asyncio
import json
import pickle
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import (
    ClientSession,
    TraceConfig,
    TraceRequestEndParams,
    TraceRequestStartParams,
)

from openrouter_keys import AsyncOpenRouter, KeySpec, ProvisionProgress, ProvisionResult
from openrouter_keys._base.unset import UNSET
from openrouter_keys.emulator import Emulator, Fault, Workspace
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.provisioning.report import OnResult
from tests.journals import spec, written
from tests.provisions import (
    SMALL_BATCH,
    JumpingTime,
    assert_whole,
    client_of,
    counts,
    specs,
    stopped,
)

PATIENCE = 20.0
WORKSPACE = "e2e2e2e2-0000-4000-8000-000000000002"


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncOpenRouter]:
    async with client_of(emulator) as client:
        yield client


# --- specs become keys ---


async def test_each_spec_becomes_one_key_whose_secret_is_handed_over(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    taken: list[ProvisionResult] = []
    wanted = specs(50, limit=5)

    report = await client.provision(wanted, journal=path, on_result=taken.append)

    assert_whole(emulator, wanted, taken)
    assert {result.ref: result.spec for result in taken} == {spec.ref: spec for spec in wanted}
    assert all(result.data.hash == sha256(result.key.encode()).hexdigest() for result in taken)
    assert all(result.data.limit == 5 for result in taken)
    assert (report.created, report.ok, str(report)) == (50, True, "50 created")
    assert report.elapsed > 0
    assert await counts(path) == {"settled": 50}


END = datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({}, {}),
        ({"limit": UNSET, "limit_reset": UNSET, "expires_at": UNSET}, {}),
        ({"limit": None}, {"limit": None}),
        ({"limit": 0}, {"limit": 0}),
        ({"limit": 12.5, "limit_reset": "monthly"}, {"limit": 12.5, "limit_reset": "monthly"}),
        ({"limit": 1, "limit_reset": None}, {"limit": 1, "limit_reset": None}),
        ({"include_byok_in_limit": True}, {"include_byok_in_limit": True}),
        ({"expires_at": END}, {"expires_at": "2031-12-31T23:59:59Z"}),
        ({"expires_at": None}, {"expires_at": None}),
        ({"creator_user_id": "user_1"}, {"creator_user_id": "user_1"}),
        ({"creator_user_id": None}, {"creator_user_id": None}),
        ({"workspace_id": WORKSPACE}, {"workspace_id": WORKSPACE}),
        ({"external": {"user": "acme-7"}}, {"external": {"user": "acme-7"}}),
        ({"name": "Zoë 🗝"}, {"name": "Zoë 🗝"}),
    ],
)
async def test_each_field_arrives_as_it_was_asked_for(
    given: dict[str, Any],
    body: dict[str, object],
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
) -> None:
    emulator.account.workspaces[WORKSPACE] = Workspace(WORKSPACE)
    taken: list[ProvisionResult] = []

    report = await client.provision([spec("7", **given)], journal=path, on_result=taken.append)

    (sent,) = [request for request in emulator.requests if request.operation == "create"]
    assert json.loads(sent.body) == {"name": "customer-7", **body}
    assert report.ok
    assert taken[0].data.name == body.get("name", "customer-7")


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("on_disk", [True, False])
async def test_secrets_are_in_the_file_only_where_it_may_hold_them(
    keeps: bool, on_disk: bool, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    taken: list[ProvisionResult] = []

    async def take(result: ProvisionResult) -> None:
        await asyncio.sleep(0)
        # Durable before it is told.
        assert (result.key.encode() in written(path)) == (keeps and on_disk)
        taken.append(result)

    report = await client.provision(
        specs(3), journal=path if on_disk else None, on_result=take, store_secrets=keeps
    )

    assert report.created == 3
    assert_whole(emulator, specs(3), taken)
    assert path.exists() == on_disk


async def test_without_on_result_the_journal_has_the_secrets(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    report = await client.provision(specs(3), journal=str(path))

    assert report.created == 3
    secrets = [str(key.secret).encode() for key in emulator.account.keys.values()]
    assert len([secret for secret in secrets if secret in written(path)]) == 3
    assert await counts(path) == {"settled": 3}


async def test_what_holds_a_secret_shows_and_pickles_none(
    client: AsyncOpenRouter, emulator: Emulator, path: Path
) -> None:
    taken: list[ProvisionResult] = []
    emulator.faults.append(Fault("create", status=402, skip=1))

    error = await stopped(
        client.provision(specs(2), journal=path, on_result=taken.append, concurrency=1)
    )

    (result,) = taken
    for holder in (result, error.report, error):
        assert result.key not in f"{holder!r} {holder}"
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(holder)


# --- sources ---


class _Numbered:
    """An async iterable that is no generator."""

    def __init__(self, wanted: Iterable[KeySpec]) -> None:
        self._left = iter(wanted)

    def __aiter__(self) -> "_Numbered":
        return self

    async def __anext__(self) -> KeySpec:
        await asyncio.sleep(0)
        try:
            return next(self._left)
        except StopIteration:
            raise StopAsyncIteration from None


async def _generated(wanted: Iterable[KeySpec]) -> AsyncIterator[KeySpec]:
    for each in wanted:
        yield each


SOURCES: dict[str, Callable[[list[KeySpec]], Any]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "generator": lambda wanted: (spec for spec in wanted),
    "values of a mapping": lambda wanted: {spec.ref: spec for spec in wanted}.values(),
    "async generator": _generated,
    "async iterable": _Numbered,
}


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("count", [0, 1, 2 * SMALL_BATCH + 1])
@pytest.mark.parametrize("kind", SOURCES)
async def test_specs_come_from_any_iterable(
    kind: str, count: int, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    taken: list[ProvisionResult] = []
    last: list[ProvisionProgress] = []

    report = await client.provision(
        SOURCES[kind](specs(count)), journal=path, on_result=taken.append, on_progress=last.append
    )

    assert (report.created, report.ok) == (count, True)
    assert_whole(emulator, specs(count), taken)
    sized = kind in ("list", "tuple", "values of a mapping")
    assert (last[-1].read, last[-1].total) == (count, count if sized else None)
    assert str(report) == (f"{count} created" if count else "nothing")


async def test_a_spec_does_not_wait_for_those_that_come_later(
    client: AsyncOpenRouter, path: Path
) -> None:
    made = asyncio.Event()

    async def slowly() -> AsyncIterator[KeySpec]:
        for each in specs(3):
            yield each
            await asyncio.wait_for(made.wait(), PATIENCE)
            made.clear()

    report = await client.provision(slowly(), journal=path, on_result=lambda _: made.set())

    assert report.created == 3


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("kind", ["generator", "async generator"])
async def test_a_source_is_read_a_batch_ahead_and_no_further(
    kind: str, client: AsyncOpenRouter, path: Path
) -> None:
    read = taken = ahead = 0

    def counted() -> Iterator[KeySpec]:
        nonlocal read
        for each in specs(5 * SMALL_BATCH):
            read += 1
            yield each

    def take(_: ProvisionResult) -> None:
        nonlocal taken, ahead
        ahead = max(ahead, read - taken)
        taken += 1

    source = counted() if kind == "generator" else _generated(counted())
    await client.provision(source, journal=path, on_result=take, concurrency=4)

    assert taken == 5 * SMALL_BATCH
    assert SMALL_BATCH <= ahead <= SMALL_BATCH + 20


# --- pace ---


class _Crowd:
    """Counts the creates under way; the first ones wait for each other."""

    def __init__(self, expected: int) -> None:
        self.most = self._now = 0
        self._expected, self._full = expected, asyncio.Event()

    def session(self) -> ClientSession:
        trace = TraceConfig()
        trace.on_request_start.append(self._begins)
        trace.on_request_end.append(self._ends)
        return ClientSession(trace_configs=[trace])

    async def _begins(self, _: object, __: object, told: TraceRequestStartParams) -> None:
        if told.method == "POST":
            self._now += 1
            self.most = max(self.most, self._now)
            if self._now >= self._expected:
                self._full.set()
            await asyncio.wait_for(self._full.wait(), PATIENCE)

    async def _ends(self, _: object, __: object, told: TraceRequestEndParams) -> None:
        self._now -= told.method == "POST"


@pytest.mark.parametrize("concurrency", [1, 5, 17])
async def test_as_many_creates_as_asked_for_are_under_way_at_once_and_no_more(
    concurrency: int, emulator: Emulator, path: Path
) -> None:
    crowd = _Crowd(concurrency)
    async with client_of(emulator, session=crowd.session) as client:
        report = await client.provision(specs(40), journal=path, concurrency=concurrency)

    assert (report.created, crowd.most) == (40, concurrency)


async def test_a_rate_is_never_passed(emulator: Emulator, path: Path) -> None:
    time = JumpingTime()
    async with client_of(emulator, time) as client:
        began = time.monotonic()
        report = await client.provision(specs(21), journal=path, rate=10)

    assert report.created == 21
    assert time.monotonic() - began >= 20 / 10 - 0.1


async def test_without_a_rate_nothing_waits(emulator: Emulator, path: Path) -> None:
    time = JumpingTime()
    async with client_of(emulator, time) as client:
        await client.provision(specs(21), journal=path)

    assert time.slept == []


# --- progress ---


async def test_progress_tells_each_phase_and_how_it_ended(emulator: Emulator, path: Path) -> None:
    told: list[ProvisionProgress] = []
    emulator.faults += [Fault("create", "closed"), Fault("create", status=400)]
    async with client_of(emulator, JumpingTime()) as client:
        report = await client.provision(
            specs(5), journal=path, on_progress=told.append, concurrency=1
        )

    phases = [progress.phase for progress in told]
    changes = [
        phase for phase, before in zip(phases, [None, *phases], strict=False) if phase != before
    ]
    assert changes == [
        "creating", "waiting", "reconciling", "creating", "waiting", "reconciling", "ended"
    ]  # fmt: skip
    assert told[-1].report is report
    assert all(progress.report is None for progress in told[:-1])
    assert {progress.total for progress in told} == {5}
    last = told[-1]
    assert (last.read, last.created, last.failed, last.in_doubt, last.done) == (5, 4, 1, 0, 5)
    assert max(progress.in_doubt for progress in told) == 1
    assert (report.created, report.failed, report.deleted) == (4, 1, 0)
    assert [progress.elapsed for progress in told] == sorted(each.elapsed for each in told)


# --- arguments ---


def _take(_: ProvisionResult) -> None:
    pass


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"quiet_period": -1}, "quiet_period"),
        ({"quiet_period": float("inf")}, "quiet_period"),
        ({"max_failures": -1}, "max_failures"),
        ({"max_total_limit": -1}, "max_total_limit"),
        ({"max_total_limit": float("nan")}, "max_total_limit"),
        ({"journal": ""}, "journal"),
        ({"journal": None}, "on_result"),
        ({"store_secrets": False}, "on_result"),
        ({"specs": "customers.csv"}, "specs"),
        ({"specs": {"1": spec("1")}}, "specs"),
        ({"specs": spec("1")}, "specs"),
        ({"specs": None}, "specs"),
    ],
)
async def test_a_bad_argument_is_refused_before_anything_is_sent_or_made(
    given: dict[str, Any],
    argument: str,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
) -> None:
    arguments: dict[str, Any] = {"specs": specs(1), "journal": path, **given}

    with pytest.raises(InvalidArgumentError) as caught:
        await client.provision(**arguments)

    assert caught.value.argument == argument
    assert emulator.requests == []
    assert not path.exists()


@pytest.mark.parametrize("take", [_take, None])
async def test_what_is_no_spec_stops_the_run_and_its_place_is_told(
    take: OnResult | None, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    wrong: Any = [*specs(2), {"name": "customer-3"}]

    error = await stopped(client.provision(wrong, journal=path, on_result=take))

    assert isinstance(error.__cause__, InvalidArgumentError)
    assert error.__cause__.argument == "specs[2]"
    assert emulator.count("create") == 0
