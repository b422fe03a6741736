"""What a loop asks the waiting thread to do: small fakes, real threads, real signals."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from openrouter_keys._blocking.caller_thread import CallerThread
from openrouter_keys._blocking.facade import Facade, hosting
from openrouter_keys._blocking.loop_thread import LoopThread


class Things:
    """Calls back, and goes through what it is given."""

    def __init__(self) -> None:
        self.ended = False

    async def gather(self, items: Any, *, take: Any = None) -> list[Any]:
        """Take everything."""
        try:
            return [await take(item) if take else item async for item in items]
        finally:
            self.ended = True

    async def wait(self, begun: Callable[[], Any]) -> None:
        """Wait, and take some time to end."""
        try:
            await begun()
            await asyncio.sleep(60)
        except asyncio.CancelledError as cancelled:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0.05)
            cancelled.add_note("it was cut short")
            raise
        finally:
            self.ended = True


class BlockingThings(Facade[Things]):
    gather = hosting(Things.gather, here=("items", "take"))
    wait = hosting(Things.wait, here=("begun",))


async def nothing() -> None:
    """The last thing that a loop does."""


@pytest.fixture
def things() -> Iterator[tuple[BlockingThings, Things]]:
    thread, twin = LoopThread(nothing), Things()
    yield BlockingThings(twin, thread), twin
    thread.close()


@pytest.mark.slow
def test_callbacks_and_iterables_run_in_the_callers_thread(
    things: tuple[BlockingThings, Things],
) -> None:
    seen: set[str] = set()

    def items() -> Iterator[int]:
        for number in range(450):
            seen.add(threading.current_thread().name)
            yield number

    def take(number: int) -> int:
        seen.add(threading.current_thread().name)
        return number * 2

    taken = things[0].gather(items(), take=take)
    assert taken == [number * 2 for number in range(450)]
    assert seen == {threading.current_thread().name}


def test_what_a_callback_returns_is_awaited_in_the_loop(
    things: tuple[BlockingThings, Things],
) -> None:
    async def take(number: int) -> str:
        return f"{number} in {threading.current_thread().name}"

    assert things[0].gather([1], take=take) == ["1 in blocking-calls"]


def test_an_async_iterable_is_gone_through_in_the_loop(
    things: tuple[BlockingThings, Things],
) -> None:
    async def items() -> Any:
        yield threading.current_thread().name

    assert things[0].gather(items()) == ["blocking-calls"]


def test_the_length_of_what_has_one_is_known() -> None:
    caller = CallerThread()
    sized, unsized = caller.here([1, 2, 3]), caller.here(iter([1]))
    assert len(sized) == 3  # type: ignore[arg-type]  # a stand-in for a list
    assert not hasattr(unsized, "__len__")
    assert isinstance(unsized, AsyncIterable)


@pytest.mark.parametrize("given", ["text", b"bytes", {"a": 1}, None, 5])
def test_anything_else_is_left_as_it_is(given: object) -> None:
    assert CallerThread().here(given) is given


def test_what_a_callback_raises_is_raised_in_the_loop_and_then_here(
    things: tuple[BlockingThings, Things],
) -> None:
    def take(_: int) -> None:
        raise LookupError("not here")

    with pytest.raises(LookupError, match="not here"):
        things[0].gather([1], take=take)
    assert things[1].ended


def test_what_an_iterable_raises_is_raised(things: tuple[BlockingThings, Things]) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("row 2")

    with pytest.raises(LookupError, match="row 2"):
        things[0].gather(items())


def test_an_interrupt_waits_for_what_it_cancels_and_tells_its_notes(
    things: tuple[BlockingThings, Things],
) -> None:
    async def begun() -> None:  # in the loop: the callback itself has ended
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as raised:
        things[0].wait(begun)
    assert things[1].ended
    assert raised.value.__notes__ == ["it was cut short"]


def test_an_interrupt_inside_a_callback_cancels_too(
    things: tuple[BlockingThings, Things],
) -> None:
    def begun() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        things[0].wait(begun)
    assert things[1].ended


async def test_a_callback_that_no_thread_will_run_is_refused() -> None:
    caller = CallerThread()
    waiting: Awaitable[None] = asyncio.ensure_future(caller.run(lambda: None))
    await asyncio.sleep(0)
    caller.close()
    with pytest.raises(InterruptedError):
        await waiting
    with pytest.raises(InterruptedError):
        await caller.run(lambda: None)
