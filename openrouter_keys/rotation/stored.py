"""Reads the rotations of a journal, for readers and for a run. No network."""

from collections.abc import AsyncGenerator, Set
from typing import Final

from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.rotations import RotationEntry
from openrouter_keys.journal.schema import OldKey, State
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.rotation.replacement import stored_spec
from openrouter_keys.rotation.report import Rotation, RotationState

_RETIRED: Final = {
    OldKey.DISABLED: RotationState.DISABLED,
    OldKey.DELETED: RotationState.DELETED,
}


async def stored(journal: Journal) -> AsyncGenerator[Rotation, None]:
    """Go through all rotations, in the order of planning."""
    async for entry in journal.rotations():
        yield _rotation(entry)


def _rotation(entry: RotationEntry) -> Rotation:
    spec = stored_spec(entry.hash, entry.plan)
    return Rotation(
        hash=entry.hash,
        name=spec.name,
        limit=entry.limit,
        spent=entry.spent,
        spec=spec,
        twin=entry.twin,
        state=_state(entry),
        problem=entry.reason,
    )


def _state(entry: RotationEntry) -> RotationState:
    if entry.old_key in _RETIRED:
        return _RETIRED[entry.old_key]
    if entry.handed_over_at is not None:
        return RotationState.HANDED_OVER
    return RotationState.MADE if entry.made is State.MADE else RotationState.PLANNED


class Unmade:
    """The specs of all replacements that were not handed over: an async iterable with a length.

    Args:
        journal: the journal of the rotations.
        count: how many there are.
        left_out: the hashes of old keys that get no replacement now.
    """

    def __init__(self, journal: Journal, count: int, left_out: Set[str]) -> None:
        self._journal = journal
        self._count = count
        self._left_out = left_out

    def __len__(self) -> int:
        return self._count

    async def __aiter__(self) -> AsyncGenerator[KeySpec, None]:
        async for entry in self._journal.unmade_rotations():
            if entry.hash not in self._left_out:
                yield stored_spec(entry.hash, entry.plan)
