"""Services whose clocks and stamps disagree: no key is missed, and none is taken for ours."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest
from attrs import evolve

from openrouter_keys import AsyncOpenRouter, ProvisionReport
from openrouter_keys._base.clock import Clockwork
from openrouter_keys._base.clock_skew import MARGIN, UNSEEN_HERE, Sample, Stamp, skew_of
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._reconcile.listing import Lister
from openrouter_keys._reconcile.service_clock import UNSEEN, ServiceClock
from openrouter_keys.applying.account import Account
from openrouter_keys.errors import CreateOutcomeUnknownError, OpenRouterError
from openrouter_keys.models import HTTPMeta, ListResponse
from openrouter_keys.operations import Operation
from tests.cases import KEY, Case
from tests.journals import spec
from tests.misbehaving import Asked, Record, hash_of
from tests.provisions import specs
from tests.records import key as record_of
from tests.tables import in_one_test

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def cut(time: datetime, unit: timedelta) -> datetime:
    return time - (time - datetime.min.replace(tzinfo=UTC)) % unit


def stamps(seconds: float) -> Callable[[Case], None]:
    def behave(case: Case) -> None:
        case.service.stamp = lambda now: now + timedelta(seconds=seconds)

    return behave


def stamps_cut_to(unit: timedelta, seconds: float = 0) -> Callable[[Case], None]:
    def behave(case: Case) -> None:
        # It begins after a whole minute: a stamp of one may be cut to it.
        case.time.slept.append((70 - case.time.now().second) % 60)
        case.service.stamp = lambda now: cut(now + timedelta(seconds=seconds), unit)

    return behave


def undated(ahead: float) -> Callable[[Case], None]:
    def behave(case: Case) -> None:
        case.service.date = lambda _: None
        case.set_machine(ahead)

    return behave


def dated(date: Callable[[datetime], datetime]) -> Callable[[Case], None]:
    def behave(case: Case) -> None:
        case.service.date = lambda now: format_datetime(date(now), usegmt=True)

    return behave


Behave: TypeAlias = Callable[[Case], None]
CLOCKS: dict[str, Behave] = {
    "as documented": stamps(0),
    "stamps 8 s behind": stamps(-8),
    "stamps 100 s behind": stamps(-100),
    "stamps 8 s ahead": stamps(8),
    "stamps 100 s ahead": stamps(100),
    "stamps cut to seconds": stamps_cut_to(SECOND),
    "stamps cut to seconds, and behind": stamps_cut_to(SECOND, -20),
    "no date, this machine 7 s ahead": undated(7),
    "no date, this machine 7 s behind": undated(-7),
    "no date, this machine 10 minutes ahead": undated(600),
    "no date, this machine 10 minutes behind": undated(-600),
    "a date of the year 9999": dated(lambda now: now.replace(year=9999)),
    "a date of 1970": dated(lambda now: now.replace(year=1970)),
    "a date 2 hours ahead": dated(lambda now: now + 120 * MINUTE),
    "a date 2 hours behind": dated(lambda now: now - 120 * MINUTE),
    "a date of tomorrow": dated(lambda now: now + timedelta(days=2)),
}
# These stamps show no time: keys are reported, and stay.
UNCLEAR: dict[str, Behave] = {
    "stamps cut to minutes": stamps_cut_to(MINUTE),
    "stamps cut to minutes, and behind": stamps_cut_to(MINUTE, -20),
}
EVERY_CLOCK = pytest.mark.parametrize(
    "behave", [*CLOCKS.values(), *UNCLEAR.values()], ids=[*CLOCKS, *UNCLEAR]
)
EVERY_CLEAR_CLOCK = pytest.mark.parametrize("behave", CLOCKS.values(), ids=CLOCKS)
EVERY_UNCLEAR_CLOCK = pytest.mark.parametrize(
    "behave", [*UNCLEAR.values(), stamps_cut_to(60 * MINUTE)], ids=[*UNCLEAR, "cut to hours"]
)


async def _none_left(case: Case, path: Path) -> ProvisionReport:
    """Provision, and find that every key of the service is held or told."""
    taken: list[str] = []
    report = await case.client.provision(
        specs(6), journal=path, concurrency=1, on_result=lambda result: taken.append(result.key)
    )
    held = {hash_of(secret) for secret in taken}
    told = {hash for doubt in (*report.doubts, *report.unproven) for hash in doubt.hashes}
    assert held <= case.service.hashes
    assert case.service.hashes <= held | told
    assert report.ok is not bool(told)
    return report


@pytest.mark.slow
@EVERY_CLEAR_CLOCK
async def test_a_lost_key_is_ours_where_other_keys_show_how_the_service_stamps(
    behave: Behave, case: Case, path: Path
) -> None:
    behave(case)
    case.service.outcomes.extend(["told", "told", "told", "lost"])
    report = await _none_left(case, path)
    assert (report.created, report.deleted, report.ok) == (6, 1, True)


@pytest.mark.slow
@EVERY_UNCLEAR_CLOCK
async def test_a_lost_key_is_told_where_other_keys_show_no_time(
    behave: Behave, case: Case, path: Path
) -> None:
    behave(case)
    case.service.outcomes.extend(["told", "told", "told", "lost"])
    report = await _none_left(case, path)
    assert (report.created, report.deleted, report.ok) == (5, 0, False)


@pytest.mark.slow
@EVERY_CLOCK
async def test_a_lost_key_is_ours_or_told_where_no_key_shows_how_the_service_stamps(
    behave: Behave, case: Case, path: Path
) -> None:
    behave(case)
    case.service.outcomes.extend("lost" for _ in range(6))
    await _none_left(case, path)


@pytest.mark.slow
@EVERY_CLEAR_CLOCK
async def test_the_next_run_knows_how_the_service_stamps(
    behave: Behave, case: Case, path: Path
) -> None:
    behave(case)
    case.service.outcomes.extend(["told", "told", "lost"])
    await _stopped_run(case, path)
    async with AsyncOpenRouter(KEY, server_url=case.service.url) as another:
        another._transport.clockwork = case.client._transport.clockwork
        report = await another.provision(specs(6), journal=path)

    assert (report.deleted, report.ok) == (1, True)
    assert len(case.service.keys) == 6


async def _stopped_run(case: Case, path: Path) -> None:
    """Run until something is in doubt, and stop there."""

    def stop(progress: object) -> None:
        if getattr(progress, "in_doubt", 0):
            raise LookupError

    with pytest.raises(OpenRouterError):
        await case.client.provision(specs(3), journal=path, concurrency=1, on_progress=stop)


@EVERY_CLOCK
@pytest.mark.parametrize("before", [0, 2])
async def test_the_key_of_a_lost_single_create_is_deleted_or_told(
    behave: Behave, before: int, case: Case
) -> None:
    behave(case)
    for number in range(before):
        await case.client.api_keys.create(name=f"another-{number}")
    case.service.outcomes.append("lost")
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="n")
    (orphan,) = [key for key in case.service.keys if key["name"] == "n"]

    found = await case.client.api_keys.reconcile(caught.value)

    assert [key.hash for key in (*found.deleted, *found.unproven)] == [orphan["hash"]]
    assert (orphan in case.service.keys) is bool(found.unproven)
    assert behave not in CLOCKS.values() or found.settled or not before


@pytest.mark.parametrize("ahead", [-30, 8, 60, 100])
async def test_an_old_stamp_hides_no_lost_key(ahead: float, case: Case) -> None:
    await case.client.api_keys.create(name="another")
    dated(lambda now: now + timedelta(seconds=ahead))(case)
    case.service.outcomes.append("lost")
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="n")

    found = await case.client.api_keys.reconcile(caught.value)

    assert [key.name for key in (*found.deleted, *found.unproven)] == ["n"]


@pytest.mark.slow
@pytest.mark.parametrize("year", [1970, 2031, 9999])
async def test_a_date_that_cannot_be_does_not_poison_a_journal(
    year: int, case: Case, path: Path
) -> None:
    case.service.date = lambda now: format_datetime(now.replace(year=year), usegmt=True)
    case.service.outcomes.append("lost")
    await _stopped_run(case, path)

    case.service.date = lambda now: format_datetime(now, usegmt=True)
    report = await case.client.provision(specs(3), journal=path)

    assert (report.deleted, report.ok) == (1, True)
    assert len(case.service.keys) == 3


@pytest.mark.slow
@pytest.mark.parametrize("time", ["9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z"])
@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("written_off", [0, 2])
async def test_a_journal_that_an_earlier_version_poisoned_is_healed(
    *, time: str, landed: bool, written_off: int, case: Case, path: Path
) -> None:
    case.service.outcomes.append("lost" if landed else "closed")
    await _stopped_run(case, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE keys SET first_attempt_at = ?, last_attempt_at = ?, ended_at = NULL",
            (time,) * 2,
        )
        if written_off:
            earlier = json.dumps([[time, None], [time, time]])
            connection.execute("UPDATE keys SET written_off = 2, earlier = ?", (earlier,))
        connection.commit()

    report = await case.client.provision(specs(3), journal=path)
    if landed:  # nobody knows when it was sent, so nothing proves whose it is
        (orphan,) = [key for key in case.service.keys if key["name"] == spec("0").name]
        assert [doubt.hashes for doubt in report.doubts] == [(orphan["hash"],)]
        assert not report.ok
        case.service.keys.remove(orphan)
        report = await case.client.provision(specs(3), journal=path)

    assert report.ok
    assert len(case.service.keys) == 3


# --- a key of the name that somebody made by hand ---

STOPS = {"answered 502": "502", "its connection was closed": "closed"}


@pytest.mark.slow
@pytest.mark.parametrize("outcome", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("seconds", [40, 150, 3600])
@pytest.mark.parametrize("used", [False, True])
async def test_a_key_made_by_hand_after_a_create_ended_is_never_deleted(
    *, outcome: str, seconds: float, used: bool, case: Case, path: Path
) -> None:
    case.service.outcomes.append(outcome)  # type: ignore[arg-type]  # they are literals
    await _stopped_run(case, path)
    case.time.slept.append(seconds)
    by_hand = case.service.add(spec("0").name, **({"usage": 1} if used else {}))

    report = await case.client.provision(specs(3), journal=path)

    assert by_hand in case.service.keys
    assert [doubt.hashes for doubt in report.doubts] == [(by_hand["hash"],)]
    assert not report.ok


@pytest.mark.parametrize("seconds", [40, 150, 3600])
async def test_a_key_made_by_hand_after_a_single_create_ended_is_never_deleted(
    seconds: float, case: Case
) -> None:
    case.service.outcomes.append("502")
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="n")
    case.time.slept.append(seconds)
    by_hand = case.service.add("n")

    found = await case.client.api_keys.reconcile(caught.value)

    assert [key.hash for key in found.unproven] == [by_hand["hash"]]
    assert case.service.keys == [by_hand]


@pytest.mark.slow
@EVERY_CLOCK
async def test_a_key_made_by_hand_before_the_creates_is_never_deleted(
    behave: Behave, case: Case, path: Path
) -> None:
    behave(case)
    old: Record = case.service.add(spec("3").name)
    case.time.slept.append(2 * 86400)
    case.service.outcomes.extend(["told", "told", "told", "lost"])
    await case.client.provision(specs(6), journal=path, concurrency=1)
    assert old in case.service.keys


# --- a key of the name that was made before, and an odd service or machine ---


def on_the(minute: int) -> Behave:
    """Stamps are in whole seconds, and the first create is sent in that minute's first one."""

    def behave(case: Case) -> None:
        now = case.time.now()
        start = (now + 60 * MINUTE).replace(minute=minute, second=0, microsecond=100_000)
        case.time.slept.append((start - now).total_seconds())
        case.service.stamp = lambda now: cut(now, SECOND)

    return behave


