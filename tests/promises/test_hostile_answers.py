"""Answers that would have a reconcile harm keys, or stop it: odd rows, and lists that lie."""

import asyncio
import os
import pickle
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, define

from openrouter_keys import AsyncOpenRouter, KeySpec, ProvisionResult
from openrouter_keys._base.clock import Clockwork
from openrouter_keys.errors import CreateOutcomeUnknownError, SecretLostError
from tests.cases import KEY, Case
from tests.journals import spec
from tests.misbehaving import Answer, Asked, Misbehaving, Record, hash_of, misbehaving
from tests.virtual_time import run

WORKSPACE = "aaaaaaaa-d932-5740-b2c7-b52af166bc11"
ELSEWHERE = "bbbbbbbb-d932-5740-b2c7-b52af166bc11"


def listed(change: Callable[[Record], Record]) -> Callable[[list[Record], int], Sequence[Record]]:
    """A list whose rows are changed."""
    return lambda keys, offset: [change(key) for key in keys[offset : offset + 100]]


# --- one odd row stops nothing ---

ODD: dict[str, Record] = {
    "half a surrogate pair in a name": {"name": "x\ud800y"},
    "the other half": {"name": "\udc00"},
    "it in a hash": {"hash": "\udfff" * 64},
    "a hash that is no path": {"hash": "../../etc"},
    "an empty hash": {"hash": ""},
    "a name of nothing but white space": {"name": "\u2028 \t"},
    "a name that is longer than any": {"name": "x" * 100_000},
    "it in the name asked for": {"name": "n\ud800"},
    "it in a workspace": {"workspace_id": "\ud800"},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_an_odd_row_keeps_no_single_create_from_being_settled(
    odd: Record, case: Case
) -> None:
    other = case.service.add("another")
    case.service.page = listed(lambda key: key | odd if key["hash"] == other["hash"] else key)
    case.service.outcomes.append("lost")

    created = await case.client.api_keys.create(name="n", on_unknown="reconcile")

    assert case.service.hashes == {other["hash"], created.data.hash}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_an_odd_row_stops_no_run(odd: Record, case: Case, path: Path) -> None:
    other = case.service.add("another")
    case.service.page = listed(lambda key: key | odd if key["hash"] == other["hash"] else key)
    case.service.outcomes.extend(["told", "lost"])

    report = await case.client.provision([spec("a"), spec("b")], journal=path, concurrency=1)

    assert (report.created, report.ok) == (2, True)
    assert len(case.service.keys) == 3


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "\ud83d", "n\udfff"], ids=ascii)
async def test_an_odd_name_of_ones_own_is_settled(name: str, case: Case, path: Path) -> None:
    case.service.outcomes.append("lost")
    created = await case.client.api_keys.create(name=name, on_unknown="reconcile")
    case.service.outcomes.append("lost")
    report = await case.client.provision([spec(name=name)], journal=path)
    assert report.ok
    assert case.service.hashes >= {created.data.hash}
    assert len(case.service.keys) == 2


@pytest.mark.parametrize(
    "problem", [UnicodeError("odd"), RecursionError("deep"), MemoryError(), KeyError("k")], ids=repr
)
async def test_whatever_keeps_a_create_from_being_settled_it_is_told(
    problem: Exception, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise problem

    monkeypatch.setattr("openrouter_keys._reconcile.reconcile.Names", fails)
    case.service.outcomes.append("lost")
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="n", on_unknown="reconcile")
    assert (caught.value.name, caught.value.attempts) == ("n", 1)
    assert type(problem).__name__ in "".join(caught.value.__notes__)


# --- a list is whole only if it shows what was made where it was made ---


def of_another_workspace(service: Misbehaving) -> None:
    service.page = lambda keys, _: [key for key in service.keys if key["name"] == "other"]


def nothing_at_all(service: Misbehaving) -> None:
    service.page = lambda keys, _: []


def all_but_ours_of_another(service: Misbehaving) -> None:
    service.page = lambda keys, _: [
        key | {"workspace_id": ELSEWHERE} for key in service.keys if key["name"] == "other"
    ]


def in_capitals(service: Misbehaving) -> None:
    service.page = lambda keys, _: [
        key | {"workspace_id": key["workspace_id"].upper()}
        for key in service.keys
        if key["name"] == "other"
    ]


