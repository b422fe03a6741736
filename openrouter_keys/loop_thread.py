"""An event loop in a background thread that other threads call into. Knows nothing of keys."""

import asyncio
import atexit
import concurrent.futures
import functools
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal

from openrouter_keys.errands import Errands
from openrouter_keys.errors import ClientClosedError, ClientStateError, ForkedClientError
from openrouter_keys.pickling import NeverPickled

R = TypeVar("R")

#: Seconds that the interpreter's end waits for a loop that nobody closed.
PATIENCE_AT_EXIT = 15.0


_running: "set[_Loop]" = set()


class _Loop(NeverPickled):
    """The loop itself; its thread holds this, and not the owner, which can then be collected."""

    def __init__(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self.pid = os.getpid()
        self.portal: BlockingPortal
        self.ready: Future[BlockingPortal] = Future()
        self.ended: Future[None] = Future()
        self.thread = threading.Thread(target=self._run, name="blocking-calls", daemon=True)
        self._last = last
        self._hurry = False
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: TaskGroup | None = None
        self._on_their_way: set[_Call[Any]] = set()

    def run(self, call: "_Call[Any]") -> None:
        """Start a call in the loop."""
        # The portal's own way waits for the loop twice: for the task to begin, and to end.
        self._on_their_way.add(call)
        self.soon(functools.partial(self._begin, call))
        if self.ended.done():
            self._begin(call)  # which the loop may not have come to

    def _begin(self, call: "_Call[Any]") -> None:
        try:
            self._on_their_way.remove(call)
        except KeyError:
            return
        if self._tasks is None or self.ended.done():
            call.refuse()
        else:
            self._tasks.start_soon(call.run)

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, from any thread, and wait for nothing."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(function)

    def stop(self, *, hurry: bool) -> None:
        """Ask the loop to end, from any thread; in a hurry, it cancels what is running."""
        if self.pid == os.getpid():
            self._hurry = hurry
            self.soon(self._stopping.set)

    def _run(self) -> None:
        _running.add(self)
        try:
            anyio.run(self._live)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits for it
            waits = self.ended if self.ready.done() else self.ready
            waits.set_exception(error)
        finally:
            _running.discard(self)
            if not self.ended.done():
                self.ended.set_result(None)
            for call in [*self._on_their_way]:
                self._begin(call)

    async def _live(self) -> None:
        async with BlockingPortal() as portal, anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._loop = asyncio.get_running_loop()
            if not self.ready.set_running_or_notify_cancel():
                return  # the first call was interrupted, and the next one starts another loop
            self.ready.set_result(portal)
            await self._stopping.wait()
            self._tasks = None
            await portal.stop(cancel_remaining=self._hurry)
        # Only now has everything ended that was called, and what it left behind.
        await self._last()


@atexit.register
def _stop_all() -> None:
    """End the loops that nobody closed, and give each the time for its last coroutine."""
    ours = [loop for loop in _running if loop.pid == os.getpid()]
    for loop in ours:
        loop.stop(hurry=True)
    done, _ = concurrent.futures.wait([loop.ended for loop in ours], timeout=PATIENCE_AT_EXIT)
    for ended in done:
        ended.result()


class LoopThread(NeverPickled):
    """One event loop in a background thread: started by the first call, stopped by `close`.

    Any number of threads may call at once, also those that run an event loop of their own. One
    that nobody closes ends when it is collected, or with the interpreter.

    Args:
        last: awaited in the loop before it ends. It must not refer to this object, which could
            then never be collected.
    """

    def __init__(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._last = last
        # A signal handler may close the client in the middle of its first call.
        self._lock = threading.RLock()
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
        loop, call = self._started(), _Call(function, dropped)
        del function  # it may hold a secret, and crash reporters send local variables home
        try:
            loop.run(call)
            return call.outcome.result()
        except BaseException:
            if call.outcome.cancel():
                loop.soon(call.cancel)
            elif call.outcome.exception() is None:
                with suppress(RuntimeError):  # the loop has ended
                    loop.portal.start_task_soon(call.drop, call.outcome.result())
            else:
                call.outcome = Future()  # the old one holds the error, whose traceback holds it
            raise
        finally:
            del call  # its outcome holds an error, whose traceback holds this frame

    def host(self, function: Callable[[], Awaitable[R]], errands: Errands) -> R:
        """Await `function()` in the loop, and run its errands in this thread meanwhile.

        An interrupt (Ctrl-C) cancels what is awaited, and is raised once that has ended; another
        one is raised at once.

        Args:
            function: called in the loop, in a copy of the caller's context.
            errands: what it may ask this thread to do.

        Raises:
            ClientStateError: the loop was closed, forked away from, or is the caller's own.
        """
        loop, call = self._started(), _Call(function, None)
        try:
            loop.run(call)
            try:
                errands.serve(call.outcome)
            except BaseException as interrupt:
                loop.soon(call.cancel)
                errands.serve(call.outcome)
                call.annotate(interrupt)
                raise
            return call.outcome.result()
        finally:
            errands.close()
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
            self._loop.thread.join()
            if first and error is not None:
                raise error

    def _started(self) -> _Loop:
        # Before the lock, which a thread of the parent may have held when it was forked.
        if self._pid != os.getpid():
            raise ForkedClientError("the client was made before fork(); make one in the child")
        self._refuse_inside()
        with self._lock:
            loop = self._start() if self._loop is None and not self._closed else self._loop
            if loop is None or self._closed or loop.ended.done():
                raise ClientClosedError("the client is closed; make a new one")
            return loop

    def _start(self) -> _Loop:
        loop = _Loop(self._last)
        try:
            loop.thread.start()
            loop.portal = loop.ready.result()
        finally:
            # Interrupted meanwhile, it either never comes to be ready, or is there for the next.
            if not loop.ready.cancel() and loop.ready.exception() is None:
                loop.portal = loop.ready.result()
                self._adopt(loop)
        return loop

    def _adopt(self, loop: _Loop) -> None:
        self._loop = loop
        # Not waited for: the collector runs in anybody's thread. The interpreter's end waits.
        self._forgotten = weakref.finalize(self, loop.stop, hurry=True)
        self._forgotten.atexit = False
        if self._closed:
            loop.stop(hurry=True)

    def _refuse_inside(self) -> None:
        if self._loop is not None and self._loop.thread is threading.current_thread():
            raise ClientStateError(
                "a blocking client was called in its own event loop, which would wait for itself"
            )


class _Call(NeverPickled, Generic[R]):
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
        else:
            self.outcome.cancel()  # it has not begun

    def refuse(self) -> None:
        """Tell that it came when the loop was about to end."""
        if self.outcome.set_running_or_notify_cancel():
            self.outcome.set_exception(
                ClientClosedError("the client was closed meanwhile; make a new one")
            )

    def annotate(self, interrupt: BaseException) -> None:
        """Tell with an interrupt what its cancellation told."""
        if not self.outcome.cancelled():
            for note in getattr(self.outcome.exception(), "__notes__", ()):
                interrupt.add_note(note)

    async def drop(self, result: R) -> None:
        """Undo a result that its caller will not see, in the loop."""
        if self._dropped is not None:
            # Nobody is left to tell of an error, and the other calls must not end with it.
            with anyio.CancelScope(shield=True), suppress(Exception):
                await self._dropped(result)
