"""What a twin may spend: the remaining budget is not silently renewed."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys import UNSET, AsyncOpenRouter, KeySpec
from openrouter_keys.converter import encode
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.rotation.replacement import stored_spec
from tests.misbehaving import misbehaving
from tests.rotations import Taker, hashes, old_keys, told, twin_of

MONTHLY = {"limit_reset": "monthly", "usage": 90, "usage_monthly": 3}
BYOK = {"byok_usage": 2, "include_byok_in_limit": True}
COUNTS_BYOK = {"include_byok_in_limit": True}
RESETS = {"limit_reset": "monthly"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "budget", "limit", "spent", "anew"),
    [
        ({"limit": 10, "usage": 3}, "remaining", 7, 3, False),
        ({"limit": 10, "usage": 0}, "remaining", 10, 0, False),
        ({"limit": 10, "usage": 10}, "remaining", 0, 10, False),
        ({"limit": 10, "usage": 12}, "remaining", 0, 12, False),
        ({"limit": 0, "usage": 0}, "remaining", 0, 0, False),
        ({"limit": 10, "usage": 3, **BYOK}, "remaining", 5, 5, False),
        ({"limit": 10, "usage": 3, "byok_usage": 2}, "remaining", 7, 3, False),
        ({"limit": 10, **MONTHLY}, "remaining", 10, 3, True),
        ({"limit": None, "usage": 3}, "remaining", None, 3, False),
        ({"limit": 10, "usage": 3}, "full", 10, 3, True),
        ({"limit": 10, "usage": 12}, "full", 10, 12, True),
        ({"limit": 10, **MONTHLY}, "full", 10, 3, True),
        ({"limit": None, "usage": 3}, "full", None, 3, False),
    ],
)
async def test_a_twins_limit_is_what_the_budget_leaves(
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    *,
    old: Any,
    budget: Any,
    limit: float | None,
    spent: float,
    anew: bool,
) -> None:
    key = emulator.account.add("customer", **old)
    (planned,) = await client.plan_rotation([key.hash], budget=budget)
    await client.rotate([key.hash], journal=path, budget=budget)

    assert planned.spec is not None
    assert (planned.spec.limit, planned.spent, planned.starts_anew) == (limit, spent, anew)
    assert twin_of(emulator, key).limit == limit
    await client.rotate((), journal=path, retire_after=0)
    assert [twin.limit for twin in emulator.account.keys.values()] == [limit]


async def test_a_service_that_does_not_tell_what_is_left_is_reckoned_for(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    (old,) = old_keys(emulator, 1)
    body = (
        b'{"data": {"hash": "%s", "name": "customer-0", "label": "", "disabled": false,'
        b'"include_byok_in_limit": false, "limit": 10, "limit_remaining": null,'
        b'"limit_reset": null, "usage": 3, "usage_daily": 0, "usage_weekly": 0,'
        b'"usage_monthly": 0, "byok_usage": 0, "byok_usage_daily": 0, "byok_usage_weekly": 0,'
        b'"byok_usage_monthly": 0, "created_at": "2026-01-01T00:00:00Z", "updated_at": null,'
        b'"workspace_id": "%s"}}'
    ) % (old.hash.encode(), old.workspace_id.encode())
    emulator.faults.append(Fault("get", "body", body=body))
    await client.rotate([old.hash], journal=path)
    assert twin_of(emulator, old).limit == 7


# --- what happens during the grace ---


@pytest.mark.slow
async def test_what_the_old_key_spends_during_the_grace_is_taken_off_the_twins_limit(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path, on_result=taker)
    twin = twin_of(emulator, old)
    assert twin.limit == 7
    emulator.account.spend(old.hash, 2.5)
    emulator.account.spend(twin.hash, 1)

    await client.rotate((), journal=path, retire_after=0)

    assert twin.limit == 4.5
    assert old.usage + twin.limit == old.limit
    assert twin.limit_remaining == 3.5


@pytest.mark.slow
async def test_what_is_spent_while_a_key_is_being_retired_counts_too(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path, on_result=taker)
    emulator.faults.append(Fault("get", "slow", delay=0.2, phase="after"))  # the look at the twin

    retiring = asyncio.create_task(client.rotate((), journal=path, retire_after=0))
    await asyncio.sleep(0.1)
    emulator.account.spend(old.hash, 4)
    await retiring

    (twin,) = emulator.account.keys.values()
    assert twin.limit == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whose", "by_hand", "spent", "limit"),
    [
        ("old", {}, 99, 0),
        # A twin's limit that somebody changed is left as it is.
        ("twin", {"limit": 40}, 2, 40),
        ("twin", {"limit": 1}, 2, 1),
        ("twin", {"limit": None}, 2, None),
        ("twin", {"limit_reset": "daily"}, 2, 7),
        # An old key's limit that somebody changed counts, and never raises its twin's.
        ("old", {"limit": 20}, 0, 7),
        ("old", {"limit": 5}, 0, 2),
        ("old", {"limit": None}, 0, 7),
        ("old", {"limit_reset": "daily"}, 0, 7),
        ("old", {"limit_reset": "daily"}, 8, 7),
    ],
)
async def test_a_twin_gets_what_is_left_when_its_old_key_is_retired(
    *,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    whose: str,
    by_hand: dict[str, Any],
    spent: float,
    limit: float | None,
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path, on_result=Taker(emulator))
    if by_hand:
        changed = old if whose == "old" else twin_of(emulator, old)
        await client.api_keys.update(changed.hash, **by_hand)
    if spent:
        emulator.account.spend(old.hash, spent)
    report = await client.rotate((), journal=path, retire_after=0)
    (twin,) = emulator.account.keys.values()
    assert (report.ok, twin.limit) == (True, limit)


@pytest.mark.parametrize(
    ("old", "budget"),
    [
        ({"limit": 10}, "full"),
        ({"limit": None}, "remaining"),
        ({"limit": 10, **MONTHLY}, "remaining"),
    ],
)
async def test_a_limit_that_was_not_shared_out_is_not_lowered(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, old: Any, budget: Any
) -> None:
    key = emulator.account.add("customer", **old)
    await client.rotate([key.hash], journal=path, budget=budget)
    emulator.account.spend(key.hash, 2)
    await client.rotate((), journal=path, retire_after=0)
    (twin,) = emulator.account.keys.values()
    assert twin.limit == old["limit"]


async def test_an_old_key_is_not_deleted_before_its_twins_limit_is_lowered(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path, on_result=taker)
    twin = twin_of(emulator, old)
    emulator.account.spend(old.hash, 2)
    emulator.faults.append(Fault("update", status=403, skip=1))
    report = await client.rotate((), journal=path, retire_after=0)
    assert (report.ok, report.retired, report.failed, twin.limit) == (False, 0, 1, 7)
    assert old.hash in emulator.account.keys
    assert (await told(path))[old.hash].state == "disabled"

    assert (await client.rotate((), journal=path, retire_after=0)).ok
    assert twin.limit == 5
    assert (await told(path))[old.hash].problem is None


async def test_a_twin_that_the_service_does_not_lower_keeps_the_old_key_from_being_deleted(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path, on_result=taker)
    twin = await client.api_keys.get(twin_of(emulator, old).hash)
    emulator.account.spend(old.hash, 2)
    stale = b'{"data": %s}' % encode(twin.data)
    emulator.faults.append(Fault("update", "body", body=stale, skip=1))
    report = await client.rotate((), journal=path, retire_after=0)
    assert "shows no change of limit" in report.failures[0].reason
    assert old.hash in emulator.account.keys


@pytest.mark.slow
async def test_a_limit_that_was_lowered_is_not_lowered_again(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path, on_result=taker)
    twin = twin_of(emulator, old)
    emulator.account.spend(old.hash, 2)
    emulator.faults.append(Fault("delete", status=403))
    assert (await client.rotate((), journal=path, retire_after=0)).failed == 1
    assert (await client.rotate((), journal=path, retire_after=0)).retired == 1
    assert twin.limit == 5


# --- resumes ---


@pytest.mark.slow
async def test_what_was_planned_stays_so_whatever_a_resume_asks_for(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker
) -> None:
    old = old_keys(emulator, 2)
    emulator.faults.append(Fault("create", status=400, times=2))
    report = await client.rotate(hashes(old), journal=path, on_result=taker)
    assert (report.failed, report.pending) == (2, 2)
    for key in old:
        emulator.account.spend(key.hash, 2)

    again = await client.rotate(hashes(old), journal=path, on_result=taker, budget="full")

    assert (again.ok, again.rotated) == (True, 2)
    assert [twin_of(emulator, key).limit for key in old] == [7, 7]
    await client.rotate((), journal=path, retire_after=0, budget="full")
    assert [twin.limit for twin in emulator.account.keys.values()] == [5, 5]


@pytest.mark.slow
@given(
    name=st.text(min_size=1).filter(lambda text: text.isprintable()),
    limit=st.none() | st.floats(0, 1e300) | st.integers(0, 10**15),
    limit_reset=st.none() | st.sampled_from(["daily", "weekly", "monthly"]),
    expires_at=st.none() | st.just(UNSET) | st.datetimes(timezones=st.just(UTC)),
    external=st.none() | st.just({"user": "acme-7"}),
)
def test_a_stored_spec_is_the_very_same_plan(**fields: Any) -> None:
    spec = KeySpec(ref="ab" * 32, workspace_id="w", **fields)
    again = stored_spec(spec.ref, spec.plan)
    assert (again, again.plan) == (spec, spec.plan)


def test_a_stored_time_keeps_its_fraction() -> None:
    at = datetime(2027, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    spec = KeySpec(ref="r", name="n", expires_at=at)
    assert stored_spec("r", spec.plan).expires_at == at


# --- a service that contradicts itself ---


@pytest.mark.parametrize(
    ("told", "limit", "contradicts"),
    [
        ({"limit_remaining": 1000, "usage": 4}, 6, True),
        ({"limit_remaining": 10, "usage": 4}, 6, True),
        ({"limit_remaining": 10, "usage": 12}, 0, True),
        ({"limit_remaining": 8, "usage": 4, "byok_usage": 3, **COUNTS_BYOK}, 3, True),
        ({"limit_remaining": 1000, "usage": 90, "usage_monthly": 4, **RESETS}, 10, True),
        ({"limit_remaining": 6.004, "usage": 4}, 6, False),
        ({"limit_remaining": 5, "usage": 4}, 5, False),
        ({"limit_remaining": -2, "usage": 12}, 0, False),
        ({"limit_remaining": 6, "usage": 4, "byok_usage": 3}, 6, False),
    ],
)
async def test_a_twin_never_gets_more_than_is_left_of_the_limit_whatever_is_told(
    told: dict[str, Any], limit: float, *, contradicts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        misbehaving() as service,
        AsyncOpenRouter("key", server_url=service.url) as client,
    ):
        old = service.add("customer", limit=10, **told)
        (planned,) = await client.plan_rotation([old["hash"]])
    assert planned.spec is not None
    assert planned.spec.limit == limit
    assert (f"the key {old['hash']} has $" in caplog.text) is contradicts