@pytest.mark.parametrize(
    "lie", [of_another_workspace, nothing_at_all, all_but_ours_of_another, in_capitals]
)
@pytest.mark.parametrize("asked", [None, WORKSPACE, WORKSPACE.upper()])
async def test_a_list_that_shows_another_workspace_proves_nothing(
    lie: Callable[[Misbehaving], None], asked: str | None, case: Case, path: Path
) -> None:
    case.service.add("other", workspace_id=ELSEWHERE)
    case.service.shown = lambda record: record | {"workspace_id": (asked or "default").lower()}
    case.service.outcomes.extend(["told", "lost"])
    taken: list[ProvisionResult] = []

    def take(result: ProvisionResult) -> None:
        for record in case.service.keys[1:]:
            record["workspace_id"] = (asked or "default").lower()
        lie(case.service)
        taken.append(result)

    report = await case.client.provision(
        [spec(str(number), workspace_id=asked) for number in range(3)],
        journal=path,
        on_result=take,
        concurrency=1,
    )

    assert not report.ok
    assert [doubt.ref for doubt in report.doubts] == ["1"]
    held = {hash_of(result.key) for result in taken}
    assert len(case.service.hashes - held) == 2  # the other one, and that in doubt: never a twin


@pytest.mark.parametrize("moved", [ELSEWHERE, ELSEWHERE.upper()])
async def test_a_key_that_was_moved_is_not_missed(moved: str, case: Case, path: Path) -> None:
    case.service.outcomes.extend(["told", "told", "lost"])

    def take(_: ProvisionResult) -> None:
        case.service.keys[0]["workspace_id"] = moved

    report = await case.client.provision(
        [spec(str(number)) for number in range(3)], journal=path, on_result=take, concurrency=1
    )

    assert (report.created, report.deleted, report.ok) == (3, 1, True)


# --- a list whose body is late, or that a cache kept, does not move the window ---


