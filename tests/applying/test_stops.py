"""Calls of `apply` that are refused, stopped, cancelled or repeated, and what the next one does."""

import asyncio
import pickle
import threading
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys import (
    ApplyProgress,
    ApplyStoppedError,
    KeySpec,
    OpenRouter,
    Plan,
    ProvisioningStoppedError,
    ProvisionResult,
    errors,
)
from openrouter_keys.emulator import DailyQuota, Emulator, Fault, RateLimit, Workspace
from tests.applying.sites import Site, told
from tests.clients import until
from tests.journals import spec
from tests.provisions import client_of


def mixed(site_specs: list[KeySpec]) -> list[KeySpec]:
    """The same specs, with one that is updated, one that is new, and one fewer."""
    first, *rest = site_specs[:-1]
    return [evolve(first, limit=80), *rest, spec("new", limit=1)]


@pytest.fixture
async def specs(site: Site) -> list[KeySpec]:
    """Specs that the account follows, but for one key that somebody changed."""
    specs = [spec(str(number), limit=5) for number in range(6)]
    await site.applied(specs)
    site.key("customer-1").limit = 9.0
    return specs


async def test_one_refusal_keeps_no_other_change(site: Site, specs: list[KeySpec]) -> None:
    fault = Fault("update", "status", status=400, times=1)
    site.emulator.faults.append(fault)
    report = await site.apply(mixed(specs), prune="delete")
    assert (report.ok, report.failed, report.created, report.pruned) == (False, 1, 1, 1)
    assert report.updated + report.restored == 1
    assert [problem.hashes for problem in report.failures] != [()]
    assert (await site.apply(mixed(specs), prune="delete")).ok
    await site.assert_as(mixed(specs), prune="delete")


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Fault("update", "status", status=401), errors.UnauthorizedResponseError),
        (Fault("update", "status", status=402), errors.ResponseError),
        (Fault("create", "status", status=403), errors.ForbiddenResponseError),
        (Fault("delete", "status", status=401), errors.UnauthorizedResponseError),
    ],
    ids=lambda given: getattr(given, "operation", ""),
)
async def test_it_stops(site: Site, specs: list[KeySpec], fault: Fault, cause: Any) -> None:
    """What stops one change stops all; the error has the report, and the next call goes on."""
    site.emulator.faults.append(evolve(fault, times=None))
    with pytest.raises(ApplyStoppedError, match="goes on") as caught:
        await site.apply(mixed(specs), prune="delete")
    assert isinstance(caught.value.__cause__, cause)
    assert caught.value.report.stopped
    assert not caught.value.report.ok
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(caught.value)
    site.emulator.faults.clear()
    assert (await site.apply(mixed(specs), prune="delete")).ok
    await site.assert_as(mixed(specs), prune="delete")


async def test_an_exhausted_quota(site: Site, specs: list[KeySpec]) -> None:
    site.emulator.daily_quota = DailyQuota(2)
    with pytest.raises(ApplyStoppedError) as caught:
        await site.apply(mixed(specs), prune="delete")
    assert isinstance(caught.value.__cause__, errors.QuotaExhaustedError)
    site.emulator.daily_quota = None
    async with client_of(site.emulator) as tomorrow:
        following = evolve(site, client=tomorrow)
        assert (await following.apply(mixed(specs), prune="delete")).ok
        await following.assert_as(mixed(specs), prune="delete")


@pytest.mark.parametrize("retry_after", ["none", "seconds"])
async def test_a_rate_limit_slows_updates_down(site: Site, retry_after: Any) -> None:
    """What the service rejects comes again at a pace that it accepts, and nothing fails."""
    specs = [spec(str(number), limit=5) for number in range(60)]
    await site.applied(specs)
    site.emulator.rate_limit = RateLimit(10, 5, retry_after=retry_after)
    wanted = [evolve(spec, limit=6) for spec in specs]
    report = await site.apply(wanted)
    assert (report.ok, report.updated) == (True, 60)
    assert site.sent["update"] <= 120
    site.emulator.rate_limit = None
    await site.assert_as(wanted)


