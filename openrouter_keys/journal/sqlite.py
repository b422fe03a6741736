"""A journal's file in SQLite: opened, looked into, purged, copied, accepted. No thread."""

import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from openrouter_keys.errors import JournalError, JournalInUseError, JournalMismatchError
from openrouter_keys.journal import copies, entries
from openrouter_keys.journal.copies import Copy, misfit, refuse_misfit, refuse_outdated
from openrouter_keys.journal.files import Held, held, remove, remove_lock
from openrouter_keys.journal.runs import refuse_other_service
from openrouter_keys.journal.schema import APPLICATION, READABLE, TABLES, UPGRADES, VERSION
from openrouter_keys.journal.sqlite_store import SQLite

#: Seconds for which a commit waits for those of other processes.
_PATIENCE = 60.0
_MEMORY = ":memory:"


@contextmanager
def opened(path: str | os.PathLike[str] | None, server_url: str | None) -> Generator[SQLite]:
    """Open a journal for a run, made if it is not there; see `Journal.open`."""
    if path is None:
        with closing(connect(None, server_url)) as connection:
            yield SQLite(connection, _MEMORY)
        return
    file = os.path.abspath(path)
    with held(file, alone=False) as files, closing(_connected(files, server_url)) as connection:
        files.opened()
        copy = Copy(connection, files)
        copy.opened()
        files.open_gate()
        try:
            yield copy
            copy.check()
        finally:
            files.close()
            files.close_gate()
        copy.close()


def _connected(files: Held, server_url: str | None) -> sqlite3.Connection:
    if not files.shared:
        refuse_misfit(files)
    return connect(files.path, server_url, lambda c: refuse_outdated(c, files))


@contextmanager
def _existing(
    path: str | os.PathLike[str], mode: Callable[[Held], str], *, alone: bool = True
) -> Generator[tuple[sqlite3.Connection, Held]]:
    file = os.path.abspath(path)
    if not os.path.lexists(file):
        raise JournalError(f"{file} is not there: give the path of a journal")
    with held(file, alone=alone) as files:
        uri = f"{Path(file).as_uri()}?mode={mode(files)}"
        with closing(_connect(uri, uri=True)) as connection:
            _refuse_unreadable(connection, file)
            files.opened()
            yield connection, files


