"""How keys that exist join the journal, without a secret. No thread, no transaction.

A key joins a ref only if no other ref has it, and no create of this journal can have made it. Both
are looked at in the transaction that writes the row: another process may be at the same key.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from attrs import frozen

from openrouter_keys._reconcile.matching import Names
from openrouter_keys.converter import write_time
from openrouter_keys.journal.entries import (
    FIND,
    KEYS,
    WRITTEN_OFF,
    Entry,
    read,
    succession,
    unfinished,
)
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.journal.store import Connection, Store
from openrouter_keys.journal.transitions import ADOPT

_HOLDER: Final = """
SELECT ref FROM keys WHERE hash = :hash
UNION ALL SELECT ref FROM keys INDEXED BY secret_hashes WHERE secret_hash = :hash
"""
# Such a ref is that of the key's replacement.
_IS_ROTATED: Final = "SELECT EXISTS (SELECT 1 FROM rotations WHERE hash = :ref)"
#: The journal has a key of the ref.
MADE: Final = (State.MADE, State.SETTLED)

_ANOTHER: Final = "the ref has the key {}: release it, or give the key another ref"
NOT_MADE: Final = "the journal has no key of the ref, and its state is {!r}: release it first"
_TAKEN: Final = "it is the key of the ref {!r}"
_A_HASH: Final = "the ref is the hash of a key that is rotated: give the key another ref"
_SUSPECT: Final = (
    "it may be what a create without an answer has made, of the ref {!r}: ensure or release that "
    "ref first"
)


@frozen(kw_only=True)
class Adoption:
    """A key that is to join the journal.

    Attributes:
        ref: the caller's own id for it.
        plan: what the key is, as `KeySpec.plan` returns it.
        hash: its hash, as the service shows it.
        name: its name, as the service shows it.
        made_at: when it was made.
        record: its record as JSON.
    """

    ref: str
    plan: str
    hash: str
    name: str
    made_at: datetime
    record: str


@frozen
class Adopted:
    """What came of an adoption.

    Attributes:
        new: whether the key joined the journal now; otherwise, the ref had it before.
        problem: why it did not join; None: it did.
    """

    new: bool
    problem: str | None = None


def adopt(store: Store, run: int, wanted: Sequence[Adoption], *, dry_run: bool) -> list[Adopted]:
    """Write keys into the journal that it does not know.

    Args:
        store: the engine's.
        run: the run's number.
        wanted: the keys.
        dry_run: whether nothing is written.
    """
    store.index_hashes()
    unsettled = suspects(store.connection)
    return [_adopt(store.connection, run, one, unsettled, dry_run=dry_run) for one in wanted]


def _adopt(
    connection: Connection,
    run: int,
    wanted: Adoption,
    unsettled: Mapping[str, str],
    *,
    dry_run: bool,
) -> Adopted:
    values: dict[str, Any] = {"ref": wanted.ref, "hash": wanted.hash}
    if known := read(connection, KEYS, FIND, values):
        return _known(connection, known[0], wanted)
    problem = _refusal(connection, values, wanted, unsettled)
    if problem is None and not dry_run:
        at = write_time(wanted.made_at)
        values |= {"plan": wanted.plan, "run": run, "at": at, "record": wanted.record}
        connection.execute(ADOPT, {**values, "proven": True})
    return Adopted(new=problem is None, problem=problem)


def _known(connection: Connection, entry: Entry, wanted: Adoption) -> Adopted:
    """Return what becomes of a key whose ref has a row: it is that one, or it is refused."""
    if entry.state not in MADE:
        return Adopted(new=False, problem=NOT_MADE.format(entry.state.value))
    keys = [each.hash for each in succession(connection, entry.ref, unmade=False)]
    return Adopted(new=False, problem=None if wanted.hash in keys else _ANOTHER.format(keys[-1]))


def _refusal(
    connection: Connection,
    values: Mapping[str, Any],
    wanted: Adoption,
    unsettled: Mapping[str, str],
) -> str | None:
    holder = connection.execute(_HOLDER, values).fetchone()
    if holder is not None:
        return _TAKEN.format(holder[0])
    if connection.execute(_IS_ROTATED, values).fetchone()[0]:
        return _A_HASH
    # Whatever the time: clocks may be wrong. The service may write a name in another form.
    for name in Names(unsettled, ()).meant_by(wanted.name):
        return _SUSPECT.format(unsettled[name])
    return None


def suspects(connection: Connection) -> dict[str, str]:
    """Return the refs of whose creates there may be keys that the journal does not know, by name.

    A released ref is one of them: its key is there until it is gone.
    """
    found: dict[str, str] = {}
    for query in (unfinished((*DOUBTFUL, State.RELEASING)), WRITTEN_OFF):
        after = 0
        while page := read(connection, KEYS, query, {"after": after}):
            found |= {each.name: each.ref for each in page}
            after = page[-1].id
    return found
