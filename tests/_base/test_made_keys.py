"""Keys that this process has made are never taken for lost ones, nor deleted by a wrong hash."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from openrouter_keys import AsyncOpenRouter, OpenRouter, ProvisionResult
from openrouter_keys._base import made_keys
from openrouter_keys._base.made_keys import MadeKey, MadeKeys
from openrouter_keys._reconcile.matching import Doubt
from openrouter_keys._reconcile.reconcile import Reconciliation, reconcile
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys.errors import CreatedKeyUnreadableError, OpenRouterError
from openrouter_keys.models import CreateKeysRequest
from openrouter_keys.operations import create
from tests.clients import FakeTime
from tests.journals import spec
from tests.misbehaving import Asked, Misbehaving, Record, hash_of, misbehaving
from tests.provisions import JumpingTime, counts, specs

KEY = "sk-or-mgmt-test-" + "0" * 32
VICTIM = "ab" * 32


@pytest.fixture
async def service() -> AsyncIterator[Misbehaving]:
    async with misbehaving() as service:
        yield service


@pytest.fixture
async def client(service: Misbehaving) -> AsyncIterator[AsyncOpenRouter]:
    async with AsyncOpenRouter(KEY, server_url=service.url) as client:
        client._transport.clockwork = FakeTime().clockwork()  # it looks again after a while
        yield client


# What a create's answer shows of a record.


def as_documented(record: Record) -> Any:
    return record


def without_limit(record: Record) -> Any:
    return record | {"limit": None}


def with_another_name(record: Record) -> Any:
    return record | {"name": "another"}


def only_the_hash(record: Record) -> Any:
    return {"hash": record["hash"]}


def nothing(_: Record) -> Any:
    return {}


def no_object(_: Record) -> Any:
    return []


def null(_: Record) -> Any:
    return None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://127.0.0.1:8080/api/v1", "HTTP://127.0.0.1:8080/api/v1", True),
        ("http://127.0.0.1:8080/api/v1", "http://localhost:8080/api/v1", True),
        ("http://[::1]:8080/api/v1", "http://LocalHost:8080/api/v1/", True),
        ("https://openrouter.ai/api/v1", "https://OpenRouter.ai:443/api/v1", True),
        ("http://127.0.0.1:8080/api/v1", "http://127.0.0.1:8081/api/v1", False),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai.example/api/v1", False),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v2", False),
    ],
)
def test_clients_know_each_others_keys_however_their_base_url_is_written(
    one: str, other: str, *, same: bool
) -> None:
    made = MadeKey.of(*_pair())
    MadeKeys(one).add(made)
    assert (made.hash in MadeKeys(other)) == same
    assert made.hash in MadeKeys(one)


def _pair() -> tuple[str, str]:
    secret = f"sk-or-v1-{uuid4().hex}"
    return hash_of(secret), secret


async def _nobody(_: str) -> bool:
    return False


async def reconciled(client: AsyncOpenRouter, name: str = "n") -> Reconciliation:
    """What a reconcile of a lost create makes of all keys of its name."""
    now = datetime.now(UTC)
    doubt = Doubt(
        request=CreateKeysRequest(name=name),
        since=now - timedelta(minutes=1),
        until=now + timedelta(minutes=1),
        creates=9,
    )
    return await reconcile(client._transport, [doubt], ServiceClock(lambda: now), knows=_nobody)


# --- what this process made is not ours to delete ---


async def bulk(client: AsyncOpenRouter) -> None:
    operation = create(CreateKeysRequest(name="n"), undo_if_cancelled=False)
    with suppress(CreatedKeyUnreadableError):
        await client._transport.perform(operation, {})


async def single(client: AsyncOpenRouter) -> None:
    with suppress(CreatedKeyUnreadableError):
        await client.api_keys.create(name="n")


async def of_another_client(client: AsyncOpenRouter) -> None:
    url = client._transport.options.server_url
    async with AsyncOpenRouter(KEY, server_url=url) as other:
        await bulk(other)


async def of_another_thread(client: AsyncOpenRouter) -> None:
    def make() -> None:
        with OpenRouter(KEY, server_url=client._transport.options.server_url) as other:
            other.api_keys.create(name="n")

    await asyncio.to_thread(make)


MAKERS = (bulk, single, of_another_client, of_another_thread)


@pytest.mark.parametrize("make", MAKERS)
async def test_a_key_that_was_just_made_is_never_deleted(
    make: Callable[[AsyncOpenRouter], Coroutine[Any, Any, None]],
    service: Misbehaving,
    client: AsyncOpenRouter,
) -> None:
    await make(client)
    assert await reconciled(client) == Reconciliation()
    assert len(service.keys) == 1


@pytest.mark.parametrize("make", [bulk, single])
@pytest.mark.parametrize("shown", [only_the_hash, nothing, no_object, null])
async def test_a_key_whose_answer_could_not_be_read_is_never_deleted(
    make: Callable[[AsyncOpenRouter], Coroutine[Any, Any, None]],
    shown: Callable[[Record], Any],
    service: Misbehaving,
    client: AsyncOpenRouter,
) -> None:
    service.shown = shown
    await make(client)
    assert await reconciled(client) == Reconciliation()
    assert len(service.keys) == 1


@pytest.mark.parametrize("make", [bulk, single])
async def test_a_key_whose_answer_told_another_ones_hash_is_never_deleted(
    make: Callable[[AsyncOpenRouter], Coroutine[Any, Any, None]],
    service: Misbehaving,
    client: AsyncOpenRouter,
) -> None:
    service.claim = lambda _: VICTIM
    await make(client)
    assert await reconciled(client) == Reconciliation()
    assert len(service.keys) == 1


@pytest.mark.parametrize("make", MAKERS)
async def test_a_create_that_ends_while_the_list_is_read_is_waited_for(
    make: Callable[[AsyncOpenRouter], Coroutine[Any, Any, None]],
    service: Misbehaving,
    client: AsyncOpenRouter,
) -> None:
    made, listed = asyncio.Event(), asyncio.Event()

    async def pause(asked: Asked) -> None:
        if asked.method == "POST":
            made.set()
            await listed.wait()
            await asyncio.sleep(0.1)  # the list is answered before
        else:
            listed.set()

    service.pause = pause
    async with asyncio.TaskGroup() as group:
        group.create_task(make(client))
        await made.wait()
        found = group.create_task(reconciled(client))
    assert found.result() == Reconciliation()
    assert len(service.keys) == 1


async def test_a_create_of_another_loop_that_never_ends_leaves_all_unproven(
    service: Misbehaving, client: AsyncOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_keys, "ELSEWHERE", 0.1)
    orphan = service.add("n")
    other = asyncio.new_event_loop()
    ended = other.create_future()
    made_keys._everywhere().add(ended)
    try:
        found = await reconciled(client)
        assert [key.hash for key in found.unproven] == [orphan["hash"]]
        assert service.hashes == {orphan["hash"]}
    finally:
        other.close()
    # Nothing is answered any more in a loop that is closed.
    assert len((await reconciled(client)).deleted) == 1
    made_keys._everywhere().discard(ended)


@pytest.mark.parametrize("count", [0, 1, 10_000, 30_000])
def test_a_key_is_remembered_while_many_others_are_made(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_keys, "_MEMORY", made_keys._Memory())
    made = MadeKeys("https://one/api/v1")
    made.add(MadeKey("first", "first"))
    for number in range(count):
        made.add(MadeKey(str(number), str(number)))
    assert "first" in made
    assert "another" not in made


@pytest.mark.parametrize("most", [1, 2, 50])
def test_what_is_remembered_has_a_bound(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = made_keys._Memory()
    monkeypatch.setattr(made_keys, "_MEMORY", memory)
    monkeypatch.setattr(made_keys, "MOST", most)
    made = MadeKeys("https://one/api/v1")
    hashes = [str(number) for number in range(5 * most + 3)]
    for hash in hashes:
        made.add(MadeKey(hash, hash))
    assert len(memory.young) + len(memory.old) <= 2 * most
    assert all(hash in made for hash in hashes[-most:])


@pytest.mark.parametrize("lost", [{0, 3}, {1}, {*range(6)}, {5, 6, 11}])
async def test_two_runs_of_the_same_names_leave_each_others_keys(
    lost: set[int], service: Misbehaving, client: AsyncOpenRouter, tmp_path: Path
) -> None:
    time = JumpingTime()
    client._transport.clockwork, service.now = time.clockwork(), time.now
    service.outcomes.extend("lost" if number in lost else "told" for number in range(12))
    taken: list[ProvisionResult] = []

    async with asyncio.TaskGroup() as group:
        runs = [
            group.create_task(
                client.provision(
                    specs(6), journal=tmp_path / name, on_result=taken.append, concurrency=2
                )
            )
            for name in ("one", "two")
        ]

    held = {hash_of(result.key) for result in taken}
    assert held <= service.hashes
    # Nobody can tell the lost keys of one run from those of the other: they are told, and stay but
    # for those that the other run proves to be its own later.
    told = {
        hash
        for run in runs
        for problem in (*run.result().doubts, *run.result().unproven)
        for hash in problem.hashes
    }
    assert service.hashes - held <= told


# --- what an answer claims is not proven ---


async def cancelled_when_made(service: Misbehaving, making: Awaitable[object]) -> str:
    """Cancel a create whose key is made, and return what is told of it."""
    made = asyncio.Event()

    async def pause(asked: Asked) -> None:
        if asked.method == "POST":
            made.set()
            await asyncio.sleep(0.05)

    service.pause = pause
    task = asyncio.ensure_future(making)
    await made.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return "; ".join(caught.value.__notes__)


SHOWN: dict[str, Callable[[Record], Any]] = {
    "as documented": as_documented,
    "with no limit": without_limit,
    "nothing but the hash": only_the_hash,
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
async def test_a_cancelled_create_deletes_no_key_that_its_answer_merely_claims(
    shown: Callable[[Record], Any],
    service: Misbehaving,
    client: AsyncOpenRouter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    victim = service.add("victim")["hash"]
    service.claim, service.shown = lambda _: victim, shown

    told = await cancelled_when_made(service, client.api_keys.create(name="n"))

    (own,) = service.hashes - {victim}
    assert victim in told
    assert own in told
    assert own in caplog.text
    assert service.count("DELETE") == 0


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
async def test_a_cancelled_create_deletes_the_key_that_is_proven_its_own(
    shown: Callable[[Record], Any], service: Misbehaving, client: AsyncOpenRouter
) -> None:
    service.shown = shown
    await cancelled_when_made(service, client.api_keys.create(name="n"))
    assert service.hashes == set()


async def test_an_answer_that_nobody_waits_for_deletes_no_key_that_it_merely_claims(
    service: Misbehaving, client: AsyncOpenRouter, caplog: pytest.LogCaptureFixture
) -> None:
    victim = service.add("victim")["hash"]
    await client._transport.take_back(MadeKey.of(victim, "sk-or-v1-another"))
    assert victim in service.hashes
    assert victim in caplog.text


@pytest.mark.parametrize(
    "shown",
    [without_limit, with_another_name, only_the_hash],  # for the last, the victim is read back
)
async def test_a_mismatch_disables_no_key_that_its_answer_merely_claims(
    shown: Callable[[Record], Any], service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    victim = service.add("victim", limit=7)
    service.claim, service.shown = lambda _: victim["hash"], shown

    for _ in range(2):  # the next run looks again
        report = await client.provision([spec(limit=5)], journal=path)

        (own,) = service.hashes - {victim["hash"]}
        (problem,) = report.mismatches
        assert problem.hashes == (victim["hash"], own)
        assert "left as it is" in problem.reason
        assert not report.ok
    assert service.count("PATCH") == 0
    assert await counts(path) == {"made": 1}


async def test_an_answer_with_a_wrong_hash_is_no_reason_to_refuse_its_key(
    service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    service.claim = lambda _: VICTIM
    taken: list[ProvisionResult] = []
    report = await client.provision([spec()], journal=path, on_result=taken.append)
    assert report.ok
    assert [hash_of(result.key) for result in taken] == [*service.hashes]


class Away(Exception):  # noqa: N818 - it stands for any
    """Whoever takes the secrets does not."""


def refuse(_: ProvisionResult) -> None:
    raise Away


def take(_: ProvisionResult) -> None:
    pass


@pytest.mark.parametrize("claims", ["its own", "a victim's"])
async def test_a_resume_without_the_secret_deletes_only_a_key_that_is_proven_its_own(
    claims: str, service: Misbehaving, client: AsyncOpenRouter, path: Path
) -> None:
    victim = service.add("victim")["hash"]
    if claims == "a victim's":
        service.claim = lambda _: victim
    with pytest.raises(OpenRouterError):
        await client.provision([spec()], journal=path, on_result=refuse, store_secrets=False)
    (own,) = service.hashes - {victim}

    given: dict[str, Any] = {"journal": path, "store_secrets": False, "on_result": take}
    report = await client.provision([spec()], **given)

    assert victim in service.hashes
    assert report.ok is (claims == "its own")
    assert (own in service.hashes) is (claims == "a victim's")
    if not report.ok:
        assert [problem.hashes for problem in report.failures] == [(victim, own)]
        # The next run looks again.
        assert (await client.provision([spec()], **given)).failures == report.failures


async def test_a_key_with_a_wrong_hash_is_not_a_later_runs_to_delete(
    service: Misbehaving, client: AsyncOpenRouter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = JumpingTime()
    client._transport.clockwork, service.now = time.clockwork(), time.now
    service.claim = lambda _: VICTIM
    same = [spec("a", name="n"), spec("b", name="n")]
    await client.provision(same[:1], journal=path)
    held = service.hashes
    monkeypatch.setattr(made_keys, "_MEMORY", made_keys._Memory())  # another process
    service.outcomes.append("closed")

    report = await client.provision(same, journal=path)

    assert report.ok
    assert held <= service.hashes