async def test_max_failures(site: Site, specs: list[KeySpec]) -> None:
    site.emulator.faults.append(Fault("update", "status", status=400, times=None))
    with pytest.raises(ApplyStoppedError) as caught:
        await site.apply(mixed(specs), max_failures=1)
    assert isinstance(caught.value.__cause__, errors.TooManyFailuresError)
    assert caught.value.report.failed == 2


async def test_a_secret_that_is_not_taken(site: Site, specs: list[KeySpec]) -> None:
    """The next call hands it over."""

    def refuse(_: ProvisionResult) -> None:
        raise ConnectionError("the customers' database is away")

    with pytest.raises(ApplyStoppedError) as caught:
        await site.apply(mixed(specs), on_result=refuse)
    assert isinstance(caught.value.__cause__, ConnectionError)
    plan = await site.plan(mixed(specs))
    assert [change.action for change in plan.to_do] == ["hand over"]
    report = await site.apply(mixed(specs))
    assert (report.ok, report.created, report.handed_over) == (True, 0, 1)
    assert site.taken[-1].key == site.key("customer-new").secret


@pytest.mark.parametrize("operation", ["update", "create", "delete"])
async def test_cancelled(site: Site, specs: list[KeySpec], operation: Any) -> None:
    """A call that is cancelled at any request is gone on with by the next one."""
    site.emulator.faults.append(Fault(operation, "slow", delay=0.05, phase="after", times=1))
    call = asyncio.ensure_future(site.apply(mixed(specs), prune="delete"))
    await until(lambda: site.writes[operation])
    call.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await call
    assert any("apply: cancelled" in note for note in caught.value.__notes__)
    assert (await site.apply(mixed(specs), prune="delete")).ok
    await site.assert_as(mixed(specs), prune="delete")
    assert len(site.emulator.account.keys) == 6


async def test_an_update_that_may_still_land(site: Site) -> None:
    """What a call had sent when it ended is undone, though the service does not show it yet."""
    before, after = spec(limit=50), spec(limit=80)
    await site.applied([before])
    site.emulator.faults.append(Fault("update", "status", status=500, times=None))
    report = await site.apply([after])
    assert (report.ok, report.failed) == (False, 1)
    site.emulator.faults.clear()
    plan = await site.plan([before])
    assert told(plan.changes) == [("r", "update", [("limit", 80.0, 50)])]
    site.key("customer-r").limit = 80.0
    await site.apply([before])
    assert site.key("customer-r").limit == 50
    await site.assert_as([before])


async def test_an_update_that_was_not_written_down(site: Site) -> None:
    """A key that nobody took is handed over as the service shows it now."""
    await site.bring("made", spec(limit=5))
    async with site.journal.begin() as run:
        await run.claim("r")
        await run.want("r", spec(limit=60).plan)
    site.key("customer-r").limit = 60.0
    report = await site.apply([spec(limit=60)])
    assert (report.ok, report.handed_over, site.writes) == (True, 1, {})
    await site.assert_as([spec(limit=60)])


async def test_two_at_once(site: Site, specs: list[KeySpec]) -> None:
    """Two calls by two clients make no key twice, and both end."""
    wanted = [*mixed(specs), *(spec(f"more-{number}") for number in range(20))]
    async with client_of(site.emulator) as other:
        reports = await asyncio.gather(
            site.apply(wanted, prune="delete", recreate=True),
            other.apply(wanted, journal=site.journal, prune="delete", recreate=True),
            return_exceptions=True,
        )
    assert not [each for each in reports if isinstance(each, BaseException)]
    names = [key.name for key in site.emulator.account.keys.values()]
    assert sorted(names) == sorted(spec.name for spec in wanted)
    await site.assert_as(wanted, prune="delete")


async def test_progress(site: Site, specs: list[KeySpec]) -> None:
    seen: list[ApplyProgress] = []
    report = await site.apply(mixed(specs), prune="delete", on_progress=seen.append)
    phases = [*dict.fromkeys(progress.phase for progress in seen)]
    assert phases == ["changing", "creating", "pruning", "ended"]
    assert seen[-1].report == report
    assert seen[0].total == 2


