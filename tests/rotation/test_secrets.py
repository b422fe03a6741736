"""Canaries in a rotation: secrets that must turn up nowhere but in the hands of the caller."""

import asyncio
import logging
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter, ProvisionProgress, ProvisionResult
from openrouter_keys.emulator import Account, Emulator, Fault
from tests.journals import written
from tests.promises.test_secrets import MANAGEMENT, printed
from tests.provisions import JumpingTime, client_of, refuse
from tests.rotations import hashes, old_keys, told

ECHO = f'{{"error": {{"code": 1, "message": "{MANAGEMENT}"}}}}'.encode()


@pytest.fixture
async def guarded() -> AsyncIterator[Emulator]:
    async with Emulator(Account(management_key=MANAGEMENT)) as emulator:
        yield emulator


@pytest.fixture
async def client(guarded: Emulator, time: JumpingTime) -> AsyncIterator[AsyncOpenRouter]:
    async with client_of(guarded, time, grace=0.1) as client:
        yield client


MISHAPS: dict[str, tuple[list[Fault], dict[str, Any]]] = {
    "nothing": ([], {}),
    "a look that echoes": ([Fault("get", status=403, body=ECHO)], {}),
    "a key that is gone": ([Fault("get", status=404, body=ECHO)], {}),
    "a create that echoes": ([Fault("create", status=400, body=ECHO)], {}),
    "a stop that echoes": ([Fault("create", status=402, body=ECHO)], {}),
    "no answer": ([Fault("create", "closed", phase="after")], {}),
    "half an answer": ([Fault("create", "cut", phase="after")], {}),
    "a disabling that echoes": ([Fault("update", status=403, body=ECHO)], {}),
    "a deletion that echoes": ([Fault("delete", status=403, body=ECHO)], {}),
    "a caller that refuses": ([], {"on_result": refuse}),
    "a caller that refuses what is stored nowhere": (
        [],
        {"on_result": refuse, "store_secrets": False},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISHAPS)
async def test_no_error_no_log_and_no_report_shows_a_secret(
    *,
    name: str,
    guarded: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    faults, given = MISHAPS[name]
    guarded.faults += faults
    old = old_keys(guarded, 3)
    secrets = {MANAGEMENT, *(str(key.secret) for key in old)}
    heard: list[ProvisionProgress] = []
    taken: list[ProvisionResult] = []
    arguments: dict[str, Any] = {"on_result": taken.append, "retire_after": 0, **given}
    shown: list[object] = [*await client.plan_rotation(hashes(old))]

    try:
        report = await client.rotate(
            hashes(old), journal=path, on_progress=heard.append, concurrency=1, **arguments
        )
        shown += [report, *report.failures]
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(report)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is searched
        shown += [printed(error), getattr(error, "report", None)]

    shown += [*heard, *taken, *(await told(path)).values(), client, vars(client)]
    text = "\n".join([caplog.text, *(f"{each!r} {each}" for each in shown)])
    made = {str(key.secret) for key in guarded.account.keys.values()}
    for secret in secrets | made | {result.key for result in taken}:
        assert secret not in text
    assert caplog.records
    assert MANAGEMENT.encode() not in written(path)


@pytest.mark.slow
async def test_a_rotation_that_stores_no_secrets_stores_none(
    guarded: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    taken: list[ProvisionResult] = []
    await client.rotate(
        hashes(old_keys(guarded, 3)), journal=path, on_result=taken.append, store_secrets=False
    )
    assert len(taken) == 3
    assert not [result for result in taken if result.key.encode() in written(path)]


async def test_secrets_that_are_encrypted_are_not_in_the_journal(
    guarded: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    pyrage = pytest.importorskip("pyrage")
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    taken: list[ProvisionResult] = []
    report = await client.rotate(
        hashes(old_keys(guarded, 3)),
        journal=path,
        on_result=taken.append,
        recipient=recipient,
        retire_after=0,
    )
    assert (report.retired, len(taken)) == (3, 3)
    assert not [result for result in taken if result.key.encode() in written(path)]


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["get", "update", "delete"])
async def test_a_secret_that_an_answer_hides_in_escapes_is_masked(
    guarded: Emulator, client: AsyncOpenRouter, path: Path, operation: Any
) -> None:
    secret = "sk-or-v1-" + "c4" * 32
    (old,) = old_keys(guarded, 1)
    hidden = f'{{"error": {{"code": 1, "message": "{secret}"}}}}'.replace("-", "\\u002d").encode()
    skipped = 0 if operation != "get" else 1  # the plan, then the look at the twin
    for skip in {0, skipped}:
        guarded.faults.append(Fault(operation, status=403, body=hidden, skip=skip))
    endings: list[bool] = []
    for _ in range(3):
        report = await client.rotate(
            [old.hash], journal=path, on_result=lambda _: None, retire_after=0
        )
        rotations = [*(await told(path)).values()]
        assert secret not in f"{report!r} {report.failures} {rotations}"
        endings.append(report.ok)
    assert secret.encode() not in written(path)
    assert (endings[0], endings[-1]) == (False, True)


async def test_a_secret_in_place_of_a_hash_is_refused_and_not_shown(
    client: AsyncOpenRouter, path: Path
) -> None:
    secret = "sk-or-v1-" + "c4" * 32
    with pytest.raises(ValueError, match="SHA-256") as caught:
        await client.rotate([secret], journal=path)
    assert secret not in f"{caught.value!r} {caught.value}"


async def test_a_cancelled_rotation_shows_no_secret(
    guarded: Emulator, client: AsyncOpenRouter, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    entered = asyncio.Event()

    async def take(_: ProvisionResult) -> None:
        entered.set()
        await asyncio.sleep(600)

    old = old_keys(guarded, 1)
    run = asyncio.create_task(client.rotate(hashes(old), journal=path, on_result=take))
    await entered.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await run
    text = printed(caught.value) + caplog.text
    for key in guarded.account.keys.values():
        assert str(key.secret) not in text
    assert MANAGEMENT not in text
