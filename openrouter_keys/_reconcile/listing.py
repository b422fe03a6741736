"""A workspace's keys, listed until it is proven that none is missing, or cannot be proven.

A list proves that a key is not there only if it is whole, and nothing in it says so. What
does: keys that must be in it, or another look that shows the same.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Final

from attrs import define, field, frozen

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._base.masking import escaped
from openrouter_keys._base.unset import left_out
from openrouter_keys._inputs.options import RequestOptions, merge_headers
from openrouter_keys._protocol.answers import is_api_404, is_cached
from openrouter_keys._protocol.paging import Pager
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.pages import PREFETCH, Pages
from openrouter_keys._transport.transport import Transport
from openrouter_keys.errors import (
    IncompleteListingError,
    NotFoundResponseError,
    ResponseValidationError,
)
from openrouter_keys.models import Key, ListResponse
from openrouter_keys.operations import get, list_
from openrouter_keys.results import Err, attempt

#: Seconds between looks; so many are made, and one more, before nothing is concluded.
WAITS: Final = (1.0, 3.0, 10.0)
#: Seconds after which no further page is asked for, at all looks of a workspace together.
LONGEST: Final = 600.0
#: So many keys in a row that are too old end a walk, if none before it was out of order.
ENOUGH_OLD: Final = 50
#: So many keys that are not listed are asked for by themselves: they may be deleted.
MOST_ASKED: Final = 20
_EVER: Final = datetime.min.replace(tzinfo=UTC)
_FRESH: Final = {"Cache-Control": "no-cache"}
_EMPTY: Final = (
    "none of the keys that were made there is found, and no key is listed: another account's list "
    "may be empty, too. If this is their account's management key, create a key there, then run "
    "again"
)
_CACHED: Final = "a cache answered in the service's place (Age: {})"


@frozen
class Listing:
    """What was listed of a workspace.

    Attributes:
        keys: all keys that any look showed, by their canonical hashes.
        problem: why some may be missing; None: it is proven that none is.
    """

    keys: Mapping[str, Key]
    problem: str | None


@define
class _Walk:
    """One look at the list, newest first.

    Attributes:
        since: what is older need not be seen.
        keys: the keys, by their canonical hashes.
        passed: whether it came to a key that is older than that, after all that are not.
    """

    since: datetime
    keys: dict[str, Key] = field(factory=dict[str, Key])
    passed: bool = False
    _old: int = 0
    _last: datetime | None = None
    _ordered: bool = True

    def add(self, key: Key) -> None:
        self.keys[canonical(key.hash)] = key
        self._ordered = self._ordered and (self._last is None or key.created_at <= self._last)
        self._last, self.passed = key.created_at, key.created_at < self.since
        self._old = self._old + 1 if self.passed else 0

    @property
    def is_over(self) -> bool:
        """Whether nothing but older keys can follow."""
        return self._ordered and self._old >= ENOUGH_OLD


def _fresh(options: RequestOptions) -> RequestOptions:
    """Return options that also ask caches not to answer."""
    given = left_out(options.get("http_headers"))
    return {**options, "http_headers": merge_headers(_FRESH, given or {})}


@define
class Lister:
    """Lists workspaces.

    Args:
        transport: what to ask.
        clock: learns the service's time from the answers.
        options: of each request.
    """

    transport: Transport
    clock: ServiceClock
    options: RequestOptions = field(converter=_fresh)

    async def list(
        self, workspace_id: str | None, since: datetime, known: Mapping[str, str | None]
    ) -> Listing:
        """List a workspace's keys, again and again while some may be missing.

        Args:
            workspace_id: the workspace; None: the default one.
            since: keys that are older need not be listed.
            known: hashes of keys that must be in it, unless they were deleted or moved, each with
                the workspace where it was made; None: not known.

        Raises:
            OpenRouterError: the service refused to list, or could not.
        """
        seen: dict[str, Key] = {}
        before: _Walk | None = None
        problem: str | None = None
        give_up = self.transport.clockwork.monotonic() + LONGEST
        for wait in (0.0, *WAITS):
            if wait:
                await self.transport.clockwork.sleep(wait)
            walk = _Walk(since)
            try:
                await self._walk(workspace_id, walk, give_up)
                problem = await self._problem(workspace_id, walk, before, known)
                before = walk
            except IncompleteListingError as error:
                problem = error.why
            except NotFoundResponseError as error:
                if workspace_id is None:
                    raise
                # It may be gone with its keys, hidden from this management key, or an error.
                problem = f"the service says that there is no such workspace ({error.message})"
            finally:
                seen |= walk.keys
            if problem is None:
                return Listing(seen, None)
        return Listing(seen, None if problem is None else escaped(problem))

    async def every(self, workspace_id: str | None) -> dict[str, Key]:
        """Go through a workspace's keys once; return them by their canonical hashes, newest first.

        The pages make up a whole list; a server that lags behind may lack the newest keys.

        Raises:
            OpenRouterError: the service refused to list, or could not.
        """
        walk = _Walk(_EVER)
        await self._walk(workspace_id, walk, math.inf)
        return walk.keys

    async def _walk(self, workspace_id: str | None, walk: _Walk, give_up: float) -> None:
        pager, most = Pager(), min(PREFETCH, self.transport.ready())
        async with Pages(partial(self.page, workspace_id), most) as pages:
            while not (pager.done or walk.is_over):
                if self.transport.clockwork.monotonic() > give_up:
                    raise pager.incomplete(f"its end did not come within {LONGEST:.0f} seconds")
                if pager.wait:
                    await self.transport.clockwork.sleep(pager.wait)
                page = await pages.next(pager)
                for key in pager.take(page.data):
                    walk.add(key)
                if is_cached(page.http.headers):
                    raise pager.incomplete(_CACHED.format(page.http.headers["Age"]))

    async def page(
        self, workspace_id: str | None, offset: int, extra: RequestOptions
    ) -> ListResponse:
        """Request a page of all keys of a workspace.

        Args:
            workspace_id: None: the default one.
            offset: how many keys it skips, newest first.
            extra: options of this request alone.
        """
        operation = list_(
            include_disabled=True, include_expired=True, offset=offset, workspace_id=workspace_id
        )
        page = await self.transport.perform(operation, {**self.options, **extra})
        self.clock.learn(page.http)  # at once: the walk may get to this page later
        return page

    async def _problem(
        self,
        workspace_id: str | None,
        walk: _Walk,
        before: _Walk | None,
        known: Mapping[str, str | None],
    ) -> str | None:
        """Return why keys may be missing on a walk; None: something proves that none is."""
        listed = {hash for hash in known if canonical(hash) in walk.keys}
        missing = {hash: home or workspace_id for hash, home in known.items() if hash not in listed}
        hidden = await self._hidden(missing)
        if hidden is not None:
            return f"the key {hidden} is there, and is not listed"
        if walk.passed and listed:
            return None
        if before is None:
            return "one look alone proves nothing"
        return await self._change(workspace_id, walk, before) or (
            None if self._is_own(workspace_id, walk, known) else _EMPTY
        )

    async def _change(self, workspace_id: str | None, walk: _Walk, before: _Walk) -> str | None:
        """Return how two looks contradict each other; None: they do not."""
        newest = max((key.created_at for key in before.keys.values()), default=None)
        for hash, key in walk.keys.items():
            # Whole seconds make many keys as new as the newest.
            made_meanwhile = newest is not None and key.created_at >= newest
            if hash not in before.keys and not made_meanwhile:
                return f"the key {hash} was not listed at first"
        gone = {
            key.hash: key.workspace_id or workspace_id
            for hash, key in before.keys.items()
            if hash not in walk.keys
        }
        hidden = await self._hidden(gone)
        return None if hidden is None else f"the key {hidden} is there, and is listed no more"

    def _is_own(
        self, workspace_id: str | None, walk: _Walk, known: Mapping[str, str | None]
    ) -> bool:
        """Whether nothing suggests that the list is another account's: that may be empty, too."""
        at_home = any(is_at_home(key, workspace_id) for key in walk.keys.values())
        # What this client made is in its own account.
        return at_home or not known or bool(known.keys() & self.transport.recent.keys())

    async def _hidden(self, homes: Mapping[str, str | None]) -> str | None:
        """Return one of these keys that is where it was; of many, some are asked for.

        Args:
            homes: their hashes, each with its workspace. What else is listed proves nothing: a
                list of another workspace shows only keys of that one.
        """
        for hash, home in islice(homes.items(), MOST_ASKED):
            found = await attempt(self.look(hash))
            if isinstance(found, Err):
                gone = is_api_404(found.error)
            else:
                # Moved to another workspace, or over: not every service lists expired keys.
                gone = _differ(home, found.value.workspace_id) or self._is_over(found.value)
            if not gone:
                return hash
        return None

    def _is_over(self, key: Key) -> bool:
        return isinstance(key.expires_at, datetime) and key.expires_at <= self.clock.now()

    async def look(self, hash: str) -> Key:
        """Return one key's record, as the service has it now."""
        # What can be no hash is refused here, where it is an error like any other.
        answer = await self.transport.perform(get(hash), self.options)
        if is_cached(answer.http.headers):
            raise ResponseValidationError(_CACHED.format(answer.http.headers["Age"]))
        return answer.data


def is_at_home(key: Key, workspace_id: str | None) -> bool:
    """Whether a key that is listed shows that the list is of this workspace."""
    if workspace_id is None or key.workspace_id is None:
        return True  # neither can show it
    return canonical(key.workspace_id) == canonical(workspace_id)


def _differ(home: str | None, now: str | None) -> bool:
    """Whether a key was moved."""
    return bool(home and now) and canonical(str(home)) != canonical(str(now))
