"""Finds the keys of creates without an answer, and deletes those that are provably theirs.

No journal and no waiting: the caller knows which keys are held, and calls when late commits have
landed.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import TypeAlias, TypeVar

from attrs import evolve, field, frozen

from openrouter_keys._base.clock_skew import Skew, Stamp, skew_of
from openrouter_keys._base.identifiers import canonical
from openrouter_keys._base.masking import escaped
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys._reconcile.listing import Lister
from openrouter_keys._reconcile.matching import Doubt, Names, moved, told_apart
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
#: Returns the hashes of keys of a workspace that were made since a time, each with the workspace
#: that its record shows; None: not known.
Known: TypeAlias = Callable[[str | None, datetime], Awaitable[Mapping[str, str | None]]]

_LEFT_OVER = "the key %s, whose secret nobody holds, is left over: %s"

_log = logging.getLogger("openrouter_keys")


@frozen(kw_only=True)
class Reconciliation:
    """What a look at the service's keys brought to light.

    Attributes:
        deleted: keys that were provably made by creates without an answer, and were deleted:
            their secrets are lost.
        left: such keys that could not be deleted, or that are not proven to be deleted.
        unproven: keys that may have been made so, and are not deleted: used already, changed, made
            too late, or more of them than there were creates.
        busy: the workspaces and names, as they were asked for, of which another process is making
            a key: an unproven one may be its own.
        incomplete: workspaces whose lists are not proven to be whole, each with the reason;
            nothing of theirs was deleted.
        unread: hashes that answers gave without their secrets, and whose keys could not be looked
            at, each with the reason; nothing of their workspace and name was deleted.
        places: the workspace and the name as they were asked for, and the hash, of each of these
            keys; a key's own `workspace_id` does not tell which it is that was left out, and may
            be missing, and its name may be written otherwise.
        exhausted: the daily quota that kept keys from being deleted; None: none did.
    """

    deleted: tuple[Key, ...] = ()
    left: tuple[Key, ...] = ()
    unproven: tuple[Key, ...] = ()
    busy: frozenset[_Place] = frozenset()
    incomplete: tuple[tuple[str | None, str], ...] = ()
    unread: tuple[tuple[str, str], ...] = ()
    places: frozenset[tuple[str | None, str, str]] = field(default=frozenset(), repr=False)
    exhausted: QuotaExhaustedError | None = None

    @property
    def settled(self) -> bool:
        """Whether it is proven that no key is left that may have been made by these creates."""
        return not (self.left or self.unproven or self.incomplete or self.unread)


async def _no_names() -> Sequence[str]:
    return ()


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
    reach: timedelta = timedelta(),
    under_way: Callable[[], Awaitable[Sequence[str]]] = _no_names,
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
        under_way: returns the names of keys that other processes may be making: a key of such a
            name may be theirs.
        reach: by how much such a key may be older than the doubts.
        options: those of the creates; None: the client's.

    Raises:
        OpenRouterError: the keys could not be listed; nothing was deleted.
    """
    asked: dict[_Place, list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        asked[doubt.place].append(doubt)
    skew = skew_of([*stamps, *clock.stamps(transport.samples)], clock.unseen)
    lister = Lister(transport, clock, options or {})
    begins = {place: min(one.begins(skew) for one in doubts) for place, doubts in asked.items()}
    listed = await _list(lister, begins, known, reach)
    await _add_given(lister, asked, listed)
    # The key of a create that is under way elsewhere in this process may be listed already.
    all_known = await transport.made.all_settled()
    theirs = frozenset(await under_way())
    found = {
        place: [key for key in keys if not await _is_known(transport, key, knows)]
        for place, keys in listed.found.items()
    }
    busy = _others(theirs, found, listed)
    unsure = busy | {place for place in found if not all_known or place[0] in listed.incomplete}
    sure = found.keys() - unsure - {place for place, _ in listed.unread}
    ours, _ = _told_apart(found, asked, sure, skew)
    looks = await _look_at_all(lister, [key.hash for key in ours.values()])
    for hash, look in looks.items():
        if isinstance(look, Err) and not _is_missing(look):
            _log.warning(_LEFT_OVER, escaped(hash), look.error)
    # A list may show one key's hash beside another key's name, or lag behind.
    found = {place: [_as_seen(key, looks) for key in keys] for place, keys in found.items()}
    ours, unproven = _told_apart(found, asked, sure, skew)
    there = [key.hash for key in ours.values() if isinstance(looks.get(key.hash), Ok)]
    removals, exhausted = await _delete_all(transport, there, options or {})
    removals |= {hash: Removal.MISSING for hash, look in looks.items() if _is_missing(look)}
    gone = {canonical(hash) for hash, how in removals.items() if how is Removal.DELETED}
    # That a list does not show a key proves nothing if it never did.
    if missing := ({*map(canonical, removals)} - gone) & listed.hashes:
        gone |= await _unlisted(missing, _list(lister, begins, known, reach))
    return Reconciliation(
        deleted=tuple(key for hash, key in ours.items() if hash in gone),
        left=tuple(key for hash, key in ours.items() if hash not in gone),
        unproven=tuple(unproven.values()),
        exhausted=exhausted,
        places=frozenset((*place, key.hash) for place, keys in found.items() for key in keys)
        | {(*place, hash) for place, hash in listed.unread},
        busy=frozenset(busy),
        incomplete=tuple(listed.incomplete.items()),
        unread=tuple((hash, why) for (_, hash), why in listed.unread.items()),
    )


def _others(
    theirs: Set[str], found: Mapping[_Place, Sequence[Key]], listed: "_Listed"
) -> set[_Place]:
    """Return the places with a key that another process may have made."""
    unsure: set[_Place] = set()
    for workspace_id, keys in listed.all.items() if theirs else ():
        ours = [name for of, name in listed.begins if of == workspace_id]
        names = Names({*theirs, *ours}, keys)
        unsure |= {
            place
            for place, unknown in found.items()
            if place[0] == workspace_id
            and any(name in theirs for key in unknown for name in names.meant_by(key.name))
        }
    return unsure


async def _is_known(
    transport: Transport, key: Key, knows: Callable[[str], Awaitable[bool]]
) -> bool:
    # What was answered may be spelled otherwise than what is listed. JSON can escape half a
    # surrogate pair, which no journal can look for.
    hash = escaped(key.hash)
    hashes = {hash, hash.lower(), hash.upper()}
    return any([hash in transport.made or await knows(hash) for hash in hashes])


def _told_apart(
    found: Mapping[_Place, Sequence[Key]],
    asked: Mapping[_Place, Sequence[Doubt]],
    sure: Set[_Place],
    skew: Skew,
) -> tuple[dict[str, Key], dict[str, Key]]:
    """Return which keys are provably ours, and which not, by their canonical hashes."""
    ours: dict[str, Key] = {}
    unproven: dict[str, Key] = {}
    for places in _alike(found):
        keys, doubts = found[places[0]], [doubt for place in places for doubt in asked[place]]
        proven, unclear = told_apart(keys, doubts, skew) if {*places} <= sure else ([], keys)
        ours |= {canonical(key.hash): key for key in proven}
        unproven |= {canonical(key.hash): key for key in unclear}
    # The default workspace may have been asked for by its name, too: what one doubt alone would
    # prove, another can make unclear.
    return {hash: key for hash, key in ours.items() if hash not in unproven}, unproven


def _alike(found: Mapping[_Place, Sequence[Key]]) -> Iterable[Sequence[_Place]]:
    """Put places together that show the same keys: the default workspace has a name, too."""
    alike: dict[tuple[str, Set[str]], list[_Place]] = defaultdict(list)
    for place, keys in found.items():
        alike[place[1], frozenset(canonical(key.hash) for key in keys)].append(place)
    return alike.values()


def _as_seen(listed: Key, looks: Mapping[str, Ok[Key] | Err]) -> Key:
    """Return a key as a look at it showed it, under the hash that was listed."""
    look = looks.get(listed.hash)
    return evolve(look.value, hash=listed.hash) if isinstance(look, Ok) else listed


@frozen
class _Listed:
    """What lists show.

    Attributes:
        begins: before what time no key can be ours, by the workspace and the name asked for.
        found: every key that a doubt may be about, by the same.
        all: all keys that are listed, by the workspace.
        hashes: the canonical hashes of all keys that are listed.
        incomplete: the workspaces whose list is not proven to be whole, each with the reason.
        unread: hashes that answers gave, with their places, whose keys could not be looked at.
    """

    begins: Mapping[_Place, datetime]
    found: dict[_Place, list[Key]] = field(factory=lambda: defaultdict[_Place, list[Key]](list))
    all: dict[str | None, Collection[Key]] = field(factory=dict[str | None, Collection[Key]])
    hashes: set[str] = field(factory=set[str])
    incomplete: dict[str | None, str] = field(factory=dict[str | None, str])
    unread: dict[tuple[_Place, str], str] = field(factory=dict[tuple[_Place, str], str])

    def add(self, place: _Place, key: Key) -> None:
        """Add a key, unless it is older than every create of its place."""
        if key.created_at >= self.begins[place]:
            self.found[place].append(key)


async def _list(
    lister: Lister, begins: Mapping[_Place, datetime], known: Known, reach: timedelta
) -> _Listed:
    """List each workspace of the doubts; nothing is changed before all is seen."""
    listed = _Listed(begins)
    for workspace_id in {workspace_id for workspace_id, _ in begins}:
        earliest = min(time for (of, _), time in begins.items() if of == workspace_id)
        since = moved(earliest, -reach)
        listing = await lister.list(workspace_id, since, await known(workspace_id, since))
        if listing.problem is not None:
            listed.incomplete[workspace_id] = listing.problem
        listed.all[workspace_id] = listing.keys.values()
        listed.hashes.update(listing.keys)
        names = Names([name for of, name in begins if of == workspace_id], listing.keys.values())
        for key in listing.keys.values():
            for name in names.meant_by(key.name):
                listed.add((workspace_id, name), key)
    return listed


async def _add_given(
    lister: Lister, asked: Mapping[_Place, Sequence[Doubt]], listed: _Listed
) -> None:
    """Add keys whose hashes answers gave without their secrets: a list may not have them yet."""
    given = {(place, one.given) for place, doubts in asked.items() for one in doubts if one.given}
    found = {canonical(key.hash) for keys in listed.found.values() for key in keys}
    unseen = [(place, hash) for place, hash in given if canonical(hash) not in found]
    looks = await _look_at_all(lister, [hash for _, hash in unseen])
    for place, hash in unseen:
        look = looks[hash]
        if isinstance(look, Ok):
            listed.add(place, look.value)
        elif not _is_missing(look):
            listed.unread[place, hash] = escaped(str(look.error))


async def _look_at_all(lister: Lister, hashes: Sequence[str]) -> dict[str, Ok[Key] | Err]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def look(hash: str) -> Ok[Key] | Err:
        async with gate:
            return await attempt(lister.look(hash))

    return dict(zip(hashes, await asyncio.gather(*map(look, hashes)), strict=True))


def _is_missing(look: Ok[Key] | Err) -> bool:
    return isinstance(look, Err) and is_api_404(look.error)


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


async def _unlisted(missing: Set[str], listing: Awaitable[_Listed]) -> Set[str]:
    """Return which keys the list, which had them a moment ago, does not have any more."""
    listed = await attempt(listing)
    if isinstance(listed, Err) or listed.value.incomplete:
        why: object = (
            listed.error if isinstance(listed, Err) else [*listed.value.incomplete.values()]
        )
        _log.warning("the keys %s may be left over: %s", escaped(", ".join(missing)), why)
        return frozenset()
    still = missing & listed.value.hashes
    for hash in still:
        text = "the key %s is left over: the list shows it, and no look or delete finds it"
        _log.warning(text, escaped(hash))
    return missing - still


async def removed(
    transport: Transport, hash: str, options: RequestOptions | None = None
) -> Removal | None:
    """Delete a key whose secret is lost, and log the outcome; None: it may be there.

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
        _log.warning(_LEFT_OVER, escaped(hash), error)
        return None
    if removal is Removal.DELETED:
        _log.info("the key %s was deleted: a create without an answer had made it", escaped(hash))
    return removal
