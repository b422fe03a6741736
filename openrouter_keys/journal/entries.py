"""The journal's rows: every statement that reads or changes one. No thread, no transaction."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import field, frozen

from openrouter_keys._base.clock_skew import Stamp
from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import mask, scrub
from openrouter_keys.errors import JSON, DuplicateRefError, JournalError, PlanChangedError
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.specs import KeySpec, changed
from openrouter_keys.models import HoldsSecret

#: How many refs are looked up, or rows are read, at once.
CHUNK = 500

_INTEND = """
INSERT INTO keys (ref, plan, state, run, first_attempt_at, last_attempt_at)
VALUES (?1, ?2, 'intent', ?3, ?4, ?4) ON CONFLICT (ref) DO NOTHING
"""
_KEEP = """
UPDATE keys SET
    state = ?5, hash = ?2, secret = ?3, record = ?4, reason = NULL, proven = ?6, secret_hash = ?7,
    ended_at = ?8
WHERE ref = ?1 AND state IN ('intent', 'doubt')
"""
_ACKNOWLEDGE = "UPDATE keys SET state = 'settled' WHERE ref = ?1 AND state = 'made'"
_DOUBT = """
UPDATE keys SET
    state = 'doubt', reason = ?2, ended_at = coalesce(?3, ended_at), hash = coalesce(?4, hash)
WHERE ref = ?1 AND state IN ('intent', 'doubt')
"""
_FAIL = """
UPDATE keys SET state = 'failed', reason = ?2, hash = NULL
WHERE ref = ?1 AND state IN ('intent', 'doubt')
"""
_REJECT = "UPDATE keys SET state = 'failed', reason = ?2 WHERE ref = ?1 AND state = 'made'"
# The window in which its keys can have been made opens with the first create that was never
# answered; one that was refused made none. A secret that is here must never be written over.
_AGAIN = """
UPDATE keys SET
    first_attempt_at = iif(written_off OR state IN ('intent', 'doubt'), first_attempt_at, ?2),
    last_attempt_at = ?2,
    written_off = written_off + (state IN ('intent', 'doubt')),
    state = 'intent', hash = NULL, record = NULL, reason = NULL, proven = NULL, secret_hash = NULL,
    ended_at = NULL
WHERE ref = ?1 AND (
    state IN ('intent', 'doubt')
    OR state = 'failed' AND hash IS NULL
    OR state = 'made' AND secret IS NULL
)
"""
_BACK_TO_DOUBT = """
UPDATE keys SET state = 'doubt', written_off = written_off - 1, ended_at = last_attempt_at
WHERE ref = ?1 AND state = 'intent' AND written_off
"""
_FORGET = "DELETE FROM keys WHERE ref = ?1 AND state = 'intent'"
_SEE = "INSERT OR IGNORE INTO seen SELECT id FROM keys WHERE ref = ?"
_TIMEOUT = """
UPDATE meta SET longest_timeout = max(longest_timeout, ?) RETURNING longest_timeout
"""
_RESOLVE = """
UPDATE keys SET
    state = iif(state IN ('intent', 'doubt'), 'failed', state), written_off = 0,
    reason = iif(state IN ('intent', 'doubt'), ?2, reason),
    hash = iif(state IN ('intent', 'doubt'), NULL, hash)
