"""The keys of an account that no journal knows: found, looked at once more, disabled, deleted.

The list comes first, then the journals: the intent of each create is in a journal before the
service can have made its key, so that a key that is listed is known, or in doubt by its name.
"""

import inspect
from collections.abc import Sequence
from typing import Final, TypeVar

import anyio
from attrs import evolve

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys._protocol.drift import unchanged
from openrouter_keys._reconcile.absence import not_gone
from openrouter_keys._reconcile.listing import Lister
from openrouter_keys._transport.deletion import Removal, remove
from openrouter_keys._transport.transport import Transport
from openrouter_keys.errors import (
    ForbiddenResponseError,
    JournalError,
    OpenRouterError,
    QuotaExhaustedError,
    ResponseValidationError,
    UnauthorizedResponseError,
)
from openrouter_keys.models import Key, UpdateKeysRequest
from openrouter_keys.operations import Operation, current, update
from openrouter_keys.provisioning.context import clock_of, limiter_of
from openrouter_keys.results import Ok, attempt
from openrouter_keys.sweeping.known import Journals, opened
from openrouter_keys.sweeping.report import SweepReport, SweptKey, is_unused
from openrouter_keys.sweeping.settings import SweepSettings

R = TypeVar("R")

#: What fails for one key would fail for all.
_FOR_ALL: Final = (
    UnauthorizedResponseError, ForbiddenResponseError, QuotaExhaustedError, JournalError,
)  # fmt: skip
_DOUBTFUL: Final = "a create of the ref {!r} that is not settled may have made it"
_OWN: Final = "it may be the management key itself: it has its label"
_KNOWN: Final = "a journal knows it now"
_GONE: Final = "it is gone already"
_USED: Final = "it was used just before it was disabled, and is enabled again"


async def sweep(transport: Transport, settings: SweepSettings) -> SweepReport:
    """Find the keys that no journal knows; see `AsyncOpenRouter.sweep`."""
    transport.ready()
    async with opened(settings.journals, transport.options.server_url) as journals:
        call = _Sweep(transport, settings, journals)
        report = await call.look()
        if settings.action is None or not report.keys:
            return report
        if settings.approve is not None:
            approved = settings.approve(report.keys)
            if not (await approved if inspect.isawaitable(approved) else approved):
                return report
        keys, stopped = await call.act(report.keys)
        return evolve(report, keys=keys, stopped=stopped)


class _Sweep:
    """One call.

    Args:
        transport: the client's.
        settings: the caller's.
        journals: open ones.
    """

    def __init__(self, transport: Transport, settings: SweepSettings, journals: Journals) -> None:
        self._transport, self._settings, self._journals = transport, settings, journals
        self._clock = clock_of(transport)
        self._lister = Lister(transport, self._clock, settings.options)
        self._limiter = limiter_of(transport, settings)
        self._stopped: OpenRouterError | None = None

    async def look(self) -> SweepReport:
        """Find the keys."""
        own = await self._transport.own_hash()
        label = (await self._perform(current())).data.label
        keys = await self._lister.every(self._settings.workspace_id)
        keys.pop(canonical(own), None)
        await self._journals.belong_to(keys, are_default=self._settings.workspace_id is None)
        doubtful = await self._journals.doubtful(keys)
        known = await self._journals.known(keys)
        found, in_doubt, others, now = list[SweptKey](), list[SweptKey](), 0, self._clock.now()
        for hash, key in keys.items():
            if hash in known:
                continue
            if not self._settings.asks_for(key, now):
                others += 1
            elif key.label == label:
                in_doubt.append(SweptKey(data=key, problem=_OWN))
            elif hash in doubtful:
                in_doubt.append(SweptKey(data=key, problem=_DOUBTFUL.format(doubtful[hash])))
            else:
                found.append(SweptKey(data=key))
        return SweepReport(
            keys=tuple(found), in_doubt=tuple(in_doubt), known=len(known), others=others
        )

    # --- what is done ---

    async def act(
        self, found: Sequence[SweptKey]
    ) -> tuple[tuple[SweptKey, ...], OpenRouterError | None]:
        """Disable or delete keys, many at once; return each, and what ended it early."""
        came, waiting = [*found], iter(enumerate(found))

        async def work() -> None:
            for place, key in waiting:
                came[place] = await self._swept(key)
                if self._stopped is not None:
                    return

        async with anyio.create_task_group() as group:
            for _ in range(min(self._settings.concurrency, len(found))):
                group.start_soon(work)
        return tuple(came), self._stopped

    async def _swept(self, key: SweptKey) -> SweptKey:
        done = await attempt(self._sweep(key.data))
        if isinstance(done, Ok):
            return done.value
        if isinstance(done.error, _FOR_ALL):
            self._stopped = self._stopped or done.error
        return evolve(key, outcome="kept", problem=str(done.error))

    async def _sweep(self, listed: Key) -> SweptKey:
        """Look at a key once more, disable it, and delete it if that is asked for."""
        key = await self._fresh(listed.hash)
        if key is None:
            return SweptKey(data=listed, outcome="kept", problem=_GONE)
        problem = self._settings.refusal(key, self._clock.now())
        if problem is None and await self._journals.known({canonical(key.hash): key}):
            problem = _KNOWN
        if problem is not None:
            return SweptKey(data=key, outcome="kept", problem=problem)
        was_enabled = not key.disabled
        if was_enabled:
            key = await self._change(key, disabled=True)
        if self._settings.unused and not is_unused(key):
            if was_enabled:
                key = await self._change(key, disabled=False)
            return SweptKey(data=key, outcome="kept", problem=_USED)
        if self._settings.action == "disable":
            return SweptKey(data=key, outcome="disabled")
        await self._delete(key)
        return SweptKey(data=key, outcome="deleted")

    async def _fresh(self, hash: str) -> Key | None:
        """Return a key's record, as it is now; None: there is no such key."""
        async with self._limiter.turn():
            looked = await attempt(self._lister.look(hash))
        if isinstance(looked, Ok):
            return looked.value
        if is_api_404(looked.error):
            return None
        raise looked.error

    async def _change(self, key: Key, *, disabled: bool) -> Key:
        """Disable a key, or enable it; return the record that shows it."""
        request = UpdateKeysRequest(disabled=disabled)
        answer = await self._perform(update(key.hash, request))
        if (problem := unchanged(key.hash, request, answer.data)) is not None:
            raise ResponseValidationError(problem)
        return answer.data

    async def _delete(self, key: Key) -> None:
        """Delete a key, which was there a moment ago.

        Raises:
            OpenRouterError: nothing proves that it is gone; it is disabled.
        """
        if await remove(self._perform, key.hash) is Removal.DELETED:
            return
        left = await not_gone(
            self._transport, self._clock, key.workspace_id, [key.hash], is_own_account=True
        )
        for why in left.values():
            raise ResponseValidationError(why)

    async def _perform(self, operation: Operation[R]) -> R:
        async with self._limiter.turn():
            return await self._transport.perform(operation, self._settings.options)
