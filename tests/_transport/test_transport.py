"""What a request meets on its way: guards, turns, cancellation, the user's own session."""

import asyncio
import copy
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path

import aiohttp
import anyio
import pytest
from aiohttp.abc import ResolveResult

from openrouter_keys import AsyncOpenRouter, errors
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys._protocol.retries import RetryQuota
from openrouter_keys.emulator import Emulator, Fault
from tests.clients import FakeTime, api_keys, begun, time_is_up, until

HASH = "ab" * 32


# --- guards ---


async def test_a_closed_client_says_so(emulator: Emulator) -> None:
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        await keys.list()

    with pytest.raises(errors.ClientClosedError, match="make a new one"):
        await keys.list()


async def test_a_client_whose_session_was_closed_says_so(emulator: Emulator) -> None:
    session = aiohttp.ClientSession()
    async with api_keys(emulator.base_url, emulator.api_key, session=session) as keys:
        await session.close()
        with pytest.raises(errors.ClientClosedError):
            await keys.list()


def test_a_client_in_a_second_event_loop_says_so() -> None:
    with Emulator() as emulator, asyncio.Runner() as runner:
        client = AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url)

        async def use() -> None:
            await client.api_keys.list()

        runner.run(use())
        with pytest.raises(errors.WrongEventLoopError, match="one client for each loop"):
            asyncio.run(use())
        with pytest.raises(errors.WrongEventLoopError):
            asyncio.run(client.close())
        runner.run(use())
        runner.run(client.close())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_client_in_a_forked_child_says_so(emulator: Emulator) -> None:
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        await keys.list()
        child = os.fork()
        if child == 0:
            try:
                keys.list().send(None)
            except errors.ForkedClientError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        await keys.list()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_client_that_no_call_used_before_the_fork_works_in_the_child() -> None:
    with Emulator() as emulator:
        client = AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url)

        async def use() -> None:
            async with client:
                await client.api_keys.list()

        child = os.fork()
        if child == 0:
            try:
                asyncio.run(use())
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        asyncio.run(use())


CALLS: dict[str, Callable[[AsyncOpenRouter], Coroutine[object, object, object]]] = {
    "list": lambda client: client.api_keys.list(),
    "create": lambda client: client.api_keys.create(name="new"),
    "get": lambda client: client.api_keys.get(HASH),
    "update": lambda client: client.api_keys.update(HASH, limit=1),
    "delete": lambda client: client.api_keys.delete(HASH),
    "current": lambda client: client.api_keys.get_current_key_metadata(),
    "iterate": lambda client: client.api_keys.iterate().__anext__(),
    "provision": lambda client: client.provision([], journal="a.journal"),
    "rotate": lambda client: client.rotate([HASH], journal="a.journal"),
    "plan_rotation": lambda client: client.plan_rotation([HASH]),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_outside_of_an_asyncio_task_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def drive() -> None:
        CALLS[name](AsyncOpenRouter("key")).send(None)

    with pytest.raises(errors.ClientStateError, match=r"needs asyncio.*blocking OpenRouter"):
        await asyncio.to_thread(drive)  # no loop at all
    ended = asyncio.get_running_loop().create_future()

    def drive_in_a_callback() -> None:  # trio as a guest of asyncio does so
        with pytest.raises(errors.ClientStateError, match=r"needs asyncio.*blocking OpenRouter"):
            drive()
        ended.set_result(None)

    asyncio.get_running_loop().call_soon(drive_in_a_callback)
    await ended


async def test_an_answer_after_closing_is_an_error_of_ours(emulator: Emulator) -> None:
    emulator.faults.append(Fault(kind="stalled"))
    async with api_keys(emulator.base_url, emulator.api_key, FakeTime(), grace=0.1) as keys:
        pending = asyncio.create_task(keys.create(name="new"))
        await until(lambda: emulator.requests)
    with pytest.raises(errors.CreateOutcomeUnknownError):
        await pending


async def test_closing_lets_a_create_end(emulator: Emulator) -> None:
    emulator.latency = 0.1
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        pending = asyncio.create_task(keys.create(name="new"))
        await until(lambda: emulator.requests)
    created = await pending

    assert set(emulator.account.keys) == {created.data.hash}


# --- turns and connections ---


@pytest.mark.slow
async def test_calls_beyond_the_connections_wait_their_turn_without_a_time_out(
    emulator: Emulator,
) -> None:
    emulator.latency = 0.1
    async with api_keys(emulator.base_url, emulator.api_key, max_connections=2, timeout=1) as keys:
        # 24 calls of 100 ms over 2 connections take 1.2 s, longer than any may take by itself.
        made = await asyncio.gather(*(keys.create(name=f"{n}") for n in range(24)))

    assert len({created.key for created in made}) == len(emulator.requests) == 24
    assert {created.http.attempts for created in made} == {1}
    assert max(request.connection for request in emulator.requests) <= 2


@pytest.mark.slow
async def test_a_users_smaller_connector_sets_the_turns(emulator: Emulator) -> None:
    emulator.latency = 0.1
    connector = aiohttp.TCPConnector(limit=2)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        api_keys(emulator.base_url, emulator.api_key, session=session, timeout=1) as keys,
    ):
        await asyncio.gather(*(keys.list() for _ in range(24)))

    assert max(request.connection for request in emulator.requests) <= 2


