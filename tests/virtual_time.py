"""An event loop whose time jumps to the next timer whenever nothing else is to be done.

Sockets are real. Journals are written in the loop's own thread, so that the same happens whenever
the same is drawn.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from selectors import DefaultSelector, SelectorKey
from typing import Any, TypeVar
from unittest.mock import patch

from openrouter_keys.errors import JournalError
from openrouter_keys.journal.store import Store, Work
from openrouter_keys.journal.writer import Writer, _Job

T = TypeVar("T")

_BEGIN = 1_000_000.0


class _Selector(DefaultSelector):
    """Waits for no timer: it sets the time instead."""

    def __init__(self) -> None:
        super().__init__()
        self.time = _BEGIN

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if timeout is None:
            return super().select(None)
        os.sched_yield()
        events = super().select(0)
        if not events:
            self.time += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._waits = _Selector()
        super().__init__(self._waits)

    def time(self) -> float:
        return self._waits.time


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    with _without_threads(), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@contextmanager
def _without_threads() -> Generator[None]:
    """Let each journal be written in the loop's thread, at once."""

    async def start(self: Writer) -> None:
        opened[self] = self._opened()
        stores[self] = opened[self].__enter__()

    def submit(
        self: Writer,
        work: Work[T],
        *,
        urgent: bool = False,
        salvages: bool = False,
        reads: bool = False,
        at_last: Callable[[Store], None] | None = None,
    ) -> "asyncio.Future[T]":
        if self._closed:
            raise JournalError("the journal is closed: open it again")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._inbox.put(_Job(work, urgent, future, loop, salvages, reads, at_last))
        self._serve(stores[self])
        return future

    async def stop(self: Writer) -> None:
        self._closed = True
        opened[self].__exit__(None, None, None)

    opened: dict[Writer, Any] = {}
    stores: dict[Writer, Any] = {}
    with patch.multiple(Writer, start=start, submit=submit, stop=stop):
        yield
