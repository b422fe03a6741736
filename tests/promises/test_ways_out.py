"""The ways out of a call that waits, and of what a secret goes through: none takes one along."""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter, OpenRouter, ProvisionResult, errors
from openrouter_keys._base.clock import Clockwork
from openrouter_keys.api_keys import take_back
from openrouter_keys.emulator import Account, Emulator, Fault
from openrouter_keys.journal.journal import Journal
from tests._base.test_tracebacks import (
    CALLS,
    HASH,
    MANAGEMENT,
    PARTNER,
    UNKNOWN,
    Abort,
    assert_no_secret,
)
from tests.journals import spec
from tests.provisions import JumpingTime
from tests.rotations import hashes, old_keys

NOWHERE = "http://127.0.0.1:1"


class Waiting:
    """A time in which nobody's wait ends.

    Args:
        on_wait: called as a wait begins.
    """

    def __init__(self, on_wait: Callable[[], object] = lambda: None) -> None:
        self.begun = 0
        self._on_wait = on_wait

    async def sleep(self, _: float) -> None:
        self.begun += 1
        self._on_wait()
        await asyncio.Event().wait()

    def clockwork(self) -> Clockwork:
        return Clockwork(sleep=self.sleep)

    async def until(self, waits: int) -> None:
        async with asyncio.timeout(60):
            while self.begun < waits:
                await asyncio.sleep(0)


async def _cancelled(call: "asyncio.Task[object]") -> None:
    call.cancel()
    await call


async def _timed_out(call: "asyncio.Task[object]") -> None:
    async with asyncio.timeout(0):
        await call


async def _left_by_its_group(call: "asyncio.Task[object]") -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_fail())
        await call


async def _fail() -> None:
    raise RuntimeError("another task of the group")


WAYS_OUT: dict[str, Callable[["asyncio.Task[object]"], Awaitable[None]]] = {
    "cancelled": _cancelled,
    "timed out": _timed_out,
    "left by its group": _left_by_its_group,
}


async def _left(
    call: Awaitable[object], reached: Callable[[], Awaitable[None]], way_out: str
) -> None:
    task = asyncio.ensure_future(call)
    await reached()
    with pytest.raises((asyncio.CancelledError, TimeoutError, ExceptionGroup)) as caught:
        await WAYS_OUT[way_out](task)
    assert_no_secret(caught.value)


@pytest.mark.parametrize("way_out", WAYS_OUT)
@pytest.mark.parametrize("operation", CALLS)
async def test_who_waits_for_a_turn_and_leaves_takes_no_secret_along(
    operation: str, way_out: str
) -> None:
    async with AsyncOpenRouter(MANAGEMENT, server_url=NOWHERE, max_connections=1) as client:
        client._transport.ready()
        turns = client._transport._turns
        await turns.acquire()

        async def reached() -> None:
            async with asyncio.timeout(60):
                while not turns._waiters:
                    await asyncio.sleep(0)

        await _left(CALLS[operation](client), reached, way_out)
        turns.release()


@pytest.mark.parametrize("way_out", WAYS_OUT)
@pytest.mark.parametrize("operation", CALLS)
async def test_who_waits_to_send_again_and_leaves_takes_no_secret_along(
    operation: str, way_out: str
) -> None:
    async with AsyncOpenRouter(MANAGEMENT, server_url=NOWHERE, grace=0) as client:
        waiting = Waiting()
        client._transport.clockwork = waiting.clockwork()
        await _left(CALLS[operation](client), lambda: waiting.until(1), way_out)


@pytest.mark.parametrize("way_out", WAYS_OUT)
async def test_who_waits_since_all_are_asked_to_and_leaves_takes_no_secret_along(
    way_out: str, emulator: Emulator
) -> None:
    emulator.account.management_key = MANAGEMENT
    pause = Fault(status=429, headers={"Retry-After": "60"}, times=None)
    emulator.faults.append(pause)
    async with AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url, grace=0) as client:
        waiting = Waiting()
        client._transport.clockwork = waiting.clockwork()
        first = asyncio.ensure_future(client.api_keys.list())
        await waiting.until(1)
        for operation in CALLS:
            waits, sent = waiting.begun, len(emulator.requests)
            call = CALLS[operation](client)
            await _left(call, lambda waits=waits: waiting.until(waits + 1), way_out)  # type: ignore[misc]
            assert len(emulator.requests) == sent, operation
        with pytest.raises(asyncio.CancelledError):
            await _cancelled(first)


