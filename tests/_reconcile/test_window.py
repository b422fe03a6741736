"""Somebody makes a key of the same name by hand, when the create was not under way: it stays.

All clocks of the service are right here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeAlias

import pytest
from attrs import define, evolve

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.errors import CreateOutcomeUnknownError, OpenRouterError
from tests.clients import until
from tests.misbehaving import Answer, Asked, Misbehaving, Record, misbehaving, refused
from tests.provisions import JumpingTime

KEY = "sk-or-mgmt-test-" + "0" * 32
WAIT = 60


@define
class Case:
    service: Misbehaving
    client: AsyncOpenRouter
    time: JumpingTime
    set_by: timedelta = timedelta()

    def by_hand(self) -> Record:
        return self.service.add("n")

    def by_hand_at_next_sleep(self) -> None:
        def once(_: float) -> None:
            self.time.on_sleep = lambda _: None
            self.by_hand()

        self.time.on_sleep = once


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    time = JumpingTime()
    async with (
        misbehaving(now=time.now) as service,
        AsyncOpenRouter(KEY, server_url=service.url, max_connections=1) as client,
    ):
        case = Case(service, client, time)
        client._transport.clockwork = evolve(time.clockwork(), now=lambda: time.now() + case.set_by)
        yield case


# --- the client waits before it sends the create ---


def limits(asked: Asked) -> Answer:
    return evolve(refused(429), headers={"Retry-After": str(WAIT)})


async def rate_limit(case: Case) -> None:
    """The create is refused, and sent again later."""

    def once(asked: Asked) -> Answer:
        case.service.answer = lambda _: None
        return limits(asked)

    case.service.answer = once
    case.by_hand_at_next_sleep()


async def pause_of_all(case: Case) -> None:
    """Another call was refused, for everybody."""
    case.service.answer = limits
    with pytest.raises(OpenRouterError):
        await case.client.api_keys.list(timeout_ms=1000)
    case.service.answer = lambda _: None
    case.by_hand_at_next_sleep()


async def queue(case: Case) -> None:
    """Another call has the only connection."""
    ends = asyncio.Event()

    async def pause(asked: Asked) -> None:
        if asked.method == "GET":
            case.service.pause = at_once
            await ends.wait()

    async def at_once(_: Asked) -> None:
        pass

    def go_on() -> None:
        case.by_hand()
        case.time.slept.append(WAIT)
        ends.set()

    case.service.pause = pause
    other = asyncio.create_task(case.client.api_keys.list())
    await until(lambda: case.service.asked)
    asyncio.get_running_loop().call_later(0.05, go_on)
    other.add_done_callback(lambda done: done.exception())


async def slow_api_key(case: Case) -> None:
    """A callable gives the management key late."""

    async def ask() -> str:
        if not case.service.keys:
            case.by_hand()
            case.time.slept.append(WAIT)
        return KEY

    # As its constructor does with a callable.
    other = AsyncOpenRouter(ask, server_url=case.service.url)
    case.client._transport._credentials = other._transport._credentials
    await other.close()


Wait: TypeAlias = Callable[[Case], Awaitable[None]]
WAITS: dict[str, Wait] = {
    "for a rate limit": rate_limit,
    "for another call's rate limit": pause_of_all,
    "for a connection": queue,
    "for the management key": slow_api_key,
}
EVERY_WAIT = pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)


@EVERY_WAIT
async def test_what_a_client_waits_before_a_create_is_no_part_of_it(wait: Wait, case: Case) -> None:
    case.service.outcomes.append("502")
    await wait(case)
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="n")
    (by_hand,) = case.service.keys

    await case.client.api_keys.reconcile(caught.value)

    assert case.service.keys == [by_hand]


@EVERY_WAIT
async def test_nor_of_one_that_is_reconciled_at_once(wait: Wait, case: Case) -> None:
    case.service.outcomes.append("502")
    await wait(case)
    with suppress(CreateOutcomeUnknownError):  # theirs may be reported
        await case.client.api_keys.create(name="n", on_unknown="reconcile")
    assert case.service.count("DELETE") == 0


# --- a clock of this machine is set, or stands still ---


def sleeps(case: Case) -> None:
    """The machine sleeps for an hour, and in the middle of it somebody makes the key."""
    half = timedelta(minutes=30)
    case.time.passed -= half.total_seconds() * 2  # the steady clock stands still
    for _ in range(2):
        case.time.slept.append(half.total_seconds())
        if not case.service.keys:
            case.by_hand()


def is_set(hours: float) -> Callable[[Case], None]:
    def step(case: Case) -> None:
        case.set_by += timedelta(hours=hours)

    return step


@define
class Clocks:
    """What happens to a machine's clocks, and when somebody made the key: seconds before."""

    what: Callable[[Case], None]
    made: float | None = None


CLOCKS = {
    "it sleeps": Clocks(sleeps),
    "set an hour ahead, made half an hour ago": Clocks(is_set(1), 1800),
    "set an hour ahead, made an hour ago": Clocks(is_set(1), 3590),
    "set an hour back, made half an hour ago": Clocks(is_set(-1), 1800),
    "set 20 seconds ahead, made 20 seconds ago": Clocks(is_set(1 / 180), 20),
}
EVERY_CLOCK = pytest.mark.parametrize("clocks", CLOCKS.values(), ids=CLOCKS)


def made_before(case: Case, clocks: Clocks) -> None:
    if clocks.made is not None:
        case.by_hand()
        case.time.slept.append(clocks.made)


@EVERY_CLOCK
@pytest.mark.parametrize("when", ["during the create", "before the reconcile"])
async def test_a_clock_that_is_wrong_proves_nothing(when: str, clocks: Clocks, case: Case) -> None:
    case.service.outcomes.append("502")
    made_before(case, clocks)
    if when == "during the create":

        async def pause(asked: Asked) -> None:
            if asked.method == "POST":
                clocks.what(case)

        case.service.pause = pause
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="n")
    if when == "before the reconcile":
        clocks.what(case)
    await case.client.api_keys.reconcile(caught.value)
    assert case.service.count("DELETE") == 0


@EVERY_CLOCK
async def test_nor_one_that_is_wrong_in_the_quiet_period(clocks: Clocks, case: Case) -> None:
    case.service.outcomes.append("502")
    made_before(case, clocks)

    def once(_: float) -> None:
        case.time.on_sleep = lambda _: None
        clocks.what(case)

    case.time.on_sleep = once
    with suppress(CreateOutcomeUnknownError):
        await case.client.api_keys.create(name="n", on_unknown="reconcile")
    assert case.service.count("DELETE") == 0


@EVERY_CLOCK
async def test_a_lost_key_is_reported_all_the_same(clocks: Clocks, case: Case) -> None:
    case.service.outcomes.append("lost")
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="n")
    (orphan,) = case.service.keys
    clocks.what(case)
    found = await case.client.api_keys.reconcile(caught.value)
    assert orphan["hash"] in [key.hash for key in (*found.unproven, *found.deleted)]
