"""Whether a run goes on, why it does not, and which waiting tasks that interrupts."""

import asyncio
from contextlib import AbstractContextManager
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

    def interrupts(self, *, idle: bool = False) -> AbstractContextManager[None]:
        """Let a stop cancel the task that waits inside, which has nothing under way.

        Args:
            idle: whether a pause cancels it, too, since it has not even a spec.
        """
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        return _Among(self._idle if idle else self._waiting, task)


class _Among(AbstractContextManager[None]):
    """A task is among some while a block runs; `contextlib.contextmanager` takes twice as long."""

    def __init__(self, tasks: set["asyncio.Task[Any]"], task: "asyncio.Task[Any]") -> None:
        self._tasks, self._task = tasks, task

    def __enter__(self) -> None:
        self._tasks.add(self._task)

    def __exit__(self, *_: object) -> None:
        self._tasks.discard(self._task)
