"""Ordinary uses of the public API, as users write them: only type-checked, never run."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from ssl import create_default_context
from typing import assert_type

from aiohttp import ClientSession

from openrouter_keys import (
    UNSET,
    AdoptedKey,
    AdoptionReport,
    APIKeys,
    ApplyProgress,
    ApplyReport,
    ApplyStoppedError,
    AsyncAPIKeys,
    AsyncOpenRouter,
    BackoffStrategy,
    Budget,
    Change,
    CreateKeysResponse,
    CurrentKey,
    DeleteKeysResponse,
    Err,
    External,
    FieldChange,
    GetCurrentKeyResponse,
    GetKeyResponse,
    HTTPMeta,
    Key,
    KeySpec,
    Lease,
    LimitReset,
    Limits,
    ListResponse,
    Ok,
    OpenRouter,
    OpenRouterError,
    OptionalNullable,
    Plan,
    ProvisioningStoppedError,
    ProvisionProgress,
    ProvisionReport,
    ProvisionResult,
    Reconciliation,
    RequestOptions,
    RetryConfig,
    Rotation,
    RotationReport,
    SweepReport,
    SweptKey,
    Unset,
    UpdateKeysResponse,
    attempt,
    errors,
    parse_datetime,
    utils,
)
from openrouter_keys.emulator import Account, Emulator, Fault, Request, StoredKey
from openrouter_keys.rotation import rotations


async def a_service_mints_a_key() -> str:
    async with AsyncOpenRouter() as client:
        assert_type(client, AsyncOpenRouter)
        assert_type(client.api_keys, AsyncAPIKeys)
        created = await client.api_keys.create(name="customer-42", limit=50, limit_reset="monthly")
        assert_type(created, CreateKeysResponse)
        assert_type(created.data, Key)
        assert_type(created.data.hash, str)
        assert_type(created.http, HTTPMeta)
        assert_type(created.http.attempts, int)
        return assert_type(created.key, str)


async def many_keys_are_provisioned(keys: AsyncGenerator[KeySpec, None]) -> None:
    async def hand_over(result: ProvisionResult) -> None:
        assert_type(result.key, str)
        assert_type(result.data, Key)

    def tell(progress: ProvisionProgress) -> None:
        assert_type(progress.report, ProvisionReport | None)

    async with AsyncOpenRouter() as client:
        try:
            report = await client.provision(keys, on_result=hand_over, on_progress=tell)
        except ProvisioningStoppedError as stopped:
            report = stopped.report
        assert_type(report, ProvisionReport)
    with OpenRouter() as blocking:
        specs = (KeySpec(ref=f"{n}", name="customer", limit=None) for n in range(3))
        assert_type(
            blocking.provision(specs, journal="keys.journal", on_result=print), ProvisionReport
        )


async def an_account_is_as_specs_say(specs: list[KeySpec]) -> None:
    def agree(plan: Plan) -> bool:
        return all(assert_type(change, Change).needs is None for change in plan.changes)

    def tell(progress: ApplyProgress) -> None:
        assert_type(progress.report, ApplyReport | None)

    async with AsyncOpenRouter() as client:
        plan = await client.plan_apply(specs, journal="j", prune="disable")
        assert_type(plan.before, Limits)
        assert_type(plan.changes[0].fields, tuple[FieldChange, ...])
        try:
            report = await client.apply(specs, journal="j", on_plan=agree, on_progress=tell)
        except ApplyStoppedError as stopped:
            report = stopped.report
        assert_type(report, ApplyReport)
        assert_type(report.provision, ProvisionReport | None)
    with OpenRouter() as blocking:
        assert_type(blocking.plan_apply(specs, journal="j"), Plan)
        assert_type(blocking.apply(specs, journal="j", on_result=print), ApplyReport)


async def many_keys_are_rotated(hashes: list[str]) -> None:
    def hand_over(result: ProvisionResult) -> None:
        assert_type(result.ref, str)

    async with AsyncOpenRouter() as client:
        for planned in await client.plan_rotation(hashes, budget="full"):
            assert_type(planned, Rotation)
            assert_type(planned.spec, KeySpec | None)
        report = await client.rotate(
            hashes, journal="rotation.journal", on_result=hand_over, retire_after=3600, limit=None
        )
        assert_type(report, RotationReport)
        assert_type(report.provision, ProvisionReport | None)
        every = (key.hash async for key in client.api_keys.iterate())
        await client.rotate(every, journal="rotation.journal")
    async for rotation in rotations("rotation.journal"):
        assert_type(rotation, Rotation)
    with OpenRouter() as blocking:
        assert_type(blocking.plan_rotation(hashes), list[Rotation])
        assert_type(blocking.rotate((), journal="rotation.journal", retire_after=0), RotationReport)


async def keys_that_exist_are_adopted(specs: list[KeySpec], hash: str) -> None:
    async with AsyncOpenRouter() as client:
        assert_type(await client.adopt(hash, "customer-42", journal="j"), AdoptedKey)
        assert_type((await client.adopt(hash, specs[0], journal="j", timeout_ms=5)).data, Key)
        assert_type(await client.adopt(hash, "a", journal="j", dry_run=True), AdoptedKey)
        report = await client.adopt_all(specs, journal="j", dry_run=True)
        assert_type(report, AdoptionReport)
        assert_type(report.adopted["customer-42"], str)
        assert_type(report.missing, tuple[str, ...])
    with OpenRouter() as blocking:
        assert_type(blocking.adopt(hash, "customer-42", journal="j"), AdoptedKey)
        assert_type(blocking.adopt_all(iter(specs), journal="j"), AdoptionReport)


async def strays_are_swept(client: AsyncOpenRouter) -> None:
    def approve(keys: Sequence[SweptKey]) -> bool:
        return all(key.unused and key.proof for key in keys)

    report = await client.sweep(journals=["j"], unused=True, action="delete", approve=approve)
    assert_type(report, SweepReport)
    assert_type(report.keys[0].data, Key)
    assert_type(report.stopped, OpenRouterError | None)
    assert_type(report.count("deleted"), int)


async def a_trial_leases_a_key() -> float | None:
    async with AsyncOpenRouter() as client:
        async with client.lease(name="trial 7", limit=0.50, expires_in=3600) as lease:
            assert_type(lease, Lease)
            assert_type(lease.key, str)
            assert_type(lease.data, Key)
            assert_type(lease.expires_at, datetime)
        assert_type(lease.ended, bool)
        return assert_type(lease.usage, float | None)


def a_script_leases_a_key(client: OpenRouter) -> str:
    with client.lease(
        name="ci",
        limit=None,
        expires_in=60,
        limit_reset="daily",
        workspace_id="0df9e665-d932-5740-b2c7-b52af166bc11",
        on_unknown="reconcile",
        timeout_ms=500,
    ) as lease:
        assert_type(lease, Lease)
        return assert_type(lease.key, str)


async def a_create_is_reconciled(keys: AsyncAPIKeys) -> CreateKeysResponse:
    try:
        return await keys.create(name="customer-42", on_unknown="reconcile", quiet_period=60)
    except errors.CreateOutcomeUnknownError as error:
        assert_type(await keys.reconcile(error), Reconciliation)
        raise


async def every_argument_of_a_create(keys: AsyncAPIKeys) -> None:
    await keys.create(
        name="all of them",
        limit=None,
        limit_reset=None,
        include_byok_in_limit=True,
        expires_at=datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC),
        creator_user_id="user_1",
        workspace_id="0df9e665-d932-5740-b2c7-b52af166bc11",
        external=External("partner-7", api_key="k" * 32),
        retries=RetryConfig(backoff=BackoffStrategy()),
        timeout_ms=2_500.5,
        server_url="http://127.0.0.1:8080/api/v1",
        http_headers={"X-Request-Id": "1"},
        http_referer="https://example.org",
        x_open_router_title="Example",
        x_open_router_categories="tools",
    )
    await keys.create(
        name="left out",
        limit=UNSET,
        limit_reset=UNSET,
        include_byok_in_limit=None,
        expires_at=UNSET,
        creator_user_id=UNSET,
        external={"user": "partner-8"},
    )
    await keys.create(name="until then", expires_at=parse_datetime("2027-12-31T23:59:59Z"))


async def the_other_five(keys: AsyncAPIKeys, hash: str) -> None:
    assert_type(await keys.get(hash), GetKeyResponse)
    assert_type((await keys.get(hash=hash)).data.limit, float | None)
    assert_type(await keys.update(hash, limit=None), UpdateKeysResponse)
    assert_type(await keys.update(hash=hash, name="new", disabled=False), UpdateKeysResponse)
    assert_type(await keys.delete(hash, timeout_ms=500), DeleteKeysResponse)
    assert_type((await keys.delete(hash=hash)).deleted, bool)
    assert_type(await keys.get_current_key_metadata(), GetCurrentKeyResponse)
    assert_type(await keys.list(), ListResponse)
    assert_type((await keys.list(include_disabled=True, offset=100)).data, list[Key])


async def as_the_older_sdk_has_it(keys: AsyncAPIKeys) -> None:
    assert_type(await keys.list(include_disabled="false", offset="0"), ListResponse)
    retries = utils.RetryConfig(backoff=utils.BackoffStrategy())
    assert_type(retries, RetryConfig)
    assert_type(utils.parse_datetime("2027-12-31T23:59:59Z"), datetime)


async def all_pages(keys: AsyncAPIKeys) -> list[str]:
    pages = keys.iterate(include_disabled=True, include_expired=False, timeout_ms=500)
    assert_type(pages, AsyncGenerator[Key, None])
    async for key in pages:
        assert_type(key, Key)
    assert_type(await keys.find("customer-42", workspace_id=None), Sequence[Key])
    return [key.name async for key in keys.iterate() if not key.disabled]


async def outcomes_as_values(keys: AsyncAPIKeys, hash: str) -> float | None:
    result = await attempt(keys.get(hash))
    assert_type(result, Ok[GetKeyResponse] | Err)
    match result:
        case Ok(answer):
            return assert_type(answer.data.limit, float | None)
        case Err(error):
            raise assert_type(error, OpenRouterError)


async def outcomes_by_their_class(keys: AsyncAPIKeys, hash: str) -> str:
    result = await attempt(keys.get(hash))
    if isinstance(result, Ok):
        return assert_type(result.value, GetKeyResponse).data.name
    return assert_type(result.error, OpenRouterError).message


async def outcomes_by_their_flag(keys: AsyncAPIKeys, hash: str) -> str:
    result = await attempt(keys.get(hash))
    if result.ok is True:
        return assert_type(result.value, GetKeyResponse).data.name
    return assert_type(result.error, OpenRouterError).message


async def the_clients_own_arguments(session: ClientSession) -> None:
    async def from_a_vault() -> str:
        return "key"

    AsyncOpenRouter(from_a_vault, session=session, timeout_ms=1000)
    AsyncOpenRouter(proxy="http://user:password@proxy:3128", ssl=create_default_context())
    AsyncOpenRouter(proxy="", ssl=None, user_agent="billing/2.1")
    AsyncOpenRouter(lambda: "key", retry_config=RetryConfig(), max_connections=10)
    client = AsyncOpenRouter(api_key="key", server_url="http://127.0.0.1:8080", grace=1)
    assert_type(await client.close(), None)


def a_script() -> str:
    with OpenRouter(api_key="key") as client:
        assert_type(client, OpenRouter)
        assert_type(client.api_keys, APIKeys)
        created = client.api_keys.create(name="customer-42", limit=50, limit_reset="monthly")
        assert_type(created, CreateKeysResponse)
        return assert_type(created.key, str)


def the_other_five_blocking(keys: APIKeys, hash: str) -> None:
    assert_type(keys.get(hash), GetKeyResponse)
    assert_type(keys.get(hash=hash).data.created_at, datetime)
    assert_type(keys.update(hash, limit=None), UpdateKeysResponse)
    assert_type(keys.update(hash=hash, name="new", limit_reset=None), UpdateKeysResponse)
    assert_type(keys.delete(hash, http_headers={"X-Request-Id": "1"}), DeleteKeysResponse)
    assert_type(keys.get_current_key_metadata(), GetCurrentKeyResponse)
    assert_type(keys.list(), ListResponse)
    assert_type(keys.list(include_disabled="false", offset="0").data, list[Key])


def all_pages_blocking(keys: APIKeys) -> list[str]:
    pages = keys.iterate(workspace_id="0df9e665-d932-5740-b2c7-b52af166bc11")
    assert_type(pages, Iterator[Key])
    for key in pages:
        assert_type(key, Key)
    return [key.name for key in keys.iterate(include_disabled=True)]


def sessions_of_your_own() -> None:
    OpenRouter(session=lambda: ClientSession(trust_env=True)).close()
    OpenRouter(proxy="proxy:3128", ssl=create_default_context(cafile="ca.pem")).close()


def options_that_several_calls_share(keys: APIKeys) -> None:
    options: RequestOptions = {"timeout_ms": 500, "retries": None}
    keys.list(**options)
    keys.create(name="shared", **options)


def fields_that_may_be_absent(key: Key, current: CurrentKey) -> datetime | None:
    assert_type(key.expires_at, datetime | Unset | None)
    assert_type(current.budgets, list[Budget] | None)
    assert_type(key.workspace_id, str | None)
    if key.expires_at is UNSET:
        return None
    return assert_type(key.expires_at, datetime | None)


def a_limit_that_is_passed_on(keys: APIKeys, hash: str, limit: OptionalNullable[float]) -> None:
    keys.update(hash, limit=limit)
    if limit is not UNSET and limit is not None:
        assert_type(limit, float)


def a_limit_of_another_kind(keys: APIKeys, hash: str) -> None:
    keys.create(name="a", limit=Decimal("0.10"))
    keys.update(hash, limit=Fraction(1, 8))
    assert_type(KeySpec(ref="a", name="a", limit=Decimal(5)).limit, OptionalNullable[float])


def a_reset_that_is_passed_on(keys: APIKeys, reset: LimitReset) -> None:
    keys.create(name="reset", limit_reset=reset)


def errors_tell_what_to_do(keys: APIKeys, hash: str) -> None:
    try:
        keys.get(hash)
    except errors.TooManyRequestsResponseError as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.data.error.code, int | str)
        assert_type(error.data.error.message, str)
    except errors.CreateOutcomeUnknownError as error:
        assert_type(error.started_at, datetime | None)
    except errors.CreatedKeyUnreadableError as error:
        assert_type(error.key, str)
    except OpenRouterError as error:
        assert_type(error.status_code, int | None)
        assert_type(error.headers, Mapping[str, str])
        assert_type(error.body, str)


async def an_emulated_service() -> None:
    account = Account(management_key="key")
    async with Emulator(account, faults=[Fault("create", "status", status=502)]) as emulator:
        assert_type(emulator, Emulator)
        assert_type(emulator.base_url, str)
        assert_type(emulator.api_key, str)
        assert_type(emulator.account.keys, dict[str, StoredKey])
        assert_type(emulator.requests, list[Request])


def an_emulated_service_in_a_thread() -> None:
    with Emulator() as emulator, OpenRouter("key", server_url=emulator.base_url) as client:
        client.api_keys.list()
