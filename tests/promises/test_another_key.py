"""An answer with another key's record is an error that says so, and proves nothing of a key."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from openrouter_keys import (
    AnotherKeyError,
    AsyncOpenRouter,
    OpenRouter,
    OpenRouterError,
    ProvisioningStoppedError,
)
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.converter import encode
from openrouter_keys.emulator import Emulator, Fault, StoredKey
from openrouter_keys.emulator.faults import OperationName
from tests.misbehaving import Answer, Asked, Misbehaving, hash_of, misbehaving
from tests.provisions import JumpingTime, client_of


@define
class Mixed:
    """A service that answers with another key's record."""

    emulator: Emulator
    client: AsyncOpenRouter
    asked: StoredKey
    other: StoredKey
    record: bytes

    @property
    def keys(self) -> AsyncAPIKeys:
        return self.client.api_keys

    def answer(self, operation: OperationName, times: int | None = None) -> None:
        fault = Fault(operation, status=200, body=self.record, times=times, phase="after")
        self.emulator.faults.append(fault)


@pytest.fixture
async def mixed(emulator: Emulator) -> AsyncIterator[Mixed]:
    async with client_of(emulator, JumpingTime()) as client:
        asked, other = emulator.account.add("asked"), emulator.account.add("other", limit=7)
        record = encode(await client.api_keys.get(other.hash))
        yield Mixed(emulator, client, asked, other, record)


CALLS: dict[str, Callable[[AsyncAPIKeys, str], Awaitable[object]]] = {
    "get": lambda keys, one: keys.get(one),
    "update: a limit": lambda keys, one: keys.update(one, limit=5),
    "update: disabled": lambda keys, one: keys.update(one, disabled=True),
    "delete": lambda keys, one: keys.delete(one),
}


@pytest.mark.parametrize("name", CALLS)
async def test_another_keys_record_is_an_error_that_says_so(name: str, mixed: Mixed) -> None:
    mixed.answer("get")
    mixed.answer("update")
    if name == "delete":  # whose answer tells nothing, so that the key is asked for
        mixed.emulator.faults.append(Fault("delete", status=202, body=b""))
    with pytest.raises(OpenRouterError) as caught:
        await CALLS[name](mixed.keys, mixed.asked.hash)
    error: Any = caught.value if name != "delete" else caught.value.__cause__
    assert isinstance(error, AnotherKeyError)
    assert (error.asked, error.answered) == (mixed.asked.hash, mixed.other.hash)
    assert mixed.asked.hash in str(error)
    assert mixed.other.hash in str(error)
    assert caught.value.maybe_applied is (name != "get")


async def test_an_update_that_is_answered_with_another_key_is_read_back(mixed: Mixed) -> None:
    mixed.answer("update")
    updated = await mixed.keys.update(mixed.asked.hash, limit=5)
    assert (updated.data.hash, updated.data.limit) == (mixed.asked.hash, 5)


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title])
async def test_a_hash_in_other_letters_is_the_same_key(
    change: Callable[[str], str], mixed: Mixed
) -> None:
    mixed.record = mixed.record.replace(
        mixed.other.hash.encode(), change(mixed.asked.hash).encode()
    )
    mixed.answer("get")
    assert (await mixed.keys.get(mixed.asked.hash)).data.limit == 7


def test_the_blocking_face_says_the_same(openrouter_emulator: Emulator) -> None:
    emulator = openrouter_emulator
    asked, other = emulator.account.add("asked"), emulator.account.add("other")
    with OpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        record = encode(client.api_keys.get(other.hash))
        emulator.faults.append(Fault("get", status=200, body=record, times=None))
        with pytest.raises(AnotherKeyError) as caught:
            client.api_keys.get(asked.hash)
    assert caught.value.answered == other.hash


async def test_no_rotation_is_planned_by_another_keys_record(mixed: Mixed) -> None:
    mixed.answer("get")
    (planned,) = await mixed.client.plan_rotation([mixed.asked.hash])
    assert (planned.state, planned.spec) == ("refused", None)
    assert "another key" in str(planned.problem)


# --- a twin whose hash is not proven ---


@pytest.fixture
async def service() -> AsyncIterator[Misbehaving]:
    async with misbehaving() as service:
        yield service


CLAIMS: dict[str, Callable[[str, str], str]] = {
    "a victim's": lambda _, victim: victim,
    "nobody's": lambda _, __: "ab" * 32,
    "its own, turned round": lambda own, _: own[::-1],
    "its own, cut": lambda own, _: own[:32],
}


