"""What a journal knows of each ref: its key, and the replacements of that. No network."""

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

from openrouter_keys.errors import JSON
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.rotations import REPLACED, RotationEntry
from openrouter_keys.journal.schema import DOUBTFUL, OldKey, State

#: What of a succession changes with each create, hand-over and deletion.
Mark: TypeAlias = tuple[tuple[object, ...], ...]

# A replacement in one of these is made.
_MADE = (State.MADE, State.SETTLED, State.RELEASING)


@frozen(kw_only=True)
class KnownKey:
    """What a journal knows of a ref.

    Attributes:
        ref: the caller's own id for the key.
        state: what is known of it.
        plan: what was asked for last.
        wanted: what an update was changing it to; None: none was under way.
        hashes: its key's hash, then that of each replacement that was made; the last one is in use.
        mark: what tells whether the keys, and what is asked for, are the same later.
        is_kept: whether the journal has, or had, the key's secret.
        is_releasing: whether one of the keys is being deleted.
        is_refused: whether each create of it was refused, so that no key of it can exist.
        reason: why it failed, or is in doubt.
        given: the limit that a rotation gave to the last replacement, which is what the old key
            had left. None: no rotation did, or it copied the limit.
        rotation: the rotation of the key in use, of which no replacement is made; None: there is
            none.
        unretired: the replacement of an old key that `apply` began, where the new key is made and
            the old one is not deleted; None: there is none.
        is_rotating: whether `rotate` still keeps an old key.
    """

    ref: str
    state: State
    plan: Mapping[str, JSON]
    wanted: Mapping[str, JSON] | None
    hashes: tuple[str, ...]
    mark: Mark
    is_kept: bool
    is_releasing: bool
    is_refused: bool
    reason: str | None
    given: float | None
    rotation: RotationEntry | None
    unretired: RotationEntry | None
    is_rotating: bool

    @property
    def hash(self) -> str | None:
        """The hash of the key in use; None: there is no key, or it is not known."""
        return self.hashes[-1] if self.hashes else None

    @property
    def name(self) -> str:
        """The name asked for."""
        return str(self.plan["name"])

    @property
    def workspace_id(self) -> str | None:
        """The workspace asked for; None: the default one."""
        found = self.plan.get("workspace_id")
        return found if isinstance(found, str) else None


@frozen
class _Row:
    """What is needed of an entry, without its secret and its record."""

    ref: str
    state: State
    plan: Mapping[str, JSON]
    wanted: str | None
    hash: str | None
    mark: tuple[object, ...]
    is_kept: bool
    is_refused: bool
    reason: str | None


async def read_known(journal: Journal) -> dict[str, KnownKey]:
    """Read what a journal knows, by the refs, in the order of intending.

    The replacements of keys that are none of a ref's are left out: `rotate` made them.
    """
    rows = {entry.ref: _row(entry) async for entry in journal.every()}
    rotations = {entry.hash: entry async for entry in journal.rotations()}
    return {
        ref: _known(_chain(row, rows, rotations), rotations)
        for ref, row in rows.items()
        if ref not in rotations
    }


def mark_of(known: Sequence[Entry]) -> Mark:
    """Return what tells whether the keys of a succession are the same."""
    return tuple(_row(entry).mark for entry in known)


def asked_of(entry: Entry) -> tuple[Mapping[str, JSON], Mapping[str, JSON] | None]:
    """Return what was asked for last, and what an update was changing it to."""
    return entry.plan, None if entry.wanted is None else json.loads(entry.wanted)


def hashes_of(known: Sequence[Entry]) -> tuple[str, ...]:
    """Return the hashes of the keys of a succession."""
    return _hashes([_row(entry) for entry in known])


def _row(entry: Entry) -> _Row:
    return _Row(
        entry.ref,
        entry.state,
        entry.plan,
        entry.wanted,
        entry.hash,
        (entry.state, entry.hash, entry.last_attempt_at, entry.plan, entry.wanted),
        entry.secret is not None or entry.sealed is not None,
        # A create that was never answered may still make a key.
        entry.state is State.FAILED and entry.hash is None and not entry.written_off,
        entry.reason,
    )


def _chain(
    row: _Row, rows: Mapping[str, _Row], rotations: Mapping[str, RotationEntry]
) -> list[_Row]:
    found, seen = [row], {row.ref}
    while (hash := found[-1].hash) is not None and hash in rotations and hash not in seen:
        seen.add(hash)
        following = rows.get(hash)
        if following is None or following.state not in _MADE:
            break
        found.append(following)
    return found


def _is_unretired(rotation: RotationEntry) -> bool:
    return rotation.budget == REPLACED and rotation.old_key is not OldKey.DELETED


def _hashes(rows: Sequence[_Row]) -> tuple[str, ...]:
    return tuple(row.hash for row in rows if row.hash is not None and row.state not in DOUBTFUL)


def _known(rows: Sequence[_Row], rotations: Mapping[str, RotationEntry]) -> KnownKey:
    first, last, hashes = rows[0], rows[-1], _hashes(rows)
    made_by = rotations.get(last.ref)
    limit = last.plan.get("limit")
    is_rest = made_by is not None and made_by.budget == "remaining"
    old = [rotations[row.ref] for row in rows[1:]]
    return KnownKey(
        ref=first.ref,
        state=first.state,
        plan=first.plan,
        wanted=None if first.wanted is None else json.loads(first.wanted),
        hashes=hashes,
        mark=tuple(row.mark for row in rows),
        is_kept=first.is_kept,
        is_releasing=any(row.state is State.RELEASING for row in rows),
        is_refused=first.is_refused,
        reason=first.reason,
        given=limit if is_rest and isinstance(limit, float) else None,
        rotation=rotations.get(hashes[-1]) if hashes else None,
        unretired=next(filter(_is_unretired, old), None),
        is_rotating=any(
            each.budget != REPLACED and each.old_key is not OldKey.DELETED for each in old
        ),
    )
