"""The matrix of what is repeated and what is not: a row for every cell, on a real socket."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Any

import aiohttp
import pytest
import trustme
from attrs import evolve, frozen

from openrouter_keys import errors
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.emulator import Account, Emulator, Fault
from openrouter_keys.models import CreateKeysResponse
from tests.clients import FakeTime, api_keys, begun, time_is_up, until

HASH = "ab" * 32

OPERATIONS: dict[str, Callable[[AsyncAPIKeys], Awaitable[object]]] = {
    "list": lambda keys: keys.list(),
    "get": lambda keys: keys.get(HASH),
    "current": lambda keys: keys.get_current_key_metadata(),
    "create": lambda keys: keys.create(name="new"),
    "update": lambda keys: keys.update(HASH, limit=None),
    "delete": lambda keys: keys.delete(HASH),
}


@frozen
class Cell:
    """So many attempts, then this error; None: a success, told by so many requests."""

    attempts: int
    error: type[errors.OpenRouterError] | None


Row = dict[str, Cell]


def row(get: Cell, create: Cell, update: Cell, delete: Cell) -> Row:
    return dict.fromkeys(("list", "get", "current"), get) | {
        "create": create,
        "update": update,
        "delete": delete,
    }


def same(attempts: int, error: type[errors.OpenRouterError] | None) -> Row:
    return dict.fromkeys(OPERATIONS, Cell(attempts, error))


def maybe_applied(error: type[errors.OpenRouterError]) -> Row:
    unknown = Cell(1, errors.CreateOutcomeUnknownError)
    return row(Cell(3, error), unknown, Cell(2, error), Cell(3, error))


DEFAULT = errors.OpenRouterDefaultError
REFUSED: dict[int, type[errors.OpenRouterError]] = {
    400: errors.BadRequestResponseError,
    401: errors.UnauthorizedResponseError,
    402: DEFAULT,
    403: errors.ForbiddenResponseError,
    404: errors.NotFoundResponseError,
    409: errors.ConflictResponseError,
    413: DEFAULT,
    422: DEFAULT,
    # Not in the matrix by number; any other 4xx that says no is an error all the same.
    405: DEFAULT,
    418: DEFAULT,
    451: DEFAULT,
}
UNCLEAR = same(1, DEFAULT) | {"create": Cell(1, errors.CreateOutcomeUnknownError)}
UNREADABLE = row(
    Cell(3, errors.MalformedBodyError),
    Cell(1, errors.SecretLostError),
    Cell(2, None),  # the update, and a get to read back what became of it
    Cell(2, None),  # likewise
)

# What goes wrong, and what each operation makes of it when it goes on going wrong.
ANSWERED: dict[str, tuple[Fault, Row]] = {
    **{
        f"{kind} {phase} it is applied": (
            Fault(kind=kind, phase=phase),
            maybe_applied(errors.NoResponseError),
        )
        for kind in ("closed", "reset", "stalled", "garbage")
        for phase in ("before", "after")
    },
    **{
        f"2xx, body {kind}": (Fault(kind=kind, phase="after", portion=0.02), UNREADABLE)
        for kind in ("cut", "reset_body", "stalled_body", "not_json", "empty")
    },
    **{
        f"any other 2xx: {status}": (Fault(status=status, phase="after"), same(1, None))
        for status in (200, 201, 202, 203, 207)
    },
    **{f"{status}": (Fault(status=status), same(1, error)) for status, error in REFUSED.items()},
    **{
        f"{status} {phase} it is applied": (
            Fault(status=status, phase=phase),
            maybe_applied(errors.InternalServerResponseError if status == 500 else DEFAULT),
        )
        for status in (408, 500, 502, 503, 504, 520, 522, 524, 527, 529, 599)
        for phase in ("before", "after")
    },
    **{
        f"{status} {phase} it is applied": (Fault(status=status, phase=phase), UNCLEAR)
        for status in (301, 302, 303, 307, 308, 425, 499, 420)
        for phase in ("before", "after")
    },
    **{
        f"{status} of the edge": (Fault(status=status), same(3, DEFAULT))
        for status in (521, 523, 525, 526, 530)
    },
}


def struck(fault: Fault, operation: str, times: int | None) -> Fault:
    changes: dict[str, Any] = {"operation": operation, "times": times}
    return evolve(fault, **changes)


async def outcome(keys: AsyncAPIKeys, operation: str) -> object:
    try:
        return await OPERATIONS[operation](keys)
    except errors.OpenRouterError as error:
        return error


@contextmanager
def anew(operation: str, emulator: Emulator, fake_time: FakeTime) -> Generator[None]:
    """One cell of a row: nothing is left of the one before, and a failure names it."""
    emulator.reset()
    emulator.account.add(name="there", hash=HASH, limit=5.0)
    fake_time.slept.clear()
    try:
        yield
    except BaseException as error:
        error.add_note(f"the operation: {operation}")
        raise


@asynccontextmanager
async def impatience(
    fault: Fault, emulator: Emulator, keys: AsyncAPIKeys, fake_time: FakeTime
) -> AsyncGenerator[None, None]:
    """Whatever stalls has its time up at once: a create its deadline, since it may not ask again,
    and all others the silence that they wait for.
    """

    async def watch() -> None:
        for struck in count(1):
            if fault.times is not None and struck > fault.times:
                return
            await until(lambda: emulator.count(fault.operation) == struck)  # noqa: B023
            if fault.kind == "stalled_body":
                await until(lambda: begun(keys))
            await time_is_up(keys, fake_time if fault.operation == "create" else None)

    if not fault.kind.startswith("stalled"):
        yield
        return
    watching = asyncio.create_task(watch())
    yield
    watching.cancel()


@pytest.mark.parametrize("name", ANSWERED)
async def test_a_failure_that_goes_on_ends_as_the_matrix_says(
    name: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    for operation, cell in ANSWERED[name][1].items():
        with anew(operation, emulator, fake_time):
            await goes_on(name, operation, cell, emulator, fake_time)


async def goes_on(
    name: str, operation: str, cell: Cell, emulator: Emulator, fake_time: FakeTime
) -> None:
    fault, cells = ANSWERED[name]
    fault = struck(fault, operation, None)
    emulator.faults.append(fault)

    async with (
        api_keys(emulator.base_url, emulator.api_key, fake_time) as keys,
        impatience(fault, emulator, keys, fake_time),
    ):
        result = await outcome(keys, operation)

    assert len(emulator.requests) == cell.attempts
    if cell.error is None:
        assert not isinstance(result, Exception)
        return
    assert type(result) is cell.error
    assert isinstance(result, errors.OpenRouterError)
    assert result.attempts == cell.attempts == len(fake_time.slept) + 1
    if operation in ("create", "update", "delete"):
        assert result.maybe_applied == (cells != same(cell.attempts, cell.error))


def repeated(row: Row) -> list[str]:
    return [operation for operation, cell in row.items() if cell.attempts > 1 and cell.error]


@pytest.mark.parametrize("name", [name for name, (_, row) in ANSWERED.items() if repeated(row)])
async def test_a_failure_that_ends_in_time_is_not_noticed(
    name: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    for operation in repeated(ANSWERED[name][1]):
        with anew(operation, emulator, fake_time):
            await ends_in_time(name, operation, emulator, fake_time)


async def ends_in_time(name: str, operation: str, emulator: Emulator, fake_time: FakeTime) -> None:
    fault, cells = ANSWERED[name]
    failures = cells[operation].attempts - 1
    fault = struck(fault, operation, failures)
    emulator.faults.append(fault)

    async with (
        api_keys(emulator.base_url, emulator.api_key, fake_time) as keys,
        impatience(fault, emulator, keys, fake_time),
    ):
        result = await OPERATIONS[operation](keys)

    # A delete that was applied is told by a 404 at its repetition: that is a success too.
    assert not isinstance(result, Exception)
    assert len(emulator.requests) == failures + 1
    if operation == "delete":
        assert HASH not in emulator.account.keys
    if operation == "update":
        assert emulator.account.keys[HASH].limit is None


async def test_a_create_makes_one_key_at_most(emulator: Emulator, fake_time: FakeTime) -> None:
    for name in (name for name, (_, row) in ANSWERED.items() if row["create"].error):
        with anew(name, emulator, fake_time):
            fault = struck(ANSWERED[name][0], "create", 1)
            emulator.faults.append(fault)
            async with (
                api_keys(emulator.base_url, emulator.api_key, fake_time) as keys,
                impatience(fault, emulator, keys, fake_time),
            ):
                result = await outcome(keys, "create")

            assert isinstance(result, Exception) or not fault.kind.startswith("stalled")
            assert len(emulator.account.keys) <= 2
            applied = sum(request.applied for request in emulator.requests)
            assert applied == len(emulator.account.keys) - 1


# --- not sent ---


@asynccontextmanager
async def refused() -> AsyncGenerator[str, None]:
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@asynccontextmanager
async def no_such_host() -> AsyncGenerator[str, None]:
    yield "http://no-such-host.invalid"


@asynccontextmanager
async def no_room() -> AsyncGenerator[str, None]:
    """A host that lets connections wait for ever: its backlog is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for each in waiting:
            each.close()


