"""What `rotate` makes of keys, and what it tells of that, while nothing is amiss."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys import (
    AsyncOpenRouter,
    OpenRouter,
    ProvisionProgress,
    ProvisionResult,
    RotationReport,
)
from openrouter_keys.emulator import Emulator, Fault, Workspace
from openrouter_keys.errors import ForbiddenResponseError, InvalidArgumentError
from tests.provisions import JumpingTime, SetTime, specs
from tests.rotations import (
    Taker,
    assert_none_retired_too_early,
    assert_one_twin_each,
    hashes,
    live,
    old_keys,
    states,
    told,
    twin_of,
)

WORKSPACE = "e2e2e2e2-0000-4000-8000-000000000002"
FAR = datetime(2100, 1, 1, tzinfo=UTC)
HOUR = 3600.0


# --- twins ---


async def test_a_twin_has_what_the_old_key_has(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    emulator.account.workspaces[WORKSPACE] = Workspace(WORKSPACE, "Other")
    fields: dict[str, Any] = {
        "limit": 50,
        "limit_reset": "monthly",
        "include_byok_in_limit": True,
        "workspace_id": WORKSPACE,
        "expires_at": FAR,
        "creator_user_id": "user_1",
        "external_user": "acme-7",
    }
    (old,) = old_keys(emulator, 1, **fields)

    report = await client.rotate([old.hash], journal=path, on_result=taker)

    twin = twin_of(emulator, old)
    assert {name: getattr(twin, name) for name in fields} == fields
    assert twin.secret != old.secret
    assert taker.secrets == {old.hash: twin.secret}
    assert report.ok
    assert (report.rotated, report.retired, report.waiting, report.pending) == (1, 0, 1, 0)


async def test_old_keys_go_on_working_until_they_are_to_be_retired(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 3)
    await client.rotate(hashes(old), journal=path, on_result=taker)
    assert live(emulator, old) == [True] * 3
    assert await states(path) == ["handed_over"] * 3

    report = await client.rotate((), journal=path, retire_after=0)

    assert live(emulator, old) == [False] * 3
    assert (report.rotated, report.retired, report.waiting) == (0, 3, 0)
    assert (report.ok, report.provision) == (True, None)
    assert emulator.count("create") == 3
    assert_one_twin_each(emulator, old, taker)
    assert_none_retired_too_early(emulator, hashes(old), taker)
    assert await states(path) == ["deleted"] * 3


async def test_one_call_can_rotate_and_retire(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 5)
    report = await client.rotate(hashes(old), journal=path, on_result=taker, retire_after=0)
    assert (report.rotated, report.retired, report.waiting) == (5, 5, 0)
    assert_one_twin_each(emulator, old, taker)
    assert_none_retired_too_early(emulator, hashes(old), taker)
    assert str(report) == "5 rotated, 5 retired"


async def test_an_old_key_is_disabled_before_it_is_deleted(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path, on_result=taker, retire_after=0)
    assert old.disabled
    mine = [each.operation for each in emulator.requests if each.hash == old.hash]
    assert mine == ["get", "update", "delete"]


async def test_without_on_result_the_secrets_are_in_the_journal_and_wait_for_a_confirmation(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    old = old_keys(emulator, 2)
    report = await client.rotate(hashes(old), journal=path)
    assert (report.rotated, report.waiting, report.pending) == (2, 2, 0)
    twins = [twin_of(emulator, key) for key in old]
    assert all(str(twin.secret).encode() in _written(path) for twin in twins)
    assert {rotation.twin for rotation in (await told(path)).values()} == {*hashes(twins)}

    assert (await client.rotate((), journal=path, retire_after=0)).retired == 2
    assert [*emulator.account.keys.values()] == twins


def _written(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


# --- the grace ---


async def test_a_call_waits_until_the_old_keys_are_due(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker, time: JumpingTime
) -> None:
    old = old_keys(emulator, 3)
    report = await client.rotate(hashes(old), journal=path, on_result=taker, retire_after=HOUR)
    assert report.retired == 3
    assert HOUR - 10 < sum(time.slept) <= HOUR


@pytest.mark.slow
async def test_the_grace_counts_from_the_hand_over_whoever_waits(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker, time: JumpingTime
) -> None:
    old = old_keys(emulator, 1)
    await client.rotate(hashes(old), journal=path, on_result=taker)
    await time.sleep(HOUR)
    before = sum(time.slept)

    assert (await client.rotate((), journal=path, retire_after=2 * HOUR)).retired == 1

    # A `Date` has whole seconds.
    assert HOUR - 10 < sum(time.slept) - before <= HOUR + 1


@pytest.mark.parametrize(
    "slow",
    [
        [],
        [Fault("create", kind="closed", phase="after")],
        [Fault("create", status=429, headers={"Retry-After": "100"})],
        [Fault("create", status=502, times=3)],
    ],
)
@pytest.mark.parametrize("taking", [0, HOUR])
async def test_the_grace_does_not_count_while_the_replacements_are_made(
    *,
    slow: list[Fault],
    taking: float,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    time: JumpingTime,
) -> None:
    old, handed_over = old_keys(emulator, 2), list[float]()
    emulator.faults += slow

    async def take(_: ProvisionResult) -> None:
        await time.sleep(taking)
        handed_over.append(sum(time.slept))

    report = await client.rotate(hashes(old), journal=path, on_result=take, retire_after=60)

    assert report.retired == 2
    assert 50 < sum(time.slept) - handed_over[-1] <= 61


#: By how much somebody sets this machine's clock, in seconds.
SETTINGS = [-HOUR, HOUR, -100 * HOUR, 100 * HOUR, 0.9 * HOUR]


@pytest.fixture
def true_time(emulator: Emulator, time: JumpingTime, client: AsyncOpenRouter) -> SetTime:
    """The service's clock goes right, whatever happens to that of the client's machine."""
    set_time = SetTime(time)
    client._transport.clockwork = set_time.clockwork()
    return set_time


@pytest.mark.parametrize("by", SETTINGS)
async def test_a_clock_that_is_set_in_the_grace_changes_nothing(
    *,
    by: float,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    true_time: SetTime,
    time: JumpingTime,
) -> None:
    (old,) = old_keys(emulator, 1)

    def set_the_clock(progress: ProvisionProgress) -> None:
        if progress.report is not None:  # all twins are handed over
            true_time.set_by = by

    await client.rotate(
        [old.hash], journal=path, on_result=print, on_progress=set_the_clock, retire_after=HOUR
    )
    assert HOUR - 10 < sum(time.slept) < HOUR + 10
    assert old.hash not in emulator.account.keys


@pytest.mark.parametrize("by", SETTINGS)
async def test_a_clock_that_is_set_between_two_calls_changes_nothing(
    *,
    by: float,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    true_time: SetTime,
    time: JumpingTime,
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path)
    true_time.set_by = by
    await time.sleep(HOUR / 2)
    before = sum(time.slept)
    assert (await client.rotate((), journal=path, retire_after=HOUR)).retired == 1
    # By days, and nobody can say which clock is wrong: the grace begins anew.
    wait = HOUR if abs(by) > 24 * HOUR else HOUR / 2
    assert wait - 10 < sum(time.slept) - before < wait + 10


@pytest.mark.parametrize("asleep", [HOUR / 2, 2 * HOUR, 48 * HOUR])
@pytest.mark.parametrize("set_by", [0, -HOUR, HOUR, 72 * HOUR])
async def test_a_grace_goes_on_while_the_machine_is_suspended(
    *,
    asleep: float,
    set_by: float,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    true_time: SetTime,
    time: JumpingTime,
) -> None:
    (old,) = old_keys(emulator, 1)
    true_time.set_by = set_by
    await client.rotate([old.hash], journal=path)
    before, suspended = sum(time.slept), list[float]()

    def suspend(_: float) -> None:
        suspended[:] = [asleep]  # during the first sleep; a sleep itself does not notice

    time.on_sleep = suspend
    emulator.account.clock = lambda: time.now() + timedelta(seconds=sum(suspended))
    client._transport.clockwork = evolve(
        true_time.clockwork(),
        now=lambda: true_time.now() + timedelta(seconds=sum(suspended)),
        steady=lambda: time.monotonic() + sum(suspended),
    )
    assert (await client.rotate((), journal=path, retire_after=HOUR)).retired == 1
    assert sum(time.slept) - before < max(HOUR - asleep, 0) + 70


@pytest.mark.slow
async def test_a_service_without_a_clock_is_timed_by_this_machines(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, true_time: SetTime, time: JumpingTime
) -> None:
    (old,) = old_keys(emulator, 1)
    emulator.faults.append(
        Fault("list", phase="after", status=200, headers={"Date": "soon"}, times=None)
    )
    await client.rotate([old.hash], journal=path)
    true_time.set_by = -HOUR
    assert (await client.rotate((), journal=path, retire_after=HOUR)).retired == 1
    assert HOUR - 10 < sum(time.slept) <= HOUR + 1  # and no longer


@pytest.mark.slow
async def test_a_grace_is_not_counted_while_nobody_says_what_time_it_is(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path)
    emulator.faults.append(Fault("list", status=403))
    with pytest.raises(ForbiddenResponseError):
        await client.rotate((), journal=path, retire_after=HOUR)
    assert old.hash in emulator.account.keys
    assert (await client.rotate((), journal=path, retire_after=0)).retired == 1


@pytest.mark.slow
async def test_a_clock_that_is_set_back_does_not_make_the_wait_longer(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker, time: JumpingTime
) -> None:
    old = old_keys(emulator, 1)
    await time.sleep(100 * HOUR)
    await client.rotate(hashes(old), journal=path, on_result=taker)
    time.slept.clear()

    assert (await client.rotate((), journal=path, retire_after=0)).retired == 1
    assert time.slept == []


# --- which keys ---


async def test_nothing_to_rotate_is_nothing(client: AsyncOpenRouter, path: Path) -> None:
    every: list[dict[str, Any]] = [{}, {"retire_after": 0}, {"retire_after": 0, "on_result": print}]
    for given in every:
        report = await client.rotate((), journal=path, **given)
        assert (report.ok, str(report)) == (True, "nothing")


async def test_a_hash_that_comes_twice_is_rotated_once(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    report = await client.rotate([old.hash] * 3, journal=path, on_result=taker)
    assert (report.rotated, emulator.count("create"), emulator.count("get")) == (1, 1, 1)


async def test_hashes_may_come_from_an_async_iterable(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old_keys(emulator, 3)
    listed = (key.hash async for key in client.api_keys.iterate())
    assert (await client.rotate(listed, journal=path, on_result=taker)).rotated == 3


async def test_keys_of_the_same_name_and_workspace_have_a_twin_each(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = [emulator.account.add("same", limit=limit) for limit in (5, 7)]
    await client.rotate(hashes(old), journal=path, on_result=taker, retire_after=0)
    assert {result.ref: result.data.limit for result in taker.taken} == {
        key.hash: key.limit for key in old
    }
    assert_one_twin_each(emulator, old, taker)


async def test_the_same_call_again_makes_no_other_twin(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 3)
    await client.rotate(hashes(old), journal=path, on_result=taker)
    again = await client.rotate(hashes(old), journal=path, on_result=taker, retire_after=0)
    assert (again.ok, again.rotated, again.retired) == (True, 0, 3)
    assert_one_twin_each(emulator, old, taker)
    assert len(taker.taken) == 3


@pytest.mark.slow
async def test_all_keys_can_be_rotated_again_and_again_and_twins_are_left_alone(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 3)
    for retire_after in (None, 0):
        listed = [*emulator.account.keys]
        report = await client.rotate(
            listed, journal=path, on_result=taker, retire_after=retire_after
        )
    assert (report.skipped, report.ok) == (3, True)
    assert "3 skipped, as replacements of this journal" in str(report)
    assert_one_twin_each(emulator, old, taker)


@pytest.mark.slow
async def test_twins_are_rotated_in_turn_with_another_journal(
    emulator: Emulator, client: AsyncOpenRouter, tmp_path: Path, taker: Taker
) -> None:
    old_keys(emulator, 2)
    for name in ("january", "february"):
        report = await client.rotate(
            [*emulator.account.keys], journal=tmp_path / name, on_result=taker, retire_after=0
        )
        assert (report.rotated, report.retired) == (2, 2)
    assert len(emulator.account.keys) == 2


async def test_a_journal_of_provisioning_can_hold_rotations_too(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    await client.provision(specs(2), journal=path)
    old = [*emulator.account.keys.values()]
    await client.rotate(hashes(old), journal=path, on_result=taker, retire_after=0)
    assert_one_twin_each(emulator, old, taker)


@pytest.mark.slow
async def test_many_keys_take_five_requests_each_and_no_more(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 120)
    report = await client.rotate(hashes(old), journal=path, on_result=taker, retire_after=0)
    assert (report.rotated, report.retired, report.ok) == (120, 120, True)
    assert len(emulator.account.keys) == 120
    asked = {"get": 240, "create": 120, "update": 120, "delete": 120, "list": 1}
    assert {operation: emulator.count(operation) for operation in asked} == asked


@pytest.mark.slow
async def test_no_phase_is_faster_than_the_rate(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, time: JumpingTime
) -> None:
    old = old_keys(emulator, 21)
    began = time.monotonic()
    await client.plan_rotation(hashes(old), rate=2)
    assert time.monotonic() - began == pytest.approx(10, abs=1)
    await client.rotate(hashes(old), journal=path)
    began = time.monotonic()
    await client.rotate((), journal=path, retire_after=0, rate=2)
    assert time.monotonic() - began == pytest.approx(31, abs=1)


# --- what is told ---


async def test_a_plan_is_told_and_nothing_is_changed(
    emulator: Emulator, client: AsyncOpenRouter
) -> None:
    old = [*old_keys(emulator, 1), emulator.account.add("off", disabled=True)]
    first, second, third = await client.plan_rotation([*hashes(old), "0" * 64])

    assert {request.operation for request in emulator.requests} == {"get"}
    assert (first.hash, first.name, first.limit, first.spent) == (old[0].hash, "customer-0", 10, 3)
    assert first.spec is not None
    assert (first.spec.ref, first.spec.limit, first.starts_anew) == (old[0].hash, 7, False)
    assert (first.state, first.problem, first.twin) == ("planned", None, None)
    assert (second.state, second.spec) == ("refused", None)
    assert "is disabled" in str(second.problem)
    assert (third.state, third.name) == ("refused", None)
    assert "is not there" in str(third.problem)


async def test_a_journal_tells_its_rotations(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path, on_result=taker)
    (rotation,) = (await told(path)).values()
    (planned,) = await client.plan_rotation([old.hash])
    twin = twin_of(emulator, old)
    assert (rotation.twin, rotation.state, rotation.problem) == (twin.hash, "handed_over", None)
    for name in ("hash", "name", "limit", "spent", "spec", "starts_anew"):
        assert getattr(rotation, name) == getattr(planned, name)


async def test_progress_is_told_as_provisioning_tells_it(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    heard: list[Any] = []
    report = await client.rotate(
        hashes(old_keys(emulator, 3)), journal=path, on_progress=heard.append
    )
    assert (heard[-1].phase, heard[-1].total, heard[-1].created) == ("ended", 3, 3)
    assert heard[-1].report == report.provision


# --- arguments ---


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"hashes": "ab" * 32}, "hashes"),
        ({"hashes": 7}, "hashes"),
        ({"hashes": ["../credits"]}, "hash"),
        ({"hashes": ["sk-or-v1-" + "ab" * 32]}, "hash"),
        ({"journal": None}, "journal"),
        ({"journal": ""}, "journal"),
        ({"budget": 7}, "budget"),
        ({"budget": "half"}, "budget"),
        ({"retire_after": -1}, "retire_after"),
        ({"retire_after": float("nan")}, "retire_after"),
        ({"retire_after": 0, "on_result": None}, "on_result"),
        ({"concurrency": 0}, "concurrency"),
        ({"rate": 0}, "rate"),
        ({"recipient": "age1nobody"}, "recipient"),
        ({"store_secrets": False, "on_result": None}, "on_result"),
    ],
)
async def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, given: Any, named: str
) -> None:
    (old,) = old_keys(emulator, 1)
    wanted: dict[str, Any] = {"hashes": [old.hash], "journal": path, "on_result": print, **given}
    with pytest.raises(InvalidArgumentError) as caught:
        await client.rotate(wanted.pop("hashes"), **wanted)
    assert caught.value.argument == named
    assert emulator.requests == []
    assert not path.exists()


async def test_retiring_without_anybody_who_has_the_secrets_says_what_to_do(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    (old,) = old_keys(emulator, 1)
    with pytest.raises(InvalidArgumentError, match=r"export the secrets.*then confirm"):
        await client.rotate([old.hash], journal=path, retire_after=HOUR)
    assert emulator.requests == []


def test_the_blocking_twin_calls_back_in_the_callers_thread(tmp_path: Path) -> None:
    threads: set[int] = set()

    def take(_: ProvisionResult) -> None:
        threads.add(threading.get_ident())

    with (
        Emulator() as emulator,
        OpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
    ):
        old = old_keys(emulator, 3)
        source = (key.hash for key in old)
        assert [each.name for each in client.plan_rotation(hashes(old))] == [
            key.name for key in old
        ]
        report = client.rotate(source, journal=tmp_path / "j", on_result=take, retire_after=0)
        assert isinstance(report, RotationReport)
        assert (report.rotated, report.retired) == (3, 3)
    assert threads == {threading.get_ident()}