async def test_a_callback_that_fails(site: Site, specs: list[KeySpec]) -> None:
    def fail(progress: ApplyProgress) -> None:
        raise RuntimeError("no terminal")

    with pytest.raises(ApplyStoppedError) as caught:
        await site.apply(mixed(specs), on_progress=fail)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert not site.writes


async def test_the_limits_are_bounded(site: Site) -> None:
    with pytest.raises(errors.AllowanceExceededError):
        await site.apply([spec("a", limit=5), spec("b", limit=6)], max_total_limit=10)
    assert not site.emulator.requests


async def test_another_service_or_account(site: Site, specs: list[KeySpec]) -> None:
    """Neither is changed."""
    async with Emulator() as another:
        async with client_of(another) as client:
            for call in (client.plan_apply, client.apply):
                with pytest.raises(errors.JournalMismatchError, match="belongs to"):
                    await call(mixed(specs), journal=site.journal)
        assert not another.requests
    home = "e2e2e2e2-0000-4000-8000-000000000009"
    site.emulator.account.keys.clear()
    site.emulator.account.workspaces[home] = Workspace(home, "theirs")
    site.emulator.account.default_workspace = home
    site.emulator.account.add("theirs")
    for again in (site.plan, site.apply):
        with pytest.raises(errors.AccountChangedError):
            await again(mixed(specs), recreate=True)
    assert not site.writes


# --- disabled keys, elsewhere ---


async def test_only_apply_disables(site: Site) -> None:
    asked = spec(limit=5, disabled=True)
    with pytest.raises(ProvisioningStoppedError, match="only `apply`"):
        await site.client.provision([asked], journal=site.journal)
    with pytest.raises(ValueError, match="apply"):
        await site.client.ensure(asked, journal=site.journal)
    report = await site.apply([asked])
    assert (report.ok, report.created, len(site.taken)) == (True, 1, 1)
    assert site.key("customer-r").disabled
    for _ in range(2):  # a service that asks for the key does not enable it
        with pytest.raises(errors.PlanChangedError, match="`apply` enables it"):
            await site.client.ensure(spec(limit=5), journal=site.journal)
    await site.assert_as([asked])
    assert (await site.apply([spec(limit=5)])).updated == 1
    ensured = await site.client.ensure(spec(limit=5), journal=site.journal)
    assert ensured.outcome == "existing"


def test_blocking(openrouter_emulator: Emulator, tmp_path: Any) -> None:
    """The callbacks run in the caller's thread."""
    threads: set[int] = set()

    def seen(*_: object) -> bool:
        threads.add(threading.get_ident())
        return True

    emulator = openrouter_emulator
    with OpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        given: dict[str, Any] = {"journal": tmp_path / "keys.journal"}
        assert len(client.plan_apply([spec()], **given).to_do) == 1
        report = client.apply([spec()], on_plan=seen, on_result=seen, **given)
        assert (report.ok, report.created) == (True, 1)
        assert client.plan_apply((each for each in [spec()]), **given).unchanged == 1
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("prune", ["disable", "delete"])
async def test_what_another_process_changed_while_a_plan_was_looked_at_stays(
    site: Site, prune: str
) -> None:
    """An update, a lock-out, and a key that is pruned here and in use again there."""
    await site.apply([spec(ref, limit=5) for ref in "abc"])
    await site.apply([spec(ref, limit=5) for ref in "ab"], prune="disable")

    async def meanwhile(_: Plan) -> None:
        await site.apply(
            [spec("a", limit=7), spec("b", limit=5, disabled=True), spec("c", limit=5)]
        )

    report = await site.apply(
        [spec("a", limit=6), spec("b", limit=6)], prune=prune, on_plan=meanwhile
    )
    changed = {problem.ref for problem in report.failures}
    assert changed == {"a", "b", *("c" if prune == "delete" else "")}
    assert all("another process changed it" in each.reason for each in report.failures)
    keys = site.emulator.account.keys.values()
    assert {(key.name, key.limit, key.disabled) for key in keys} == {
        ("customer-a", 7, False), ("customer-b", 5, True), ("customer-c", 5, False),
    }  # fmt: skip
