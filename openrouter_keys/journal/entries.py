"""The journal's rows: every statement that reads or changes one. No thread, no transaction."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from openrouter_keys._base.masking import mask, scrub
from openrouter_keys.errors import JSON, DuplicateRefError, JournalError, PlanChangedError
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.specs import KeySpec, changed
from openrouter_keys.journal.transitions import INTEND, KEEP, KEEP_SETTLED, Transition
from openrouter_keys.models import HoldsSecret

E = TypeVar("E")


@frozen
class Exchange:
    """A create that was never answered.

    Attributes:
        sent: when it was sent.
        ended: when its exchange ended; None: not known.
        is_dated: False: it was sent and ended at some time between the two.
    """

    sent: datetime
    ended: datetime | None
    is_dated: bool = True


#: How many refs are looked up, or rows are read, at once.
CHUNK = 500

BEGIN = """
UPDATE meta SET longest_timeout = max(longest_timeout, :timeout) RETURNING runs, longest_timeout
"""
ORIGIN = "SELECT created_at, server_url FROM meta"
_SEE = "INSERT OR IGNORE INTO seen SELECT id FROM keys WHERE ref = ?"

# --- rows ---

FIND = "SELECT * FROM keys WHERE ref = :ref"
EVERY = "SELECT * FROM keys WHERE id > :after ORDER BY id LIMIT :most"
UNFINISHED = """
SELECT * FROM keys INDEXED BY unfinished
WHERE state <> 'settled' AND id > :after AND state IN (SELECT value FROM json_each(:states))
ORDER BY id LIMIT :most
"""
WRITTEN_OFF = """
SELECT * FROM keys INDEXED BY written_off WHERE written_off > 0 AND id > :after
ORDER BY id LIMIT :most
"""

# --- facts ---

# The last keys are enough, and a journal may have a million that all name their workspace.
DEFAULT_WORKSPACE = """
SELECT json_extract(record, '$.workspace_id') FROM (
    SELECT record, plan FROM keys WHERE record IS NOT NULL ORDER BY id DESC LIMIT 1000
)
WHERE json_valid(record) AND json_valid(plan) AND json_extract(plan, '$.workspace_id') IS NULL
LIMIT 1
"""
STAMPS = """
SELECT json_extract(record, '$.created_at'), last_attempt_at, ended_at FROM keys
WHERE id > (SELECT max(id) FROM keys) - 1000 AND proven AND ended_at IS NOT NULL
ORDER BY id DESC LIMIT 32
"""
KNOWN = """
SELECT hash, iif(json_valid(record), json_extract(record, '$.workspace_id'), NULL) FROM keys
WHERE proven AND last_attempt_at >= :since AND json_extract(plan, '$.workspace_id') IS :workspace_id
ORDER BY id DESC LIMIT 5000
"""
# No create makes a key anew that is being rotated, either.
LAST = """
SELECT hash FROM (SELECT hash FROM keys WHERE proven ORDER BY id DESC LIMIT 10000)
UNION ALL SELECT hash FROM (SELECT hash FROM rotations ORDER BY id DESC LIMIT 10000)
"""

# --- questions about a hash ---

# A key that is rotated looks like its twin, and may be as new: no reconcile may take it for one.
HOLDS = """
SELECT EXISTS (SELECT 1 FROM keys WHERE hash = :hash AND state NOT IN ('intent', 'doubt'))
    OR EXISTS (SELECT 1 FROM keys INDEXED BY secret_hashes WHERE secret_hash = :hash)
    OR EXISTS (SELECT 1 FROM rotations WHERE hash = :hash)
"""
HOLDS_FOR_ANOTHER = """
SELECT EXISTS (SELECT 1 FROM keys WHERE proven AND hash = :hash AND ref IS NOT :ref)
    OR EXISTS (SELECT 1 FROM rotations WHERE hash = :hash)
