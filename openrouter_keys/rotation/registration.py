"""The first phase of a rotation: writes each key's plan into the journal, once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from attrs import evolve

from openrouter_keys._reconcile.absence import not_gone
from openrouter_keys._reconcile.service_clock import UNSEEN
from openrouter_keys.journal.entries import CHUNK
from openrouter_keys.journal.rotations import Asked, Known
from openrouter_keys.journal.schema import DOUBTFUL, OldKey
from openrouter_keys.rotation.context import RotationContext
from openrouter_keys.rotation.planning import GONE, Planner
from openrouter_keys.rotation.replacement import replanned
from openrouter_keys.rotation.report import Rotation, RotationState

TAKEN: Final = "is the ref of another key in this journal: rotate it with another journal"
_SUSPECT: Final = (
    "may be what a create in doubt has made: run again, and leave it out if it is gone by then"
)


class Registration:
    """Writes plans into the journal; a plan that is there stays unchanged.

    Args:
        context: the rotation's.
        planner: reads the keys.

    Attributes:
        skipped: how many of the hashes are replacements that this journal made.
        left_out: keys with a plan of an earlier call that get no replacement in this call.
    """

    def __init__(self, context: RotationContext, planner: Planner) -> None:
        self.skipped: int = 0
        self.left_out: set[str] = set()
        self._context = context
        self._journal = context.journal
        self._planner = planner

    async def look_again(self) -> None:
        """Leave out the earlier plans of keys that have been disabled, expired or deleted since."""
        after = 0
        while found := await self._journal.twinless_rotations(after):
            homes = {entry.hash: entry.workspace_id for entry in found}
            missing = defaultdict[str | None, list[str]](list)
            async for looked in self._planner.look([*homes]):
                for rotation in looked:
                    if rotation.problem == GONE:
                        missing[homes[rotation.hash]].append(rotation.hash)
                    elif rotation.problem is not None:
                        await self._leave_out(rotation.hash, rotation.problem)
            for home, hashes in missing.items():
                await self._settle(home, hashes)
            after = found[-1].id

    async def _settle(self, home: str | None, missing: Sequence[str]) -> None:
        """End the rotations of keys that are gone; leave out those that may be there."""
        left = await not_gone(self._context.transport, self._context.clock, home, missing)
        for hash in missing:
            if hash in left:
                await self._leave_out(hash, left[hash])
            else:
                await self._journal.advance_rotation(hash, OldKey.DELETED)
                await self._context.fail(hash, GONE)

    async def _leave_out(self, hash: str, problem: str) -> None:
        self.left_out.add(hash)
        await self._context.fail(hash, problem)

    async def enter(self, hashes: Sequence[str]) -> None:
        """Plan the rotation of each key that the journal does not know."""
        suspects = await self._suspects()
        for start in range(0, len(hashes), CHUNK):
            known = await self._journal.known_hashes(hashes[start : start + CHUNK])
            new = self._new(hashes[start : start + CHUNK], known)
            async for looked in self._planner.look(new):
                rotations = [_suspected(rotation, suspects) for rotation in looked]
                await self._write(rotations, known.own)

    def _new(self, hashes: Sequence[str], known: Known) -> list[str]:
        self.skipped += len(known.twins - known.rotated)
        for hash in known.refs - known.rotated:
            self._context.report(hash, TAKEN)
        unwanted = known.rotated | known.twins | known.refs
        return [hash for hash in hashes if hash not in unwanted]

    async def _write(self, looked: Sequence[Rotation], own: Mapping[str, Asked]) -> None:
        budget = self._context.settings.terms.rule
        for rotation in looked:
            if rotation.problem is not None:
                self._context.report(rotation.hash, rotation.problem)
        entries = [
            (rotation.hash, rotation.spec.plan, budget, rotation.limit, rotation.spent)
            for rotation in looked
            if rotation.spec is not None
        ]
        hashes = {hash for hash, *_ in entries}
        own = {hash: asked for hash, asked in own.items() if hash in hashes}
        left = await self._journal.plan_rotations(entries, own, replanned)
        for hash, why in left.items():
            self._context.report(hash, why)

    async def _suspects(self) -> Mapping[str, datetime]:
        """Return, by name, the time since when creates in doubt may have made keys."""
        since: dict[str, datetime] = {}
        for entries in (self._journal.unfinished(*DOUBTFUL), self._journal.written_off()):
            async for entry in entries:
                begun = entry.first_attempt_at
                since[entry.name] = min(since.get(entry.name, begun), begun)
        return since


def _suspected(rotation: Rotation, suspects: Mapping[str, datetime]) -> Rotation:
    """Refuse a key that a create in doubt may have made: a reconcile may delete it."""
    made_at = rotation.created_at
    # By its name alone: a create that named no workspace was made in the default one.
    since = None if rotation.spec is None else suspects.get(rotation.spec.name)
    if since is None or made_at is None or made_at < since - UNSEEN:
        return rotation
    return evolve(rotation, spec=None, state=RotationState.REFUSED, problem=_SUSPECT)
