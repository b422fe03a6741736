"""Keys that the journal does not know, and that have the names of keys to be created."""

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys import KeySpec, Plan
from openrouter_keys.emulator import Fault, Workspace
from openrouter_keys.emulator.state import DEFAULT_WORKSPACE
from openrouter_keys.journal.journal import Journal
from tests.applying.sites import Site
from tests.ensuring.rows import Rows
from tests.journals import spec

OTHER = "e2e2e2e2-0000-4000-8000-000000000002"
SPECS = [spec(ref, limit=5) for ref in "abc"]


def found(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {change.ref: change.namesakes for change in plan.namesakes}


async def test_another_journal_of_the_same_names(site: Site, tmp_path: Path) -> None:
    """As of a file that was copied or renamed, with the journal left behind."""
    await site.applied(SPECS)
    own = {ref: (site.key(f"customer-{ref}").hash,) for ref in "abc"}
    path = tmp_path / "new.journal"
    plan = await site.client.plan_apply(SPECS, journal=path)
    assert (plan.is_new, found(plan), len(plan.to_do)) == (True, own, 3)
    assert site.sent.keys() == {"list"}
    assert not path.exists()
    report = await site.client.apply(SPECS, journal=path, on_plan=lambda _: False)
    assert (report.plan, site.writes) == (plan, {})
    async with Journal.open(path) as journal:
        await site.client.adopt_all(SPECS, journal=journal)
        plan = await site.client.plan_apply(SPECS, journal=journal)
    assert (plan.is_new, plan.changes, plan.unchanged) == (False, (), 3)


@pytest.mark.parametrize(
    ("asked", "there", "is_one"),
    [
        ({}, {}, True),
        ({}, {"workspace_id": DEFAULT_WORKSPACE}, True),
        ({}, {"workspace_id": OTHER}, False),
        ({}, {"disabled": True}, True),
        ({}, {"name": "Customer-a"}, False),
        ({"workspace_id": DEFAULT_WORKSPACE}, {}, True),
        ({"workspace_id": DEFAULT_WORKSPACE.upper()}, {}, True),
        ({"workspace_id": OTHER}, {"workspace_id": OTHER}, True),
        ({"workspace_id": OTHER}, {}, False),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
async def test_a_key_of_the_same_name(
    site: Site, asked: dict[str, Any], there: dict[str, object], *, begun: bool, is_one: bool
) -> None:
    """It is in the workspace where the other one is to be, whatever the journal has besides."""
    site.emulator.account.workspaces[OTHER] = Workspace(OTHER, "another")
    if begun:
        await site.applied([spec("z")])
    key = site.emulator.account.add(str(there.get("name", "customer-a")))
    key.workspace_id = str(there.get("workspace_id", key.workspace_id))
    key.disabled = bool(there.get("disabled"))
    wanted = [evolve(spec("a"), **asked), spec("b"), spec("z")]
    plan = await site.plan(wanted)
    assert found(plan) == ({"a": (key.hash,)} if is_one else {})
    assert plan.is_new is not begun
    assert (await site.apply(wanted)).ok  # who calls the library decides


async def test_two_keys_of_a_name(site: Site) -> None:
    two = {site.emulator.account.add("customer-a").hash for _ in range(2)}
    plan = await site.plan(SPECS)
    assert [set(hashes) for hashes in found(plan).values()] == [two]


async def test_names_that_the_journal_has_twice(site: Site) -> None:
    """Its own keys are none: refs may share a name."""
    alike = [KeySpec(ref=ref, name="trial") for ref in "abc"]
    await site.applied(alike[:2])
    assert found(await site.plan(alike)) == {}
    stranger = site.emulator.account.add("trial").hash
    assert found(await site.plan(alike)) == {"c": (stranger,)}


async def test_nothing_to_look_for(site: Site) -> None:
    """No specs and no keys: nothing is asked."""
    plan = await site.plan([])
    assert (plan.is_new, plan.changes, site.sent) == (True, (), {})


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_journal_whose_creates_were_all_refused_is_new(site: Site, status: int) -> None:
    site.emulator.faults.append(Fault("create", status=status, times=3))
    assert not (await site.apply(SPECS)).ok
    key = site.emulator.account.add("customer-a")
    plan = await site.plan(SPECS)
    assert (plan.is_new, found(plan), len(plan.to_do)) == (True, {"a": (key.hash,)}, 3)
    await site.applied([spec("z")])
    plan = await site.plan([*SPECS, spec("z")])
    assert (plan.is_new, found(plan)) == (False, {"a": (key.hash,)})


@pytest.mark.parametrize("state", ["intent", "doubt", "doubt_made", "rejected", "made"])
async def test_a_journal_that_may_have_a_key_is_not_new(site: Site, state: str) -> None:
    """The key of the name may be the one that the create made."""
    await site.bring(state, SPECS[0])
    plan = await site.plan(SPECS)
    assert (plan.is_new, found(plan)) == (False, {})


async def test_a_create_that_was_written_off_may_have_made_the_key(site: Site) -> None:
    async with site.journal.begin() as run:
        await Rows(run, site.client, site.emulator).write_off("failed", SPECS[0])
    site.emulator.account.add("customer-a")
    plan = await site.plan(SPECS)
    assert (plan.is_new, found(plan)) == (False, {})
