"""The journal's rotations: every statement that reads or changes one. No thread, no transaction.

A row is a key that is to be replaced by a twin. The twin is made as any other key, with the old
key's hash for its ref.
"""

import enum
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from attrs import frozen

from openrouter_keys.journal.entries import CHUNK, damaged, index_hashes
from openrouter_keys.journal.schema import State


class OldKey(enum.StrEnum):
    """What became of the key that is replaced."""

    PLANNED = "planned"
    DISABLED = "disabled"
    DELETED = "deleted"


@frozen(kw_only=True)
class RotationEntry:
    """What the journal knows of one rotation.

    Attributes:
        id: its place in the journal.
        hash: the old key's.
        plan: what is asked for, as `KeySpec.plan` tells it.
        budget: how the twin's limit was chosen, `remaining` or `full`.
        limit: the old key's, in US dollars; None: it had none.
        spent: what the old key had spent of it.
        old_key: what became of the old key.
        twin: the twin's hash; None: it is not made, or in doubt.
        handed_over_at: when its secret was acknowledged; None: it was not.
        made: what is known of the twin; None: nothing was sent.
        reason: what went wrong last; None: nothing.
    """

    id: int
    hash: str
    plan: str
    budget: str
    limit: float | None
    spent: float
    old_key: OldKey
    twin: str | None
    handed_over_at: datetime | None
    made: State | None
    reason: str | None


@frozen
class Known:
    """Which of some hashes the journal knows: rotated, twins of its own, refs of other keys."""

    rotated: frozenset[str]
    twins: frozenset[str]
    refs: frozenset[str]


# The same transaction that acknowledges a twin notes when. Temporary, since a run that rotates
# nothing should not pay for it.
_FOLLOW = """
CREATE TEMP TRIGGER handed_over AFTER UPDATE OF state ON keys WHEN new.state = 'settled' BEGIN
    UPDATE rotations SET handed_over_at = time_of_day() WHERE hash = new.ref;
END
"""
_PLAN = """
INSERT INTO rotations (hash, plan, budget, old_limit, spent, state)
VALUES (?, ?, ?, ?, ?, 'planned') ON CONFLICT (hash) DO NOTHING
"""
_ADVANCE = "UPDATE rotations SET state = ?2, reason = NULL WHERE hash = ?1"
_FAIL = "UPDATE rotations SET reason = ?2 WHERE hash = ?1"
# In doubt, a hash is what an answer says, and may be a stranger's.
_ROWS = """
SELECT rotations.*, keys.state AS made, coalesce(rotations.reason, keys.reason) AS why,
    iif(keys.state IN ('intent', 'doubt'), NULL, keys.hash) AS twin_hash
FROM rotations LEFT JOIN keys ON keys.ref = rotations.hash
"""
_TWINS = """
FROM keys INDEXED BY hashes JOIN rotations ON rotations.hash = keys.ref
WHERE keys.hash IS NOT NULL AND keys.state NOT IN ('intent', 'doubt')
"""
_UNMADE = """
SELECT id, hash, plan FROM rotations INDEXED BY unretired
WHERE state <> 'deleted' AND handed_over_at IS NULL AND id > ? ORDER BY id LIMIT ?
"""
_TWINLESS = """
SELECT rotations.id, rotations.hash,
    iif(json_valid(rotations.plan), json_extract(rotations.plan, '$.workspace_id'), NULL)
FROM rotations INDEXED BY unretired
LEFT JOIN keys ON keys.ref = rotations.hash
WHERE rotations.state <> 'deleted' AND handed_over_at IS NULL AND rotations.id > ?
    AND keys.state IS NOT 'made'
ORDER BY rotations.id LIMIT ?
"""
_UNRETIRED = f"""{_ROWS}
WHERE rotations.state <> 'deleted' AND (handed_over_at, rotations.id) > (?, ?)
ORDER BY handed_over_at, rotations.id LIMIT ?
"""
_EVERY = f"{_ROWS} WHERE rotations.id > ? ORDER BY rotations.id LIMIT ?"
# A create's answer that is a copy of another's tells an old key, or another's twin.
_MIXED_UP = f"""
SELECT EXISTS (SELECT 1 FROM rotations WHERE hash = ?2)
    OR EXISTS (SELECT 1 {_TWINS} AND keys.hash = ?1)
    OR (SELECT count(*) {_TWINS} AND keys.hash = ?2) > 1
"""  # noqa: S608 - words of our own
_WORKSPACES = """
SELECT DISTINCT iif(json_valid(plan), json_extract(plan, '$.workspace_id'), NULL) AS workspace_id
FROM rotations INDEXED BY unretired
WHERE state <> 'deleted' AND workspace_id IS NOT NULL
"""
_COUNTS = """
SELECT count(*), count(handed_over_at) FROM rotations INDEXED BY unretired WHERE state <> 'deleted'
"""