def is_begun(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is there, and not one in which a full disk left no table yet."""
    file = os.path.abspath(path)
    if not os.path.isfile(file) or not os.path.getsize(file):
        return False
    with suppress(sqlite3.Error, JournalError), held(file, alone=False) as files:
        uri = f"{Path(file).as_uri()}?mode={_to_look(files)}"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return bool(tables) or _is_journal(connection)
    return True  # what is wrong with it is said when it is opened


def _to_look(files: Held) -> str:
    return "ro" if files.shared or misfit(files) is None else "ro&immutable=1"  # without its log


def _to_change(files: Held) -> str:
    if not files.shared:
        refuse_misfit(files)
    return "rw"


def _to_accept(files: Held) -> str:
    if misfit(files) is not None:
        files.drop_log()
    return "rw"


class _Reader(SQLite):
    """A journal's file that is only looked at."""

    def __init__(self, connection: sqlite3.Connection, files: Held) -> None:
        super().__init__(connection, files.path)
        self._files = files

    def lives(self, run: int) -> bool:
        """Return whether a run lives, in any process."""
        return self._files.lives(run)


@contextmanager
def looked_into(path: str | os.PathLike[str]) -> Generator[SQLite]:
    """Open a journal to look at it; see `Journal.read`."""
    with _existing(path, _to_look, alone=False) as (connection, files), _beside_others(files):
        yield _Reader(connection, files)


@contextmanager
def _beside_others(files: Held) -> Generator[None]:
    """Let others use a journal that is only looked at, unless its log has to be left out."""
    files.open_gate(alone=_to_look(files) != "ro")
    try:
        yield
    finally:
        # A run that ends now waits, so that it is the last and brings its log into the file.
        with suppress(JournalInUseError):
            files.close_gate()


def purge(path: str | os.PathLike[str]) -> int:
    """Forget secrets; see `Journal.purge`."""
    with _existing(path, _to_change) as (connection, files):
        refuse_outdated(connection, files)
        try:
            # What is deleted is overwritten; what earlier changes left between the rows goes with
            # the old pages, which are copied in memory and not to yet another file.
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            forgotten = entries.purge(connection)
            copies.close(connection)
            connection.execute("VACUUM")
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            problem = f"{os.fspath(path)} cannot be purged ({error})"
            raise JournalError(f"{problem}: make room on its disk, then purge it again") from error
    if busy:
        problem = f"{os.fspath(path)} is being read by another program"
        raise JournalError(f"{problem}, and still holds secrets: end it, then purge it again")
    return forgotten


def back_up(path: str | os.PathLike[str], to: str | os.PathLike[str]) -> None:
    """Copy a whole journal; see `Journal.backup`."""
    copy = os.path.abspath(to)
    if os.path.lexists(copy):
        raise JournalError(f"{copy} is there already: give a new file")
    with _existing(path, _to_change, alone=False) as (connection, files):
        refuse_outdated(connection, files)
        with _beside_others(files), held(copy):
            try:
                with closing(sqlite3.connect(copy, isolation_level=None)) as target:
                    connection.backup(target)
                    target.execute("PRAGMA synchronous = FULL")
                    copies.close(target)
            except BaseException as error:
                remove(copy)
                if isinstance(error, sqlite3.Error):
                    raise JournalError(f"{copy} cannot be written: {error}") from error
                raise
            remove_lock(copy)


def accept(path: str | os.PathLike[str]) -> None:
    """Accept an older copy; see `Journal.accept`."""
    with _existing(path, _to_accept) as (connection, files):
        try:
            copies.accept(connection, files)
        except sqlite3.Error as error:
            raise JournalError(f"{os.fspath(path)} cannot be written: {error}") from error


def _refuse_unreadable(connection: sqlite3.Connection, path: str) -> None:
    try:
        if not _is_journal(connection):
            raise JournalMismatchError(path, "is no journal: give another path")
        (version,) = connection.execute("SELECT version FROM meta").fetchone()
    except sqlite3.Error as error:
        problem = f"cannot be read as a journal: {error}"
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            problem = "is no journal: give another path"
        raise JournalMismatchError(path, problem) from error
    if version not in READABLE:
        raise JournalMismatchError(path, _unreadable(version))


def connect(
    path: str | None,
    server_url: str | None,
    refuse: Callable[[sqlite3.Connection], None] = lambda _: None,
) -> sqlite3.Connection:
    """Open a journal that is held already, made anew if the file is empty.

    Args:
        path: the file; None: in memory.
        server_url: the service that the keys are made at; None: any.
        refuse: called before anything is written; what it raises is raised.

    Raises:
        JournalMismatchError: it is no journal, or a newer version's, or another server's.
        JournalError: SQLite cannot use it.
    """
    connection: sqlite3.Connection | None = None
    where = path or _MEMORY
    try:
        connection = _connect(where)
        _refuse_others(connection, where)
        refuse(connection)
        _prepare(connection, where, server_url)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _translated(error, where) from error
        raise
    return connection


def _connect(where: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(where, isolation_level=None, timeout=_PATIENCE, uri=uri)


def _translated(error: sqlite3.Error, path: str) -> JournalError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return JournalMismatchError(path, "is no journal: give another path")
    return JournalError(f"{path} cannot be used: {error}")


def _prepare(connection: sqlite3.Connection, path: str, server_url: str | None) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode not in ("wal", "memory"):
        raise JournalError(f"{path}: its file system cannot hold a write-ahead log: move it")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: through the drive's cache as well
    connection.execute("BEGIN IMMEDIATE")
    if not _is_journal(connection):
        for statement in TABLES.split(";\n"):
            connection.execute(statement)
    _upgrade(connection, path)
    refuse_other_service(connection, path, server_url)
    connection.execute("COMMIT")


def _unreadable(version: object) -> str:
    if version == 1:
        return "has version 1, of before the first release: finish it with what made it"
    return f"has version {version}, and this openrouter-keys reads {VERSION}: update it"


def _is_journal(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA application_id").fetchone() == (APPLICATION,))


def _refuse_others(connection: sqlite3.Connection, path: str) -> None:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and not _is_journal(connection):
        raise JournalMismatchError(path, "is another program's database: give another path")


def _upgrade(connection: sqlite3.Connection, path: str) -> None:
    (version,) = connection.execute("SELECT version FROM meta").fetchone()
    if version not in READABLE:
        raise JournalMismatchError(path, _unreadable(version))
    for older in range(version, VERSION):
        for statement in UPGRADES[older].split(";\n"):
            connection.execute(statement)