# --- walks that are left ---


@pytest.mark.parametrize("pages", [0, 1])
async def test_a_walk_that_is_closed_shows_no_secret(pages: int, emulator: Emulator) -> None:
    emulator.account.management_key = MANAGEMENT
    emulator.account.add("a")
    for thrown in (GeneratorExit, asyncio.CancelledError, Abort, TypeError):
        async with AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url) as client:
            walk = client.api_keys.iterate()
            for _ in range(pages):
                await anext(walk)
            with pytest.raises(thrown) as caught:
                await walk.athrow(thrown())
            assert_no_secret(caught.value)
            closed = client.api_keys.iterate()
            await anext(closed)
            await closed.aclose()


async def test_a_walk_that_is_left_in_a_request_shows_no_secret(emulator: Emulator) -> None:
    emulator.account.management_key = MANAGEMENT
    emulator.faults.append(Fault(kind="stalled", times=None))
    async with AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url) as client:
        walk = client.api_keys.iterate()
        page = asyncio.ensure_future(anext(walk))
        async with asyncio.timeout(60):
            while not emulator.requests:
                await asyncio.sleep(0.001)
        with pytest.raises(RuntimeError, match="already running") as caught:
            await walk.aclose()
        assert_no_secret(caught.value)
        page.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await page
        assert_no_secret(cancelled.value)


def test_a_blocking_walk_that_is_closed_shows_no_secret() -> None:
    emulator = Emulator(Account(management_key=MANAGEMENT))
    emulator.account.add("a")
    with emulator, OpenRouter(MANAGEMENT, server_url=emulator.base_url) as client:
        for thrown in (GeneratorExit, Abort, TypeError):
            walk = client.api_keys.iterate()
            next(walk)
            assert isinstance(walk, Generator)
            with pytest.raises(thrown) as caught:
                walk.throw(thrown())
            assert_no_secret(caught.value)


# --- Ctrl-C while a blocking call waits ---

BLOCKING: dict[str, Callable[[OpenRouter, Path], object]] = {
    "get": lambda client, _: client.api_keys.get(HASH),
    "delete": lambda client, _: client.api_keys.delete(HASH),
    "update": lambda client, _: client.api_keys.update(HASH, disabled=True),
    "create": lambda client, _: client.api_keys.create(
        name="new", external={"user": "acme-7", "api_key": PARTNER}
    ),
    "iterate": lambda client, _: [*client.api_keys.iterate()],
    "reconcile": lambda client, _: client.api_keys.reconcile(UNKNOWN, quiet_period=0),
    "plan_rotation": lambda client, _: client.plan_rotation([HASH]),
    "rotate": lambda client, path: client.rotate([HASH], journal=path, on_result=print),
    "provision": lambda client, path: client.provision([spec()], journal=path),
}


@pytest.mark.parametrize("operation", BLOCKING)
def test_a_blocking_call_that_waits_and_is_left_shows_no_secret(
    operation: str, tmp_path: Path
) -> None:
    here = threading.get_ident()
    waiting = Waiting(lambda: signal.pthread_kill(here, signal.SIGINT))
    client = OpenRouter(MANAGEMENT, server_url=NOWHERE, grace=0)
    client._twin._transport.clockwork = waiting.clockwork()
    with pytest.raises(KeyboardInterrupt) as caught:
        BLOCKING[operation](client, tmp_path / "journal")
    assert_no_secret(caught.value)
    client.close()


# --- what a created secret goes through ---

#: What is called with a secret, or with an answer that has one.
WITH_A_SECRET = ("_base.masking.sha256", "_base.made_keys.MadeKey.of")


