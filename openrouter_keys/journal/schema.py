"""What a journal's file holds, in version 3, and how a connection to it is opened. No thread.

A row is a ref that was planned and at least intended once. Its states::

    intend ─▶ intent ─ keep ─▶ made ─ acknowledge ─▶ settled
              │ ▲  └── fail ─▶ failed ◀─ reject ─ made
        doubt ▼ │ again  (also from failed without a key, and from made without a secret)
              doubt ─ resolve ─▶ failed

`intent`: a create may have been sent. `made`: the key exists and its secret is here, and the caller
has not acknowledged it. `settled`: it has. `failed`: the service refused or, where there is a hash,
made another key than was asked for. `doubt`: nobody can say whether a key was made; a reconcile has
to. An intent whose create is proven not to have been sent
or carried out is forgotten: its row goes, or goes back to `doubt` where an earlier create of it was
written off.
"""

import enum
import sqlite3
from collections.abc import Callable

from openrouter_keys.errors import JournalError, JournalMismatchError

VERSION = 3
#: What can be read: an older one is brought up to date by the first run that goes on with it.
READABLE = (2, VERSION)
#: `PRAGMA application_id`, by which `file` and we tell a journal from any other database: "ORKJ".
APPLICATION = 0x4F524B4A


class State(enum.StrEnum):
    """What is known of a key: see the module's text."""

    INTENT = "intent"
    MADE = "made"
    SETTLED = "settled"
    FAILED = "failed"
    DOUBT = "doubt"


#: A key may have been made, and nobody holds its secret.
DOUBTFUL = (State.INTENT, State.DOUBT)


# Times are ISO 8601 in UTC, as the caller tells them. `secret` is text, or a BLOB if it was sealed.
# `written_off` counts the creates that were never answered and of which a reconcile found no key:
# one can still land, so such rows are looked at once more.
# `run` is the run that first met the ref: met again in the same run, it is a duplicate. Those that
# an earlier run met are in `seen`, a table of the run's own.
# `longest_timeout` is how many seconds a create of any run could be under way.
# `ended_at` is when the exchange of the last create that was never answered ended: NULL: it may
# have been under way when its run ended. `proven` is whether the hash is the SHA-256 of the secret;
# NULL: no key was made. Where it is not, `secret_hash` is.
# A CHECK of the state would cost a third of all that a key costs here.
# `unfinished` lets a resume over a million settled rows read none of them, and so does `unretired`.
# `rotations` has a row for each key that is replaced by a twin, whose ref in `keys` is the old
# key's hash: `planned`, then `disabled`, then `deleted` is what became of the old key. Money is in
# US dollars. `handed_over_at` is when the caller acknowledged the twin's secret; NULL: not yet.
# The twin's hash is in `keys` alone, where its state says whether it is proven to be the twin's.
_TABLES = """
CREATE TABLE meta (
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    server_url TEXT,
    runs INTEGER NOT NULL,
    longest_timeout REAL NOT NULL
);
INSERT INTO meta VALUES (3, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), NULL, 0, 0);
CREATE TABLE keys (
    id INTEGER PRIMARY KEY,
    ref TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL,
    state TEXT NOT NULL,
    run INTEGER NOT NULL,
    written_off INTEGER NOT NULL DEFAULT 0,
    first_attempt_at TEXT NOT NULL,
    last_attempt_at TEXT NOT NULL,
    hash TEXT,
    secret,
    record TEXT,
    reason TEXT,
    ended_at TEXT,
    proven INTEGER,
    secret_hash TEXT
);
CREATE INDEX secret_hashes ON keys (secret_hash) WHERE secret_hash IS NOT NULL;
CREATE INDEX unfinished ON keys (id) WHERE state <> 'settled';
CREATE INDEX written_off ON keys (id) WHERE written_off > 0;
CREATE TABLE rotations (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL,
    budget TEXT NOT NULL,
    old_limit REAL,
    spent REAL NOT NULL,
    state TEXT NOT NULL,
    handed_over_at TEXT,
    reason TEXT
);
CREATE INDEX unretired ON rotations (handed_over_at, id) WHERE state <> 'deleted';
PRAGMA application_id = 0x4F524B4A;
"""

_FROM_2 = """
DROP INDEX twins;
ALTER TABLE rotations DROP COLUMN twin;
UPDATE meta SET version = 3
"""


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
    where = path or ":memory:"
    try:
        connection = sqlite3.connect(where, isolation_level=None)
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
    connection.execute("CREATE TEMP TABLE seen (id INTEGER PRIMARY KEY)")
    connection.execute("BEGIN IMMEDIATE")
    if _application(connection) != APPLICATION:
        for statement in _TABLES.split(";\n"):
            connection.execute(statement)
    _begin_run(connection, path, server_url)
    connection.execute("COMMIT")


def unreadable(version: object) -> str:
    """Return what is wrong with a version that cannot be read."""
    if version == 1:
        return "has version 1, of before the first release: finish it with what made it"
    return f"has version {version}, and this openrouter-keys reads {VERSION}: update it"


def _application(connection: sqlite3.Connection) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    return int(application)


def _refuse_others(connection: sqlite3.Connection, path: str) -> None:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and _application(connection) != APPLICATION:
        raise JournalMismatchError(path, "is another program's database: give another path")


def _begin_run(connection: sqlite3.Connection, path: str, server_url: str | None) -> None:
    (version,) = connection.execute("SELECT version FROM meta").fetchone()
    if version not in READABLE:
        raise JournalMismatchError(path, unreadable(version))
    if version != VERSION:
        for statement in _FROM_2.split(";\n"):
            connection.execute(statement)
    (known,) = connection.execute("SELECT server_url FROM meta").fetchone()
    if server_url is not None and known not in (None, server_url):
        problem = f"belongs to {known}, not to {server_url}: give another path"
        raise JournalMismatchError(path, problem)
    connection.execute(
        "UPDATE meta SET runs = runs + 1, server_url = coalesce(server_url, ?)", (server_url,)
    )
