"""One thread that owns a connection and commits in groups. Knows no engine, and nothing of keys.

Whatever was asked for while the last group was being committed makes up the next one, so the more
there is to write, the fewer commits it takes, and no caller waits for a timer.
"""

import asyncio
import os
import queue
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

import anyio
from attrs import define

from openrouter_keys._base.greenlets import make_thread, simple_queue
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.tracebacks import strip
from openrouter_keys.errors import JournalError, JournalLostError
from openrouter_keys.journal.store import Store, UnstorableError, Work

T = TypeVar("T")

#: So many callers at most go on in one turn of their loop: what each does next, such as to send a
#: create, takes half a millisecond, and a group may have hundreds.
AT_ONCE: Final = 32


class _Answer(Generic[T]):
    """What a thread waits for that runs no loop; it takes an answer as a future does."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[T | None, BaseException | None]] = simple_queue()

    def done(self) -> bool:
        return not self._queue.empty()

    def set_result(self, result: T) -> None:
        self._queue.put((result, None))

    def set_exception(self, error: BaseException) -> None:
        self._queue.put((None, error))

    def wait(self) -> T:
        result, error = self._queue.get()
        try:
            if error is not None:
                raise error
            return cast("T", result)
        finally:
            del error  # it holds this frame


@define(eq=False)
class _Job(NeverPickled):
    work: Work[Any]
    urgent: bool
    future: "asyncio.Future[Any] | _Answer[Any]"
    loop: asyncio.AbstractEventLoop | None
    salvages: bool = False
    reads: bool = False
    at_last: Callable[[Store], None] | None = None
    result: Any = None
    error: Exception | None = None

    def attempt(self, store: Store) -> None:
        """Do the work; the engine's own errors concern the whole group."""
        self.error = None
        try:
            self.result = self.work(store)
        except store.failures:
            raise
        except JournalError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - one job must not stop the others
            # Its text may quote a secret, and so may what it is chained to.
            self.error = JournalError(f"{type(error).__name__} while writing to the journal")

    def end(self, store: Store) -> None:
        """Do what has to be done though the work could not be."""
        if self.error is not None and self.at_last is not None:
            with suppress(OSError, *store.failures):
                self.at_last(store)

    def answer(self) -> None:
        """Resolve the future, unless its caller has gone."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Writer(NeverPickled):
    """The thread, and the queue into it.

    Args:
        opened: opens the connection, inside the thread, and closes what belongs to it.

    Attributes:
        lost: why nothing of it will be there tomorrow; None: it will.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[Store]]) -> None:
        self.lost: JournalLostError | None = None
        self._opened = opened
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: queue.SimpleQueue[_Job | None] = simple_queue()
        self._closed = False
        self._store: Store | None = None
        self._pid = os.getpid()

    async def start(self) -> None:
        """Open the connection; whatever that raises is raised here."""
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[None] | _Answer[None] = self._loop.create_future()
        self._begin(ready)
        try:
            await asyncio.shield(ready)
        except asyncio.CancelledError:
            # Until it has let go of the file, the same call again would find it in use.
            with suppress(Exception):
                await self.stop()
            raise

    def start_blocking(self) -> None:
        """Open the connection, as `start` does, outside of any loop."""
        self._loop = None
        ready, self._over = _Answer[None](), _Answer[None]()
        self._begin(ready)
        ready.wait()

    def _begin(self, ready: "asyncio.Future[None] | _Answer[None]") -> None:
        # A daemon: a journal that is never closed must not keep its process from ending.
        start, _ = make_thread(partial(self._live, ready), "openrouter-keys-journal")
        start()

    def submit(
        self,
        work: Work[T],
        *,
        urgent: bool = False,
        salvages: bool = False,
        reads: bool = False,
        at_last: Callable[[Store], None] | None = None,
    ) -> asyncio.Future[T]:
        """Have something done; the future has its result once that is durable.

        Args:
            work: what to do. Cancelling the future does not take it back.
            urgent: where the disk is full, try this again without the others of its group.
            salvages: it reads what is left once the journal is lost.
            reads: it changes nothing, and waits for nobody who does.
            at_last: done outside of a transaction where the work could not be done. None: nothing.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Job(work, urgent, future, loop, salvages, reads, at_last))
        return future

    def ask(self, work: Work[T]) -> T:
        """Have something done, and wait for it outside of any loop."""
        answer = _Answer[T]()
        self._put(_Job(work, urgent=False, future=answer, loop=None))
        return answer.wait()

    def _put(self, job: _Job) -> None:
        if self._closed:
            raise JournalError("the journal is closed: open it again")
        if self._is_forked:
            raise JournalError("the journal was opened before fork(): open it in the child")
        self._inbox.put(job)

    def end_late(self, run: int) -> None:
        """End a run that has outlasted the journal's block, and the thread."""
        store = self._store
        if store is not None:
            with suppress(OSError, *store.failures):
                store.end(run)

    @property
    def _is_forked(self) -> bool:
        """Whether this is a child of the process that has the thread."""
        return self._pid != os.getpid()

    def stop_blocking(self) -> None:
        """Finish what was asked for, then close: what `start_blocking` has opened."""
        if self._is_forked:
            return
        self._closed = True
        self._inbox.put(None)
        if isinstance(self._over, _Answer):
            self._over.wait()

    async def stop(self) -> None:
        """Finish what was asked for, then close: what `start` has opened."""
        if self._is_forked:
            return
        self._closed = True
        self._inbox.put(None)
        over = cast("asyncio.Future[None]", self._over)
        # A cancelled anyio scope cancels again and again, and what was asked for must be done.
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.shield(over)
            except asyncio.CancelledError:
                await asyncio.wait([over])  # once; cancelled again, it ends at once
                over.exception()
                raise

    # --- in the thread ---

    def _live(self, ready: "asyncio.Future[None] | _Answer[None]") -> None:
        awaited = ready
        try:
            with self._opened() as store:
                self._store = store
                self._tell(ready, None)
                awaited = self._over
                while self._serve(store):
                    pass
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            strip(error, None)
            self._tell(awaited, error)
        self._tell(self._over, None)

    def _tell(
        self, future: "asyncio.Future[None] | _Answer[None]", error: BaseException | None
    ) -> None:
        def resolve() -> None:
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)

        _in_loop(self._loop, resolve)

    def _serve(self, store: Store) -> bool:
        """Commit one group; False: it was the last."""
        waiting = self._waiting()
        group = [job for job in waiting if job is not None]
        self._look(store)  # a log that is cut short is as long as before once more is written
        _commit(store, [job for job in group if self.lost is None or job.salvages])
        self._look(store)
        if self.lost is not None:
            for job in group:
                job.error = job.error if job.salvages else self.lost
        for job in group:
            job.end(store)
        for loop in {job.loop for job in group}:
            theirs = [job for job in group if job.loop is loop]
            _in_loop(loop, partial(_answer, loop, theirs))  # one wake-up for all of them
        return len(group) == len(waiting)

    def _look(self, store: Store) -> None:
        try:
            store.check()
        except JournalLostError as error:
            self.lost = self.lost or error

    def _waiting(self) -> list[_Job | None]:
        waiting = [self._inbox.get()]
        with suppress(queue.Empty):
            while True:
                waiting.append(self._inbox.get_nowait())
        return waiting


def _in_loop(loop: asyncio.AbstractEventLoop | None, act: Callable[[], None]) -> None:
    if loop is None:
        act()
        return
    with suppress(RuntimeError):  # the loop is closed, with all who waited
        loop.call_soon_threadsafe(act)


def _answer(loop: asyncio.AbstractEventLoop | None, group: Sequence[_Job]) -> None:
    for job in group[:AT_ONCE]:
        job.answer()
    if rest := group[AT_ONCE:]:
        act = partial(_answer, loop, rest)
        act() if loop is None else loop.call_soon(act)


def _commit(store: Store, group: list[_Job]) -> None:
    def attempt() -> None:
        for job in group:
            job.attempt(store)

    try:
        store.transact(attempt, reads=all(job.reads for job in group))
    except JournalError as error:
        _fall_back(store, group, error)


def _fall_back(store: Store, group: list[_Job], error: JournalError) -> None:
    may_fit = len(group) > 1 and not store.is_away
    for job in group:
        if (job.urgent or isinstance(error, UnstorableError)) and may_fit:
            _commit(store, [job])  # by itself it may still fit
        else:
            job.error = error