@pytest.fixture
def break_(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, type[BaseException]], None]:
    def break_(where: str, bug: type[BaseException]) -> None:
        def broken(*given: object, **named: object) -> None:
            del given, named  # it stands for the line that calls it
            raise bug("broken")

        monkeypatch.setattr(f"openrouter_keys.{where}", broken)

    return break_


Break = Callable[[str, type[BaseException]], None]
CREATES: dict[str, Callable[[AsyncOpenRouter, Path], Awaitable[object]]] = {
    "create": lambda client, _: client.api_keys.create(name="new"),
    "create, then reconcile": lambda client, _: client.api_keys.create(
        name="new", on_unknown="reconcile"
    ),
    "provision": lambda client, path: client.provision([spec()], journal=path),
    "provision, and hand over": lambda client, path: client.provision(
        [spec()], journal=path, on_result=lambda _: None
    ),
    "provision, and store nothing": lambda client, path: client.provision(
        [spec()], journal=path, on_result=lambda _: None, store_secrets=False
    ),
}


@pytest.mark.parametrize("bug", [TypeError, asyncio.CancelledError, Abort])
@pytest.mark.parametrize("where", WITH_A_SECRET)
async def test_a_bug_with_a_created_secret_in_its_hand_shows_it_to_nobody(
    where: str, bug: type[BaseException], break_: Break, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.account.management_key = MANAGEMENT
    for name, call in CREATES.items():
        raised: list[BaseException] = []
        client = AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url, grace=0)
        client._transport.clockwork = JumpingTime().clockwork()
        break_(where, bug)
        try:
            async with asyncio.timeout(60):
                await call(client, tmp_path / name)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is searched
            raised.append(error)
        await client.close()
        secrets = [str(key.secret) for key in emulator.account.keys.values()]
        for one in raised:
            assert_no_secret(one, *secrets)


@pytest.mark.parametrize("bug", [TypeError, asyncio.CancelledError, Abort])
@pytest.mark.parametrize("where", WITH_A_SECRET)
async def test_what_knows_a_secret_outside_of_a_call_shows_it_to_nobody(
    where: str, bug: type[BaseException], break_: Break
) -> None:
    client = AsyncOpenRouter(MANAGEMENT, server_url=NOWHERE)
    unreadable = errors.CreatedKeyUnreadableError("odd", PARTNER, HASH)
    async with Journal.open(":memory:", server_url=NOWHERE, longest_timeout=1) as journal:
        await journal.intend(spec(), JumpingTime().now())
        break_(where, bug)
        with pytest.raises(bug) as kept:
            await journal.keep(spec().ref, secret=PARTNER, hash=HASH)
        with pytest.raises(bug) as taken:
            await take_back(client.api_keys, unreadable)
    assert_no_secret(kept.value)
    assert_no_secret(taken.value)
    await client.close()


@pytest.mark.parametrize("way_out", ["cancelled", "raises"])
async def test_a_hand_over_that_is_left_shows_no_secret(
    way_out: str, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.account.management_key = MANAGEMENT
    old = hashes(old_keys(emulator, 1))
    runs: list[Callable[[AsyncOpenRouter, Any], Awaitable[object]]] = [
        lambda client, take: client.provision([spec()], on_result=take, concurrency=1),
        lambda client, take: client.rotate(old, journal=tmp_path / "j", on_result=take),
    ]
    for run in runs:
        asked = asyncio.Event()

        async def take(result: ProvisionResult, asked: asyncio.Event = asked) -> None:
            del result
            asked.set()
            if way_out == "raises":
                raise ValueError("not now")
            await asyncio.Event().wait()

        client = AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url, grace=0)
        task = asyncio.ensure_future(run(client, take))
        await asked.wait()
        if way_out == "cancelled":
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
        with pytest.raises((asyncio.CancelledError, errors.OpenRouterError)) as caught:
            task.result()
        await client.close()
        secrets = [str(key.secret) for key in emulator.account.keys.values()]
        assert_no_secret(caught.value, *secrets)
