"""Requests the pages of a list, some of them before the walk gets to them. It judges no page.

`Pager` does: it joins pages by what they hold, not by when they were requested.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Self, TypeAlias

from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys._protocol.paging import Pager
from openrouter_keys.models import ListResponse
from openrouter_keys.results import Err, Ok, attempt

#: How many pages may be under way at once, unless a caller sets it.
PREFETCH: Final = 8
#: Requests the page at an offset, with these options besides its own.
Ask: TypeAlias = Callable[[int, RequestOptions], Awaitable[ListResponse]]

# A page ahead may never be needed. If it fails, the walk requests it once it gets there, and
# retries then: so retries do not multiply by the pages that are under way.
_ONCE: Final[RequestOptions] = {"retries": RetryConfig("none")}
_SLOW_DOWN: Final = (429, 503)


class Pages:
    """The pages that a walk needs, each requested when it is needed or before.

    The first page is requested alone. After it, two pages are requested at once, then four, and so
    on up to the most; from then on, one more for each that is used. This begins again with one page
    after anything that was not expected: a page that is not full or has no new key, or one ahead
    that failed, or does not fit once the walk gets to it. Then that page is requested again.

    The end of the `async with` block cancels what is under way.

    Args:
        ask: requests a page.
        most: how many pages may be under way at once, at least 1.
    """

    def __init__(self, ask: Ask, most: int) -> None:
        self._ask = ask
        self._most = most
        self._at_once = 0
        self._ahead: dict[int, asyncio.Task[Ok[ListResponse] | Err]] = {}
        self._ending: set[asyncio.Task[Ok[ListResponse] | Err]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._drop()
        cancelled: asyncio.CancelledError | None = None
        while self._ending:
            try:
                await asyncio.wait(self._ending)
            except asyncio.CancelledError as again:
                cancelled = again
        if cancelled is not None:
            raise cancelled

    async def next(self, pager: Pager) -> ListResponse:
        """Return the page that a walk needs next.

        Raises:
            OpenRouterError: it could not be listed. What became of pages after it is not raised.
        """
        early = self._ahead.pop(pager.offset, None) if pager.full else None
        if early is None:
            self._begin(pager)
            return await self._ask(pager.offset, {})
        if self._at_once == self._most and self._goes_on(pager):
            self._request(pager)
        outcome = await early
        if isinstance(outcome, Ok) and pager.fits(outcome.value.data):
            return outcome.value
        self._slow_down(outcome)
        return await self._ask(pager.offset, {})

    def _begin(self, pager: Pager) -> None:
        """Begin another round: pages that are all used before more are requested."""
        doubles = pager.is_gaining and not self._ahead
        self._at_once = min(2 * self._at_once, self._most) if doubles else 1
        self._drop()
        self._request(pager)

    def _goes_on(self, pager: Pager) -> bool:
        """Whether the pages that have come ahead of the walk show no end of the list."""
        outcomes = (task.result() for task in self._ahead.values() if task.done())
        return pager.is_gaining and all(
            isinstance(each, Ok) and len(each.value.data) >= pager.full for each in outcomes
        )

    def _request(self, pager: Pager) -> None:
        while len(self._ahead) < self._at_once - 1:
            offset = max(self._ahead, default=pager.offset) + pager.stride
            self._ahead[offset] = asyncio.create_task(self._ask_once(offset))

    async def _ask_once(self, offset: int) -> Ok[ListResponse] | Err:
        return await attempt(self._ask(offset, _ONCE))

    def _slow_down(self, outcome: Ok[ListResponse] | Err) -> None:
        """Request no more pages ahead before those that are under way are used.

        If the service asked to slow down, half as many as now are the most from then on.
        """
        refused = isinstance(outcome, Err) and outcome.error.status_code in _SLOW_DOWN
        if refused and self._at_once > 1:
            self._most = self._at_once // 2
        self._at_once = 1

    def _drop(self) -> None:
        for task in self._ahead.values():
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        self._ahead.clear()