"""
# Made when it is first needed: keeping it up costs as much as all else that a key needs, and only a
# reconcile, a rotation, and what is about to disable a key need it.
INDEX_HASHES = "CREATE INDEX IF NOT EXISTS hashes ON keys (hash) WHERE hash IS NOT NULL"


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
        ended_at: when that one's exchange ended; None: not known, it may have been under way
            when its run ended.
        earlier: the creates that were written off.
        hash: the key's hash, as the answer has it; None: not made. In doubt: that of an answer
            that lost the secret.
        proven: whether that is the SHA-256 of its secret, and so cannot be another key's.
        secret_hash: the SHA-256 of its secret, where the hash is another one; None: it is not, or
            it is not known.
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
    earlier: tuple[Exchange, ...]
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


def change(
    connection: sqlite3.Connection, ways: Sequence[Transition], values: Mapping[str, Any]
) -> Transition:
    """Make the first of some transitions that a row's state allows, and return it.

    Raises:
        JournalError: it allows none.
    """
    for way in ways:
        if connection.execute(way.statement, values).rowcount:
            return way
    raise JournalError(f"{ways[0].name}: the state of {values['ref']!r} does not allow it")


def keep(
    connection: sqlite3.Connection,
    values: Mapping[str, Any],
    stored: Callable[[], str | bytes | None],
    *,
    settled: bool,
) -> None:
    """Write a key that was made; its secret is looked up, and sealed, here in the thread."""
    change(connection, [KEEP_SETTLED if settled else KEEP], {**values, "secret": stored()})


def intend(connection: sqlite3.Connection, run: int, spec: KeySpec, at: str) -> State | None:
    """Write an intent, or return the state of the row that is there."""
    values = {"ref": spec.ref, "plan": spec.plan, "run": run, "at": at}
    return (
        None if connection.execute(INTEND, values).rowcount else states(connection, run, [spec])[0]
    )


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


@frozen
class Table(Generic[E]):
    """How the rows of a table are read.

    Attributes:
        name: the table's.
        key: the column that names a row to people.
        parse: returns a record; it raises a TypeError or ValueError for a row that is damaged.
    """

    name: str
    key: str
    parse: Callable[[sqlite3.Row], E]


def read(
    connection: sqlite3.Connection, table: Table[E], query: str, values: Mapping[str, Any]
) -> list[E]:
    """Return rows of a table, each as a record, at most `CHUNK` of them.

    Raises:
        JournalError: one is damaged.
    """
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    rows = cursor.execute(query, {"most": CHUNK, **values})
    return [_record(table, row) for row in rows]


def _record(table: Table[E], row: sqlite3.Row) -> E:
    try:
        return table.parse(row)
    except (TypeError, ValueError):  # its text may quote a secret
        raise damaged(table.name, row["id"], row[table.key]) from None


def damaged(table: str, id: int, ref: object) -> JournalError:
    """Return the error of a row that cannot be read."""
    return JournalError(
        f"row {id} of {table} ({scrub(repr(ref))}) is damaged: bring a backup of the journal back, "
        "or look at the row with sqlite3, see to its key by hand, and delete it"
    )


def _entry(row: sqlite3.Row) -> Entry:
    secret, ended_at = row["secret"], row["ended_at"]
    return Entry(
        id=row["id"],
        ref=row["ref"],
        state=State(row["state"]),
        plan=_object(row["plan"]),
        written_off=row["written_off"],
        first_attempt_at=datetime.fromisoformat(row["first_attempt_at"]),
        last_attempt_at=datetime.fromisoformat(row["last_attempt_at"]),
        ended_at=_time(ended_at),
        # A reader leaves an older version's file as it is.
        earlier=_exchanges(row["earlier"]) if "earlier" in row.keys() else (),  # noqa: SIM118 - rows
        hash=row["hash"],
        proven=bool(row["proven"]),
        secret_hash=row["secret_hash"],
        secret=secret if isinstance(secret, str) else None,
        sealed=secret if isinstance(secret, bytes) else None,
        record=row["record"],
        reason=row["reason"],
    )


def _object(text: str) -> dict[str, JSON]:
    found: JSON = json.loads(text)
    if not isinstance(found, dict) or "name" not in found:
        raise ValueError("no plan")
    return found


def _exchanges(text: str | None) -> tuple[Exchange, ...]:
    found: list[list[str | None]] = [] if text is None else json.loads(text)
    return tuple(
        Exchange(datetime.fromisoformat(str(sent)), _time(ended), is_dated=not undated)
        for sent, ended, *undated in found
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


KEYS = Table("keys", "ref", _entry)


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


def answer(connection: sqlite3.Connection, question: str, values: Mapping[str, str]) -> bool:
    """Answer a question about a hash."""
    connection.execute(INDEX_HASHES)
    (found,) = connection.execute(question, values).fetchone()
    return bool(found)
