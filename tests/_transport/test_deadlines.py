"""Deadlines: what takes too long is ended, the rest left alone, and one timer does for all."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from openrouter_keys._transport.deadlines import Deadlines

FAR = 1000.0
SOON = 0.02


@pytest.fixture
async def deadlines() -> Deadlines:
    return Deadlines()


def quiet() -> int:
    return 0


def timers() -> list[asyncio.TimerHandle]:
    """All timers that the loop has, cancelled ones too."""
    scheduled: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    return [*scheduled]


async def test_a_block_that_takes_too_long_is_ended(deadlines: Deadlines) -> None:
    with pytest.raises(TimeoutError), deadlines.within(SOON, None, quiet):
        await asyncio.Event().wait()
    await asyncio.sleep(0)  # and the task goes on as if it had never been cancelled
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_each_block_has_its_own_deadline(deadlines: Deadlines) -> None:
    ended: list[float] = []

    async def block(seconds: float) -> None:
        try:
            with deadlines.within(seconds, None, quiet):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append(seconds)

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(block(FAR))
        for seconds in (0.06, 0.02, 0.04):  # a later one, an earlier one, one between
            tasks.create_task(block(seconds))
        while len(ended) < 3:
            await asyncio.sleep(0.01)
        waiting.cancel()
    assert ended == [0.02, 0.04, 0.06]


async def test_a_block_after_the_timer_rang_for_nothing_is_ended_too(deadlines: Deadlines) -> None:
    with deadlines.within(SOON, None, quiet):
        pass
    await asyncio.sleep(2 * SOON)
    with pytest.raises(TimeoutError), deadlines.within(SOON, None, quiet):
        await asyncio.Event().wait()


async def test_any_number_of_blocks_shares_one_timer(deadlines: Deadlines) -> None:
    before = len(timers())
    for _ in range(50):
        with deadlines.within(FAR, FAR, quiet):
            pass
    assert len(timers()) == before + 1


async def test_closing_lets_the_timer_go_but_ends_no_deadline(deadlines: Deadlines) -> None:
    asyncio.get_running_loop().call_soon(deadlines.close)
    with pytest.raises(TimeoutError), deadlines.within(SOON, None, quiet):
        await asyncio.Event().wait()
    with deadlines.within(FAR, None, quiet):
        pass
    deadlines.close()
    assert all(timer.cancelled() for timer in timers())


async def test_an_error_in_a_block_is_raised_as_it_is(deadlines: Deadlines) -> None:
    with pytest.raises(KeyError), deadlines.within(FAR, None, quiet):
        raise KeyError


@pytest.mark.parametrize("also_too_late", [False, True])
async def test_somebody_elses_cancellation_goes_on(
    deadlines: Deadlines, also_too_late: bool
) -> None:
    deadline = deadlines.within(FAR, None, quiet)

    async def block() -> None:
        with deadline:
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    if also_too_late:
        deadline.check(deadline.when)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_silence_is_ended_though_there_is_time_left(deadlines: Deadlines) -> None:
    with (
        pytest.raises(TimeoutError, match=r"^nothing was heard for 0.02 s$"),
        deadlines.within(FAR, SOON, quiet),
    ):
        await asyncio.Event().wait()


async def test_what_is_heard_is_no_silence_but_ends_in_time(deadlines: Deadlines) -> None:
    loop = asyncio.get_running_loop()
    heard: Iterator[int] = itertools.count()
    begun = loop.time()
    with pytest.raises(TimeoutError, match=r"^$"), deadlines.within(0.1, SOON, lambda: next(heard)):
        await asyncio.Event().wait()
    assert loop.time() - begun >= 0.1 - 0.001


@pytest.mark.slow
async def test_a_silence_begins_when_the_last_was_heard(deadlines: Deadlines) -> None:
    loop = asyncio.get_running_loop()
    heard = [0]
    begun = loop.time()
    loop.call_later(0.05, heard.append, 1)
    with pytest.raises(TimeoutError), deadlines.within(FAR, 0.08, lambda: len(heard)):
        await asyncio.Event().wait()
    assert 0.13 - 0.001 <= loop.time() - begun < FAR