@pytest.mark.parametrize("budget", ["remaining", "full"])
@pytest.mark.parametrize("claim", CLAIMS)
async def test_nothing_is_retired_or_lowered_by_a_twins_hash_that_is_not_proven(
    claim: str, budget: Any, service: Misbehaving, tmp_path: Path
) -> None:
    victim = service.add("victim", limit=7)
    old = service.add("old", limit=10, usage=3)
    service.claim = lambda own: CLAIMS[claim](own, victim["hash"])
    time = JumpingTime()
    async with AsyncOpenRouter("key", server_url=service.url) as client:
        client._transport.clockwork, service.now = time.clockwork(), time.now
        given: dict[str, Any] = {"journal": tmp_path / "j", "on_result": print}
        await client.rotate([old["hash"]], budget=budget, **given)
        old["usage"] = 5  # so that the twin's limit would come down
        for _ in range(2):  # the next call says it again
            report = await client.rotate((), journal=tmp_path / "j", retire_after=0)
            assert (report.ok, report.retired, report.failed) == (False, 0, 1)
            assert "delete the old key yourself" in report.failures[0].reason
    assert service.count("PATCH") == service.count("DELETE") == 0
    assert (victim["limit"], old["disabled"]) == (7, False)


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title])
async def test_a_twins_hash_in_other_letters_is_proven(
    change: Callable[[str], str], service: Misbehaving, tmp_path: Path
) -> None:
    old = service.add("old", limit=10, usage=3)
    service.claim = change
    async with AsyncOpenRouter("key", server_url=service.url) as client:
        report = await client.rotate(
            [old["hash"]], journal=tmp_path / "j", on_result=lambda _: None, retire_after=0
        )
    assert (report.ok, report.retired) == (True, 1)


# --- a twin that is no new key ---

COPIES = ("the old key", "another old key", "the first twin again", "the last answer again")


@pytest.mark.slow
@pytest.mark.parametrize("spent", [0, 3])
@pytest.mark.parametrize("copy", COPIES)
async def test_no_key_that_somebody_uses_is_retired_for_a_twin_that_is_no_new_key(
    copy: str, spent: int, service: Misbehaving, tmp_path: Path
) -> None:
    olds: list[tuple[Any, str]] = []
    for _ in range(3):
        record = service.add("customer", limit=10, usage=spent, limit_remaining=10 - spent)
        olds.append((record, service._secret()))
    told: list[tuple[Any, str]] = []
    lies = 2

    def answer(asked: Asked) -> Answer | None:
        nonlocal lies
        if asked.method != "POST":
            return None
        record = service._record(asked.body)
        service.keys.append(record)
        made = (record, service._secret())
        copies = {
            "the old key": olds[len(told) % 3],
            "another old key": olds[(len(told) + 1) % 3],
            "the first twin again": told[0] if told else made,
            "the last answer again": told[-1] if told else made,
        }
        if lies and copies[copy] is not made:
            lies, made = lies - 1, copies[copy]
        told.append(made)
        return Answer(201, {"data": made[0], "key": made[1]})

    service.answer = answer
    handed: dict[str, str] = {}
    given: dict[str, Any] = {"journal": tmp_path / "j", "concurrency": 1, "quiet_period": 0.0}
    time = JumpingTime()
    async with AsyncOpenRouter("key", server_url=service.url) as client:
        client._transport.clockwork, service.now = time.clockwork(), time.now
        for hashes in ([record["hash"] for record, _ in olds], ()):
            report = await client.rotate(
                hashes,
                on_result=lambda result: handed.update({result.ref: hash_of(result.key)}),
                retire_after=0,
                **given,
            )
    works = {record["hash"] for record in service.keys if not record["disabled"]}
    for record, _ in olds:
        hash = record["hash"]
        assert hash in works or handed[hash] in works - {old["hash"] for old, _ in olds}
        assert handed.get(hash, hash) in works
        if hash not in works:
            assert [*handed.values()].count(handed[hash]) == 1
    assert report.ok is not bool(works & {record["hash"] for record, _ in olds})


@pytest.mark.parametrize("shown", ["sk-or-v1-328...cfab", "[REDACTED]", "****", "label"])
async def test_nothing_is_retired_for_a_secret_that_a_proxy_redacted(
    shown: str, service: Misbehaving, tmp_path: Path
) -> None:
    old = service.add("old", limit=10)

    def answer(asked: Asked) -> Answer | None:
        if asked.method != "POST":
            return None
        twin = service.add(**asked.body)
        return Answer(201, {"data": twin, "key": twin.get(shown, shown)})

    service.answer = answer
    time, taken = JumpingTime(), list[object]()
    async with AsyncOpenRouter("key", server_url=service.url) as client:
        client._transport.clockwork, service.now = time.clockwork(), time.now
        with suppress(ProvisioningStoppedError):
            report = await client.rotate(
                [old["hash"]], journal=tmp_path / "j", on_result=taken.append, retire_after=0
            )
            assert (report.ok, report.retired) == (False, 0)
    assert taken == []
    assert old in service.keys
    assert old["disabled"] is False