@pytest.mark.slow
async def test_a_thousand_creates_at_once_make_a_thousand_keys(emulator: Emulator) -> None:
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        made = await asyncio.gather(*(keys.create(name=f"{n}") for n in range(1000)))

    assert {created.data.hash for created in made} == set(emulator.account.keys)
    assert len(emulator.requests) == 1000


async def test_connections_are_reused(emulator: Emulator) -> None:
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        for _ in range(5):
            await keys.create(name="new")

    assert {request.connection for request in emulator.requests} == {1}


async def test_a_stale_connection_is_not_reused(emulator: Emulator) -> None:
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        await keys.list()
        connector = keys._transport._wire._session.connector
        assert connector is not None
        loop = asyncio.get_running_loop()
        # Node.js closes idle connections after 5 s; ours must be given up before that.
        assert connector._keepalive_timeout is not None
        assert connector._keepalive_timeout < 5
        for waiting in connector._conns.values():
            proto, _ = waiting.popleft()
            waiting.append((proto, loop.time() - 4.5))
        await keys.create(name="new")

    assert [request.connection for request in emulator.requests] == [1, 2]


# --- what aiohttp would do by itself ---


@pytest.mark.parametrize("user_session", [False, True])
@pytest.mark.parametrize("operation", ["list", "delete"])
async def test_aiohttp_repeats_nothing_by_itself(
    operation: str, user_session: bool, emulator: Emulator
) -> None:
    emulator.account.add(name="there", hash=HASH)
    session = aiohttp.ClientSession() if user_session else None
    async with api_keys(
        emulator.base_url,
        emulator.api_key,
        session=session,
        retries=RetryConfig(strategy="none"),
    ) as keys:
        await keys.get(HASH)
        emulator.faults.append(Fault(operation, "reset", phase="after"))  # type: ignore[arg-type]
        with pytest.raises(errors.NoResponseError) as caught:
            await (keys.list() if operation == "list" else keys.delete(HASH))
    if session is not None:
        await session.close()

    assert emulator.count(operation) == 1
    assert caught.value.attempts == 1


async def test_redirects_are_not_followed(emulator: Emulator) -> None:
    elsewhere = f"{emulator.base_url}/keys/{HASH}"
    emulator.faults.append(Fault(status=301, headers={"Location": elsewhere}, times=None))
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        with pytest.raises(errors.OpenRouterDefaultError) as caught:
            await keys.list()
        with pytest.raises(errors.CreateOutcomeUnknownError):
            await keys.create(name="new")

    assert caught.value.status_code == 301
    assert [request.method for request in emulator.requests] == ["GET", "POST"]


# --- the user's own session ---


