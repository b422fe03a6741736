"""What `plan_apply` shows, and what `apply` makes of it: each kind of change, on each state."""

from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys._transport.pages import PREFETCH
from openrouter_keys.emulator import Workspace
from openrouter_keys.emulator.state import DEFAULT_WORKSPACE
from openrouter_keys.errors import DuplicateRefError
from tests.applying.sites import Site, told
from tests.journals import spec

BEFORE = spec(limit=50, limit_reset="monthly")
OTHER = "e2e2e2e2-0000-4000-8000-000000000002"


@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        ("limit", 50.0, 80.0),
        ("limit", 50.0, None),
        ("limit", 50.0, 0.0),
        ("limit_reset", "monthly", "daily"),
        ("limit_reset", "monthly", None),
        ("name", "customer-r", "another name"),
        ("include_byok_in_limit", False, True),
        ("workspace_id", DEFAULT_WORKSPACE, OTHER),
        ("disabled", False, True),
    ],
)
class TestFields:
    async def test_an_update(self, site: Site, field: str, before: Any, after: Any) -> None:
        """What the spec says anew is updated, and nothing else."""
        site.emulator.account.workspaces[OTHER] = Workspace(OTHER, "another")
        await site.applied([BEFORE])
        spec = evolve(BEFORE, **{field: after})
        plan = await site.plan([spec])
        assert told(plan.changes) == [("r", "update", [(field, before, after)])]
        assert not site.writes
        report = await site.apply([spec])
        assert (report.ok, report.updated, site.writes) == (True, 1, {"update": 1})
        assert getattr(site.key(spec.name), field) == after
        await site.assert_as([spec])

    async def test_a_restore(self, site: Site, field: str, before: Any, after: Any) -> None:
        """What somebody changed by hand is shown as that, and is made as the spec says."""
        site.emulator.account.workspaces[OTHER] = Workspace(OTHER, "another")
        spec = evolve(BEFORE, **{field: before})
        await site.applied([spec])
        setattr(site.key(spec.name), field, after)
        plan = await site.plan([spec])
        assert told(plan.changes) == [("r", "restore", [(field, after, before)])]
        report = await site.apply([spec])
        assert (report.ok, report.restored, site.writes) == (True, 1, {"update": 1})
        await site.assert_as([spec])


async def test_a_field_that_no_spec_names_is_left_alone(site: Site) -> None:
    await site.applied([BEFORE])
    site.key("customer-r").limit = 3
    site.key("customer-r").include_byok_in_limit = True
    await site.assert_as([spec()])
    assert site.key("customer-r").limit == 3
    # From now on the journal has what is asked for.
    assert (await site.plan([BEFORE])).to_do[0].action == "update"


@pytest.mark.parametrize(
    ("state", "same", "other"),
    [
        ("intent", "create", "create"),
        ("doubt", "create", "create"),
        ("doubt-made", "create", "create"),
        ("failed", "create", "create"),
        ("made", "hand over", "hand over"),
        ("made-unread", "hand over", "hand over"),
        ("settled", None, "update"),
        ("settled-unread", None, "update"),
        ("wanted", "update", "update"),
        ("releasing", "create", "create"),
        ("released", "create", "create"),
    ],
)
@pytest.mark.parametrize("changed", [False, True])
async def test_states(
    site: Site, state: str, same: str | None, other: str, *, changed: bool
) -> None:
    """One key as the spec says comes of each state that a run left behind."""
    asked = spec(limit=6) if changed else spec(limit=5)
    await site.bring(state, spec(limit=5))
    plan = await site.plan([asked])
    action = other if changed else same
    assert not action or action in [change.action for change in plan.changes]
    assert not site.writes
    report = await site.apply([asked])
    assert (report.ok, report.failures) == (True, ())
    (key,) = site.emulator.account.keys.values()
    assert key.limit == asked.limit
    await site.assert_as([asked])
    assert {result.key for result in site.taken} <= {key.secret}


