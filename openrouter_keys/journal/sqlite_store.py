"""Transactions in SQLite. Opens nothing, and knows nothing of keys."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress

from openrouter_keys.errors import JournalError, JournalFullError, JournalUnavailableError
from openrouter_keys.journal.store import Store

_CANNOT_WRITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
# Made when it is first needed: keeping it up costs as much as all else that a key needs, and only a
# reconcile, a rotation, and what is about to disable a key need it.
_INDEX_HASHES = "CREATE INDEX IF NOT EXISTS hashes ON keys (hash) WHERE hash IS NOT NULL"


class SQLite(Store):
    """A journal in SQLite.

    Args:
        connection: SQLite's, without transactions of its own.
        place: the file.
    """

    failures: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, connection: sqlite3.Connection, place: str) -> None:
        super().__init__()
        self.place = place
        self._connection = connection
        # The runs that the group began.
        self._begun: set[int] = set()

    @property
    def connection(self) -> sqlite3.Connection:
        """SQLite's."""
        return self._connection

    def transact(self, act: Callable[[], None], *, reads: bool) -> None:
        """Do something in a transaction, once; see `Store.transact`."""
        connection = self.connection
        self._begun.clear()
        try:
            # Nobody who writes keeps a reader waiting.
            connection.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
            before = connection.total_changes
            act()
            changed = connection.total_changes != before
            if changed:
                self.count()
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                connection.rollback()
            for run in self._begun:
                self.end(run)  # another one gets its number now
            raise _translated(error) from error
        if changed:
            self.committed()

    def index_hashes(self) -> None:
        """Make the index, once; see `Store.index_hashes`."""
        self.connection.execute(_INDEX_HASHES)

    def begin(self, run: int) -> None:
        """Show others that a run lives."""
        super().begin(run)
        self._begun.add(run)

    def count(self) -> None:
        """Called in a transaction with changes, before its commit."""

    def committed(self) -> None:
        """Called after the commit."""


def _translated(error: sqlite3.Error) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _CANNOT_WRITE:
        return JournalFullError(
            f"the journal cannot be written ({error}): make room on its disk, then run again"
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return JournalError(f"the journal is damaged ({error}): bring a backup of it back")
    if code == sqlite3.SQLITE_BUSY:
        problem = "another process has kept the journal locked for too long"
        return JournalUnavailableError(
            f"{problem} ({error}): end it if it is stopped, or ask again"
        )
    return JournalError(f"the journal cannot be used ({error})")