async def test_a_users_session_keeps_its_headers_middlewares_and_traces(
    emulator: Emulator,
) -> None:
    seen: list[str] = []

    async def middleware(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        seen.append("middleware")
        return await handler(request)

    async def trace(*_: object) -> None:
        seen.append("trace")

    traced = aiohttp.TraceConfig()
    traced.on_request_end.append(trace)
    async with aiohttp.ClientSession(
        headers={"X-Team": "billing"},
        middlewares=[middleware],
        trace_configs=[traced],
        raise_for_status=True,
    ) as session:
        async with api_keys(emulator.base_url, emulator.api_key, session=session) as keys:
            await keys.create(name="new")
            with pytest.raises(errors.NotFoundResponseError):
                await keys.get(HASH)
        assert not session.closed

    assert seen == ["middleware", "trace"] * 2
    assert emulator.requests[0].headers["x-team"] == "billing"


async def test_a_session_that_we_had_made_is_closed_by_us(emulator: Emulator) -> None:
    made: list[aiohttp.ClientSession] = []

    def make() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession())
        return made[0]

    async with api_keys(emulator.base_url, emulator.api_key, session=make) as keys:
        await keys.list()

    assert made[0].closed


@pytest.mark.parametrize("anew", [False, True], ids=["the same request", "a copy of it"])
async def test_a_middleware_that_repeats_cannot_make_a_create_look_unsent(
    anew: bool, emulator: Emulator, fake_time: FakeTime
) -> None:
    async def repeating(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:
            return await handler(request)
        except aiohttp.ClientError:
            await emulator._stop()
            if anew:
                request = copy.copy(request)
                request.response = None
            return await handler(request)

    emulator.faults.append(Fault("create", "closed", phase="after"))
    async with (
        aiohttp.ClientSession(middlewares=[repeating]) as session,
        api_keys(emulator.base_url, emulator.api_key, fake_time, session=session) as keys,
    ):
        with pytest.raises(errors.CreateOutcomeUnknownError):
            await keys.create(name="new")

    assert len(emulator.account.keys) == 1


# --- time ---


@pytest.mark.parametrize("operation", ["list", "create"])
async def test_the_deadline_ends_a_call(
    operation: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault(kind="stalled", times=None))
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        call = asyncio.ensure_future(
            keys.list(timeout_ms=7500)
            if operation == "list"
            else keys.create(name="new", timeout_ms=7500)
        )
        await until(lambda: emulator.requests)
        await time_is_up(keys, fake_time)
        with pytest.raises(errors.OpenRouterError) as caught:
            await call

    deadline = caught.value if operation == "list" else caught.value.__cause__
    assert isinstance(deadline, errors.DeadlineExceededError)
    assert isinstance(deadline, TimeoutError)
    assert "7.5 s" in str(deadline)


@pytest.mark.slow
async def test_retries_stop_when_the_quota_is_used_up(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault(status=500, times=None))
    calls = RetryQuota.capacity // RetryQuota.cost // 2
    async with api_keys(emulator.base_url, emulator.api_key, fake_time, timeout=1e9) as keys:
        for _ in range(calls + 10):
            with pytest.raises(errors.InternalServerResponseError):
                await keys.list()

    assert len(emulator.requests) == 3 * calls + 10


async def test_a_call_without_retries_is_sent_once(emulator: Emulator, fake_time: FakeTime) -> None:
    emulator.faults.append(Fault(status=429, times=None))
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        with pytest.raises(errors.TooManyRequestsResponseError):
            await keys.list(retries=RetryConfig(strategy="none"))

    assert len(emulator.requests) == 1


# --- cancellation ---


async def cancelled_create(
    emulator: Emulator, *, grace: float = 5.0, when: Callable[[], object]
) -> asyncio.CancelledError:
    async with api_keys(emulator.base_url, emulator.api_key, grace=grace) as keys:
        create = asyncio.create_task(keys.create(name="new"))
        await until(when)
        create.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await create
    return caught.value


async def test_a_cancelled_create_finishes_and_its_key_is_deleted(emulator: Emulator) -> None:
    emulator.latency = 0.1

    cancelled = await cancelled_create(emulator, when=lambda: emulator.requests)

    assert [request.operation for request in emulator.requests] == ["create", "delete"]
    assert [request.applied for request in emulator.requests] == [True, True]
    assert emulator.account.keys == {}
    assert re.search("was deleted", cancelled.__notes__[0])


@pytest.mark.parametrize("hidden", ["", "created_at"], ids=["read", "unreadable"])
@pytest.mark.parametrize("header", ["X-Gateway", "user-agent"])
async def test_a_cancelled_create_is_undone_where_it_was_sent(
    emulator: Emulator, hidden: str, header: str
) -> None:
    emulator.latency = 0.05
    emulator.account.hidden_fields.add(hidden)
    async with api_keys("http://127.0.0.1:9/api/v1", emulator.api_key) as keys:
        create = asyncio.create_task(
            keys.create(name="new", server_url=emulator.base_url, http_headers={header: "7"})
        )
        await until(lambda: emulator.requests)
        create.cancel()
        with pytest.raises(asyncio.CancelledError):
            await create

    assert emulator.account.keys == {}
    assert [request.headers[header.lower()] for request in emulator.requests] == ["7", "7"]


async def test_a_create_cancelled_before_it_is_sent_is_not_sent() -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        await asyncio.Event().wait()

    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with api_keys(f"https://127.0.0.1:{port}", "key", grace=60) as keys:
        create = asyncio.create_task(keys.create(name="new"))
        await until(lambda: accepted)  # TLS begins, and never ends
        create.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await create
    server.close()
    for writer in accepted:
        writer.transport.abort()

    assert "no request was under way" in caught.value.__notes__[0]


async def test_a_cancelled_create_without_an_answer_is_told(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.append(Fault("create", "stalled", phase="after"))

    cancelled = await cancelled_create(emulator, grace=0.1, when=lambda: emulator.requests)

    assert "outcome unknown" in cancelled.__notes__[0]
    assert "'new'" in caplog.text
    assert len(emulator.requests) == 1


LIVES: dict[str, tuple[Fault | None, bool]] = {
    "its key is deleted": (None, False),
    "it is refused": (Fault("create", status=403), False),
    "it waits to be sent again": (
        Fault("create", status=429, headers={"Retry-After": "60"}),
        False,
    ),
    "it gets no answer": (Fault("create", "stalled", phase="after"), True),
    "its answer is lost": (Fault("create", "closed", phase="after"), True),
    "a proxy answers": (Fault("create", status=502, phase="after"), True),
    "its secret is lost": (Fault("create", "cut", phase="after", portion=0.2), True),
    "its key stays": (Fault("delete", status=403, times=None), True),
    "its key is not found": (Fault("delete", status=404, times=None), True),
}


@pytest.mark.parametrize("what", LIVES)
async def test_a_cancellation_has_the_error_of_a_create_whose_key_may_live(
    what: str, emulator: Emulator
) -> None:
    fault, lives = LIVES[what]
    emulator.latency = 0.1
    emulator.faults += [] if fault is None else [fault]

    cancelled = await cancelled_create(emulator, grace=1, when=lambda: emulator.requests)

    error = cancelled.__cause__
    assert isinstance(error, errors.OpenRouterError) == lives
    assert len(emulator.account.keys) == lives
    if error is None:
        return
    emulator.faults.clear()
    assert isinstance(error, errors.CreateOutcomeUnknownError | errors.SecretLostError)
    async with api_keys(emulator.base_url, emulator.api_key, FakeTime()) as keys:
        found = await keys.reconcile(error, quiet_period=0)
    assert found.settled
    assert emulator.account.keys == {}


async def test_a_cancelled_create_that_fails_is_not_repeated(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", status=429, headers={"Retry-After": "1"}))
    emulator.latency = 0.1

    await cancelled_create(emulator, when=lambda: emulator.requests)

    assert [request.operation for request in emulator.requests] == ["create"]


async def test_a_create_cancelled_while_it_waits_is_not_sent_again(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", status=429, headers={"Retry-After": "60"}))

    await cancelled_create(emulator, when=lambda: [r for r in emulator.requests if r.status])

    assert [request.operation for request in emulator.requests] == ["create"]


@pytest.mark.slow
async def test_a_key_of_a_cancelled_create_that_cannot_be_deleted_is_told(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.latency = 0.1
    emulator.faults.append(Fault("delete", status=403))

    cancelled = await cancelled_create(emulator, when=lambda: emulator.requests)

    (hash,) = emulator.account.keys
    assert hash in cancelled.__notes__[0]
    assert "left over" in caplog.text


@pytest.mark.slow
async def test_an_unreadable_answer_of_a_cancelled_create_is_undone_too(
    emulator: Emulator,
) -> None:
    emulator.latency = 0.1
    emulator.account.hidden_fields.add("usage")

    await cancelled_create(emulator, when=lambda: emulator.requests)

    assert emulator.account.keys == {}


@pytest.mark.slow
async def test_a_second_cancel_is_heard_at_once_and_the_create_settles_by_itself(
    emulator: Emulator,
) -> None:
    emulator.latency = 0.2
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        create = asyncio.create_task(keys.create(name="new"))
        await until(lambda: emulator.requests)
        create.cancel()
        await asyncio.sleep(0)
        create.cancel()
        with pytest.raises(asyncio.CancelledError):
            await create
        assert emulator.count("delete") == 0

    assert emulator.count("delete") == 1
    assert emulator.account.keys == {}


async def test_a_cancelled_anyio_scope_settles_too(emulator: Emulator) -> None:
    emulator.latency = 0.1
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(keys.create, name="new"))
            await until(lambda: emulator.count("create"))
            group.cancel_scope.cancel()
        # Waited for, although the scope cancels again and again.
        assert emulator.count("delete") == 1

    assert [request.operation for request in emulator.requests] == ["create", "delete"]
    assert emulator.account.keys == {}


@pytest.mark.parametrize("operation", ["list", "update", "delete"])
async def test_what_is_not_a_create_is_cancelled_at_once(
    operation: str, emulator: Emulator
) -> None:
    emulator.latency = 60
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        calls: dict[str, Callable[[], Coroutine[None, None, object]]] = {
            "list": keys.list,
            "update": lambda: keys.update(HASH, disabled=True),
            "delete": lambda: keys.delete(HASH),
        }
        call = asyncio.create_task(calls[operation]())
        await until(lambda: emulator.requests)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert len(emulator.requests) == 1


# --- the key ---


async def test_a_callable_key_is_asked_for_each_attempt(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    asked: list[None] = []

    async def key() -> str:
        asked.append(None)
        return emulator.api_key

    emulator.faults.append(Fault(status=500, times=2))
    async with api_keys(emulator.base_url, key, fake_time) as keys:
        await keys.list()

    assert len(asked) == 3


@pytest.mark.parametrize(
    "bad", ["", "sk-or-v1-with space", "sk-or-v1-line\n", "'sk-or-v1-quoted'", None]
)
async def test_a_callable_that_gives_no_key_is_an_error_of_ours(
    bad: str, emulator: Emulator
) -> None:
    async with api_keys(emulator.base_url, lambda: bad) as keys:
        with pytest.raises(errors.APIKeyError) as caught:
            await keys.list()

    assert not bad or bad.strip() not in str(caught.value)
    assert emulator.requests == []


async def test_a_callable_key_that_fails_is_an_error_of_ours(emulator: Emulator) -> None:
    def key() -> str:
        raise OSError("the vault is sealed")

    async with api_keys(emulator.base_url, key) as keys:
        with pytest.raises(errors.APIKeyError, match="OSError") as caught:
            await keys.list()

    assert isinstance(caught.value.__cause__, OSError)


def _raising() -> str:
    raise OSError("the vault is sealed")


@pytest.mark.parametrize("second", [_raising, lambda: ""])
@pytest.mark.parametrize(
    ("fault", "maybe_applied"),
    [
        (Fault("update", "closed", phase="after"), True),
        (Fault("update", status=502, phase="before"), True),
        (Fault("delete", "closed", phase="after"), True),
        (Fault("delete", status=429), False),
        (Fault("create", status=521), False),
        (Fault("list", "closed"), False),
    ],
)
async def test_a_callable_that_fails_at_a_retry_counts_the_attempts_before(
    fault: Fault,
    maybe_applied: bool,
    second: Callable[[], str],
    emulator: Emulator,
    fake_time: FakeTime,
) -> None:
    hash = emulator.account.create({"name": "a"}).hash
    emulator.faults.append(fault)
    asked: list[None] = []

    def key() -> str:
        asked.append(None)
        return second() if len(asked) > 1 else emulator.api_key

    async with api_keys(emulator.base_url, key, fake_time) as keys:
        calls: dict[str, Callable[[], Coroutine[None, None, object]]] = {
            "create": lambda: keys.create(name="new"),
            "list": keys.list,
            "update": lambda: keys.update(hash, disabled=True),
            "delete": lambda: keys.delete(hash),
        }
        with pytest.raises(errors.APIKeyError) as caught:
            await calls[str(fault.operation)]()

    error = caught.value
    facts = (error.operation, error.attempts, error.maybe_applied)
    assert facts == (fault.operation, 1, maybe_applied)


# --- any bytes ---


@pytest.fixture
async def answering() -> AsyncIterator[Callable[[bytes], "asyncio.Future[str]"]]:
    """A server that answers each request with the bytes given to it."""
    servers: list[asyncio.Server] = []

    async def start(answer: bytes) -> str:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        servers.append(await asyncio.start_server(reply, "127.0.0.1", 0))
        return f"http://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}"

    yield lambda answer: asyncio.ensure_future(start(answer))
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00" * 100,
        b"HTTP/1.1",
        b"HTTP/1.1 200\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 200_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: http://\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
@pytest.mark.parametrize("operation", ["get", "create"])
async def test_any_bytes_as_an_answer_end_in_an_error_of_ours(
    operation: str,
    answer: bytes,
    answering: Callable[[bytes], "asyncio.Future[str]"],
    fake_time: FakeTime,
) -> None:
    server_url = await answering(answer)
    async with api_keys(server_url, "key", fake_time, timeout=5, read_timeout=1) as keys:
        with pytest.raises(errors.OpenRouterError):
            await (keys.get(HASH) if operation == "get" else keys.create(name="new"))


# --- at the edges of a call's life ---


async def test_what_waits_for_its_turn_when_the_client_is_closed_is_not_sent(
    emulator: Emulator,
) -> None:
    emulator.latency = 0.1
    async with api_keys(emulator.base_url, emulator.api_key, max_connections=1) as keys:
        first, second = (asyncio.create_task(keys.create(name=f"{n}")) for n in range(2))
        await until(lambda: emulator.requests)
    with pytest.raises(errors.ClientClosedError):
        await second

    assert set(emulator.account.keys) == {(await first).data.hash}
    assert len(emulator.requests) == 1


@pytest.mark.slow
async def test_what_waits_to_be_sent_again_when_the_client_is_closed_is_not_sent(
    emulator: Emulator,
) -> None:
    emulator.faults.append(Fault("create", status=429, headers={"Retry-After": "0.2"}))
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        create = asyncio.create_task(keys.create(name="new"))
        await until(lambda: [request for request in emulator.requests if request.status])
    with pytest.raises(errors.ClientClosedError):
        await create

    assert len(emulator.requests) == 1


async def test_a_create_is_not_sent_when_its_key_came_too_late(emulator: Emulator) -> None:
    async def key() -> str:
        await asyncio.Event().wait()
        return "never"

    async with api_keys(emulator.base_url, key) as keys:
        with pytest.raises(errors.DeadlineExceededError, match="gave no key") as caught:
            await keys.create(name="new", timeout_ms=50)

    assert not caught.value.maybe_applied
    assert emulator.requests == []


async def test_a_create_is_not_sent_when_its_key_took_all_the_time(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    def key() -> str:
        fake_time.slept.append(200)  # as a callable that blocks does
        return emulator.api_key

    async with api_keys(emulator.base_url, key, fake_time, timeout=120) as keys:
        with pytest.raises(errors.DeadlineExceededError, match="no time was left"):
            await keys.create(name="new")

    assert emulator.requests == []


async def test_a_create_is_not_sent_again_with_too_little_time_left(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault("create", status=429, headers={"Retry-After": "9.5"}, times=None))
    async with api_keys(emulator.base_url, emulator.api_key, fake_time, timeout=10) as keys:
        with pytest.raises(errors.TooManyRequestsResponseError):
            await keys.create(name="new")

    assert fake_time.slept == []


async def test_a_cancelled_create_is_not_sent_again_with_another_key(emulator: Emulator) -> None:
    given = iter(["sk-or-v1-old", emulator.api_key])
    emulator.latency = 0.1
    async with api_keys(emulator.base_url, lambda: next(given)) as keys:
        create = asyncio.create_task(keys.create(name="new"))
        await until(lambda: emulator.requests)
        create.cancel()
        with pytest.raises(asyncio.CancelledError):
            await create

    assert [request.status for request in emulator.requests] == [401]


async def test_the_key_that_was_asked_for_once_more_is_the_one_that_is_used(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    given = iter(["sk-or-v1-old", emulator.api_key])
    async with api_keys(emulator.base_url, lambda: next(given), fake_time) as keys:
        await keys.list()

    assert [request.status for request in emulator.requests] == [401, 200]


async def test_a_refused_key_is_told_when_asking_once_more_fails(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    given = iter(["sk-or-v1-old"])
    async with api_keys(emulator.base_url, lambda: next(given), fake_time) as keys:
        with pytest.raises(errors.UnauthorizedResponseError) as caught:
            await keys.list()

    assert isinstance(caught.value.__cause__, errors.APIKeyError)


async def test_a_callable_key_that_ends_programs_ends_only_its_call(emulator: Emulator) -> None:
    def key() -> str:
        raise SystemExit(3)

    async with api_keys(emulator.base_url, key) as keys:
        with pytest.raises(errors.APIKeyError, match="SystemExit"):
            await keys.create(name="new")


async def test_429s_use_up_no_other_attempts(emulator: Emulator, fake_time: FakeTime) -> None:
    emulator.faults += [Fault(status=429, times=5), Fault(status=502, times=2)]
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        listed = await keys.list()

    assert listed.http.attempts == 8


async def test_a_body_that_stalls_until_the_deadline_is_told_as_that(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault("list", "stalled_body", phase="after", times=None))
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        call = asyncio.create_task(keys.list())
        await until(lambda: begun(keys))
        await time_is_up(keys, fake_time)
        with pytest.raises(errors.DeadlineExceededError):
            await call


@pytest.mark.slow
async def test_an_answer_that_comes_bit_by_bit_is_no_silence() -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n")
        for byte in b'{"deleted":true}':
            await asyncio.sleep(0.08)
            writer.write(bytes([byte]))
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        server_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with api_keys(server_url, "key", read_timeout=1) as keys:
            deleted = await keys.delete(HASH)

    assert deleted.deleted
    assert (deleted.http.attempts, deleted.http.elapsed > 1.2) == (1, True)


@pytest.mark.slow
async def test_a_create_waits_however_silent_the_service_is(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", "slow", delay=0.4))
    async with api_keys(emulator.base_url, emulator.api_key, read_timeout=0.1) as keys:
        created = await keys.create(name="new")

    assert created.http.attempts == 1


@pytest.mark.slow
async def test_a_slow_connection_is_no_silence(emulator: Emulator) -> None:
    class SlowResolver(aiohttp.ThreadedResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            await asyncio.sleep(1.2)
            return await super().resolve(host, port, family)

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=SlowResolver()))

    server_url = emulator.base_url.replace("127.0.0.1", "localhost")
    async with api_keys(server_url, emulator.api_key, session=session, read_timeout=1) as keys:
        listed = await keys.list()

    assert (listed.http.attempts, listed.http.elapsed > 1.2) == (1, True)


@pytest.mark.slow
async def test_a_deadline_holds_when_the_client_was_closed_and_the_session_was_not(
    emulator: Emulator,
) -> None:
    emulator.faults.append(Fault("list", "stalled", times=None))
    async with (
        aiohttp.ClientSession() as session,
        api_keys(emulator.base_url, emulator.api_key, session=session) as keys,
    ):
        waiting = asyncio.create_task(keys.list(timeout_ms=1500))
        await until(lambda: emulator.count("list"))
        await keys._transport.close()
        with pytest.raises(errors.DeadlineExceededError):
            await waiting


async def test_a_session_with_its_own_authorization_is_refused(emulator: Emulator) -> None:
    with pytest.warns(DeprecationWarning, match="auth"):
        session = aiohttp.ClientSession(auth=aiohttp.BasicAuth("user"))
    async with session, api_keys(emulator.base_url, "key", session=session) as keys:
        with pytest.raises(errors.InvalidArgumentError, match="session"):
            await keys.list()


def test_a_session_of_another_event_loop_says_so() -> None:
    async def make() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    async def use(session: aiohttp.ClientSession) -> None:
        async with AsyncOpenRouter("key", session=session) as client:
            await client.api_keys.list()

    with asyncio.Runner() as runner:
        session = runner.run(make())
        with pytest.raises(errors.WrongEventLoopError, match="session"):
            asyncio.run(use(session))
        runner.run(session.close())
