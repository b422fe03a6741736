"""What a journal is in doubt about, brought before the service: when, how, and what comes of it."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve

from openrouter_keys import KeySpec, ProvisionProgress, ProvisionResult, ServiceOutageError
from openrouter_keys._base.clock import Clockwork
from openrouter_keys._base.clock_skew import MARGIN, UNSEEN_HERE
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys.converter import write_time
from openrouter_keys.emulator import Emulator, Fault, StoredKey, Workspace
from openrouter_keys.emulator.state import DEFAULT_WORKSPACE
from openrouter_keys.errors import InternalServerResponseError
from openrouter_keys.journal import entries as rows
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.runs import Claim
from openrouter_keys.journal.schema import State
from openrouter_keys.models import External
from openrouter_keys.provisioning.account import Account
from openrouter_keys.provisioning.context import context_of
from openrouter_keys.provisioning.reconciler import Findings, Reconciler
from openrouter_keys.provisioning.settings import RunSettings
from tests.clients import FakeTime, api_keys
from tests.journals import entries, spec, state
from tests.provisions import JumpingTime, assert_whole, client_of, specs, stopped

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
ELSEWHERE = "0df9e665-d932-5740-b2c7-b52af166bc11"
TIMEOUT, QUIET = 120.0, 30.0
HOUR = 3600.0
SECRET = "sk-or-v1-" + "c4" * 32
LOST = Fault("create", phase="after", status=502)


@define
class FrozenTime(FakeTime):
    """A time that only sleeping moves."""

    def monotonic(self) -> float:
        return sum(self.slept)

    def now(self) -> datetime:
        return AT + timedelta(seconds=sum(self.slept))

    def clockwork(self) -> Clockwork:
        return evolve(super().clockwork(), now=self.now)


@define
class Case:
    """A reconciler and its surroundings; seconds are counted from now."""

    emulator: Emulator
    time: FrozenTime
    journal: Journal
    clock: ServiceClock
    reconciler: Reconciler

    def at(self, seconds: float) -> datetime:
        return self.clock.now() + timedelta(seconds=seconds)

    def key(self, name: str = "customer-r", seconds: float = 0, **given: Any) -> StoredKey:
        return self.emulator.account.add(name, created_at=self.at(seconds), **given)

    async def sent(self, wanted: KeySpec | None = None, seconds: float = 0) -> None:
        """A create was sent then, and nothing else is known."""
        await self.journal.intend(spec() if wanted is None else wanted, self.at(seconds))

    async def made_anew(self, seconds: float = 0, *, ref: str = "r") -> StoredKey:
        """A create was lost, and another one then made the key, whose secret is in the journal."""
        await self.sent(spec(ref), seconds)
        await self.journal.again(ref, self.at(seconds))
        key = self.key(f"customer-{ref}", seconds)
        await self.journal.keep(ref, secret=SECRET, hash=key.hash, settled=True)
        return key

    async def look(self) -> Findings:
        """Look as a run does: it asks for how long to wait before."""
        await self.reconciler.due(1)
        return await self.reconciler.look()

    async def written_off(self) -> list[str]:
        return [entry.ref async for entry in self.journal.written_off()]

    @property
    def hashes(self) -> set[str]:
        return {*self.emulator.account.keys}


@pytest.fixture
async def case(emulator: Emulator) -> AsyncIterator[Case]:
    time = FrozenTime()
    emulator.account.clock = time.now
    emulator.account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE)
    async with (
        api_keys(emulator.base_url, emulator.api_key, time, timeout=TIMEOUT / 2) as keys,
        Journal.open(":memory:", longest_timeout=TIMEOUT) as journal,
    ):
        settings = RunSettings(quiet_period=QUIET, on_result=print)
        account = Account(is_proven=True)  # its own tests are in `test_accounts.py`
        context = context_of(keys._transport, journal, settings, account=account)
        reconciler = Reconciler(context)
        reconciler.begin()
        yield Case(emulator, time, journal, context.clock, reconciler)


# --- when ---


async def test_without_a_doubt_there_is_nothing_to_wait_or_to_look_for(case: Case) -> None:
    await case.sent(spec("failed"))
    await case.journal.fail("failed", "refused")
    await case.sent(spec("made"))
    await case.journal.keep("made", secret=SECRET, hash="ab")
    assert await case.reconciler.due(1) is None

    findings = await case.look()

    assert (findings.cleared, findings.deleted) == (frozenset(), 0)
    assert case.emulator.requests == []


@pytest.mark.parametrize("periods", [1, 2])
async def test_the_quiet_period_is_counted_from_the_last_create_that_was_given_up(
    periods: int, case: Case
) -> None:
    await case.sent(seconds=-50)
    case.reconciler.given_up("r")
    await case.time.sleep(20)
    case.reconciler.given_up("r")
    assert await case.reconciler.due(periods) == periods * QUIET
    await case.time.sleep(10)
    assert await case.reconciler.due(periods) == periods * QUIET - 10


@pytest.mark.parametrize(
    ("sent", "wait"),
    [
        # It may have been under way until its run ended: just now, for all that is known.
        (0, QUIET),
        (-10, QUIET),
        (-TIMEOUT, QUIET),
        # It had timed out long before.
        (-TIMEOUT - 10, QUIET - 10),
        (-TIMEOUT - QUIET, 0),
        (-HOUR, TIMEOUT + QUIET - HOUR),
        # Another clock than this one wrote that down.
        (HOUR, QUIET),
    ],
)
async def test_what_an_earlier_run_left_was_given_up_when_it_timed_out_or_that_run_ended(
    sent: float, wait: float, case: Case
) -> None:
    await case.sent(seconds=sent)
    assert await case.reconciler.due(1) == wait


@pytest.mark.parametrize(
    ("sent", "wait"),
    [
        (0, TIMEOUT + QUIET),
        (-10, TIMEOUT + QUIET - 10),
        (-TIMEOUT, QUIET),
        (-TIMEOUT - 10, QUIET - 10),
        # Another clock than this one wrote that down.
        (HOUR, TIMEOUT + QUIET),
    ],
)
async def test_what_a_run_left_that_was_only_cut_off_is_given_up_when_it_times_out(
    sent: float, wait: float, case: Case
) -> None:
    await case.sent(seconds=sent)
    cut_off = Claim(State.INTENT, ours=True, new=True, is_cut_off=True)
    case.reconciler.claimed({"r": cut_off})
    assert await case.reconciler.due(1) == wait


@pytest.mark.parametrize("days", [-30, -2, 2, 30])
@pytest.mark.parametrize("is_cut_off", [False, True])
async def test_a_clock_that_is_days_from_the_services_shows_no_time_that_passed(
    days: float, *, is_cut_off: bool, case: Case
) -> None:
    await case.sent(seconds=-HOUR)
    date = case.time.now() + timedelta(days=days)
    case.clock.observe({"Date": date.strftime("%a, %d %b %Y %H:%M:%S GMT")})
    claim = Claim(State.INTENT, ours=True, new=True, is_cut_off=is_cut_off)
    case.reconciler.claimed({"r": claim})
    assert await case.reconciler.due(1) == (TIMEOUT if is_cut_off else 0) + QUIET


async def test_the_last_of_all_that_an_earlier_run_left_counts(case: Case) -> None:
    await case.sent(spec("a"), -HOUR)
    await case.sent(spec("b"), -TIMEOUT - 10)
    await case.made_anew(-25, ref="c")
    assert await case.reconciler.due(1) == QUIET - 10


async def test_a_create_that_was_made_anew_is_waited_for_too(case: Case) -> None:
    # It had been given up before the other one was sent.
    await case.made_anew(-10)
    assert await case.reconciler.due(2) == 2 * QUIET - 10


@pytest.mark.parametrize("hours", [-5, 5])
async def test_the_wait_is_the_same_by_whatever_clock_the_service_has(
    hours: float, case: Case
) -> None:
    case.emulator.account.clock = lambda: case.time.now() + timedelta(hours=hours)
    case.clock.observe({"Date": case.emulator.account.clock().strftime("%a, %d %b %Y %H:%M:%S")})
    assert abs(case.clock.now() - case.time.now()) > timedelta(hours=4)
    case.reconciler.begin()

    await case.sent(seconds=-TIMEOUT - 10)
    assert await case.reconciler.due(1) == QUIET - 10


# --- what comes of a doubt ---

DOUBTFUL = pytest.mark.parametrize("was", [State.INTENT, State.DOUBT])


async def _in_doubt(case: Case, was: State) -> None:
    await case.sent()
    if was is State.DOUBT:
        await case.journal.doubt("r", "no answer")


@DOUBTFUL
async def test_ours_is_deleted_and_its_ref_can_be_made_anew(was: State, case: Case) -> None:
    await _in_doubt(case, was)
    case.key()

    findings = await case.look()

    assert (findings.cleared, findings.deleted) == (frozenset("r"), 1)
    assert (findings.unproven, findings.left, findings.beside) == ((), (), ())
    assert case.hashes == set()
    assert await state(case.journal) is State.FAILED


BESIDE: dict[str, dict[str, Any]] = {
    "a used key": {"usage": 1.0},
    "a key with a limit": {"limit": 999.0},
    "a key that was made later": {"seconds": HOUR},
    "a key of nearly that name": {"name": "Customer-R"},
}


@DOUBTFUL
@pytest.mark.parametrize("given", BESIDE.values(), ids=BESIDE)
async def test_what_is_beside_the_key_of_the_only_create_keeps_nothing_in_doubt(
    given: dict[str, Any], was: State, case: Case
) -> None:
    await _in_doubt(case, was)
    case.key()
    other = case.key(**given)

    findings = await case.look()

    assert findings.cleared == {"r"}
    assert findings.unproven == ()
    assert case.hashes == {other.hash}
    assert await state(case.journal) is State.FAILED


@DOUBTFUL
async def test_where_nothing_landed_the_ref_can_be_made_anew(was: State, case: Case) -> None:
    await _in_doubt(case, was)
    stranger = case.key("customer-s")

    findings = await case.look()

    assert (findings.cleared, findings.deleted) == (frozenset("r"), 0)
    assert case.hashes == {stranger.hash}


@DOUBTFUL
async def test_what_cannot_be_proven_stays_in_doubt_and_is_written_down(
    was: State, case: Case
) -> None:
    await _in_doubt(case, was)
    used = case.key(usage=1.0)

    findings = await case.look()

    assert findings.cleared == frozenset()
    assert [(problem.ref, problem.hashes) for problem in findings.unproven] == [("r", (used.hash,))]
    assert case.hashes == {used.hash}
    entry = (await entries(case.journal))["r"]
    assert entry.state is State.DOUBT
    assert entry.reason is not None
    assert used.hash in entry.reason
    # The next look tells the same.
    assert (await case.look()).unproven == findings.unproven


@DOUBTFUL
async def test_what_cannot_be_deleted_is_told_and_its_ref_waits(was: State, case: Case) -> None:
    case.emulator.faults.append(Fault("delete", status=403))
    await _in_doubt(case, was)
    ours = case.key()

    findings = await case.look()

    assert (findings.cleared, findings.deleted) == (frozenset(), 0)
    assert [(problem.ref, problem.hashes) for problem in findings.left] == [("r", (ours.hash,))]
    again = await case.look()
    assert (again.cleared, again.deleted, again.left) == (frozenset("r"), 1, ())


async def test_what_is_known_of_one_ref_keeps_no_other_from_being_made(case: Case) -> None:
    for ref in ("used", "ours", "none"):
        await case.sent(spec(ref))
    case.key("customer-used", usage=1.0)
    case.key("customer-ours")

    findings = await case.look()

    assert findings.cleared == {"ours", "none"}
    assert [problem.ref for problem in findings.unproven] == ["used"]


async def test_a_key_that_the_journal_holds_is_never_deleted(case: Case) -> None:
    same = KeySpec(ref="same", name="customer-r")
    await case.sent(same)
    held = case.key()
    await case.journal.keep("same", secret=SECRET, hash=held.hash)
    await case.sent()
    ours = case.key()

    findings = await case.look()

    assert (findings.cleared, findings.deleted) == (frozenset("r"), 1)
    assert case.hashes == {held.hash}
    assert ours.hash not in case.hashes


@pytest.mark.parametrize("creates", [1, 2, 3])
async def test_as_many_keys_can_be_ours_as_creates_were_sent(creates: int, case: Case) -> None:
    await case.sent()
    for _ in range(creates - 1):
        await case.journal.again("r", case.at(0))
    for _ in range(creates + 1):
        case.key()
    findings = await case.look()
    assert [len(problem.hashes) for problem in findings.unproven] == [creates + 1]

    case.emulator.account.delete(case.hashes.pop())
    assert (await case.look()).deleted == creates
    # All are found: nothing of them can land any more, and others of the name are strangers.
    stranger = case.key()
    assert (await case.look()).deleted == 0
    assert case.hashes == {stranger.hash}


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [
        (-HOUR - UNSEEN_HERE.total_seconds() - 1, "somebody else's"),
        (-HOUR - UNSEEN_HERE.total_seconds(), "unproven"),
        (-HOUR - MARGIN - 1, "unproven"),
        (-HOUR - MARGIN, "ours"),
        (TIMEOUT + QUIET + MARGIN, "ours"),
        (TIMEOUT + QUIET + MARGIN + 1, "unproven"),
    ],
)
async def test_the_window_goes_from_the_first_create_to_the_last_ones_late_commit(
    seconds: float, verdict: str, case: Case
) -> None:
    await case.sent(seconds=-HOUR)
    await case.journal.again("r", case.at(0))
    case.key(seconds=seconds)

    findings = await case.look()

    assert findings.deleted == (verdict == "ours")
    assert len(findings.unproven) == (verdict == "unproven")


async def test_the_window_of_a_create_that_waited_for_a_connection_is_longer(case: Case) -> None:
    await case.sent(spec("earlier"), -1)
    await case.sent()
    await case.time.sleep(3 * TIMEOUT)
    case.reconciler.given_up("r")
    await case.time.sleep(QUIET)
    case.key()
    case.key("customer-earlier")  # that of an earlier run can not have waited for this one

    findings = await case.look()

    assert (findings.cleared, findings.deleted) == (frozenset("r"), 1)
    assert [problem.ref for problem in findings.unproven] == ["earlier"]


FIELDS: dict[str, Any] = {
    "limit": 5,
    "limit_reset": "weekly",
    "include_byok_in_limit": True,
    "expires_at": AT + timedelta(days=1, microseconds=5),
    "creator_user_id": "user_2abc",
    "workspace_id": ELSEWHERE,
    "external": External("acme-7", "partner-" + "0" * 32),
}
NULLS: dict[str, Any] = {"limit": None, "limit_reset": None, "expires_at": None}


@pytest.mark.parametrize("given", [FIELDS, NULLS, {}])
async def test_a_key_with_every_field_that_was_asked_for_is_ours(
    given: dict[str, Any], case: Case
) -> None:
    await case.sent(spec(**given))
    # As the journal has them, the times some seconds off.
    shown = {name: value for name, value in given.items() if name != "external"}
    if given.get("expires_at"):
        shown["expires_at"] = given["expires_at"].replace(microsecond=0) - timedelta(seconds=2)
    if "external" in given:
        shown["external_user"] = given["external"].user
    case.key(**shown)
    assert (await case.look()).deleted == 1


@pytest.mark.parametrize(
    "other",
    [
        {"limit": 6.0},
        {"limit_reset": "daily"},
        {"include_byok_in_limit": False},
        {"expires_at": AT + timedelta(days=2)},
        {"expires_at": None},
        {"external_user": "acme-8"},
    ],
)
async def test_a_key_that_differs_from_what_was_asked_for_is_not_ours(
    other: dict[str, Any], case: Case
) -> None:
    await case.sent(spec(**FIELDS))
    case.key(**{name: FIELDS[name] for name in FIELDS if name != "external"} | other)
    findings = await case.look()
    assert findings.deleted == 0
    assert [problem.ref for problem in findings.unproven] == ["r"]


@pytest.mark.slow
async def test_one_look_settles_more_doubts_than_the_journal_reads_at_once(case: Case) -> None:
    for number in range(700):
        await case.sent(spec(str(number)))
        if number % 7 == 0:
            case.key(f"customer-{number}")

    findings = await case.look()

    assert findings.cleared == {str(number) for number in range(700)}
    assert findings.deleted == 100
    assert case.emulator.count("list") <= 6


async def test_a_list_that_fails_changes_nothing(case: Case) -> None:
    case.emulator.faults.append(Fault("list", status=500, times=None, skip=1))
    await case.sent()
    await case.made_anew(-HOUR, ref="old")
    for number in range(150):
        case.key(f"another-{number}", -1)
    before = {case.key(usage=1.0).hash, *case.hashes}

    with pytest.raises(InternalServerResponseError):
        await case.look()

    assert case.hashes == before
    assert await state(case.journal) is State.INTENT
    assert await case.written_off() == ["old"]


# --- creates that were written off ---


async def test_a_late_commit_of_a_create_that_was_made_anew_is_deleted(case: Case) -> None:
    key = await case.made_anew()
    late = case.key(seconds=QUIET)

    findings = await case.look()

    assert (findings.cleared, findings.deleted) == (frozenset(), 1)
    assert case.hashes == {key.hash}
    assert late.hash != key.hash


async def test_a_key_beside_a_settled_one_is_told_and_the_settled_one_stays_so(
    case: Case,
) -> None:
    key = await case.made_anew()
    used = case.key(usage=1.0)

    findings = await case.look()

    assert findings.unproven == findings.left == ()
    assert [(problem.ref, problem.hashes) for problem in findings.beside] == [("r", (used.hash,))]
    assert case.hashes == {key.hash, used.hash}
    assert await state(case.journal) is State.SETTLED


async def test_more_late_keys_than_creates_were_written_off_are_told(case: Case) -> None:
    await case.made_anew()
    late = {case.key().hash, case.key().hash}

    findings = await case.look()

    assert findings.deleted == 0
    assert [{*problem.hashes} for problem in findings.beside] == [late]


OLD = 2 * QUIET


@pytest.mark.parametrize(("age", "kept"), [(OLD - 1, True), (OLD, False), (HOUR, False)])
async def test_a_create_is_forgotten_once_it_can_not_have_landed_any_more(
    age: float, kept: bool, case: Case
) -> None:
    await case.made_anew(-age)
    await case.look()
    assert await case.written_off() == ["r"] * kept


@pytest.mark.parametrize(("passed", "kept"), [(2 * QUIET - 1, True), (2 * QUIET, False)])
@pytest.mark.parametrize("whose", ["own", "earlier"])
async def test_a_create_is_forgotten_two_quiet_periods_after_it_was_given_up(
    whose: str, passed: float, kept: bool, case: Case
) -> None:
    if whose == "own":
        await case.time.sleep(5)
        case.reconciler.given_up("r")
    await case.made_anew()
    await case.time.sleep(passed)
    await case.look()
    assert await case.written_off() == ["r"] * kept


async def test_an_old_create_is_forgotten_though_another_one_was_just_given_up(
    case: Case,
) -> None:
    await case.made_anew(-OLD, ref="old")
    await case.made_anew(ref="new")
    case.reconciler.given_up("r")
    await case.look()
    assert await case.written_off() == ["new"]


@pytest.mark.parametrize("problem", ["used", "not deleted"])
async def test_a_create_with_a_key_to_tell_of_is_not_forgotten(problem: str, case: Case) -> None:
    case.emulator.faults.append(Fault("delete", status=403, times=None))
    await case.made_anew(-HOUR)
    case.key(seconds=-HOUR, usage=float(problem == "used"))

    findings = await case.look()

    assert len(findings.beside) + len(findings.left) == 1
    assert await case.written_off() == ["r"]


async def test_a_doubt_of_which_a_key_can_still_land_is_not_forgotten(case: Case) -> None:
    await case.sent(seconds=-TIMEOUT)
    await case.journal.again("r", case.at(-TIMEOUT))
    assert (await case.look()).cleared == {"r"}
    assert await case.written_off() == ["r"]
    assert await state(case.journal) is State.INTENT


@pytest.mark.parametrize("last", [False, True])
async def test_a_doubt_of_long_ago_that_left_no_key_is_settled_before_it_is_made_anew(
    *, last: bool, case: Case
) -> None:
    await case.sent(seconds=-HOUR)
    await case.journal.again("r", case.at(-HOUR))
    assert (await case.reconciler.look(last=last)).cleared == {"r"}
    # Where nothing is made anew any more, its caller is to be told of it.
    assert await case.written_off() == ["r"] * last
    assert await state(case.journal) is (State.INTENT if last else State.FAILED)


# --- when a create ended ---


async def _sent_only(case: Case) -> None:
    await case.sent(seconds=-HOUR)


async def _answered_at_once(case: Case) -> None:
    await case.sent(seconds=-HOUR)
    await case.journal.doubt("r", "answered 502", ended_at=case.at(-HOUR))


async def _given_up_late(case: Case) -> None:
    await case.sent(seconds=-HOUR)
    await case.journal.doubt("r", "no answer", ended_at=case.at(TIMEOUT - HOUR))


async def _told_again(case: Case) -> None:
    await _answered_at_once(case)
    await case.journal.doubt("r", "these keys may be its own")


async def _sent_again(case: Case) -> None:
    await case.sent(seconds=-HOUR - 1)
    await case.journal.doubt("r", "answered 502", ended_at=case.at(-HOUR - 1))
    await case.journal.again("r", case.at(-HOUR))


async def _refused_then(case: Case) -> None:
    await _sent_again(case)
    await case.journal.fail("r", "answered 400")


async def _not_processed_then(case: Case) -> None:
    await _sent_again(case)
    await case.journal.forget_intent("r")


async def _made_then(case: Case) -> None:
    await _sent_again(case)
    await case.journal.keep("r", secret=SECRET, hash="ab", ended_at=case.at(TIMEOUT - HOUR))


AT_ONCE, UNKNOWN = QUIET + MARGIN, TIMEOUT + QUIET + MARGIN
ENDS = {
    "nobody knows": (_sent_only, UNKNOWN),
    "it was answered at once": (_answered_at_once, AT_ONCE),
    "it was given up late": (_given_up_late, UNKNOWN),
    "it was looked for in vain": (_told_again, AT_ONCE),
    "another one may be under way": (_sent_again, UNKNOWN),
    # The window is that of the first one, which was sent a second earlier.
    "another one was refused": (_refused_then, AT_ONCE - 1),
    "another one was not processed": (_not_processed_then, AT_ONCE - 1),
    "another one made the key": (_made_then, AT_ONCE - 1),
}


@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("late", [False, True])
async def test_the_window_ends_a_quiet_period_after_the_create_did(
    *, way: str, late: bool, case: Case
) -> None:
    set_up, ends = ENDS[way]
    await set_up(case)
    key = case.key(seconds=ends - HOUR + late)

    findings = await case.look()

    assert findings.deleted == (not late)
    told = [*findings.unproven, *findings.beside]
    assert [problem.hashes for problem in told] == [(key.hash,)] * late


async def _twice(case: Case) -> None:
    """Two creates without an answer, an hour apart; both ended at once."""
    await _answered_at_once(case)
    await case.journal.again("r", case.at(0))
    await case.journal.doubt("r", "answered 502", ended_at=case.at(0))


async def _twice_and_under_way(case: Case) -> None:
    await _answered_at_once(case)
    await case.journal.again("r", case.at(0))


async def _twice_and_made(case: Case) -> None:
    await _twice_and_under_way(case)
    await case.journal.keep("r", secret=SECRET, hash="ab", settled=True, ended_at=case.at(0))


async def _twice_and_refused(case: Case) -> None:
    await _twice_and_under_way(case)
    await case.journal.fail("r", "answered 400")


async def _twice_and_not_processed(case: Case) -> None:
    await _twice_and_under_way(case)
    await case.journal.forget_intent("r")


async def _thrice(case: Case) -> None:
    await _twice(case)
    await case.journal.again("r", case.at(0))


async def _waited_for_its_turn(case: Case) -> None:
    await case.sent(seconds=-HOUR)
    await case.journal.doubt("r", "answered 502", sent_at=case.at(0), ended_at=case.at(0))


async def _written_off_by_version_3(case: Case) -> None:
    """Two creates without an answer, and one of which nothing is known but that it was between."""
    await _twice(case)
    earlier = f'[["{write_time(case.at(-HOUR))}", "{write_time(case.at(0))}", 1]]'
    await case.journal._do(lambda c: c.execute("UPDATE keys SET earlier = ?", (earlier,)).rowcount)


@pytest.mark.parametrize(
    "set_up",
    [
        _written_off_by_version_3,
        _twice,
        _twice_and_under_way,
        _twice_and_made,
        _twice_and_refused,
        _twice_and_not_processed,
        _thrice,
        _waited_for_its_turn,
    ],
)
async def test_a_key_that_was_made_by_hand_while_no_create_was_under_way_is_not_deleted(
    set_up: Callable[[Case], Awaitable[None]], case: Case
) -> None:
    await set_up(case)
    key = case.key(seconds=-HOUR / 2)

    findings = await case.look()

    assert (findings.deleted, case.hashes) == (0, {key.hash})
    if set_up is not _waited_for_its_turn:  # that key is older than all of its creates
        told = [*findings.unproven, *findings.beside]
        assert [problem.hashes for problem in told] == [(key.hash,)]


@pytest.mark.parametrize("set_up", [_twice, _twice_and_under_way, _thrice])
async def test_each_create_without_an_answer_has_a_window_of_its_own(
    set_up: Callable[[Case], Awaitable[None]], case: Case
) -> None:
    await set_up(case)
    case.key(seconds=-HOUR)
    case.key(seconds=0)
    assert (await case.look()).deleted == 2
    assert case.hashes == set()


async def test_a_key_made_by_hand_between_two_runs_is_nobodys(case: Case) -> None:
    day = 24 * HOUR
    await case.sent(seconds=-3 * day)
    await case.journal.doubt("r", "answered 502", ended_at=case.at(-3 * day))
    by_hand = case.key(seconds=-2 * day)
    # In doubt, since it could be a very late commit; and gone by the next run.
    assert [problem.hashes for problem in (await case.look()).unproven] == [(by_hand.hash,)]
    case.emulator.account.delete(by_hand.hash)
    assert (await case.look()).cleared == {"r"}

    await case.journal.again("r", case.at(0))
    by_hand = case.key(seconds=-day)
    assert (await case.look()).deleted == 0
    assert case.hashes == {by_hand.hash}


WORKSPACES = (None, DEFAULT_WORKSPACE, ELSEWHERE)


@pytest.mark.parametrize(
    ("told", "workspace_id", "other"),
    [*product([True, False], WORKSPACES, WORKSPACES)],
)
async def test_a_ref_stays_in_doubt_however_its_workspace_is_told(
    *, told: bool, workspace_id: str | None, other: str | None, case: Case
) -> None:
    case.emulator.account.hidden_fields |= set() if told else {"workspace_id"}
    await case.sent(spec("used", workspace_id=workspace_id))
    await case.sent(spec("other", workspace_id=other))
    case.key("customer-used", usage=1.0, workspace_id=workspace_id or DEFAULT_WORKSPACE)

    findings = await case.look()

    assert findings.cleared == {"other"}
    assert [problem.ref for problem in findings.unproven] == ["used"]


async def test_a_key_of_another_workspace_keeps_no_ref_in_doubt(case: Case) -> None:
    await case.sent(spec("here", name="n"))
    await case.sent(spec("there", name="n", workspace_id=ELSEWHERE))
    case.key("n", usage=1.0, workspace_id=ELSEWHERE)

    findings = await case.look()

    assert findings.cleared == {"here"}
    assert [problem.ref for problem in findings.unproven] == ["there"]


async def test_a_workspace_that_is_gone_keeps_no_ref_of_another_in_doubt(case: Case) -> None:
    await case.sent(spec("here"))
    await case.sent(spec("gone", workspace_id=ELSEWHERE))
    del case.emulator.account.workspaces[ELSEWHERE]
    assert "here" in (await case.look()).cleared


# --- in a run ---


def at_each_quiet_period(time: FakeTime, *acts: Callable[[], object]) -> None:
    left = [*acts]

    def on_sleep(seconds: float) -> None:
        if seconds > 5 and left:
            left.pop(0)()

    time.on_sleep = on_sleep


def _nothing() -> None:
    pass


@pytest.mark.slow
async def test_a_run_waits_a_quiet_period_before_a_look_and_another_one_before_the_last(
    emulator: Emulator, path: Path
) -> None:
    time = JumpingTime()
    emulator.faults.append(Fault("create", "closed"))
    seen: list[int] = []
    at_each_quiet_period(time, *[lambda: seen.append(len(emulator.requests))] * 2)
    async with client_of(emulator, time) as client:
        report = await client.provision(specs(3), journal=path, quiet_period=QUIET)

    assert (report.created, report.deleted, report.ok) == (3, 0, True)
    assert [wait for wait in time.slept if wait > 5] == [pytest.approx(QUIET, abs=2)] * 2
    operations = [request.operation for request in emulator.requests]
    assert operations[: seen[0]] == ["list", "create", "create", "create"]
    assert [*dict.fromkeys(operations[seen[0] : seen[1]])] == ["list", "create"]


async def test_a_commit_after_its_key_was_made_anew_is_deleted_in_the_end(
    emulator: Emulator, path: Path, taken: list[ProvisionResult]
) -> None:
    time = JumpingTime()
    emulator.faults.append(Fault("create", "closed"))
    at_each_quiet_period(time, _nothing, lambda: emulator.account.create({"name": spec("0").name}))
    async with client_of(emulator, time) as client:
        report = await client.provision(specs(1), journal=path, on_result=taken.append)

    assert (report.created, report.deleted, report.ok) == (1, 1, True)
    assert_whole(emulator, specs(1), taken)


@pytest.mark.slow
async def test_a_commit_after_a_run_was_stopped_is_deleted_by_the_next_one(
    emulator: Emulator, path: Path, taken: list[ProvisionResult]
) -> None:
    def take_and_stop(result: ProvisionResult) -> None:
        taken.append(result)
        raise LookupError

    time = JumpingTime()
    emulator.faults.append(Fault("create", "closed"))
    async with client_of(emulator, time) as client:
        await stopped(client.provision(specs(1), journal=path, on_result=take_and_stop))
        emulator.account.create({"name": spec("0").name})
        report = await client.provision(specs(1), journal=path, on_result=_take_again(taken))
        assert (report.resumed, report.deleted, report.ok) == (1, 1, True)
        assert_whole(emulator, specs(1), taken)

        # And once it is too late for another one, nothing is asked any more.
        asked = emulator.count("list")
        time.slept.append(HOUR)
        await client.provision(specs(1), journal=path)
        await client.provision(specs(1), journal=path)
    assert emulator.count("list") - asked <= 3


def _take_again(taken: list[ProvisionResult]) -> Callable[[ProvisionResult], object]:
    def take(result: ProvisionResult) -> None:
        assert result in taken

    return take


async def test_a_key_that_cannot_be_proven_is_told_with_its_hash(
    emulator: Emulator, path: Path
) -> None:
    time = JumpingTime()
    emulator.faults.append(evolve(LOST))
    at_each_quiet_period(time, lambda: emulator.account.spend(_only(emulator).hash, 1))
    async with client_of(emulator, time) as client:
        report = await client.provision(specs(1), journal=path)

    assert (report.created, report.deleted, report.in_doubt, report.ok) == (0, 0, 1, False)
    assert [problem.hashes for problem in report.doubts] == [(_only(emulator).hash,)]
    assert emulator.count("create") == 1


def _only(emulator: Emulator) -> StoredKey:
    (key,) = emulator.account.keys.values()
    return key


# --- in a run: what is not kept yet ---


async def test_a_key_is_nobody_elses_once_ours_was_found(
    emulator: Emulator, path: Path, taken: list[ProvisionResult]
) -> None:
    time = JumpingTime()
    emulator.faults.append(evolve(LOST))
    strangers: list[StoredKey] = []

    def take(result: ProvisionResult) -> None:
        taken.append(result)
        strangers.append(emulator.account.create({"name": spec("0").name}))

    async with client_of(emulator, time) as client:
        await client.provision(specs(1), journal=path, on_result=take)

    (stranger,) = strangers
    assert stranger.hash in emulator.account.keys


async def test_a_machine_whose_clock_is_set_right_makes_no_second_key_unseen(
    emulator: Emulator, path: Path
) -> None:
    time, off = JumpingTime(), [timedelta(hours=-1)]
    emulator.faults.append(evolve(LOST))

    def set_the_clock(progress: ProvisionProgress) -> None:
        if progress.phase == "creating":
            off[0] = timedelta()

    async with client_of(emulator, time) as client:
        client._transport.clockwork = evolve(time.clockwork(), now=lambda: time.now() + off[0])
        report = await client.provision(specs(1), journal=path, on_progress=set_the_clock)

    assert len(emulator.account.keys) == 1 or not report.ok


@pytest.mark.slow
async def test_a_service_whose_answers_hold_no_secret_ends_the_run(
    emulator: Emulator, path: Path
) -> None:
    time = JumpingTime()
    emulator.faults.append(Fault("create", "not_json", phase="after", times=None))
    at_each_quiet_period(time, *[_nothing] * 30, partial(pytest.fail, "it goes on for ever"))
    async with client_of(emulator, time) as client:
        error = await stopped(client.provision(specs(1), journal=path))
    assert isinstance(error.__cause__, ServiceOutageError)


@pytest.mark.slow
async def test_a_key_that_cannot_be_deleted_is_told_with_its_hash(
    emulator: Emulator, path: Path
) -> None:
    emulator.faults += [evolve(LOST), Fault("delete", status=403, times=None)]
    async with client_of(emulator, JumpingTime()) as client:
        error = await stopped(client.provision(specs(1), journal=path))
    assert [problem.hashes for problem in error.report.doubts] == [(_only(emulator).hash,)]


@pytest.mark.slow
async def test_all_keys_beside_a_settled_one_are_told(emulator: Emulator, path: Path) -> None:
    time = JumpingTime()
    emulator.faults += [Fault("create", "closed"), Fault("delete", status=403, times=None)]

    def land() -> None:
        emulator.account.create({"name": spec("0").name})
        emulator.account.spend(emulator.account.create({"name": spec("0").name}).hash, 1)

    at_each_quiet_period(time, _nothing, land)
    async with client_of(emulator, time) as client:
        report = await client.provision(specs(1), journal=path)

    told = {hash for problem in report.unproven for hash in problem.hashes}
    assert told == {*[*emulator.account.keys][1:]}


async def test_a_spec_without_a_key_is_told_whatever_the_last_look_finds(
    emulator: Emulator, path: Path
) -> None:
    time = JumpingTime()
    emulator.faults.append(evolve(LOST))
    at_each_quiet_period(
        time,
        lambda: emulator.account.spend(_only(emulator).hash, 1),
        emulator.account.keys.clear,
    )
    async with client_of(emulator, time) as client:
        report = await client.provision(specs(1), journal=path)
    assert report.created == 1 or not report.ok


async def test_a_journal_that_breaks_keeps_no_secret_from_its_caller(
    emulator: Emulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        monkeypatch.setattr(rows, "read", broken)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(rows, "keep", broken)
    async with client_of(emulator, JumpingTime()) as client:
        error = await stopped(client.provision(specs(1), journal=path))
    assert [it.key for it in error.report.undelivered] == [_only(emulator).secret]
