"""A replacement may have another limit and another expiry than its old key."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator
from openrouter_keys.errors import InvalidArgumentError

OVER, SOON, LATER = (datetime(year, 1, 1, tzinfo=UTC) for year in (2026, 2098, 2099))
SPENT: dict[str, Any] = {"limit": 10, "usage": 3}
RESETS: dict[str, Any] = {"limit": 10, "limit_reset": "monthly"}

#: The old key, the terms, and what its replacement has in the end.
TERMS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "a limit": (SPENT, {"limit": 80}, {"limit": 80}),
    "less than is left": (SPENT, {"limit": 2.5}, {"limit": 2.5}),
    "nothing": (SPENT, {"limit": 0}, {"limit": 0}),
    "no limit": (SPENT, {"limit": None}, {"limit": None}),
    "a limit where there was none": ({}, {"limit": 5}, {"limit": 5}),
    "a limit that resets": (RESETS, {"limit": 5}, {"limit": 5, "limit_reset": "monthly"}),
    "an expiry": (SPENT, {"expires_at": LATER}, {"limit": 6, "expires_at": LATER}),
    "another expiry": ({"expires_at": SOON}, {"expires_at": LATER}, {"expires_at": LATER}),
    "no expiry": ({"expires_at": SOON}, {"expires_at": None}, {"expires_at": None}),
    "an expiry for one that is over": (
        {"expires_at": OVER}, {"expires_at": LATER}, {"expires_at": LATER},
    ),
    "both": (
        {**SPENT, "expires_at": SOON},
        {"limit": 4, "expires_at": LATER},
        {"limit": 4, "expires_at": LATER},
    ),
    "neither": ({**SPENT, "expires_at": SOON}, {}, {"limit": 6, "expires_at": SOON}),
}  # fmt: skip


@pytest.mark.parametrize("case", TERMS)
async def test_a_replacement_has_what_is_given(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, case: str
) -> None:
    """The rest is the old key's; what that spends meanwhile lowers no limit that was given."""
    old, terms, expected = TERMS[case]
    key = emulator.account.add("customer", **old)
    (planned,) = await client.plan_rotation([key.hash], **terms)
    assert planned.problem is None
    report = await client.rotate([key.hash], journal=path, **terms)
    assert (report.rotated, report.failed) == (1, 0)
    key.usage += 1
    await client.rotate((), journal=path, retire_after=0)
    (twin,) = emulator.account.keys.values()
    assert {name: getattr(twin, name) for name in expected} == expected


async def test_a_plan_stays_as_it_was_made(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    key = emulator.account.add("customer", **SPENT)
    await client.rotate([key.hash], journal=path, limit=80)
    await client.rotate([key.hash], journal=path, limit=90)
    assert [each.limit for each in emulator.account.keys.values()] == [10, 80]


async def test_an_expiry_that_is_over_replaces_nothing(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    key = emulator.account.add("customer")
    report = await client.rotate([key.hash], journal=path, expires_at=OVER)
    assert (report.rotated, report.failed, len(emulator.account.keys)) == (0, 1, 1)


WRONG: dict[str, dict[str, Any]] = {
    "less than nothing": {"limit": -1},
    "a text": {"limit": "5"},
    "not a number": {"limit": float("nan")},
    "a duration": {"expires_at": "30d"},
    "a time without a zone": {"expires_at": datetime(2100, 1, 1)},
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_no_limit_and_no_expiry_is_refused(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, case: str
) -> None:
    (name,) = WRONG[case]
    for call in (
        client.rotate(["ab" * 32], journal=path, **WRONG[case]),
        client.plan_rotation([], **WRONG[case]),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            await call
        assert caught.value.argument == name
    assert not emulator.requests
