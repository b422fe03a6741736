"""What became of creates that nobody answered: their keys are looked for, and deleted if provable.

No journal and no waiting: whoever asks says which keys are known, and comes when late commits have
landed.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from datetime import datetime
from typing import TypeAlias, TypeVar

from attrs import field, frozen

from openrouter_keys._base.clock_skew import Skew, Stamp, skew_of
from openrouter_keys._base.masking import escaped
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys._reconcile.listing import Lister
from openrouter_keys._reconcile.matching import Doubt, Names, told_apart
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.deletion import Removal, remove
from openrouter_keys._transport.transport import Transport
from openrouter_keys.errors import OpenRouterError, QuotaExhaustedError
from openrouter_keys.models import Key
from openrouter_keys.operations import Operation
from openrouter_keys.results import Err, Ok, attempt

#: How many keys are deleted at once.
_AT_ONCE = 8

R = TypeVar("R")
_Place: TypeAlias = tuple[str | None, str]
_Candidates: TypeAlias = tuple[dict[_Place, list[Key]], dict[str | None, str]]
#: Returns the hashes of keys of a workspace that were made since a time, each with the workspace
#: that its record told; None: not known.
Known: TypeAlias = Callable[[str | None, datetime], Awaitable[Mapping[str, str | None]]]

_log = logging.getLogger("openrouter_keys")


@frozen(kw_only=True)
class Reconciliation:
    """What a look at the service's keys brought to light.

    Attributes:
        deleted: keys that were provably made by creates without an answer, and were deleted:
            nobody holds their secrets.
        left: such keys that could not be deleted, or of which nothing proves that they were.
        unproven: keys that may have been made so, and are not deleted: used already, changed, made
            too late, or more of them than there were creates.
        incomplete: workspaces of which nobody can say whether all keys were listed, each with the
            reason; nothing of theirs was deleted.
        places: the workspace and the name as they were asked for, and the hash, of each of these
            keys; a key's own `workspace_id` does not tell which it is that was left out, and may
            be missing, and its name may be written otherwise.
        exhausted: the daily quota that kept keys from being deleted; None: none did.
    """

    deleted: tuple[Key, ...] = ()
    left: tuple[Key, ...] = ()
    unproven: tuple[Key, ...] = ()
    incomplete: tuple[tuple[str | None, str], ...] = ()
    places: frozenset[tuple[str | None, str, str]] = field(default=frozenset(), repr=False)
    exhausted: QuotaExhaustedError | None = None

    @property
    def settled(self) -> bool:
        """Whether it is proven that no key is left that may have been made by these creates."""
        return not (self.left or self.unproven or self.incomplete)


async def _none(_: str | None, __: datetime) -> Mapping[str, str | None]:
    return {}


async def reconcile(
    transport: Transport,
    doubts: Iterable[Doubt],
    clock: ServiceClock,
    *,
    knows: Callable[[str], Awaitable[bool]],
    stamps: Iterable[Stamp] = (),
    known: Known = _none,
    options: RequestOptions | None = None,
) -> Reconciliation:
    """Look for the keys of creates without an answer, then delete those that are provably theirs.

    One pass settles any number of doubts. It begins once late commits have landed, and while none
    of these creates is under way.

    Args:
        transport: what to ask and to delete with; what this process made is never deleted.
        doubts: the creates.
        clock: learns the service's time from the answers.
        knows: whether a key with this hash is known to have been answered for.
        stamps: how keys were stamped, besides those that the transport made.
        known: returns the hashes of keys of a workspace that were made since a time, and must be
            listed unless they were deleted or moved: they show whether a list is whole.
        options: those of the creates; None: the client's.

    Raises:
        OpenRouterError: the keys could not be listed; nothing was deleted.
    """
    asked: dict[_Place, list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        asked[doubt.place].append(doubt)
    skew = skew_of([*stamps, *clock.stamps(transport.samples)], clock.unseen)
    lister = Lister(transport, clock, options or {})
    candidates, incomplete = await _candidates(lister, asked, skew, known)
    strangers = await _add_told(lister, asked, candidates, incomplete)
    # The key of a create that is under way elsewhere in this process may be listed already.
    all_known = await transport.made.all_settled()
    ours: dict[str, Key] = {}
    unproven: dict[str, Key] = {}
    places: set[tuple[str | None, str, str]] = set()
    for place, keys in strangers.items():
        unknown = [key for key in keys if not await _is_known(transport, key, knows)]
        unproven |= {key.hash: key for key in unknown}
        places |= {(*place, key.hash) for key in unknown}
    for place, keys in candidates.items():
        unknown = [key for key in keys if not await _is_known(transport, key, knows)]
        if all_known and place[0] not in incomplete:
            proven, unclear = told_apart(unknown, asked[place], skew)
        else:
            proven, unclear = [], unknown
        ours |= {key.hash: key for key in proven}
        unproven |= {key.hash: key for key in unclear}
        places |= {(*place, key.hash) for key in unknown}
    # The default workspace may have been asked for by its name, too: what one doubt alone would
    # prove, another can make unclear.
    ours = {hash: key for hash, key in ours.items() if hash not in unproven}
    homes = {hash: asked[workspace_id, name] for workspace_id, name, hash in places if hash in ours}
    looks = await _look_at_all(lister, [*ours])
    for hash, look in looks.items():
        # A list may show one key's hash beside another key's name.
        if isinstance(look, Ok) and not _is_the_same(look.value, ours[hash], homes[hash], skew):
            unproven[hash] = look.value
            del ours[hash]
        elif isinstance(look, Err) and not _is_missing(look):
            told = "the key %s, whose secret nobody holds, is left over: %s"
            _log.warning(told, escaped(hash), look.error)
    there = [hash for hash in ours if isinstance(looks[hash], Ok)]
    removals, exhausted = await _delete_all(transport, there, options or {})
    removals |= {hash: Removal.MISSING for hash in ours if _is_missing(looks[hash])}
    gone = {hash for hash, removal in removals.items() if removal is Removal.DELETED}
    if missing := removals.keys() - gone:
        gone |= await _unlisted(missing, _candidates(lister, asked, skew, known))
    return Reconciliation(
        deleted=tuple(key for hash, key in ours.items() if hash in gone),
        left=tuple(key for hash, key in ours.items() if hash not in gone),
        unproven=tuple(unproven.values()),
        exhausted=exhausted,
        places=frozenset(places),
        incomplete=tuple(incomplete.items()),
    )


async def _is_known(
    transport: Transport, key: Key, knows: Callable[[str], Awaitable[bool]]
) -> bool:
    # A list may write it in capitals. JSON can escape half a surrogate pair, which no journal can
    # look for.
    hashes = {escaped(key.hash), escaped(key.hash).lower()}
    return any([hash in transport.made or await knows(hash) for hash in hashes])


async def _candidates(
    lister: Lister, asked: Mapping[_Place, Sequence[Doubt]], skew: Skew, known: Known
) -> _Candidates:
    """Collect every key that a doubt may be about; nothing is changed before all is seen.

    Returns:
        The keys; and the workspaces whose list is not proven to be whole, each with the reason.
    """
    begins = {place: min(one.begins(skew) for one in doubts) for place, doubts in asked.items()}
    found: dict[_Place, list[Key]] = defaultdict(list)
    incomplete: dict[str | None, str] = {}
    for workspace_id in {workspace_id for workspace_id, _ in asked}:
        since = min(time for (of, _), time in begins.items() if of == workspace_id)
        must = await known(workspace_id, since)
        listing = await lister.list(workspace_id, since, must)
        if listing.problem is not None:
            incomplete[workspace_id] = listing.problem
        names = Names([name for of, name in asked if of == workspace_id], listing.keys.values())
        for key in listing.keys.values():
            for name in names.meant_by(key.name):
                if key.created_at >= begins[workspace_id, name]:
                    found[workspace_id, name].append(key)
    return found, incomplete


async def _add_told(
    lister: Lister,
    asked: Mapping[_Place, Sequence[Doubt]],
    candidates: dict[_Place, list[Key]],
    incomplete: dict[str | None, str],
) -> dict[_Place, list[Key]]:
    """Look at keys that answers told without their secrets: a list may not have them yet.

    Args:
        lister: what to ask.
        asked: the doubts.
        candidates: gets such keys, where they have the name that was asked for.
        incomplete: gets the workspaces of those that cannot be looked at.

    Returns:
        Those that have another name.
    """
    strangers: dict[_Place, list[Key]] = defaultdict(list)
    listed = {key.hash.lower() for keys in candidates.values() for key in keys}
    told = {(place, one.told) for place, doubts in asked.items() for one in doubts if one.told}
    unseen = [(place, hash) for place, hash in told if hash.lower() not in listed]
    looks = await _look_at_all(lister, [hash for _, hash in unseen])
    for place, hash in unseen:
        look = looks[hash]
        if isinstance(look, Ok):
            kind = candidates if look.value.name == place[1] else strangers
            kind[place].append(look.value)
        elif not _is_missing(look):
            problem = f"the key {hash}, which an answer told, could not be looked at: {look.error}"
            incomplete.setdefault(place[0], escaped(problem))
    return strangers


async def _look_at_all(lister: Lister, hashes: Sequence[str]) -> dict[str, Ok[Key] | Err]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def look(hash: str) -> Ok[Key] | Err:
        async with gate:
            return await attempt(lister.look(hash))

    return dict(zip(hashes, await asyncio.gather(*map(look, hashes)), strict=True))


def _is_missing(look: Ok[Key] | Err) -> bool:
    return isinstance(look, Err) and is_api_404(look.error)


def _is_the_same(key: Key, listed: Key, doubts: Iterable[Doubt], skew: Skew) -> bool:
    """Whether a key is what the list made of it, and still provably one of these creates'."""
    same = (key.name, key.created_at) == (listed.name, listed.created_at)
    return same and any(doubt.proves(key, skew) for doubt in doubts)


