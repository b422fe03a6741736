"""An event loop in a background thread that other threads call into. Knows nothing of keys."""

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

#: Seconds that the interpreter's end waits for a loop that nobody closed.
PATIENCE_AT_EXIT = 15.0


_TOO_LATE = (
    "the interpreter is ending: call the client before that, or close it in an atexit handler"
)

_running: "set[_Loop]" = set()


class _Loop(NeverPickled):
    """The loop itself; its thread holds this, and not the owner, which can then be collected."""

    def __init__(self, last: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self.pid = os.getpid()
        self.ready: Future[None] = Future()
        self.ended: Future[None] = Future()
        self._start_thread, self.join = make_thread(self._run, "blocking-calls")
        self._last = last
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        # The calls whose outcome may be open: whoever takes one out of here settles it.
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
        """Start a call in the loop. Whatever happens on its way, its outcome is settled."""
        # The portal of anyio waits for the loop twice: for the task to begin, and to end.
        self._calls.add(call)
        try:
            self.soon(functools.partial(self._begin, call))  # in a copy of the caller's context
        except BaseException:
            self._calls.discard(call)
            call.outcome.cancel()
            raise
        if self.ended.done():
            self._refuse(call)  # which the loop may not have come to

    def start(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task of the loop's own, from any thread, that nothing cancels."""
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
        """Start a task, and tell how it ended, even if it never began."""

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
        """Call a function in the loop, from any thread, and wait for nothing."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(function)

    def stop(self, *, hurry: bool) -> None:
        """Ask the loop to end, from any thread; in a hurry, it cancels what is running."""
        if self.pid == os.getpid():
            self.soon(functools.partial(self._stop, hurry=hurry))

    def _stop(self, *, hurry: bool) -> None:
        self._stopping.set()
        if hurry:
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
        _tell_sniffio()
        self._loop = asyncio.get_running_loop()
        if not self.ready.set_running_or_notify_cancel():
            return  # the first call was interrupted, and the next one starts another loop
        self.ready.set_result(None)
        await self._stopping.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)
        # Only now has everything ended that was called, and what it left behind.
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

    As `asyncio.run`, but it starts no thread in order to wait for those of the executor: none can
    be started when the interpreter is ending.
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
    """One that works while the interpreter is ending, too: in the loop itself.

    The names of hosts are looked up in it, and what an interrupted create left behind is settled
    at the interpreter's end.
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


def _tell_sniffio() -> None:
    """Say that asyncio runs in this thread: sniffio finds no task in a callback of the loop.

    A caller's context may even name another library, such as trio; a thread's word goes first.
    """
    sniffio = sys.modules.get("sniffio")  # anyio imports it, and asks it, where it is installed
    if sniffio is not None:
        sniffio.thread_local.name = "asyncio"


@atexit.register
def _stop_all() -> None:
    """End the loops that nobody closed, and give each the time for its last coroutine."""
    ours = [loop for loop in _running if loop.pid == os.getpid()]
    for loop in ours:
        loop.stop(hurry=True)
    with waiting():
        done, _ = concurrent.futures.wait([loop.ended for loop in ours], timeout=PATIENCE_AT_EXIT)
    for loop in ours:
        if loop.ended in done:
            loop.join()
            loop.ended.result()


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
        self._pid: int | None = None  # that of the first call, or of closing
        self._loop: _Loop | None = None
        self._forgotten: weakref.finalize[..., LoopThread] | None = None
        self._closed = False

    def call(
        self,
        function: Callable[[], Awaitable[R]],
        dropped: Callable[[R | BaseException], Awaitable[object]] | None = None,
    ) -> R:
        """Await `function()` in the loop and return what it returns, or raise what it raises.

        An interrupt (Ctrl-C) is raised at once: what was awaited is cancelled, not waited for.

        Args:
            function: called in the loop, in a copy of the caller's context.
            dropped: awaited in the loop with a result, or an error, that came when the caller had
                been interrupted.

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
            if not call.told(error):
                call.interrupted(error)
            raise
        finally:
            del call  # its outcome holds an error, whose traceback holds this frame

    def host(self, function: Callable[[], Awaitable[R]], caller: CallerThread) -> R:
        """Await `function()` in the loop, and run what it asks of this thread meanwhile.

        An interrupt (Ctrl-C) cancels what is awaited, and is raised once that has ended; another
        one is raised at once.

        Args:
            function: called in the loop, in a copy of the caller's context.
            caller: this thread, as the function sees it.

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
        """Let end what is still running, await `last` in the loop, then stop the thread."""
        if not self._belongs_here():
            return
        self._refuse_inside()
        with self._lock:
            first, self._closed = not self._closed, True
        if self._loop is not None and self._forgotten is not None:
            self._forgotten.detach()
            self._loop.stop(hurry=False)
            with waiting():
                error = self._loop.ended.exception()
            self._loop.join()
            if first and error is not None:
                raise error

    def _belongs_here(self) -> bool:
        """Whether the first call was made in this process, or can be."""
        if self._pid is None:
            self._pid = os.getpid()
        return self._pid == os.getpid()

    def _started(self) -> _Loop:
        # Before the lock, which a thread of the parent may have held when it was forked.
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
            # Interrupted meanwhile, it either never comes to be ready, or is there for the next.
            if not loop.ready.cancel() and loop.ready.exception() is None:
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
        if self._loop is not None and self._loop.is_here:
            raise ClientStateError(
                "a blocking client was called in its own event loop, which would wait for itself"
            )


class _Call(NeverPickled, Generic[R]):
    """One call on its way to the loop and back; its outcome reaches the caller, or is dropped."""

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
        # The portal's own future would throw away a result whose caller was interrupted.
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
        """Tell the caller of an error, unless it was told of something else already."""
        if not self.outcome.done() and self.outcome.set_running_or_notify_cancel():
            self.outcome.set_exception(error)
        elif self.outcome.cancelled():
            self._drop(error)

    def cancel(self) -> None:
        """Cancel the function, in the loop, once: what it does about that is not cancelled."""
        if self.task is not None and not self._is_cancelled:
            self._is_cancelled = True
            self.task.cancel()

    def told(self, error: BaseException) -> bool:
        """Whether an error is the call's own."""
        return (
            self.outcome.done()
            and not self.outcome.cancelled()
            and self.outcome.exception() is error
        )

    def interrupted(self, interrupt: BaseException) -> None:
        """Take back the call of a caller that was interrupted, and maybe just told of its end."""
        if self.outcome.cancel():
            self._loop.soon(self.cancel)
        else:
            self.annotate(interrupt)
            error = self.outcome.exception()
            self._drop(self.outcome.result() if error is None else error)

    def annotate(self, interrupt: BaseException) -> None:
        """Tell with an interrupt what it keeps from the caller, or what its cancellation told."""
        error = None if self.outcome.cancelled() else self.outcome.exception()
        if error is None:
            return
        told = [] if isinstance(error, asyncio.CancelledError) else [str(error)]
        for note in [*told, *getattr(error, "__notes__", ())]:
            interrupt.add_note(note)

    def _drop(self, came: R | BaseException) -> None:
        if self._dropped is not None:
            self._loop.start(functools.partial(_undo, self._dropped, came))


async def _undo(dropped: Callable[[T], Awaitable[object]], came: T) -> None:
    with suppress(Exception):  # nobody is left to tell of it
        await dropped(came)
