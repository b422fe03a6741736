"""Caches that answer in the service's place: what they say proves nothing, and sets no clock."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from openrouter_keys import ProvisioningStoppedError, ProvisionReport
from openrouter_keys.errors import CreateOutcomeUnknownError, SecretLostError
from tests.cases import Case
from tests.journals import spec
from tests.misbehaving import PAGE, Answer, Asked, Record, refused

Cache = Callable[[Case], None]


def is_list(asked: Asked) -> bool:
    return asked.method == "GET" and asked.path.endswith("/keys")


def dated(time: datetime) -> str:
    return format_datetime(time, usegmt=True)


def renews_the_date(age: str) -> Cache:
    """True lists, each with a fresh `Date` and an `Age`, as a CDN sends them."""

    def behave(case: Case) -> None:
        case.service.page = lambda keys, offset: Answer(
            200, {"data": keys[offset : offset + PAGE]}, {"Age": age}
        )

    return behave


def keeps(date: bool) -> Cache:
    """The list as it was before the create."""

    def behave(case: Case) -> None:
        body = json.dumps({"data": case.service.keys[::-1]}).encode()
        then = case.time.now()

        def page(*_: object) -> Answer:
            now = case.time.now()
            age = {"Age": str(int((now - then).total_seconds()) + 1)}
            return Answer(200, body, age | {"Date": dated(then if date else now)})

        case.service.page = page

    return behave


def keeps_the_second_page(case: Case) -> None:
    for number in range(PAGE + 20):
        case.service.add(f"another-{number}")

    def page(keys: list[Record], offset: int) -> Answer:
        here = [key for key in keys if key["name"] != "n"] if offset else keys[1:]
        return Answer(
            200, {"data": here[offset : offset + PAGE]}, {"Age": "9"} if offset else {"Age": "0"}
        )

    case.service.page = page


async def provisioned(case: Case, path: Path) -> ProvisionReport:
    try:
        return await case.client.provision([spec(name="n")], journal=path)
    except ProvisioningStoppedError as error:
        return error.report


CACHES: dict[str, Cache] = {
    "a second old": renews_the_date("1"),
    "a minute old": renews_the_date("60"),
    "an hour old": renews_the_date("5000"),
    "of an age that no one can read": renews_the_date("old"),
    "from before the create": keeps(date=True),
    "from before the create, its date renewed": keeps(date=False),
    "its second page alone": keeps_the_second_page,
}


@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
@pytest.mark.parametrize("way", ["create", "provision"])
async def test_nothing_is_concluded_from_a_list_that_a_cache_answered(
    way: str, cache: Cache, case: Case, path: Path
) -> None:
    case.service.add("another")
    cache(case)
    case.service.outcomes.append("lost")
    if way == "create":
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            await case.client.api_keys.create(name="n", on_unknown="reconcile")
        why = "".join(caught.value.__notes__)
    else:
        (doubt,) = (await provisioned(case, path)).doubts
        why = doubt.reason
    assert "a cache answered" in why
    assert [key["name"] for key in case.service.keys].count("n") == case.service.count("POST") == 1


async def test_a_cached_list_is_asked_for_again_and_caches_are_asked_not_to_answer(
    case: Case,
) -> None:
    case.service.add("another")
    case.service.outcomes.append("lost")

    def page(keys: list[Record], offset: int) -> Answer:
        case.looks += 1
        return Answer(200, {"data": keys[offset:]}, {"Age": "5"} if case.looks < 4 else {})

    case.service.page = page
    await case.client.api_keys.create(name="n", on_unknown="reconcile")
    assert [key["name"] for key in case.service.keys] == ["another", "n"]
    looks = [asked for asked in case.service.asked if asked.method == "GET"][1:]
    assert {asked.headers["cache-control"] for asked in looks} == {"no-cache"}


# --- a look at one key ---


def told_and_kept(case: Case) -> None:
    """A create's answer lacks the secret; a cache has a 404 for its key, which no list has yet."""

    def answer(asked: Asked) -> Answer | None:
        if asked.method == "POST":
            case.service._create(asked.body)
            return Answer(201, {"data": case.service.keys[-1]})
        if is_list(asked):
            return Answer(200, {"data": case.service.keys[:1]})
        found = refused(404, "Resource not found")
        return Answer(found.status, found.body, {"Age": "30"})

    case.service.answer = answer


def kept_before_it_was_used(case: Case) -> None:
    case.service.outcomes.append("lost")

    def answer(asked: Asked) -> Answer | None:
        own = [key for key in case.service.keys if asked.path.endswith(key["hash"])]
        if asked.method != "GET" or not own:
            return None
        kept = {**own[0]}
        own[0]["usage"] = 1.5
        return Answer(200, {"data": kept}, {"Age": "30"})

    case.service.answer = answer


def kept_after_a_delete(case: Case) -> None:
    """The DELETE finds nothing, and a cache has a 404 for the look after it."""
    case.service.outcomes.append("lost")

    def answer(asked: Asked) -> Answer | None:
        if asked.method == "DELETE":
            case.looks += 1
            return refused(404)
        if case.looks and not is_list(asked):
            found = refused(404)
            return Answer(found.status, found.body, {"Age": "30"})
        return None

    case.service.answer = answer


@pytest.mark.parametrize("kept", [told_and_kept, kept_before_it_was_used, kept_after_a_delete])
@pytest.mark.parametrize("way", ["create", "provision"])
async def test_a_cached_record_or_404_of_a_key_proves_nothing(
    way: str, kept: Cache, case: Case, path: Path
) -> None:
    case.service.add("another")
    kept(case)
    if way == "create":
        with pytest.raises((CreateOutcomeUnknownError, SecretLostError)):
            await case.client.api_keys.create(name="n", on_unknown="reconcile")
    else:
        assert not (await provisioned(case, path)).ok
    assert [key["name"] for key in case.service.keys] == ["another", "n"]


# --- clocks ---


@pytest.mark.parametrize("age", ["1", "60", "5000", "80000", "old"])
async def test_a_cached_answer_retires_no_old_key_too_early(
    age: str, case: Case, path: Path
) -> None:
    old = case.service.add("old", workspace_id="default")
    await case.client.rotate([old["hash"]], journal=path, on_result=lambda _: None)
    renews_the_date(age)(case)
    before = sum(case.time.slept)
    report = await case.client.rotate((), journal=path, retire_after=3600)
    assert (report.ok, report.retired) == (True, 1)
    assert 3600 < sum(case.time.slept) - before + 60 < 3700


@pytest.mark.parametrize("off", [60, 200, 3600])
async def test_a_create_that_a_cache_dates_widens_no_window(off: int, case: Case) -> None:
    def answer(asked: Asked) -> Answer | None:
        if asked.method != "POST" or case.looks:
            return None
        case.looks += 1
        told = case.service._create(asked.body)
        assert told is not None
        date = dated(case.time.now() + timedelta(seconds=off))
        return Answer(told.status, told.body, {"Age": "7", "Date": date})

    case.service.answer = answer
    await case.client.api_keys.create(name="another")
    by_hand = case.service.add("n")
    case.time.slept.append(50)
    case.service.outcomes.append("502")
    with pytest.raises(CreateOutcomeUnknownError):
        await case.client.api_keys.create(name="n", on_unknown="reconcile")
    assert by_hand in case.service.keys
