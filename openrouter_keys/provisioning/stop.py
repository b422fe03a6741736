"""Whether a run goes on, why it does not, and which waiting tasks that interrupts."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from openrouter_keys.provisioning.circuit_breaker import CircuitBreaker


class StopSignal:
    """Stops a run, or pauses it until its next round.

    Nothing new begins then, and what is under way goes on to its end.

    Args:
        breaker: pauses the run while it is open.

    Attributes:
        reason: what stopped the run first; None: it goes on.
    """

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.reason: BaseException | None = None
        self._breaker = breaker
        self._paused = False
        self._waiting: set[asyncio.Task[Any]] = set()
        self._idle: set[asyncio.Task[Any]] = set()

    @property
    def stopped(self) -> bool:
        """Whether the run ends."""
        return self.reason is not None

    @property
    def paused(self) -> bool:
        """Whether nothing new may begin, in this round or at all."""
        return self.stopped or self._paused or self._breaker.is_open

    def stop(self, reason: BaseException) -> None:
        """End the run."""
        if self.reason is None:
            self.reason = reason
            self._interrupt(self._waiting | self._idle)

    def pause(self) -> None:
        """End the round."""
        self._paused = True
        self._interrupt(self._idle)

    def resume(self) -> None:
        """Begin another round."""
        self._paused = False

    @staticmethod
    def _interrupt(tasks: set["asyncio.Task[Any]"]) -> None:
        for task in tasks:
            task.cancel()

    @contextmanager
    def interrupts(self, *, idle: bool = False) -> Generator[None]:
        """Let a stop cancel the task that waits inside, which has nothing under way.

        Args:
            idle: whether a pause cancels it, too, since it has not even a spec.
        """
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        waiting = self._idle if idle else self._waiting
        waiting.add(task)
        try:
            yield
        finally:
            waiting.discard(task)
