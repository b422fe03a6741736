"""Events of a call: what `on_event`, telemetry and the log get of attempts, retries and waits."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, get_args

import pytest
from attrs import asdict, evolve

from openrouter_keys import AsyncOpenRouter, Event, OpenRouter, RetryConfig, errors
from openrouter_keys._protocol.retries import Outcome
from openrouter_keys.emulator import Account, Emulator, Fault
from openrouter_keys.events import EventOutcome
from tests.clients import FakeTime
from tests.promises.test_secrets import CALLS, FAULTS, HASH, MANAGEMENT, PARTNER
from tests.tables import in_one_test

#: kind, attempt, status, outcome, retry_after
Row = tuple[str, int, int | None, str, float | None]
AFTER_3 = {"Retry-After": "3"}
UNAUTHORIZED = Fault("list", status=401)


def row(event: Event) -> Row:
    return event.kind, event.attempt, event.status, event.outcome, event.retry_after


def client_of(emulator: Emulator, took: Callable[[Event], object], **given: Any) -> AsyncOpenRouter:
    given = {"api_key": emulator.api_key, **given}
    client = AsyncOpenRouter(server_url=emulator.base_url, on_event=took, **given)
    client._transport.clockwork = FakeTime().clockwork()
    return client


DONE: list[Row] = [("attempt", 1, 200, "done", None)]
SECOND: list[Row] = [("attempt", 2, 200, "done", None)]
CASES: dict[str, tuple[str, Fault | None, list[Row]]] = {
    "a success": ("list", None, DONE),
    "429 with Retry-After": (
        "list",
        Fault(status=429, headers=AFTER_3),
        [
            ("attempt", 1, 429, "rate_limited", 3),
            ("pause", 1, 429, "rate_limited", 3),
            ("retry", 1, 429, "rate_limited", 3),
            *SECOND,
        ],
    ),
    "503 with Retry-After": (
        "list",
        Fault(status=503, headers=AFTER_3),
        [
            ("attempt", 1, 503, "overloaded", 3),
            ("pause", 1, 503, "overloaded", 3),
            ("retry", 1, 503, "overloaded", 3),
            *SECOND,
        ],
    ),
    "500": (
        "list",
        Fault(status=500),
        [("attempt", 1, 500, "failed", None), ("retry", 1, 500, "failed", None), *SECOND],
    ),
    "521": (
        "list",
        Fault(status=521),
        [("attempt", 1, 521, "not_reached", None), ("retry", 1, 521, "not_reached", None), *SECOND],
    ),
    "closed": (
        "list",
        Fault(kind="closed"),
        [("attempt", 1, None, "no_answer", None), ("retry", 1, None, "no_answer", None), *SECOND],
    ),
    "no JSON": (
        "list",
        Fault(kind="not_json"),
        [("attempt", 1, 200, "unreadable", None), ("retry", 1, 200, "unreadable", None), *SECOND],
    ),
    "odd JSON": (
        "list",
        Fault(kind="body", body=b'{"data": 5}'),
        [("attempt", 1, 200, "unreadable", None)],
    ),
    "404": ("get", None, [("attempt", 1, 404, "rejected", None)]),
    "300": ("list", Fault(status=300), [("attempt", 1, 300, "unclear", None)]),
    "a refused key": ("list", UNAUTHORIZED, [("attempt", 1, 401, "unauthorized", None)]),
    "a create without an answer": (
        "create",
        Fault(kind="closed", phase="after"),
        [("attempt", 1, None, "no_answer", None)],
    ),
    "a create whose secret is lost": (
        "create",
        Fault(kind="body", phase="after", body=b"{}"),
        [("attempt", 1, 201, "unreadable", None)],
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_each_step_of_a_call_is_an_event(name: str, emulator: Emulator) -> None:
    operation, fault, expected = CASES[name]
    emulator.faults += [] if fault is None else [fault]
    events = list[Event]()
    async with client_of(emulator, events.append) as client:
        with suppress(errors.OpenRouterError):
            await CALLS[operation](client)
    assert [row(event) for event in events] == expected
    assert {event.operation for event in events} == {operation}
    assert all(event.url.startswith(f"{emulator.base_url}/keys") for event in events)
    assert all(
        event.seconds >= (event.retry_after or 0) or event.kind == "attempt" for event in events
    )
    assert {event.method for event in events} == {"POST" if operation == "create" else "GET"}


async def test_what_cannot_be_sent_is_an_event() -> None:
    events = list[Event]()
    with Emulator() as emulator:
        client = client_of(emulator, events.append)
    async with client:
        with pytest.raises(errors.NotSentError):
            await client.api_keys.list()
    assert [row(event) for event in events if event.kind == "attempt"] == [
        ("attempt", number, None, "not_sent", None) for number in (1, 2, 3)
    ]


async def test_a_callable_key_that_is_asked_again_is_a_retry(emulator: Emulator) -> None:
    emulator.faults.append(UNAUTHORIZED)
    keys, events = iter([emulator.api_key + "x", emulator.api_key]), list[Event]()
    async with client_of(emulator, events.append, api_key=lambda: next(keys)) as client:
        await client.api_keys.list()
    assert [row(event)[:4] for event in events] == [
        ("attempt", 1, 401, "unauthorized"),
        ("retry", 1, 401, "unauthorized"),
        ("attempt", 2, 200, "done"),
    ]


async def test_who_waits_for_the_end_of_a_pause_has_an_event(emulator: Emulator) -> None:
    emulator.faults.append(Fault("list", status=429, headers={"Retry-After": "30"}))
    events = list[Event]()
    async with client_of(emulator, events.append) as client:
        with pytest.raises(errors.TooManyRequestsResponseError):
            await client.api_keys.list(timeout_ms=20_000)
        await client.api_keys.create(name="a")
    (wait,) = [event for event in events if event.kind == "wait"]
    assert row(wait) == ("wait", 0, None, "paused", None)
    assert wait.operation == "create"
    assert wait.seconds == pytest.approx(30, abs=2)


async def test_who_waits_for_a_turn_has_an_event(emulator: Emulator) -> None:
    events = list[Event]()
    async with client_of(emulator, events.append, max_connections=1) as client:
        await asyncio.gather(*(client.api_keys.list() for _ in range(3)))
    waits = [event for event in events if event.kind == "wait"]
    assert [row(event) for event in waits] == [("wait", 0, None, "queued", None)] * 2
    assert all(event.seconds > 0 for event in waits)


def test_the_documented_outcomes_are_all() -> None:
    assert {*get_args(EventOutcome)} == {*(o.name.lower() for o in Outcome), "paused", "queued"}


# --- the log ---


async def test_the_log_has_the_fields_of_an_event(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "openrouter_keys")
    emulator.faults.append(Fault("list", status=429, headers=AFTER_3))
    events = list[Event]()
    async with client_of(emulator, events.append) as client:
        await client.api_keys.list()
    logged = [
        {name: vars(record).get(name) for name in asdict(event)}
        for event, record in zip(events, caplog.records, strict=True)
    ]
    assert logged == [asdict(event) for event in events]
    assert len(events) == 4


@in_one_test(
    "retry_after, status, warned",
    [("1", 429, 0), ("2", 429, 0), ("2.5", 429, 1), ("60", 429, 1), ("3", 503, 1), ("1", 503, 0)],
)
def test_a_long_pause_of_the_client_is_a_warning(
    retry_after: str, status: int, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def call() -> None:
        async with client_of(emulator, lambda _: None, retry_config=RetryConfig("none")) as client:
            calls = (client.api_keys.list() for _ in range(5))
            await asyncio.gather(*calls, return_exceptions=True)

    caplog.clear()
    fault = Fault("list", status=status, headers={"Retry-After": retry_after}, times=5)
    with Emulator(faults=[fault]) as emulator:
        asyncio.run(call())
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == warned  # once, for five calls
    assert all(vars(record)["kind"] == "pause" for record in warnings)


# --- what listens ---


class Broken:
    """Telemetry of which one step raises."""

    def __init__(self, step: str) -> None:
        self.step = step

    def fail(self, step: str) -> None:
        if step == self.step:
            raise LookupError(step)

    def operation(self, name: str, server_url: str) -> AbstractContextManager[object]:
        self.fail("operation")
        return _Steps(self)

    def event(self, event: Event) -> None:
        self.fail("event")


class _Steps(nullcontext[None]):
    def __init__(self, broken: Broken) -> None:
        super().__init__(None)
        self.broken = broken

    def __enter__(self) -> None:
        self.broken.fail("enter")

    def __exit__(self, *_: object) -> None:
        self.broken.fail("exit")


@pytest.mark.parametrize("step", ["on_event", "operation", "enter", "exit", "event"])
async def test_what_listens_breaks_no_call(
    step: str, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken(step)

    def listen(_: Event) -> None:
        broken.fail("on_event")

    emulator.faults.append(Fault("list", status=500, times=2))
    async with client_of(emulator, listen, telemetry=broken) as client:
        await client.api_keys.list()
        assert (await client.api_keys.create(name="a")).key
        with pytest.raises(errors.NotFoundResponseError):
            await client.api_keys.get(HASH)
    which = "on_event" if step == "on_event" else "telemetry"
    (logged,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert logged.getMessage().startswith(f"{which} raised")
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], LookupError)


async def test_on_event_is_called_in_the_event_loop(emulator: Emulator) -> None:
    loops = set[object]()
    async with client_of(emulator, lambda _: loops.add(asyncio.get_running_loop())) as client:
        await client.api_keys.list()
        await client.api_keys.create(name="a")
    assert loops == {asyncio.get_running_loop()}


def test_a_blocking_client_calls_it_in_its_own_thread() -> None:
    threads, events = set[int](), list[Event]()

    def listen(event: Event) -> None:
        threads.add(threading.get_ident())
        events.append(event)

    with (
        Emulator() as emulator,
        OpenRouter(emulator.api_key, server_url=emulator.base_url, on_event=listen) as client,
    ):
        client.api_keys.create(name="a")
        assert len([*client.api_keys.iterate()]) == 1
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert [event.operation for event in events][:2] == ["create", "list"]


async def _awaited(_: Event) -> None:
    """What nobody would await."""


class _Awaited:
    async def __call__(self, _: Event) -> None:
        """As above."""


WRONG: dict[str, dict[str, object]] = {
    "no function": {"on_event": "print"},
    "a coroutine function": {"on_event": _awaited},
    "an object that is one": {"on_event": _Awaited()},
    "a list": {"on_event": []},
    "no telemetry": {"telemetry": print},
    "its class": {"telemetry": Broken},
}


@in_one_test("name", WRONG)
def test_what_cannot_listen_is_refused(name: str) -> None:
    given: dict[str, Any] = WRONG[name]
    for client in (AsyncOpenRouter, OpenRouter):
        with pytest.raises(errors.InvalidArgumentError, match=next(iter(given))):
            client("key", **given)


# --- secrets ---


def fault_for(operation: str, name: str) -> Fault:
    """A fault that repeats no more than what was sent."""
    body = FAULTS[name].body
    if body is not None and operation != "create":
        body = body.replace(PARTNER.encode(), b"nothing else was sent")
    return evolve(FAULTS[name], body=body, times=2)


@in_one_test("name", FAULTS)
def test_no_event_shows_a_secret(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    events = list[Event]()

    async def call_all(emulator: Emulator) -> None:
        async with client_of(emulator, events.append) as client:
            for operation in CALLS:
                emulator.faults[:] = [fault_for(operation, name)]
                with suppress(errors.OpenRouterError):
                    await CALLS[operation](client)
            with suppress(errors.OpenRouterError):
                await client.api_keys.list(workspace_id=MANAGEMENT)
            with suppress(errors.OpenRouterError):
                await client.api_keys.get("sk-or-v1-" + "5e" * 32)

    with Emulator(Account(management_key=MANAGEMENT)) as emulator:
        asyncio.run(call_all(emulator))
        created = [str(key.secret) for key in emulator.account.keys.values()]
    assert len(events) >= len(CALLS)
    shown = repr(events) + "".join(repr(vars(record)) for record in caplog.records)
    for secret in (MANAGEMENT, PARTNER, "5e" * 32, *created):
        assert secret not in shown
