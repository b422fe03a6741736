"""Keys that no update can make as their specs say: replaced, and what `rotate` left of others."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys import ApplyStoppedError, ProvisioningStoppedError
from openrouter_keys.emulator import Fault
from openrouter_keys.models import External
from tests.applying.sites import Site, told
from tests.journals import spec

BEFORE = spec(limit=50, limit_reset="monthly")
THEN = datetime(2099, 1, 1, tzinfo=UTC)
LATER = datetime(2099, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"expires_at": THEN}),
        ({"expires_at": THEN}, {"expires_at": LATER}),
        ({"expires_at": THEN}, {"expires_at": None}),
        ({}, {"creator_user_id": "user_1"}),
        ({}, {"external": External("u")}),
        ({"external": External("u")}, {"external": External("v")}),
        ({}, {"expires_at": THEN, "limit": 80, "name": "another name"}),
        ({}, {"expires_at": THEN, "disabled": True}),
        ({"disabled": True}, {"expires_at": THEN}),
    ],
)
async def test_replace(site: Site, before: Any, after: Any) -> None:
    """A new key is handed over, then the old one is deleted; without `replace`, nothing is."""
    old, new = evolve(BEFORE, **before), evolve(BEFORE, **after)
    await site.applied([old])
    first = site.key("customer-r")
    fixed = [name for name in after if name not in ("limit", "name", "disabled")]
    (change,) = (await site.plan([new])).left
    assert (change.action, [each.name for each in change.fields]) == ("replace", fixed)
    (change,) = (await site.plan([new], replace=True)).to_do
    assert change.action == "replace"
    assert not site.writes
    report = await site.apply([new], replace=True)
    assert (report.ok, report.replaced, report.created) == (True, 1, 0)
    key = site.key(new.name)
    assert (key.hash != first.hash, key.secret) == (True, site.taken[-1].key)
    assert [(result.ref, result.spec) for result in site.taken[1:]] == [("r", new)]
    await site.assert_as([new], replace=True)
    assert [*site.emulator.account.keys] == [key.hash]


async def test_a_key_is_replaced_again_and_again(site: Site) -> None:
    """By `apply`, by `rotate`, and by `apply` once more; the key is the ref's own each time."""
    await site.applied([BEFORE])
    site.emulator.account.add("another's")
    for year in (2080, 2081, 2082):
        new = evolve(BEFORE, expires_at=datetime(year, 1, 1, tzinfo=UTC))
        report = await site.apply([new], replace=True)
        assert (report.ok, report.replaced, report.failures) == (True, 1, ())
        await site.assert_as([new], replace=True)
        (entry,) = await site.journal.succession("r")
        assert (entry.hash, entry.secret) == (site.key("customer-r").hash, site.taken[-1].key)
        if year == 2080:
            await site.client.rotate(
                [str(entry.hash)], journal=site.journal, retire_after=0, on_result=site.taken.append
            )
            assert (await site.plan([new])).changes == ()
    assert len(site.emulator.account.keys) == 2
    assert await site.client.release("r", journal=site.journal)
    assert len(site.emulator.account.keys) == 1


async def test_a_rotation_that_waits_is_ended_first(site: Site) -> None:
    await site.applied([BEFORE])
    hash = site.key("customer-r").hash
    await site.client.rotate([hash], journal=site.journal, on_result=site.taken.append)
    (change,) = (await site.plan([evolve(BEFORE, expires_at=THEN)], replace=True)).left
    assert "end it with `rotate`" in str(change.why)


async def test_what_an_update_can_change_is_changed_all_the_same(site: Site) -> None:
    """Without `replace`, the limit follows at once, and the replacement stays to be done."""
    await site.applied([BEFORE])
    new = evolve(BEFORE, limit=80, expires_at=THEN)
    report = await site.apply([new])
    assert (report.ok, report.updated, report.replaced) == (True, 1, 0)
    assert [change.action for change in report.plan.left] == ["replace"]
    assert site.key("customer-r").limit == 80
    report = await site.apply([new], replace=True)
    assert (report.ok, report.replaced) == (True, 1)
    await site.assert_as([new], replace=True)


async def test_a_key_whose_secret_nobody_has_is_created_anew(site: Site) -> None:
    await site.bring("made", BEFORE)
    new = evolve(BEFORE, expires_at=THEN)
    report = await site.apply([new])
    assert (report.ok, report.created, len(site.taken)) == (True, 1, 1)
    await site.assert_as([new])
    assert len(site.emulator.account.keys) == 1


