"""The rate limiter in virtual time: a loop whose clock jumps to the next timer."""

import asyncio
import math
import random
import selectors
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from attrs import define
from hypothesis import example, given
from hypothesis import strategies as st

from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.provisioning.rate import FLOOR, Rate
from openrouter_keys.provisioning.rate_limiter import CATCH_UP, RateLimiter
from openrouter_keys.provisioning.settings import Pace

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Nothing but timers is waited for, so time can jump to the next one."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def virtually(doing: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(asyncio.wait_for(doing, 1_000_000))


def now() -> float:
    return asyncio.get_running_loop().time()


def limiter(concurrency: int, rate: float | None = None, chance: float = 0.0) -> RateLimiter:
    return RateLimiter(concurrency, rate=rate, clock=now, random=lambda: chance)


@define
class Bucket:
    """A service's rate limit: so many requests a second, and so many at once."""

    rate: float
    burst: float
    tokens: float = math.nan
    filled_at: float = 0.0

    def take(self) -> float | None:
        """Take a token; else return the seconds until there is one."""
        held = self.burst if math.isnan(self.tokens) else self.tokens
        self.tokens = min(self.burst, held + (now() - self.filled_at) * self.rate)
        self.filled_at = now()
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return None


@define
class Outcome:
    goodput: float
    rejected: float
    sent_at: list[float]


async def provision(
    limiter: RateLimiter, bucket: Bucket, *, keys: int, workers: int, header: bool, seed: int
) -> Outcome:
    """Create keys as the engine does, 50 ms each, and tell what the service saw."""
    sent: list[float] = []
    chance = random.Random(seed)

    async def create() -> bool:
        async with limiter.turn():
            await asyncio.sleep(chance.uniform(0.017, 0.033))
            sent.append(now())
            wait = bucket.take()
            await asyncio.sleep(chance.uniform(0.017, 0.033))
            if wait is None:
                limiter.accepted()
            else:
                limiter.rejected(math.ceil(wait) if header else None)
            return wait is None

    async def worker(queue: Iterator[int]) -> None:
        for _ in queue:
            while not await create():
                pass

    queue = iter(range(keys))
    await asyncio.gather(*(worker(queue) for _ in range(workers)))
    return Outcome(keys / now() / bucket.rate, 1 - keys / len(sent), sent)


def outcome(*, header: bool, seed: int, rate: float | None = None) -> Outcome:
    async def run() -> Outcome:
        return await provision(
            RateLimiter(32, rate=rate, clock=now, random=random.Random(seed).random),
            Bucket(50, 10),
            keys=2_000,
            workers=32,
            header=header,
            seed=seed,
        )

    return virtually(run())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("header", [False, True], ids=["without", "with"])
def test_a_limit_that_nobody_told_is_used_up_with_few_rejections(header: bool, seed: int) -> None:
    seen = outcome(header=header, seed=seed)
    assert seen.goodput >= 0.9
    assert seen.rejected < 0.02


def test_a_limit_that_is_told_is_used_up_without_a_rejection() -> None:
    seen = outcome(header=True, seed=1, rate=50)
    assert seen.goodput >= 0.95
    assert seen.rejected == 0


@pytest.mark.slow
def test_without_a_rejection_there_is_no_waiting() -> None:
    async def run() -> float:
        free = Bucket(1e9, 1e9)
        await provision(limiter(32), free, keys=3_200, workers=32, header=False, seed=1)
        return now()

    assert virtually(run()) < 100 * 0.066


# --- the rate by itself ---


@pytest.mark.slow
@given(
    st.floats(0.05, 500),
    st.lists(st.tuples(st.sampled_from(["accepted", "rejected"]), st.floats(0, 5)), max_size=80),
)
@example(1.0, [("accepted", 0.1)] * 3)
def test_no_history_takes_the_rate_past_its_ceiling_or_below_its_floor(
    ceiling: float, history: list[tuple[str, float]]
) -> None:
    rate, time = Rate(ceiling), 0.0
    for what, passed in history:
        time += passed
        rate.sent(time, held_back=True)
        before = rate.now
        if what == "accepted":
            rate.accepted(time)
            assert rate.now >= before
        else:
            rate.rejected(time, 8)
            assert rate.now < before or before == min(FLOOR, ceiling)
        assert min(FLOOR, ceiling) <= rate.now <= ceiling


