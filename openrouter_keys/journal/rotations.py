"""The journal's rotations: what is read of them. No thread, no transaction.

A row is a key that is to be replaced by a twin. The twin is made as any other key, with the old
key's hash for its ref.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from attrs import frozen

from openrouter_keys.errors import JSON
from openrouter_keys.journal.entries import (
    CHANGED,
    RELEASED,
    Table,
    change,
    marks,
    read,
    succession,
)
from openrouter_keys.journal.facts import text_in
from openrouter_keys.journal.schema import OldKey, State
from openrouter_keys.journal.specs import changed
from openrouter_keys.journal.store import Connection, Store
from openrouter_keys.journal.transitions import PLAN_ROTATION, REPLAN, REPLAN_FAILED, WANT

# In doubt, a hash is what an answer says, and may be a stranger's.
_ROWS = """
SELECT rotations.*, keys.state AS made, coalesce(rotations.reason, keys.reason) AS why,
    CASE WHEN keys.state NOT IN ('intent', 'doubt') THEN keys.hash END AS twin_hash
FROM rotations
"""
_KEYS = "LEFT JOIN keys ON keys.ref = rotations.hash"
_OPEN = f"{_ROWS} INDEXED BY unretired {_KEYS} WHERE rotations.state <> 'deleted'"
EVERY = f"{_ROWS} {_KEYS} WHERE rotations.id > :after ORDER BY rotations.id LIMIT :most"
ONE = f"{_ROWS} {_KEYS} WHERE rotations.hash = :hash"
UNMADE = f"""{_OPEN}
AND handed_over_at IS NULL AND rotations.id > :after ORDER BY rotations.id LIMIT :most
"""
TWINLESS = f"""{_OPEN}
AND handed_over_at IS NULL AND rotations.id > :after
AND (keys.state IS NULL OR keys.state <> 'made')
ORDER BY rotations.id LIMIT :most
"""
UNRETIRED = f"""{_OPEN}
AND (handed_over_at, rotations.id) > (:at, :after) ORDER BY handed_over_at, rotations.id LIMIT :most
"""
_TWINS = """
FROM keys INDEXED BY hashes JOIN rotations ON rotations.hash = keys.ref
WHERE keys.hash IS NOT NULL AND keys.state NOT IN ('intent', 'doubt')
"""
# A create's answer that is a copy of another's names an old key, or another's twin.
MIXED_UP = f"""
SELECT EXISTS (SELECT 1 FROM rotations WHERE hash = :twin)
    OR EXISTS (SELECT 1 {_TWINS} AND keys.hash = :hash)
    OR (SELECT count(*) {_TWINS} AND keys.hash = :twin) > 1
"""  # noqa: S608 - words of our own
# Copies of an answer have one hash, but only one of them its key.
_ASKED = """
SELECT hash, plan, wanted, record FROM keys INDEXED BY hashes
WHERE hash IS NOT NULL AND state NOT IN ('intent', 'doubt')
"""
_PLANS = "SELECT plan FROM rotations INDEXED BY unretired WHERE state <> 'deleted'"
COUNTS = """
SELECT count(*), count(*) - count(handed_over_at) FROM rotations INDEXED BY unretired
WHERE state <> 'deleted'
"""


#: The budget of a rotation that `apply` began: the new key has what its spec says.
REPLACED: Final = "spec"
# Of a key or its replacement, which `apply` has begun, and not ended.
_REPLACING = """
SELECT EXISTS (
    SELECT 1 FROM rotations
    WHERE hash = ? AND budget = 'spec' AND state <> 'deleted'
)
"""


@frozen(kw_only=True)
class RotationEntry:
    """What the journal knows of one rotation.

    Attributes:
        id: its place in the journal.
        hash: the old key's.
        plan: what is asked for, as `KeySpec.plan` returns it.
        workspace_id: the workspace asked for; None: the default one, or the plan is damaged.
        budget: how the twin's limit was chosen: `remaining`, `full`, or as a `spec` says.
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
    workspace_id: str | None
    budget: str
    limit: float | None
    spent: float
    old_key: OldKey
    twin: str | None
    handed_over_at: datetime | None
    made: State | None
    reason: str | None


#: What was asked for of a key; what an update is changing that to, None: none is under way; and the
#: key's record, which each update writes: one may have led there and another one back.
Asked: TypeAlias = tuple[str, str | None, str | None]
#: Returns the plan of a replacement, and the old key's limit, as an update changes them; None: as
#: before.
Replan: TypeAlias = Callable[[RotationEntry, Mapping[str, JSON]], tuple[str, float | None] | None]


