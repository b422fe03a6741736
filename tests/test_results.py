import asyncio

import pytest

from openrouter_keys.errors import NotFoundResponseError, OpenRouterError
from openrouter_keys.results import Err, Ok, attempt


async def gives(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def raises(error: BaseException) -> int:
    await asyncio.sleep(0)
    raise error


async def test_what_goes_well_is_ok_with_its_value() -> None:
    result = await attempt(gives(7))
    assert result == Ok(7)
    assert result.ok is True
    assert result.value == 7


async def test_what_goes_wrong_is_an_err_with_its_error() -> None:
    error = NotFoundResponseError("Resource not found")
    result = await attempt(raises(error))
    assert result.ok is False
    assert result.error is error


@pytest.mark.parametrize("value", [0, 1])
async def test_an_outcome_can_be_matched(value: int) -> None:
    match await attempt(gives(value) if value else raises(OpenRouterError("no"))):
        case Ok(found):
            assert found == value == 1
        case Err(error):
            assert (str(error), value) == ("no", 0)


@pytest.mark.parametrize("error", [ValueError("a bug"), asyncio.CancelledError(), KeyError("k")])
async def test_what_is_no_error_of_this_package_is_raised_as_ever(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        await attempt(raises(error))
    assert raised.value is error


async def test_a_task_counts_as_well_as_a_coroutine() -> None:
    assert await attempt(asyncio.create_task(gives(7))) == Ok(7)
