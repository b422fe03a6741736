"""Deadlines of many tasks over one timer of the event loop. Knows nothing of HTTP."""

import asyncio
from collections.abc import Callable
from types import TracebackType

#: A silence is looked for so often while it lasts, so that it is noticed a quarter late at most.
_LOOKS = 4


class Deadlines:
    """Ends what takes too long, as `asyncio.timeout` does, with one timer for all that is limited.

    A timer for each request, set and cancelled again, costs a tenth of the request itself (see
    docs/decisions/speed.md). This one is set for the earliest moment, and most requests are over
    long before it rings.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def within(
        self, seconds: float, silence: float | None, heard: Callable[[], object]
    ) -> "Deadline":
        """Return a context that raises `TimeoutError` when its block takes longer.

        Args:
            seconds: how long it may take, from now on.
            silence: seconds after which it is ended earlier, if nothing is heard. None: never.
            heard: returns something that differs from before whenever there was no silence.
        """
        return Deadline(self, self._loop.time(), seconds, silence, heard)

    def add(self, deadline: "Deadline") -> None:
        """Let a deadline hold."""
        self._running.add(deadline)
        if self._timer is None or deadline.when < self._timer.when():
            self._set(deadline.when)

    def remove(self, deadline: "Deadline") -> None:
        """Let a deadline hold no longer; the timer may ring for nothing."""
        self._running.discard(deadline)

    def close(self) -> None:
        """Let the timer go, unless something is still limited."""
        if self._timer is not None and not self._running:
            self._timer.cancel()
            self._timer = None

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        for deadline in [deadline for deadline in self._running if deadline.when <= now]:
            deadline.look(now)
        if self._running:
            self._set(min(deadline.when for deadline in self._running))


class Deadline:
    """What a block may take; made by `Deadlines.within`.

    Attributes:
        when: when to look at it, by the event loop's clock.
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
        self.when = self._end if silence is None else min(self._end, now + silence / _LOOKS)

    def look(self, now: float) -> None:
        """Interrupt the block if its time is over; else say when to look again."""
        if now >= self._end or self._silence is None:
            self._interrupt("")
            return
        heard = self._heard()
        if heard != self._last:
            self._last, self._since = heard, now
        if now - self._since >= self._silence:
            self._interrupt(f"nothing was heard for {self._silence:g} s")
        self.when = min(self._end, now + self._silence / _LOOKS)

    def _interrupt(self, why: str) -> None:
        self._over = why
        self._deadlines.remove(self)
        self._task.cancel()

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that is awaited runs in one
        self._task: asyncio.Task[object] = task
        self._cancelling = task.cancelling()
        self._deadlines.add(self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._deadlines.remove(self)
        # Somebody else's cancellation goes on; ours ends here.
        if (
            self._over is not None
            and self._task.uncancel() <= self._cancelling
            and exc_type is asyncio.CancelledError
        ):
            raise TimeoutError(self._over) from exc
