"""Time and chance, handed in, so that tests need not wait."""

import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import anyio
from attrs import frozen


@frozen
class Clockwork:
    """The real ones, unless told otherwise.

    Args:
        monotonic: seconds that never go back.
        now: the time of day, in UTC.
        sleep: waits for so many seconds.
        random: a number from 0 to 1.
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = random.random
