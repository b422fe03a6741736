"""What a client is told once: its arguments, the environment, the names that a migration needs."""

import inspect
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import pytest

import openrouter_keys
from openrouter_keys import (
    UNSET,
    AsyncOpenRouter,
    BackoffStrategy,
    OpenRouter,
    RetryConfig,
    errors,
    models,
    operations,
    utils,
)
from openrouter_keys.emulator import Emulator, Fault
from tests.tables import in_one_test

ATTRIBUTION = ("http-referer", "x-openrouter-title", "x-openrouter-categories")


async def sent_headers(
    emulator: Emulator, arguments: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, str]:
    async with AsyncOpenRouter(
        emulator.api_key, server_url=emulator.base_url, **arguments
    ) as client:
        await client.api_keys.list(**options)
    return emulator.requests[-1].headers


async def test_the_environment_says_what_the_arguments_do_not(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", emulator.api_key)
    monkeypatch.setenv("OPENROUTER_BASE_URL", f"{emulator.base_url}/")
    monkeypatch.setenv("OPENROUTER_HTTP_REFERER", "https://app.example")
    monkeypatch.setenv("OPENROUTER_X_OPEN_ROUTER_TITLE", "App")
    monkeypatch.setenv("OPENROUTER_X_OPEN_ROUTER_CATEGORIES", "cli-agent,cloud-agent")

    async with AsyncOpenRouter() as client:
        await client.api_keys.list()
    async with AsyncOpenRouter(api_key="", http_referer="https://other.example") as client:
        await client.api_keys.list()

    first, second = (request.headers for request in emulator.requests)
    assert [first[name] for name in ATTRIBUTION] == [
        "https://app.example",
        "App",
        "cli-agent,cloud-agent",
    ]
    assert first["authorization"] == f"Bearer {emulator.api_key}"
    assert second["http-referer"] == "https://other.example"


async def test_attribution_of_the_client_and_of_a_call(emulator: Emulator) -> None:
    client = {
        "http_referer": "https://app.example",
        "x_open_router_title": "App",
        "x_open_router_categories": "cli-agent",
    }

    headers = await sent_headers(emulator, client, {})
    assert [headers[name] for name in ATTRIBUTION] == [*client.values()]

    headers = await sent_headers(
        emulator,
        client,
        {"x_open_router_title": "Call", "http_headers": {"x-trace": "7", "http-REFERER": "mine"}},
    )
    assert [headers[name] for name in ATTRIBUTION] == ["mine", "Call", "cli-agent"]
    assert headers["x-trace"] == "7"


async def test_nothing_is_attributed_unasked(emulator: Emulator) -> None:
    headers = await sent_headers(emulator, {}, {})
    assert not set(ATTRIBUTION) & set(headers)
    assert headers["user-agent"] == f"openrouter-keys/{openrouter_keys.__version__}"


async def test_who_asks_stands_before_the_packages_name(emulator: Emulator) -> None:
    own = f"openrouter-keys/{openrouter_keys.__version__}"
    for given, sent in {"billing/2.1": f"billing/2.1 {own}", None: own, UNSET: own}.items():
        headers = await sent_headers(emulator, {"user_agent": given}, {})
        assert headers["user-agent"] == sent
    headers = await sent_headers(emulator, {}, {"http_headers": {"user-agent": "mine"}})
    assert headers["user-agent"] == "mine"


async def test_a_call_may_go_to_another_server(emulator: Emulator) -> None:
    async with AsyncOpenRouter(emulator.api_key, server_url="http://127.0.0.1:9") as client:
        await client.api_keys.list(server_url=emulator.base_url)
    assert len(emulator.requests) == 1


async def test_a_calls_retries_and_time_out_win_over_the_clients(emulator: Emulator) -> None:
    emulator.faults.append(Fault(status=500, times=None))
    once = RetryConfig("none", BackoffStrategy(1, 50, 1.1, 100), False)
    quick = RetryConfig("backoff", BackoffStrategy(1, 1, 1.1, 10_000), True)
    async with AsyncOpenRouter(
        emulator.api_key, server_url=emulator.base_url, retry_config=once, timeout_ms=5_000
    ) as client:
        with pytest.raises(errors.InternalServerResponseError) as caught:
            await client.api_keys.list()
        assert caught.value.attempts == 1
        with pytest.raises(errors.InternalServerResponseError) as caught:
            await client.api_keys.list(retries=quick, timeout_ms=60_000)
        assert caught.value.attempts == 3


BAD_ARGUMENTS: dict[str, Any] = {
    "server_url": ["", "openrouter.ai", "ftp://x", "https://a b", "https://u:p@h", "https://h/?q"],
    "timeout_ms": [0, -1, float("nan"), float("inf"), "5", True],
    "retry_config": ["none", 3],
    "max_connections": [0, -1, 1.5, True],
    "proxy": [5, False, "socks5://p", "ftp://p", "http://p/path", "http://", "a b"],
    "ssl": [True, False, "ca.pem"],
    "grace": [-1, float("nan"), "5"],
    "http_referer": ["a\r\nX: 1", 5],
    "x_open_router_title": ["a\nb"],
    "x_open_router_categories": ["a\0b"],
    "user_agent": ["", "a\r\nX: 1", 5, "\ud800"],
}


@in_one_test(
    "argument, value", [(name, bad) for name, values in BAD_ARGUMENTS.items() for bad in values]
)
@in_one_test("client", [AsyncOpenRouter, OpenRouter])
def test_a_bad_argument_of_the_client_is_refused_by_name(
    client: Any, argument: str, value: object
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        client("key", **{argument: value})
    assert caught.value.argument == argument
    assert argument in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("key", [None, ""])
def test_a_missing_key_says_where_it_can_come_from(key: str | None) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="OPENROUTER_API_KEY"):
        AsyncOpenRouter(key)


def test_a_bad_base_url_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_BASE_URL", "openrouter.ai")
    with pytest.raises(errors.InvalidArgumentError, match="OPENROUTER_BASE_URL"):
        AsyncOpenRouter("key")


@pytest.mark.parametrize("client", [AsyncOpenRouter, OpenRouter])
@pytest.mark.parametrize("variable", [True, False])
@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://keys.example/api/v1", "keys.example"),
        ("HTTP://10.0.0.7:8080", "10.0.0.7"),
        ("http://127.example", "127.example"),
        ("http://[fe80::1]/", "fe80::1"),
        ("https://keys.example/api/v1", None),
        ("http://127.0.0.1:8080/api/v1", None),
        ("http://localhost/api/v1", None),
        ("http://[::1]:8080/api/v1", None),
    ],
)
def test_a_key_that_goes_out_unencrypted_is_warned_of_once(
    url: str,
    host: str | None,
    *,
    variable: bool,
    client: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable:
        monkeypatch.setenv("OPENROUTER_BASE_URL", url)
    for _ in range(2):
        client("key", server_url=None if variable else url)

    warned = [record.getMessage() for record in caplog.records]
    expected = f"the management key goes to {host} unencrypted: is http:// meant?"
    assert warned == ([] if host is None else [expected])


async def test_a_call_that_goes_out_unencrypted_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with AsyncOpenRouter("key") as client:
        for _ in range(2):
            with pytest.raises(errors.OpenRouterError):
                await client.api_keys.list(server_url="http://keys.invalid", timeout_ms=1)

    assert [record.levelname for record in caplog.records] == ["WARNING"]


CALLS: dict[str, dict[str, Any]] = {
    "get_current_key_metadata": {},
    "list": {},
    "create": {"name": "new"},
    "get": {"hash": "ab"},
    "update": {"hash": "ab", "limit": None},
    "delete": {"hash": "ab"},
}
BAD_OPTIONS: dict[str, list[Any]] = {
    "retries": ["none"],
    "timeout_ms": [0],
    "server_url": ["openrouter.ai"],
    "http_headers": [
        {"Bad Name": "x"}, {"X": "a\r\nb"}, {"X": 5}, {"authorization": "Bearer x"}, 5,
    ],
    "http_referer": ["a\nb"],
    "x_open_router_title": [5],
    "x_open_router_categories": ["a\0"],
}  # fmt: skip


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize(
    ("option", "value"), [(name, bad) for name, values in BAD_OPTIONS.items() for bad in values]
)
async def test_a_bad_option_is_refused_before_anything_is_sent(
    operation: str, option: str, value: object, emulator: Emulator
) -> None:
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        with pytest.raises(errors.InvalidArgumentError, match=option):
            await getattr(client.api_keys, operation)(**CALLS[operation], **{option: value})
    assert emulator.requests == []


@pytest.mark.parametrize("operation", CALLS)
async def test_an_argument_that_does_not_exist_is_refused(
    operation: str, emulator: Emulator
) -> None:
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        with pytest.raises(TypeError, match="'limt'"):
            await getattr(client.api_keys, operation)(**CALLS[operation], limt=5)
    assert emulator.requests == []


async def test_bad_input_of_every_operation_is_refused_before_anything_is_sent(
    emulator: Emulator,
) -> None:
    bad: list[tuple[str, dict[str, Any], str]] = [
        ("create", {"name": ""}, "name"),
        ("create", {"name": None}, "name"),
        *[
            ("create", {"name": "n", "limit": limit}, "limit")
            for limit in (float("nan"), float("inf"), -1, "5", True)
        ],
        ("create", {"name": "n", "limit_reset": "hourly"}, "limit_reset"),
        ("create", {"name": "n", "expires_at": datetime(2027, 1, 1)}, "expires_at"),
        ("create", {"name": "n", "expires_at": "2027-12-31"}, "expires_at"),
        ("create", {"name": "n", "include_byok_in_limit": "false"}, "include_byok_in_limit"),
        ("create", {"name": "n", "creator_user_id": ""}, "creator_user_id"),
        ("create", {"name": "n", "workspace_id": ""}, "workspace_id"),
        ("create", {"name": "n", "external": {"user": ""}}, "external"),
        ("list", {"offset": -1}, "offset"),
        ("list", {"offset": "-1"}, "offset"),
        ("list", {"offset": 1.5}, "offset"),
        ("list", {"include_disabled": "yes"}, "include_disabled"),
        ("list", {"include_expired": 1}, "include_expired"),
        ("list", {"workspace_id": ""}, "workspace_id"),
        ("update", {"hash": "ab"}, "update"),
        ("update", {"hash": "ab", "name": ""}, "name"),
        ("update", {"hash": "ab", "limit": float("nan")}, "limit"),
        ("update", {"hash": "ab", "limit_reset": "never"}, "limit_reset"),
        ("update", {"hash": "ab", "disabled": "false"}, "disabled"),
        *[
            (operation, {"hash": hash, **more}, "hash")
            for operation, more in (("get", {}), ("delete", {}), ("update", {"limit": 1}))
            for hash in ("", ".", "..", "../credits", "a/b", "a?b", "a#b", "a%2fb", "a b", 5, None)
        ],
    ]
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        for operation, arguments, named in bad:
            with pytest.raises(errors.InvalidArgumentError) as caught:
                await getattr(client.api_keys, operation)(**arguments)
            assert caught.value.argument.startswith(named), (operation, arguments)
            assert str(caught.value).startswith(named)
    assert emulator.requests == []


# --- a migration is one import ---


def test_the_names_of_the_official_sdk_are_here() -> None:
    names = {
        openrouter_keys: "OpenRouter errors operations utils",
        operations: "ListResponse CreateKeysResponse GetKeyResponse UpdateKeysResponse"
        " DeleteKeysResponse GetCurrentKeyResponse CreateKeysLimitReset UpdateKeysLimitReset",
        errors: "UnauthorizedResponseError BadRequestResponseError ForbiddenResponseError"
        " NotFoundResponseError TooManyRequestsResponseError InternalServerResponseError"
        " OpenRouterDefaultError OpenRouterError",
        utils: "RetryConfig BackoffStrategy parse_datetime",
    }
    for module, expected in names.items():
        for name in expected.split():
            assert hasattr(module, name), name


def test_every_public_name_resolves_and_is_listed() -> None:
    for name in openrouter_keys.__all__:
        assert getattr(openrouter_keys, name) is not None
    assert dir(openrouter_keys) == sorted(openrouter_keys.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = openrouter_keys.nonsense


OFFICIAL = {
    "list": "include_disabled offset workspace_id",
    "create": "name limit limit_reset include_byok_in_limit expires_at creator_user_id"
    " workspace_id external",
    "get": "hash",
    "update": "hash name disabled limit limit_reset include_byok_in_limit workspace_id",
    "delete": "hash",
    "get_current_key_metadata": "",
}


@in_one_test("operation", OFFICIAL)
def test_the_parameters_of_the_official_sdk_are_here(operation: str) -> None:
    parameters = inspect.signature(getattr(openrouter_keys.APIKeys, operation)).parameters
    assert {*OFFICIAL[operation].split()} <= {*parameters}
    options = "retries server_url timeout_ms http_headers http_referer x_open_router_title"
    assert {*options.split(), "x_open_router_categories"} == {
        *openrouter_keys.RequestOptions.__annotations__
    }


H = "f01d52606dc8f0a8303a7b5cc3fa07109c2e346cec7c0a16b40de462992ce943"


@pytest.mark.parametrize("hash", [H, "f01d526..."])
def test_calls_as_the_official_sdks_documents_write_them(
    hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Emulator() as emulator:
        monkeypatch.setenv("OPENROUTER_BASE_URL", emulator.base_url)
        emulator.account.add(name="documented", hash=hash)
        with OpenRouter(
            http_referer="<value>",
            x_open_router_title="<value>",
            x_open_router_categories="<value>",
            api_key=emulator.api_key,
        ) as open_router:
            keys = open_router.api_keys
            assert isinstance(keys.get_current_key_metadata(), operations.GetCurrentKeyResponse)
            assert isinstance(
                keys.list(include_disabled="false", offset="0"), operations.ListResponse
            )
            created = keys.create(
                name="My New API Key",
                expires_at=utils.parse_datetime("2027-12-31T23:59:59Z"),
                include_byok_in_limit=True,
                limit=50,
                limit_reset="monthly",
            )
            assert isinstance(created, operations.CreateKeysResponse)
            assert (created.data.limit, created.data.limit_reset) == (50, "monthly")
            assert isinstance(keys.get(hash=hash), operations.GetKeyResponse)
            with pytest.raises(errors.InvalidArgumentError, match="nothing to update"):
                keys.update(hash=hash)
            updated = keys.update(
                hash=hash,
                disabled=False,
                include_byok_in_limit=True,
                limit=75,
                limit_reset="daily",
                name="Updated API Key Name",
            )
            assert isinstance(updated, operations.UpdateKeysResponse)
            assert isinstance(updated.data, models.Key)
            assert updated.data.name == "Updated API Key Name"
            assert keys.delete(hash=hash).deleted is True


async def test_null_is_sent_and_what_is_left_out_is_not(emulator: Emulator) -> None:
    emulator.account.add(name="there", hash=H, limit=5.0)
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        await client.api_keys.update(H, limit=None)
        await client.api_keys.update(H, limit_reset=None, name="renamed")
        await client.api_keys.create(name="new")
        await client.api_keys.create(name="new", limit=None, expires_at=None)

    assert [request.body for request in emulator.requests] == [
        b'{"limit":null}',
        b'{"name":"renamed","limit_reset":null}',
        b'{"name":"new"}',
        b'{"name":"new","limit":null,"expires_at":null}',
    ]


async def test_answers_tell_what_happened_on_the_wire(emulator: Emulator) -> None:
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        answer = await client.api_keys.create(name="new")

    assert (answer.http.status, answer.http.attempts) == (201, 1)
    assert answer.http.headers["content-type"].startswith("application/json")
    assert answer.http.elapsed > 0


async def test_unset_is_left_out_wherever_the_api_takes_no_null(emulator: Emulator) -> None:
    emulator.account.add(name="there", hash=H, limit=5.0)
    left_out: dict[str, Any] = {"name": UNSET, "disabled": UNSET, "workspace_id": UNSET}
    async with AsyncOpenRouter(
        emulator.api_key, server_url=emulator.base_url, retry_config=cast("None", UNSET)
    ) as client:
        await client.api_keys.update(H, limit=1, **left_out)
        with pytest.raises(errors.InvalidArgumentError, match="nothing to update"):
            await client.api_keys.update(H, **left_out)
        await client.api_keys.create(
            name="new", external=cast("None", UNSET), include_byok_in_limit=cast("None", UNSET)
        )
        await client.api_keys.list(
            offset=cast("None", UNSET), retries=cast("None", UNSET), timeout_ms=cast("None", UNSET)
        )

    assert [request.body for request in emulator.requests] == [
        b'{"limit":1}',
        b'{"name":"new"}',
        b"",
    ]


async def test_a_mistyped_argument_of_an_update_is_named(emulator: Emulator) -> None:
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        wrong: dict[str, Any] = {"nmae": "new"}
        with pytest.raises(TypeError, match="'nmae'"):
            await client.api_keys.update(H, **wrong)


async def test_a_wrong_base_url_is_told_apart_from_a_key_that_is_not_there(
    emulator: Emulator,
) -> None:
    wrong = emulator.base_url.removesuffix("/api/v1")
    async with AsyncOpenRouter(emulator.api_key, server_url=wrong) as client:
        with pytest.raises(errors.NotFoundResponseError, match="base URL"):
            await client.api_keys.delete(H)
        with pytest.raises(errors.NotFoundResponseError) as caught:
            await client.api_keys.delete(H, server_url=emulator.base_url)
    assert "base URL" not in str(caught.value)


async def test_a_refused_key_is_told_what_it_must_be(emulator: Emulator) -> None:
    async with AsyncOpenRouter("wrong", server_url=emulator.base_url) as client:
        with pytest.raises(errors.UnauthorizedResponseError, match="needs a management key"):
            await client.api_keys.list()
