"""Runs that share a journal: who makes a key, who waits for whom, and what each reports."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import (
    AsyncOpenRouter,
    KeySpec,
    ProvisionReport,
    ProvisionResult,
    Reconciliation,
)
from openrouter_keys._reconcile.reconcile import reconcile
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.errors import CreateOutcomeUnknownError
from openrouter_keys.journal.journal import Journal
from tests.journals import SECRET, spec
from tests.provisions import JumpingTime, counts, specs

ELSEWHERE = ("0", "another run with this journal is at it, and gets no further: see to that run")


async def test_a_second_run_makes_what_the_first_does_not_and_says_what_it_waited_for(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    reports: list[ProvisionReport] = []

    async def provision_too(_: ProvisionResult) -> None:
        reports.append(await client.provision(specs(3), journal=path))

    first = await client.provision(specs(1), journal=path, on_result=provision_too)

    (second,) = reports
    assert (first.created, second.created, emulator.count("create")) == (1, 2, 3)
    assert first.ok
    # The first one hands its key over while the second ends.
    assert (second.in_doubt, second.pending, second.stopped) == (1, 0, False)
    assert [(doubt.ref, doubt.reason) for doubt in second.doubts] == [ELSEWHERE]
    third = await client.provision(specs(3), journal=path)
    assert (third.ok, third.settled_before) == (True, 3)


Step = Callable[[Journal], Any]
#: What another run does with a ref while this one waits for it, and what this one makes of it.
STEPS: dict[str, tuple[Step, dict[str, int]]] = {
    "keeps its key": (
        lambda other: other.keep("0", secret=SECRET, hash=HASH_OF_IT, settled=True),
        {"settled_before": 1},
    ),
    "is refused": (lambda other: other.fail("0", "no"), {"created": 1}),
    "takes its intent back": (lambda other: other.forget_intent("0"), {"created": 1}),
    "stays in doubt": (lambda other: other.doubt("0", "no answer"), {"in_doubt": 1}),
}
HASH_OF_IT = "b" * 64


@pytest.mark.parametrize("step", STEPS)
async def test_a_run_that_waits_goes_on_with_what_another_one_did(
    step: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    act, expected = STEPS[step]
    async with Journal.open(path) as other:
        await other.intend(specs(1)[0], emulator.account.clock())
        run = asyncio.create_task(client.provision(specs(1), journal=path))
        waiting = asyncio.create_task(asyncio.sleep(0.05))
        await asyncio.wait([run, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not run.done():
            await act(other)
        report = await run
    found = {
        name: getattr(report, name)
        for name in ("created", "settled_before", "in_doubt", "failed")
        if getattr(report, name)
    }
    assert found == expected


async def test_a_run_that_ended_leaves_what_it_had_in_doubt_to_the_one_that_waits(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    async with Journal.open(path) as other:
        await other.intend(specs(1)[0], emulator.account.clock())
        emulator.account.add("customer-0")  # it was made, and nobody has its secret
        async with Journal.open(path) as first:
            assert not (await first.claim("0"))["0"].ours
    report = await client.provision(specs(1), journal=path)
    assert (report.created, report.deleted, emulator.count("create")) == (1, 1, 1)


@pytest.mark.parametrize("state", ["intent", "doubt"])
@pytest.mark.parametrize("call", ["provision", "ensure"])
async def test_a_run_that_waits_looks_once_what_the_other_sent_has_landed(
    call: str,
    state: str,
    *,
    client: AsyncOpenRouter,
    time: JumpingTime,
    path: Path,
    emulator: Emulator,
) -> None:
    """The quiet period begins when the row is claimed, long after this run began."""
    wanted, ended = specs(1)[0], list[float]()

    def lands(_: float = 0) -> None:
        if ended and time.monotonic() >= ended[0] + 20:
            emulator.account.add(wanted.name)
            ended[0] += 1e9

    async def ends(other: Journal) -> None:
        begun = time.monotonic()
        while time.monotonic() < begun + 100:
            await asyncio.sleep(0.001)
        if state == "doubt":
            await other.doubt(wanted.ref, "no answer")

    time.on_sleep = lands
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(Journal.open(path, longest_timeout=600))
        await other.intend(wanted, emulator.account.clock())
        called: Callable[[], Awaitable[object]] = (
            partial(client.ensure, wanted, journal=path, wait=10_000)
            if call == "ensure"
            else partial(client.provision, [wanted], journal=path)
        )
        running = asyncio.ensure_future(called())
        await ends(other)
        ended.append(time.monotonic())
        await stack.aclose()
        await running
    await time.sleep(20)
    assert ended[0] > 1e8
    assert len(emulator.account.keys) == 1


async def test_nobody_is_asked_to_delete_a_key_that_another_process_may_be_making(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    wanted, theirs = (KeySpec(ref=ref, name="same") for ref in ("ours", "theirs"))
    emulator.faults.append(Fault("create", status=502, phase="after"))
    with pytest.raises(CreateOutcomeUnknownError):
        await client.ensure(wanted, journal=path, wait=0)
    async with Journal.open(path) as other:
        await other.intend(theirs, emulator.account.clock())
        with pytest.raises(CreateOutcomeUnknownError, match="is making a key of this") as caught:
            await client.ensure(wanted, journal=path, wait=100)
        assert "delete" not in str(caught.value)
    assert len(emulator.account.keys) == 1


async def test_rounds_of_others_are_not_counted_as_rounds_without_a_key(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    """Other runs make many keys, one after the other; this one only ever waits for them."""
    many = specs(30)
    emulator.account.add("theirs", secret=SECRET)
    async with Journal.open(path) as other:
        for one in many:
            await other.intend(one, emulator.account.clock())

        async def make_them() -> None:
            for one in many:
                await asyncio.sleep(0.002)
                await other.keep(one.ref, secret=SECRET, hash=HASH_OF_IT, settled=True)

        making = asyncio.create_task(make_them())
        report = await client.provision([*many, spec("own")], journal=path)
        await making
    assert (report.created, report.settled_before, report.ok) == (1, 30, True)


async def test_keys_that_living_runs_hand_over_are_not_pending_for_others(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.account.add("theirs", secret=SECRET)
    async with Journal.open(path) as other:
        await other.intend(spec("theirs"), emulator.account.clock())
        await other.keep("theirs", secret=SECRET, hash=HASH_OF_IT)
        report = await client.provision([spec("own")], journal=path)
        assert (report.pending, report.ok) == (0, True)
    report = await client.provision([spec("own")], journal=path)
    assert (report.pending, report.ok) == (1, False)


async def test_runs_at_once_with_faults_leave_one_key_each(path: Path) -> None:
    faults = [
        Fault("create", status=502, phase="after", probability=0.15, times=None),
        Fault("create", "closed", phase="after", probability=0.15, times=None),
    ]
    many = specs(40)
    # In real time: where it jumps, a run waits for others, and they have had no time.
    async with (
        Emulator(faults=faults) as emulator,
        AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
    ):
        runs = (
            client.provision(many, journal=path, concurrency=4, quiet_period=0.2) for _ in range(4)
        )
        reports = await asyncio.gather(*runs)
    assert [report.created + report.settled_before for report in reports] == [40] * 4
    assert all(report.ok for report in reports)
    assert sum(report.created for report in reports) == 40
    assert await counts(path) == {"settled": 40}
    async with Journal.read(path) as journal:
        kept = {entry.hash async for entry in journal.every()}
    assert kept == {*emulator.account.keys}
    names = sorted(key.name for key in emulator.account.keys.values())
    assert names == sorted(one.name for one in many)


def nobody_lives(_: object, __: int) -> bool:
    return False


@pytest.mark.parametrize("faults", [2, 1])
async def test_what_is_taken_over_during_a_look_is_left_to_its_new_owner(
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    faults: int,
) -> None:
    """A run that was cut off from the journal meanwhile goes on with what is still its own."""

    async def reconciled(*args: Any, **kwargs: Any) -> Reconciliation:
        found = await reconcile(*args, **kwargs)
        async with Journal.open(path) as other:
            with monkeypatch.context() as patched:
                patched.setattr("openrouter_keys.journal.copies.Copy.lives", nobody_lives)
                await other.claim("0", settled=True)
            await other.fail("0", "refused")
        return found

    monkeypatch.setattr("openrouter_keys.provisioning.reconciler.reconcile", reconciled)
    emulator.faults.append(Fault("create", status=502, phase="after", times=faults))
    report = await client.provision(specs(3), journal=path)
    assert (report.created, report.ok) == (3, True)