@asynccontextmanager
async def handshake_cut() -> AsyncGenerator[str, None]:
    """A host that hangs up in the middle of TLS."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def not_trusted() -> AsyncGenerator[str, None]:
    """A host whose certificate nobody here trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


NOT_SENT = {
    "DNS": (no_such_host, 3),
    "refused": (refused, 3),
    "connect time-out": (no_room, 3),
    "TLS handshake cut": (handshake_cut, 3),
    "TLS trust": (not_trusted, 1),
}


@pytest.mark.parametrize("name", NOT_SENT)
async def test_what_was_not_sent_may_be_sent_again(name: str, fake_time: FakeTime) -> None:
    host, attempts = NOT_SENT[name]
    limit = 0.05 if host is no_room else 10.0

    async with host() as server_url:
        for operation in OPERATIONS:
            async with api_keys(server_url, "key", fake_time, connect_timeout=limit) as keys:
                result = await outcome(keys, operation)

            assert type(result) is errors.NotSentError, operation
            assert result.attempts == attempts, operation
            assert not result.maybe_applied, operation


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_proxy_that_refuses_is_not_asked_again(operation: str, fake_time: FakeTime) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with (
            aiohttp.ClientSession(proxy=proxy) as session,
            api_keys("https://openrouter.invalid", "key", fake_time, session=session) as keys,
        ):
            result = await outcome(keys, operation)

    assert type(result) is errors.NotSentError
    assert result.attempts == 1
    assert not result.maybe_applied


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_host_that_comes_up_in_time_is_reached(operation: str) -> None:
    account = Account()
    account.add(name="there", hash=HASH, limit=5.0)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    emulator = Emulator(account, port=port)

    def come_up(_: float) -> None:
        if not fake_time.slept:
            emulator.__enter__()

    fake_time = FakeTime(on_sleep=come_up)

    try:
        async with api_keys(emulator_url(port), account.management_key, fake_time) as keys:
            result = await OPERATIONS[operation](keys)
    finally:
        emulator.__exit__(None, None, None)

    assert not isinstance(result, Exception)
    assert len(emulator.requests) == 1