def follow(connection: sqlite3.Connection, time_of_day: Callable[[], str]) -> None:
    """From now on, note in this connection when a twin is made, and when it is acknowledged.

    Args:
        connection: the journal's.
        time_of_day: in UTC, as the journal tells times.
    """
    connection.create_function("time_of_day", 0, time_of_day)
    connection.execute(_FOLLOW)


def known(connection: sqlite3.Connection, hashes: Sequence[str]) -> Known:
    """Return what is known of some hashes."""
    index_hashes(connection)
    asked = json.dumps(hashes)

    def those(query: str) -> frozenset[str]:
        query = f"{query} IN (SELECT value FROM json_each(?))"  # noqa: S608 - words of our own
        rows = connection.execute(query, (asked,))
        return frozenset(found for (found,) in rows)

    return Known(
        those("SELECT hash FROM rotations WHERE hash"),
        those(f"SELECT keys.hash {_TWINS} AND keys.hash"),
        those("SELECT ref FROM keys WHERE ref"),
    )


def plan(connection: sqlite3.Connection, entries: Iterable[tuple[object, ...]]) -> None:
    """Write down what is planned: the hash, the plan, the budget, the old limit, what is spent."""
    connection.executemany(_PLAN, entries)


def advance(connection: sqlite3.Connection, hash: str, old_key: OldKey) -> None:
    """The old key has come so far."""
    connection.execute(_ADVANCE, {"1": hash, "2": old_key})


def fail(connection: sqlite3.Connection, hash: str, reason: str) -> None:
    """The old key could not be retired."""
    connection.execute(_FAIL, {"1": hash, "2": reason})


def unmade(connection: sqlite3.Connection, after: int) -> list[tuple[int, str, str]]:
    """Return the place, the hash and the plan of the next twins that are not acknowledged."""
    return connection.execute(_UNMADE, (after, CHUNK)).fetchall()


def twinless(connection: sqlite3.Connection, after: int) -> list[tuple[int, str, str | None]]:
    """Return the next ones of which no twin is known to exist: place, hash and workspace."""
    return connection.execute(_TWINLESS, (after, CHUNK)).fetchall()


def workspaces(connection: sqlite3.Connection) -> list[str]:
    """Return workspaces of the ones that are not through."""
    return [str(found) for (found,) in connection.execute(_WORKSPACES)]


def unretired(connection: sqlite3.Connection, after: tuple[str, int]) -> list[RotationEntry]:
    """Return the next ones whose twin is acknowledged and whose old key is there, oldest first.

    Args:
        connection: the journal's.
        after: the time and the place of the one before.
    """
    return _read(connection, _UNRETIRED, *after)


def is_mixed_up(connection: sqlite3.Connection, hash: str, twin: str) -> bool:
    """Say whether a twin is an old key, or more than one key's, or its old key another's twin."""
    index_hashes(connection)
    (mixed_up,) = connection.execute(_MIXED_UP, {"1": hash, "2": twin}).fetchone()
    return bool(mixed_up)


def every(connection: sqlite3.Connection, after: int) -> list[RotationEntry]:
    """Return the next rotations, in the order of planning."""
    return _read(connection, _EVERY, after)


def counts(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return how many are not through, and how many of these have no acknowledged twin."""
    waiting, handed_over = connection.execute(_COUNTS).fetchone()
    return int(waiting), int(waiting) - int(handed_over)


def _read(connection: sqlite3.Connection, query: str, *after: str | int) -> list[RotationEntry]:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return [_entry(row) for row in cursor.execute(query, (*after, CHUNK))]


def _entry(row: sqlite3.Row) -> RotationEntry:
    try:
        return _parsed(row)
    except (TypeError, ValueError):
        raise damaged("rotations", row["id"], row["hash"]) from None


def _parsed(row: sqlite3.Row) -> RotationEntry:
    at = row["handed_over_at"]
    return RotationEntry(
        id=row["id"],
        hash=row["hash"],
        plan=row["plan"],
        budget=row["budget"],
        limit=row["old_limit"],
        spent=row["spent"],
        old_key=OldKey(row["state"]),
        twin=row["twin_hash"],
        handed_over_at=None if at is None else datetime.fromisoformat(at),
        made=None if row["made"] is None else State(row["made"]),
        reason=row["why"],
    )
