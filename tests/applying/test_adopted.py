"""Keys that joined the journal without a secret, and a journal in each engine."""

from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys.journal.journal import Journal
from tests.applying.sites import Site, told
from tests.engines import New
from tests.journals import spec

THEN = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture
async def adopted(site: Site) -> Site:
    """A key that existed is that of the ref `r`."""
    key = site.emulator.account.create({"name": "customer-r", "limit": 5})
    site.emulator.account.add("another's")
    await site.client.adopt(key.hash, "r", journal=site.journal)
    site.emulator.requests.clear()
    return site


async def test_an_adopted_key_is_updated(adopted: Site) -> None:
    assert (await adopted.plan([spec(limit=5)])).changes == ()
    report = await adopted.apply([spec(limit=6)])
    assert (report.ok, report.updated) == (True, 1)
    await adopted.assert_as([spec(limit=6)])


async def test_an_adopted_key_is_restored(adopted: Site) -> None:
    adopted.key("customer-r").limit = 500
    plan = await adopted.plan([spec(limit=5)])
    assert told(plan.changes) == [("r", "restore", [("limit", 500, 5)])]


@pytest.mark.parametrize("way", ["disable", "delete"])
async def test_an_adopted_key_is_pruned(adopted: Site, way: Any) -> None:
    report = await adopted.apply([], prune=way, max_prune=1)
    assert (report.ok, report.pruned, report.failures) == (True, 1, ())
    assert [each.name for each in adopted.emulator.account.keys.values()] == [
        *(["customer-r"] if way == "disable" else []),
        "another's",
    ]
    assert (await adopted.apply([], prune=way)).changed == 0


async def test_an_adopted_key_is_replaced_and_created_anew(adopted: Site) -> None:
    """From then on the journal has its secret."""
    new = spec(limit=5, expires_at=THEN)
    report = await adopted.apply([new], replace=True)
    assert (report.ok, report.replaced, len(adopted.taken)) == (True, 1, 1)
    await adopted.assert_as([new], replace=True)
    adopted.gone("customer-r")
    report = await adopted.apply([new], recreate=True)
    assert (report.ok, report.recreated, len(adopted.taken)) == (True, 1, 2)
    assert adopted.taken[-1].key == adopted.key("customer-r").secret


async def test_an_adopted_key_that_is_gone(adopted: Site) -> None:
    adopted.gone("customer-r")
    report = await adopted.apply([spec(limit=5)], recreate=True)
    assert (report.ok, report.recreated, len(adopted.taken)) == (True, 1, 1)
    await adopted.assert_as([spec(limit=5)])


async def test_each_engine(site: Site, new: New) -> None:
    """All kinds of changes, in SQLite and in PostgreSQL."""
    site.emulator.account.add("another's")
    specs = [spec(str(number), limit=5) for number in range(6)]
    async with Journal.open(new()) as journal:
        here = evolve(site, journal=journal)
        await here.applied(specs)
        here.key("customer-1").limit = 9.0
        here.gone("customer-2")
        wanted = [
            evolve(specs[0], limit=80),
            *specs[1:3],
            evolve(specs[3], expires_at=THEN),
            evolve(specs[4], disabled=True),
            spec("new", limit=1),
        ]
        given: dict[str, Any] = {"recreate": True, "replace": True, "prune": "disable"}
        report = await here.apply(wanted, **given)
        assert (report.ok, report.changed) == (True, 7)
        await here.assert_as(wanted, **given)
        assert (await here.apply(wanted, prune="delete")).pruned == 1
