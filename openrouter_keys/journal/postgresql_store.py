"""Transactions in PostgreSQL that outlive the loss of the server. Knows nothing of keys.

Each group of changes holds one lock of the journal, so that writers come one after the other, as
in SQLite, and no two of them can deadlock. With each goes the number of this store's commits, in
its row of `sessions`. Where the connection is lost, that row shows whether the last commit came
through: a group is done again only where it did not. `pg_xact_status` does not show that: after a
crash, the server may give the number of a lost transaction to another one.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg

from openrouter_keys.errors import (
    JournalError,
    JournalFullError,
    JournalLostError,
    JournalUnavailableError,
)
from openrouter_keys.journal.servers import Server
from openrouter_keys.journal.sessions import PATIENCE, Session
from openrouter_keys.journal.store import Store, UnstorableError

#: Seconds for which jobs wait for a server that is away.
GRACE: Final = 30.0
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

_BEGIN = "BEGIN; SELECT pg_advisory_xact_lock({}, 0), pg_backend_pid()"
_COMMIT = """
INSERT INTO sessions VALUES ({0}, {1}, now())
ON CONFLICT (id) DO UPDATE SET commits = {1}, at = now(); COMMIT
"""
_COMMITS = "SELECT commits FROM sessions WHERE id = ?"
_FORGET = "DELETE FROM sessions WHERE id = {}"
_LOCK = "SELECT pg_try_advisory_lock(?, ?)"
_UNLOCK = "SELECT pg_advisory_unlock(?, ?)"
_LIVES = """
SELECT EXISTS (
    SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid = ?::bigint::oid AND objid = ?::bigint::oid
)
"""
# A process number may be another one's by now.
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = ? AND backend_start::text = ? AND pid <> pg_backend_pid()
"""
# The server ends the session: it stops, it crashed, it starts, we were idle in a transaction.
_ENDS: Final = ("57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
_READ_ONLY, _LOCKED = "25006", "55P03"
_REMOVED: Final = ("42P01", "3F000")
# The server's disk is full, or fails.
_CANNOT_WRITE: Final = ("53", "58")
# A value is refused: too long for an index, say.
_UNSTORABLE: Final = ("22", "23", "54")
# Seconds that an old session, which was ended, may take to let its locks go.
_ENDING: Final = 5.0
# Seconds for which the journal certainly remembers a session's commits: a day less than it does.
_REMEMBERED: Final = 29 * 86400.0


class PostgreSQL(Store):
    """A journal in PostgreSQL.

    Args:
        server: where it is.
        session: the first connection to it.
        key: the number of its locks, apart from those of all else in the database.
        reads: whether it changes nothing.
        grace: seconds for which jobs wait for a server that is away.
    """

    failures: tuple[type[Exception], ...] = (psycopg.Error,)
    ends_with_process = False

    def __init__(
        self,
        server: Server,
        session: Session,
        key: int,
        *,
        reads: bool = False,
        grace: float = GRACE,
    ) -> None:
        super().__init__()
        self.place: str = server.place
        self._server, self._session, self._key, self._reads = server, session, key, reads
        self._grace = grace
        self._id = secrets.randbits(62)
        self._commits: int = 0
        self._committed_at = time.monotonic()
        # When the server was lost; whether the last commit is in doubt since, and whether it was
        # that of the group which is under way; and what is lost for good.
        self._lost_at: float | None = None
        self._is_in_doubt = self._is_sent = False
        self._removed: JournalLostError | None = None
        # The runs that the group began.
        self._begun: set[int] = set()

    @property
    def connection(self) -> Session:
        """The session."""
        return self._session

    @property
    def is_away(self) -> bool:
        """Whether the server was lost, and has not come back."""
        return self._lost_at is not None

    def transact(self, act: Callable[[], None], *, reads: bool) -> None:
        """Do something in a transaction, through a loss of the server; see `Store.transact`."""
        self._is_sent, self._begun = False, set()
        give_up: float | None = None
        while True:
            if self.is_away:
                self._return()
            try:
                act() if reads or self._reads else self._write(act)
            except psycopg.Error as error:
                problem = self._problem(error)
            except JournalError:
                self._undo()
                raise
            else:
                return
            give_up = give_up or time.monotonic() + self._grace
            if problem is None and time.monotonic() > give_up:
                problem = JournalUnavailableError(
                    f"{self.place} is lost again and again: see the server's log"
                )
            if problem is not None:
                self._runs -= self._begun
                raise problem

    def check(self) -> None:
        """See whether the server still has what it committed.

        Raises:
            JournalLostError: it has not.
        """
        if self._removed is not None:
            raise self._removed

    def close(self) -> None:
        """End the session; its runs are gone with it."""
        if not self._reads and not self.is_away:
            with suppress(psycopg.Error):
                self._session.run(_FORGET.format(self._id))
        self._session.close()

    # --- runs ---

    def begin(self, run: int) -> None:
        """Show others that a run lives, until it ends or its session does."""
        if not self._take(run):
            raise JournalError(f"{self.place}: run {run} lives already, so it is an older copy")
        self._runs.add(run)
        self._begun.add(run)

    def end(self, run: int) -> None:
        """Show others that a run has ended."""
        if run in self._runs:
            self._runs.discard(run)
            self._begun.discard(run)
            self._session.execute(_UNLOCK, (self._key, run))

    def lives(self, run: int) -> bool:
        """Return whether a run lives, in any process on any machine."""
        return run in self._runs or self._is(_LIVES, self._key & 0xFFFFFFFF, run)

    def _take(self, run: int) -> bool:
        return self._is(_LOCK, self._key, run)

    def _is(self, question: str, *values: object) -> bool:
        found = self._session.execute(question, values).fetchone()
        return bool(found and found[0])

    # --- a group of changes ---

    def _write(self, act: Callable[[], None]) -> None:
        _, pid = self._session.run(_BEGIN.format(self._key)).fetchall()[0]
        if pid != self._session.pid:
            problem = "a pooler gives each transaction another session: connect to the server"
            raise JournalError(f"{self.place}: {problem} itself")
        if self._is_in_doubt and self._came_through():
            self._session.run("ROLLBACK")
            return
        act()
        self._is_sent = True
        self._session.run(_COMMIT.format(self._id, self._commits + 1))
        self._commits += 1
        self._committed_at = time.monotonic()

    def _came_through(self) -> bool:
        """Return whether the group was committed before the server was lost.

        Nothing of it is still under way: whatever changes the journal holds its lock.
        """
        found = self._session.execute(_COMMITS, (self._id,)).fetchone()
        commits = int(found[0]) if found else 0
        if not found and time.monotonic() - self._committed_at > _REMEMBERED:
            commits = self._commits  # it may be forgotten; a commit would be remembered
        if commits not in (self._commits, self._commits + 1):
            self._removed = JournalLostError(self.place, "went back to an older state")
            raise self._removed
        came_through = self._is_sent and commits > self._commits
        self._commits, self._is_in_doubt = commits, False
        begun, self._begun = self._begun, set()
        self._runs -= begun
        for run in begun if came_through else ():
            self.begin(run)
        return came_through

    def _problem(self, error: psycopg.Error) -> JournalError | None:
        """Return what to raise; None: the server is lost, and the group is to be tried again."""
        code = error.sqlstate or ""
        if self._session.is_lost or code in _ENDS or (code == _READ_ONLY and not self._reads):
            self._lose()
            return None
        self._undo()
        if code in _REMOVED:
            self._removed = JournalLostError(self.place, "was removed")
            return self._removed
        text = self._server.shown(error)
        if code[:2] in _CANNOT_WRITE:
            help = "make room on its server's disk, then run again"
            return JournalFullError(f"the journal cannot be written ({text}): {help}")
        if code[:2] in _UNSTORABLE:
            return UnstorableError(f"the journal cannot store this ({text})")
        if code == _LOCKED:
            problem = f"another process has kept {self.place} locked for {PATIENCE} s"
            return JournalUnavailableError(problem)
        return JournalError(f"the journal cannot be used ({text})")

    def _lose(self) -> None:
        self._session.close()
        self._lost_at = self._lost_at or time.monotonic()
        self._is_in_doubt = True

    def _undo(self) -> None:
        """Take back what a group did that is not committed."""
        try:
            self._session.run("ROLLBACK")
            for run in self._begun:
                self._session.execute(_UNLOCK, (self._key, run))
        except psycopg.Error:
            self._lose()
        self._runs -= self._begun
        self._begun.clear()

    # --- the server's return ---

    def _return(self) -> None:
        """Connect again.

        Raises:
            JournalUnavailableError: the server does not come back in time.
            JournalError: it cannot hold a journal any more.
        """
        pause = _PAUSE
        while True:
            try:
                session = Session(self._server, reads=self._reads)
            except psycopg.Error as error:
                problem = self._server.shown(error)
            else:
                if self._take_over(session):
                    return
                problem = "lost again"
            if time.monotonic() >= (self._lost_at or 0.0) + self._grace:
                what = "nothing more is sent until it is back"
                raise JournalUnavailableError(
                    f"the database {self.place} is away ({problem}): {what}"
                )
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _take_over(self, session: Session) -> bool:
        """Go on with a new session; return whether it is there still."""
        old, self._session = self._session, session
        try:
            session.execute(_TERMINATE, (old.pid, old.begun))
            give_up = time.monotonic() + _ENDING
            for run in self._runs - self._begun:
                # Where that does not end: rows that another run has claimed show their owner.
                while not self._take(run) and time.monotonic() < give_up:
                    time.sleep(_PAUSE)
        except psycopg.Error:
            session.close()
            return False
        self._lost_at = None
        return True