def accept(
    rate: Rate, start: float, seconds: float, every: float, *, held_back: bool = True
) -> float:
    for n in range(round(seconds / every) + 1):
        rate.sent(start + n * every, held_back=held_back)
        rate.accepted(start + n * every)
    return start + seconds


def test_the_first_rejection_brings_the_rate_below_what_was_measured() -> None:
    rate = Rate()
    end = accept(rate, 0, 10, 0.01)
    rate.rejected(end, 8)
    assert 40 < rate.now < 100


def test_where_nothing_was_accepted_the_first_guess_is_what_is_in_flight() -> None:
    rate = Rate()
    rate.sent(0, held_back=False)
    rate.rejected(0.1, 32)
    assert rate.now == 32


def after_a_pause(seconds: float) -> Rate:
    """A rate of 54 a second, of which 50 were used for 10 s after a pause."""
    rate = Rate(60)
    rate.sent(0, held_back=False)
    rate.rejected(0.1, 8)
    end = accept(rate, 0.1 + seconds, 10, 0.02)
    assert rate.now == pytest.approx(54, rel=0.03)
    rate.rejected(end, 8)
    return rate


def test_a_later_rejection_keeps_most_of_what_was_measured() -> None:
    assert 45 < after_a_pause(0).now < 50


def test_a_pause_is_not_taken_for_a_low_rate_nor_what_was_saved_up_in_it_for_a_high_one() -> None:
    assert 0.6 * after_a_pause(0).now < after_a_pause(10).now < 0.9 * after_a_pause(0).now


def test_a_rate_that_is_not_used_up_does_not_grow() -> None:
    rate = Rate()
    rate.sent(0, held_back=False)
    rate.rejected(0.1, 60)
    accept(rate, 1, 30, 0.02, held_back=False)
    assert rate.now == 60


def test_the_rate_recovers_slowly_and_the_faster_the_longer_all_goes_well() -> None:
    rate = Rate()
    end = accept(rate, 0, 10, 0.02)
    rate.rejected(end, 8)
    accept(rate, end, 3, 0.02)
    rate.rejected(end + 3, 8)
    start = rate.now
    end = accept(rate, end + 3, 10, 0.02)
    soon = rate.now
    accept(rate, end, 300, 0.02)
    assert start < soon < start * 2
    assert rate.now > soon * 3


# --- the gate ---


@pytest.mark.parametrize("rate", [0.5, 20.0, 900.0])
def test_the_rate_that_is_given_is_never_passed(rate: float) -> None:
    async def run() -> list[float]:
        free = Bucket(1e9, 1e9)
        seen = await provision(limiter(16, rate), free, keys=200, workers=16, header=False, seed=1)
        return sorted(seen.sent_at)

    sent = virtually(run())
    jitter = 0.016  # of the way to the service, after the gate
    for first in range(0, 200, 7):
        for last in range(first, 200, 11):
            assert last - first <= rate * (sent[last] - sent[first] + jitter + CATCH_UP) + 1e-6


def test_retry_after_is_a_pause_for_everyone_also_for_those_who_wait_already() -> None:
    async def run() -> list[float]:
        gate, passed = limiter(4), list[float]()

        async def worker() -> None:
            async with gate.turn():
                passed.append(now())
                await asyncio.sleep(1)

        async with gate.turn():
            gate.rejected(10)
            waiting = [asyncio.create_task(worker()) for _ in range(3)]
            await asyncio.sleep(5)
            gate.rejected(10)  # was on its way too: the pause grows, the rate does not fall again
        await asyncio.gather(*waiting)
        return passed

    assert min(virtually(run())) >= 15