WHERE ref = ?1
"""
# A key that is rotated looks like its twin, and may be as new: no reconcile may take it for one.
_HOLDS = """
SELECT 1 FROM keys WHERE hash = ?1 AND state NOT IN ('intent', 'doubt')
UNION ALL SELECT 1 FROM keys INDEXED BY secret_hashes WHERE secret_hash = ?1
UNION ALL SELECT 1 FROM rotations WHERE hash = ?1 LIMIT 1
"""
_CLEAR = "UPDATE keys SET written_off = 0 WHERE ref = ?1"
# Failed with a secret: made, and not as asked for. It is never handed over.
_OVER = "state IN ('settled', 'failed') AND secret IS NOT NULL"
# The last keys are enough, and a journal may have a million that all name their workspace.
_DEFAULT_WORKSPACE = """
SELECT json_extract(record, '$.workspace_id') FROM (
    SELECT record, plan FROM keys WHERE record IS NOT NULL ORDER BY id DESC LIMIT 1000
)
WHERE json_valid(record) AND json_valid(plan) AND json_extract(plan, '$.workspace_id') IS NULL
LIMIT 1
"""
_PURGEABLE = f"SELECT count(*) FROM keys WHERE {_OVER}"  # noqa: S608 - words of our own
_PURGE = f"UPDATE keys SET secret = NULL WHERE {_OVER}"  # noqa: S608
_UNFINISHED = """
SELECT * FROM keys INDEXED BY unfinished
WHERE state <> 'settled' AND id > ?1 AND state IN (SELECT value FROM json_each(?3))
ORDER BY id LIMIT ?2
"""
_EVERY = "SELECT * FROM keys WHERE id > ?1 ORDER BY id LIMIT ?2"
_STAMPS = """
SELECT json_extract(record, '$.created_at'), last_attempt_at, ended_at FROM keys
WHERE id > (SELECT max(id) FROM keys) - 1000 AND proven AND ended_at IS NOT NULL
ORDER BY id DESC LIMIT 32
"""
_KNOWN = """
SELECT hash, iif(json_valid(record), json_extract(record, '$.workspace_id'), NULL) FROM keys
WHERE proven AND last_attempt_at >= ?2 AND json_extract(plan, '$.workspace_id') IS ?1
ORDER BY id DESC LIMIT 5000
"""
# No create makes a key anew that is being rotated, either.
_LAST = """
SELECT hash FROM (SELECT hash FROM keys WHERE proven ORDER BY id DESC LIMIT 10000)
UNION ALL SELECT hash FROM (SELECT hash FROM rotations ORDER BY id DESC LIMIT 10000)
"""
_HOLDS_FOR_ANOTHER = """
SELECT 1 FROM keys WHERE proven AND hash = ?1 AND ref IS NOT ?2
UNION ALL SELECT 1 FROM rotations WHERE hash = ?1 LIMIT 1
"""
_WRITTEN_OFF = """
SELECT * FROM keys INDEXED BY written_off WHERE written_off > 0 AND id > ?1 ORDER BY id LIMIT ?2
"""


@frozen(kw_only=True)
class Entry(HoldsSecret):
    """What the journal knows of one key.

    Attributes:
        id: its place in the journal.
        ref: the caller's own id for it.
        state: what is known of it.
        plan: the fields asked for, as they were sent, but `external.api_key` (its SHA-256).
        written_off: how many creates of it were never answered, and no key of theirs was found.
        first_attempt_at: when the first create was sent whose key may still exist.
        last_attempt_at: when the last one was.
        ended_at: when that one's exchange ended; None: nobody knows, it may have been under way
            when its run ended.
        hash: the key's hash, as the answer told it; None: not made. In doubt: what an answer told
            that lost the secret.
        proven: whether that is the SHA-256 of its secret, and so cannot be another key's.
        secret_hash: the SHA-256 of its secret, where the hash is another one; None: it is not, or
            nobody knows.
        secret: the secret; None: not made, not stored, or sealed.
        sealed: the sealed secret; None: not made, not stored, or not sealed.
        record: the key's record as JSON; None: not made, or it could not be read.
        reason: why it failed or is in doubt.
    """

    id: int
    ref: str
    state: State
    plan: Mapping[str, JSON]
    written_off: int
    first_attempt_at: datetime
    last_attempt_at: datetime
    ended_at: datetime | None
    hash: str | None
    proven: bool
    secret_hash: str | None
    secret: str | None = field(repr=mask)
    sealed: bytes | None = field(repr=False)
    record: str | None
    reason: str | None

    @property
    def name(self) -> str:
        """The name asked for."""
        return str(self.plan["name"])

    @property
    def workspace_id(self) -> str | None:
        """The workspace asked for; None: the default one."""
        workspace_id = self.plan.get("workspace_id")
        return workspace_id if isinstance(workspace_id, str) else None


def _numbered(*values: str | bytes | int | None) -> dict[str, str | bytes | int | None]:
    # Python counts `?1` among the named placeholders, and from 3.12 on wants a mapping for them.
    return {str(number): value for number, value in enumerate(values, 1)}


def longest_timeout(connection: sqlite3.Connection, timeout: float) -> float:
    """Return the longest time that a create of any run could be under way, this one's included."""
    (longest,) = connection.execute(_TIMEOUT, (timeout,)).fetchone()
    return float(longest)


def intend(connection: sqlite3.Connection, run: int, spec: KeySpec, at: str) -> State | None:
    """Write an intent, or return the state of the row that is there."""
    if connection.execute(_INTEND, _numbered(spec.ref, spec.plan, run, at)).rowcount:
        return None
    return states(connection, run, [spec])[0]


def plan(connection: sqlite3.Connection, run: int, specs: Sequence[KeySpec]) -> list[State | None]:
    """Return what is known of each spec, as `states` does, and remember that they came."""
    found = states(connection, run, specs)
    for spec in [spec for spec, state in zip(specs, found, strict=True) if state is not None]:
        if not connection.execute(_SEE, (spec.ref,)).rowcount:
            raise DuplicateRefError(spec.ref)
    return found


