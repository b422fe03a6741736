"""How much a run may hand out: `max_total_limit`, exactly, and what is refused beyond it."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys import UNSET, AllowanceExceededError, AsyncOpenRouter
from openrouter_keys.emulator import Emulator
from openrouter_keys.provisioning.spec_source import Allowance
from tests.journals import spec
from tests.provisions import SMALL_BATCH, client_of, specs, stopped
from tests.tables import in_one_test


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncOpenRouter]:
    async with client_of(emulator) as client:
        yield client


# --- adding up ---


def take_all(most: float | None, limits: Iterable[Any]) -> None:
    allowance = Allowance(most)
    for place, limit in enumerate(limits):
        allowance.take(spec(str(place), limit=limit))


@in_one_test(
    "most, limits",
    [
        (None, [UNSET, None, 1e300]),
        (0, [0, 0.0, -0.0]),
        (0.3, [0.1, 0.1, 0.1]),
        (100, [99.99, 0.01]),
        (1.1, [1.1]),
        (1e300, [1e300, 0]),
        (10**15 + 0.5, [10**15, 0.5]),
    ],
)
def test_limits_may_add_up_to_exactly_what_is_allowed(
    most: float | None, limits: list[Any]
) -> None:
    take_all(most, limits)


@pytest.mark.parametrize(
    ("most", "limits", "told"),
    [
        (0, [0.01], "0.01 US dollars, beyond 0.0"),
        (100, [100, 0.01], "100.01 US dollars, beyond 100.0"),
        (0.3, [0.1, 0.2, 1e-9], "beyond 0.3"),
        (100, [UNSET], "has no limit"),
        (100, [None], "has no limit"),
    ],
)
def test_the_spec_that_goes_beyond_is_told(most: float, limits: list[Any], told: str) -> None:
    with pytest.raises(AllowanceExceededError, match=told) as caught:
        take_all(most, limits)
    assert caught.value.ref == str(len(limits) - 1)


@pytest.mark.slow
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50))
def test_cents_add_up_without_an_error_of_rounding(cents: list[int]) -> None:
    most = sum(cents) / 100
    take_all(most, [cent / 100 for cent in cents])
    with pytest.raises(AllowanceExceededError):
        take_all(most, [*(cent / 100 for cent in cents), 0.01])


# --- what a run may hand out ---

LIMITS: dict[str, tuple[list[Any], float]] = {
    "exactly": ([50, 49.99, 0.01], 100),
    "tenths": ([0.1, 0.1, 0.1], 0.3),
    "nothing": ([0, 0.0], 0),
}
BEYOND: dict[str, tuple[list[Any], float]] = {
    "a cent more": ([50, 50, 0.01], 100),
    "a tenth more": ([0.1, 0.1, 0.1], 0.29),
    "no limit": ([50, None], 100),
    "left to the service": ([50, UNSET], 100),
    "nothing may be": ([0.01], 0),
}


@pytest.mark.parametrize("name", LIMITS)
async def test_limits_may_add_up_to_what_is_allowed(
    name: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    limits, most = LIMITS[name]
    wanted = [spec(str(place), limit=limit) for place, limit in enumerate(limits)]

    await client.provision(wanted, journal=path, max_total_limit=most)
    report = await client.provision(wanted, journal=path, max_total_limit=most)

    assert (report.settled_before, emulator.count("create")) == (len(limits), len(limits))


@pytest.mark.parametrize("name", BEYOND)
async def test_a_spec_beyond_what_is_allowed_stops_the_run_and_nothing_is_sent_for_it(
    name: str, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    limits, most = BEYOND[name]
    wanted = [spec(str(place), limit=limit) for place, limit in enumerate(limits)]

    error = await stopped(client.provision(wanted, journal=path, max_total_limit=most))

    assert isinstance(error.__cause__, AllowanceExceededError)
    assert error.__cause__.ref == wanted[-1].ref
    assert wanted[-1].name not in {request.name for request in emulator.requests}


@pytest.mark.usefixtures("small_batches")
async def test_what_was_read_earlier_counts_too(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    wanted = specs(2 * SMALL_BATCH + 1, limit=1)

    error = await stopped(client.provision(wanted, journal=path, max_total_limit=2 * SMALL_BATCH))

    assert isinstance(error.__cause__, AllowanceExceededError)
    assert error.__cause__.ref == wanted[-1].ref
    assert len(emulator.account.keys) == error.report.created < 2 * SMALL_BATCH + 1
