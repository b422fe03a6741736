"""The official Python SDK drives the emulator, blocking and async, and finds nothing wrong."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from operator import attrgetter
from typing import Any

import aiohttp
import httpx
import pytest
from attrs import define, field
from openrouter import OpenRouter, components, errors, operations
from openrouter.api_keys import APIKeys
from openrouter.utils import BackoffStrategy, RetryConfig

from openrouter_keys.emulator import Emulator, Fault, RateLimit, Workspace

# The SDK itself reads the fields that it calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*DEPRECATED:DeprecationWarning")

NO_RETRIES = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), False)
OPERATIONS = {
    "current": "get_current_key_metadata",
    "list": "list",
    "create": "create",
    "get": "get",
    "update": "update",
    "delete": "delete",
}
DOCUMENTED = {
    "current": (401, 500),
    "list": (400, 401, 404, 429, 500),
    "create": (400, 401, 403, 429, 500),
    "get": (401, 404, 429, 500),
    "update": (400, 401, 403, 404, 409, 429, 500),
    "delete": (401, 404, 429, 500),
}
CLASSES: dict[int, type[Exception]] = {
    400: errors.BadRequestResponseError,
    401: errors.UnauthorizedResponseError,
    403: errors.ForbiddenResponseError,
    404: errors.NotFoundResponseError,
    409: errors.ConflictResponseError,
    429: errors.TooManyRequestsResponseError,
    500: errors.InternalServerResponseError,
}


@define
class Official:
    """The official client, in one of its two forms."""

    emulator: Emulator
    form: str
    key: str
    http: httpx.Client
    async_http: httpx.AsyncClient
    client: OpenRouter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client = OpenRouter(
            lambda: self.key,
            server_url=self.emulator.base_url,
            retry_config=NO_RETRIES,
            client=self.http,
            async_client=self.async_http,
        )

    async def __call__(self, operation: str, **arguments: object) -> Any:
        method = OPERATIONS[operation]
        if self.form == "async":
            return await getattr(self.client.api_keys, f"{method}_async")(**arguments)
        return await asyncio.to_thread(getattr(self.client.api_keys, method), **arguments)


@pytest.fixture(params=["blocking", "async"])
async def official(request: pytest.FixtureRequest) -> AsyncIterator[Official]:
    # As its own are, but that they read no certificates of this machine: that takes 0.1 s.
    with httpx.Client(follow_redirects=True, verify=False) as http:
        async with (
            httpx.AsyncClient(follow_redirects=True, verify=False) as async_http,
            Emulator() as emulator,
        ):
            official = Official(emulator, request.param, emulator.api_key, http, async_http)
            with official.client:
                async with official.client:
                    yield official


def arguments(operation: str, hash: str) -> dict[str, object]:
    """What an operation at least needs."""
    named: dict[str, dict[str, object]] = {
        "create": {"name": "x"},
        "get": {"hash": hash},
        "update": {"hash": hash, "name": "y"},
        "delete": {"hash": hash},
    }
    return named.get(operation, {})


def test_these_are_all_its_operations() -> None:
    methods = {name for name in vars(APIKeys) if not name.startswith("_")}

    assert methods == {*OPERATIONS.values(), *(f"{name}_async" for name in OPERATIONS.values())}


# every operation


async def test_it_creates_with_every_field(official: Official) -> None:
    account = official.emulator.account
    account.workspaces["11111111-2222-4333-8444-555555555555"] = Workspace("w")
    expires_at = datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)

    made = await official(
        "create",
        name="customer-42",
        limit=50.5,
        limit_reset="monthly",
        include_byok_in_limit=True,
        expires_at=expires_at,
        creator_user_id="user_1",
        workspace_id="11111111-2222-4333-8444-555555555555",
        external={"user": "u-1", "api_key": "k" * 32},
    )

    (key,) = account.keys.values()
    assert made.key == key.secret
    assert made.data.hash == key.hash == sha256(made.key.encode()).hexdigest()
    told = attrgetter(
        *("name", "limit", "limit_reset", "include_byok_in_limit", "expires_at"),
        *("creator_user_id", "workspace_id", "external_user", "label", "disabled"),
    )
    assert told(made.data) == told(key)
    assert (key.name, key.limit, key.expires_at) == ("customer-42", 50.5, expires_at)
    assert key.external_key_hash == sha256(b"k" * 32).hexdigest()


async def test_it_lists_what_it_asks_for(official: Official) -> None:
    account = official.emulator.account
    account.workspaces["w"] = Workspace("w")
    account.add("plain")
    account.add("disabled", disabled=True)
    account.add("expired", expires_at=account.clock() - timedelta(days=1))
    account.add("elsewhere", workspace_id="w")

    async def names(**query: object) -> list[str]:
        return [key.name for key in (await official("list", **query)).data]

    assert await names() == ["plain"]
    assert await names(include_disabled=True) == ["disabled", "plain"]
    assert await names(include_expired=True, offset=0) == ["expired", "plain"]
    assert await names(include_disabled=True, include_expired=True, offset=2) == ["plain"]
    assert await names(workspace_id="w") == ["elsewhere"]


async def test_it_gets_updates_and_deletes(official: Official) -> None:
    account = official.emulator.account
    key = account.add("old", limit=5.0, limit_reset="daily")
    account.spend(key.hash, 1.5)

    got = (await official("get", hash=key.hash)).data
    changed = (await official("update", hash=key.hash, name="new", disabled=True)).data
    unlimited = (await official("update", hash=key.hash, limit=None, limit_reset=None)).data

    assert (got.name, got.limit_remaining, got.usage_daily) == ("old", 3.5, 1.5)
    assert (got.last_used_at, got.updated_at) == (key.last_used_at, None)
    assert (changed.name, changed.disabled, changed.limit) == ("new", True, 5.0)
    assert (unlimited.limit, unlimited.limit_reset, unlimited.limit_remaining) == (None, None, None)
    assert unlimited.name == "new"

    assert (await official("delete", hash=key.hash)).DELETED is True
    assert account.keys == {}


async def test_it_is_told_which_key_it_has(official: Official) -> None:
    key = official.emulator.account.add(limit=2.0, limit_reset="weekly")

    manages = (await official("current")).data
    official.key = str(key.secret)
    own = (await official("current")).data

    assert (manages.is_management_key, own.is_management_key) == (True, False)
    assert (own.label, own.limit, own.effective_budget.limit_usd) == (key.label, 2.0, 2.0)
    (budget,) = own.budgets
    assert (budget.scope, budget.reset_interval) == ("key_limit", "weekly")


async def test_it_knows_every_field_and_misses_none(emulator: Emulator) -> None:
    key = emulator.account.add(limit=1.0)
    current = await sent(emulator, "GET", "/key", str(key.secret))
    answers: dict[Any, dict[str, Any]] = {
        operations.CreateKeysData: await sent(emulator, "POST", "/keys", emulator.api_key),
        operations.GetKeyData: await sent(emulator, "GET", f"/keys/{key.hash}", emulator.api_key),
        operations.GetCurrentKeyData: current,
        components.KeyBudget: current["effective_budget"],
    }

    for model, record in answers.items():
        assert {*model.model_fields} == {*record}, model.__name__


async def sent(emulator: Emulator, method: str, path: str, key: str) -> dict[str, Any]:
    """The record in an answer, as it was sent."""
    async with aiohttp.request(
        method,
        emulator.base_url + path,
        json={"name": "x"},
        headers={"Authorization": f"Bearer {key}"},
    ) as response:
        return dict((await response.json())["data"])


# every error


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_each_documented_status_is_its_class(official: Official, operation: str) -> None:
    key = official.emulator.account.add()
    for status in DOCUMENTED[operation]:
        official.emulator.faults.append(Fault(status=status))

        with pytest.raises(CLASSES[status]) as raised:
            await official(operation, **arguments(operation, key.hash))

        error: Any = raised.value
        assert (error.status_code, error.data.error.code) == (status, status)
        assert error.data.error.message == str(error)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_any_other_status_is_the_default_class(official: Official, operation: str) -> None:
    key = official.emulator.account.add()
    for status in (402, 418, 502, 503, 520, 529):
        official.emulator.faults.append(Fault(status=status))

        with pytest.raises(errors.OpenRouterDefaultError) as raised:
            await official(operation, **arguments(operation, key.hash))

        assert raised.value.status_code == status


@pytest.mark.parametrize(
    ("operation", "wrong"),
    [
        ("create", {"name": ""}),
        ("create", {"name": "x", "limit": -1}),
        ("create", {"name": "x", "expires_at": datetime(2099, 1, 1)}),
        ("create", {"name": "x", "external": {"user": " "}}),
        ("list", {"offset": -1}),
        ("update", {}),
        ("update", {"name": ""}),
    ],
)
async def test_what_is_not_valid_is_a_bad_request(
    official: Official, operation: str, wrong: dict[str, object]
) -> None:
    key = official.emulator.account.add()
    named: dict[str, object] = {"hash": key.hash} if operation == "update" else {}

    with pytest.raises(errors.BadRequestResponseError):
        await official(operation, **named, **wrong)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_an_unknown_key_is_unauthorized(official: Official, operation: str) -> None:
    official.key = "sk-or-v1-unknown"

    with pytest.raises(errors.UnauthorizedResponseError, match="User not found"):
        await official(operation, **arguments(operation, "h"))


@pytest.mark.parametrize("operation", ["create", "update"])
async def test_an_inference_key_is_forbidden(official: Official, operation: str) -> None:
    account = official.emulator.account
    account.inference_key_status = 403
    key = account.add()
    official.key = str(key.secret)

    with pytest.raises(errors.ForbiddenResponseError, match="Only management keys"):
        await official(operation, **arguments(operation, key.hash))


@pytest.mark.parametrize("operation", ["get", "update", "delete"])
async def test_a_key_that_is_not_there_is_not_found(official: Official, operation: str) -> None:
    with pytest.raises(errors.NotFoundResponseError):
        await official(operation, **arguments(operation, "0" * 64))


async def test_a_workspace_that_is_not_there_is_not_found(official: Official) -> None:
    with pytest.raises(errors.NotFoundResponseError):
        await official("list", workspace_id="11111111-2222-4333-8444-555555555555")


async def test_a_rate_limit_is_too_many_requests(official: Official) -> None:
    official.emulator.rate_limit = RateLimit(0.001, 1)
    await official("list")

    with pytest.raises(errors.TooManyRequestsResponseError) as raised:
        await official("list")

    assert raised.value.headers["retry-after"] == "1000"
