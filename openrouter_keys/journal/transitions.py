"""The transitions of the journal, each once: what allows it, and what it changes. No I/O.

The statements come from this table, and `Journal` has a method for each name. They are SQL that
each engine speaks; what only one of them could compute is computed in Python, from the row.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import Factory, evolve, field, frozen

from openrouter_keys.journal.schema import DOUBTFUL, OldKey, State


def _statement(of: "Transition") -> str:
    allowed = " OR ".join(f"state = '{state}' AND {so}" for state, so in of.sources.items())
    row = f"WHERE {_KEYS[of.table]} = :ref AND ({allowed})"
    if of.table == "keys":
        row += " AND owner = :owner"
    if of.removes:
        return f"DELETE FROM {of.table} {row}"  # noqa: S608 - words of our own
    state = {} if of.target is None else {"state": f"'{of.target}'"}
    changes = ", ".join(f"{name} = {value}" for name, value in {**state, **of.columns}.items())
    return f"UPDATE {of.table} SET {changes} {row}"  # noqa: S608


@frozen
class Transition:
    """A change of one row, where its state allows it.

    Attributes:
        name: the method of `Journal` that makes it.
        sources: the states that allow it, each with what else has to hold, in SQL.
        target: the state after it; None: the same as before.
        columns: what else changes, in SQL: `:name` is a value of the caller's, `:ref` its row.
        table: where the row is.
        removes: whether it goes.
        derive: returns values for the statement from the row before, or None where that does not
            allow it; it raises a TypeError or ValueError for a row that is damaged. None: the
            caller has all values.
        statement: all of it in SQL.
    """

    name: str
    sources: Mapping[str, str]
    target: State | OldKey | None
    columns: Mapping[str, str]
    table: str = field(default="keys", kw_only=True)
    removes: bool = field(default=False, kw_only=True)
    derive: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] | None = field(
        default=None, kw_only=True
    )
    statement: str = field(init=False, default=Factory(_statement, takes_self=True))


_KEYS: Final = {"keys": "ref", "rotations": "hash"}


def _from(*states: str, so: str = "TRUE") -> dict[str, str]:
    return dict.fromkeys(states, so)


_DOUBTFUL: Final = _from(*DOUBTFUL)
_MADE: Final = _from(State.MADE)
_REASON: Final = {"reason": ":reason"}
# What a create's answer brings.
_ANSWER: Final = ("hash", "record", "proven", "secret_hash", "ended_at")
_NOTHING: Final = dict.fromkeys((*_ANSWER, "reason"), "NULL")
_ALL_CLEAR: Final = {"written_off": "0", "earlier": "NULL"}
# Any run may claim a row that is through.
_FREE: Final = {"owner": "0"}
_NO_SECRET: Final = {"secret": "NULL", "sealed": "NULL"}


def _written_off(row: Mapping[str, Any]) -> dict[str, str]:
    earlier = json.loads(row["earlier"] or "[]")
    return {"earlier": _text([*earlier, [row["last_attempt_at"], row["ended_at"]]])}


def _brought_back(row: Mapping[str, Any]) -> dict[str, str | None] | None:
    if not row["written_off"]:
        return None
    *earlier, (sent_at, ended_at, *undated) = json.loads(row["earlier"] or "[]")
    return {
        "last_attempt_at": sent_at,
        "ended_at": sent_at if any(undated) else ended_at,
        "earlier": _text(earlier),
    }


def _text(earlier: object) -> str:
    return json.dumps(earlier, separators=(",", ":"))


# --- of a key ---

INTEND: Final = """
INSERT INTO keys (ref, plan, state, run, owner, first_attempt_at, last_attempt_at)
SELECT :ref, :plan, 'intent', :run, :run, :at, :at
WHERE NOT EXISTS (
    SELECT 1 FROM rotations WHERE hash = :ref AND (state = 'deleted' OR plan <> :plan)
)
ON CONFLICT (ref) DO NOTHING
"""
# A key that exists: no create of the journal's made it, and its secret is elsewhere.
ADOPT: Final = """
INSERT INTO keys (
    ref, plan, state, run, first_attempt_at, last_attempt_at, hash, record, proven
)
VALUES (:ref, :plan, 'settled', :run, :at, :at, :hash, :record, :proven)
"""
_KEPT: Final = {name: f":{name}" for name in (*_ANSWER, "secret", "sealed")} | {"reason": "NULL"}
KEEP: Final = Transition("keep", _DOUBTFUL, State.MADE, _KEPT)
KEEP_SETTLED: Final = evolve(KEEP, target=State.SETTLED, columns=_KEPT | _FREE)
ACKNOWLEDGE: Final = Transition("acknowledge", _MADE, State.SETTLED, _FREE)
REJECT: Final = Transition("reject", _MADE, State.FAILED, _REASON | _FREE)
FAIL: Final = Transition("fail", _DOUBTFUL, State.FAILED, _REASON | _FREE | {"hash": "NULL"})
DOUBT: Final = Transition(
    "doubt",
    _DOUBTFUL,
    State.DOUBT,
    _REASON
    | {
        # Later than the intent, if the create had to wait for its turn.
        "last_attempt_at": "coalesce(:sent_at, last_attempt_at)",
        "ended_at": "coalesce(:ended_at, ended_at)",
        "hash": "coalesce(:told_hash, hash)",
    },
)
# The last create's times stay as those of an earlier one: its key may still turn up.
AGAIN_IN_DOUBT: Final = Transition(
    "again",
    _DOUBTFUL,
    State.INTENT,
    _NOTHING
    | {
        "last_attempt_at": ":at",
        "written_off": "written_off + 1",
        "earlier": ":earlier",
    },
    derive=_written_off,
)
# A secret that is here must never be written over.
AGAIN: Final = Transition(
    "again",
    _from(State.FAILED, so="hash IS NULL")
    | _from(State.MADE, so="secret IS NULL AND sealed IS NULL"),
    State.INTENT,
    _NOTHING
    | {
        "first_attempt_at": "CASE WHEN written_off > 0 THEN first_attempt_at ELSE :at END",
        "last_attempt_at": ":at",
    },
)
BACK_TO_DOUBT: Final = Transition(
    "forget_intent",
    _from(State.INTENT, so="written_off > 0"),
    State.DOUBT,
    # The last one was refused and made no key: the one before is the last one again.
    {
        "written_off": "written_off - 1",
        "last_attempt_at": ":last_attempt_at",
        "ended_at": ":ended_at",
        "earlier": ":earlier",
    },
    derive=_brought_back,
)
FORGET: Final = Transition(
    "forget_intent", _from(State.INTENT, so="written_off = 0"), None, {}, removes=True
)
RESOLVE: Final = Transition(
    "resolve", _DOUBTFUL, State.FAILED, _REASON | {"hash": "NULL"} | _ALL_CLEAR
)
# The key is proven to be gone.
DISCARD: Final = Transition("discard", _MADE, State.FAILED, _NOTHING | _NO_SECRET | _REASON)
CLEAR: Final = Transition("clear", _from(*State), None, _ALL_CLEAR)
FREE: Final = "UPDATE keys SET owner = 0 WHERE ref = :ref AND owner = :owner AND state = 'settled'"
WANT: Final = Transition("want", _from(State.MADE, State.SETTLED), None, {"wanted": ":plan"})
UPDATE: Final = Transition(
    "update",
    _from(State.MADE, State.SETTLED),
    None,
    {
        "plan": "coalesce(:plan, plan)",
        "wanted": "NULL",
        "record": "coalesce(:record, record)",
        # A run may change many keys: others need not wait for its end.
        "owner": "CASE WHEN state = 'settled' THEN 0 ELSE owner END",
    },
)
RELEASE: Final = Transition(
    "release",
    _from(State.MADE, State.SETTLED, State.FAILED, State.RELEASING),
    State.RELEASING,
    _NO_SECRET | {"wanted": "NULL"},
)
# Its other facts go with the key: no list need show it any more.
GONE: Final = Transition(
    "gone",
    _from(State.RELEASING),
    None,
    dict.fromkeys(("hash", "record", "proven", "secret_hash"), "NULL"),
)
RENEW: Final = Transition(
    "again",
    _from(State.RELEASING),
    State.INTENT,
    _NOTHING
    | {
        "plan": ":plan",
        "first_attempt_at": "CASE WHEN written_off > 0 THEN first_attempt_at ELSE :at END",
        "last_attempt_at": ":at",
    },
)
FORGET_RELEASED: Final = Transition(
    "forget_released",
    _from(State.RELEASING, so="hash IS NULL AND written_off = 0"),
    None,
    {},
    removes=True,
)

# --- of a rotation ---

PLAN_ROTATION: Final = """
INSERT INTO rotations (hash, plan, budget, old_limit, spent, state)
VALUES (?, ?, ?, ?, ?, 'planned') ON CONFLICT (hash) DO NOTHING
"""
# A refused create leaves a row, which has to ask for the same.
REPLAN: Final = "UPDATE rotations SET plan = :plan, old_limit = :limit WHERE hash = :hash"
REPLAN_FAILED: Final = "UPDATE keys SET plan = :plan WHERE ref = :hash AND state = 'failed'"
_ANY: Final = _from(*OldKey)
DISABLE: Final = Transition(
    "advance_rotation",
    _from(OldKey.PLANNED, OldKey.DISABLED),
    OldKey.DISABLED,
    {"reason": "NULL"},
    table="rotations",
)
# Another process was faster, and has deleted it.
DISABLE_DELETED: Final = evolve(DISABLE, sources=_from(OldKey.DELETED), target=OldKey.DELETED)
DELETE: Final = evolve(DISABLE, sources=_ANY, target=OldKey.DELETED)
# The same transaction that acknowledges a twin notes when.
HAND_OVER: Final = "UPDATE rotations SET handed_over_at = :now WHERE hash = :ref"
FAIL_ROTATION: Final = Transition("fail_rotation", _ANY, None, _REASON, table="rotations")
