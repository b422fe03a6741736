"""The daily quota of creates, updates and deletes: no retry, no waste, and when to go on."""

import itertools
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from multidict import CIMultiDict

from openrouter_keys import (
    APIKeys,
    AsyncOpenRouter,
    KeySpec,
    OpenRouter,
    ProvisioningStoppedError,
    ProvisionResult,
    QuotaExhaustedError,
    RotationReport,
)
from openrouter_keys._protocol.quota import REMEMBERED, exhausted
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.emulator import DailyQuota, Emulator, Fault, RateLimit
from openrouter_keys.errors import (
    CreateOutcomeUnknownError,
    ErrorData,
    ErrorDetail,
    InternalServerResponseError,
    ResponseError,
    TooManyRequestsResponseError,
)
from tests.clients import FakeTime, api_keys
from tests.commands import Command
from tests.provisions import JumpingTime, assert_whole, client_of, counts, specs, stopped
from tests.rotations import (
    Taker,
    assert_none_retired_too_early,
    assert_one_twin_each,
    hashes,
    live,
    old_keys,
)
from tests.tables import in_one_test

NOW = datetime(2026, 11, 28, 17, 30, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 29, tzinfo=UTC)
LATER = datetime(2026, 11, 28, 21, 0, tzinfo=UTC)
NAME = "keys-modify-api-rpd-v2"
DAY = timedelta(days=1)


# --- what an answer tells ---


def refused(message: str = "Rate limit exceeded", **metadata: Any) -> ResponseError:
    error = TooManyRequestsResponseError(message)
    error.data = ErrorData(ErrorDetail(429, message, metadata))
    return error


def told(error: ResponseError, **headers: str) -> QuotaExhaustedError | None:
    names = {name.replace("_", "-"): text for name, text in headers.items()}
    return exhausted(error, CIMultiDict(names), NOW)


NAMED: dict[str, tuple[ResponseError, str | None]] = {
    "in the metadata": (refused(limit_name=NAME), NAME),
    "in the message": (refused(f"Rate limit exceeded: {NAME}. Try again tomorrow"), NAME),
    "quoted in the message": (refused(f'limit_name="{NAME}"'), NAME),
    "another version": (refused(limit_name="keys-modify-api-rpd-v17"), "keys-modify-api-rpd-v17"),
    "another limit a day": (refused(limit_name="keys-rpd"), "keys-rpd"),
    "in capitals": (refused(limit_name="KEYS-RPD-V2"), "KEYS-RPD-V2"),
    "per minute": (refused(limit_name="keys-modify-api-rpm-v2"), None),
    "per minute in the message": (refused("Rate limit exceeded: keys-modify-api-rpm-v2"), None),
    "no name": (refused(), None),
    "within a word": (refused("overpdated, or-rpday"), None),
    "no text": (refused(limit_name=["rpd"]), None),
    "the name in null, the text in the message": (refused(f"{NAME}", limit_name=None), NAME),
}


@in_one_test("case", NAMED)
def test_a_limit_of_requests_per_day_is_told_by_its_name(case: str) -> None:
    error, name = NAMED[case]

    found = told(error)

    assert (found and found.limit_name) == name


def test_another_status_is_no_quota() -> None:
    error = InternalServerResponseError(NAME)
    error.data = ErrorData(ErrorDetail(500, NAME, {"limit_name": NAME}))

    assert told(error) is None


def seconds(moment: datetime) -> str:
    return str(int(moment.timestamp()))


def millis(moment: datetime) -> str:
    return f"{seconds(moment)}000"


