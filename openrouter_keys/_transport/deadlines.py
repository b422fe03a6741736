"""Deadlines of many tasks over one timer of the event loop. Knows nothing of HTTP.

`asyncio.timeout` sets a timer for each request, which takes 7 µs instead of 2
(docs/decisions/speed.md), and it cannot end a silence.
"""

import asyncio
from collections.abc import Callable

#: How often a silence is checked while it lasts: it ends at most a quarter late.
_CHECKS = 4


class Deadlines:
    """Interrupts blocks that take too long, as `asyncio.timeout` does.

    The timer is set for the earliest moment; most requests end long before it fires.

    Attributes:
        running: the deadlines of the blocks that run now.
    """

    def __init__(self) -> None:
        self.running: set[Deadline] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def within(
        self, seconds: float, silence: float | None, heard: Callable[[], object]
    ) -> "Deadline":
        """Return a context that raises `TimeoutError` when its block takes longer.

        Args:
            seconds: how long the block may take, from now on.
            silence: seconds of silence that end it earlier. None: none do.
            heard: returns a new value whenever something was received.
        """
        return Deadline(self, self._loop.time(), seconds, silence, heard)

    def add(self, deadline: "Deadline") -> None:
        """Start a deadline."""
        self.running.add(deadline)
        if self._timer is None or deadline.when < self._timer.when():
            self._set(deadline.when)

    def close(self) -> None:
        """Cancel the timer, unless a block still runs."""
        if self._timer is not None and not self.running:
            self._timer.cancel()
            self._timer = None

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        for deadline in [each for each in self.running if each.when <= now]:
            deadline.check(now)
        if self.running:
            self._set(min(deadline.when for deadline in self.running))


class Deadline:
    """The deadline of one block; made by `Deadlines.within`.

    Attributes:
        when: when to check it next, by the event loop's clock.
    """

    __slots__ = (
        "_cancelling", "_deadlines", "_end", "_heard", "_last", "_over", "_silence", "_since",
        "_task", "when",
    )  # fmt: skip

    def __init__(
        self,
        deadlines: Deadlines,
        now: float,
        seconds: float,
        silence: float | None,
        heard: Callable[[], object],
    ) -> None:
        self._deadlines = deadlines
        self._end = now + seconds
        self._silence = silence
        self._heard = heard
        self._last: object = None
        self._since = now
        self._over: str | None = None
        self.when = self._end if silence is None else min(self._end, now + silence / _CHECKS)

    def check(self, now: float) -> None:
        """Interrupt the block if its time is over; otherwise set when to check again."""
        if now >= self._end or self._silence is None:
            self._interrupt("")
            return
        heard = self._heard()
        if heard != self._last:
            self._last, self._since = heard, now
        if now - self._since >= self._silence:
            self._interrupt(f"nothing was heard for {self._silence:g} s")
        self.when = min(self._end, now + self._silence / _CHECKS)

    def _interrupt(self, why: str) -> None:
        self._over = why
        self._deadlines.running.discard(self)
        self._task.cancel()

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that is awaited runs in one
        self._task: asyncio.Task[object] = task
        self._cancelling = task.cancelling()
        self._deadlines.add(self)

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._deadlines.running.discard(self)  # the timer stays set
        # A cancellation by others goes on; that of `_interrupt` ends here.
        if (
            self._over is not None
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError(self._over) from error