async def test_a_key_that_was_never_as_asked_for(site: Site) -> None:
    await site.bring("rejected", spec(limit=5))
    (change,) = (await site.plan([spec(limit=5)])).changes
    assert change.action == "recreate"
    assert "it has no limit" in str(change.why)
    report = await site.apply([spec(limit=5)])
    assert (report.ok, report.changed, site.writes) == (True, 0, {})
    report = await site.apply([spec(limit=5)], recreate=True)
    assert (report.ok, report.recreated) == (True, 1)
    await site.assert_as([spec(limit=5)])


# --- keys that are gone ---


async def test_a_key_that_somebody_deleted(site: Site) -> None:
    specs = [spec(str(number), limit=5) for number in range(4)]
    await site.applied(specs)
    site.gone("customer-1")
    site.gone("customer-2")
    plan = await site.plan(specs)
    assert [(each.ref, each.action) for each in plan.left] == [
        ("1", "recreate"),
        ("2", "recreate"),
    ]
    assert not plan.to_do
    assert (await site.apply(specs)).changed == 0
    assert not site.writes
    report = await site.apply(specs, recreate=True)
    assert (report.ok, report.recreated, report.created) == (True, 2, 0)
    assert [result.ref for result in site.taken[4:]] in (["1", "2"], ["2", "1"])
    await site.assert_as(specs)


async def test_all_keys_are_gone_or_it_is_another_account(site: Site) -> None:
    """An empty list proves nothing: nothing is created anew."""
    await site.applied([BEFORE])
    site.gone("customer-r")
    (change,) = (await site.plan([BEFORE], recreate=True)).changes
    assert "proves nothing" in str(change.why)
    report = await site.apply([BEFORE], recreate=True)
    assert (report.changed, site.writes) == (0, {})
    site.emulator.account.add("another's")
    report = await site.apply([BEFORE], recreate=True)
    assert (report.ok, report.recreated) == (True, 1)


async def test_a_key_that_is_not_listed_and_is_there(site: Site) -> None:
    """A key in a workspace that nobody names is asked for by itself."""
    await site.applied([BEFORE])
    site.emulator.account.workspaces[OTHER] = Workspace(OTHER, "another")
    site.key("customer-r").workspace_id = OTHER
    await site.assert_as([BEFORE])
    assert site.sent["get"] == 1


# --- keys that no spec names ---


@pytest.mark.parametrize("way", ["disable", "delete"])
@pytest.mark.parametrize("state", ["settled", "made", "settled-unread", "wanted"])
async def test_prune(site: Site, way: Any, state: str) -> None:
    kept, extra = spec("kept"), spec("extra", limit=5)
    site.emulator.account.add("another's")
    await site.applied([kept])
    await site.bring(state, extra)
    (change,) = (await site.plan([kept])).left
    assert (change.ref, change.action) == ("extra", "prune")
    await site.apply([kept])
    assert not site.writes
    report = await site.apply([kept], prune=way)
    assert (report.ok, report.pruned, site.writes.total()) == (True, 1, 1)
    left = {key.name: key.disabled for key in site.emulator.account.keys.values()}
    gone = {} if way == "delete" else {"customer-extra": True}
    assert left == {"another's": False, "customer-kept": False, **gone}
    await site.assert_as([kept], prune=way)
    assert (await site.plan([kept])).pruned == len(gone)


@pytest.mark.parametrize("way", ["disable", "delete"])
async def test_a_pruned_key_comes_back(site: Site, way: Any) -> None:
    await site.applied([BEFORE])
    await site.apply([], prune=way, max_prune=1)
    report = await site.apply([BEFORE])
    assert (report.ok, report.updated, report.created) == (
        (True, 1, 0) if way == "disable" else (True, 0, 1)
    )
    assert not site.key("customer-r").disabled
    await site.assert_as([BEFORE])


