"""A session with a PostgreSQL server: made, set up, and spoken to. No transaction, no journal.

No exception of psycopg leaves here but through a cursor: its text, and its frames, may show a
password.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final
from weakref import WeakSet

import psycopg

from openrouter_keys._base.tracebacks import strip
from openrouter_keys.errors import JournalError, JournalUnavailableError
from openrouter_keys.journal.servers import Server

#: Seconds for which a statement waits for those of others.
PATIENCE: Final = 60
# A process that is stopped in a transaction keeps others waiting for so long, in seconds.
_IDLE: Final = 10
_SET: Final = f"""
SET synchronous_commit = on; SET lock_timeout = '{PATIENCE}s';
SET idle_in_transaction_session_timeout = '{_IDLE}s'; SET statement_timeout = 0;
SET default_transaction_isolation = 'read committed'; SET client_min_messages = warning;
SET search_path = """
# The server's half; where it cannot be set, the server's own settings hold.
_KEEP_ALIVE: Final = """
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3
"""
# A server that logs statements must not log secrets; the second needs a right.
_HIDE: Final = (
    "SET log_parameter_max_length_on_error = 0",
    "SET log_parameter_max_length = 0",
)
_FACTS: Final = """
SELECT current_setting('synchronous_commit'), current_setting('server_encoding'),
    current_setting('fsync'), current_setting('full_page_writes'), pg_backend_pid(),
    (SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid())
"""
# What a later attempt does not change. A failed connection has no code to see it by.
_REFUSED: Final = re.compile("password|authentication|does not exist|pg_hba|permission denied")
_HINT: Final = re.compile(r" INDEXED BY \w+")
_VALUE: Final = re.compile(r"(?<![:\w]):([a-z_]+)")
_NUL: Final = "PostgreSQL cannot store a NUL character, and this text has one: take it out"

#: The sessions of this process.
_sessions: "WeakSet[Session]" = WeakSet()


def _let_go() -> None:
    # A session ends when all processes that have it open are gone, or have let it go: a forked
    # child would keep its parent's, and so the locks of its runs.
    for session in [*_sessions]:
        session.let_go()
    _sessions.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class Session:
    """A connection that is set up; it takes the journal's statements.

    Args:
        server: what to connect to.
        reads: whether nothing may be changed.

    Attributes:
        pid: the server's process.
        begun: when that began.
        is_safe: whether a commit outlives a power cut of the server.

    Raises:
        psycopg.OperationalError: the server cannot be reached now.
        JournalError: it cannot hold a journal.
    """

    def __init__(self, server: Server, *, reads: bool) -> None:
        target = {} if reads else {"target_session_attrs": "read-write"}
        given = {**target, **server.parameters, "client_encoding": "UTF8"}
        self._connection = psycopg.connect(**given, autocommit=True)  # type: ignore[arg-type]
        _sessions.add(self)
        try:
            self._set_up(server, reads=reads)
        except BaseException:
            self.close()
            raise

    def _set_up(self, server: Server, *, reads: bool) -> None:
        read_only = "on" if reads else "off"
        self.run(f"{_SET}{server.quoted}; SET default_transaction_read_only = {read_only}")
        for script in (_KEEP_ALIVE, *_HIDE):
            with suppress(psycopg.Error):
                self.run(script)
        facts: tuple[Any, ...] = self.execute(_FACTS).fetchall()[0]
        committing, encoding, synced, whole = map(str, facts[:4])
        self.pid: int = int(facts[4])
        self.begun: str = str(facts[5])
        self.is_safe: bool = (synced, whole) == ("on", "on")
        if committing != "on":
            problem = f"cannot promise a commit (synchronous_commit is {committing})"
            raise JournalError(f"{server.place} {problem}: connect to the server itself")
        if encoding != "UTF8":
            raise JournalError(f"{server.place} has the encoding {encoding}: make one with UTF8")

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone."""
        return self._connection.closed

    def close(self) -> None:
        """End it."""
        with suppress(psycopg.Error):
            self._connection.close()

    def let_go(self) -> None:
        """Leave it to the process that this one was forked from; it ends with that."""
        with suppress(psycopg.Error, OSError):
            os.close(self._connection.fileno())

    # --- as a `Connection` ---

    def execute(
        self, statement: str, values: Sequence[Any] | Mapping[str, Any] = (), /
    ) -> "psycopg.Cursor[Any]":
        """Carry out one of the journal's statements.

        Raises:
            JournalError: a text has a NUL character.
            psycopg.Error: all else.
        """
        try:
            return self._connection.execute(_translated(statement), values)
        except psycopg.DataError as error:
            if error.sqlstate is not None:
                raise
        raise JournalError(_NUL)

    def executemany(self, statement: str, values: Iterable[Any], /) -> "psycopg.Cursor[Any]":
        """Carry it out for each of some values, as `execute` does."""
        try:
            cursor = self._connection.cursor()
            cursor.executemany(_translated(statement), [*values])
        except psycopg.DataError as error:
            if error.sqlstate is not None:
                raise
        else:
            return cursor
        raise JournalError(_NUL)

    def run(self, script: str) -> "psycopg.Cursor[Any]":
        """Carry out statements without values in one round trip; return the last one's cursor."""
        cursor = self._connection.execute(script.encode(), prepare=False)
        while cursor.nextset():
            pass
        return cursor


def connected(server: Server, *, reads: bool = False) -> Session:
    """Connect to a server.

    Raises:
        JournalUnavailableError: it cannot be reached now.
        JournalError: it lets this role not in, or cannot hold a journal.
    """
    try:
        return Session(server, reads=reads)
    except psycopg.Error as error:
        problem = server.shown(error)
    except JournalError as error:
        strip(error, None)
        raise
    if "password" in problem:
        problem += ": give it in PGPASSWORD or ~/.pgpass, or escaped in the URL"
    kind = JournalError if _REFUSED.search(problem) else JournalUnavailableError
    raise kind(f"{server.place} cannot be reached: {problem}")


@lru_cache(maxsize=1024)
def _translated(statement: str) -> bytes:
    plain = _HINT.sub("", statement).replace("%", "%%").replace("?", "%s")
    return _VALUE.sub(r"%(\1)s", plain).encode()
