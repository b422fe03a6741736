"""Runs the callbacks of an event loop in the thread that waits for it. Knows nothing of keys."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sized
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from queue import Empty, Queue, SimpleQueue
from typing import Any, Generic, TypeVar, cast

from openrouter_keys._base.greenlets import callers_queue

R = TypeVar("R")
T = TypeVar("T")

#: How many items are taken from an iterable at once.
_BATCH = 200


class CallerThread:
    """A queue of functions that the loop adds to, and the thread that serves runs.

    A caller's callbacks and iterables run in the caller's thread: a database connection, for
    example, may refuse to be used in another one.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Callback[Any] | None] | Queue[_Callback[Any] | None]
        self._queue = callers_queue()
        self._over = False

    def serve(self, until: "Future[Any]") -> None:
        """Run the queued functions in this thread, until a future is done."""
        until.add_done_callback(lambda _: self._queue.put(None))
        while (callback := self._queue.get()) is not None:
            callback.run()

    def close(self) -> None:
        """Run nothing any more: all further functions raise `InterruptedError` in the loop."""
        self._over = True
        with suppress(Empty):
            while True:
                callback = self._queue.get_nowait()
                if callback is not None:
                    callback.refuse()

    async def run(self, function: Callable[[], R]) -> R:
        """Call a function in the serving thread, and return its result."""
        callback = _Callback(function)
        self._queue.put(callback)
        if self._over:
            self.close()
        return await asyncio.wrap_future(callback.outcome)

    def here(self, given: object) -> object:
        """Return an async form of a callable or an iterable, which runs in the serving thread.

        A callable becomes a coroutine function, an iterable an async iterable; anything else is
        returned unchanged.
        """
        if callable(given):
            return self._calling(given)
        if type(given) in (str, bytes, dict) or not isinstance(given, Iterable):
            return given
        items = cast("Iterable[object]", given)
        return (_Sized if isinstance(given, Sized) else _Items)(self, items)

    def _calling(self, function: Callable[..., object]) -> Callable[..., Awaitable[object]]:
        async def called(*args: object) -> object:
            result = await self.run(lambda: function(*args))
            return await result if inspect.isawaitable(result) else result

        return called


class _Callback(Generic[R]):
    def __init__(self, function: Callable[[], R]) -> None:
        self.outcome: Future[R] = Future()
        self._function = function

    def run(self) -> None:
        if not self.outcome.set_running_or_notify_cancel():
            return  # the loop no longer waits for it
        try:
            result = self._function()
        except Exception as error:  # noqa: BLE001 - raised in the loop
            self.outcome.set_exception(error)
        except BaseException:
            self._interrupt()  # this error ends the serving thread's call, not the loop
            raise
        else:
            self.outcome.set_result(result)

    def refuse(self) -> None:
        if self.outcome.set_running_or_notify_cancel():
            self._interrupt()

    def _interrupt(self) -> None:
        self.outcome.set_exception(
            InterruptedError("the caller's thread was interrupted before it ran the callback")
        )


class _Items(Generic[T]):
    """An async iterable whose items the serving thread takes from an iterable."""

    def __init__(self, caller: CallerThread, items: Iterable[T]) -> None:
        self._caller = caller
        self._items = items

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        iterator = iter(self._items)
        while batch := await self._caller.run(lambda: list(islice(iterator, _BATCH))):
            for item in batch:
                yield item


class _Sized(_Items[T]):
    def __len__(self) -> int:
        return len(self._items) if isinstance(self._items, Sized) else 0
