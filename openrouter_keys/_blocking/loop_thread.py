"""An event loop in a background thread that other threads call. Knows nothing of keys.

anyio's blocking portal takes 83 µs for a call instead of 43 (docs/decisions/speed.md), loses the
late result of an interrupted call, and does not detect forks.
"""

import asyncio
import atexit
import concurrent.futures
import functools
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, ParamSpec, TypeVar

from openrouter_keys._base.greenlets import make_thread, waiting
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._blocking.caller_thread import CallerThread
from openrouter_keys.errors import ClientClosedError, ClientStateError, ForkedClientError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: Seconds for which the end of the interpreter waits for loops that were not closed.
EXIT_TIMEOUT = 15.0

_TOO_LATE = (
    "the interpreter is ending: call the client before that, or close it in an atexit handler"
)

_running: "set[_Loop]" = set()


class _Loop(NeverPickled):
    """The loop; its thread refers to this, and not to the `LoopThread`, which can be collected."""

    def __init__(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self.pid = os.getpid()
        self.ready: Future[None] = Future()
        self.ended: Future[None] = Future()
        self._start_thread, self.join = make_thread(self._run, "blocking-calls")
        self._last = last
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        # The calls whose outcome may be open; the code that removes a call settles its outcome.
        self._calls: set[_Call[Any]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start_thread(self) -> None:
        """Start the loop's thread.

        Raises:
            ClientStateError: the interpreter is ending, or there are too many threads.
        """
        if not threading.main_thread().is_alive():
            raise ClientStateError(_TOO_LATE)
        try:
            self._start_thread()
        except RuntimeError as error:
            raise ClientStateError(f"the client's thread could not be started: {error}") from None

    def run(self, call: "_Call[Any]") -> None:
        """Start a call in the loop. Its outcome is settled in every case."""
        self._calls.add(call)
        try:
            self.soon(functools.partial(self._begin, call))  # in a copy of the caller's context
        except BaseException:
            self._calls.discard(call)
            call.outcome.cancel()
            raise
        if self.ended.done():
            self._refuse(call)  # the loop may have ended before it began the call

    def start(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that `stop` does not cancel, from any thread."""
        self.soon(functools.partial(self._start, function, lambda _: None))

    def _begin(self, call: "_Call[Any]") -> None:
        if self._stopping.is_set():
            self._refuse(call)
        elif call.outcome.cancelled():
            self._calls.discard(call)
        elif call in self._calls:
            call.task = self._start(call.run, functools.partial(self._settle, call))

    def _settle(self, call: "_Call[Any]", error: BaseException | None) -> None:
        self._calls.discard(call)
        if error is not None:
            call.fail(error)

    def _refuse(self, call: "_Call[Any]") -> None:
        with suppress(KeyError):
            self._calls.remove(call)
            call.fail(ClientClosedError("the client was closed meanwhile; make a new one"))

    def _start(
        self,
        function: Callable[[], Coroutine[Any, Any, None]],
        ended: Callable[[BaseException | None], None],
    ) -> "asyncio.Task[None] | None":
        """Start a task, and call `ended` with its error, even if it never began."""

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            ended(asyncio.CancelledError() if task.cancelled() else task.exception())

        try:
            coroutine = function()
            try:
                task = asyncio.get_running_loop().create_task(coroutine)
            except BaseException:
                coroutine.close()
                raise
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            ended(error)
            return None
        self._tasks.add(task)
        task.add_done_callback(done)
        return task

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, from any thread, without waiting for it."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(function)

    def stop(self, *, cancel: bool) -> None:
        """Ask the loop to end, from any thread; `cancel`: it cancels the running calls."""
        if self.pid == os.getpid():
            self.soon(functools.partial(self._stop, cancel=cancel))

    def _stop(self, *, cancel: bool) -> None:
        self._stopping.set()
        if cancel:
            for call in [*self._calls]:
                call.cancel()

    def _run(self) -> None:
        _running.add(self)
        try:
            _run_to_the_end(self._live)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits for it
            waits = self.ended if self.ready.done() else self.ready
            waits.set_exception(error)
        finally:
            _running.discard(self)
            if not self.ended.done():
                self.ended.set_result(None)
            for call in [*self._calls]:
                self._refuse(call)

    async def _live(self) -> None:
        _set_sniffio()
        self._loop = asyncio.get_running_loop()
        if not self.ready.set_running_or_notify_cancel():
            return  # the first call was interrupted; the next one starts another loop
        self.ready.set_result(None)
        await self._stopping.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)
        # All calls have ended, and the tasks that they started.
        await self._last()

    @property
    def is_here(self) -> bool:
        """Whether the caller is inside this loop."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False


def _run_to_the_end(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function in an event loop of this thread.

    Unlike `asyncio.run`, it starts no thread that waits for the executor's threads: no thread can
    be started while the interpreter is ending.
    """
    loop = asyncio.new_event_loop()
    try:
        loop.set_default_executor(_Executor(thread_name_prefix="blocking-calls-executor"))
        try:
            loop.run_until_complete(main())
        finally:
            loop.run_until_complete(_cancel_others())
    finally:
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class _Executor(ThreadPoolExecutor):
    """An executor that also works while the interpreter is ending: then in the loop's thread.

    It looks up the names of hosts, also for the delete of an interrupted create's key at the
    interpreter's end.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError as error:
            if "shutdown" not in str(error):  # there are too many threads
                raise
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            done.set_exception(error)
        return done


def _set_sniffio() -> None:
    """Set asyncio as this thread's library: sniffio finds no task in a callback of the loop.

    A caller's context may name another library, such as trio; the thread's setting has priority.
    """
    sniffio = sys.modules.get("sniffio")  # anyio imports and asks it, where it is installed
    if sniffio is not None:
        sniffio.thread_local.name = "asyncio"


@atexit.register
def _stop_all() -> None:
    """End the loops that were not closed, once each has awaited its last coroutine."""
    ours = [loop for loop in _running if loop.pid == os.getpid()]
    for loop in ours:
        loop.stop(cancel=True)
    with waiting():
        done, _ = concurrent.futures.wait([loop.ended for loop in ours], timeout=EXIT_TIMEOUT)
    for loop in ours:
        if loop.ended in done:
            loop.join()
            loop.ended.result()


class LoopThread(NeverPickled):
    """An event loop in a background thread: the first call starts it, `close` stops it.

    Any number of threads may call at once, also threads that run another event loop. A loop that
    is not closed ends when this object is collected, or with the interpreter.

    Args:
        last: awaited in the loop before it ends. It must not refer to this object, which then
            could not be collected.
    """

    def __init__(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._last = last
        # A signal handler may close the client in the middle of its first call.
        self._lock = threading.RLock()
        self._pid: int | None = None  # that of the first call, or of closing
        self._loop: _Loop | None = None
        self._forgotten: weakref.finalize[..., LoopThread] | None = None
        self._closed = False

    def call(
        self,
        function: Callable[[], Awaitable[R]],
        dropped: Callable[[R | BaseException], Awaitable[object]] | None = None,
    ) -> R:
        """Await `function()` in the loop; return its result, or raise its error.

        An interrupt (Ctrl-C) is raised at once; the function is cancelled, and not waited for.

        Args:
            function: called in the loop, in a copy of the caller's context.
            dropped: awaited in the loop with a result, or an error, that comes after the caller
                was interrupted.

        Raises:
            ClientStateError: the loop was closed, forked away from, or is the caller's own.
        """
        loop = self._started()
        call = _Call(loop, function, dropped)
        del function  # it may hold a secret, and crash reporters send local variables home
        try:
            loop.run(call)
            with waiting():
                return call.outcome.result()
        except BaseException as error:
            if not call.ended_with(error):
                call.take_back(error)
            raise
        finally:
            del call  # its outcome holds an error, whose traceback holds this frame

    def start(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start `function()` in the loop, if that runs: `close` waits for it, this does not."""
        if self._loop is not None and self._belongs_here():
            self._loop.start(function)

    def host(self, function: Callable[[], Awaitable[R]], caller: CallerThread) -> R:
        """Await `function()` in the loop; meanwhile, run its callbacks in this thread.

        An interrupt (Ctrl-C) cancels the function, and is raised when that has ended; a second
        interrupt is raised at once.

        Args:
            function: called in the loop, in a copy of the caller's context.
            caller: runs the callbacks in this thread.

        Raises:
            ClientStateError: the loop was closed, forked away from, or is the caller's own.
        """
        loop = self._started()
        call = _Call(loop, function)
        try:
            with waiting():
                self._serve(loop, call, caller)
            return call.outcome.result()
        finally:
            caller.close()
            del call  # its outcome holds an error, whose traceback holds this frame

    def _serve(self, loop: _Loop, call: "_Call[Any]", caller: CallerThread) -> None:
        try:
            loop.run(call)
            caller.serve(call.outcome)
        except BaseException as interrupt:
            loop.soon(call.cancel)
            caller.serve(call.outcome)
            call.annotate(interrupt)
            raise

    def close(self) -> None:
        """Wait for running calls, await `last` in the loop, then stop the thread."""
        if not self._belongs_here():
            return
        self._refuse_inside()
        with self._lock:
            first, self._closed = not self._closed, True
        if self._loop is not None and self._forgotten is not None:
            self._forgotten.detach()
            self._loop.stop(cancel=False)
            with waiting():
                error = self._loop.ended.exception()
            self._loop.join()
            if first and error is not None:
                raise error

    def _belongs_here(self) -> bool:
        """Whether this process made the first call, or can still make it."""
        if self._pid is None:
            self._pid = os.getpid()
        return self._pid == os.getpid()

    def _started(self) -> _Loop:
        # Before the lock, which another thread may have held during the fork.
        if not self._closed and not self._belongs_here():
            raise ForkedClientError("the client was used before fork(); make one in the child")
        self._refuse_inside()
        with self._lock:
            loop = self._start() if self._loop is None and not self._closed else self._loop
            if loop is None or self._closed or loop.ended.done():
                raise ClientClosedError("the client is closed; make a new one")
            return loop

    def _start(self) -> _Loop:
        loop = _Loop(self._last)
        try:
            with waiting():
                loop.start_thread()
                loop.ready.result()
        finally:
            # After an interrupt, the loop either is never used, or serves the next call.
            if not loop.ready.cancel() and loop.ready.exception() is None:
                self._adopt(loop)
        return loop

    def _adopt(self, loop: _Loop) -> None:
        self._loop = loop
        # The collector may run in any thread, so it waits for nothing; `_stop_all` waits.
        self._forgotten = weakref.finalize(self, loop.stop, cancel=True)
        self._forgotten.atexit = False
        if self._closed:
            loop.stop(cancel=True)

    def _refuse_inside(self) -> None:
        if self._loop is not None and self._loop.is_here:
            raise ClientStateError(
                "a blocking client was called in its own event loop, which would wait for itself"
            )


class _Call(NeverPickled, Generic[R]):
    """A call from another thread; its outcome goes to the caller, or to `dropped`."""

    def __init__(
        self,
        loop: _Loop,
        function: Callable[[], Awaitable[R]],
        dropped: Callable[[R | BaseException], Awaitable[object]] | None = None,
    ) -> None:
        self.outcome: Future[R] = Future()
        self.task: asyncio.Task[None] | None = None
        self._loop = loop
        self._function = function
        self._dropped = dropped
        self._is_cancelled = False

    async def run(self) -> None:
        """Await the function, in the loop."""
        try:
            result = await self._function()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self.fail(error)
        else:
            if self.outcome.set_running_or_notify_cancel():
                self.outcome.set_result(result)
            else:
                self._drop(result)
        finally:
            del self  # the outcome holds an error, whose traceback holds this frame

    def fail(self, error: BaseException) -> None:
        """End the call with an error, unless it has ended already."""
        if not self.outcome.done() and self.outcome.set_running_or_notify_cancel():
            self.outcome.set_exception(error)
        elif self.outcome.cancelled():
            self._drop(error)

    def cancel(self) -> None:
        """Cancel the function, in the loop, once: its cleanup is not cancelled."""
        if self.task is not None and not self._is_cancelled:
            self._is_cancelled = True
            self.task.cancel()

    def ended_with(self, error: BaseException) -> bool:
        """Whether the call itself raised this error."""
        return (
            self.outcome.done()
            and not self.outcome.cancelled()
            and self.outcome.exception() is error
        )

    def take_back(self, interrupt: BaseException) -> None:
        """Cancel the call of an interrupted caller; if it has ended, drop its outcome."""
        if self.outcome.cancel():
            self._loop.soon(self.cancel)
        else:
            self.annotate(interrupt)
            error = self.outcome.exception()
            self._drop(self.outcome.result() if error is None else error)

    def annotate(self, interrupt: BaseException) -> None:
        """Add the call's error, and its notes, to an interrupt that the caller gets instead."""
        error = None if self.outcome.cancelled() else self.outcome.exception()
        if error is None:
            return
        texts = [] if isinstance(error, asyncio.CancelledError) else [str(error)]
        for note in [*texts, *getattr(error, "__notes__", ())]:
            interrupt.add_note(note)

    def _drop(self, came: R | BaseException) -> None:
        if self._dropped is not None:
            self._loop.start(functools.partial(_undo, self._dropped, came))


async def _undo(dropped: Callable[[T], Awaitable[object]], came: T) -> None:
    with suppress(Exception):  # the caller has gone on
        await dropped(came)
