"""No exception leaves a call with a frame whose local variables hold a secret."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator

import pytest

from openrouter_keys import AsyncOpenRouter, KeySpec, errors
from openrouter_keys.emulator import Account, Emulator, Fault
from openrouter_keys.emulator.faults import Kind
from openrouter_keys.tracebacks import strip

MANAGEMENT = "canary-management-key-that-has-no-known-prefix"
PARTNER = "canary-partner-key-of-more-than-32-characters"
HASH = "ab" * 32


class Abort(BaseException):
    """What ends a task, and neither the event loop nor the test run."""


CALLS: dict[str, Callable[[AsyncOpenRouter], Awaitable[object]]] = {
    "list": lambda client: client.api_keys.list(),
    "iterate": lambda client: anext(client.api_keys.iterate()),
    "get": lambda client: client.api_keys.get(HASH),
    "create": lambda client: client.api_keys.create(
        name="new", external={"user": "acme-7", "api_key": PARTNER}
    ),
    "update": lambda client: client.api_keys.update(HASH, limit=1),
    "delete": lambda client: client.api_keys.delete(HASH),
    "current": lambda client: client.api_keys.get_current_key_metadata(),
    "provision": lambda client: client.provision(
        [KeySpec(ref="a", name="a")], on_result=lambda _: None
    ),
    "plan_rotation": lambda client: client.plan_rotation([HASH]),
}


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that it came of, also what is suppressed when it is printed."""
    seen: set[int] = set()
    unseen: list[BaseException | None] = [error]
    while unseen:
        one = unseen.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        unseen += [one.__cause__, one.__context__]
        unseen += getattr(one, "exceptions", ())  # of a group


def assert_no_secret(error: BaseException, *secrets: str) -> None:
    frames = 0
    for one in chain(error):
        shown = traceback.TracebackException.from_exception(one, capture_locals=True)
        frames += len(shown.stack)
        for frame in shown.stack:
            for secret in (MANAGEMENT, PARTNER, *secrets):
                assert secret not in str(frame.locals), (frame.filename, frame.name)
    assert frames


async def _cancelled(call: Awaitable[object]) -> None:
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0.05)
    task.cancel()
    await task


async def _timed_out(call: Awaitable[object]) -> None:
    async with asyncio.timeout(0.05):
        await call


async def _left_by_its_group(call: Awaitable[object]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_fail_soon())
        await call


async def _fail_soon() -> None:
    await asyncio.sleep(0.05)
    raise RuntimeError("another task of the group")


WAYS_OUT: dict[str, Callable[[Awaitable[object]], Awaitable[None]]] = {
    "cancelled": _cancelled,
    "timed out": _timed_out,
    "left by its group": _left_by_its_group,
}


@pytest.mark.parametrize("kind", ["stalled", "stalled_body"])
@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("way_out", WAYS_OUT)
async def test_whoever_leaves_a_call_takes_no_secret_along(
    way_out: str, operation: str, kind: Kind
) -> None:
    emulator = Emulator(Account(management_key=MANAGEMENT))
    emulator.faults.append(Fault(kind=kind, times=None))
    async with (
        emulator,
        AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url, grace=0.05) as client,
    ):
        with pytest.raises((asyncio.CancelledError, TimeoutError, ExceptionGroup)) as caught:
            await WAYS_OUT[way_out](CALLS[operation](client))

    assert_no_secret(caught.value)


@pytest.mark.parametrize("bug", [TypeError, MemoryError, GeneratorExit, Abort])
@pytest.mark.parametrize("operation", [name for name in CALLS if name != "provision"])
async def test_a_bug_below_a_call_shows_where_it_is_and_no_secret(
    operation: str, bug: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **kwargs: object) -> None:
        raise bug("broken")

    monkeypatch.setattr("openrouter_keys.wire.Wire.send", broken)
    client = AsyncOpenRouter(MANAGEMENT, server_url="http://127.0.0.1:1")
    with pytest.raises((bug, errors.OpenRouterError)) as caught:
        await CALLS[operation](client)
    await client.close()

    assert_no_secret(caught.value)
    assert "_send" in {frame.name for frame in traceback.extract_tb(caught.value.__traceback__)}


def test_what_the_caller_was_handling_stays_as_it_was() -> None:
    try:
        raise ValueError("the caller's own")
    except ValueError as handled:
        before = handled.__traceback__
        try:
            raise TypeError("ours")
        except TypeError as error:
            strip(error, handled)

        assert handled.__traceback__ is before is not None


def test_a_group_and_a_circle_of_exceptions_are_gone_through_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first
    group = BaseExceptionGroup("both", [first, ExceptionGroup("nested", [second])])
    for one in (first, second, group):
        try:
            raise one
        except BaseException as raised:  # noqa: BLE001 - to have a traceback
            assert raised.__traceback__ is not None

    strip(group, None)

    assert [one.__traceback__ for one in (first, second, group)] == [None] * 3