def emulator_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/api/v1"


# --- 429, 503 and Retry-After ---


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_429_is_repeated_until_the_deadline(
    operation: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.account.add(name="there", hash=HASH, limit=5.0)
    emulator.faults.append(Fault(status=429, headers={"Retry-After": "7"}, times=5))

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        await OPERATIONS[operation](keys)

    assert fake_time.slept == [7] * 5
    assert len(emulator.requests) == 6


async def test_a_429_that_asks_for_no_wait_is_not_answered_with_a_hail(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault(status=429, headers={"Retry-After": "0"}, times=4))

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        await keys.list()

    assert fake_time.slept == [0.25, 0.5, 1, 2]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_429_that_does_not_fit_the_deadline_is_raised_before_any_sleep(
    operation: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault(status=429, headers={"Retry-After": "61"}, times=None))

    async with api_keys(emulator.base_url, emulator.api_key, fake_time, timeout=60) as keys:
        result = await outcome(keys, operation)

    assert type(result) is errors.TooManyRequestsResponseError
    assert result.retry_after == 61
    assert not result.maybe_applied
    assert fake_time.slept == []


async def test_a_429_that_asks_to_wait_too_long_is_raised(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault(status=429, headers={"Retry-After": "121"}, times=None))

    async with api_keys(emulator.base_url, emulator.api_key, fake_time, timeout=9999) as keys:
        with pytest.raises(errors.TooManyRequestsResponseError, match="wait 121 s") as caught:
            await keys.list()

    assert caught.value.retry_after == 121
    assert fake_time.slept == []


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_pauses_every_call_of_the_client(
    status: int, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault("list", status=status, headers={"Retry-After": "30"}))

    async with api_keys(emulator.base_url, emulator.api_key, fake_time, timeout=20) as keys:
        with pytest.raises(errors.ResponseError):
            await keys.list()
        with pytest.raises(errors.DeadlineExceededError, match="asks every request") as caught:
            await keys.create(name="new")
        assert caught.value.retry_after == pytest.approx(30, abs=1)
        assert not caught.value.maybe_applied
        await keys.create(name="new", timeout_ms=60_000)

    assert fake_time.slept == [pytest.approx(30, abs=1)]
    assert [request.operation for request in emulator.requests] == ["list", "create"]


@pytest.mark.parametrize(
    ("operation", "attempts"), [("get", 3), ("create", 1), ("update", 2), ("delete", 3)]
)
async def test_a_503_waits_as_it_asks(
    operation: str, attempts: int, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.faults.append(Fault(status=503, headers={"Retry-After": "4"}, times=None))

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        result = await outcome(keys, operation)

    assert isinstance(result, errors.OpenRouterError)
    assert result.attempts == attempts
    assert result.retry_after == 4
    assert fake_time.slept == [4] * (attempts - 1)


# --- 401 and a callable key ---


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_refused_key_is_asked_for_once_more(
    operation: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    emulator.account.add(name="there", hash=HASH, limit=5.0)
    given = iter(["sk-or-v1-old", emulator.api_key, emulator.api_key])

    async with api_keys(emulator.base_url, lambda: next(given), fake_time) as keys:
        await OPERATIONS[operation](keys)

    assert emulator.requests[0].status == 401
    assert len(emulator.requests) == 2
    assert fake_time.slept == []


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_key_that_stays_refused_is_told(
    operation: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    asked: list[None] = []

    async def key() -> str:
        asked.append(None)
        return "sk-or-v1-old"

    async with api_keys(emulator.base_url, key, fake_time) as keys:
        result = await outcome(keys, operation)

    assert type(result) is errors.UnauthorizedResponseError
    assert len(emulator.requests) == 1
    assert len(asked) == 2


async def test_keys_that_change_are_refused_twice_at_most(
    emulator: Emulator, fake_time: FakeTime
) -> None:
    given = iter("abcdefgh")

    async with api_keys(emulator.base_url, lambda: next(given), fake_time) as keys:
        with pytest.raises(errors.UnauthorizedResponseError):
            await keys.list()

    assert len(emulator.requests) == 2


# --- newer fields ---


@pytest.mark.parametrize("operation", ["list", "get", "create", "update"])
@pytest.mark.parametrize("odd", [False, True])
async def test_newer_fields_that_are_missing_or_odd_are_accepted(
    odd: bool, operation: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    newer = ("expires_at", "creator_user_id", "workspace_id", "external_user", "last_used_at")
    emulator.account.add(name="there", hash=HASH, limit=5.0)
    if odd:
        emulator.account.extra_fields.update({name: ["odd"] for name in newer})
    else:
        emulator.account.hidden_fields.update(newer)

    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        result = await OPERATIONS[operation](keys)

    assert not isinstance(result, Exception)
    assert len(emulator.requests) == 1
    if isinstance(result, CreateKeysResponse):
        assert result.key == next(reversed(emulator.account.keys.values())).secret