def states(
    connection: sqlite3.Connection, run: int, specs: Sequence[KeySpec]
) -> list[State | None]:
    """Return what is known of each spec, at most `CHUNK` of them; None: nothing."""
    marks = ", ".join("?" * len(specs))
    rows = connection.execute(
        f"SELECT ref, state, plan, run, id FROM keys WHERE ref IN ({marks})",  # noqa: S608 - only "?"
        [spec.ref for spec in specs],
    )
    known = {ref: facts for ref, *facts in rows}
    return [_state(spec, run, known[spec.ref]) if spec.ref in known else None for spec in specs]


def _state(spec: KeySpec, run: int, facts: Sequence[Any]) -> State:
    state, plan, first_run, id = facts
    if first_run == run:
        raise DuplicateRefError(spec.ref)
    try:
        if plan != spec.plan:
            raise PlanChangedError(spec.ref, changed(plan, spec.plan))
        return State(state)
    except (AttributeError, TypeError, ValueError):
        raise damaged("keys", id, spec.ref) from None


def keep(
    connection: sqlite3.Connection,
    ref: str,
    *,
    made: MadeKey,
    secret: str | bytes | None,
    record: str | None,
    state: State,
    ended_at: str | None = None,
) -> None:
    """Write down a key that was made."""
    secret_hash = None if made.proven else made.secret_hash
    values = (made.hash, secret, record, state, made.proven, secret_hash, ended_at)
    _change(connection, "keep", _KEEP, ref, *values)


def acknowledge(connection: sqlite3.Connection, ref: str) -> None:
    """The caller has the secret."""
    _change(connection, "acknowledge", _ACKNOWLEDGE, ref)


def doubt(
    connection: sqlite3.Connection,
    ref: str,
    reason: str,
    ended_at: str | None = None,
    told: str | None = None,
) -> None:
    """Nobody can say whether a key was made; None: nothing new is known of it."""
    _change(connection, "doubt", _DOUBT, ref, reason, ended_at, told)


def fail(connection: sqlite3.Connection, ref: str, reason: str) -> None:
    """The service refused."""
    _change(connection, "fail", _FAIL, ref, reason)


def reject(connection: sqlite3.Connection, ref: str, reason: str) -> None:
    """The key that was made is not the one that was asked for."""
    _change(connection, "reject", _REJECT, ref, reason)


def again(connection: sqlite3.Connection, ref: str, at: str) -> None:
    """Another create is about to be sent."""
    _change(connection, "again", _AGAIN, ref, at)


def forget(connection: sqlite3.Connection, ref: str) -> bool:
    """The last create is proven not to have been sent, or carried out; an earlier one is not?"""
    if connection.execute(_BACK_TO_DOUBT, _numbered(ref)).rowcount:
        return True
    _change(connection, "forget_intent", _FORGET, ref)
    return False


def resolve(connection: sqlite3.Connection, ref: str, reason: str) -> None:
    """Nothing is left of any create of it."""
    _change(connection, "resolve", _RESOLVE, ref, reason)


def clear(connection: sqlite3.Connection, ref: str) -> None:
    """No key of an earlier create can turn up any more."""
    _change(connection, "clear", _CLEAR, ref)


def _change(
    connection: sqlite3.Connection, what: str, statement: str, *values: str | bytes | int | None
) -> None:
    if not connection.execute(statement, _numbered(*values)).rowcount:
        raise JournalError(f"{what}: the state of {values[0]!r} does not allow it")


def find(connection: sqlite3.Connection, ref: str) -> Entry | None:
    """Return what is known of a ref."""
    found = _read(connection, "SELECT * FROM keys WHERE ref = ?1", ref)
    return found[0] if found else None


def unfinished(connection: sqlite3.Connection, after: int, states: Sequence[State]) -> list[Entry]:
    """Return the next rows in these states, none of them settled."""
    return _entries(connection, _UNFINISHED, after, json.dumps(states))


def every(connection: sqlite3.Connection, after: int) -> list[Entry]:
    """Return the next rows, settled ones too."""
    return _entries(connection, _EVERY, after)


def written_off(connection: sqlite3.Connection, after: int) -> list[Entry]:
    """Return the next rows of which an earlier create was written off."""
    return _entries(connection, _WRITTEN_OFF, after)


def _entries(connection: sqlite3.Connection, query: str, after: int, *values: str) -> list[Entry]:
    return _read(connection, query, after, CHUNK, *values)


def _read(connection: sqlite3.Connection, query: str, *values: str | int) -> list[Entry]:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return [_entry(row) for row in cursor.execute(query, _numbered(*values))]


def _entry(row: sqlite3.Row) -> Entry:
    try:
        return _parsed(row)
    except (TypeError, ValueError):
        raise damaged("keys", row["id"], row["ref"]) from None  # its text may quote a secret