RESETS: dict[str, tuple[Mapping[str, str], object, datetime]] = {
    "nothing": ({}, None, MIDNIGHT),
    "seconds": ({"X_RateLimit_Reset": seconds(LATER)}, None, LATER),
    "milliseconds": ({"X_RateLimit_Reset": millis(LATER)}, None, LATER),
    "a fraction": ({"X_RateLimit_Reset": f"{seconds(LATER)}.0"}, None, LATER),
    "metadata": ({}, {"X-RateLimit-Reset": millis(LATER)}, LATER),
    "metadata, small": ({}, {"x-ratelimit-reset": seconds(LATER)}, LATER),
    "metadata, a number": ({}, {"X-RateLimit-Reset": int(seconds(LATER))}, LATER),
    "metadata, a list": ({}, [seconds(LATER)], MIDNIGHT),
    "both": ({"X_RateLimit_Reset": seconds(LATER)}, {"X-RateLimit-Reset": "1"}, LATER),
    "the past": ({"X_RateLimit_Reset": seconds(NOW - DAY)}, None, MIDNIGHT),
    "now": ({"X_RateLimit_Reset": seconds(NOW)}, None, MIDNIGHT),
    "in two days": ({"X_RateLimit_Reset": seconds(NOW + 2 * DAY)}, None, MIDNIGHT),
    "relative": ({"X_RateLimit_Reset": "3600"}, None, MIDNIGHT),
    "negative": ({"X_RateLimit_Reset": "-5"}, None, MIDNIGHT),
    "infinite": ({"X_RateLimit_Reset": "inf"}, None, MIDNIGHT),
    "nan": ({"X_RateLimit_Reset": "nan"}, None, MIDNIGHT),
    "huge": ({"X_RateLimit_Reset": "9" * 400}, None, MIDNIGHT),
    "a text": ({"X_RateLimit_Reset": "tomorrow"}, None, MIDNIGHT),
    "a Date beyond midnight": ({"Date": "Sun, 29 Nov 2026 00:10:00 GMT"}, None, MIDNIGHT + DAY),
    "a Date that cannot be": ({"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}, None, MIDNIGHT),
    "a service that lives in another year": (
        {
            "Date": "Wed, 05 Jan 2028 20:00:00 GMT",
            "X_RateLimit_Reset": seconds(datetime(2028, 1, 6, tzinfo=UTC)),
        },
        None,
        datetime(2028, 1, 6, tzinfo=UTC),
    ),
}


@in_one_test("case", RESETS)
def test_when_it_is_full_again_is_read_or_is_the_next_midnight(case: str) -> None:
    headers, metadata, resets_at = RESETS[case]

    found = told(refused(limit_name=NAME, headers=metadata), **headers)

    assert found is not None
    assert found.resets_at == resets_at
    assert found.retry_after is not None
    assert 0 < found.retry_after <= 25 * 3600


@in_one_test(
    "text, limit",
    [("1000", 1000), ("10000", 10_000), ("0", 0), ("many", None), ("-1", None), ("9" * 99, None)],
)
def test_its_size_is_read_where_it_is_told(text: str, limit: int | None) -> None:
    found = told(refused(limit_name=NAME), X_RateLimit_Limit=text)
    beside = told(refused(limit_name=NAME, headers={"x-ratelimit-limit": text}))

    assert found is not None
    assert beside is not None
    assert (found.limit, beside.limit) == (limit, limit)


# --- one call ---

CALLS: dict[str, Callable[[AsyncAPIKeys, str], Awaitable[object]]] = {
    "create": lambda keys, _: keys.create(name="new"),
    "create, settled": lambda keys, _: keys.create(name="new", on_unknown="reconcile"),
    "update": lambda keys, one: keys.update(one, limit=None),
    "delete": lambda keys, one: keys.delete(one),
}
BLOCKING: dict[str, Callable[[APIKeys, str], object]] = {
    "create": lambda keys, _: keys.create(name="new"),
    "create, settled": lambda keys, _: keys.create(name="new", on_unknown="reconcile"),
    "update": lambda keys, one: keys.update(one, limit=None),
    "delete": lambda keys, one: keys.delete(one),
}
VARIANTS = {
    "usual": DailyQuota(0),
    "only in the message": DailyQuota(0, named_in="message"),
    "headers in the metadata": DailyQuota(0, headers_in="metadata"),
    "no headers": DailyQuota(0, headers_in="none"),
    "seconds": DailyQuota(0, unit="seconds"),
    "seconds in the metadata": DailyQuota(0, unit="seconds", headers_in="metadata"),
    "another limit a day": DailyQuota(0, name="keys-create-rpd"),
}
GRID = [*itertools.product(CALLS, VARIANTS)]


def assert_says_when_to_go_on(error: QuotaExhaustedError, variant: str, now: datetime) -> None:
    quota = VARIANTS[variant]
    assert error.resets_at == now.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
    assert error.limit_name == quota.name
    assert error.limit == (None if quota.headers_in == "none" else 0)
    assert (error.status_code, error.attempts, error.maybe_applied) == (429, 1, False)
    assert isinstance(error, TooManyRequestsResponseError)
    assert f"go on after {error.resets_at:%Y-%m-%d} 00:00 UTC" in str(error)
    assert quota.name in str(error)


@pytest.mark.parametrize(("operation", "variant"), GRID)
async def test_a_change_beyond_the_quota_is_sent_once(
    operation: str, variant: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    hash = emulator.account.add().hash
    emulator.daily_quota = evolve(VARIANTS[variant])

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(QuotaExhaustedError) as caught:
            await CALLS[operation](keys, hash)

    assert_says_when_to_go_on(caught.value, variant, emulator.account.clock())
    assert emulator.count(operation.partition(",")[0]) == 1
    assert fake_time.slept == []


@pytest.mark.parametrize(("operation", "variant"), GRID)
def test_a_blocking_change_beyond_the_quota_is_sent_once(
    operation: str, variant: str, openrouter_emulator: Emulator
) -> None:
    emulator = openrouter_emulator
    hash = emulator.account.add().hash
    emulator.daily_quota = evolve(VARIANTS[variant])

    with (
        OpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
        pytest.raises(QuotaExhaustedError) as caught,
    ):
        BLOCKING[operation](client.api_keys, hash)

    assert_says_when_to_go_on(caught.value, variant, emulator.account.clock())
    assert emulator.count(operation.partition(",")[0]) == 1


async def test_a_limit_a_minute_is_waited_for(emulator: Emulator, fake_time: FakeTime) -> None:
    emulator.rate_limit = RateLimit(1000, 1, name="keys-modify-api-rpm-v2")

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        await keys.create(name="one")
        await keys.create(name="two")

    assert len(emulator.account.keys) == 2


async def test_a_read_beyond_a_limit_a_day_is_not_sent_again(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    body = b'{"error":{"code":429,"message":"no more","metadata":{"limit_name":"keys-rpd"}}}'
    emulator.faults.append(Fault("list", status=429, body=body))

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(QuotaExhaustedError):
            await keys.list()
        # It says nothing about changes, nor is it remembered.
        await keys.create(name="new")
        await keys.list()

    assert emulator.count("list") == 2


async def test_a_delete_that_may_have_been_applied_before_it_says_so(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    hash = emulator.account.add().hash
    emulator.faults.append(Fault("delete", status=502))
    emulator.daily_quota = DailyQuota(0)

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(QuotaExhaustedError, match="may have been applied") as caught:
            await keys.delete(hash)

    assert (caught.value.attempts, emulator.count("delete")) == (2, 2)


async def test_a_create_without_an_answer_tells_of_the_quota_that_keeps_its_key(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault("create", kind="reset", phase="after"))
    emulator.daily_quota = DailyQuota(1)

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            await keys.create(name="new", on_unknown="reconcile")

    (key,) = emulator.account.keys.values()
    (note,) = caught.value.__notes__
    assert key.hash in note
    assert "go on after" in note
    assert emulator.count("delete") == 1


# --- what is remembered ---


@pytest.mark.parametrize("first", CALLS)
@pytest.mark.parametrize("second", CALLS)
async def test_after_one_refusal_changes_are_refused_without_a_request(
    first: str, second: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    hash = emulator.account.add().hash
    emulator.daily_quota = DailyQuota(0)

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(QuotaExhaustedError) as asked:
            await CALLS[first](keys, hash)
        with pytest.raises(QuotaExhaustedError, match="was not sent") as unasked:
            await CALLS[second](keys, hash)
        await keys.get(hash)
        await keys.list()
        await keys.get_current_key_metadata()

    assert unasked.value.resets_at == asked.value.resets_at
    assert unasked.value.operation == second.partition(",")[0]
    assert (unasked.value.attempts, unasked.value.maybe_applied) == (0, False)
    assert len(emulator.requests) == 4


async def test_a_quota_that_was_raised_is_noticed_within_a_minute(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.daily_quota = DailyQuota(0)

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        for _ in range(3):
            for _ in range(5):
                with pytest.raises(QuotaExhaustedError):
                    await keys.create(name="new")
            await fake_time.sleep(REMEMBERED)
        assert emulator.count("create") == 3  # one a minute

        emulator.daily_quota = DailyQuota(5)
        for _ in range(5):
            await keys.create(name="new")

    assert len(emulator.account.keys) == 5


async def test_at_the_reset_it_is_forgotten(emulator: Emulator) -> None:
    time = JumpingTime()
    emulator.daily_quota = DailyQuota(1)

    async with client_of(emulator, time) as client:
        almost = time.now().replace(hour=0, minute=0, second=0, microsecond=0) + DAY
        await time.sleep((almost - time.now()).total_seconds() - 20)
        await client.api_keys.create(name="one")
        with pytest.raises(QuotaExhaustedError) as caught:
            await client.api_keys.create(name="two")
        await time.sleep(21)
        await client.api_keys.create(name="two")

    assert caught.value.resets_at == almost
    assert len(emulator.account.keys) == 2


# --- provision ---


async def tomorrow(time: JumpingTime) -> None:
    await time.sleep(86_400)


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 8, 32])
async def test_a_run_beyond_the_quota_stops_and_goes_on_the_next_day(
    *,
    concurrency: int,
    emulator: Emulator,
    client: AsyncOpenRouter,
    time: JumpingTime,
    path: Path,
) -> None:
    emulator.daily_quota = DailyQuota(30)
    taken: list[ProvisionResult] = []

    async def run(wanted: list[KeySpec]) -> Any:
        return await client.provision(
            wanted, journal=path, on_result=taken.append, concurrency=concurrency
        )

    error = await stopped(run(specs(50)))

    cause = error.__cause__
    assert isinstance(cause, QuotaExhaustedError)
    assert (error.report.created, error.report.in_doubt) == (30, 0)
    assert str(cause) in str(error)
    assert emulator.count("create") <= 30 + concurrency
    assert time.slept == []
    assert await counts(path) == {"settled": 30}

    # On the same day nothing more than a minute's one is wasted.
    sent = emulator.count("create")
    await stopped(run(specs(50)))
    assert emulator.count("create") <= sent + 1

    await tomorrow(time)
    report = await run(specs(50))
    assert (report.created, report.settled_before, report.ok) == (20, 30, True)
    assert_whole(emulator, specs(50), taken)


LOST = {
    "reset": Fault("create", kind="reset", phase="after", times=4),
    "502": Fault("create", status=502, phase="after", times=4),
    "closed": Fault("create", kind="closed", phase="after", times=4),
    "half a body": Fault("create", kind="cut", portion=0.1, phase="after", times=4),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", LOST)
async def test_what_a_reconcile_may_not_delete_is_left_for_the_next_run(
    *,
    fault: str,
    emulator: Emulator,
    client: AsyncOpenRouter,
    time: JumpingTime,
    path: Path,
) -> None:
    emulator.daily_quota = DailyQuota(11)  # 10 creates, and one delete
    emulator.faults.append(evolve(LOST[fault]))
    taken: list[ProvisionResult] = []

    error = await stopped(
        client.provision(specs(10), journal=path, on_result=taken.append, concurrency=4)
    )

    assert isinstance(error.__cause__, QuotaExhaustedError)
    report = error.report
    assert (report.created, report.in_doubt, report.ok) == (6, 3, False)
    assert report.deleted == 1
    left = {key.hash for key in emulator.account.keys.values()} - {t.data.hash for t in taken}
    assert len(left) == 3
    assert {hash for doubt in report.doubts for hash in doubt.hashes} == left
    assert emulator.count("delete") <= 1 + 4  # what was under way when the first was refused

    await tomorrow(time)
    report = await client.provision(specs(10), journal=path, on_result=taken.append)
    assert (report.created, report.settled_before, report.ok) == (4, 6, True)
    assert_whole(emulator, specs(10), taken)


@pytest.mark.slow
async def test_a_key_of_the_wrong_form_that_may_not_be_disabled_is_told(
    emulator: Emulator, client: AsyncOpenRouter, time: JumpingTime, path: Path
) -> None:
    emulator.daily_quota = DailyQuota(1)
    emulator.account.extra_fields["limit"] = None

    error = await client.provision(specs(1, limit=5), journal=path, on_result=print)

    assert (error.mismatched, error.ok) == (1, False)
    assert "go on after" in error.mismatches[0].reason
    assert emulator.count("update") == 1
    await tomorrow(time)
    report = await client.provision(specs(1, limit=5), journal=path, on_result=print)
    (key,) = emulator.account.keys.values()
    assert key.disabled
    assert report.mismatched == 1


# --- rotate ---


@pytest.mark.slow
@pytest.mark.parametrize("quota", [0, 1, 15, 17, 20, 30, 44])
async def test_a_rotation_beyond_the_quota_stops_and_goes_on_the_next_day(
    *, quota: int, emulator: Emulator, client: AsyncOpenRouter, time: JumpingTime, path: Path
) -> None:
    old = old_keys(emulator, 15)  # which need 15 creates, updates and deletes
    emulator.daily_quota = DailyQuota(quota)
    taker = Taker(emulator)
    wanted: list[str] = hashes(old)
    stops = 0
    report: RotationReport | None = None
    exhausted: BaseException | None

    while True:
        before = len(emulator.requests)
        try:
            report = await client.rotate(
                wanted, journal=path, on_result=taker, retire_after=0, concurrency=4
            )
            exhausted = report.exhausted
        except ProvisioningStoppedError as error:
            exhausted = error.__cause__
        if exhausted is None:
            break
        stops += 1
        assert isinstance(exhausted, QuotaExhaustedError)
        changes = [r for r in emulator.requests[before:] if r.operation not in ("list", "get")]
        # Those that were under way beside the first that was refused.
        assert sum(request.status == 429 for request in changes) <= 4
        assert_none_retired_too_early(emulator, wanted, taker)
        if not quota:
            return
        quota = max(quota, 20)
        emulator.daily_quota = DailyQuota(quota)
        await tomorrow(time)

    assert stops
    assert report is not None
    assert report.ok
    assert_one_twin_each(emulator, old, taker)


@pytest.mark.slow
async def test_a_retirement_beyond_the_quota_tells_when_to_go_on(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    old = old_keys(emulator, 20)
    taker = Taker(emulator)
    await client.rotate(hashes(old), journal=path, on_result=taker)
    emulator.daily_quota = DailyQuota(0)
    before = len(emulator.requests)

    report = await client.rotate((), journal=path, retire_after=0, concurrency=1)

    assert isinstance(report.exhausted, QuotaExhaustedError)
    assert (report.ok, report.retired, report.waiting, report.failed) == (False, 0, 20, 0)
    assert all(live(emulator, old))
    # Once each twin was looked at, the first that is disabled ends it.
    assert [request.operation for request in emulator.requests[before:]].count("update") == 1


# --- the command ---


def customers(command: Command, count: int) -> None:
    rows = "".join(f"c{number},Customer {number},5\n" for number in range(count))
    (command.folder / "customers.csv").write_text(f"ref,name,limit\n{rows}")


def test_the_command_says_when_to_go_on(command: Command) -> None:
    customers(command, 5)
    command.emulator.daily_quota = DailyQuota(3)

    ran = command("provision", "customers.csv", "--journal", "c.journal")

    assert ran.code == 1
    assert re.search(r"wait until \d{4}-\d\d-\d\d 00:00 UTC, then go on with: openrouter", ran.err)
    assert NAME in ran.err
    assert "3 created" in ran.err
    command.emulator.account.advance(days=1)
    ran = command("provision", "customers.csv", "--journal", "c.journal")
    assert ran.code == 0
    assert len(command.emulator.account.keys) == 5


@pytest.mark.parametrize(
    "words", ["create one --show-secret", "update {} --limit 3", "delete {} --yes"]
)
def test_a_command_that_changes_one_key_says_when_to_go_on(command: Command, words: str) -> None:
    hash = command.emulator.account.add().hash
    command.emulator.daily_quota = DailyQuota(0)

    ran = command(*words.format(hash).split())

    assert ran.code == 1
    assert re.search(r"go on after \d{4}-\d\d-\d\d 00:00 UTC", ran.err)
    changes = [
        r for r in command.emulator.requests if r.operation in ("create", "update", "delete")
    ]
    assert len(changes) == 1


@pytest.mark.slow
def test_deleting_many_stops_at_the_quota_and_tells_how_far_it_came(command: Command) -> None:
    for number in range(100):
        command.emulator.account.add(f"key-{number}")
    command.emulator.daily_quota = DailyQuota(40)

    ran = command("delete", "-", "--yes", stdin="\n".join(command.emulator.account.keys))

    assert ran.code == 1
    assert "40 deleted; 60 may still exist: the same command goes on" in ran.err
    assert "go on after" in ran.err
    assert command.emulator.count("delete") <= 40 + 16


@pytest.mark.slow
def test_a_rotation_by_the_command_says_when_to_go_on(command: Command) -> None:
    old = old_keys(command.emulator, 3)
    command.emulator.daily_quota = DailyQuota(5)
    assert command("rotate", *hashes(old), "--journal", "r.journal").code == 0

    ran = command("rotate", "--finish", "--journal", "r.journal", "--yes", "--json")

    assert ran.code == 3
    report = json.loads(ran.out)["report"]
    assert (report["ok"], report["failed"]) == (False, 0)
    assert "go on after" in report["stopped"]
    assert re.search(r"wait until .* 00:00 UTC, then go on with: .* rotate --finish", ran.err)


@pytest.mark.slow
def test_plans_say_how_much_of_a_daily_quota_they_need(command: Command) -> None:
    customers(command, 100)
    told = command("provision", "customers.csv", "--plan", "--json")
    assert json.loads(told.out)["summary"]["changes"] == 100
    assert "needs up to 100 changes of the service's daily quota" in told.err

    customers(command, 3)
    command.emulator.faults.append(Fault("create", kind="reset", phase="after", times=None))
    # The first doubts are settled by deletes, of which there are none left.
    command.emulator.daily_quota = DailyQuota(3)
    words = ("customers.csv", "--journal", "c.journal", "--quiet-period", "0")
    assert command("provision", *words).code == 5
    told = command("provision", *words, "--plan", "--json")
    assert json.loads(told.out)["summary"]["changes"] == 6

    command.emulator.daily_quota = None
    command.emulator.faults.clear()
    old = old_keys(command.emulator, 2)  # a create, two updates and a delete each
    forever = old_keys(command.emulator, 1, limit=None)  # whose twin's limit is not lowered
    ran = command("rotate", *hashes([*old, *forever]), "--dry-run", "--journal", "r.journal")
    assert "needs up to 11 changes of the service's daily quota" in ran.err
