"""One thread that owns a SQLite connection and commits in groups. Knows nothing of keys.

Whatever was asked for while the last group was being committed makes up the next one, so the more
there is to write, the fewer commits it takes, and no caller waits for a timer.
"""

import asyncio
import queue
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeAlias, TypeVar

import anyio
from attrs import define

from openrouter_keys._base.greenlets import make_thread, simple_queue
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.tracebacks import strip
from openrouter_keys.errors import JournalError, JournalFullError, JournalLostError

T = TypeVar("T")

#: What is to be done in a group's transaction; where it raises, it has not written.
Work: TypeAlias = Callable[[sqlite3.Connection], T]


class Store:
    """A connection, and what has to be done around its commits: nothing.

    Args:
        connection: SQLite's.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def count(self) -> None:
        """Called in a transaction with changes, before its commit."""

    def committed(self) -> None:
        """Called after the commit."""

    def check(self) -> None:
        """See whether what is committed will be there tomorrow.

        Raises:
            JournalLostError: it will not.
        """


_CANNOT_WRITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


@define(eq=False)
class _Job(NeverPickled):
    work: Work[Any]
    urgent: bool
    future: asyncio.Future[Any]
    salvages: bool = False
    result: Any = None
    error: Exception | None = None

    def attempt(self, connection: sqlite3.Connection) -> None:
        """Do the work; SQLite's own errors concern the whole group."""
        try:
            self.result = self.work(connection)
        except sqlite3.Error:
            raise
        except JournalError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - one job must not stop the others
            # Its text may quote a secret, and so may what it is chained to.
            self.error = JournalError(f"{type(error).__name__} while writing to the journal")

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
        self._inbox: queue.SimpleQueue[_Job | None] = simple_queue()
        self._closed = False

    async def start(self) -> None:
        """Open the connection; whatever that raises is raised here."""
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a journal that is never closed must not keep its process from ending.
        start, _ = make_thread(self._live, "openrouter-keys-journal")
        start()
        try:
            await asyncio.shield(self._ready)
        except asyncio.CancelledError:
            # Until it has let go of the file, the same call again would find it in use.
            with suppress(Exception):
                await self.stop()
            raise

    def submit(
        self, work: Work[T], *, urgent: bool = False, salvages: bool = False
    ) -> asyncio.Future[T]:
        """Have something done; the future has its result once that is durable.

        Args:
            work: what to do. Cancelling the future does not take it back.
            urgent: where the disk is full, try this again without the others of its group.
            salvages: it reads what is left once the journal is lost.
        """
        if self._closed:
            raise JournalError("the journal is closed: open it again")
        future: asyncio.Future[T] = self._loop.create_future()
        self._inbox.put(_Job(work, urgent, future, salvages))
        return future

    async def stop(self) -> None:
        """Finish what was asked for, then close."""
        self._closed = True
        self._inbox.put(None)
        # A cancelled anyio scope cancels again and again, and what was asked for must be done.
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.shield(self._over)
            except asyncio.CancelledError:
                await asyncio.wait([self._over])  # once; cancelled again, it ends at once
                self._over.exception()
                raise

    # --- in the thread ---

    def _live(self) -> None:
        awaited = self._ready
        try:
            with self._opened() as store:
                self._tell(self._ready, None)
                awaited = self._over
                while self._serve(store):
                    pass
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            strip(error, None)
            self._tell(awaited, error)
        self._tell(self._over, None)

    def _tell(self, future: asyncio.Future[None], error: BaseException | None) -> None:
        def resolve() -> None:
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)

        self._in_loop(resolve)

    def _in_loop(self, act: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed, with all who waited
            self._loop.call_soon_threadsafe(act)

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
        self._in_loop(lambda: _answer(group))  # one wake-up for all of them
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


def _answer(group: Iterable[_Job]) -> None:
    for job in group:
        job.answer()


def _commit(store: Store, group: list[_Job]) -> None:
    connection = store.connection
    try:
        connection.execute("BEGIN IMMEDIATE")
        before = connection.total_changes
        for job in group:
            job.attempt(connection)
        changed = connection.total_changes != before
        if changed:
            store.count()
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        with suppress(sqlite3.Error):
            connection.rollback()
        _fall_back(store, group, error)
    else:
        if changed:
            store.committed()


def _fall_back(store: Store, group: list[_Job], error: sqlite3.Error) -> None:
    for job in group:
        if job.urgent and len(group) > 1:
            _commit(store, [job])  # by itself it may still fit
        else:
            job.error = _translated(error)


def _translated(error: sqlite3.Error) -> JournalError:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CANNOT_WRITE:
        return JournalFullError(
            f"the journal cannot be written ({error}): make room on its disk, then run again"
        )
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
        return JournalError(f"the journal is damaged ({error}): bring a backup of it back")
    return JournalError(f"the journal cannot be used ({error})")