def virtual(service: Misbehaving) -> Clockwork:
    """Clocks of the running loop, whose time jumps; the service's time of day is another one."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    ahead = timedelta(minutes=7)
    service.now = lambda: now + ahead + timedelta(seconds=loop.time() - begun)
    return Clockwork(monotonic=loop.time, now=lambda: service.now() - ahead)


def late_body(service: Misbehaving, seconds: float) -> None:
    async def dawdle(asked: Asked) -> None:
        if asked.method == "GET":
            await asyncio.sleep(seconds)

    service.dawdle = dawdle


def late_bodies_of_creates_too(service: Misbehaving, seconds: float) -> None:
    service.dawdle = lambda _: asyncio.sleep(seconds)


def kept_by_a_cache(service: Misbehaving, seconds: float) -> None:
    def page(keys: list[Record], offset: int) -> Answer:
        headers = {
            "Date": format_datetime(service.now() - timedelta(seconds=seconds), usegmt=True),
            "Age": f"{seconds:.0f}",
        }
        return Answer(200, {"data": keys[offset : offset + 100]}, headers)

    service.date = lambda _: None
    service.page = page


LATE = [late_body, late_bodies_of_creates_too, kept_by_a_cache]


@pytest.mark.parametrize("seconds", [0.0, 12.0, 20.0])
@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("way", ["create", "provision"])
def test_a_late_list_deletes_no_key_that_was_made_before(
    way: str, late: Callable[[Misbehaving, float], None], seconds: float, path: Path
) -> None:
    async def go() -> None:
        async with (
            misbehaving() as service,
            AsyncOpenRouter(KEY, server_url=service.url) as client,
        ):
            client._transport.clockwork = virtual(service)
            late(service, seconds)
            specs = SlowSpecs()
            made_before = asyncio.create_task(specs.made_before(service))
            service.outcomes.extend(["502"])
            if way == "create":
                held = await made_before
                await settled(client)
            else:
                await client.provision(specs, journal=path, concurrency=1)
                held = await made_before
            assert held in service.hashes

    run(go())


@define
class SlowSpecs:
    """One spec, 12 seconds after somebody else made a key of its name."""

    made: asyncio.Event = Factory(asyncio.Event)

    async def made_before(self, service: Misbehaving) -> str:
        await asyncio.sleep(100)
        held: str = service.add("n")["hash"]
        self.made.set()
        await asyncio.sleep(12)
        return held

    async def __aiter__(self) -> AsyncIterator[KeySpec]:
        await self.made.wait()
        await asyncio.sleep(12)
        yield KeySpec(ref="r", name="n")


async def settled(client: AsyncOpenRouter) -> None:
    with suppress(CreateOutcomeUnknownError):
        await client.api_keys.create(name="n", on_unknown="reconcile")


@pytest.mark.parametrize("late", [late_body, late_bodies_of_creates_too])
@pytest.mark.parametrize("way", ["create", "provision"])
def test_a_late_list_still_proves_a_lost_key(
    way: str, late: Callable[[Misbehaving, float], None], path: Path
) -> None:
    async def go() -> None:
        async with (
            misbehaving() as service,
            AsyncOpenRouter(KEY, server_url=service.url) as client,
        ):
            client._transport.clockwork = virtual(service)
            late(service, 20.0)
            service.outcomes.append("lost")
            if way == "create":
                await client.api_keys.create(name="n", on_unknown="reconcile")
            else:
                assert (await client.provision([KeySpec(ref="r", name="n")], journal=path)).ok
            assert len(service.keys) == 1

    run(go())


# --- a key is looked at before it is deleted ---

WRONG: dict[str, Record] = {
    "another name": {"name": "prod"},
    "spending": {"usage": 123.0},
    "an older key": {"created_at": "2025-10-01T00:00:00Z"},
    "another limit": {"limit": 7},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("way", ["create", "provision"])
async def test_no_key_is_deleted_that_a_list_alone_makes_ours(
    way: str, wrong: Record, case: Case, path: Path
) -> None:
    case.service.outcomes.append("lost")

    def mixed_up(keys: list[Record], offset: int) -> Sequence[Record]:
        for key in case.service.keys[:1]:
            key.update(wrong)
        made = {"usage": 0, "limit": None, "created_at": case.time.now().isoformat()}
        return [key | made | {"name": "n"} for key in keys[offset : offset + 100]]

    case.service.page = mixed_up
    if way == "create":
        with pytest.raises(CreateOutcomeUnknownError):
            await case.client.api_keys.create(name="n", on_unknown="reconcile")
    else:
        assert not (await case.client.provision([spec(name="n")], journal=path)).ok
    assert case.service.count("DELETE") == 0


@pytest.mark.parametrize("change", [str.upper, str.title])
async def test_a_key_that_is_listed_in_capitals_is_known(
    change: Callable[[str], str], case: Case, path: Path
) -> None:
    case.service.page = listed(lambda key: key | {"hash": change(key["hash"])})
    held = {(await case.client.api_keys.create(name="n")).data.hash}
    await case.client.provision([spec("a", name="n")], journal=path)
    held = case.service.hashes
    case.service.outcomes.append("502")
    await case.client.api_keys.create(name="n", on_unknown="reconcile")
    assert held < case.service.hashes


# --- a hash that was told without its secret is looked at by itself ---


@pytest.mark.parametrize(
    ("is_now", "settles"),
    [
        ({}, True),
        ({"name": "acme/n"}, False),
        ({"usage": 1.0}, False),
        ({"limit": 9}, False),
        ({"created_at": "2099-10-01T00:00:00Z"}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["create", "reconcile", "provision"])
async def test_a_told_hash_is_looked_at_though_no_list_has_it(
    way: str, is_now: Record, *, settles: bool, case: Case, path: Path
) -> None:
    told: list[Record] = []

    def answer(asked: Asked) -> Answer | None:
        if asked.method != "POST" or told:
            return None
        case.service._create(dict(asked.body))
        (record,) = case.service.keys
        told.append(record)
        shown = dict(record)
        record.update(is_now)
        return Answer(201, {"data": shown})

    case.service.answer = answer
    case.service.page = lambda keys, _: (
        [key for key in keys if key["hash"] != told[0]["hash"]] if told else []
    )
    if way == "provision":
        report = await case.client.provision([spec(name="n", limit=5)], journal=path)
        assert report.ok is settles
        if not settles:
            assert [doubt.hashes for doubt in report.doubts] == [(told[0]["hash"],)]
    elif way == "create":
        with suppress(SecretLostError):
            await case.client.api_keys.create(name="n", limit=5, on_unknown="reconcile")
    else:
        with pytest.raises(SecretLostError) as caught:
            await case.client.api_keys.create(name="n", limit=5)
        error = pickle.loads(pickle.dumps(caught.value))
        assert (await case.client.api_keys.reconcile(error)).settled is settles
    assert (told[0]["hash"] in case.service.hashes) is not settles
    assert len(case.service.keys) == (settles is False or way != "reconcile")


ASKED: list[dict[str, Any]] = [
    {},
    {"limit": 50},
    {"limit": 50, "limit_reset": "monthly"},
    {"expires_at": datetime(2027, 1, 1, tzinfo=UTC)},
    {"include_byok_in_limit": True},
    {"external": {"user": "acme-7", "api_key": "p" * 40}},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
async def test_an_error_reconciles_whatever_was_asked_for(
    asked: dict[str, Any], case: Case
) -> None:
    case.service.outcomes.append("lost")
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await case.client.api_keys.create(name="n", **asked)
    pickled = pickle.dumps(caught.value)
    assert b"p" * 40 not in pickled
    found = await case.client.api_keys.reconcile(pickle.loads(pickled))
    assert (found.settled, len(found.deleted), case.service.keys) == (True, 1, [])
