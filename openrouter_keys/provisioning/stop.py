"""Why a run stops, and who can be interrupted when it does. No rule of when."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast


class Halt:
    """Stops a run: nothing new begins, and what is under way goes on to its end.

    Attributes:
        reason: what stopped it first; None: it goes on.
    """

    def __init__(self) -> None:
        self.reason: BaseException | None = None
        self._waiting: set[asyncio.Task[Any]] = set()

    @property
    def stopped(self) -> bool:
        """Whether nothing new may begin."""
        return self.reason is not None

    def stop(self, reason: BaseException) -> None:
        """Let nothing new begin."""
        if self.reason is None:
            self.reason = reason
            for task in self._waiting:
                task.cancel()

    @contextmanager
    def interrupts(self) -> Generator[None]:
        """Let a stop cancel the task that waits inside, since nothing of its is under way."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)
