"""What proves that a key is gone, wherever one is deleted; what does not, is told."""

import asyncio
from pathlib import Path

import pytest
from attrs import define, evolve

from openrouter_keys import AsyncOpenRouter, ProvisionResult, RotationReport
from openrouter_keys._transport.deletion import R, Removal, remove, unless_missing
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.converter import encode
from openrouter_keys.emulator import Emulator, Fault, StoredKey
from openrouter_keys.errors import (
    BadRequestResponseError,
    CreateOutcomeUnknownError,
    NotFoundResponseError,
    OpenRouterDefaultError,
    OpenRouterError,
    ResponseValidationError,
)
from openrouter_keys.operations import Operation, get
from tests.clients import FakeTime, api_keys
from tests.provisions import JumpingTime, client_of, counts, specs, stopped
from tests.removals import ALIEN_404, NOT_DELETED, deleted_in_silence, not_deleted
from tests.rotations import old_keys, states, twin_of

HASH = "ab" * 32


async def removed(keys: AsyncAPIKeys, hash: str = HASH) -> Removal:
    async def perform(operation: Operation[R]) -> R:
        return await keys._transport.perform(operation, {})

    return await remove(perform, hash)


# --- one delete ---


def wrong(answer: str) -> type[OpenRouterError]:
    if answer.startswith("404") and answer != "404 under 200":
        return NotFoundResponseError
    told = {
        "404 under 200": NotFoundResponseError,
        "an error": BadRequestResponseError,
        "an error beside it": OpenRouterDefaultError,
    }
    return told.get(answer, ResponseValidationError)


