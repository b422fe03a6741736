"""A leased key against the emulator: it ends with its block, whatever ends the block."""

import asyncio
import copy
import inspect
import json
import logging
import math
import pickle
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import anyio
import pytest

from openrouter_keys import UNSET, AsyncOpenRouter, Lease, LeaseEndedError, OpenRouter, errors
from openrouter_keys.emulator import Account, DailyQuota, Emulator, Fault
from openrouter_keys.emulator.contracts import ContractName
from openrouter_keys.emulator.faults import OperationName
from openrouter_keys.errors import JSON
from tests.clients import FakeTime, InterruptedFuture, until
from tests.processes import Process, environment
from tests.raw_server import answer, raw_server
from tests.records import HASH, SECRET, current_json, key_json
from tests.tables import in_one_test

TRIAL: dict[str, Any] = {"name": "trial 7", "limit": 0.5, "expires_in": 3600}


def trial(**changes: Any) -> dict[str, Any]:
    return TRIAL | changes


def client_of(emulator: Emulator, **settings: Any) -> AsyncOpenRouter:
    return AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url, **settings)


def operations(emulator: Emulator) -> list[str]:
    return [request.operation for request in emulator.requests]


# --- an ordinary lease ---


async def test_a_key_lives_as_long_as_its_block(emulator: Emulator) -> None:
    async with client_of(emulator) as client:
        async with client.lease(**TRIAL, limit_reset="daily", include_byok_in_limit=True) as lease:
            (key,) = emulator.account.keys.values()
            assert (key.secret, key.name, key.limit) == (lease.key, "trial 7", 0.5)
            assert (key.limit_reset, key.include_byok_in_limit) == ("daily", True)
            assert key.expires_at is not None
            assert lease.data.hash == key.hash
            assert abs(key.expires_at - key.created_at - timedelta(hours=1)) < timedelta(seconds=5)
            assert abs(lease.expires_at - key.expires_at) < timedelta(seconds=1)
            assert (lease.usage, lease.ended) == (None, False)
            emulator.account.spend(key.hash, 0.125)
        assert emulator.account.keys == {}
        assert (lease.usage, lease.data.usage, lease.ended) == (0.125, 0.125, True)
    assert operations(emulator) == ["current", "create", "get", "delete"]


def test_the_same_from_a_script() -> None:
    with Emulator() as emulator, OpenRouter("key", server_url=emulator.base_url) as client:
        emulator.account.management_key = "key"
        with client.lease(**TRIAL) as lease:
            assert [key.secret for key in emulator.account.keys.values()] == [lease.key]
            emulator.account.spend(lease.data.hash, 0.25)
        assert emulator.account.keys == {}
        assert (lease.usage, lease.ended) == (0.25, True)


def test_both_faces_have_the_same_signature() -> None:
    own, other = inspect.signature(OpenRouter.lease), inspect.signature(AsyncOpenRouter.lease)
    assert list(own.parameters.values()) == list(other.parameters.values())
    assert str(own.return_annotation) == "contextlib.AbstractContextManager[" + (
        "openrouter_keys.lease.Lease]"
    )
    assert inspect.getdoc(OpenRouter.lease) == inspect.getdoc(AsyncOpenRouter.lease)


async def test_no_limit_is_said(emulator: Emulator) -> None:
    async with client_of(emulator) as client, client.lease(**trial(limit=None)) as lease:
        assert lease.data.limit is None
        limit = inspect.signature(client.lease).parameters["limit"]
        assert limit.default is inspect.Parameter.empty


async def test_the_options_of_a_lease_are_those_of_each_request(emulator: Emulator) -> None:
    elsewhere = AsyncOpenRouter(emulator.api_key, server_url="http://127.0.0.1:9/api/v1")
    options: dict[str, Any] = {"server_url": emulator.base_url, "http_headers": {"X-Trace": "7"}}
    async with elsewhere as client:
        async with client.lease(**TRIAL, **options) as lease:
            pass
        assert lease.ended
        with pytest.raises(KeyboardInterrupt):
            async with client.lease(**TRIAL, **options):
                raise KeyboardInterrupt
    assert operations(emulator) == ["current", "create", "get", "delete"] * 2
    assert {request.headers["x-trace"] for request in emulator.requests} == {"7"}