def test_the_pause_ends_a_little_later_by_chance() -> None:
    async def run() -> float:
        gate = limiter(1, chance=1.0)
        async with gate.turn():
            gate.rejected(10)
        async with gate.turn():
            return now()

    assert 10 < virtually(run()) <= 11


def test_rejections_of_what_was_already_on_its_way_lower_the_rate_once() -> None:
    async def run() -> tuple[float, float]:
        gate = limiter(8)
        ready = asyncio.Barrier(8)
        rates: list[float] = []

        async def worker() -> None:
            async with gate.turn():
                await ready.wait()
                gate.rejected()
                rates.append(gate.rate)

        await asyncio.gather(*(worker() for _ in range(8)))
        return rates[0], rates[-1]

    first, last = virtually(run())
    assert first == last == 8


def test_rejections_leave_the_concurrency_alone_and_troubles_the_rate() -> None:
    async def run() -> None:
        gate = limiter(8)
        async with gate.turn():
            gate.troubled()
        assert (gate.rate, gate.concurrency) == (math.inf, 4)
        async with gate.turn():
            gate.rejected()
        assert gate.concurrency == 4
        assert gate.rate < math.inf

    virtually(run())


def test_troubles_halve_the_concurrency_down_to_one_and_successes_restore_it_one_by_one() -> None:
    async def run() -> None:
        gate, seen = limiter(8), list[int]()
        for _ in range(5):
            async with gate.turn():
                gate.troubled()
            seen.append(gate.concurrency)
        assert seen == [4, 2, 1, 1, 1]
        for _ in range(1 + 2 + 3):
            async with gate.turn():
                gate.accepted()
        assert gate.concurrency == 4
        for _ in range(100):
            async with gate.turn():
                gate.accepted()
        assert gate.concurrency == 8

    virtually(run())


def test_troubles_of_one_outage_halve_the_concurrency_once() -> None:
    async def run() -> int:
        gate, ready = limiter(8), asyncio.Barrier(8)

        async def worker() -> None:
            async with gate.turn():
                await ready.wait()
                gate.troubled()

        await asyncio.gather(*(worker() for _ in range(8)))
        return gate.concurrency

    assert virtually(run()) == 4


def test_no_more_turns_at_once_than_the_concurrency() -> None:
    async def run() -> int:
        gate, most = limiter(3), 0

        async def worker() -> None:
            nonlocal most
            async with gate.turn():
                most = max(most, gate.in_flight)
                await asyncio.sleep(1)

        await asyncio.gather(*(worker() for _ in range(10)))
        assert now() == pytest.approx(4)
        return most

    assert virtually(run()) == 3


def test_a_worker_that_is_cancelled_while_waiting_leaves_its_place_to_others() -> None:
    async def run() -> int:
        gate = limiter(1)

        async def worker() -> None:
            async with gate.turn():
                await asyncio.sleep(1)

        tasks = [asyncio.create_task(worker()) for _ in range(4)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return gate.in_flight

    assert virtually(run()) == 0


def test_nobody_overtakes_who_waits() -> None:
    async def run() -> None:
        gate = limiter(1)
        assert gate.enters()
        assert not gate.enters()
        waiting = asyncio.create_task(gate.enter())
        await asyncio.sleep(1)
        gate.leave()
        assert not gate.enters()
        await waiting
        gate.leave()
        assert gate.enters()

    virtually(run())


def test_in_a_pause_nobody_enters_at_once() -> None:
    async def run() -> None:
        gate = limiter(2)
        assert gate.enters()
        gate.rejected(10)
        assert not gate.enters()
        await asyncio.sleep(10)
        assert gate.enters()

    virtually(run())


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(InvalidArgumentError, match="rate"):
        Pace(rate=rate)


def test_a_concurrency_below_one_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="concurrency"):
        Pace(concurrency=0)
