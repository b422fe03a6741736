"""The journal's rows: every statement that reads or changes one. No thread, no transaction."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from openrouter_keys._base.masking import mask, scrub
from openrouter_keys.errors import (
    JSON,
    DuplicateRefError,
    JournalError,
    PlanChangedError,
    TakenOverError,
)
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.specs import KeySpec, changed
from openrouter_keys.journal.store import Connection, Store, rows
from openrouter_keys.journal.transitions import (
    HAND_OVER,
    INTEND,
    KEEP,
    KEEP_SETTLED,
    RELEASE,
    Transition,
)
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

ORIGIN = "SELECT created_at, server_url FROM meta"
# What a transition may be derived from.
_BEFORE = """
SELECT id, ref, written_off, earlier, last_attempt_at, ended_at FROM keys WHERE ref = :ref
"""

_OWNER = "SELECT owner FROM keys WHERE ref = :ref"

# --- rows ---

FIND = "SELECT * FROM keys WHERE ref = :ref"
# The replacement of a key is made with the old key's hash for its ref.
_ANY_REPLACEMENT = """
SELECT * FROM keys WHERE ref = :ref AND EXISTS (SELECT 1 FROM rotations WHERE hash = :ref)
"""
_REPLACEMENT = f"{_ANY_REPLACEMENT} AND state IN ('made', 'settled', 'releasing')"
# No replacement is made of it from now on.
_END_ROTATION = """
UPDATE rotations SET state = 'deleted', reason = 'the key was released'
WHERE hash = (SELECT hash FROM keys WHERE ref = :ref)
"""
_IS_PLANNED = "SELECT EXISTS (SELECT 1 FROM rotations WHERE hash = :ref AND state <> 'deleted')"
_FACTS = (
    "hash, secret, sealed, record, proven, secret_hash, first_attempt_at, last_attempt_at, ended_at"
)
# Of a key that was replaced, and deleted; no earlier create of the replacement can land any more.
_ABSORB = f"""
UPDATE keys SET ({_FACTS}) = (SELECT {_FACTS} FROM keys AS twin WHERE twin.ref = :hash)
WHERE ref = :ref AND owner = :owner AND state = 'settled' AND hash = :hash
    AND EXISTS (SELECT 1 FROM rotations WHERE hash = :hash AND state = 'deleted')
    AND EXISTS (
        SELECT 1 FROM keys AS twin
        WHERE twin.ref = :hash AND twin.state = 'settled' AND twin.written_off = 0
    )
"""  # noqa: S608 - words of our own
_ABSORBED = "DELETE FROM keys WHERE ref = :hash"
EVERY = "SELECT * FROM keys WHERE id > :after ORDER BY id LIMIT :most"
_UNFINISHED = """
SELECT * FROM keys INDEXED BY unfinished
WHERE state <> 'settled' AND id > :after AND state IN ({})
ORDER BY id LIMIT :most
"""
WRITTEN_OFF = """
SELECT * FROM keys INDEXED BY written_off WHERE written_off > 0 AND id > :after
ORDER BY id LIMIT :most
"""

# Failed with a secret: made, and not as asked for. It is never handed over.
_OVER = "state IN ('settled', 'failed') AND ({})"

# --- questions about a hash ---

# A key that is rotated looks like its twin, and may be as new: no reconcile may take it for one.
HOLDS = """
SELECT EXISTS (SELECT 1 FROM keys WHERE hash = :hash AND state NOT IN ('intent', 'doubt'))
    OR EXISTS (SELECT 1 FROM keys INDEXED BY secret_hashes WHERE secret_hash = :hash)
    OR EXISTS (SELECT 1 FROM rotations WHERE hash = :hash)
"""
ANOTHERS = """
SELECT EXISTS (SELECT 1 FROM keys WHERE hash = :hash AND ref <> :ref
    AND state NOT IN ('intent', 'doubt'))
"""
HOLDS_FOR_ANOTHER = """
SELECT EXISTS (SELECT 1 FROM keys WHERE proven AND hash = :hash AND ref <> :ref)
    OR EXISTS (SELECT 1 FROM rotations WHERE hash = :hash)
