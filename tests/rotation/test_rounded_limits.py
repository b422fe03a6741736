"""A service that rounds limits: less than a cent is no mismatch, and no rotation adds to it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter, KeySpec
from openrouter_keys.emulator import Emulator, state
from tests.rotations import Taker, hashes, old_keys, twin_of

UNITS: dict[str, Callable[[float], float]] = {
    "cents": lambda limit: round(limit, 2),
    "cents, up": lambda limit: math.ceil(limit * 100) / 100,
    "cents, down": lambda limit: math.floor(limit * 100) / 100,
    "tenths of a cent": lambda limit: round(limit, 3),
}


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the service round each limit that it is sent."""
    rounding = UNITS[request.param]

    def rounded(read: Callable[[object], dict[str, Any]]) -> Callable[[object], dict[str, Any]]:
        def reading(body: object) -> dict[str, Any]:
            fields = read(body)
            if fields.get("limit") is not None:
                fields["limit"] = rounding(fields["limit"])
            return fields

        return reading

    for name in ("creation", "changes"):
        monkeypatch.setattr(state, name, rounded(getattr(state, name)))
    return str(request.param)


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("limit", [12.3456, 0.004, 1999.999])
async def test_a_rounded_limit_is_no_mismatch(
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    limit: float,
) -> None:
    await client.api_keys.create(name="one", limit=limit)
    report = await client.provision([KeySpec(ref="a", name="a", limit=limit)], journal=path)

    assert report.ok
    assert "asked for" not in caplog.text
    keys = emulator.account.keys.values()
    assert not any(key.disabled for key in keys)
    assert all(abs((key.limit or 0) - limit) < 0.01 for key in keys)


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("spent_on", [0, 0.0004, 0.5, 2.0001])
async def test_a_rotation_adds_less_than_a_cent(
    emulator: Emulator, client: AsyncOpenRouter, path: Path, taker: Taker, spent_on: float
) -> None:
    (old,) = old_keys(emulator, 1, limit=20, usage=7.6544)
    await client.rotate(hashes([old]), journal=path, on_result=taker)
    old.usage += spent_on
    report = await client.rotate((), journal=path, retire_after=0)

    assert report.ok
    assert old.hash not in emulator.account.keys
    twin = twin_of(emulator, old)
    assert abs((twin.limit or 0) - (20 - 7.6544 - spent_on)) < 0.01
