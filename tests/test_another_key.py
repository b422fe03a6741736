"""An answer with another key's record is an error that says so, and proves nothing of a key."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from openrouter_keys import AnotherKeyError, AsyncOpenRouter, OpenRouter, OpenRouterError
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.converter import encode
from openrouter_keys.emulator import Emulator, Fault, StoredKey
from openrouter_keys.emulator.faults import OperationName
from tests.misbehaving import Misbehaving, misbehaving
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
    "its own in capitals": lambda own, _: own.upper(),
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
