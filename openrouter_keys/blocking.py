"""Blocking calls of coroutines, through an event loop in a background thread. Knows no keys.

`create = blocking(AsyncThings.create)` in a `Facade` makes a blocking twin of a coroutine, with its
signature and its docstring; `iterating` does so for an async generator.
"""

import asyncio
import concurrent.futures
import enum
import functools
import inspect
import os
import threading
import types
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_args, overload

import anyio
from anyio.from_thread import BlockingPortal

from openrouter_keys.errors import ClientClosedError, ClientStateError, ForkedClientError

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: Seconds that the interpreter's end waits for a loop that nobody closed.
PATIENCE_AT_EXIT = 15.0


class _End(enum.Enum):
    END = enum.auto()


class _Loop:
    """The loop itself; its thread holds this, and not the owner, which can then be collected."""

    def __init__(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self.pid = os.getpid()
        self.ready: Future[BlockingPortal] = Future()
        self.ended: Future[None] = Future()
        self.thread = threading.Thread(target=self._run, name="blocking-calls", daemon=True)
        self._last = last
        self._hurry = False
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self, *, hurry: bool) -> None:
        """Ask the loop to end, from any thread, and wait for nothing."""
        if self._loop is not None:
            self._hurry = hurry
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._stopping.set)

    def abandon(self) -> None:
        """End a loop whose owner was collected, or has lived until the interpreter ends."""
        if self.pid == os.getpid():
            self.stop(hurry=True)
            if self.thread is not threading.current_thread():
                done, _ = concurrent.futures.wait((self.ended,), timeout=PATIENCE_AT_EXIT)
                for ended in done:
                    ended.result()

    def _run(self) -> None:
        try:
            anyio.run(self._live)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that closes
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    async def _live(self) -> None:
        async with BlockingPortal() as portal:
            self._loop = asyncio.get_running_loop()
            if not self.ready.set_running_or_notify_cancel():
                return  # the first call was interrupted, and the next one starts another loop
            self.ready.set_result(portal)
            await self._stopping.wait()
            await portal.stop(cancel_remaining=self._hurry)
        # Only now has everything ended that was called, and what it left behind.
        await self._last()


