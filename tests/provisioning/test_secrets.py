"""Canaries in a run: secrets that must turn up nowhere but in the hands of the caller."""

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
from tests.promises.test_secrets import MANAGEMENT, PARTNER, printed
from tests.provisions import JumpingTime, client_of, refuse, refuse_later, specs, stopped

ECHO = f'{{"error": {{"code": 1, "message": "{MANAGEMENT} {PARTNER}"}}}}'.encode()
# Nothing but a create sends the partner's key, so nothing else can echo it.
ECHO_OF_OTHERS = ECHO.replace(PARTNER.encode(), b"nothing else")
CUT = Fault("create", "cut", phase="after", portion=0.999)
EXTERNAL = {"user": "acme-7", "api_key": PARTNER}


@pytest.fixture
async def guarded() -> AsyncIterator[Emulator]:
    async with Emulator(Account(management_key=MANAGEMENT)) as emulator:
        yield emulator


@pytest.fixture
async def client(guarded: Emulator, time: JumpingTime) -> AsyncIterator[AsyncOpenRouter]:
    async with client_of(guarded, time, grace=0.1) as client:
        yield client


# What goes wrong at the service, and what else the run is called with.
MISHAPS: dict[str, tuple[list[Fault], dict[str, Any]]] = {
    "nothing": ([], {}),
    "a refusal that echoes": ([Fault("create", status=400, body=ECHO, times=None)], {}),
    "a stop that echoes": ([Fault("create", status=402, body=ECHO)], {}),
    "a failure that echoes": ([Fault("create", status=502, body=ECHO, phase="after")], {}),
    "an endless failure that echoes": ([Fault("create", status=502, body=ECHO, times=None)], {}),
    "a rejection that echoes": (
        [Fault("create", status=429, body=ECHO, headers={"Retry-After": "999"})],
        {},
    ),
    "a first list that echoes": ([Fault("list", status=403, body=ECHO_OF_OTHERS)], {}),
    "no answer": ([Fault("create", "closed", phase="after")], {}),
    "garbage": ([Fault("create", "garbage", phase="after")], {}),
    "half an answer": ([Fault("create", "cut", phase="after")], {}),
    "an answer that is almost whole": ([CUT], {}),
    "a record that stays unreadable": (
        [CUT, Fault("get", status=502, times=3, body=ECHO_OF_OTHERS)],
        {},
    ),
    "a key that cannot be disabled": (
        [CUT, Fault("get", status=502, times=3), Fault("update", status=403, body=ECHO_OF_OTHERS)],
        {},
    ),
    "a caller that refuses": ([], {"on_result": refuse}),
    "a caller that refuses later": ([], {"on_result": refuse_later}),
    "a caller that refuses what is stored nowhere": (
        [],
        {"on_result": refuse, "store_secrets": False},
    ),
    "no journal on disk": ([], {"journal": None}),
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
    told: list[ProvisionProgress] = []
    taken: list[ProvisionResult] = []
    arguments: dict[str, Any] = {"journal": path, "on_result": taken.append, **given}
    shown: list[object] = []

    try:
        report = await client.provision(
            specs(3, external=EXTERNAL), on_progress=told.append, concurrency=1, **arguments
        )
        shown += [report, *report.failures, *report.mismatches, *report.doubts, *report.unproven]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is searched
        shown += [printed(error), getattr(error, "report", None)]

    shown += [*told, *taken, client, vars(client)]
    text = "\n".join([caplog.text, *(f"{each!r} {each}" for each in shown)])
    made = {str(key.secret) for key in guarded.account.keys.values()}
    for secret in {MANAGEMENT, PARTNER} | made | {result.key for result in taken}:
        assert secret not in text
    assert caplog.records
    # A journal is where created secrets are, and no others.
    for secret in (MANAGEMENT, PARTNER):
        assert secret.encode() not in written(path)


async def test_no_secret_is_in_a_journal_that_may_not_have_any(
    guarded: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    held: list[ProvisionResult] = []
    seen: list[ProvisionResult] = []

    def take(result: ProvisionResult) -> None:
        held.append(result)
        seen.extend(each for each in held if each.key.encode() in written(path))

    guarded.faults.append(CUT)
    await client.provision(
        specs(5), journal=path, on_result=take, store_secrets=False, concurrency=1
    )

    assert (len(held), seen) == (5, [])
    assert not [each for each in held if each.key.encode() in written(path)]


async def test_an_undelivered_secret_is_in_its_attribute_and_shown_by_nothing(
    guarded: Emulator, client: AsyncOpenRouter
) -> None:
    error = await stopped(client.provision(specs(1), on_result=refuse))

    (key,) = guarded.account.keys.values()
    (undelivered,) = error.report.undelivered
    assert undelivered.key == key.secret
    for holder in (undelivered, error.report, error):
        assert str(key.secret) not in f"{holder!r} {holder}"
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(holder)


async def test_a_cancelled_run_shows_no_secret(
    guarded: Emulator, client: AsyncOpenRouter, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    entered = asyncio.Event()

    async def take(_: ProvisionResult) -> None:
        entered.set()
        await asyncio.sleep(600)

    run = asyncio.create_task(client.provision(specs(1, external=EXTERNAL), on_result=take))
    await entered.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await run

    (key,) = guarded.account.keys.values()
    text = printed(caught.value) + caplog.text
    assert "1 undelivered" in text
    for secret in (MANAGEMENT, PARTNER, str(key.secret)):
        assert secret not in text