async def test_a_disabled_key_is_deleted_if_asked(site: Site) -> None:
    await site.applied([BEFORE])
    await site.apply([], prune="disable", max_prune=1)
    assert (await site.apply([], prune="delete", max_prune=1)).pruned == 1
    assert not site.emulator.account.keys
    assert (await site.plan([])).changes == ()


# --- sums, refusals, costs ---


async def test_what_the_keys_may_spend(site: Site) -> None:
    """The plan has the sums before and after, of keys that work."""
    specs = [
        spec("a", limit=50, limit_reset="monthly"),
        spec("b", limit=0.1),
        spec("c", limit=0.2),
        spec("d"),
        spec("e", limit=7, limit_reset="daily"),
    ]
    await site.applied(specs)
    site.key("customer-e").disabled = True
    wanted = [
        evolve(specs[0], limit=80),
        *specs[1:3],
        evolve(specs[3], disabled=True),
        spec("f", limit=1, limit_reset="daily"),
    ]
    plan = await site.plan(wanted)
    assert plan.before.amounts == {"monthly": Decimal(50), "once": Decimal("0.3")}
    assert plan.before.unlimited == 1
    assert plan.after.amounts == {"monthly": 80, "once": Decimal("0.3"), "daily": 1}
    assert plan.after.unlimited == 0
    assert await site.plan(specs[:2], prune="delete") != plan


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"journal": None}, "journal"),
        ({"journal": ""}, "journal"),
        ({"prune": "keep"}, "prune"),
        ({"recreate": "yes"}, "recreate"),
        ({"replace": 1}, "replace"),
        ({"concurrency": 0}, "concurrency"),
        ({"rate": 0}, "rate"),
    ],
)
@pytest.mark.parametrize("call", ["plan_apply", "apply"])
async def test_arguments(site: Site, call: str, given: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=f"^{argument}: "):
        await getattr(site.client, call)([], **{"journal": site.journal, **given})
    assert not site.emulator.requests


@pytest.mark.parametrize("call", ["plan_apply", "apply"])
async def test_two_specs_of_a_ref(site: Site, call: str) -> None:
    with pytest.raises(DuplicateRefError):
        await getattr(site.client, call)([spec(), spec(name="b")], journal=site.journal)
    assert not site.emulator.requests


async def test_a_plan_makes_no_file(site: Site, tmp_path: Any) -> None:
    path = tmp_path / "keys.journal"
    plan = await site.client.plan_apply([BEFORE], journal=path)
    assert told(plan.changes) == [
        ("r", "create", [("limit", None, 50), ("limit_reset", None, "monthly")])
    ]
    assert not path.exists()
    await site.client.apply([BEFORE], journal=path)
    assert (await site.client.plan_apply([BEFORE], journal=path)).changes == ()


@pytest.mark.slow
async def test_many_unchanged_keys_cost_their_pages(site: Site) -> None:
    """No write, and no request but the pages."""
    specs = [spec(str(number), limit=5) for number in range(1000)]
    await site.applied(specs)
    plan = await site.plan(specs)
    assert (plan.unchanged, plan.changes) == (1000, ())
    # Of 100 keys each, which overlap by 9; and those under way when the last one comes.
    costs = [{"list": 12 + number} for number in range(PREFETCH)]
    assert site.sent in costs
    site.emulator.requests.clear()
    assert (await site.apply(specs)).ok
    assert site.sent in costs


async def test_on_plan(site: Site) -> None:
    """The plan is shown before anything is changed, and False declines it."""
    seen: list[object] = []

    async def decline(plan: object) -> bool:
        seen.append(plan)
        return False

    def agree(_: object) -> bool:
        return True

    report = await site.apply([BEFORE], on_plan=decline)
    assert (report.declined, report.ok, report.changed) == (True, False, 0)
    assert seen == [report.plan]
    assert site.sent == {"list": 1}
    report = await site.apply([BEFORE], on_plan=agree)
    assert (report.ok, report.created) == (True, 1)
