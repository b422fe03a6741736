"""Which copy of a journal a file is: whole, and as new as what its keys were made by. No thread.

`marks` in the file, and the `.lock` beside it, count the commits of one journal. A file that counts
fewer than its lock is an older copy. A file that was not closed by its last run, and has neither
its log nor its lock, is half of one. Either knows less than was sent. A log begins where its file
ends: one that begins later, or ends before, is of another file, and SQLite would apply it.
"""

import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from openrouter_keys.errors import JournalError, JournalOutdatedError
from openrouter_keys.journal.files import Held, forget_run
from openrouter_keys.journal.sqlite_store import SQLite

# `closed`: the last run ended, and all that it wrote is in the file.
_MARKS = """
CREATE TABLE IF NOT EXISTS marks (
    instance TEXT NOT NULL, commits INTEGER NOT NULL, closed INTEGER NOT NULL
)
"""
_FIRST = "INSERT INTO marks SELECT ?, 0, 1 WHERE NOT EXISTS (SELECT 1 FROM marks)"
_COUNT = "UPDATE marks SET commits = commits + 1 RETURNING commits"
_READ = "SELECT instance, commits, closed FROM marks"


class Copy(SQLite):
    """A journal's file that is open, and counts its commits.

    Args:
        connection: SQLite's.
        files: the files, held.
    """

    def __init__(self, connection: sqlite3.Connection, files: Held) -> None:
        super().__init__(connection, files.path)
        self._files = files
        self._instance, self._commits = "", 0

    def opened(self) -> None:
        """Note, in the file itself, that it is not closed; forget the runs that are gone.

        Raises:
            JournalError: it cannot be written.
        """
        try:
            self._begin()
        except sqlite3.Error as error:
            raise JournalError(f"{self._files.path} cannot be written: {error}") from error
        self.committed()
        self._files.opened()

    def _begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute(_MARKS)
        self.connection.execute(_FIRST, (secrets.token_hex(8),))
        self.connection.execute("UPDATE marks SET closed = 0")
        self._forget_runs()
        self.count()
        self.connection.execute("COMMIT")
        (self._instance, *_) = self.connection.execute(_READ).fetchone()
        self._checkpoint()

    def count(self) -> None:
        """Count a commit, in its transaction."""
        (self._commits,) = self.connection.execute(_COUNT).fetchone()

    def committed(self) -> None:
        """Tell the lock of it. It outlives this process, if not a power cut: that is enough."""
        self._files.note(self._instance, self._commits)

    def check(self) -> None:
        """See whether the files are still those that were opened.

        Raises:
            JournalLostError: they are not.
        """
        self._files.check()

    def begin(self, run: int) -> None:
        """Show others that a run lives."""
        super().begin(run)
        self._files.begin(run)

    def end(self, run: int) -> None:
        """Show others that a run has ended."""
        super().end(run)
        self._files.end(run)

    def lives(self, run: int) -> bool:
        """Return whether a run lives, in any process."""
        return self._files.lives(run)

    def close(self) -> None:
        """Note that it is closed, once all else is in the file, unless others have it open."""
        if self._files.shared:
            return
        self._checkpoint()
        self.connection.execute("BEGIN IMMEDIATE")
        self._forget_runs()
        self.count()
        self.connection.execute("UPDATE marks SET closed = 1")
        self.connection.execute("COMMIT")
        self.committed()

    def _forget_runs(self) -> None:
        """Forget the runs whose processes are gone."""
        for (run,) in self.connection.execute("SELECT id FROM runs").fetchall():
            if not self._files.lives(run):
                forget_run(self._files.path, run)
                self.connection.execute("DELETE FROM runs WHERE id = ?", (run,))

    def _checkpoint(self) -> None:
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def misfit(files: Held) -> str | None:
    """Return why a log is not that of its file; None: it is, or there is none.

    Nothing but SQLite's file itself is read: SQLite must not have opened it with its log before.
    """
    found, log = files.log, f"{files.path}-wal"
    if found is None:
        return None
    try:
        instance, commits = _alone(files.path) or (found.instance, 0)
    except sqlite3.Error:
        return None  # a run was killed while it brought the log into the file
    if instance != found.instance:
        return f"is not the journal that {log} beside it is the log of"
    if commits < found.first - 1:
        goes_on = f"{commits:,} commits, and that goes on from {found.first:,}"
        return f"is older than {log}, its log ({goes_on})"
    if commits > found.last:
        return (
            f"is newer than {log}, its log ({commits:,} commits, and that ends with {found.last:,})"
        )
    return None


def refuse_misfit(files: Held) -> None:
    """Refuse a file whose log is not its own, before SQLite opens both.

    Raises:
        JournalOutdatedError: one of the two was put back without the other.
    """
    if (problem := misfit(files)) is not None:
        raise JournalOutdatedError(files.path, problem)


def _alone(path: str) -> tuple[str, int] | None:
    uri = f"{Path(path).as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        marks = _marks(connection)
    return None if marks is None else marks[:2]


def refuse_outdated(connection: sqlite3.Connection, files: Held) -> None:
    """Refuse a file that is visibly not the journal's last state.

    Raises:
        JournalOutdatedError: it is an older copy, or its log is missing.
    """
    noted = files.noted()  # first: others may commit meanwhile
    marks = _marks(connection)
    if marks is None:
        return
    instance, commits, closed = marks
    if noted is not None and noted[0] == instance:
        if commits < noted[1]:
            counted = f"{commits:,} of its {noted[1]:,} commits"
            raise JournalOutdatedError(files.path, f"is older than the journal was ({counted})")
    elif not closed and not files.had_log:
        problem = f"was copied without its log: copy {files.path}-wal, too"
        raise JournalOutdatedError(files.path, problem)


def accept(connection: sqlite3.Connection, files: Held) -> None:
    """Accept a copy: it becomes a journal of its own."""
    connection.execute("BEGIN IMMEDIATE")
    if _marks(connection) is not None:
        mark = (secrets.token_hex(8),)
        connection.execute("UPDATE marks SET instance = ?, closed = 1", mark)
    connection.execute("COMMIT")
    files.note("", 0)


def close(connection: sqlite3.Connection) -> None:
    """Note that a file is whole."""
    if _marks(connection) is not None:
        connection.execute("UPDATE marks SET closed = 1")


def _marks(connection: sqlite3.Connection) -> tuple[str, int, int] | None:
    with suppress(sqlite3.OperationalError):  # an earlier version's has none
        found: tuple[str, int, int] | None = connection.execute(_READ).fetchone()
        return found
    return None
