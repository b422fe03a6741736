"""When a create may be sent, learned from the outcomes of earlier ones. No I/O, no journal.

Rejections (429) move the *rate*, time-outs and server errors the *concurrency*, and neither the
other: fewer requests at once do not make a rate limit reject fewer of them.
"""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from openrouter_keys.provisioning.rate import Rate

#: Who prepares a request ahead may begin one more turn for so many that there are at once.
PREPARED: Final = 8
#: A timer that is late by no more than this many seconds does not slow the rate down.
CATCH_UP = 0.02


class RateLimiter:
    """The gate that every worker passes before its durable intent.

    ::

        async with limiter.turn():
            ...  # one create, and one of: accepted(), rejected(), troubled()

    Args:
        concurrency: how many turns there are at once, at most.
        rate: requests a second, at most, where the limit is known; None: as many as the service
            accepts.
        ahead: whether a turn begins some time before its request is sent, so that a few more may
            begin. The caller then sees to how many are sent at once.
        clock: the time in seconds.
        sleep: waits for so many seconds.
        random: a number from 0 to 1.

    Attributes:
        concurrency: how many turns there may be at once now.
        in_flight: how many there are.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        rate: float | None = None,
        ahead: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.concurrency: int = concurrency
        self._most = concurrency
        self._ahead = ahead
        self._rate = Rate(math.inf if rate is None else float(rate))
        self._clock, self._sleep, self._random = clock, sleep, random
        self._next = self._opens = -math.inf
        self.in_flight: int = 0
        # Those that wait, and whether the one before them waits for the time.
        self._queue: deque[asyncio.Future[bool]] = deque()
        self._is_led = False
        self._since_growth = 0
        # Of those in flight: how many were sent before the rate, or the concurrency, came down.
        # They say nothing about what it is now.
        self._sent_faster = self._sent_wider = 0

    @property
    def rate(self) -> float:
        """Requests a second that are allowed now; infinite: unlimited."""
        return self._rate.now

    @property
    def is_paused(self) -> bool:
        """Whether the service has asked for a pause that is not over."""
        return self._clock() < self._opens

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for a turn, in the order of asking; the turn is over when its block is left."""
        await self.enter()
        try:
            yield
        finally:
            self.leave()

    def enters(self) -> bool:
        """Begin a turn, if there is one now and nobody waits; return whether it has begun."""
        now = self._clock()
        if self._queue or not self._has_room or not self._is_time(now):
            return False
        self._begin(now, held_back=False)
        return True

    async def enter(self) -> None:
        """Begin a turn, once there is one."""
        if self.enters():
            return
        called = asyncio.get_running_loop().create_future()
        self._queue.append(called)
        self._call()
        try:
            has_begun = await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():  # meanwhile
                self.leave() if called.result() else self._lead_no_more()
            raise
        if has_begun:
            return
        try:
            while (wait := max(self._next, self._opens) - (now := self._clock())) > 0:
                await self._sleep(wait)
            self._begin(now, held_back=True)
        finally:
            self._lead_no_more()

    @property
    def _has_room(self) -> bool:
        more = self.concurrency // PREPARED if self._ahead else 0
        return not self._is_led and self.in_flight < self.concurrency + more

    def _is_time(self, now: float) -> bool:
        return now >= self._next and now >= self._opens

    def _call(self) -> None:
        """Begin the turns of the first in the queue, or let the first one wait for the time.

        Only one waits for it, so that a change reaches all.
        """
        while self._queue and self._has_room:
            called, now = self._queue.popleft(), self._clock()
            if called.done():
                continue  # it was cancelled
            if is_time := self._is_time(now):
                self._begin(now, held_back=False)
            else:
                self._is_led = True
            called.set_result(is_time)

    def _lead_no_more(self) -> None:
        self._is_led = False
        self._call()

    def _begin(self, now: float, *, held_back: bool) -> None:
        self._rate.sent(now, held_back=held_back)
        self._next = max(self._next, now - CATCH_UP) + 1 / self._rate.now
        self.in_flight += 1

    def leave(self) -> None:
        """End a turn."""
        self.in_flight -= 1
        self._sent_faster = max(0, self._sent_faster - 1)
        self._sent_wider = max(0, self._sent_wider - 1)
        self._call()

    def accepted(self) -> None:
        """Count a create that the service carried out, or refused for what it asks."""
        if not self._sent_faster:
            self._rate.accepted(self._clock())
        self._since_growth += 1
        if self._since_growth >= self.concurrency and self.concurrency < self._most:
            self._since_growth, self.concurrency = 0, self.concurrency + 1
            self._call()

    def rejected(self, retry_after: float | None = None) -> None:
        """Slow down, as the service asks (429).

        Args:
            retry_after: the seconds that it asks to wait: a pause for every worker. None: it asks
                no pause, and only the rate comes down.
        """
        now = self._clock()
        if retry_after is not None:
            # A little later than asked, and not all at once with other processes.
            self._opens = max(self._opens, now + retry_after * (1 + self._random() / 20))
        if not self._sent_faster:
            self._rate.rejected(now, self.in_flight)
            self._sent_faster = self.in_flight
            self._next = max(self._next, now + 1 / self._rate.now)

    def troubled(self) -> None:
        """Send fewer at once: no answer came in time, or the service failed (5XX)."""
        if not self._sent_wider:
            self.concurrency = max(1, self.concurrency // 2)
            self._sent_wider = self.in_flight
        self._since_growth = 0