async def _delete_all(
    transport: Transport, hashes: Sequence[str], options: RequestOptions
) -> tuple[dict[str, Removal], QuotaExhaustedError | None]:
    gate, removals = asyncio.Semaphore(_AT_ONCE), dict[str, Removal]()
    exhausted: QuotaExhaustedError | None = None

    async def delete(hash: str) -> None:
        nonlocal exhausted
        async with gate:
            if exhausted is not None:
                return
            try:
                removal = await removed(transport, hash, options)
            except QuotaExhaustedError as error:
                exhausted = error
            else:
                removals.update({} if removal is None else {hash: removal})

    await asyncio.gather(*map(delete, hashes))
    return removals, exhausted


async def _unlisted(missing: Set[str], listing: Awaitable[_Candidates]) -> Set[str]:
    """Return which keys the list, which had them a moment ago, does not have any more."""
    listed = await attempt(listing)
    problem: object = listed.error if isinstance(listed, Err) else [*listed.value[1].values()]
    if isinstance(listed, Err) or problem:
        _log.warning("the keys %s may be left over: %s", escaped(", ".join(missing)), problem)
        return frozenset()
    still = {key.hash for keys in listed.value[0].values() for key in keys} & missing
    for hash in still:
        told = "the key %s is left over: it is listed, and told to be missing"
        _log.warning(told, escaped(hash))
    return missing - still


async def removed(
    transport: Transport, hash: str, options: RequestOptions | None = None
) -> Removal | None:
    """Delete a key whose secret nobody holds; None: nothing proves that it is gone.

    What came of it is logged.

    Raises:
        QuotaExhaustedError: no key can be deleted today.
    """

    async def perform(operation: Operation[R]) -> R:
        return await transport.perform(operation, options or {})

    try:
        removal = await remove(perform, hash)
    except QuotaExhaustedError:
        raise
    except OpenRouterError as error:
        told = "the key %s, whose secret nobody holds, is left over: %s"
        _log.warning(told, escaped(hash), error)
        return None
    if removal is Removal.DELETED:
        told = "the key %s was deleted: a create without an answer had made it"
        _log.info(told, escaped(hash))
    return removal
