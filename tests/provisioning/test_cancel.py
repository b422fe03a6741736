"""A run that is cancelled: what is under way ends, it is told, and the next run completes it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define

from openrouter_keys import (
    AsyncOpenRouter,
    KeySpec,
    ProvisionProgress,
    ProvisionReport,
    ProvisionResult,
)
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from tests.journals import spec
from tests.provisions import JumpingTime, assert_whole, client_of, counts, specs

PATIENCE = 20.0
# Longer than anything here lasts.
NEVER = 600.0


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not happened():
            await asyncio.sleep(0.001)


@define(eq=False)
class Ran:
    """A run in a task of its own, and what it told."""

    task: "asyncio.Task[ProvisionReport]"
    taken: list[ProvisionResult]
    told: list[ProvisionProgress]

    @property
    def phase(self) -> str:
        return self.told[-1].phase if self.told else ""

    @property
    def report(self) -> ProvisionReport:
        report = self.told[-1].report
        assert report is not None
        return report

    async def ends_cancelled(self, within: float = PATIENCE) -> asyncio.CancelledError:
        async with asyncio.timeout(within):
            await asyncio.wait({self.task})
        with pytest.raises(asyncio.CancelledError) as caught:
            self.task.result()
        return caught.value


def begin(client: AsyncOpenRouter, wanted: Any, **given: Any) -> Ran:
    taken: list[ProvisionResult] = []
    told: list[ProvisionProgress] = []
    arguments: dict[str, Any] = {"on_result": taken.append, "on_progress": told.append, **given}
    run = client.provision(wanted, **arguments)
    return Ran(asyncio.create_task(run), taken, told)


async def assert_completed(
    emulator: Emulator, wanted: list[KeySpec], path: Path, taken: list[ProvisionResult]
) -> None:
    """The same call with the same journal makes it whole: no key too few, and none too many."""
    emulator.faults.clear()
    emulator.latency = 0
    async with client_of(emulator, JumpingTime()) as client:
        report = await client.provision(wanted, journal=path, on_result=taken.append)
    assert report.ok
    assert_whole(emulator, wanted, taken)
    assert await counts(path) == {"settled": len(wanted)}


# --- what is under way ---


async def test_a_cancelled_run_sends_nothing_new_and_hands_over_what_was_under_way(
    emulator: Emulator, path: Path
) -> None:
    emulator.faults.append(Fault("create", "slow", delay=0.2, times=None))
    async with client_of(emulator) as client:
        run = begin(client, specs(30), journal=path, concurrency=4)
        await until(lambda: emulator.count("create") == 4)

        run.task.cancel()
        cancelled = await run.ends_cancelled()

    assert emulator.count("create") == len(emulator.account.keys) == 4
    assert_whole(emulator, [result.spec for result in run.taken], run.taken)
    assert (run.phase, run.report.created, run.report.in_doubt) == ("ended", 4, 0)
    (note,) = cancelled.__notes__
    assert note.startswith("provision: cancelled: 4 created; the same call")
    assert await counts(path) == {"settled": 4}
    await assert_completed(emulator, specs(30), path, run.taken)


async def until_intents(path: Path, number: int) -> None:
    """Wait until so many intents are in a journal whose creates have no outcome yet."""
    while (await counts(path)).get("intent") != number:
        await asyncio.sleep(0)


@pytest.mark.slow
async def test_an_intent_that_was_written_ahead_is_taken_back_unsent(
    emulator: Emulator, path: Path
) -> None:
    emulator.faults.append(Fault("create", "slow", delay=0.5, times=None))
    async with client_of(emulator) as client:
        run = begin(client, specs(30), journal=path, concurrency=8)
        await until(lambda: emulator.count("create") == 8)
        await until_intents(path, 9)
        assert emulator.count("create") == 8

        run.task.cancel()
        await run.ends_cancelled()

    assert emulator.count("create") == 8
    assert await counts(path) == {"settled": 8}
    await assert_completed(emulator, specs(30), path, run.taken)


@pytest.mark.slow
async def test_an_intent_that_was_written_ahead_does_not_wait_for_the_end_of_a_pause(
    emulator: Emulator, path: Path
) -> None:
    emulator.faults.append(Fault("create", "slow", delay=2.0, skip=1, times=None))
    emulator.faults.append(Fault("create", status=429, headers={"Retry-After": "60"}))
    emulator.latency = 0.5
    async with client_of(emulator) as client:
        run = begin(client, specs(30), journal=path, concurrency=8)
        await until(lambda: emulator.count("create") == 8)
        await until_intents(path, 7)  # of those that the service has

        run.task.cancel()
        await run.ends_cancelled()

    assert emulator.count("create") == 8
    assert await counts(path) == {"settled": 7}
    await assert_completed(emulator, specs(30), path, run.taken)


@pytest.mark.slow
async def test_an_intent_that_has_waited_long_is_written_anew_before_its_create_is_sent(
    emulator: Emulator, path: Path
) -> None:
    time = JumpingTime()
    emulator.faults.append(Fault("create", "slow", delay=0.5, times=None))
    async with client_of(emulator, time) as client:
        run = begin(client, specs(9), journal=path, concurrency=8)
        await until(lambda: emulator.count("create") == 8)
        await until_intents(path, 9)
        time.slept.append(50.0)  # as long as a create may take, or a process be suspended
        sent_at = time.now()
        await until(lambda: emulator.count("create") == 9)

        # A run that takes it over counts from this on how long its key may still come.
        name = emulator.requests[-1].name
        async with Journal.open(path) as journal:
            under_way = [each async for each in journal.unfinished(State.INTENT)]
        (last,) = [each for each in under_way if each.name == name]
        assert last.last_attempt_at >= sent_at - timedelta(seconds=1)
        assert last.written_off == 0
        assert (await run.task).created == 9
    assert_whole(emulator, specs(9), run.taken)


@pytest.mark.slow
async def test_what_outlasts_the_grace_is_left_to_the_next_run(
    emulator: Emulator, path: Path
) -> None:
    emulator.faults.append(Fault("create", "stalled", phase="after", times=None))
    async with client_of(emulator, grace=0.1) as client:
        run = begin(client, specs(9), journal=path, concurrency=4)
        await until(lambda: len(emulator.account.keys) == 4)

        run.task.cancel()
        await run.ends_cancelled()

    assert (run.report.created, run.report.in_doubt) == (0, 4)
    assert not run.report.ok
    assert await counts(path) == {"intent": 4}
    await assert_completed(emulator, specs(9), path, run.taken)


@pytest.mark.slow
async def test_cancelled_once_more_it_ends_at_once(emulator: Emulator, path: Path) -> None:
    emulator.faults.append(Fault("create", "stalled", phase="after", times=None))
    async with client_of(emulator, grace=NEVER) as client:
        run = begin(client, specs(9), journal=path, concurrency=4)
        await until(lambda: len(emulator.account.keys) == 4)

        run.task.cancel()
        done, _ = await asyncio.wait({run.task}, timeout=0.2)
        assert not done
        run.task.cancel()
        await run.ends_cancelled(within=5)

    assert run.report.in_doubt == 4
    await assert_completed(emulator, specs(9), path, run.taken)


async def test_the_log_tells_what_was_cancelled(
    emulator: Emulator, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.append(Fault("create", "slow", delay=0.1, times=None))
    async with client_of(emulator) as client:
        run = begin(client, specs(9), journal=path, concurrency=1)
        await until(lambda: emulator.count("create") == 1)
        run.task.cancel()
        await run.ends_cancelled()

    assert [record.message for record in caplog.records] == [
        "provision: cancelled: 1 created; the same call with the same journal goes on from there"
    ]


# --- wherever it waits ---


@define(eq=False)
class Scene:
    """Where a run is cancelled.

    Args:
        wanted: the specs, or their source.
        given: what else it is called with.
        reached: whether it is there.
    """

    wanted: Any
    given: dict[str, Any]
    reached: Callable[[Emulator, Ran], object]


async def _quiet_period(emulator: Emulator, path: Path) -> Scene:
    emulator.faults.append(Fault("create", status=502, phase="after"))
    return Scene(specs(5), {"quiet_period": NEVER}, lambda _, run: run.phase == "waiting")


async def _quiet_period_of_a_resume(emulator: Emulator, path: Path) -> Scene:
    async with Journal.open(path, server_url=emulator.base_url) as journal:
        await journal.intend(spec("0"), emulator.account.clock())
    emulator.account.create({"name": "customer-0"})
    return Scene(specs(5), {"quiet_period": NEVER}, lambda _, run: run.phase == "waiting")


async def _gate(emulator: Emulator, path: Path) -> Scene:
    return Scene(specs(5), {"rate": 1 / NEVER}, lambda _, run: len(run.taken) == 1)


async def _pause_after_a_rejection(emulator: Emulator, path: Path) -> Scene:
    emulator.faults.append(Fault("create", status=429, headers={"Retry-After": "100"}))
    given = {"concurrency": 1}
    return Scene(specs(5), given, lambda emulator, _: emulator.count("create") == 1)


async def _source(emulator: Emulator, path: Path) -> Scene:
    async def source() -> AsyncIterator[KeySpec]:
        for each in specs(5)[:2]:
            yield each
        await asyncio.sleep(NEVER)

    return Scene(source(), {}, lambda _, run: len(run.taken) == 2)


async def _first_list(emulator: Emulator, path: Path) -> Scene:
    emulator.faults.append(Fault("list", "stalled"))
    return Scene(specs(5), {}, lambda emulator, _: emulator.count("list") == 1)


async def _reconcile(emulator: Emulator, path: Path) -> Scene:
    emulator.faults += [
        Fault("create", status=502, phase="after"),
        Fault("list", "stalled", skip=1),
    ]
    return Scene(specs(5), {"quiet_period": 0.0}, lambda emulator, _: emulator.count("list") == 2)


async def _on_result(emulator: Emulator, path: Path) -> Scene:
    entered: list[str] = []

    async def take(result: ProvisionResult) -> None:
        entered.append(result.ref)
        await asyncio.sleep(NEVER)

    return Scene(specs(5), {"on_result": take}, lambda _, __: len(entered) == 5)


SCENES: dict[str, Callable[[Emulator, Path], Awaitable[Scene]]] = {
    "in the quiet period": _quiet_period,
    "in the quiet period of a resume": _quiet_period_of_a_resume,
    "in the gate": _gate,
    "in a pause": _pause_after_a_rejection,
    "in the source": _source,
    "in the first list": _first_list,
    "in a reconcile": _reconcile,
    "in on_result": _on_result,
}


@pytest.mark.slow
@pytest.mark.parametrize("where", SCENES)
async def test_wherever_it_is_cancelled_it_ends_soon_and_the_next_run_completes_it(
    where: str, emulator: Emulator, path: Path
) -> None:
    scene = await SCENES[where](emulator, path)
    async with client_of(emulator, grace=0.2) as client:
        run = begin(client, scene.wanted, journal=path, **scene.given)
        await until(lambda: scene.reached(emulator, run))
        await asyncio.sleep(0.05)  # it waits by now
        sent = emulator.count("create")

        run.task.cancel()
        await run.ends_cancelled(within=5)

        assert emulator.count("create") == sent
    assert run.phase == "ended"
    await assert_completed(emulator, specs(5), path, run.taken)


async def test_an_on_result_that_is_under_way_gets_the_grace_to_finish(
    emulator: Emulator, path: Path
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    taken: list[ProvisionResult] = []

    async def take(result: ProvisionResult) -> None:
        entered.set()
        await go_on.wait()
        taken.append(result)

    async with client_of(emulator, grace=NEVER) as client:
        run = begin(client, specs(1), journal=path, on_result=take)
        await entered.wait()
        run.task.cancel()
        await asyncio.sleep(0.05)
        go_on.set()
        await run.ends_cancelled()

    assert (len(taken), run.report.created) == (1, 1)
    assert await counts(path) == {"settled": 1}


@pytest.mark.slow
async def test_a_secret_that_is_stored_nowhere_is_in_the_last_report(
    emulator: Emulator, path: Path
) -> None:
    entered = asyncio.Event()

    async def take(_: ProvisionResult) -> None:
        entered.set()
        await asyncio.sleep(NEVER)

    async with client_of(emulator, grace=0.1) as client:
        run = begin(client, specs(1), on_result=take)
        await entered.wait()
        run.task.cancel()
        cancelled = await run.ends_cancelled()

    (key,) = emulator.account.keys.values()
    (undelivered,) = run.report.undelivered
    assert (undelivered.key, undelivered.hash) == (key.secret, key.hash)
    assert "1 undelivered" in cancelled.__notes__[0]
    assert "no journal on disk" in cancelled.__notes__[0]


# --- by whom ---


@asynccontextmanager
async def _timed_out() -> AsyncGenerator[Callable[[], None]]:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as deadline:
            yield lambda: deadline.reschedule(asyncio.get_running_loop().time())


@asynccontextmanager
async def _scope_cancelled() -> AsyncGenerator[Callable[[], None]]:
    with anyio.CancelScope() as scope:
        yield scope.cancel
    assert scope.cancelled_caught


@asynccontextmanager
async def _deadline_passed() -> AsyncGenerator[Callable[[], None]]:
    def pass_it() -> None:
        scope.deadline = anyio.current_time()

    with pytest.raises(TimeoutError), anyio.fail_after(NEVER) as scope:
        yield pass_it


@pytest.mark.slow
@pytest.mark.parametrize("ending", [_timed_out, _scope_cancelled, _deadline_passed])
async def test_time_outs_and_scopes_end_it_as_a_cancel_does(
    ending: Callable[[], Any], emulator: Emulator, path: Path
) -> None:
    emulator.faults.append(Fault("create", "slow", delay=0.2, times=None))
    taken: list[ProvisionResult] = []
    told: list[ProvisionProgress] = []

    async def end_it(end: Callable[[], None]) -> None:
        await until(lambda: emulator.count("create") == 4)
        end()

    async with client_of(emulator) as client:
        async with ending() as end:
            ender = asyncio.create_task(end_it(end))
            await client.provision(
                specs(9),
                journal=path,
                on_result=taken.append,
                on_progress=told.append,
                concurrency=4,
            )
        # It is over: the journal is free.
        assert await counts(path) == {"settled": 4}
        await ender

    assert told[-1].report is not None
    assert told[-1].report.created == len(taken) == emulator.count("create") == 4
    await assert_completed(emulator, specs(9), path, taken)


@pytest.mark.slow
async def test_the_task_goes_on_after_a_time_out(emulator: Emulator, path: Path) -> None:
    emulator.faults.append(Fault("create", "stalled", times=None))
    async with client_of(emulator, grace=0.05) as client:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.provision(specs(2), journal=path, quiet_period=0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
