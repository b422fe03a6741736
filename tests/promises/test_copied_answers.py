"""A create is answered by a copy of another create's answer: no key that is held is harmed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter, ProvisionResult
from openrouter_keys._base import made_keys
from openrouter_keys.errors import CreateOutcomeUnknownError, OpenRouterError
from tests.journals import spec
from tests.misbehaving import Answer, Asked, Misbehaving, Record, hash_of, misbehaving
from tests.provisions import JumpingTime

KEY = "sk-or-mgmt-test-" + "0" * 32


class Copies:
    """A cache before a service: it answers creates with a copy of the first answer.

    Attributes:
        after: how many creates are answered truly.
        copies: how many are answered with a copy then.
        also_makes: whether the service makes their keys all the same.
        shown: what a copy shows of the record.
    """

    def __init__(self, service: Misbehaving) -> None:
        self.service = service
        self.after, self.copies, self.also_makes = 1, 1000, False
        self.first: Answer | None = None
        self.shown = service.shown
        service.answer = self.answer

    def answer(self, asked: Asked) -> Answer | None:
        if asked.method != "POST":
            return None
        if self.after:
            self.after -= 1
            told = self.service._create(asked.body)
            self.first = self.first or told
            return told
        if not self.copies or self.first is None:
            return None
        self.copies -= 1
        if self.also_makes:
            self.service._create(asked.body)
        body: Any = self.first.body
        return Answer(201, body | {"data": self.shown(body["data"])})


@pytest.fixture
async def service(time: JumpingTime) -> AsyncIterator[Misbehaving]:
    async with misbehaving(now=time.now) as service:
        yield service


@pytest.fixture
async def client(service: Misbehaving, time: JumpingTime) -> AsyncIterator[AsyncOpenRouter]:
    async with AsyncOpenRouter(KEY, server_url=service.url) as client:
        client._transport.clockwork = time.clockwork()
        yield client


def whole(record: Record) -> Record:
    return record


def unreadable(record: Record) -> Record:
    return {"hash": record["hash"]}


def in_capitals(record: Record) -> Record:
    return record | {"hash": record["hash"].upper()}


def with_another_name(record: Record) -> Record:
    return record | {"name": "another"}


SHOWN = [whole, unreadable, in_capitals, with_another_name]


@pytest.mark.parametrize("shown", SHOWN)
async def test_a_copy_leaves_the_outcome_of_its_create_unknown(
    shown: Callable[[Record], Record], service: Misbehaving, client: AsyncOpenRouter
) -> None:
    Copies(service).shown = shown
    first = await client.api_keys.create(name="a")
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await client.api_keys.create(name="b")

    assert "is a copy of an earlier create's" in str(caught.value)
    assert "a test that gives one answer to many creates" in str(caught.value)
    assert first.data.hash in str(caught.value)
    assert (caught.value.name, caught.value.maybe_applied) == ("b", True)
    assert caught.value.started_at is not None
    assert service.hashes == {first.data.hash}


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("who", ["the same client", "another client"])
async def test_a_cancelled_create_deletes_no_key_that_somebody_holds(
    who: str,
    shown: Callable[[Record], Record],
    service: Misbehaving,
    client: AsyncOpenRouter,
) -> None:
    Copies(service).shown = shown
    held = (await client.api_keys.create(name="a")).data.hash
    came = asyncio.Event()

    async def pause(_: Asked) -> None:
        came.set()
        await asyncio.sleep(0.05)

    service.pause = pause
    async with AsyncOpenRouter(KEY, server_url=service.url) as another:
        creates = client if who == "the same client" else another
        task = asyncio.create_task(creates.api_keys.create(name="b"))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert "is a copy" in "".join(caught.value.__notes__)
    assert service.hashes == {held}
    assert service.count("DELETE") == 0


async def test_a_copy_is_reconciled_and_made_anew(
    service: Misbehaving, client: AsyncOpenRouter
) -> None:
    copies = Copies(service)
    copies.copies, copies.also_makes = 1, True
    first = await client.api_keys.create(name="n")
    second = await client.api_keys.create(name="n", on_unknown="reconcile")
    assert service.hashes == {first.data.hash, second.data.hash}
    assert len(service.hashes) == 2


async def test_an_answer_that_a_test_makes_up_may_come_again(
    service: Misbehaving, client: AsyncOpenRouter
) -> None:
    made_up = Answer(201, {"data": service.add("n") | {"hash": "abc"}, "key": "sk-or-v1-abc"})
    service.answer = lambda _: made_up
    for _ in range(2):
        assert (await client.api_keys.create(name="n")).key == "sk-or-v1-abc"


# --- provision ---

NAMES = [("a", "b"), ("same", "same"), ("a", "b", "b", "a")]


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("also_makes", [False, True], ids=["not made", "made all the same"])
@pytest.mark.parametrize("names", NAMES, ids=str)
async def test_a_run_harms_no_key_by_copies_and_hands_none_over_twice(
    *,
    names: tuple[str, ...],
    also_makes: bool,
    shown: Callable[[Record], Record],
    service: Misbehaving,
    client: AsyncOpenRouter,
    tmp_path: Path,
) -> None:
    copies = Copies(service)
    copies.also_makes, copies.copies, copies.shown = also_makes, 1, shown
    taken: list[ProvisionResult] = []

    report = await client.provision(
        [spec(str(place), name=name, limit=5) for place, name in enumerate(names)],
        journal=tmp_path / "journal",
        on_result=taken.append,
        concurrency=1,
    )

    held = [hash_of(result.key) for result in taken]
    assert report.ok
    assert len(held) == len({*held}) == len(names)
    assert service.hashes == {*held}
    assert not any(key["disabled"] for key in service.keys)
    assert {result.ref: result.data.name for result in taken} == {
        str(place): name for place, name in enumerate(names)
    }


def _forget(_: made_keys.MadeKeys, __: Iterable[str]) -> None:
    pass


@pytest.mark.parametrize("remembers", ["the last keys", "only when it is asked"])
@pytest.mark.parametrize("shown", SHOWN)
async def test_a_later_run_harms_no_key_by_copies(
    *,
    shown: Callable[[Record], Record],
    remembers: str,
    service: Misbehaving,
    client: AsyncOpenRouter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copies = Copies(service)
    await client.provision([spec("a", name="a", limit=5)], journal=tmp_path / "journal")
    (held,) = service.hashes
    # Another process, which remembers nothing.
    monkeypatch.setattr(made_keys, "_MEMORY", made_keys._Memory())
    if remembers == "only when it is asked":
        monkeypatch.setattr(made_keys.MadeKeys, "remember", _forget)
    copies.copies, copies.shown = 1, shown

    async with AsyncOpenRouter(KEY, server_url=service.url) as another:
        another._transport.clockwork = client._transport.clockwork
        with suppress(OpenRouterError):
            report = await another.provision(
                [spec("a", name="a", limit=5), spec("b", name="b", limit=5)],
                journal=tmp_path / "journal",
            )
            assert report.ok is (remembers == "the last keys")

    assert not service.keys[0]["disabled"]
    assert held in service.hashes
