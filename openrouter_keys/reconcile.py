"""What became of creates that nobody answered: their keys are looked for, and deleted if provable.

No journal and no waiting: whoever asks says which keys are known, and comes when late commits have
landed.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

from attrs import field, frozen

from openrouter_keys.agreement import disagreements
from openrouter_keys.errors import NotFoundResponseError, OpenRouterError
from openrouter_keys.models import CreateKeysRequest, Key
from openrouter_keys.operations import delete, list_
from openrouter_keys.paging import Pager
from openrouter_keys.service_clock import MARGIN, ServiceClock
from openrouter_keys.transport import Transport

#: How many keys are deleted at once.
_AT_ONCE = 8

_log = logging.getLogger("openrouter_keys")


@frozen(kw_only=True)
class Doubt:
    """Creates of one key that were never answered.

    Attributes:
        request: what was asked for.
        since: when the first of them was sent, by the service's clock.
        until: when the last of them can have been carried out, by the same clock.
        creates: how many they are.
    """

    request: CreateKeysRequest = field(repr=False)
    since: datetime
    until: datetime
    creates: int = 1

    @property
    def place(self) -> tuple[str | None, str]:
        """The workspace and the name, by which its keys are looked for."""
        return self.request.workspace_id, self.request.name

    def proves(self, key: Key) -> bool:
        """Whether a key of its name, that nobody else is known to have made, is one of its own."""
        return (
            _within(self, key)
            and not _is_used(key)
            and not disagreements(self.request, key)
        )  # fmt: skip


@frozen(kw_only=True)
class Reconciliation:
    """What a look at the service's keys brought to light.

    Attributes:
        deleted: keys that were provably made by creates without an answer, and were deleted:
            nobody holds their secrets.
        left: such keys that could not be deleted.
        unproven: keys that may have been made so, and are not deleted: used already, changed, made
            too late, or more of them than there were creates.
    """

    deleted: tuple[Key, ...] = ()
    left: tuple[Key, ...] = ()
    unproven: tuple[Key, ...] = ()

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
) -> Reconciliation:
    """Look for the keys of creates without an answer, then delete those that are provably theirs.

    One pass settles any number of doubts. It begins once late commits have landed, and while none
    of these creates is under way.

    Args:
        transport: what to ask and to delete with.
        doubts: the creates.
        clock: learns the service's time from the answers.
        knows: whether a key with this hash is known to have been answered for.

    Raises:
        OpenRouterError: the keys could not be listed; nothing was deleted.
    """
    asked: dict[tuple[str | None, str], list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        asked[doubt.place].append(doubt)
    candidates = await _candidates(transport, asked, clock, knows)
    ours: list[Key] = []
    unproven: list[Key] = []
    for place, keys in candidates.items():
        proven, unclear = _told_apart(keys, asked[place])
        ours += proven
        unproven += unclear
    deleted, left = await _delete_all(transport, ours)
    return Reconciliation(deleted=deleted, left=left, unproven=tuple(unproven))


async def _candidates(
    transport: Transport,
    asked: Mapping[tuple[str | None, str], Sequence[Doubt]],
    clock: ServiceClock,
    knows: Callable[[str], Awaitable[bool]],
) -> Mapping[tuple[str | None, str], list[Key]]:
    """Collect every key that a doubt may be about; nothing is changed before all is seen."""
    found: dict[tuple[str | None, str], list[Key]] = defaultdict(list)
    for workspace_id in {workspace_id for workspace_id, _ in asked}:
        begins = min(
            doubt.since
            for (place, _), doubts in asked.items()
            if place == workspace_id
            for doubt in doubts
        )
        async with aclosing(_newest(transport, workspace_id, begins - _MARGIN, clock)) as keys:
            async for key in keys:
                place = workspace_id, key.name
                if place in asked and _is_young(key, asked[place]) and not await knows(key.hash):
                    found[place].append(key)
    return found


async def _newest(
    transport: Transport, workspace_id: str | None, since: datetime, clock: ServiceClock
) -> AsyncGenerator[Key, None]:
    pager = Pager()
    while not pager.done:
        operation = list_(
            include_disabled=True,
            include_expired=True,
            offset=pager.offset,
            workspace_id=workspace_id,
        )
        page = await transport.perform(operation, {})
        clock.observe(page.http.headers)
        for key in pager.take(page.data):
            if key.created_at < since:
                return
            yield key


_MARGIN = timedelta(seconds=MARGIN)


def _is_young(key: Key, doubts: Sequence[Doubt]) -> bool:
    return any(key.created_at >= doubt.since - _MARGIN for doubt in doubts)


def _within(doubt: Doubt, key: Key) -> bool:
    return doubt.since - _MARGIN <= key.created_at <= doubt.until + _MARGIN


def _is_used(key: Key) -> bool:
    return bool(key.usage or key.byok_usage) or isinstance(key.last_used_at, datetime)


def _told_apart(keys: Sequence[Key], doubts: Sequence[Doubt]) -> tuple[list[Key], list[Key]]:
    """Return which keys of a name are ours, and which may be."""
    proven = [any(doubt.proves(key) for doubt in doubts) for key in keys]
    if sum(proven) > sum(doubt.creates for doubt in doubts):
        return [], [*keys]  # somebody else made some of them, and nobody can say which
    ours = [key for key, is_ours in zip(keys, proven, strict=True) if is_ours]
    return ours, [key for key, is_ours in zip(keys, proven, strict=True) if not is_ours]


async def _delete_all(
    transport: Transport, keys: Sequence[Key]
) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def gone(key: Key) -> bool:
        async with gate:
            return await is_deleted(transport, key.hash)

    outcomes = await asyncio.gather(*map(gone, keys))
    by_outcome = [*zip(keys, outcomes, strict=True)]
    return (
        tuple(key for key, deleted in by_outcome if deleted),
        tuple(key for key, deleted in by_outcome if not deleted),
    )


async def is_deleted(transport: Transport, hash: str) -> bool:
    """Delete a key whose secret nobody holds; False: it could not be, which is logged."""
    try:
        await transport.perform(delete(hash), {})
    except NotFoundResponseError:
        pass
    except OpenRouterError as error:
        _log.warning("the key %s, whose secret nobody holds, is left over: %s", hash, error)
        return False
    _log.info("the key %s was deleted: a create without an answer had made it", hash)
    return True