async def test_a_partners_key_is_not_replaced(site: Site) -> None:
    partner = External("u", api_key="p" * 40)
    await site.applied([evolve(BEFORE, external=partner)])
    new = evolve(BEFORE, external=External("v", api_key="q" * 40))
    (change,) = (await site.plan([new], replace=True)).left
    assert "release the ref" in str(change.why)
    assert "q" * 40 not in repr(change)
    # The partner's key alone is no field that the service shows.
    new = evolve(BEFORE, external=External("u", api_key="q" * 40))
    assert [each.action for each in (await site.plan([new])).left] == ["replace"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("create", "status", status=502, phase="after"),
        Fault("create", "closed", phase="after"),
        Fault("update", "status", status=500, times=None),
        Fault("delete", "status", status=500, times=None),
        Fault("delete", "closed", phase="after", times=1),
    ],
    ids=lambda fault: f"{fault.operation} {fault.kind} {fault.phase}",
)
async def test_an_interrupted_replacement_goes_on(site: Site, fault: Fault) -> None:
    """Wherever it fails, the next call ends it, with one key and without an orphan."""
    new = evolve(BEFORE, expires_at=THEN)
    site.emulator.account.add("another's")
    await site.applied([BEFORE])
    site.emulator.faults.append(fault)
    with suppress(ApplyStoppedError):
        await site.apply([new], replace=True)
    site.emulator.faults.clear()
    await site.apply([new])  # without `replace`, nothing more is replaced
    for _ in range(2):
        await site.apply([new], replace=True)
    await site.assert_as([new], replace=True)
    assert site.key("customer-r").secret == site.taken[-1].key
    assert len(site.emulator.account.keys) == 2


# --- keys that `rotate` replaced ---


@pytest.mark.parametrize("budget", ["remaining", "full"])
async def test_what_a_rotation_left_of_a_limit(site: Site, budget: Any) -> None:
    """A limit that `rotate` lowered to what was left is no drift; the file may raise it."""
    await site.applied([spec(limit=50)])
    site.key("customer-r").usage = 30.0
    hash = site.key("customer-r").hash
    await site.client.rotate(
        [hash], journal=site.journal, budget=budget, retire_after=0, on_result=site.taken.append
    )
    rest = 20.0 if budget == "remaining" else 50.0
    assert site.key("customer-r").limit == rest
    site.emulator.requests.clear()
    assert (await site.plan([spec(limit=50)])).changes == ()
    assert site.sent["get"] == 0
    site.key("customer-r").limit = 99.0
    plan = await site.plan([spec(limit=50)])
    assert told(plan.changes) == [("r", "restore", [("limit", 99.0, 50)])]
    site.key("customer-r").limit = rest
    plan = await site.plan([spec(limit=60)])
    assert told(plan.changes) == [("r", "update", [("limit", rest, 60)])]
    await site.apply([spec(limit=60)])
    await site.assert_as([spec(limit=60)])


async def test_a_rotation_that_waits_is_left_to_rotate(site: Site) -> None:
    """`apply` retires no key that `rotate` still keeps for its users; prune takes both."""
    await site.applied([BEFORE])
    site.emulator.account.add("another's")
    await site.client.rotate(
        [site.key("customer-r").hash], journal=site.journal, on_result=site.taken.append
    )
    assert len(site.emulator.account.keys) == 3
    site.emulator.requests.clear()
    report = await site.apply([BEFORE], replace=True)
    assert (report.ok, report.changed, site.writes) == (True, 0, {})
    report = await site.apply([], prune="disable", max_prune=1)
    assert (report.ok, report.pruned) == (True, 1)
    named = [key for key in site.emulator.account.keys.values() if key.name != "another's"]
    assert all(key.disabled for key in named)
    report = await site.apply([], prune="delete", max_prune=1)
    assert (report.ok, report.pruned) == (True, 1)
    assert len(site.emulator.account.keys) == 1


@pytest.mark.parametrize("limit", [5, 50])
async def test_a_replacement_that_is_planned_follows_an_update(site: Site, limit: int) -> None:
    await site.apply([spec(limit=20)])
    old = site.key("customer-r").hash
    site.emulator.faults.append(Fault("create", status=402))
    with pytest.raises(ProvisioningStoppedError):
        await site.client.rotate([old], journal=site.journal, on_result=site.taken.append)
    site.emulator.faults.clear()
    assert (await site.apply([spec(limit=limit)])).updated == 1
    await site.client.rotate([old], journal=site.journal, on_result=site.taken.append)
    assert (site.taken[-1].data.hash != old, site.taken[-1].data.limit) == (True, limit)


async def test_keys_that_rotate_alone_knows_are_never_pruned(site: Site) -> None:
    key = site.emulator.account.add("another's")
    await site.client.rotate([key.hash], journal=site.journal, on_result=site.taken.append)
    plan = await site.plan([], prune="delete")
    assert plan.changes == ()
