"""A limit is a number of any kind, and reaches the service exactly, or is refused."""

import json
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import pytest
from attrs import asdict

from openrouter_keys import AsyncOpenRouter, KeySpec
from openrouter_keys.emulator import Emulator
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.models import CreateKeysRequest, UpdateKeysRequest
from openrouter_keys.operations import create, update
from openrouter_keys.provisioning.settings import RunSettings
from tests.records import HASH
from tests.tables import in_one_test


class Int64:
    """An integer as numpy has it: no `int`."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __int__(self) -> int:
        return self.number

    __index__ = __int__

    def __float__(self) -> float:
        return float(self.number)


class Float32:
    """A number of less precision, as numpy has it: no `float`."""

    def __init__(self, number: float) -> None:
        self.number = number

    def __float__(self) -> float:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self.number == other

    __hash__ = object.__hash__


class Float64(float):
    """numpy's is one of Python's, too, but another type."""


class Tier(IntEnum):
    SMALL = 5


Integral.register(Int64)
Real.register(Float32)

NUMBERS: tuple[tuple[Any, float], ...] = (
    (Decimal("0.10"), 0.1),
    (Decimal(50), 50.0),
    (Decimal("1234.56"), 1234.56),
    (Decimal("5E+1"), 50.0),
    (Decimal("-0"), 0.0),
    (Fraction(1, 8), 0.125),
    (Fraction(1, 10), 0.1),
    (Int64(50), 50),
    (Int64(2**60 + 1), 2**60 + 1),
    (Float32(0.125), 0.125),
    (Float32(0.10000000149011612), 0.10000000149011612),
    (Float64(0.1), 0.1),
    (Tier.SMALL, 5),
    (50, 50),
    (0.1, 0.1),
)
INEXACT: tuple[Any, ...] = (
    Decimal(50) / Decimal(3),
    Decimal("0.1000000000000000055511151231257827"),
    Decimal("1e-999999999"),
    Decimal(2**60 + 1),
    Fraction(1, 3),
)
NO_NUMBERS: tuple[Any, ...] = (
    "50",
    b"50",
    True,
    5 + 0j,
    [50],
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("-Infinity"),
    Decimal(-1),
    Fraction(-1, 2),
    Float32(float("nan")),
    Fraction(10**400),
)


@in_one_test("given, sent", NUMBERS)
def test_a_number_of_any_kind_is_sent_exactly(given: Any, sent: float) -> None:
    spec = KeySpec(ref="a", name="a", limit=given)
    requests = (CreateKeysRequest(name="a", limit=given), UpdateKeysRequest(limit=given))
    assert spec == KeySpec(ref="a", name="a", limit=sent)
    for number in (spec.limit, *(request.limit for request in requests)):
        assert (number, type(number)) == (sent, type(sent))
    for operation in (create(spec.request()), create(requests[0]), update(HASH, requests[1])):
        assert json.loads(operation.body or b"")["limit"] == sent
    settings = RunSettings(on_result=print, max_total_limit=given)
    assert settings.max_total_limit == sent


@in_one_test("given", INEXACT)
def test_a_number_that_json_would_change_is_refused(given: Any) -> None:
    for make in (
        lambda: KeySpec(ref="a", name="a", limit=given),
        lambda: CreateKeysRequest(name="a", limit=given),
        lambda: UpdateKeysRequest(limit=given),
        lambda: RunSettings(on_result=print, max_total_limit=given),
    ):
        with pytest.raises(InvalidArgumentError, match=r"limit: has more digits .* round it"):
            make()


@in_one_test("given", NO_NUMBERS)
def test_what_is_no_amount_is_refused(given: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"limit: must be a"):
        KeySpec(ref="a", name="a", limit=given)


def test_a_plan_is_the_same_whatever_the_numbers_kind() -> None:
    plans = {KeySpec(ref="a", name="a", limit=limit).plan for limit in (50, 50.0, Decimal("50.00"))}
    assert len(plans) == 1
    assert asdict(KeySpec(ref="a", name="a", limit=Decimal("0.1")))["limit"] == 0.1


async def test_every_call_takes_a_decimal(emulator: Emulator) -> None:
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        made = await client.api_keys.create(name="a", limit=Decimal("0.10"))
        assert made.data.limit == 0.1
        changed = await client.api_keys.update(made.data.hash, limit=Decimal("12.50"))
        assert changed.data.limit == 12.5
        async with client.lease(name="b", limit=Decimal("0.50"), expires_in=60) as lease:
            assert lease.data.limit == 0.5
        specs = [KeySpec(ref="c", name="c", limit=Decimal("0.30"))]
        report = await client.provision(
            specs, on_result=print, max_total_limit=Decimal("0.3"), quiet_period=0
        )
        assert report.ok