"""


#: What becomes of the rotation of a key that was released.
RELEASED = "was released meanwhile: it gets no replacement"


#: What becomes of a replacement that was planned before the key was changed.
CHANGED = "was changed meanwhile: run again, and it gets a replacement that is so, too"


class NotReplacedError(JournalError):
    """A replacement is not made: the key that it would replace was released, or changed."""

    def __init__(self, hash: str, why: str) -> None:
        super().__init__(f"the key {hash} {why}")


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
        wanted: the plan that an update is changing the key to, as JSON; None: none is under way.
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
    wanted: str | None = None

    @property
    def name(self) -> str:
        """The name asked for."""
        return str(self.plan["name"])

    @property
    def workspace_id(self) -> str | None:
        """The workspace asked for; None: the default one."""
        workspace_id = self.plan.get("workspace_id")
        return workspace_id if isinstance(workspace_id, str) else None


def unfinished(states: Iterable[State]) -> str:
    """Return the query for keys in some states that are not settled."""
    return _UNFINISHED.format(", ".join(f"'{State(state)}'" for state in states))


def change(
    connection: Connection,
    ways: Sequence[Transition],
    values: Mapping[str, Any],
    time_of_day: Callable[[], str] | None = None,
) -> Transition:
    """Make the first of some transitions that a row's state allows, and return it.

    Args:
        connection: the engine's.
        ways: the transitions.
        values: those of the statements.
        time_of_day: returns when a twin is handed over that is settled by this. None: it is not
            noted.

    Raises:
        TakenOverError: it is another run's.
        JournalError: its state allows none.
    """
    for way in ways:
        given = values if way.derive is None else _derived(connection, way.derive, values)
        if given is not None and connection.execute(way.statement, given).rowcount:
            if time_of_day is not None and way.target is State.SETTLED:
                connection.execute(HAND_OVER, {"ref": values["ref"], "now": time_of_day()})
            return way
    if ways[0].table == "keys":
        row = connection.execute(_OWNER, values).fetchone()
        if row is None or row[0] != values["owner"]:
            raise TakenOverError(values["ref"])
    raise JournalError(f"{ways[0].name}: the state of {values['ref']!r} does not allow it")


def _derived(
    connection: Connection,
    derive: Callable[[Mapping[str, Any]], Mapping[str, Any] | None],
    values: Mapping[str, Any],
) -> Mapping[str, Any] | None:
    for row in rows(connection.execute(_BEFORE, {"ref": values["ref"]})):
        try:
            found = derive(row)
        except (TypeError, ValueError):
            raise damaged("keys", row["id"], row["ref"]) from None
        return None if found is None else {**values, **found}
    return None


def keep(
    connection: Connection,
    values: Mapping[str, Any],
    stored: Callable[[], str | bytes | None],
    *,
    settled: bool,
    time_of_day: Callable[[], str] | None = None,
) -> None:
    """Write a key that was made; its secret is looked up, and sealed, here in the thread."""
    secret = stored()
    is_sealed = isinstance(secret, bytes)
    kept = {"secret": None if is_sealed else secret, "sealed": secret if is_sealed else None}
    change(connection, [KEEP_SETTLED if settled else KEEP], {**values, **kept}, time_of_day)


def intend(connection: Connection, run: int, spec: KeySpec, at: str) -> State | None:
    """Write an intent, or return the state of the row that is there."""
    values = {"ref": spec.ref, "plan": spec.plan, "run": run, "at": at}
    if connection.execute(INTEND, values).rowcount:
        return None
    state = states(connection, run, [spec])[0]
    if state is None:
        (planned,) = connection.execute(_IS_PLANNED, values).fetchone()
        raise NotReplacedError(spec.ref, CHANGED if planned else RELEASED)
    return state


def release(connection: Connection, values: Mapping[str, Any]) -> None:
    """Write that a key is about to be deleted, and make no replacement of it from now on."""
    change(connection, [RELEASE], values)
    connection.execute(_END_ROTATION, values)


def release_all(
    connection: Connection, owner: int, found: Sequence[str], made: Sequence[str]
) -> bool:
    """Release keys, if the journal still knows the same of their ref; see `Journal`."""
    if [entry.ref for entry in succession(connection, found[0], unmade=True)] != [*found]:
        return False
    for ref in made:
        release(connection, {"ref": ref, "owner": owner})
    return True


def absorb(connection: Connection, values: Mapping[str, Any]) -> bool:
    """Make the replacement of a ref's key, which is deleted, the ref's own key.

    Returns:
        Whether it is; False: there is none, or the old key is not deleted.
    """
    if not connection.execute(_ABSORB, values).rowcount:
        return False
    connection.execute(_ABSORBED, values)
    return True


def states(connection: Connection, run: int, specs: Sequence[KeySpec]) -> list[State | None]:
    """Return what is known of each spec, at most `CHUNK` of them; None: nothing."""
    return [found and found[0] for found in places(connection, run, specs)]


def states_of(connection: Connection, refs: Sequence[str]) -> dict[str, State]:
    """Return what is known of refs, at most `CHUNK` of them; left out: nothing."""
    query = f"SELECT id, ref, state FROM keys WHERE ref IN ({marks(refs)})"  # noqa: S608 - only "?"
    return {ref: _known_state(id, ref, state) for id, ref, state in connection.execute(query, refs)}


def places(
    connection: Connection, run: int, specs: Sequence[KeySpec]
) -> list[tuple[State, int] | None]:
    """Return the same, each with the place of its row."""
    found = connection.execute(
        f"SELECT ref, id, state, plan, run FROM keys WHERE ref IN ({marks(specs)})",  # noqa: S608 - only "?"
        [spec.ref for spec in specs],
    )
    known = {ref: facts for ref, *facts in found}
    return [
        (_state(spec, run, known[spec.ref]), known[spec.ref][0]) if spec.ref in known else None
        for spec in specs
    ]


def marks(values: Sequence[object]) -> str:
    """Return a mark for each value of a list."""
    return ", ".join("?" * len(values))


def _known_state(id: int, ref: object, state: str) -> State:
    try:
        return State(state)
    except ValueError:
        raise damaged("keys", id, ref) from None


def _state(spec: KeySpec, run: int, facts: Sequence[Any]) -> State:
    id, state, plan, first_run = facts
    if first_run == run:
        raise DuplicateRefError(spec.ref)
    try:
        if plan != spec.plan and state != State.RELEASING:
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
    parse: Callable[[Mapping[str, Any]], E]


def read(connection: Connection, table: Table[E], query: str, values: Mapping[str, Any]) -> list[E]:
    """Return rows of a table, each as a record, at most `CHUNK` of them.

    Raises:
        JournalError: one is damaged.
    """
    cursor = connection.execute(query, {"most": CHUNK, **values})
    return [_record(table, row) for row in rows(cursor)]


def succession(connection: Connection, ref: str, *, unmade: bool) -> list[Entry]:
    """Return what is known of a ref, then of each replacement of its key.

    Args:
        connection: the engine's.
        ref: the caller's own id for the key.
        unmade: whether with a replacement that is not made, or not known to be.
    """
    query = _ANY_REPLACEMENT if unmade else _REPLACEMENT
    found, seen = read(connection, KEYS, FIND, {"ref": ref}), {ref}
    while found and (hash := found[-1].hash) is not None and hash not in seen:
        seen.add(hash)
        replacement = read(connection, KEYS, query, {"ref": hash})
        found += replacement
        if not replacement:
            break
    return found


def _record(table: Table[E], row: Mapping[str, Any]) -> E:
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


def _entry(row: Mapping[str, Any]) -> Entry:
    # A reader leaves an older version's file as it is: there a secret is text, or sealed bytes.
    secret = row["secret"]
    sealed = secret if isinstance(secret, bytes) else row.get("sealed")
    return Entry(
        id=row["id"],
        ref=row["ref"],
        state=State(row["state"]),
        plan=_object(row["plan"]),
        written_off=row["written_off"],
        first_attempt_at=datetime.fromisoformat(row["first_attempt_at"]),
        last_attempt_at=datetime.fromisoformat(row["last_attempt_at"]),
        ended_at=_time(row["ended_at"]),
        earlier=_exchanges(row.get("earlier")),
        hash=row["hash"],
        proven=bool(row["proven"]),
        secret_hash=row["secret_hash"],
        secret=secret if isinstance(secret, str) else None,
        sealed=sealed,
        record=row["record"],
        reason=row["reason"],
        wanted=row.get("wanted"),
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


def counts(connection: Connection) -> dict[State, int]:
    """Return how many rows there are in each state; settled ones are counted, not read."""
    counted = connection.execute(
        "SELECT state, count(*) FROM keys INDEXED BY unfinished WHERE state <> 'settled' "
        "GROUP BY state"
    )
    found: dict[State, int] = {}
    for state, count in counted.fetchall():
        try:
            found[State(state)] = int(count)
        except ValueError:
            query = "SELECT id, ref FROM keys WHERE state = ? LIMIT 1"
            raise damaged("keys", *connection.execute(query, (state,)).fetchone()) from None
    (total,) = connection.execute("SELECT count(*) FROM keys").fetchone()
    settled = int(total) - sum(found.values())
    return {state: found.get(state, 0) for state in State} | {State.SETTLED: settled}


def answer(store: Store, question: str, values: Mapping[str, str]) -> bool:
    """Answer a question about a hash."""
    store.index_hashes()
    (found,) = store.connection.execute(question, values).fetchone()
    return bool(found)


def purgeable(connection: Connection) -> int:
    """Return how many secrets `purge` forgets."""
    query = f"SELECT count(*) FROM keys WHERE {_over(connection)}"  # noqa: S608 - words of our own
    return int(connection.execute(query).fetchone()[0])


def purge(connection: Connection) -> int:
    """Forget the secrets of keys that are handed over, or never will be."""
    nothing = ", ".join(f"{column} = NULL" for column in _secrets(connection))
    statement = f"UPDATE keys SET {nothing} WHERE {_over(connection)}"  # noqa: S608
    return connection.execute(statement).rowcount


def _over(connection: Connection) -> str:
    return _OVER.format(" OR ".join(f"{column} IS NOT NULL" for column in _secrets(connection)))


def _secrets(connection: Connection) -> list[str]:
    """Return the columns for secrets: an older version's file has one."""
    columns = connection.execute("SELECT * FROM keys LIMIT 0").description or ()
    return [name for name, *_ in columns if name in ("secret", "sealed")]