async def test_a_lease_is_for_one_block(emulator: Emulator) -> None:
    async with client_of(emulator) as client:
        leasing = client.lease(**TRIAL)
        with pytest.raises(LeaseEndedError, match="not entered"):
            await leasing.__aexit__(None, None, None)
        async with leasing as lease:
            with pytest.raises(LeaseEndedError, match=r"client\.lease"):
                await leasing.__aenter__()
        with pytest.raises(LeaseEndedError, match="make another"):
            _ = lease.key
        with pytest.raises(LeaseEndedError):
            await leasing.__aenter__()
    assert operations(emulator).count("create") == 1


async def test_its_secret_is_shown_and_written_nowhere(emulator: Emulator) -> None:
    async with client_of(emulator) as client, client.lease(**TRIAL) as lease:
        shown = [repr(lease), str(lease), f"{lease}"]
        assert not any(lease.key in text for text in shown)
        assert copy.deepcopy(lease) is lease is copy.copy(lease)
        for each in (lease, client.lease(**TRIAL)):
            with pytest.raises(TypeError, match="never pickled"):
                pickle.dumps(each)


NAN = float("nan")


@in_one_test(
    "changes",
    [
        *({"expires_in": wrong} for wrong in (0, -1, NAN, math.inf, True, "3600", None, 4e7)),
        *({"limit": wrong} for wrong in (-1, NAN, UNSET, "1", True)),
        *({"name": wrong} for wrong in ("", None)),
        {"limit_reset": "yearly"},
        {"on_unknown": "retry"},
        {"quiet_period": -1},
        {"timeout_ms": 0},
        {"external": {"user": "u", "api_key": "short"}},
    ],
)  # fmt: skip
def test_what_no_key_can_be_made_of_is_refused_at_once(changes: dict[str, Any]) -> None:
    wrong = {**TRIAL, **changes}
    with pytest.raises(errors.InvalidArgumentError, match=next(iter(changes))):
        AsyncOpenRouter("key").lease(**wrong)
    with OpenRouter("key") as client, pytest.raises(errors.InvalidArgumentError):
        client.lease(**wrong)


def test_an_unknown_argument_is_refused_at_once() -> None:
    unknown: Any = AsyncOpenRouter("key").lease
    with pytest.raises(TypeError, match="expires_at"):
        unknown(**TRIAL, expires_at=datetime.now(UTC))


# --- clocks ---


@pytest.mark.parametrize(
    "off", [timedelta(hours=-2), timedelta(minutes=20), timedelta(days=40), timedelta(days=-4000)]
)
async def test_the_expiry_counts_by_the_services_clock(off: timedelta) -> None:
    account = Account(clock=lambda: datetime.now(UTC) + off)
    async with (
        Emulator(account) as emulator,
        client_of(emulator) as client,
        client.lease(**trial(expires_in=60)) as lease,
    ):
        lives = lease.expires_at - lease.data.created_at
        assert timedelta(seconds=55) < lives < timedelta(seconds=65)


def made(asked: dict[str, Any], **changes: JSON) -> bytes:
    """A create's answer that is as asked for, but for the changes."""
    now = datetime.now(UTC).isoformat()
    record = key_json(limit_reset=None, external_user=None, created_at=now) | asked | changes
    return answer({"data": record, "key": SECRET}, status="201 Created")


