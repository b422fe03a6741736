"""Two calls of `apply` with one journal at once: each change is made once, and neither fails."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys import ApplyReport, AsyncOpenRouter, KeySpec, Plan
from tests.applying.sites import Site
from tests.clients import IMPATIENT
from tests.journals import spec

BEFORE = [spec(ref, limit=50) for ref in "abc"]
THEN = datetime(2099, 1, 1, tzinfo=UTC)

# What is wanted then, by what the calls are given.
CHANGES: dict[str, tuple[Sequence[KeySpec], dict[str, Any]]] = {
    "replace": ([evolve(each, expires_at=THEN) for each in BEFORE], {"replace": True}),
    "replace and disable": (
        [evolve(each, expires_at=THEN, disabled=True) for each in BEFORE], {"replace": True},
    ),
    "replace and prune": (
        [evolve(each, expires_at=THEN) for each in BEFORE[:2]],
        {"replace": True, "prune": "disable", "max_prune": 3},
    ),
    "recreate": (BEFORE, {"recreate": True}),
    "recreate disabled": ([evolve(each, disabled=True) for each in BEFORE], {"recreate": True}),
    "update": ([evolve(each, limit=60) for each in BEFORE], {}),
    "disable": ([evolve(each, disabled=True) for each in BEFORE], {}),
    "prune by disabling": (BEFORE[:1], {"prune": "disable", "max_prune": 3}),
    "prune by deleting": (BEFORE[:1], {"prune": "delete", "max_prune": 3}),
    "create": ([*BEFORE, spec("d"), spec("e")], {}),
    "create disabled": ([*BEFORE, spec("d", disabled=True)], {}),
}  # fmt: skip


async def begun(site: Site, name: str) -> tuple[Sequence[KeySpec], dict[str, Any]]:
    await site.applied(BEFORE)
    site.emulator.account.add("another's")
    if name.startswith("recreate"):
        for each in BEFORE[:2]:
            site.gone(each.name)
    return CHANGES[name]


async def assert_whole(
    site: Site, reports: Sequence[ApplyReport], wanted: Sequence[KeySpec], given: dict[str, Any]
) -> None:
    assert [report.failures for report in reports] == [(), ()]
    assert all(report.ok for report in reports)
    names = [key.name for key in site.emulator.account.keys.values() if not key.disabled]
    assert len(names) == len({*names})
    await site.assert_as(wanted, **given)


@pytest.mark.parametrize("name", CHANGES)
async def test_two_plans_that_are_carried_out_together(site: Site, name: str) -> None:
    """In real time: where it jumps, a call waits for the other, which has had no time."""
    wanted, asked = await begun(site, name)
    both = asyncio.Barrier(2)

    async def planned(_: Plan) -> bool:
        await both.wait()
        return True

    given: dict[str, Any] = {
        **asked,
        "journal": site.journal,
        "on_result": site.taken.append,
        "quiet_period": 0.1,
    }
    emulator = site.emulator
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        client._transport.clockwork = IMPATIENT
        calls = (client.apply(wanted, on_plan=planned, **given) for _ in range(2))
        reports = await asyncio.gather(*calls)
    await assert_whole(site, reports, wanted, asked)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_plan_that_another_call_has_carried_out(site: Site, name: str) -> None:
    """What was replaced or created anew counts as done by another process."""
    wanted, given = await begun(site, name)
    first: list[ApplyReport] = []

    async def other(_: Plan) -> None:
        first.append(await site.apply(wanted, **given))

    report = await site.apply(wanted, on_plan=other, **given)
    await assert_whole(site, [*first, report], wanted, given)
    assert report.replaced == 0
    if name.startswith("replace"):
        assert report.done_elsewhere == first[0].replaced > 0
        assert f"{report.done_elsewhere} done by another process" in str(report)


async def test_a_replacement_that_another_call_made_otherwise(site: Site) -> None:
    """It is not as this call's spec says: the row says to apply again."""
    await site.applied(BEFORE)
    other, own = (
        [evolve(each, expires_at=datetime(year, 1, 1, tzinfo=UTC)) for each in BEFORE]
        for year in (2098, 2099)
    )

    async def first(_: Plan) -> None:
        assert (await site.apply(other, replace=True)).replaced == 3

    report = await site.apply(own, replace=True, on_plan=first)
    assert (report.failed, report.done_elsewhere, report.ok) == (3, 0, False)
    assert all("apply again" in each.reason for each in report.failures)
    report = await site.apply(own, replace=True)
    assert (report.replaced, report.ok) == (3, True)
    await site.assert_as(own, replace=True)
