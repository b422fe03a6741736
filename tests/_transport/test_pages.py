"""Pages that are requested before the walk gets to them: nothing is lost, and little is wasted."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from datetime import timedelta
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from openrouter_keys import AsyncAPIKeys, AsyncOpenRouter, OpenRouter
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._protocol.paging import Pager
from openrouter_keys._transport.pages import PREFETCH, Pages
from openrouter_keys.emulator import Emulator, Fault, RateLimit
from openrouter_keys.errors import (
    ClientStateError,
    IncompleteListingError,
    InternalServerResponseError,
    InvalidArgumentError,
    NoResponseError,
    NotFoundResponseError,
    OpenRouterError,
    TooManyRequestsResponseError,
)
from openrouter_keys.models import Key, ListResponse
from tests._protocol.test_paging import (
    CHURN,
    QUIET,
    SLIPS,
    Change,
    Shelf,
    Slipping,
    assert_complete,
)
from tests.clients import FakeTime, api_keys, until
from tests.records import patient
from tests.tables import in_one_test
from tests.virtual_time import run as run_in_virtual_time

LATENCY = 0.05
AT_ONCE = repeat(0)
#: Never more than so many requests for each page that a walk takes.
MOST_A_PAGE = 4


class Service:
    """Answers with the pages of a shelf, each after some turns of the loop.

    Args:
        shelf: what is listed.
        turns: how many turns pass before each look at the shelf and after it.
    """

    def __init__(self, shelf: Shelf, turns: Iterator[int] = AT_ONCE) -> None:
        self.shelf = shelf
        self.asked: list[int] = []
        self.taken = 0
        self.under_way = self.most_under_way = 0
        self._turns = turns

    async def ask(self, offset: int, options: RequestOptions) -> ListResponse:
        assert {*options} <= {"retries"}
        self.asked.append(offset)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self._pass()
            page = self.shelf.page(offset)
            await self._pass()
        finally:
            self.under_way -= 1
        return ListResponse(data=page)

    async def _pass(self) -> None:
        for _ in range(next(self._turns, 0)):
            await asyncio.sleep(0)

    async def walk(self, most: int) -> list[Key]:
        found: list[Key] = []
        pager = Pager()
        async with Pages(self.ask, most) as pages:
            while not pager.done:
                page = await pages.next(pager)
                self.taken += 1
                found += pager.take(page.data)
        assert self.under_way == 0
        assert len(asyncio.all_tasks()) == 1
        return found


#: In whatever order pages are looked up, and in whatever order they come.
TURNS = st.lists(st.integers(0, 6), max_size=40)


#: What happens between two looks: often nothing, at times much, and mostly to the newest keys.
RUSH = st.lists(
    st.one_of(
        st.just(QUIET),
        st.tuples(st.integers(0, 12), st.lists(st.integers(0, 200), max_size=5)),
        st.tuples(st.just(0), st.integers(5, 25).map(lambda count: [0] * count)),
    ),
    max_size=20,
)


@pytest.mark.slow
@settings(patient, max_examples=100)
@given(
    size=st.integers(0, 160),
    per_page=st.integers(2, 40),
    churn=RUSH,
    turns=TURNS,
    most=st.integers(1, 12),
)
def test_a_key_that_stays_comes_exactly_once_however_early_pages_are_requested(
    size: int, per_page: int, churn: list[Change], turns: list[int], most: int
) -> None:
    service = Service(Shelf(size, per_page, churn), iter(turns))
    assert_complete(service.shelf, asyncio.run(service.walk(most)))
    assert service.most_under_way <= most
    assert len(service.asked) <= MOST_A_PAGE * service.taken


@pytest.mark.slow
@settings(patient, max_examples=15)
@given(deleted=st.integers(0, 30), made=st.integers(0, 30), turns=TURNS)
def test_a_list_that_never_rests_costs_no_more_than_four_requests_a_page(
    deleted: int, made: int, turns: list[int]
) -> None:
    change: Change = (made, [17 * place for place in range(deleted)])
    service = Service(Shelf(1500, 100, [change] * 150), iter(turns))
    with suppress(IncompleteListingError):
        assert_complete(service.shelf, asyncio.run(service.walk(PREFETCH)))
    assert len(service.asked) <= MOST_A_PAGE * service.taken


@pytest.mark.slow
@settings(patient, max_examples=50)
@given(
    size=st.integers(100, 450),
    churn=CHURN,
    slips=st.lists(SLIPS, max_size=9).map(lambda slips: ["whole", *slips]),
    turns=TURNS,
)
def test_a_walk_ahead_ends_with_every_key_that_stays_or_says_that_it_did_not(
    size: int, churn: list[Change], slips: list[str | int], turns: list[int]
) -> None:
    shelf = Slipping(size, churn, slips)
    try:
        found = asyncio.run(Service(shelf, iter(turns)).walk(PREFETCH))
    except IncompleteListingError:
        return
    pages = zip(shelf.given, shelf.pages, strict=True)
    cuts = {page[-1].hash for page, whole in pages if page and [page[-1].hash] != whole[-1:]}
    if cuts & {whole[-1] for whole in shelf.pages if whole}:
        reject()  # cut right behind a page's last key, it looks like the list's end
    assert_complete(shelf, found)


@in_one_test("most", [1, 2, 3, 5, 8, 100])
@in_one_test("size, per_page", [(0, 100), (1, 100), (99, 100), (100, 100), (191, 100), (1000, 100)])
def test_a_list_that_nobody_changes_costs_few_more_requests(
    size: int, per_page: int, most: int
) -> None:
    one_by_one, ahead = Service(Shelf(size, per_page)), Service(Shelf(size, per_page))
    assert asyncio.run(one_by_one.walk(1)) == asyncio.run(ahead.walk(most)) == ahead.shelf.keys
    assert len(ahead.asked) - len(one_by_one.asked) < min(most, len(one_by_one.asked))
    assert len(one_by_one.asked) == one_by_one.taken == ahead.taken
    assert size >= 100 or ahead.asked == one_by_one.asked


@in_one_test("deleted", [10, 15, 40, 90])
@in_one_test("look", [1, 2, 4, 8, 12])
def test_no_key_is_lost_between_two_pages_of_which_one_was_requested_ahead(
    look: int, deleted: int
) -> None:
    churn = [*[QUIET] * look, (0, [0] * deleted)]
    service = Service(Shelf(2500, 100, churn))
    assert_complete(service.shelf, asyncio.run(service.walk(PREFETCH)))


def test_a_page_that_came_too_early_is_no_sign_of_a_service_that_slips() -> None:
    # The third page is looked up first; then twelve keys are made; then the second page is.
    churn: list[Change] = [(0, []), (12, [])]
    service = Service(Shelf(300, 100, churn), iter([0, 0, 5, 0]))
    assert_complete(service.shelf, asyncio.run(service.walk(2)))
    # Requested again at its own offset; the end is no more in doubt than ever.
    assert service.asked == [0, 91, 182, 182, 273, 303]


class Distant(Service):
    """Answers after the latency of a network."""

    async def ask(self, offset: int, options: RequestOptions) -> ListResponse:
        await asyncio.sleep(LATENCY)
        return await super().ask(offset, options)

    async def seconds(self, most: int) -> float:
        begun = asyncio.get_running_loop().time()
        assert await self.walk(most) == self.shelf.keys
        return asyncio.get_running_loop().time() - begun


@pytest.mark.slow
def test_ten_thousand_keys_take_a_sixth_of_the_time_and_hardly_more_requests() -> None:
    one_by_one, ahead = Distant(Shelf(10_000, 100)), Distant(Shelf(10_000, 100))
    slow = run_in_virtual_time(one_by_one.seconds(1))
    assert slow >= 6 * run_in_virtual_time(ahead.seconds(PREFETCH))
    assert len(ahead.asked) <= 1.1 * len(one_by_one.asked)


@pytest.fixture
def apart() -> Iterator[Emulator]:
    """An emulator in a thread of its own."""
    with Emulator() as emulator:
        yield emulator


# --- errors, and a service that asks to slow down ---

FAILURES: dict[str, Callable[[], OpenRouterError]] = {
    "429": lambda: refused(TooManyRequestsResponseError, 429),
    "500": lambda: refused(InternalServerResponseError, 500),
    "503": lambda: refused(InternalServerResponseError, 503),
    "404": lambda: refused(NotFoundResponseError, 404),
    "no answer": lambda: NoResponseError("no answer came"),
}


def refused(kind: type[OpenRouterError], status: int) -> OpenRouterError:
    error = kind.__new__(kind)
    OpenRouterError.__init__(error, "refused")
    error.status_code = status
    return error


class Failing(Service):
    """Fails wherever a test wants, for pages ahead or for all."""

    def __init__(self, fails: Callable[[int, bool], bool], error: OpenRouterError) -> None:
        super().__init__(Shelf(2000, 100), repeat(2))
        self.once: list[int] = []
        self._fails, self._error = fails, error

    async def ask(self, offset: int, options: RequestOptions) -> ListResponse:
        page = await super().ask(offset, options)
        is_ahead = "retries" in options
        self.once += [offset] * is_ahead
        if self._fails(offset, is_ahead):
            raise self._error
        return page


@in_one_test("failure", FAILURES.values(), ids=FAILURES)
def test_a_page_ahead_that_fails_is_requested_again_when_it_has_its_turn(
    failure: Callable[[], OpenRouterError],
) -> None:
    service = Failing(lambda offset, is_ahead: is_ahead and offset % 3 == 0, failure())
    assert asyncio.run(service.walk(PREFETCH)) == service.shelf.keys
    assert service.once
    assert len(service.asked) <= 2 * service.taken


@in_one_test("failure", FAILURES.values(), ids=FAILURES)
def test_an_error_is_raised_after_the_keys_of_the_pages_before_it(
    failure: Callable[[], OpenRouterError],
) -> None:
    service = Failing(lambda offset, _: offset >= 910, failure())
    found: list[Key] = []

    async def walk() -> None:
        pager = Pager()
        async with Pages(service.ask, PREFETCH) as pages:
            while not pager.done:
                found.extend(pager.take((await pages.next(pager)).data))

    with pytest.raises(type(failure())):
        asyncio.run(walk())
    assert found == service.shelf.keys[:919]
    assert max(service.asked) <= 910 + 91 * (PREFETCH - 1)
    assert service.under_way == 0


def test_a_walk_that_is_asked_to_slow_down_ends_page_by_page() -> None:
    service = Failing(lambda _, is_ahead: is_ahead, FAILURES["429"]())
    assert asyncio.run(service.walk(PREFETCH)) == service.shelf.keys
    assert service.once == [182]  # of two pages at once; then one


async def test_a_pause_of_the_service_stops_the_pages_ahead(apart: Emulator) -> None:
    fill(apart, 1500)
    apart.faults.append(Fault("list", status=429, skip=4, times=1, headers={"Retry-After": "7"}))
    seen: list[int] = []
    fake_time = FakeTime(on_sleep=lambda _: seen.append(len(apart.requests)))
    async with api_keys(apart.base_url, apart.api_key, fake_time) as keys:
        found = [key.hash async for key in keys.iterate()]
    assert found == [*reversed(apart.account.keys)]
    assert sum(fake_time.slept) > 6.5
    # Those that were under way, and none during the pause.
    assert {*seen} == {seen[0]}
    assert seen[0] <= 7


async def test_a_rate_limit_refuses_few_pages(apart: Emulator) -> None:
    fill(apart, 3000)
    fake_time = FakeTime()
    begun = apart.account.clock()
    monotonic = fake_time.monotonic()

    def clock() -> Any:
        return begun + timedelta(seconds=fake_time.monotonic() - monotonic)

    apart.account.clock = clock
    apart.rate_limit = RateLimit(10, 4)
    async with api_keys(apart.base_url, apart.api_key, fake_time) as keys:
        assert len([key async for key in keys.iterate()]) == 3000
    refusals = sum(request.status == 429 for request in apart.requests)
    assert refusals <= 30


# --- the caller stops ---


def fill(emulator: Emulator, count: int) -> None:
    for _ in range(count):
        emulator.account.add()


async def stop_after(keys: AsyncAPIKeys, count: int) -> None:
    async with aclosing(keys.iterate()) as every:
        async for _ in every:
            count -= 1
            if not count:
                return


@pytest.mark.slow
@pytest.mark.parametrize(("count", "most"), [(1, 1), (100, 1), (101, 3), (300, 7), (900, 22)])
async def test_a_caller_that_stops_leaves_no_task_and_no_request(
    count: int, most: int, apart: Emulator
) -> None:
    fill(apart, 3000)
    apart.latency = LATENCY
    async with AsyncOpenRouter(apart.api_key, server_url=apart.base_url) as client:
        await stop_after(client.api_keys, count)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await client.api_keys.list()  # by then what was sent has arrived
        seen = len(apart.requests)
        assert seen <= most + 1
        await client.api_keys.list()
        assert len(apart.requests) == seen + 1


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, 3, 8])
async def test_a_caller_that_is_cancelled_leaves_no_task(turn: int, apart: Emulator) -> None:
    fill(apart, 3000)
    apart.latency = LATENCY
    async with AsyncOpenRouter(apart.api_key, server_url=apart.base_url) as client:
        walk = asyncio.create_task(stop_after(client.api_keys, 3000))
        await until(lambda: len(apart.requests) > turn)
        walk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await walk
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["close", "drop", "leave"])
def test_a_blocking_caller_that_stops_leaves_no_request(how: str, apart: Emulator) -> None:
    fill(apart, 3000)
    apart.latency = LATENCY
    with OpenRouter(apart.api_key, server_url=apart.base_url) as client:
        every = iter(client.api_keys.iterate())
        for _ in range(150):
            next(every)
        if how == "close":
            every.close()  # type: ignore[attr-defined]  # a generator
        elif how == "drop":
            del every
        if how != "leave":
            client.api_keys.list()
    assert len(apart.requests) <= 4


# --- the argument ---


@in_one_test("prefetch", [0, -1, 1.5, True, "8", None])
def test_a_prefetch_that_is_no_count_is_refused(prefetch: Any) -> None:
    with (
        OpenRouter("key", server_url="http://localhost:1") as client,
        pytest.raises(InvalidArgumentError, match="prefetch"),
    ):
        next(client.api_keys.iterate(prefetch=prefetch))


@pytest.mark.slow
@pytest.mark.parametrize(("prefetch", "max_connections", "most"), [(1, 9, 1), (9, 2, 2), (3, 9, 3)])
async def test_as_many_pages_are_under_way_as_a_caller_and_the_connections_allow(
    prefetch: int, max_connections: int, most: int, apart: Emulator
) -> None:
    fill(apart, 1500)
    apart.latency = LATENCY / 5
    async with AsyncOpenRouter(
        apart.api_key, server_url=apart.base_url, max_connections=max_connections
    ) as client:
        async for _ in client.api_keys.iterate(prefetch=prefetch):
            pass
    assert len({request.connection for request in apart.requests}) == most


async def test_a_closed_client_is_refused_as_ever() -> None:
    client = AsyncOpenRouter("key", server_url="http://localhost:1")
    await client.close()
    with pytest.raises(ClientStateError):
        await anext(client.api_keys.iterate())