@frozen
class Known:
    """Which of some hashes the journal knows: rotated, twins of its own, refs, keys of its own."""

    rotated: frozenset[str]
    twins: frozenset[str]
    refs: frozenset[str]
    own: Mapping[str, Asked]


def known(store: Store, hashes: Sequence[str]) -> Known:
    """Return what is known of some hashes."""
    store.index_hashes()

    def those(query: str) -> frozenset[str]:
        found = store.connection.execute(f"{query} IN ({marks(hashes)})", hashes)
        return frozenset(hash for (hash,) in found)

    query = f"{_ASKED} AND hash IN ({marks(hashes)}) ORDER BY id"
    asked = store.connection.execute(query, hashes).fetchall()
    return Known(
        those("SELECT hash FROM rotations WHERE hash"),
        those(f"SELECT keys.hash {_TWINS} AND keys.hash"),
        those("SELECT ref FROM keys WHERE ref"),
        {hash: (plan, wanted, record) for hash, plan, wanted, record in asked},
    )


def plan(
    connection: Connection,
    planned: Sequence[tuple[object, ...]],
    own: Mapping[str, Asked],
    replan: Replan,
) -> dict[str, str]:
    """Write rotations, but for those of keys that are not as they were; see `Journal`."""
    left = dict[str, str]()
    for hash, asked in own.items():
        found = connection.execute(
            f"{_ASKED} AND state <> 'releasing' AND hash = ?", [hash]
        ).fetchall()
        if not found:
            left[hash] = RELEASED
        elif (hash, *asked) not in map(tuple, found):
            left[hash] = CHANGED
    connection.executemany(PLAN_ROTATION, [each for each in planned if each[0] not in left])
    for hash, (before, wanted, _) in own.items():
        if hash not in left and wanted is not None:
            names, fields = changed(before, wanted), json.loads(wanted)
            given = {name: fields[name] for name in names if name in fields}
            _replan(connection, hash, given, replan)
    return left


def want(
    connection: Connection,
    owner: int,
    found: Sequence[str],
    plan: str,
    *,
    fields: Mapping[str, JSON],
    replan: Replan,
) -> bool:
    """Write what a key, and a replacement that is not made, are to be; see `Journal`."""
    known = succession(connection, found[0], unmade=True)
    if [entry.ref for entry in known] != [*found]:
        return False
    change(connection, [WANT], {"ref": found[0], "owner": owner, "plan": plan})
    for entry in known:
        if entry.hash is not None:
            _replan(connection, entry.hash, fields, replan)
    return True


def as_before(_: RotationEntry, __: Mapping[str, JSON]) -> None:
    """Plan nothing anew."""


def _replan(connection: Connection, hash: str, fields: Mapping[str, JSON], replan: Replan) -> None:
    """Plan a replacement anew, unless it is made, or its old key needs none any more."""
    for entry in read(connection, ROTATIONS, ONE, {"hash": hash}):
        if entry.old_key is OldKey.DELETED or entry.twin is not None:
            continue
        if entry.made in (None, State.FAILED) and (new := replan(entry, fields)) is not None:
            values = {"hash": hash, "plan": new[0], "limit": new[1]}
            connection.execute(REPLAN, values)
            connection.execute(REPLAN_FAILED, {"hash": hash, "plan": new[0]})


def is_replacing(connection: Connection, hashes: Sequence[str]) -> bool:
    """Return whether `apply` has begun to replace one of some keys, and has not ended it."""
    found = (connection.execute(_REPLACING, [hash]).fetchone() for hash in hashes)
    return any(is_begun for (is_begun,) in found)


def workspaces(connection: Connection) -> list[str]:
    """Return the workspaces of rotations that are not through."""
    found = (text_in(plan, "workspace_id") for (plan,) in connection.execute(_PLANS))
    return [*dict.fromkeys(home for home in found if home is not None)]


def _rotation(row: Mapping[str, Any]) -> RotationEntry:
    at = row["handed_over_at"]
    return RotationEntry(
        id=row["id"],
        hash=row["hash"],
        plan=row["plan"],
        workspace_id=text_in(row["plan"], "workspace_id"),
        budget=row["budget"],
        limit=row["old_limit"],
        spent=row["spent"],
        old_key=OldKey(row["state"]),
        twin=row["twin_hash"],
        handed_over_at=None if at is None else datetime.fromisoformat(at),
        made=None if row["made"] is None else State(row["made"]),
        reason=row["why"],
    )


ROTATIONS = Table("rotations", "hash", _rotation)
