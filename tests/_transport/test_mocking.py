"""A user's own tests may patch aiohttp with aioresponses."""

import re

import aiohttp
import pytest
from aioresponses import aioresponses

from openrouter_keys import AsyncOpenRouter, OpenRouter, RetryConfig, errors
from tests.records import SECRET, key_json

URL = "https://openrouter.ai/api/v1"


async def test_a_users_tests_can_patch_the_client() -> None:
    with aioresponses() as mocked:
        mocked.post(f"{URL}/keys", status=201, payload={"data": key_json(), "key": SECRET})
        mocked.get(f"{URL}/keys?offset=0", payload={"data": [key_json()]})
        async with AsyncOpenRouter("key") as client:
            created = await client.api_keys.create(name="new")
            listed = await client.api_keys.list(offset=0)

    assert created.key == SECRET
    assert listed.data[0].name == key_json()["name"]


def test_a_users_tests_can_patch_the_blocking_client() -> None:
    with aioresponses() as mocked:
        mocked.delete(f"{URL}/keys/abc", payload={"deleted": True})
        with OpenRouter("key") as client:
            assert client.api_keys.delete("abc").deleted


async def test_a_stand_in_that_knows_no_offset_does_not_loop() -> None:
    with aioresponses() as mocked:
        mocked.get(re.compile(".*"), payload={"data": [key_json()]}, repeat=True)
        async with AsyncOpenRouter("key") as client:
            assert len([key async for key in client.api_keys.iterate()]) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, errors.BadRequestResponseError),
        (401, errors.UnauthorizedResponseError),
        (402, errors.OpenRouterDefaultError),
        (403, errors.ForbiddenResponseError),
        (404, errors.NotFoundResponseError),
        (409, errors.ConflictResponseError),
        (418, errors.OpenRouterDefaultError),
        (429, errors.TooManyRequestsResponseError),
        (500, errors.InternalServerResponseError),
        (529, errors.OpenRouterDefaultError),
    ],
)
async def test_the_status_decides_the_error(status: int, error: type[errors.ResponseError]) -> None:
    body = {"error": {"code": status, "message": "No.", "metadata": {"error_type": "odd"}}}
    with aioresponses() as mocked:
        mocked.get(f"{URL}/key", status=status, payload=body, headers={"X-Trace": "7"})
        async with AsyncOpenRouter("key", retry_config=RetryConfig("none")) as client:
            with pytest.raises(errors.ResponseError) as caught:
                await client.api_keys.get_current_key_metadata()

    assert type(caught.value) is error
    assert caught.value.status_code == status
    assert caught.value.message == caught.value.data.error.message == "No."
    assert caught.value.data.error.code == status
    assert caught.value.data.error.metadata == {"error_type": "odd"}
    assert caught.value.headers["x-trace"] == "7"
    assert '"No."' in caught.value.body


@pytest.mark.parametrize(
    "exception", [aiohttp.ClientConnectionError("lost"), OSError("lost"), TimeoutError()]
)
async def test_a_patched_failure_of_a_create_counts_as_sent(exception: Exception) -> None:
    with aioresponses() as mocked:
        mocked.post(f"{URL}/keys", exception=exception, repeat=True)
        async with AsyncOpenRouter("key") as client:
            with pytest.raises(errors.CreateOutcomeUnknownError) as caught:
                await client.api_keys.create(name="new")

    assert caught.value.attempts == 1