@pytest.mark.parametrize("answer", [name for name in NOT_DELETED if name != "deleted: false"])
async def test_a_delete_that_is_not_proven_is_an_error(
    answer: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.account.add(name="there", hash=HASH)
    emulator.faults.append(not_deleted(answer))
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(wrong(answer)) as caught:
            await keys.delete(HASH)
    assert HASH in emulator.account.keys
    assert caught.value.operation == "delete"
    # A refusal by its status alone was no success of any kind.
    assert caught.value.maybe_applied == (NOT_DELETED[answer].status != 404)


async def test_a_delete_that_says_no_says_so(emulator: Emulator) -> None:
    emulator.account.add(name="there", hash=HASH)
    emulator.faults.append(not_deleted("deleted: false"))
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        assert (await keys.delete(HASH)).deleted is False


READ_BACK = [
    name
    for name in NOT_DELETED
    if wrong(name) is ResponseValidationError and name != "deleted: false"
]  # fmt: skip


@pytest.mark.parametrize("answer", READ_BACK)
async def test_a_delete_whose_answer_tells_nothing_is_read_back(
    answer: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.account.add(name="there", hash=HASH)
    emulator.faults.append(deleted_in_silence(answer))
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        assert (await keys.delete(HASH)).deleted is True
    assert [request.operation for request in emulator.requests] == ["delete", "get"]


@pytest.mark.parametrize("answer", [*ALIEN_404, "a login page", "404 under 200", "accepted"])
async def test_a_look_that_tells_nothing_proves_no_delete(
    answer: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.account.add(name="there", hash=HASH)
    emulator.faults += [not_deleted("accepted"), not_deleted(answer, "get")]
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(ResponseValidationError, match="delete it again") as caught:
            await keys.delete(HASH)
    assert caught.value.status_code == 202


@pytest.mark.parametrize("body", [b'{"deleted": true}', b'{"deleted": true, "error": "odd"}'])
@pytest.mark.parametrize("status", [200, 202, 207])
async def test_a_delete_that_says_yes_is_believed(
    body: bytes, status: int, emulator: Emulator
) -> None:
    emulator.account.add(name="there", hash=HASH)
    emulator.faults.append(Fault("delete", phase="after", status=status, body=body))
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        assert await removed(keys) is Removal.DELETED
    assert emulator.count("get") == 0


@pytest.mark.parametrize("answer", ["404", *ALIEN_404])
@pytest.mark.parametrize("failure", [Fault("delete", status=502), Fault("delete", "closed")])
async def test_only_the_apis_own_404_ends_a_repeated_delete_well(
    answer: str, failure: Fault, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.account.add(name="there", hash=HASH)
    emulator.faults += [failure, not_deleted(answer)]
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        if answer == "404":
            assert (await keys.delete(HASH)).deleted is True
            return
        with pytest.raises(NotFoundResponseError) as caught:
            await keys.delete(HASH)
    assert caught.value.maybe_applied


# --- the helper of all that delete by themselves ---


@pytest.mark.parametrize("answer", NOT_DELETED)
async def test_what_is_not_proven_is_not_removed(
    answer: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.account.add(name="there", hash=HASH)
    emulator.faults.append(not_deleted(answer))
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(OpenRouterError) as caught:
            await removed(keys)
    assert caught.value.operation == "delete"


async def test_a_404_that_a_second_look_confirms_is_one(emulator: Emulator) -> None:
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        assert await removed(keys) is Removal.MISSING
    assert [request.operation for request in emulator.requests] == ["delete", "get"]


SECOND_LOOKS = [*ALIEN_404, "404 under 200", "a login page", "an error", "accepted"]


@pytest.mark.parametrize("answer", SECOND_LOOKS)
async def test_a_404_that_a_second_look_does_not_confirm_is_none(
    answer: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(not_deleted(answer, "get"))
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(NotFoundResponseError):
            await removed(keys)


@pytest.mark.parametrize("answer", ALIEN_404)
async def test_another_ones_404_is_none_though_the_api_says_the_same_later(
    answer: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(not_deleted(answer))
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(NotFoundResponseError):
            await removed(keys)


async def test_a_look_of_its_own_is_looked_at_twice(emulator: Emulator) -> None:
    async with api_keys(emulator.base_url, emulator.api_key) as keys:

        async def perform(operation: Operation[R]) -> R:
            return await keys._transport.perform(operation, {})

        assert await unless_missing(perform, get(HASH), HASH) is None
    assert emulator.count("get") == 2


# --- a cancelled create ---


@pytest.mark.slow
@pytest.mark.parametrize("answer", NOT_DELETED)
async def test_the_key_of_a_cancelled_create_is_told_while_nothing_proves_that_it_is_gone(
    answer: str, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.latency = 0.05
    emulator.faults.append(not_deleted(answer))
    async with api_keys(emulator.base_url, emulator.api_key, FakeTime()) as keys:
        create = asyncio.create_task(keys.create(name="new"))
        while not emulator.requests:
            await asyncio.sleep(0.01)
        create.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await create

    (hash,) = emulator.account.keys
    assert f"{hash} of a cancelled create is left over" in caught.value.__notes__[0]
    assert hash in caplog.text


NOT_THERE_YET: dict[str, list[Fault]] = {
    "404": [],
    "502, then 404": [Fault("delete", status=502)],
    "500, then 404": [Fault("delete", status=500)],
    "no answer, then 404": [Fault("delete", "closed")],
    "half an answer, then a look's 404": [not_deleted("half of it")],
    "an empty answer, then a look's 404": [not_deleted("accepted")],
}


@pytest.mark.slow
@pytest.mark.parametrize("answers", NOT_THERE_YET.values(), ids=NOT_THERE_YET)
async def test_the_key_of_a_cancelled_create_that_is_not_there_yet_may_be_left_over(
    answers: list[Fault], emulator: Emulator
) -> None:
    emulator.latency = 0.05
    emulator.faults += [*map(evolve, answers), not_deleted("404"), not_deleted("404", "get")]
    async with api_keys(emulator.base_url, emulator.api_key, FakeTime()) as keys:
        create = asyncio.create_task(keys.create(name="new"))
        while not emulator.requests:
            await asyncio.sleep(0.01)
        create.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await create
    assert "may be left over" in caught.value.__notes__[0]
    assert len(emulator.account.keys) == 1


# --- a single create without an answer ---


@pytest.mark.parametrize("answer", NOT_DELETED)
async def test_a_create_is_not_made_anew_while_nothing_proves_that_its_key_is_gone(
    answer: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults += [Fault("create", "closed", phase="after"), not_deleted(answer)]
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            await keys.create(name="n", on_unknown="reconcile", quiet_period=0)
    (hash,) = emulator.account.keys
    assert hash in caught.value.__notes__[0]
    assert emulator.count("create") == 1


async def test_a_listed_key_is_not_missing(emulator: Emulator, fake_time: FakeTime) -> None:
    """What deletes and what shows a key may lag behind what lists it."""
    lost = Fault("create", "closed", phase="after")
    emulator.faults += [lost, not_deleted("404"), not_deleted("404", "get")]
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(CreateOutcomeUnknownError):
            await keys.create(name="n", on_unknown="reconcile", quiet_period=0)
    assert len(emulator.account.keys) == emulator.count("create") == 1


@pytest.mark.parametrize(
    "answer", ["accepted", "no content", "a login page", "half of it", "a list"]
)
async def test_a_listed_key_is_not_gone_because_one_look_does_not_show_it(
    answer: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    lost = Fault("create", "closed", phase="after")
    emulator.faults += [lost, not_deleted(answer), not_deleted("404", "get")]
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            await keys.create(name="n", on_unknown="reconcile", quiet_period=0)
    (hash,) = emulator.account.keys
    assert hash in caught.value.__notes__[0]
    assert emulator.count("create") == 1


# --- runs ---


@pytest.mark.slow
@pytest.mark.parametrize("answer", NOT_DELETED)
async def test_a_run_tells_what_it_could_not_delete_and_the_next_one_deletes_it(
    answer: str, emulator: Emulator, tmp_path: Path
) -> None:
    lost = Fault("create", "closed", phase="after")
    emulator.faults += [lost, Fault("create", status=402, skip=1, times=None), not_deleted(answer)]
    path = tmp_path / "customers.journal"
    async with client_of(emulator, JumpingTime()) as client:
        error = await stopped(client.provision(specs(2), journal=path, concurrency=1))
        emulator.faults.clear()
        (hash,) = emulator.account.keys
        assert not error.report.ok

        report = await client.provision(specs(2), journal=path)

    assert (report.ok, report.deleted) == (True, 1)
    assert hash not in emulator.account.keys
    assert len(emulator.account.keys) == 2


@pytest.mark.slow
@pytest.mark.parametrize("answer", NOT_DELETED)
async def test_a_key_whose_secret_was_not_stored_is_not_made_anew_while_it_may_be_there(
    answer: str, emulator: Emulator, tmp_path: Path
) -> None:
    def refuse(_: ProvisionResult) -> None:
        raise ConnectionError

    path = tmp_path / "customers.journal"
    async with client_of(emulator, JumpingTime()) as client:
        await stopped(
            client.provision(specs(1), journal=path, on_result=refuse, store_secrets=False)
        )
        (lost,) = emulator.account.keys
        emulator.faults.append(not_deleted(answer))
        report = await client.provision(specs(1), journal=path, on_result=print)
        assert (report.ok, report.failures[0].hashes) == (False, (lost,))
        assert {*emulator.account.keys} == {lost}
        emulator.faults.clear()
        report = await client.provision(specs(1), journal=path, on_result=print)
    assert (report.ok, report.deleted) == (True, 1)
    assert lost not in emulator.account.keys


# --- rotation ---


@define
class Rotating:
    """A key with a twin that was handed over, and what the service answers instead of the truth."""

    emulator: Emulator
    client: AsyncOpenRouter
    path: Path
    old: StoredKey
    twin: StoredKey
    records: dict[str, bytes]

    async def retire(self) -> RotationReport:
        return await self.client.rotate((), journal=self.path, retire_after=0)

    async def is_left(self) -> bool:
        """Whether it is told that the old key is there, and the next call retires it."""
        report = await self.retire()
        told = (report.ok, report.retired, report.failed, report.waiting) == (False, 0, 1, 1)
        there = self.old.hash in self.emulator.account.keys
        self.emulator.faults.clear()
        again = await self.retire()
        gone = self.old.hash not in self.emulator.account.keys
        return told and there and (again.ok, again.retired) == (True, 1) and gone


@pytest.fixture
async def rotating(emulator: Emulator, client: AsyncOpenRouter, path: Path) -> Rotating:
    (old,) = old_keys(emulator, 1)
    await client.rotate([old.hash], journal=path)
    twin = twin_of(emulator, old)
    other = emulator.account.add("other", disabled=True, limit=5)
    records = {
        "before": encode(await client.api_keys.get(old.hash)),
        "the twin before": encode(await client.api_keys.get(twin.hash)),
        "another key": encode(await client.api_keys.get(other.hash)),
    }
    emulator.account.spend(old.hash, 2)  # so that the twin's limit comes down from 7 to 5
    return Rotating(emulator, client, path, old, twin, records)


@pytest.mark.slow
@pytest.mark.parametrize("answer", NOT_DELETED)
async def test_an_old_key_is_not_retired_while_nothing_proves_that_it_is_gone(
    answer: str, rotating: Rotating
) -> None:
    rotating.emulator.faults.append(not_deleted(answer))
    assert await rotating.is_left()


#: What is no proof that an update was carried out; the first ones are records.
NOT_UPDATED = ["before", "another key", *(name for name in NOT_DELETED if "deleted:" not in name)]


def not_updated(rotating: Rotating, answer: str, *, skip: int = 0) -> Fault:
    if answer in rotating.records:
        body = rotating.records[answer]
        return Fault("update", status=200, body=body, skip=skip, times=None)
    return evolve(not_deleted(answer, "update"), skip=skip)


@pytest.mark.slow
@pytest.mark.parametrize("answer", NOT_UPDATED)
async def test_an_old_key_is_not_deleted_before_it_is_proven_disabled(
    answer: str, rotating: Rotating
) -> None:
    rotating.emulator.faults.append(not_updated(rotating, answer))
    assert await rotating.is_left()


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["the twin before", *NOT_UPDATED[1:]])
async def test_an_old_key_is_not_deleted_before_its_twins_limit_is_proven_lower(
    answer: str, rotating: Rotating
) -> None:
    rotating.emulator.faults.append(not_updated(rotating, answer, skip=1))
    assert await rotating.is_left()
    assert rotating.twin.limit == 5


@pytest.mark.slow
@pytest.mark.parametrize("answer", [*ALIEN_404, "a login page", "404 under 200", "another key"])
async def test_a_twin_that_was_not_seen_keeps_its_old_key(answer: str, rotating: Rotating) -> None:
    record = rotating.records.get(answer)
    shown = None if record is None else Fault("get", status=200, body=record, times=None)
    rotating.emulator.faults.append(shown or not_deleted(answer, "get"))
    report = await rotating.retire()
    assert (report.retired, report.failed) == (0, 1)
    assert "with a new journal" not in report.failures[0].reason
    assert rotating.emulator.count("update") == 0
    rotating.emulator.faults.clear()
    assert (await rotating.retire()).ok


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["404", *ALIEN_404])
async def test_a_rotation_is_not_over_while_nothing_proves_that_its_old_key_is_gone(
    answer: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    (old,) = old_keys(emulator, 1)
    emulator.faults.append(Fault("create", status=400))
    await client.rotate([old.hash], journal=path)
    emulator.faults.append(evolve(not_deleted(answer, "get"), times=1))
    await client.rotate((), journal=path)
    assert await states(path) != ["deleted"]
    assert (await client.rotate((), journal=path)).ok


@pytest.mark.slow
@pytest.mark.parametrize("answer", NOT_UPDATED)
async def test_a_key_not_as_asked_for_is_told_while_nothing_proves_that_it_is_disabled(
    answer: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.account.extra_fields["limit"] = 5
    other = encode(await client.api_keys.get(emulator.account.add("o", disabled=True).hash))
    if answer == "before":
        emulator.account.extra_fields["disabled"] = False
    elif answer == "another key":
        emulator.faults.append(Fault("update", status=200, body=other, times=None))
    else:
        emulator.faults.append(not_deleted(answer, "update"))
    report = await client.provision(specs(1, limit=7), journal=path, on_result=print)
    assert "could not be disabled" in report.mismatches[0].reason
    assert await counts(path) == {"made": 1}

    emulator.faults.clear()
    emulator.account.extra_fields.pop("disabled", None)
    report = await client.provision(specs(1, limit=7), journal=path, on_result=print)
    assert "and was disabled" in report.mismatches[0].reason
    assert await counts(path) == {"failed": 1}