def slow_first(case: Case) -> None:
    """The first create takes 25 seconds to be answered."""

    async def pause(asked: Asked) -> None:
        if asked.body.get("name") == spec("0").name:
            case.time.slept.append(25)

    case.service.pause = pause


def two_clocks(case: Case) -> None:
    """Each second key is stamped by a clock that is a minute behind."""
    case.service.stamp = lambda now: now - MINUTE * (len(case.service.keys) % 2)


def machine_sleeps(case: Case) -> None:
    """It sleeps for an hour after its first create: what measures seconds stands still."""

    async def pause(asked: Asked) -> None:
        if asked.body.get("name") == spec("1").name:
            case.time.slept.append(3600)
            case.time.passed -= 3600

    case.service.pause = pause


def days_behind(case: Case) -> None:
    case.set_machine(-2 * 86400)


# How long before its create somebody made a key; how many keys show how the service stamps.
ODD: dict[str, tuple[Behave, list[float], int]] = {
    "whole seconds on the hour": (on_the(0), [40, 1740], 2),
    "whole seconds on the minute": (on_the(7), [40, 58], 1),
    "the first answer is late": (slow_first, [7, 12, 18], 2),
    "stamps 90 s ahead": (stamps(90), [10, 60, 85], 2),
    "stamps 90 s behind": (stamps(-90), [10, 60, 85], 1),
    "two clocks stamp": (two_clocks, [10, 50, 60], 2),
    "this machine sleeps": (machine_sleeps, [20, 1200, 3590], 2),
    "this machine is days behind": (days_behind, [10, 86400, 2 * 86400 - 1], 1),
    "this machine is days behind, and no key shows it": (days_behind, [10, 2 * 86400 - 1], 0),
}


