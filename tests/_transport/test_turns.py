"""Turns: so many at once, the first who waits first, and none is lost, whoever leaves."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from openrouter_keys._transport.turns import Turns


async def leave(turns: Turns, waiting: "asyncio.Task[None]", *, given: bool) -> None:
    """Cancel who waits, before or after a turn is given."""
    if given:
        turns.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not given:
        turns.release()


async def test_a_turn_goes_to_the_first_who_waits() -> None:
    turns, order = Turns(1), list[int]()
    await turns.acquire()

    async def wait(number: int) -> None:
        await turns.acquire()
        order.append(number)
        turns.release()

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(wait(number))
        await asyncio.sleep(0)
        turns.release()
        assert turns.free == 0  # it is the first one's already
    assert (order, turns.free) == ([0, 1, 2], 1)


@pytest.mark.parametrize("given", [False, True])
async def test_who_leaves_while_waiting_takes_no_turn_along(given: bool) -> None:
    turns = Turns(1)
    await turns.acquire()
    waiting = asyncio.create_task(turns.acquire())
    await asyncio.sleep(0)
    await leave(turns, waiting, given=given)
    assert turns.free == 1


async def test_a_turn_that_nobody_took_goes_to_the_next_one() -> None:
    turns = Turns(1)
    await turns.acquire()
    first, second = (asyncio.create_task(turns.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    await leave(turns, first, given=True)
    await second
    assert turns.free == 0


def test_a_call_that_is_closed_while_it_waits_leaves_the_turn_to_others() -> None:
    async def closed() -> int:
        turns = Turns(1)
        await turns.acquire()
        waiting: Coroutine[Any, Any, None] = turns.acquire()
        waiting.send(None)
        waiting.close()  # as the end of a loop does
        turns.release()
        return turns.free

    assert asyncio.run(closed()) == 1
