"""Replacements that `apply` was stopped at, or that `rotate` is making: what other calls do."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys import ApplyStoppedError, PlanChangedError, ProvisionResult
from openrouter_keys.emulator import Fault
from openrouter_keys.journal.schema import State
from tests.applying.sites import Site
from tests.journals import AT, spec

BEFORE = spec(limit=50)
THEN = datetime(2099, 1, 1, tzinfo=UTC)
AFTER = evolve(BEFORE, expires_at=THEN)


def fail(_: ProvisionResult) -> None:
    raise ConnectionError("no vault")


async def stopped(site: Site, how: str) -> None:
    """A replacement that was refused, is in doubt, is not handed over, or keeps its old key."""
    site.emulator.account.add("another's")
    await site.applied([BEFORE])
    faults = {
        "refused": Fault("create", status=400),
        "in doubt": Fault("create", status=502, phase="after", times=None),
        "old key left": Fault("delete", status=500, times=None),
    }
    given = {"on_result": fail} if how == "not handed over" else {}
    if how in faults:
        site.emulator.faults.append(faults[how])
    with suppress(ApplyStoppedError):
        await site.apply([AFTER], replace=True, **given)
    site.emulator.faults.clear()


@pytest.mark.parametrize("how", ["refused", "in doubt", "not handed over", "old key left"])
async def test_ensure_says_to_apply_again(site: Site, how: str) -> None:
    """And not to `rotate`, which would replace the key twice, or to release the ref."""
    await stopped(site, how)
    with pytest.raises(PlanChangedError, match="apply again, with replace=True") as caught:
        await site.client.ensure(AFTER, journal=site.journal)
    assert caught.value.changed == ("expires_at",)
    await site.apply([AFTER], replace=True)
    ensured = await site.client.ensure(AFTER, journal=site.journal)
    assert ensured.key == site.key("customer-r").secret
    with pytest.raises(PlanChangedError, match="with `rotate`"):
        await site.client.ensure(BEFORE, journal=site.journal)


@pytest.mark.parametrize("state", [State.INTENT, State.DOUBT, State.MADE])
async def test_pruning_waits_for_a_replacement_that_is_being_made(site: Site, state: State) -> None:
    """The key is not disabled beside it, and both are once it is made."""
    await site.applied([BEFORE, spec("kept")])
    old = site.key("customer-r")
    async with site.journal.begin() as run:
        await run.plan_rotations([(old.hash, BEFORE.plan, "full", 50.0, 0.0)])
        await run.intend(evolve(BEFORE, ref=old.hash), AT)
        twin = site.emulator.account.add(old.name, limit=50.0)
        if state is State.DOUBT:
            await run.doubt(old.hash, "no answer")
        if state is State.MADE:
            await run.keep(old.hash, secret=str(twin.secret), hash=twin.hash)
        report = await site.apply([spec("kept")], prune="disable", max_prune=2)
        (problem,) = report.failures
        assert (problem.ref, old.disabled, twin.disabled) == ("r", False, False)
        assert not site.writes
        if state is not State.MADE:
            await run.keep(old.hash, secret=str(twin.secret), hash=twin.hash)
        await run.acknowledge(old.hash)
    report = await site.apply([spec("kept")], prune="disable", max_prune=2)
    assert (report.ok, old.disabled, twin.disabled) == (True, True, True)


async def _raises(site: Site, wanted: Any, given: dict[str, Any]) -> BaseException:
    with pytest.raises(ApplyStoppedError) as caught:
        await site.apply(wanted, on_result=fail, **given)
    assert caught.value.report.not_handed_over
    return caught.value


async def _cancelled(site: Site, wanted: Any, given: dict[str, Any]) -> BaseException:
    def cancel(_: ProvisionResult) -> None:
        call.cancel()
        raise asyncio.CancelledError

    call = asyncio.ensure_future(site.apply(wanted, on_result=cancel, **given))
    with pytest.raises(asyncio.CancelledError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("ends", [_raises, _cancelled])
@pytest.mark.parametrize("kind", ["replace", "create", "recreate"])
async def test_a_stopped_call_names_the_keys_that_nobody_took(
    site: Site, ends: Callable[..., Any], kind: str
) -> None:
    site.emulator.account.add("another's")
    await site.applied([BEFORE])
    wanted = {"replace": AFTER, "create": spec("new"), "recreate": BEFORE}[kind]
    if kind == "recreate":
        site.gone(BEFORE.name)
    given = {kind: True} if kind != "create" else {}
    error = await ends(site, [wanted], given)
    text = "\n".join([str(error), *getattr(error, "__notes__", ())])
    assert "1 not handed over" in text
    assert f"the keys of {wanted.ref} are made, and nobody has taken their secrets" in text
    report = await site.apply([wanted], **given)
    assert (report.ok, report.not_handed_over) == (True, ())
    assert site.taken[-1].key == site.key(wanted.name).secret
