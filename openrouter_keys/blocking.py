"""Blocking calls of coroutines, through an event loop in a background thread. Knows no keys.

`create = blocking(AsyncThings.create)` in a `Facade` makes a blocking twin of a coroutine, with its
signature and its docstring; `iterating` does so for an async generator.
"""

import enum
import functools
import os
import threading
import types
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from anyio import CancelScope
from anyio.from_thread import BlockingPortal, start_blocking_portal

from openrouter_keys.errors import ClientClosedError, ClientStateError, ForkedClientError

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _End(enum.Enum):
    END = enum.auto()


class LoopThread:
    """One event loop in a background thread: started by the first call, stopped by `close`.

    Any number of threads may call at once, also those that run an event loop of their own. One
    that nobody closes is closed when it is collected, or with the interpreter.

    Args:
        last: awaited in the loop before it ends. It must not refer to this object, which could
            then never be collected.
    """

    def __init__(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._last = last
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._ident: int | None = None
        self._portal: BlockingPortal | None = None
        self._finish: Callable[[], object] | None = None
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
        portal = self._started()
        outcome: Future[R] = Future()
        task: Future[None] | None = None
        try:
            task = portal.start_task_soon(_deliver, function, outcome, dropped)
            return outcome.result()
        except BaseException:
            if outcome.cancel():
                if task is not None:
                    task.cancel()
            elif dropped is not None and outcome.exception() is None:
                portal.start_task_soon(dropped, outcome.result())
            raise
        finally:
            del outcome  # it holds an error, whose traceback holds this frame

    def close(self) -> None:
        """Await `last` in the loop, then stop the thread; what is still running ends first."""
        if self._pid != os.getpid():
            return
        self._refuse_inside()
        with self._lock:
            self._closed = True
            if self._finish is not None:
                self._finish()

    def _started(self) -> BlockingPortal:
        # Before the lock, which a thread of the parent may have held when it was forked.
        if self._pid != os.getpid():
            raise ForkedClientError("the client was made before fork(); make one in the child")
        self._refuse_inside()
        with self._lock:
            if self._closed:
                raise ClientClosedError("the client is closed; make a new one")
            return self._start() if self._portal is None else self._portal

    def _start(self) -> BlockingPortal:
        stack = ExitStack()
        self._portal = portal = stack.enter_context(start_blocking_portal("asyncio"))
        self._ident = portal.call(threading.get_ident)
        self._finish = weakref.finalize(self, _stop, stack, portal, self._last, self._pid)
        return portal

    def _refuse_inside(self) -> None:
        if self._ident == threading.get_ident():
            raise ClientStateError(
                "a blocking client was called in its own event loop, which would wait for itself"
            )


async def _deliver(
    function: Callable[[], Awaitable[R]],
    outcome: "Future[R]",
    dropped: Callable[[R], Awaitable[object]] | None,
) -> None:
    # The portal's own future would throw away a result whose caller was interrupted meanwhile.
    try:
        result = await function()
    except BaseException as error:
        if outcome.set_running_or_notify_cancel():
            outcome.set_exception(error)
        if not isinstance(error, Exception):
            raise
    else:
        if outcome.set_running_or_notify_cancel():
            outcome.set_result(result)
        elif dropped is not None:
            with CancelScope(shield=True):
                await dropped(result)
    finally:
        del outcome  # it holds an error, whose traceback holds this frame


def _stop(
    stack: ExitStack, portal: BlockingPortal, last: Callable[[], Awaitable[object]], pid: int
) -> None:
    if pid == os.getpid():
        with stack:
            portal.call(last)


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


class blocking(Generic[C, P, R]):  # noqa: N801 - used like `property`
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

        self._call = call

    @overload
    def __get__(
        self, facade: None, owner: type[Facade[C]]
    ) -> Callable[Concatenate[Facade[C], P], R]: ...
    @overload
    def __get__(self, facade: Facade[C], owner: type[Facade[C]]) -> Callable[P, R]: ...
    def __get__(self, facade: Facade[C] | None, owner: type[Facade[C]]) -> object:
        return self._call if facade is None else types.MethodType(self._call, facade)


class iterating(Generic[C, P, T]):  # noqa: N801 - used like `property`
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

        self._iterate = iterate

    @overload
    def __get__(
        self, facade: None, owner: type[Facade[C]]
    ) -> Callable[Concatenate[Facade[C], P], Iterator[T]]: ...
    @overload
    def __get__(self, facade: Facade[C], owner: type[Facade[C]]) -> Callable[P, Iterator[T]]: ...
    def __get__(self, facade: Facade[C] | None, owner: type[Facade[C]]) -> object:
        return self._iterate if facade is None else types.MethodType(self._iterate, facade)


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
