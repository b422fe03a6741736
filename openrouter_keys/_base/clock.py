"""Time and chance, which tests replace, so that they need not wait."""

import random
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias

import anyio
from attrs import Factory, field, frozen

#: A time by the clock of the day, which can be set, and by `Clockwork.steady`.
Moment: TypeAlias = tuple[datetime, float]


def _sleepless() -> Callable[[], float]:
    """Return a clock that runs while the machine sleeps, where the system has one."""
    # macOS has no CLOCK_BOOTTIME: its CLOCK_MONOTONIC runs; `time.monotonic` is another clock.
    name = "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    try:
        clock = partial(time.clock_gettime, getattr(time, name))
        clock()
    except (AttributeError, OSError, TypeError, ValueError):
        return time.monotonic  # on Windows it runs
    return clock


_SLEEPLESS = _sleepless()


@frozen
class Clockwork:
    """The clocks, the sleep and the random numbers of a client; by default, the real ones.

    Args:
        monotonic: seconds that never go back.
        now: the time of day, in UTC.
        sleep: waits for so many seconds.
        random: a number from 0 to 1.
        steady: seconds that never go back, and that pass while the machine sleeps, where the system
            has such a clock. With another `monotonic`, that one.
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = random.random
    steady: Callable[[], float] = field(
        default=Factory(
            lambda self: _SLEEPLESS if self.monotonic is time.monotonic else self.monotonic,
            takes_self=True,
        )
    )

    def moment(self) -> Moment:
        """Return the time by `now` and `steady`."""
        return self.now(), self.steady()