def service(respond: Callable[[dict[str, Any]], bytes], date: str = "") -> Callable[[bytes], bytes]:
    """A service that makes a key as a test says, and answers the rest as it should."""

    def act(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        headers = [f"Date: {date}"] if date else []
        if head.startswith(b"POST"):
            return respond(json.loads(body))
        if head.startswith(b"DELETE"):
            return answer({"deleted": True}, *headers)
        if b"/keys/" in head:
            return answer({"data": key_json()}, *headers)
        return answer({"data": current_json()}, *headers)

    return act


async def test_without_a_date_this_machines_clock_counts() -> None:
    with raw_server(service(made)) as server:
        async with AsyncOpenRouter("key", server_url=server.base_url) as client:
            async with client.lease(**TRIAL) as lease:
                off = lease.expires_at - datetime.now(UTC) - timedelta(hours=1)
                assert abs(off) < timedelta(seconds=10)
            assert lease.ended


@pytest.mark.parametrize(("off", "lives"), [(-200, 260), (-60, 120), (0, 60), (30, 30)])
@pytest.mark.parametrize("date", [False, True], ids=["no Date", "Date"])
@pytest.mark.parametrize("ended", [False, True])
async def test_a_lease_has_ended_only_when_the_service_has_ended_its_key(
    off: int, lives: int, date: bool, ended: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """`off`: seconds that the service's clock is ahead of this machine's."""
    account = Account(clock=lambda: datetime.now(UTC) + timedelta(seconds=off))
    behind = account.clock().strftime("%a, %d %b %Y %H:%M:%S GMT") if date else ""
    seconds = 60 if date else lives  # without a `Date`, this machine's clock sets the expiry

    def respond(body: dict[str, Any]) -> bytes:
        return made(body, created_at=account.clock().isoformat())

    def act(request: bytes) -> bytes:
        refused = answer({"error": {"code": 403, "message": "no"}}, status="403 Forbidden")
        return refused if request.startswith(b"DELETE") else service(respond, behind)(request)

    fake_time = FakeTime()
    with raw_server(act) as server:
        async with AsyncOpenRouter("key", server_url=server.base_url) as client:
            client._transport.clockwork = fake_time.clockwork()
            async with client.lease(**trial(expires_in=60)) as lease:
                fake_time.passed += seconds + (10 if ended else -1)
    assert lease.ended is ended
    assert ("may work until" in caplog.text) is not ended


# --- a key that is not as asked for ---

FAR = "2099-01-01T00:00:00Z"
WRONG: dict[str, tuple[dict[str, JSON], str]] = {
    "no expiry": ({"expires_at": None}, "expires_at"),
    "another expiry": ({"expires_at": FAR}, "expires_at"),
    "dead already": ({"created_at": FAR}, "expires_at"),
    "made at another time": ({"created_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    "no limit": ({"limit": None}, "limit"),
    "a higher limit": ({"limit": 5}, "limit"),
    "a limit that resets": ({"limit": 50}, "limit"),
    "another workspace": ({"workspace_id": "elsewhere"}, "workspace_id"),
    "disabled": ({"disabled": True}, "disabled"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_key_that_would_not_end_as_asked_is_deleted_at_once(name: str) -> None:
    changes, field = WRONG[name]
    asked = trial(workspace_id="here")
    with raw_server(service(lambda body: made(body, **changes))) as server:
        async with AsyncOpenRouter("key", server_url=server.base_url) as client:
            with pytest.raises(errors.LeaseMismatchError, match="deleted again") as caught:
                await client.lease(**asked).__aenter__()
        assert [request.split()[0] for request in server.requests] == [b"GET", b"POST", b"DELETE"]
    assert (caught.value.hash, caught.value.deleted) == (HASH, True)
    assert field in caught.value.fields
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("hidden", "contract"), [("expires_at", "2026-11"), ("", "2025-02")])
async def test_a_service_that_shows_no_expiry_leases_nothing(
    hidden: str, contract: ContractName
) -> None:
    account = Account(hidden_fields={hidden})  # the oldest contract ignores an expiry
    async with Emulator(account, contract=contract) as emulator, client_of(emulator) as client:
        with pytest.raises(errors.LeaseMismatchError, match="not shown"):
            await client.lease(**TRIAL).__aenter__()
    assert account.keys == {}


async def test_a_wrong_date_of_the_service_leases_nothing() -> None:
    off = "Sun, 06 Nov 2044 08:49:37 GMT"
    with raw_server(service(made, date=off)) as server:
        async with AsyncOpenRouter("key", server_url=server.base_url) as client:
            with pytest.raises(errors.LeaseMismatchError, match="expires at 2044"):
                await client.lease(**TRIAL).__aenter__()


async def test_a_key_whose_hash_is_not_its_own_is_not_deleted_by_it() -> None:
    with raw_server(service(lambda body: made(body, hash="ab" * 32))) as server:
        async with AsyncOpenRouter("key", server_url=server.base_url) as client:
            with pytest.raises(errors.LeaseMismatchError, match=HASH) as caught:
                await client.lease(**TRIAL).__aenter__()
        assert not any(request.startswith(b"DELETE") for request in server.requests)
    assert (caught.value.fields, caught.value.deleted) == (("hash",), False)


async def test_a_refused_key_that_stays_is_named() -> None:
    account = Account(hidden_fields={"expires_at"})
    faults = [Fault("delete", "status", status=403, times=None)]
    async with Emulator(account, faults=faults) as emulator, client_of(emulator) as client:
        with pytest.raises(errors.LeaseMismatchError, match="may be left over") as caught:
            await client.lease(**TRIAL).__aenter__()
    assert [caught.value.hash] == [*account.keys]
    assert not caught.value.deleted


async def test_a_key_whose_record_cannot_be_read_is_deleted() -> None:
    account = Account(hidden_fields={"created_at"})
    async with Emulator(account) as emulator, client_of(emulator) as client:
        with pytest.raises(errors.CreatedKeyUnreadableError) as caught:
            await client.lease(**TRIAL).__aenter__()
    assert caught.value.__notes__ == ["the key was deleted again"]
    assert account.keys == {}


# --- the end of a block ---


class OwnError(Exception):
    """The block's own."""


def raise_if(error: type[BaseException] | None) -> None:
    if error is not None:
        raise error


@pytest.mark.parametrize(
    "error", [OwnError, KeyError, asyncio.CancelledError, KeyboardInterrupt, SystemExit]
)
async def test_an_error_of_the_block_passes_and_the_key_is_deleted(
    emulator: Emulator, error: type[BaseException]
) -> None:
    async with client_of(emulator) as client:
        leases: list[Lease] = []

        async def block() -> None:
            async with client.lease(**TRIAL) as lease:
                leases.append(lease)
                raise error("of the block")

        with pytest.raises(error) as caught:
            await block()
        assert not hasattr(caught.value, "__notes__")
    assert emulator.account.keys == {}
    assert [(lease.usage, lease.ended) for lease in leases] == [(0, True)]


@pytest.mark.parametrize("error", [OwnError, KeyboardInterrupt])
def test_an_error_of_a_blocking_block_passes_too(error: type[BaseException]) -> None:
    with (
        Emulator() as emulator,
        OpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
    ):
        leases: list[Lease] = []

        def block() -> None:
            with client.lease(**TRIAL) as lease:
                leases.append(lease)
                raise error("of the block")

        with pytest.raises(error):
            block()
        assert emulator.account.keys == {}
        assert [lease.ended for lease in leases] == [True]


async def test_a_generator_that_is_closed_ends_its_lease(emulator: Emulator) -> None:
    async with client_of(emulator) as client:

        async def leased() -> AsyncGenerator[Lease, None]:
            async with client.lease(**TRIAL) as lease:
                yield lease

        generator = leased()
        lease = await anext(generator)
        await generator.aclose()
    assert (emulator.account.keys, lease.ended) == ({}, True)


UNCONFIRMED: dict[str, tuple[Fault, str]] = {
    "refused": (Fault("delete", "status", status=403, times=None), "answered 403"),
    "not authorized": (Fault("delete", "status", status=401, times=None), "answered 401"),
    "down": (Fault("delete", "status", status=500, times=None), "answered 500"),
    "rate limited": (
        Fault("delete", "status", status=429, times=None, headers={"Retry-After": "900"}),
        "answered 429",
    ),
    "no answer": (Fault("delete", "closed", times=None), "delete: "),
    "no JSON": (Fault("delete", "not_json", times=None), "delete: "),
    "not deleted": (Fault("delete", "body", body=b'{"deleted": false}'), "did not delete"),
}


@pytest.mark.parametrize("name", UNCONFIRMED)
@pytest.mark.parametrize("error", [None, OwnError])
async def test_a_deletion_that_is_not_confirmed_is_told_and_hides_nothing(
    name: str, error: type[Exception] | None, caplog: pytest.LogCaptureFixture
) -> None:
    fault, why = UNCONFIRMED[name]
    async with (
        Emulator(faults=[fault]) as emulator,
        client_of(emulator, timeout_ms=300) as client,
    ):

        async def block() -> tuple[str, Lease]:
            async with client.lease(**TRIAL) as lease:
                if error is not None:
                    leases.append(lease)
                    raise error
                return "done", lease

        leases: list[Lease] = []
        if error is None:
            done, lease = await block()
            assert done == "done"
            notes = caplog.messages[-1:]
        else:
            with pytest.raises(error) as caught:
                await block()
            notes, (lease,) = caught.value.__notes__, leases
    ends = f"{lease.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    for note in (*notes, caplog.messages[-1]):
        assert lease.data.hash in note
        assert ends in note
        assert why in note
    assert caplog.records[-1].levelname == "WARNING"
    assert (lease.ended, lease.usage) == (False, 0)


async def test_a_quota_that_is_used_up_leaves_the_key_to_its_expiry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Emulator() as emulator, client_of(emulator) as client:
        async with client.lease(**TRIAL) as lease:
            emulator.daily_quota = DailyQuota(limit=0)
        assert "daily quota" in caplog.messages[-1]
        (key,) = emulator.account.keys.values()
        emulator.account.advance(hours=1, seconds=1)
        assert key.expired(emulator.account.clock())
    assert not lease.ended


@pytest.mark.parametrize("fault", ["status", "not_json", "closed"])
async def test_a_usage_that_cannot_be_read_keeps_no_key_alive(fault: Any) -> None:
    faults = [Fault("get", fault, times=None)]
    async with (
        Emulator(faults=faults) as emulator,
        client_of(emulator, timeout_ms=300) as client,
        client.lease(**TRIAL) as lease,
    ):
        pass
    assert (emulator.account.keys, lease.usage, lease.ended) == ({}, None, True)


class FullDisk(logging.Handler):
    """A handler that raises, as one does whose disk is full."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("no space left on device")


@pytest.mark.parametrize("faulty", [(), ("get",), ("delete",), ("get", "delete")])
@pytest.mark.parametrize("error", [None, OwnError, asyncio.CancelledError, KeyboardInterrupt])
async def test_a_log_that_cannot_be_written_keeps_no_key_and_hides_no_error(
    faulty: tuple[OperationName, ...], error: type[BaseException] | None
) -> None:
    faults = [Fault(each, "status", status=403, times=None) for each in faulty]
    log, handler = logging.getLogger("openrouter_keys"), FullDisk()
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        async with Emulator(faults=faults) as emulator, client_of(emulator) as client:
            with pytest.raises(error) if error else nullcontext():
                async with client.lease(**TRIAL):
                    if error:
                        raise error
            assert "delete" in operations(emulator)
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


async def test_a_key_that_the_block_deletes_is_told_as_not_found(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(emulator) as client, client.lease(**TRIAL) as lease:
        await client.api_keys.delete(lease.data.hash)
    assert "says twice that there is no such key" in caplog.messages[-1]
    assert not lease.ended


async def test_a_key_that_has_expired_meanwhile_has_ended(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.append(Fault("delete", "status", status=500, times=None))
    async with client_of(emulator, timeout_ms=300) as client:
        leasing: Any = client.lease(**TRIAL)
        async with leasing as lease:
            leasing._over = 0.0  # by the clock that goes on while the machine sleeps
    assert lease.ended
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_client_that_is_closed_in_the_block_ends_its_lease(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(emulator) as client, client.lease(**TRIAL) as lease:
        await client.close()
        with pytest.raises(LeaseEndedError):
            _ = lease.key
    assert (emulator.account.keys, lease.usage, lease.ended) == ({}, 0, True)
    assert operations(emulator).count("delete") == 1
    assert not caplog.messages


@pytest.mark.parametrize("fault", [None, Fault("delete", "status", status=403, times=None)])
@pytest.mark.parametrize("error", [None, OwnError, KeyboardInterrupt, asyncio.CancelledError])
def test_a_blocking_client_that_is_closed_in_the_block_ends_its_lease(
    error: type[BaseException] | None, fault: Fault | None, caplog: pytest.LogCaptureFixture
) -> None:
    notes: list[str] = []
    with Emulator(faults=[] if fault is None else [fault]) as emulator:
        client = OpenRouter(emulator.api_key, server_url=emulator.base_url)
        leasing = client.lease(**TRIAL)
        with pytest.raises(error) if error else nullcontext() as caught, leasing as lease:
            client.close()
            raise_if(error)
        if caught is not None:
            notes = getattr(caught.value, "__notes__", [])
        with pytest.raises(LeaseEndedError):
            _ = lease.key
        assert ([*emulator.account.keys] == [], lease.ended) == ((fault is None,) * 2)
    left = [] if fault is None else [f"lease: {note}" for note in notes] or caplog.messages
    assert caplog.messages == left
    assert all(f"{lease.data.hash} may work until" in text for text in left)
    assert len(left) == (fault is not None)


@pytest.mark.parametrize("error", [None, OwnError, KeyboardInterrupt, SystemExit])
def test_a_block_that_a_fork_takes_from_its_client_names_the_key(
    error: type[BaseException] | None, caplog: pytest.LogCaptureFixture
) -> None:
    with Emulator() as emulator:
        client: Any = OpenRouter(emulator.api_key, server_url=emulator.base_url)
        leasing = client.lease(**TRIAL)
        with pytest.raises(error) if error else nullcontext() as caught, leasing as lease:
            own, client._thread._pid = client._thread._pid, -1
            raise_if(error)
        with pytest.raises(LeaseEndedError):
            _ = lease.key
        assert f"{lease.data.hash} may work until" in caplog.messages[-1]
        assert "fork" in caplog.messages[-1]
        if caught is not None:
            assert [f"lease: {note}" for note in caught.value.__notes__] == caplog.messages
        client._thread._pid = own  # the process that owns the client closes it
        client.close()
        assert emulator.account.keys == {}


@pytest.mark.parametrize("point", ["get", "delete"])
def test_a_block_that_ends_while_another_thread_closes_the_client_waits(
    point: OperationName, caplog: pytest.LogCaptureFixture
) -> None:
    with Emulator(faults=[Fault(point, "slow", delay=0.2)]) as emulator:
        client = OpenRouter(emulator.api_key, server_url=emulator.base_url)
        closing = threading.Thread(target=client.close)
        with client.lease(**TRIAL) as lease:
            closing.start()
            while point not in operations(emulator):
                time.sleep(0.01)
        assert (emulator.account.keys, lease.ended) == ({}, True)
        closing.join()
    assert not caplog.messages


def test_a_blocking_lease_that_was_not_entered_cannot_end() -> None:
    with OpenRouter("key") as client, pytest.raises(LeaseEndedError, match="not entered"):
        client.lease(**TRIAL).__exit__(None, None, None)


async def test_a_create_without_an_answer_says_when_its_key_expires(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", "closed", phase="after"))
    async with client_of(emulator) as client:
        with pytest.raises(errors.CreateOutcomeUnknownError) as caught:
            await client.lease(**TRIAL).__aenter__()
        (key,) = emulator.account.keys.values()
        assert f"It expires at {key.expires_at:%Y-%m-%d %H:%M:%S} UTC" in str(caught.value)


@pytest.mark.slow
async def test_a_create_without_an_answer_is_reconciled_if_asked(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", "closed", phase="after"))
    async with (
        client_of(emulator) as client,
        client.lease(**TRIAL, on_unknown="reconcile", quiet_period=0) as lease,
    ):
        assert [*emulator.account.keys] == [lease.data.hash]
        assert operations(emulator).count("create") == 2


# --- cancelled, at any point ---


POINTS: list[OperationName] = ["current", "create", "*", "get", "delete"]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("scope", [False, True], ids=["task", "anyio scope"])
async def test_a_lease_that_is_cancelled_anywhere_leaves_no_key(
    emulator: Emulator, point: OperationName, scope: bool
) -> None:
    emulator.faults.append(Fault(point, "slow", delay=0.1))
    in_block, scopes = asyncio.Event(), list[anyio.CancelScope]()

    async def use() -> None:
        with anyio.CancelScope() as own:
            scopes.append(own)
            async with client.lease(**TRIAL):
                in_block.set()
                if point == "*":
                    await asyncio.sleep(60)

    async with client_of(emulator) as client:
        task = asyncio.create_task(use())
        if point == "*":
            await in_block.wait()
        else:
            await until(lambda: point in operations(emulator))
        if scope:
            scopes[0].cancel()
            await task
        else:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert emulator.account.keys == {}  # and not only once the client is closed
    assert operations(emulator).count("create") <= 1


@pytest.mark.slow
async def test_a_second_cancel_is_heard_and_the_key_is_deleted_before_the_client_closes(
    emulator: Emulator,
) -> None:
    emulator.faults.append(Fault("get", "slow", delay=0.3))

    async def use() -> None:
        async with client.lease(**TRIAL):
            await asyncio.sleep(60)

    async with client_of(emulator) as client:
        task = asyncio.create_task(use())
        await until(lambda: emulator.account.keys)
        await asyncio.sleep(0.05)
        task.cancel()
        await until(lambda: "get" in operations(emulator))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert emulator.account.keys
    assert emulator.account.keys == {}


@pytest.mark.slow
async def test_a_service_that_hangs_holds_a_cancelled_block_for_the_grace_only(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.append(Fault("get", "stalled", times=None))
    emulator.faults.append(Fault("delete", "stalled", times=None))
    async with client_of(emulator, grace=0.1) as client:
        with pytest.raises(asyncio.CancelledError) as caught:
            async with client.lease(**TRIAL):
                raise asyncio.CancelledError
    assert "may work until" in caught.value.__notes__[0]
    assert "may work until" in caplog.messages[-1]


async def test_an_event_loop_that_ends_says_what_it_leaves(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.append(Fault("delete", "stalled", times=None))
    async with client_of(emulator) as client:
        leasing: Any = client.lease(**TRIAL)
        lease = await leasing.__aenter__()
        ending = asyncio.create_task(leasing._end_soon(lease))
        await until(lambda: "delete" in operations(emulator))
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
    assert f"{lease.data.hash} may work until" in caplog.messages[-1]


# --- processes ---

SCRIPT = """
import sys, time
from openrouter_keys import OpenRouter
client = OpenRouter()
client.api_keys.get_current_key_metadata()
with client.lease(name='trial', limit=0.5, expires_in=60) as lease:
    print('in the block', flush=True)
    {block}
client.close()
"""


def process_of(emulator: Emulator, block: str) -> Process:
    server = environment(OPENROUTER_API_KEY=emulator.api_key, OPENROUTER_BASE_URL=emulator.base_url)
    return Process("-c", SCRIPT.format(block=block), environment=server)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS[1:])
def test_ctrl_c_anywhere_in_a_script_leaves_no_key(point: OperationName) -> None:
    with Emulator(faults=[Fault(point, "slow", delay=0.3)]) as emulator:
        process = process_of(emulator, "time.sleep(60)" if point == "*" else "pass")
        assert process.stdout is not None
        if point == "*":
            assert process.stdout.readline() == "in the block\n"
        while point != "*" and point not in operations(emulator):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert "KeyboardInterrupt" in err
        assert emulator.account.keys == {}


@pytest.mark.parametrize("fault", [None, "expires_at", "created_at"])
def test_a_lease_that_ctrl_c_keeps_from_its_block_is_ended(
    fault: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    account = Account(hidden_fields=set() if fault is None else {fault})
    with Emulator(account) as emulator:
        with OpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
            client.api_keys.list()
            leasing = client.lease(**TRIAL)
            with monkeypatch.context() as patched:
                patched.setattr("openrouter_keys._blocking.loop_thread.Future", InterruptedFuture)
                with pytest.raises(KeyboardInterrupt):
                    leasing.__enter__()
        assert operations(emulator)[:3] == ["list", "current", "create"]
        assert account.keys == {}
    assert not [each for each in caplog.messages if "may work until" in each]


# The moments until the loop is to end the lease, in the order of the calls.
MOMENTS = [
    ("__enter__", "return"),
    ("__exit__", "call"),
    *((name, event) for name in ("_started", "run", "soon") for event in ("call", "return")),
]


@pytest.mark.parametrize(("function", "event"), MOMENTS)
@pytest.mark.parametrize("error", [None, OwnError, KeyboardInterrupt])
def test_ctrl_c_at_any_moment_of_a_blocking_lease_leaves_no_key(
    function: str, event: str, error: type[BaseException] | None
) -> None:
    def interrupt(frame: FrameType, what: str, _: object) -> Any:
        if "_blocking" not in frame.f_code.co_filename:
            return None
        if (frame.f_code.co_name, what) == (function, event):
            sys.settrace(None)
            raise KeyboardInterrupt
        return interrupt

    before = sys.gettrace()
    with Emulator() as emulator:
        with OpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
            client.api_keys.list()
            leasing = client.lease(**TRIAL)

            def use() -> None:
                if function == "__enter__":
                    sys.settrace(interrupt)
                with leasing:
                    sys.settrace(interrupt)
                    raise_if(error)

            try:
                with pytest.raises(KeyboardInterrupt):
                    use()
            finally:
                sys.settrace(before)
            while emulator.account.keys and not function.startswith("__"):
                time.sleep(0.01)  # the loop ends it at once, in the background
        assert emulator.account.keys == {}
        # When these return, the loop may have sent a delete, which is cancelled and sent again.
        most = 2 if event == "return" and not function.startswith("__") else 1
        assert 1 <= operations(emulator).count("delete") <= most


@pytest.mark.slow
def test_a_lease_that_is_open_at_the_interpreters_end_is_ended() -> None:
    script = """
from openrouter_keys import OpenRouter
client = OpenRouter()
lease = client.lease(name='trial', limit=0.5, expires_in=60).__enter__()
"""
    with Emulator() as emulator:
        server = environment(
            OPENROUTER_API_KEY=emulator.api_key, OPENROUTER_BASE_URL=emulator.base_url
        )
        process = Process("-c", script, environment=server)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert operations(emulator)[-2:] == ["get", "delete"]
        assert emulator.account.keys == {}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_key_of_a_killed_process_ends_by_itself(number: int) -> None:
    with Emulator() as emulator:
        process = process_of(emulator, "time.sleep(60)")
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        process.communicate(timeout=30)
        (key,) = emulator.account.keys.values()
        with OpenRouter(str(key.secret), server_url=emulator.base_url) as client:
            client.api_keys.get_current_key_metadata()
            emulator.account.advance(seconds=61)
            with pytest.raises(errors.UnauthorizedResponseError):
                client.api_keys.get_current_key_metadata()


@pytest.mark.slow
async def test_many_leases_at_once_are_all_ended(emulator: Emulator) -> None:
    async def use(number: int) -> Lease:
        async with client.lease(**trial(name=f"{number}")) as lease:
            await asyncio.sleep(0.01)
        return lease

    async with client_of(emulator, max_connections=10) as client:
        uses: list[Awaitable[Lease]] = [use(number) for number in range(40)]
        leases = await asyncio.gather(*uses)
    assert all(lease.ended and lease.usage == 0 for lease in leases)
    assert emulator.account.keys == {}
