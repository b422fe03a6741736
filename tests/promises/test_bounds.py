"""Every wait has an end: a run that is never answered, a callable that hangs."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from attrs import evolve

from openrouter_keys import AsyncOpenRouter, KeySpec, ProvisionReport, ServiceOutageError
from openrouter_keys._inputs.credentials import Credentials
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.errors import DeadlineExceededError, TooManyRequestsResponseError
from openrouter_keys.provisioning.circuit_breaker import REJECTED
from tests.clients import FakeTime, api_keys
from tests.provisions import JumpingTime, client_of, specs, stopped

ROOT = Path(__file__).parents[2]


def test_each_bound_in_the_docs_has_a_test_that_is_there() -> None:
    rows = (ROOT / "docs" / "bounds.md").read_text().splitlines()[6:]
    for row in rows:
        found = re.search(r"`([\w/]+\.py)::(test_\w+)` \|$", row)
        assert found, row
        assert f"def {found[2]}(" in (ROOT / "tests" / found[1]).read_text(), row


# --- a run ---

SLOW = {
    "502": Fault("create", status=502, times=None),
    "503": Fault("create", status=503, times=None),
    "closed": Fault("create", kind="closed", times=None),
    "the edge": Fault("create", status=521, times=None),
    "no secret": Fault("create", kind="not_json", phase="after", times=None),
}


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 32])
@pytest.mark.parametrize("fault", SLOW)
async def test_a_run_whose_creates_all_hang_for_two_minutes_ends_within_twenty(
    fault: str, concurrency: int, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.faults.append(evolve(SLOW[fault]))
    time = JumpingTime()
    async with client_of(emulator, time, timeout_ms=130_000) as client:

        def key() -> str:  # which is asked for at each request
            time.slept.append(120 / concurrency)
            return emulator.api_key

        began = time.monotonic()
        error = await stopped(_with_key(client, key, concurrency, tmp_path))
        passed = time.monotonic() - began

    assert isinstance(error.__cause__, ServiceOutageError)
    assert passed < 1200
    assert not error.report.ok


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 32])
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "119"}])
async def test_a_run_that_meets_nothing_but_a_rate_limit_ends_within_twenty_minutes(
    headers: dict[str, str], concurrency: int, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.faults.append(Fault("create", status=429, headers=headers, times=None))
    time = JumpingTime()
    async with client_of(emulator, time) as client:
        run = client.provision(
            specs(40), journal=tmp_path / "a.journal", on_result=print, concurrency=concurrency
        )
        error = await stopped(run)

    assert isinstance(error.__cause__, TooManyRequestsResponseError)
    assert sum(time.slept) < 1200
    # What ends it, and one more of each worker whose refusal is not counted yet.
    assert emulator.count("create") < REJECTED + 2 * concurrency + 2 * concurrency
    assert emulator.account.keys == {}


async def _with_key(
    client: AsyncOpenRouter, key: Callable[[], str], concurrency: int, folder: Path
) -> ProvisionReport:
    client._transport._credentials = Credentials(key)
    wanted: list[KeySpec] = specs(200)
    return await client.provision(
        wanted, journal=folder / "a.journal", on_result=print, concurrency=concurrency
    )


# --- a key that is asked for ---


async def _never(_: asyncio.Event) -> str:
    await asyncio.Event().wait()
    return "never"


async def _will_not_be_cancelled(end: asyncio.Event) -> str:
    while not end.is_set():
        try:
            await end.wait()
        except asyncio.CancelledError:
            continue
    return "too late"


async def _takes_its_time_to_be_cancelled(end: asyncio.Event) -> str:
    try:
        return await _never(end)
    finally:
        await end.wait()


async def _takes_a_cancel_for_an_error(end: asyncio.Event) -> str:
    try:
        return await _never(end)
    except asyncio.CancelledError:
        raise ValueError("cancelled") from None


HANGING: list[Callable[[asyncio.Event], Awaitable[str]]] = [
    _never,
    _will_not_be_cancelled,
    _takes_its_time_to_be_cancelled,
    _takes_a_cancel_for_an_error,
]


async def _left_to_itself(end: asyncio.Event) -> None:
    """The call is over, the callable maybe not: it ends, and warns of nothing."""
    assert not end.is_set()
    end.set()
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("key", HANGING, ids=lambda key: key.__name__)
async def test_a_callable_that_hangs_ends_with_the_call(
    key: Callable[[asyncio.Event], Awaitable[str]], emulator: Emulator
) -> None:
    end = asyncio.Event()
    async with api_keys(emulator.base_url, lambda: key(end)) as keys:
        with pytest.raises(DeadlineExceededError, match="gave no key"):
            await keys.create(name="new", timeout_ms=50)
        await _left_to_itself(end)

    assert emulator.requests == []


@pytest.mark.parametrize("key", HANGING, ids=lambda key: key.__name__)
async def test_a_call_is_cancelled_while_its_callable_hangs(
    key: Callable[[asyncio.Event], Awaitable[str]], emulator: Emulator
) -> None:
    end = asyncio.Event()
    async with api_keys(emulator.base_url, lambda: key(end)) as keys:
        call = asyncio.create_task(keys.list())
        await asyncio.sleep(0.02)
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()
        await _left_to_itself(end)


# --- a single call ---


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "30"}])
async def test_a_call_that_meets_nothing_but_a_rate_limit_ends_with_its_time(
    headers: dict[str, str], emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault("create", status=429, headers=headers, times=None))

    async with api_keys(emulator.base_url, emulator.api_key, fake_time, timeout=60) as keys:
        with pytest.raises(TooManyRequestsResponseError):
            await keys.create(name="new")

    assert sum(fake_time.slept) <= 60
    assert emulator.account.keys == {}
