"""An account and a ledger in an SQLite file that outlives the emulator's process. No HTTP."""

import os
import sqlite3
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, cast

from openrouter_keys.emulator.ledger import Request
from openrouter_keys.emulator.rows import (
    TABLES,
    drop_requests,
    read_account,
    read_dropped,
    read_requests,
    remove_requests,
    write_account,
    write_key,
    write_request,
)
from openrouter_keys.emulator.state import MANAGEMENT_KEY, Account

_MARK: Final = 0x0E2E2E2E  # SQLite's application_id: the file is an emulator's
_CHANGING: Final = {"create", "update", "delete"}


class StateError(Exception):
    """A state file cannot be used: the message says why, and what to do."""


class Store:
    """A state file: read when the emulator is made, written while it serves.

    Args:
        path: of the file; it is made when the emulator is entered.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._generation = 0
        self._connection: sqlite3.Connection | None = None
        self._failure: sqlite3.Error | None = None
        self._new: Account | None = None
        self._last_dropped = 0

    def load(self, account: Account) -> tuple[list[Request], Counter[str]]:
        """Read the file into the account, and return its ledger and the dropped counts.

        Raises:
            StateError: the file is not an emulator's, in use, or of another account.
        """
        if not self._path.exists():
            return [], Counter()
        with closing(_opened(self._path)) as connection, _clear(self._path):
            self._generation = _generation(connection)
            stored = read_account(connection)
            if stored is not None:
                self._continue(stored, account)
            return [*read_requests(connection)], read_dropped(connection)

    def start_anew(self, account: Account) -> None:
        """Replace everything in the file by the account, before the next write.

        Args:
            account: the thread that has the file writes it, as it is then.
        """
        self._new = account

    def open(self, account: Account) -> None:
        """Lock the file for this emulator, and write the account to it.

        Raises:
            StateError: the file is not an emulator's, in use, or changed since it was read or left.
        """
        connection = _opened(self._path)
        try:
            if _generation(connection) != self._generation:
                raise StateError(f"{self._path} was changed by another emulator: make a new one")
            with connection:
                connection.execute("BEGIN")
                connection.execute(f"PRAGMA user_version={self._generation + 1}")
                self._begin_anew(connection)
                write_account(connection, account)
        except BaseException:
            connection.close()
            raise
        self._generation += 1
        self._connection, self._failure = connection, None

    def save(self, request: Request, account: Account) -> None:
        """Write a request and its effect; the next `commit` makes both durable.

        Raises:
            sqlite3.Error: the write failed: the disk is full, for example.
        """
        if self._connection is None:
            return
        with self._failing():
            self._begin(self._connection)
            if request.number > self._last_dropped:
                write_request(self._connection, request)
            if request.applied and request.hash and request.operation in _CHANGING:
                write_key(self._connection, request.hash, account.keys.get(request.hash))

    def drop(self, last: int, dropped: Counter[str]) -> None:
        """Remove the oldest requests; the next `commit` makes that durable.

        Args:
            last: the number of the newest one to remove.
            dropped: how many are removed then, by operation.

        Raises:
            sqlite3.Error: the removal failed.
        """
        if self._connection is None or last <= self._last_dropped:
            return
        with self._failing():
            self._begin(self._connection)
            drop_requests(self._connection, last, dropped)
            self._last_dropped = last

    def commit(self) -> None:
        """Make all writes durable: from now on, a kill of the process does not undo them.

        Raises:
            sqlite3.Error: the commit failed, or an earlier write did.
        """
        if self._connection is not None:
            with self._failing():
                self._begin(self._connection)
                self._connection.commit()

    def close(self, account: Account) -> None:
        """Write the account, with changes made without a request, and close the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with closing(connection), connection:
                self._begin(connection)
                write_account(connection, account)

    def _begin(self, connection: sqlite3.Connection) -> None:
        if not connection.in_transaction:
            connection.execute("BEGIN")
        self._begin_anew(connection)

    def _begin_anew(self, connection: sqlite3.Connection) -> None:
        if self._new is not None:
            remove_requests(connection)
            write_account(connection, self._new)
            self._new, self._last_dropped = None, 0

    def _continue(self, stored: Account, account: Account) -> None:
        if account.keys or account.management_key not in {MANAGEMENT_KEY, stored.management_key}:
            raise StateError(f"{self._path} is of another account: name another file")
        account.management_key = stored.management_key
        account.default_workspace = stored.default_workspace
        account.organization_id = stored.organization_id
        account.workspaces |= stored.workspaces
        if stored.members is not None:
            account.members = stored.members | (account.members or set())
        account.budgets = account.budgets or stored.budgets
        account.ahead = account.ahead or stored.ahead
        account.keys |= stored.keys

    @contextmanager
    def _failing(self) -> Generator[None, None, None]:
        # A failure undoes what others wrote since the last commit: they must fail too.
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except sqlite3.Error as error:
            self._failure = error
            if self._connection is not None:
                self._connection.rollback()
            raise


def _opened(path: Path) -> sqlite3.Connection:
    # SQLite alone would let others read the file; the one beside it gets the mode of this one.
    path.touch(mode=0o600)
    with _clear(path):
        connection = sqlite3.connect(path, timeout=1, isolation_level=None)
    try:
        with _clear(path):
            _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    path.chmod(0o600)
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # Locked until it is closed: two emulators on one file would overwrite each other's keys.
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and mark != _MARK:
        raise StateError(f"{path} is not an emulator's state: name another file")
    connection.execute("PRAGMA journal_mode=WAL")
    # The operating system has a commit before it returns, so it outlives a killed process.
    # FULL would wait for the disk too, which only matters if the machine itself stops.
    connection.execute("PRAGMA synchronous=NORMAL")
    # Pages until SQLite waits for the disk: rarely, since the whole loop waits with it.
    connection.execute("PRAGMA wal_autocheckpoint=10000")
    connection.execute(f"PRAGMA application_id={_MARK}")
    connection.executescript(TABLES)


@contextmanager
def _clear(path: Path) -> Generator[None, None, None]:
    """Raise SQLite's errors as what they mean for a state file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:  # of several kinds
            raise StateError(f"{path} is in use by another emulator: stop it first") from error
        raise StateError(f"{path} cannot be read as an emulator's state: {error}") from error


def _generation(connection: sqlite3.Connection) -> int:
    (generation,) = connection.execute("PRAGMA user_version").fetchone()
    return cast("int", generation)