def damaged(table: str, id: int, ref: object) -> JournalError:
    """Return the error of a row that cannot be read."""
    return JournalError(
        f"row {id} of {table} ({scrub(repr(ref))}) is damaged: bring a backup of the journal back, "
        "or look at the row with sqlite3, see to its key by hand, and delete it"
    )


def _parsed(row: sqlite3.Row) -> Entry:
    secret, ended_at = row["secret"], row["ended_at"]
    return Entry(
        id=row["id"],
        ref=row["ref"],
        state=State(row["state"]),
        plan=_object(row["plan"]),
        written_off=row["written_off"],
        first_attempt_at=datetime.fromisoformat(row["first_attempt_at"]),
        last_attempt_at=datetime.fromisoformat(row["last_attempt_at"]),
        ended_at=datetime.fromisoformat(ended_at) if ended_at else None,
        hash=row["hash"],
        proven=bool(row["proven"]),
        secret_hash=row["secret_hash"],
        secret=secret if isinstance(secret, str) else None,
        sealed=secret if isinstance(secret, bytes) else None,
        record=row["record"],
        reason=row["reason"],
    )


def stamps(connection: sqlite3.Connection) -> list[Stamp]:
    """Return how the last keys were stamped whose creates were answered."""
    return [
        Stamp(*map(datetime.fromisoformat, row))
        for row in connection.execute(_STAMPS)
        if all(isinstance(time, str) for time in row)
    ]


def known(
    connection: sqlite3.Connection, workspace_id: str | None, since: str
) -> dict[str, str | None]:
    """Return the hashes of keys of a workspace that were made since a time, the last ones.

    Each has the workspace that its record tells; None: it tells none.
    """
    rows = connection.execute(_KNOWN, _numbered(workspace_id, since))
    return {hash: home if isinstance(home, str) else None for hash, home in rows}


def _object(text: str) -> dict[str, JSON]:
    found: JSON = json.loads(text)
    if not isinstance(found, dict) or "name" not in found:
        raise ValueError("no plan")
    return found


def counts(connection: sqlite3.Connection) -> dict[State, int]:
    """Return how many rows there are in each state; settled ones are counted, not read."""
    rows = connection.execute(
        "SELECT state, count(*) FROM keys INDEXED BY unfinished WHERE state <> 'settled' "
        "GROUP BY state"
    )
    found: dict[State, int] = {}
    for state, count in rows:
        try:
            found[State(state)] = int(count)
        except ValueError:
            query = "SELECT id, ref FROM keys WHERE state IS ? LIMIT 1"
            raise damaged("keys", *connection.execute(query, (state,)).fetchone()) from None
    (total,) = connection.execute("SELECT count(*) FROM keys").fetchone()
    settled = int(total) - sum(found.values())
    return {state: found.get(state, 0) for state in State} | {State.SETTLED: settled}


def default_workspace(connection: sqlite3.Connection) -> str | None:
    """Return the workspace of the last key that was made without naming one; None: not known."""
    found = connection.execute(_DEFAULT_WORKSPACE).fetchone()
    return found[0] if found is not None and isinstance(found[0], str) else None


def purgeable(connection: sqlite3.Connection) -> int:
    """Return how many secrets of keys there are that nobody is to get from here any more."""
    (count,) = connection.execute(_PURGEABLE).fetchone()
    return int(count)


def purge(connection: sqlite3.Connection) -> int:
    """Forget those secrets, and return how many there were."""
    return connection.execute(_PURGE).rowcount


def holds(connection: sqlite3.Connection, hash: str) -> bool:
    """Say whether a key is one that the journal knows to have been made, or is rotated by it."""
    index_hashes(connection)
    return connection.execute(_HOLDS, _numbered(hash)).fetchone() is not None


def holds_for_another(connection: sqlite3.Connection, hash: str, ref: str) -> bool:
    """Say whether a key was made for another ref than this one, or is being rotated."""
    index_hashes(connection)
    return connection.execute(_HOLDS_FOR_ANOTHER, _numbered(hash, ref)).fetchone() is not None


def index_hashes(connection: sqlite3.Connection) -> None:
    """Make the index of the hashes, unless it is there.

    Keeping it up costs as much as all else that a key needs, and only a reconcile, a rotation, and
    what is about to disable a key need it.
    """
    connection.execute("CREATE INDEX IF NOT EXISTS hashes ON keys (hash) WHERE hash IS NOT NULL")


def last(connection: sqlite3.Connection) -> list[str]:
    """Return the hashes of the last 10,000 keys that were made, if proven, and as many old ones."""
    return [hash for (hash,) in connection.execute(_LAST)]
