"""The service's time of day, told by the `Date` of its answers."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from attrs import define

from openrouter_keys._base.clock_skew import MARGIN, UNSEEN_HERE
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys.emulator import Emulator
from tests.clients import api_keys

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HALF = timedelta(seconds=0.5)


@define
class Machine:
    """This machine's clocks: one that somebody may set, and one that nobody does."""

    time: datetime = NOON
    seconds: float = 0.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.seconds

    def passes(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(machine: Machine) -> ServiceClock:
    return ServiceClock(machine.now, machine.monotonic)


def test_it_is_this_machines_until_an_answer_tells(machine: Machine, clock: ServiceClock) -> None:
    assert clock.now() == NOON
    machine.passes(60)
    assert clock.now() == machine.time


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        ("Sat, 21 Nov 2026 15:00:00 GMT", timedelta(hours=3)),
        ("Sat, 21 Nov 2026 09:30:00 GMT", timedelta(hours=-2.5)),
        ("Sat, 21 Nov 2026 12:00:00 GMT", timedelta()),
        ("Sat, 21 Nov 2026 12:00:00 +0100", timedelta(hours=-1)),
        ("Sat, 21 Nov 2026 12:00:00 -0000", timedelta()),
        ("Saturday, 21-Nov-26 12:00:09 GMT", timedelta(seconds=9)),
        ("Sat Nov 21 12:00:09 2026", timedelta(seconds=9)),
    ],
)
def test_an_answer_tells_by_how_much_the_service_is_ahead(
    date: str, ahead: timedelta, machine: Machine, clock: ServiceClock
) -> None:
    clock.observe({"Date": date})

    # Whole seconds are told, so that the middle of one is the best guess.
    assert clock.now() == NOON + ahead + HALF
    machine.passes(300)
    assert clock.now() == NOON + ahead + HALF + timedelta(minutes=5)


@pytest.mark.parametrize("headers", [{}, {"Date": ""}, {"Date": "noon"}, {"Date": "99999"}])
def test_an_answer_that_tells_no_time_changes_nothing(
    headers: dict[str, str], clock: ServiceClock
) -> None:
    clock.observe({"Date": "Sat, 21 Nov 2026 15:00:00 GMT"})
    clock.observe(headers)
    assert clock.now() == NOON + timedelta(hours=3) + HALF


@pytest.mark.parametrize("age", [{}, {"Age": "0"}, {"Age": " 00 "}])
@pytest.mark.parametrize("seconds", [0.0, 1.5, 20.0])
def test_a_date_is_of_when_its_headers_came(
    age: dict[str, str], seconds: float, clock: ServiceClock
) -> None:
    clock.observe({"Date": "Sat, 21 Nov 2026 15:00:00 GMT", **age}, seconds)
    assert clock.now() == NOON + timedelta(hours=3, seconds=seconds) + HALF


@pytest.mark.parametrize("age", ["1", " 7 ", "5000", "-5", "1e3", "9" * 40, "\u0663", "0, 60"])
@pytest.mark.parametrize("date", ["Sat, 21 Nov 2026 15:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_cached_answer_shows_no_time(date: str, age: str, clock: ServiceClock) -> None:
    clock.observe({"Date": date, "Age": age})
    assert (clock.now(), clock.unseen, clock.disputed) == (NOON, UNSEEN_HERE, False)


def test_the_last_answer_counts(machine: Machine, clock: ServiceClock) -> None:
    clock.observe({"Date": "Sat, 21 Nov 2026 15:00:00 GMT"})
    machine.passes(10)
    clock.observe({"Date": "Sat, 21 Nov 2026 16:00:00 GMT"})
    assert clock.now() == NOON + timedelta(hours=4) + HALF


@pytest.mark.parametrize("hours", [-2, 2])
def test_whoever_sets_this_machines_clock_does_not_set_the_services(
    hours: float, machine: Machine, clock: ServiceClock
) -> None:
    clock.observe({"Date": "Sat, 21 Nov 2026 15:00:00 GMT"})
    machine.time += timedelta(hours=hours)
    machine.passes(10)
    assert clock.now() == NOON + timedelta(hours=3, seconds=10) + HALF


@pytest.mark.parametrize("hours", [-7, 0, 7])
async def test_a_real_answer_tells_the_time_within_the_margin(
    hours: float, emulator: Emulator
) -> None:
    ahead = timedelta(hours=hours)
    emulator.account.clock = lambda: datetime.now(UTC) + ahead
    clock = ServiceClock(lambda: datetime.now(UTC), time.monotonic)
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        clock.observe((await keys.list()).http.headers)
    assert abs(clock.now() - emulator.account.clock()) < timedelta(seconds=MARGIN)
