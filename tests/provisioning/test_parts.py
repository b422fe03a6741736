"""The parts of a run that need no network: verdicts, breaker, sources, stop signal."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from openrouter_keys import (
    KeySpec,
    errors,
)
from openrouter_keys.errors import OpenRouterError
from openrouter_keys.provisioning.circuit_breaker import (
    ENOUGH,
    FRUITLESS,
    OUTAGE,
    REJECTED,
    CircuitBreaker,
)
from openrouter_keys.provisioning.spec_source import BATCH, batches, check_specs
from openrouter_keys.provisioning.stop import StopSignal
from openrouter_keys.provisioning.verdicts import Verdict, verdict
from tests.journals import spec
from tests.provisions import specs
from tests.tables import in_one_test

# --- verdicts ---


def answered(status: int, **facts: object) -> OpenRouterError:
    kind = errors.STATUS_ERRORS.get(status, errors.OpenRouterDefaultError)
    return with_facts(kind("no"), status_code=status, **facts)


def with_facts(error: OpenRouterError, **facts: object) -> OpenRouterError:
    for name, fact in facts.items():
        setattr(error, name, fact)
    return error


FATES: list[tuple[OpenRouterError, Verdict]] = [
    *((answered(status), Verdict.STOP) for status in (401, 402, 403)),
    *((answered(status), Verdict.FAILED) for status in (400, 404, 405, 409, 413, 422, 301)),
    *((answered(status), Verdict.LATER) for status in (521, 523, 525, 526, 530)),
    (answered(429), Verdict.AGAIN),
    (answered(429, retry_after=0.0), Verdict.AGAIN),
    (answered(429, retry_after=120.0), Verdict.AGAIN),
    (answered(429, retry_after=120.001), Verdict.STOP),
    *((answered(status, maybe_applied=True), Verdict.DOUBT) for status in (408, 500, 502, 503)),
    (errors.CreateOutcomeUnknownError("no answer"), Verdict.DOUBT),
    (errors.SecretLostError("cut"), Verdict.DOUBT),
    (with_facts(errors.DeadlineExceededError("late"), maybe_applied=True), Verdict.DOUBT),
    (errors.DeadlineExceededError("never sent"), Verdict.LATER),
    (errors.NotSentError("refused"), Verdict.LATER),
    (errors.APIKeyError("the callable raised"), Verdict.STOP),
    (errors.ClientClosedError("closed"), Verdict.STOP),
]


@in_one_test("error, fate", FATES, ids=lambda it: getattr(it, "name", None) or f"{it!r:.60}")
def test_each_error_of_a_create_has_one_verdict(error: OpenRouterError, fate: Verdict) -> None:
    assert verdict(error) is fate


# --- the circuit breaker ---


def breaker(**events: int) -> CircuitBreaker:
    counted = CircuitBreaker(concurrency=8, clock=lambda: 0.0)
    for event, times in events.items():
        for _ in range(times):
            getattr(counted, event)()
    return counted


@in_one_test(
    "events, is_open, is_final",
    [
        ({}, False, False),
        ({"unanswered": OUTAGE - 1}, False, False),
        ({"unanswered": OUTAGE}, True, False),
        ({"unanswered": OUTAGE, "next_round": 1}, False, False),
        ({"unanswered": OUTAGE, "succeeded": 1}, False, False),
        ({"next_round": FRUITLESS - 1}, False, False),
        ({"next_round": FRUITLESS}, False, True),
        ({"next_round": FRUITLESS, "succeeded": 1}, False, False),
        ({"rejected": REJECTED + 2 * 8 - 1}, False, False),
        ({"rejected": REJECTED + 2 * 8}, False, True),
        ({"rejected": REJECTED + 2 * 8, "succeeded": 1}, False, False),
        ({"unanswered": 1000, "rejected": 1}, True, False),
    ],
)
def test_the_breaker_opens_after_so_many_failures_in_a_row(
    events: dict[str, int], is_open: bool, is_final: bool
) -> None:
    counted = breaker(**events)
    assert (counted.is_open, counted.is_final) == (is_open, is_final)
    assert counted.rounds == (0 if "succeeded" in events else events.get("next_round", 0))


@in_one_test(
    "events, is_told",
    [
        (["rejected"], True),
        (["rejected", "rejected"], True),
        (["unanswered", "rejected"], False),
        (["rejected", "unanswered"], False),
        (["rejected", "unanswered", "rejected"], False),
        (["unanswered", "succeeded", "rejected"], True),
        (["rejected", "succeeded"], False),
        (["rejected", "next_round"], True),
    ],
)
def test_only_where_all_was_rejected_a_rejection_is_the_reason(
    events: list[str], is_told: bool
) -> None:
    counted, error = breaker(), answered(429)
    for event in events:
        given = [error] if event in ("rejected", "unanswered") else []
        getattr(counted, event)(*given)
    assert counted.rejection is (error if is_told else None)


@in_one_test("event", ["unanswered", "rejected"])
@in_one_test(
    "given, longest",
    [
        ({}, 600.0),
        ({"timeout": 120.0, "quiet_period": 30.0}, 600.0),
        ({"timeout": 1000.0}, 2000.0),
        ({"quiet_period": 900.0}, 7200.0),
    ],
)
def test_the_breaker_opens_after_so_long_without_a_key(
    event: str, given: dict[str, float], longest: float
) -> None:
    now = 1000.0
    counted = CircuitBreaker(8, clock=lambda: now, **given)
    for _ in range(ENOUGH - 1):
        getattr(counted, event)()
    now += longest
    assert not counted.is_final  # a few failures say nothing, however far apart
    getattr(counted, event)()
    assert counted.is_final
    now -= 0.1
    assert not counted.is_final
    now += 10_000
    assert (counted.is_open, counted.is_final) == (True, True)
    counted.succeeded()
    assert (counted.is_open, counted.is_final) == (False, False)


# --- sources ---


async def _at_once(wanted: Iterable[KeySpec]) -> AsyncIterator[KeySpec]:
    for each in wanted:
        yield each


async def _one_by_one(wanted: Iterable[KeySpec]) -> AsyncIterator[KeySpec]:
    for each in wanted:
        for _ in range(5):
            await asyncio.sleep(0)
        yield each


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        (list, [BATCH, BATCH, 50]),
        (iter, [BATCH, BATCH, 50]),
        (_at_once, [BATCH, BATCH, 50]),
        (_one_by_one, [1] * (2 * BATCH + 50)),
    ],
)
async def test_a_batch_is_what_is_there_already(
    source: Callable[[list[KeySpec]], Any], sizes: list[int]
) -> None:
    wanted = specs(2 * BATCH + 50)
    found = [batch async for batch in batches(source(wanted))]
    assert [len(batch) for batch in found] == sizes
    assert [each for batch in found for each in batch] == wanted


@pytest.mark.parametrize("source", [list, iter, _at_once])
async def test_no_batch_is_empty(source: Callable[[list[KeySpec]], Any]) -> None:
    assert [batch async for batch in batches(source([]))] == []


async def test_what_came_before_an_error_of_an_async_source_is_not_lost() -> None:
    async def source() -> AsyncIterator[KeySpec]:
        for each in specs(3):
            yield each
        raise ConnectionError

    found = batches(source())
    assert await anext(found) == specs(3)
    with pytest.raises(ConnectionError):
        await anext(found)


async def test_closing_ends_the_wait_for_an_async_source() -> None:
    ended: list[str] = []

    async def source() -> AsyncIterator[KeySpec]:
        try:
            yield spec()
            await asyncio.Event().wait()
        finally:
            ended.append("closed")

    opened = batches(source())
    assert await anext(opened) == [spec()]
    await opened.aclose()
    assert ended == ["closed"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_one_test("wrong", ["customers.csv", b"customers", {"1": spec()}, spec(), 42, None, spec])
def test_what_cannot_be_a_source_is_refused(wrong: object) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="iterable or async iterable of KeySpec"):
        check_specs(wrong)


@pytest.mark.parametrize("source", [list, _at_once])
async def test_what_is_no_spec_is_told_by_its_place(source: Callable[[Any], Any]) -> None:
    wrong: list[Any] = [*specs(BATCH + 1), "customer-7"]
    found = batches(source(wrong))
    await anext(found)
    with pytest.raises(errors.InvalidArgumentError, match="not str") as caught:
        await anext(found)
    assert caught.value.argument == f"specs[{BATCH + 1}]"


# --- the stop signal ---


@pytest.mark.parametrize(
    ("events", "paused", "interrupted"),
    [
        ([], False, set[str]()),
        (["pause"], True, {"idle"}),
        (["pause", "resume"], False, {"idle"}),
        (["open"], True, set[str]()),
        (["open", "close"], False, set[str]()),
        (["stop"], True, {"idle", "waiting"}),
        (["stop", "resume"], True, {"idle", "waiting"}),
        (["pause", "stop"], True, {"idle", "waiting"}),
    ],
)
async def test_a_pause_interrupts_who_has_nothing_and_a_stop_who_waits_too(
    events: list[str], *, paused: bool, interrupted: set[str]
) -> None:
    counted = breaker()
    signal = StopSignal(counted)

    def open_breaker() -> None:
        for _ in range(OUTAGE):
            counted.unanswered()

    acts: dict[str, Callable[[], None]] = {
        "pause": signal.pause,
        "resume": signal.resume,
        "open": open_breaker,
        "close": counted.succeeded,
        "stop": lambda: signal.stop(ConnectionError()),
    }

    async def wait(*, idle: bool) -> None:
        with signal.interrupts(idle=idle):
            await asyncio.Event().wait()

    tasks = {name: asyncio.create_task(wait(idle=name == "idle")) for name in ("idle", "waiting")}
    await asyncio.sleep(0)
    for event in events:
        acts[event]()
    for _ in range(3):
        await asyncio.sleep(0)

    assert signal.paused is paused
    assert signal.stopped is ("stop" in events)
    assert {name for name, task in tasks.items() if task.cancelled()} == interrupted
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


async def test_a_stop_interrupts_who_waits_and_nobody_else() -> None:
    signal, go_on = StopSignal(breaker()), asyncio.Event()
    assert not signal.stopped

    async def wait(*, before: bool, inside: bool) -> str:
        if before:
            with signal.interrupts():
                await asyncio.sleep(0)
        if inside:
            with signal.interrupts():
                await go_on.wait()
        await go_on.wait()
        return "went on"

    waiting = asyncio.create_task(wait(before=False, inside=True))
    working = asyncio.create_task(wait(before=False, inside=False))
    back_at_work = asyncio.create_task(wait(before=True, inside=False))
    for _ in range(3):
        await asyncio.sleep(0)
    first, second = ConnectionError(), TimeoutError()
    signal.stop(first)
    signal.stop(second)
    go_on.set()

    assert (signal.stopped, signal.reason) == (True, first)
    assert [await working, await back_at_work] == ["went on", "went on"]
    with pytest.raises(asyncio.CancelledError):
        await waiting
