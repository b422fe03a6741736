"""Time and chance, handed in, so that tests need not wait."""

import random
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeAlias

import anyio
from attrs import Factory, field, frozen

#: A time by the clock that somebody may set, and by `Clockwork.steady`.
Moment: TypeAlias = tuple[datetime, float]


def _boot_time() -> float:
    return time.clock_gettime(_BOOT_TIME)


def _sleepless() -> Callable[[], float]:
    """Return a clock that goes on while the machine sleeps, where the system has one."""
    try:
        _boot_time()
    except (AttributeError, OSError, TypeError, ValueError):
        return time.monotonic  # on Windows it goes on
    return _boot_time


# macOS has no CLOCK_BOOTTIME: its CLOCK_MONOTONIC goes on, and `time.monotonic` is another clock.
_BOOT_TIME = getattr(time, "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME", -1)
_SLEEPLESS = _sleepless()


@frozen
class Clockwork:
    """The real ones, unless told otherwise.

    Args:
        monotonic: seconds that never go back.
        now: the time of day, in UTC.
        sleep: waits for so many seconds.
        random: a number from 0 to 1.
        steady: seconds that never go back, and go on while the machine sleeps, where the system
            can tell; where another `monotonic` is handed in, that one.
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
        """Return the time by both clocks that go on."""
        return self.now(), self.steady()