class LoopThread:
    """One event loop in a background thread: started by the first call, stopped by `close`.

    Any number of threads may call at once, also those that run an event loop of their own. One
    that nobody closes ends when it is collected, or with the interpreter.

    Args:
        last: awaited in the loop before it ends. It must not refer to this object, which could
            then never be collected.
    """

    def __init__(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._last = last
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._loop: _Loop | None = None
        self._forgotten: weakref.finalize[..., LoopThread] | None = None
        self._closed = False

    def call(
        self,
        function: Callable[[], Awaitable[R]],
        dropped: Callable[[R], Awaitable[object]] | None = None,
    ) -> R:
        """Await `function()` in the loop and return what it returns, or raise what it raises.

        An interrupt (Ctrl-C) is raised at once: what was awaited is cancelled, not waited for.

        Args:
            function: called in the loop, in a copy of the caller's context.
            dropped: awaited in the loop with a result that came too late to be returned.

        Raises:
            ClientStateError: the loop was closed, forked away from, or is the caller's own.
        """
        portal, call = self._portal(), _Call(function, dropped)
        try:
            portal.start_task_soon(call.run)
            return call.outcome.result()
        except BaseException:
            if call.outcome.cancel():
                portal.start_task_soon(call.cancel)
            elif call.outcome.exception() is None:
                portal.start_task_soon(call.drop, call.outcome.result())
            raise
        finally:
            del call  # its outcome holds an error, whose traceback holds this frame

    def close(self) -> None:
        """Let end what is still running, await `last` in the loop, then stop the thread."""
        if self._pid != os.getpid():
            return
        self._refuse_inside()
        with self._lock:
            first, self._closed = not self._closed, True
        if self._loop is not None and self._forgotten is not None:
            self._forgotten.detach()
            self._loop.stop(hurry=False)
            error = self._loop.ended.exception()
            if first and error is not None:
                raise error

    def _portal(self) -> BlockingPortal:
        # Before the lock, which a thread of the parent may have held when it was forked.
        if self._pid != os.getpid():
            raise ForkedClientError("the client was made before fork(); make one in the child")
        self._refuse_inside()
        with self._lock:
            if self._closed:
                raise ClientClosedError("the client is closed; make a new one")
            return self._start() if self._loop is None else self._loop.ready.result()

    def _start(self) -> BlockingPortal:
        loop = _Loop(self._last)
        try:
            loop.thread.start()
            return loop.ready.result()
        finally:
            # Interrupted meanwhile, it either never comes to be ready, or is kept.
            if not loop.ready.cancel():
                self._loop = loop
                self._forgotten = weakref.finalize(self, loop.abandon)

    def _refuse_inside(self) -> None:
        if self._loop is not None and self._loop.thread is threading.current_thread():
            raise ClientStateError(
                "a blocking client was called in its own event loop, which would wait for itself"
            )


class _Call(Generic[R]):
    """One call on its way to the loop and back; its outcome reaches the caller, or is dropped."""

    def __init__(
        self,
        function: Callable[[], Awaitable[R]],
        dropped: Callable[[R], Awaitable[object]] | None,
    ) -> None:
        self.outcome: Future[R] = Future()
        self._function = function
        self._dropped = dropped
        self._scope: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Await the function, in the loop."""
        if self.outcome.cancelled():
            return
        with anyio.CancelScope() as self._scope:
            # The portal's own future would throw away a result whose caller was interrupted.
            try:
                result = await self._function()
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                if self.outcome.set_running_or_notify_cancel():
                    self.outcome.set_exception(error)
            else:
                if self.outcome.set_running_or_notify_cancel():
                    self.outcome.set_result(result)
                else:
                    await self.drop(result)
            finally:
                del self  # the outcome holds an error, whose traceback holds this frame

    def cancel(self) -> None:
        """Cancel the function, in the loop."""
        if self._scope is not None:
            self._scope.cancel()

    async def drop(self, result: R) -> None:
        """Undo a result that its caller will not see, in the loop."""
        if self._dropped is not None:
            with anyio.CancelScope(shield=True):
                await self._dropped(result)


class Facade(Generic[C]):
    """A blocking twin: holds an async object and the loop that it lives in.

    Args:
        twin: the async object whose methods `blocking` and `iterating` call.
        thread: its loop; facades of objects that belong together share one.
    """

    def __init__(self, twin: C, thread: LoopThread) -> None:
        self._twin = twin
        self._thread = thread


def _parts(facade: Facade[C]) -> tuple[C, LoopThread]:
    return facade._twin, facade._thread  # pyright: ignore[reportPrivateUsage]  # a friend of it


class _Method:
    """The function behind a descriptor, named for the class that it stands in."""

    _function: Callable[..., object]

    def __set_name__(self, owner: type, name: str) -> None:
        self._function.__name__ = name
        self._function.__qualname__ = f"{owner.__qualname__}.{name}"
        self._function.__module__ = owner.__module__

    def _bound(self, facade: object | None) -> object:
        return self._function if facade is None else types.MethodType(self._function, facade)


class blocking(_Method, Generic[C, P, R]):  # noqa: N801 - used like `property`
    """A blocking method of a `Facade`: `create = blocking(AsyncThings.create)`.

    Args:
        method: the coroutine method; its signature and docstring are the blocking method's.
        dropped: awaited with the async object and a result that an interrupt kept from its caller.
    """

    def __init__(
        self,
        method: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
        *,
        dropped: Callable[[C, R], Awaitable[object]] | None = None,
    ) -> None:
        @functools.wraps(method)
        def call(facade: Facade[C], *args: P.args, **kwargs: P.kwargs) -> R:
            twin, thread = _parts(facade)
            undo = None if dropped is None else functools.partial(dropped, twin)
            result: R = thread.call(functools.partial(method, twin, *args, **kwargs), undo)
            return result

        self._function = call

    @overload
    def __get__(
        self, facade: None, owner: type[Facade[C]]
    ) -> Callable[Concatenate[Facade[C], P], R]: ...
    @overload
    def __get__(self, facade: Facade[C], owner: type[Facade[C]]) -> Callable[P, R]: ...
    def __get__(self, facade: Facade[C] | None, owner: type[Facade[C]]) -> object:
        return self._bound(facade)


class iterating(_Method, Generic[C, P, T]):  # noqa: N801 - used like `property`
    """A method of a `Facade` that iterates in the loop: `iterate = iterating(AsyncThings.iterate)`.

    The generator is closed in the loop when the iterator is closed, dropped or interrupted.

    Args:
        method: the async generator method. It must not yield inside a time-out, a task group or a
            cancel scope: each item is a task of its own.
    """

    def __init__(self, method: Callable[Concatenate[C, P], AsyncGenerator[T, None]]) -> None:
        @functools.wraps(method)
        def iterate(facade: Facade[C], *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
            twin, thread = _parts(facade)
            return _drive(thread, method(twin, *args, **kwargs))

        self._function = iterate
        _return_an_iterator(iterate, method)

    @overload
    def __get__(
        self, facade: None, owner: type[Facade[C]]
    ) -> Callable[Concatenate[Facade[C], P], Iterator[T]]: ...
    @overload
    def __get__(self, facade: Facade[C], owner: type[Facade[C]]) -> Callable[P, Iterator[T]]: ...
    def __get__(self, facade: Facade[C] | None, owner: type[Facade[C]]) -> object:
        return self._bound(facade)


def _return_an_iterator(function: Callable[..., object], method: Callable[..., object]) -> None:
    signature = inspect.signature(method)
    returned = types.GenericAlias(Iterator, get_args(signature.return_annotation)[:1])
    function.__dict__["__signature__"] = signature.replace(return_annotation=returned)


def _drive(thread: LoopThread, generator: AsyncGenerator[T, None]) -> Iterator[T]:
    async def following() -> T | _End:
        return await anext(generator, _End.END)

    # An interrupt while waiting ends the generator by itself: it is cancelled.
    while (item := thread.call(following)) is not _End.END:
        try:
            yield item
        except BaseException:
            with suppress(ClientStateError):  # the loop is gone, and the generator with it
                thread.call(generator.aclose)
            raise