@pytest.mark.slow
@pytest.mark.parametrize(("behave", "ago", "others"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("bulk", [False, True])
async def test_a_key_made_by_hand_before_is_never_deleted_however_odd_the_clocks(
    *, behave: Behave, ago: list[float], others: int, bulk: bool, case: Case, path: Path
) -> None:
    behave(case)
    for one in specs(others):
        await case.client.api_keys.create(name=one.name)
    held: list[Record] = []
    for seconds in ago:
        name = f"made {seconds} s before"
        at = case.service.stamp(case.time.now() - timedelta(seconds=seconds))
        held.append(case.service.add(name, created_at=at.isoformat()))
    case.service.outcomes.extend("502" for _ in held)
    if bulk:
        asked = [spec(str(key["name"]), name=key["name"]) for key in held]
        await case.client.provision(asked, journal=path)
    else:
        for key in held:
            with suppress(CreateOutcomeUnknownError):  # it is told
                await case.client.api_keys.create(name=key["name"], on_unknown="reconcile")
    assert case.service.count("DELETE") == 0
    assert all(key in case.service.keys for key in held)


# --- what stamps show ---


def stamp(made: float, sent: float = 0, ended: float = 1) -> Stamp:
    return Stamp(*(NOON + timedelta(seconds=seconds) for seconds in (made, sent, ended)))


@in_one_test(
    "seen, shift, earliest",
    [
        # What fits no skew is the skew; what fits several, the least of them.
        ([stamp(0.5)], 0, -120),
        ([stamp(-7.5)], -7.5, -120),
        ([stamp(-7.5), stamp(-7.9)], -7.9, -120),
        ([stamp(-147.5), stamp(-147.9)], -147.9, -153.9),
        ([stamp(8.5)], 7.5, -120),
        ([stamp(8.5), stamp(20.5, 10, 40)], 7.5, -120),
        # One answer was late: no clock is off.
        ([stamp(0.5, 0, 25)], 0, -120),
        ([stamp(0, 0, 200), stamp(0.5)], 0, -205),
        ([stamp(30, 0, 30)], 0, -120),
        # Whole seconds.
        ([stamp(1), stamp(2, 1, 3)], 0, -120),
        ([stamp(-1, 0, 0.1), stamp(0, 0, 0.1)], -0.1, -120),
        # It may be minutes, or hours, that stamps are cut to: that is reported.
        ([stamp(0)], 0, -3606),
        ([stamp(-240)], -240, -306),
        ([stamp(0, 0.9, 1)], -0.9, -3606),
    ],
)
def test_stamps_show_how_far_a_key_may_be_off(
    seen: list[Stamp], shift: float, earliest: float
) -> None:
    skew = skew_of(seen, UNSEEN)
    assert skew.low.total_seconds() == pytest.approx(shift - MARGIN)
    assert skew.high.total_seconds() == pytest.approx(shift + MARGIN)
    assert skew.earliest is not None
    assert skew.earliest.total_seconds() == earliest


@in_one_test(
    "seen, unseen, made, dated",
    [
        ([], UNSEEN, 0, True),
        ([], UNSEEN_HERE, 7, True),
        ([], None, 7, False),
        ([stamp(0.5)], UNSEEN, 60, True),
        ([stamp(0.5)], None, 60, True),
        # The stamp of a whole minute may be cut, another is not.
        ([stamp(0)], UNSEEN, 60, False),
        ([stamp(0), stamp(-60)], UNSEEN, 3600, False),
        ([stamp(0)], UNSEEN, 61, True),
        ([stamp(0), stamp(1)], UNSEEN, 60, True),
        # Two clocks stamp: within the margin, or not.
        ([stamp(-3), stamp(0.5)], UNSEEN, 7, True),
        ([stamp(4.5), stamp(0.5)], UNSEEN, 7, True),
        ([stamp(-60), stamp(0.5)], UNSEEN, 7, False),
        ([stamp(0.5), stamp(-99.5)], UNSEEN, 7, False),
        ([stamp(0.5), stamp(3600.5)], UNSEEN_HERE, 7, False),
        ([stamp(0.5), stamp(8.5)], UNSEEN, 7, False),
        ([stamp(0.5, 0.4, 0.6), stamp(-1.2, 0.4, 0.6)], UNSEEN, 7, True),
    ],
)
def test_only_a_stamp_that_is_clear_proves_when_a_key_was_made(
    seen: list[Stamp], unseen: timedelta | None, made: float, *, dated: bool
) -> None:
    assert skew_of(seen, unseen).dates(NOON + timedelta(seconds=made)) is dated


@pytest.mark.parametrize(
    ("date", "unseen"),
    [
        (None, UNSEEN_HERE),
        (NOON, UNSEEN),
        (NOON + MINUTE, UNSEEN),
        (NOON + timedelta(hours=23), timedelta(hours=23, seconds=MARGIN)),
        (NOON - timedelta(hours=2), timedelta(hours=2, seconds=MARGIN)),
        (NOON + timedelta(hours=25), None),
        (NOON - timedelta(hours=25), None),
    ],
)
def test_where_no_stamp_is_seen_the_clock_tells_how_far_one_may_be_off(
    date: datetime | None, unseen: timedelta | None
) -> None:
    clock = ServiceClock(lambda: NOON)
    clock.observe({} if date is None else {"Date": format_datetime(date)})
    assert clock.unseen == unseen
    assert skew_of([], clock.unseen).earliest == (None if unseen is None else -unseen)


def test_samples_are_told_by_the_date_of_their_answers() -> None:
    clock = ServiceClock(lambda: NOON, lambda: 0)
    here = Sample(NOON, None, NOON + SECOND, 2)
    there = evolve(here, date=format_datetime(NOON + timedelta(hours=3)))
    never = evolve(here, date=format_datetime(NOON.replace(year=9999)))
    assert clock.stamps([here, there, never]) == [Stamp(NOON, NOON - SECOND, NOON + SECOND)] * 3

    clock.observe({"Date": str(there.date)})
    ended = NOON + timedelta(hours=3, seconds=0.5)
    assert clock.stamps([here, there, never]) == [Stamp(NOON, ended - 2 * SECOND, ended)]


class Overtaking:
    """A transport by which the third page of a list comes an hour before the second.

    Args:
        hour: what the service's time is ahead of noon by when the second page comes.
    """

    def __init__(self, hour: timedelta) -> None:
        self.clockwork = Clockwork()
        self._hour = hour
        self._came = asyncio.Event()

    def ready(self) -> int:
        return 100

    async def perform(self, operation: Operation[Any], _: RequestOptions) -> ListResponse:
        offset = int(operation.path.split("offset=")[1].partition("&")[0])
        date = NOON
        if offset == 91:
            await self._came.wait()
            date += self._hour
        elif offset == 182:
            self._came.set()
        page = [record_of(f"{number:064x}") for number in range(191)][offset : offset + 100]
        return ListResponse(data=page, http=HTTPMeta(headers={"Date": format_datetime(date)}))


@pytest.mark.parametrize("listing", ["reconcile", "apply"])
async def test_the_clock_learns_from_a_page_when_it_comes(listing: str) -> None:
    transport: Any = Overtaking(timedelta(hours=1))
    clock = ServiceClock(lambda: NOON, lambda: 0)
    if listing == "reconcile":
        assert len(await Lister(transport, clock, {}).every(None)) == 191
    else:
        account = Account(transport, cast("Any", None), clock, cast("Any", None))
        assert sum([len(page) async for page in account._pages("workspace")]) == 191
    assert clock.now() == NOON + timedelta(hours=1, seconds=0.5)
