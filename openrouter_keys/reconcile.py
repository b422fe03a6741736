"""What became of creates that nobody answered: their keys are looked for, and deleted if provable.

No journal and no waiting: whoever asks says which keys are known, and comes when late commits have
landed.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence, Set
from contextlib import aclosing
from typing import TypeAlias, TypeVar

from attrs import field, frozen

from openrouter_keys.doubts import Doubt, told_apart
from openrouter_keys.errors import NotFoundResponseError, OpenRouterError
from openrouter_keys.models import Key
from openrouter_keys.operations import Operation, list_
from openrouter_keys.options import RequestOptions
from openrouter_keys.paging import Pager
from openrouter_keys.removal import Removal, remove
from openrouter_keys.results import Err, attempt
from openrouter_keys.service_clock import ServiceClock
from openrouter_keys.stamps import Skew, Stamp, skew_of
from openrouter_keys.transport import Transport

#: How many keys are deleted at once.
_AT_ONCE = 8

R = TypeVar("R")
_Place: TypeAlias = tuple[str | None, str]

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
        places: the workspace as it was asked for, and the hash, of each of these keys; a key's own
            `workspace_id` does not tell which it is that was left out, and may be missing.
    """

    deleted: tuple[Key, ...] = ()
    left: tuple[Key, ...] = ()
    unproven: tuple[Key, ...] = ()
    places: frozenset[tuple[str | None, str]] = field(default=frozenset(), repr=False)

    @property
    def settled(self) -> bool:
        """Whether no key is left that may have been made by these creates."""
        return not self.left and not self.unproven


async def reconcile(
    transport: Transport,
    doubts: Iterable[Doubt],
    clock: ServiceClock,
    *,
    knows: Callable[[str], Awaitable[bool]],
    stamps: Iterable[Stamp] = (),
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
        options: those of the creates; None: the client's.

    Raises:
        OpenRouterError: the keys could not be listed; nothing was deleted.
    """
    asked: dict[_Place, list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        asked[doubt.place].append(doubt)
    skew = skew_of([*stamps, *clock.stamps(transport.samples)], clock.unseen)
    candidates = await _candidates(transport, asked, clock, skew, options or {})
    # The key of a create that is under way elsewhere in this process may be listed already.
    all_known = await transport.made.all_settled()
    ours: dict[str, Key] = {}
    unproven: dict[str, Key] = {}
    places: set[tuple[str | None, str]] = set()
    for place, keys in candidates.items():
        unknown = [key for key in keys if not await _is_known(transport, key, knows)]
        proven, unclear = told_apart(unknown, asked[place], skew) if all_known else ([], unknown)
        ours |= {key.hash: key for key in proven}
        unproven |= {key.hash: key for key in unclear}
        places |= {(place[0], key.hash) for key in unknown}
    # The default workspace may have been asked for by its name, too: what one doubt alone would
    # prove, another can make unclear.
    ours = {hash: key for hash, key in ours.items() if hash not in unproven}
    removals = await _delete_all(transport, [*ours], options or {})
    gone = {hash for hash, removal in removals.items() if removal is Removal.DELETED}
    if missing := removals.keys() - gone:
        again = _candidates(transport, asked, clock, skew, options or {})
        gone |= await _unlisted(missing, again)
    return Reconciliation(
        deleted=tuple(key for hash, key in ours.items() if hash in gone),
        left=tuple(key for hash, key in ours.items() if hash not in gone),
        unproven=tuple(unproven.values()),
        places=frozenset(places),
    )


async def _is_known(
    transport: Transport, key: Key, knows: Callable[[str], Awaitable[bool]]
) -> bool:
    return key.hash in transport.made or await knows(key.hash)


async def _candidates(
    transport: Transport,
    asked: Mapping[_Place, Sequence[Doubt]],
    clock: ServiceClock,
    skew: Skew,
    options: RequestOptions,
) -> Mapping[_Place, list[Key]]:
    """Collect every key that a doubt may be about; nothing is changed before all is seen."""
    begins = {place: min(one.begins(skew) for one in doubts) for place, doubts in asked.items()}
    found: dict[_Place, list[Key]] = defaultdict(list)
    for workspace_id in {workspace_id for workspace_id, _ in asked}:
        since = min(time for (of, _), time in begins.items() if of == workspace_id)
        try:
            async with aclosing(_newest(transport, workspace_id, clock, options)) as keys:
                async for key in keys:
                    place = workspace_id, key.name
                    if key.created_at < since:
                        break
                    if place in begins and key.created_at >= begins[place]:
                        found[place].append(key)
        except NotFoundResponseError:
            if workspace_id is None:
                raise
            # A workspace that is gone took its keys along.
    return found


async def _newest(
    transport: Transport, workspace_id: str | None, clock: ServiceClock, options: RequestOptions
) -> AsyncGenerator[Key, None]:
    pager = Pager()
    while not pager.done:
        if pager.wait:
            await transport.clockwork.sleep(pager.wait)
        operation = list_(
            include_disabled=True,
            include_expired=True,
            offset=pager.offset,
            workspace_id=workspace_id,
        )
        page = await transport.perform(operation, options)
        clock.observe(page.http.headers)
        for key in pager.take(page.data):
            yield key


async def _delete_all(
    transport: Transport, hashes: Sequence[str], options: RequestOptions
) -> dict[str, Removal]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def gone(hash: str) -> Removal | None:
        async with gate:
            return await removed(transport, hash, options)

    outcomes = zip(hashes, await asyncio.gather(*map(gone, hashes)), strict=True)
    return {hash: removal for hash, removal in outcomes if removal is not None}


async def _unlisted(
    missing: Set[str], listing: Awaitable[Mapping[_Place, Sequence[Key]]]
) -> Set[str]:
    """Return which keys the list, which had them a moment ago, does not have any more."""
    listed = await attempt(listing)
    if isinstance(listed, Err):
        _log.warning("the keys %s may be left over: %s", ", ".join(missing), listed.error)
        return frozenset()
    still = {key.hash for keys in listed.value.values() for key in keys} & missing
    for hash in still:
        _log.warning("the key %s is left over: it is listed, and told to be missing", hash)
    return missing - still


async def removed(
    transport: Transport, hash: str, options: RequestOptions | None = None
) -> Removal | None:
    """Delete a key whose secret nobody holds; None: nothing proves that it is gone.

    What came of it is logged.
    """

    async def perform(operation: Operation[R]) -> R:
        return await transport.perform(operation, options or {})

    try:
        removal = await remove(perform, hash)
    except OpenRouterError as error:
        _log.warning("the key %s, whose secret nobody holds, is left over: %s", hash, error)
        return None
    if removal is Removal.DELETED:
        _log.info("the key %s was deleted: a create without an answer had made it", hash)
    return removal
