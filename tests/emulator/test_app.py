"""The emulator over HTTP: who is let in, what is where, how it starts and stops."""

import asyncio
import gc
import io
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from typing import cast

import aiohttp
import pytest
from attrs import define

from openrouter_keys.emulator import Account, Emulator, Fault, RateLimit
from tests.emulators import port_of

HTML = "text/html; charset=utf-8"
#: Seconds, on a machine with much else to do; what hangs does so for 60 or for ever.
AT_ONCE = 10


@define
class Got:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.text))

    @property
    def data(self) -> dict[str, object]:
        return cast("dict[str, object]", self.json["data"])

    @property
    def page(self) -> list[dict[str, object]]:
        return cast("list[dict[str, object]]", self.json["data"])


@define
class Caller:
    """A client that knows nothing of the package's."""

    emulator: Emulator
    session: aiohttp.ClientSession

    async def __call__(
        self, method: str, path: str, body: object = None, key: str | None = None
    ) -> Got:
        headers = {
            "Authorization": f"Bearer {self.emulator.api_key if key is None else key}",
            "Content-Type": "application/json",
        }
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        url = self.emulator.base_url + path
        async with self.session.request(method, url, data=data, headers=headers) as response:
            received = {name.lower(): text for name, text in response.headers.items()}
            return Got(response.status, received, await response.text())


@pytest.fixture
async def call(emulator: Emulator) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(emulator, session)


# routes


async def test_a_key_lives_from_create_to_delete(emulator: Emulator, call: Caller) -> None:
    made = await call("POST", "/keys", {"name": "x", "limit": 5})
    hash = str(made.data["hash"])
    got = await call("GET", f"/keys/{hash}")
    changed = await call("PATCH", f"/keys/{hash}", {"limit": None})
    listed = await call("GET", "/keys?offset=0&include_disabled=false")
    deleted = await call("DELETE", f"/keys/{hash}")

    statuses = [answer.status for answer in (made, got, changed, listed, deleted)]
    assert statuses == [201, 200, 200, 200, 200]
    assert made.json.keys() == {"data", "key"}
    assert got.json == {"data": made.json["data"]}
    assert changed.data["limit"] is None
    assert listed.json == {"data": [changed.json["data"]]}
    assert deleted.text == '{"deleted":true}'
    assert emulator.account.keys == {}


async def test_the_current_key_is_told_to_any_live_key(emulator: Emulator, call: Caller) -> None:
    key = emulator.account.add()

    management, inference = await call("GET", "/key"), await call("GET", "/key", key=key.secret)

    assert (management.status, inference.status) == (200, 200)
    assert management.data["is_management_key"] is True
    assert inference.data["label"] == key.label


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/keys/"),
        ("GET", "/keys/"),
        ("PUT", "/keys"),
        ("DELETE", "/keys"),
        ("DELETE", "/credits"),
        ("POST", "/key"),
        ("GET", "/keys/a/b"),
        ("POST", "/keys/a"),
    ],
)
async def test_an_unknown_route_is_a_404_in_html(
    emulator: Emulator, call: Caller, method: str, path: str
) -> None:
    emulator.faults.append(Fault(kind="reset"))

    got = await call(method, path, {"name": "x"})

    assert (got.status, got.headers["content-type"]) == (404, HTML)
    assert emulator.requests[0].operation == "unknown"
    assert emulator.account.keys == {}


@pytest.mark.parametrize(
    ("hash", "path"),
    [
        ("f01d526...", "/keys/f01d526..."),
        ("../credits", "/keys/..%2Fcredits"),
        ("a b?c#d", "/keys/a%20b%3Fc%23d"),
        ("\u00e9", "/keys/%C3%A9"),
    ],
)
async def test_a_hash_is_one_whole_segment_of_the_path(
    emulator: Emulator, hash: str, path: str
) -> None:
    emulator.account.add("odd", hash=hash)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(emulator))
    head = f"GET /api/v1{path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {emulator.api_key}"
    writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode())
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert b'"name":"odd"' in raw
    assert emulator.requests[0].hash == hash
    assert emulator.requests[0].path == f"/api/v1{path}"


BODIES = [
    b"",
    b"{",
    b"\xff",
    b"[]",
    b"null",
    b'"name"',
    b'{"name":"x","ignored":NaN}',
    b'{"name":"x","limit":-Infinity}',
    b'{"name":"x","limit":1e999}',
    b"[" * 100_000,
    b'{"name":' + b"[" * 100_000,
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_a_body_that_is_no_json_object_is_a_400(
    emulator: Emulator, call: Caller, body: bytes
) -> None:
    got = await call("POST", "/keys", body)

    assert got.status == 400
    assert '"code":400' in got.text
    assert emulator.account.keys == {}


async def test_a_body_of_many_megabytes_is_read(emulator: Emulator, call: Caller) -> None:
    got = await call("POST", "/keys", {"name": "n" * 3_000_000})

    assert got.status == 201
    assert emulator.count("create") == 1


async def test_a_body_that_is_too_long_is_a_413_and_leaves_nothing_behind(
    emulator: Emulator, call: Caller
) -> None:
    emulator.max_body = 1000
    emulator.faults.append(Fault("create"))
    longest = {"name": "n" * (1000 - len('{"name": ""}'))}

    refused = await call("POST", "/keys", {"name": longest["name"] + "n"})
    huge = await call("POST", "/keys", b"x" * 5_000_000)
    struck, made = [await call("POST", "/keys", longest) for _ in range(2)]

    assert [each.status for each in (refused, huge, struck, made)] == [413, 413, 500, 201]
    assert refused.json == {"error": {"code": 413, "message": "Request body too large"}}
    first = emulator.requests[0]
    assert (first.status, first.applied, first.body, first.name) == (413, False, b"", None)


CONTENT_TYPES = {
    None: 201,
    "application/json": 201,
    "Application/JSON; charset=utf-8": 201,
    "": 400,
    "text/plain": 400,
    "application/x-www-form-urlencoded": 400,
    "application/jsonp": 400,
}


@pytest.mark.parametrize("kind", CONTENT_TYPES)
async def test_a_body_that_is_said_to_be_something_else_is_refused(
    emulator: Emulator, call: Caller, kind: str | None
) -> None:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    headers |= {} if kind is None else {"Content-Type": kind}
    async with call.session.post(
        emulator.base_url + "/keys",
        data=b'{"name":"x"}',
        headers=headers,
        skip_auto_headers=["Content-Type"],
    ) as response:
        assert response.status == CONTENT_TYPES[kind]

    assert emulator.requests[0].headers.get("content-type") == kind
    assert len(emulator.account.keys) == (CONTENT_TYPES[kind] == 201)


async def test_half_a_surrogate_pair_comes_back_as_it_went(call: Caller) -> None:
    got = await call("POST", "/keys", {"name": "\ud83d"})

    assert got.data["name"] == "\ud83d"


async def test_a_list_has_one_page(emulator: Emulator, call: Caller) -> None:
    for number in range(5):
        emulator.account.add(str(number))
    emulator.page_size = 2

    pages = [(await call("GET", f"/keys?offset={offset}")).page for offset in (0, 2, 4, 6)]

    assert [[key["name"] for key in page] for page in pages] == [["4", "3"], ["2", "1"], ["0"], []]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("offset=-1", 400),
        ("offset=", 400),
        ("include_disabled=1", 400),
        ("include_expired=TRUE", 400),
        ("workspace_id=", 404),
        ("workspace_id=99999999-2222-4333-8444-555555555555", 404),
        ("offset=999999999999999999", 200),
    ],
)
async def test_a_wrong_query_is_refused(call: Caller, query: str, status: int) -> None:
    assert (await call("GET", f"/keys?{query}")).status == status


# who is let in

MANAGED = [
    ("GET", "/keys", None),
    ("POST", "/keys", {"name": "x"}),
    ("POST", "/keys", {"wrong": "but nobody gets to know"}),
    ("GET", "/keys/none", None),
    ("PATCH", "/keys/none", {"name": "x"}),
    ("DELETE", "/keys/none", None),
]
STRANGERS: dict[str, tuple[int, str]] = {
    "": (401, "Missing Authentication header"),
    "sk-or-v1-unknown": (401, "User not found."),
    "sk-or-v1-expired": (401, "User not found."),
    "sk-or-v1-disabled": (401, "User not found."),
    "sk-or-v1-inference": (401, "Invalid management key"),
}


@pytest.mark.parametrize("secret", STRANGERS)
@pytest.mark.parametrize("managed", MANAGED)
async def test_nothing_but_the_management_key_manages(
    emulator: Emulator, call: Caller, managed: tuple[str, str, object], secret: str
) -> None:
    emulator.account.add(secret="sk-or-v1-inference")
    emulator.account.add(secret="sk-or-v1-disabled", disabled=True)
    emulator.account.add(secret="sk-or-v1-expired", expires_at=datetime(2020, 1, 1, tzinfo=UTC))

    got = await call(*managed, key=secret)

    code, message = STRANGERS[secret]
    assert got.status == code
    assert got.json == {"error": {"code": code, "message": message}}
    assert len(emulator.account.keys) == 3


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        ("Basic {key}", 401),
        ("{key}", 401),
        ("Bearer {key}x", 401),
        ("bearer {key}", 200),
        ("Bearer  {key}", 200),
    ],
)
@pytest.mark.parametrize("path", ["/key", "/keys"])
async def test_the_header_is_a_bearers(
    emulator: Emulator, call: Caller, path: str, header: str | None, status: int
) -> None:
    headers = {} if header is None else {"Authorization": header.format(key=emulator.api_key)}

    async with call.session.get(emulator.base_url + path, headers=headers) as response:
        assert response.status == status


async def test_the_management_key_can_be_changed(emulator: Emulator, call: Caller) -> None:
    old = emulator.api_key
    emulator.account.management_key = "sk-or-v1-rotated"

    assert (await call("GET", "/keys")).status == 200
    assert (await call("GET", "/keys", key=old)).status == 401


# how it is answered


@pytest.mark.parametrize(("path", "status"), [("/keys", 200), ("/keys/none", 404), ("/no", 404)])
async def test_answers_come_in_chunks(call: Caller, path: str, status: int) -> None:
    got = await call("GET", path)

    assert got.status == status
    assert got.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in got.headers


async def test_an_old_client_is_answered_without_chunks(emulator: Emulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(emulator))
    writer.write(f"GET /api/v1/key HTTP/1.0\r\nAuthorization: Bearer {emulator.api_key}".encode())
    writer.write(b"\r\n\r\n")
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()

    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert json.loads(body)["data"]["is_management_key"] is True


async def test_the_date_is_told_by_the_accounts_clock(emulator: Emulator, call: Caller) -> None:
    emulator.account.clock = lambda: datetime(2030, 1, 1, 2, tzinfo=UTC)

    got = await call("GET", "/keys")

    assert got.headers["date"] == "Tue, 01 Jan 2030 02:00:00 GMT"


async def test_latency_passes_before_a_request_is_applied(emulator: Emulator, call: Caller) -> None:
    emulator.latency = 0.1
    started = time.monotonic()
    task = asyncio.create_task(call("POST", "/keys", {"name": "x"}))
    while not emulator.requests:
        await asyncio.sleep(0.001)
    keys_then = len(emulator.account.keys)

    assert (await task).status == 201
    assert keys_then == 0
    assert time.monotonic() - started >= 0.1


async def test_a_request_lands_even_if_its_client_does_not_wait(
    emulator: Emulator, call: Caller
) -> None:
    emulator.latency = 0.05
    task = asyncio.create_task(call("POST", "/keys", {"name": "x"}))
    async with asyncio.timeout(5):
        while not emulator.requests:
            await asyncio.sleep(0.001)
        task.cancel()
        while not emulator.account.keys:
            await asyncio.sleep(0.001)

    assert task.cancelled()
    assert emulator.requests[0].applied


async def test_a_rate_limit_turns_requests_away(emulator: Emulator, call: Caller) -> None:
    now = datetime(2027, 1, 1, tzinfo=UTC)
    emulator.account.clock = lambda: now
    emulator.rate_limit = RateLimit(0.5, 2)
    emulator.faults.append(Fault("create", skip=2))

    got = [await call("POST", "/keys", {"name": "x"}) for _ in range(3)]
    now += timedelta(seconds=2)
    later = await call("POST", "/keys", {"name": "x"})

    assert [answer.status for answer in got] == [201, 201, 429]
    error = {"code": 429, "message": "Rate limit exceeded"}
    assert got[2].json == {"error": {**error, "metadata": {"error_type": "rate_limit_exceeded"}}}
    assert got[2].headers["retry-after"] == "2"
    assert got[2].headers["x-ratelimit-limit"] == "2"
    assert not {"retry-after", "x-ratelimit-limit"} & got[0].headers.keys()
    assert not emulator.requests[2].applied
    # What was turned away used no fault up.
    assert later.status == 500


# the ledger


async def test_the_ledger_tells_what_came_and_what_became_of_it(
    emulator: Emulator, call: Caller
) -> None:
    made = await call("POST", "/keys", {"name": "x"})
    await call("GET", "/keys/none?a=1&a=2&b=")

    create, get = emulator.requests
    assert (create.operation, create.method, create.name) == ("create", "POST", "x")
    assert (create.status, create.applied, create.fault) == (201, True, None)
    assert create.hash == made.data["hash"]
    assert create.body == b'{"name": "x"}'
    assert create.headers["authorization"] == f"Bearer {emulator.api_key}"
    assert (get.operation, get.hash, get.query) == ("get", "none", {"a": "2", "b": ""})
    assert get.path == "/api/v1/keys/none?a=1&a=2&b="
    assert (get.status, get.applied) == (404, False)
    assert [emulator.count(name) for name in ("create", "get", "list")] == [1, 1, 0]
    assert emulator.api_key not in repr(emulator.requests)


async def test_the_ledger_numbers_the_connections(emulator: Emulator, call: Caller) -> None:
    for _ in range(2):
        await call("POST", "/keys", {"name": "x"})
        emulator.faults.append(Fault("create", "closed"))
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await call("POST", "/keys", {"name": "x"})

    assert [request.connection for request in emulator.requests] == [1, 1, 2, 2]


async def test_a_body_that_breaks_off_is_in_the_ledger_without_an_answer(
    emulator: Emulator, call: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port_of(emulator))
    writer.write(b"POST /api/v1/keys HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{")
    async with asyncio.timeout(5):
        while not emulator.requests:
            await asyncio.sleep(0.001)
    writer.close()
    await writer.wait_closed()
    await call("GET", "/key")  # by its answer the emulator has seen the end that came before it

    assert (emulator.requests[0].status, emulator.requests[0].applied) == (None, False)
    assert caplog.records == []


async def test_the_ledger_lets_go_of_the_oldest_and_still_counts_them(call: Caller) -> None:
    call.emulator.ledger_size = 3
    for _ in range(2):
        await call("POST", "/keys", {"name": "x"})
    for _ in range(4):
        await call("GET", "/key")

    assert [request.number for request in call.emulator.requests] == [4, 5, 6]
    assert [call.emulator.count(name) for name in ("create", "current", "list")] == [2, 4, 0]
    call.emulator.ledger_size = 0
    await call("GET", "/keys")
    assert call.emulator.requests == []
    assert [call.emulator.count(name) for name in ("create", "current", "list")] == [2, 4, 1]


# back to how it was made


async def test_a_reset_takes_everything_back_that_was_set_and_done(call: Caller) -> None:
    fault = Fault("create", probability=0.5, times=2)
    emulator = Emulator(latency=0.001, rate_limit=RateLimit(0.001, 30), faults=[fault], seed=7)

    async def done() -> list[int]:
        return [(await call("POST", "/keys", {"name": "x"})).status for _ in range(10)]

    async with emulator:
        call.emulator = emulator
        first = await done()
        emulator.page_size, emulator.contract = 1, "2025-02"
        emulator.max_body, emulator.ledger_size, emulator.latency = 1, 1, 0
        assert (await call("POST", "/keys", {"name": "x"})).status == 413
        emulator.account.advance(days=1)
        emulator.faults += [Fault("list")]

        emulator.reset()

        assert (emulator.requests, emulator.account.keys, emulator.faults) == ([], {}, [fault])
        assert emulator.count("create") == 0
        assert emulator.account.ahead == timedelta()
        assert await done() == first
        assert emulator.requests[0].number == 1
        assert (emulator.latency, emulator.page_size, emulator.contract) == (0.001, 100, "2026-11")
        # Ten of thirty tokens are gone, not twenty, however often the limit was reset.
        for _ in range(3):
            emulator.reset()
        assert [429 in await done() for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("fault", [Fault("create", "late", delay=0.1), Fault("create", "slow")])
async def test_nothing_lands_after_a_reset_that_came_before_it(
    emulator: Emulator, call: Caller, fault: Fault
) -> None:
    emulator.faults.append(fault)
    lost = asyncio.create_task(call("POST", "/keys", {"name": "x"}))
    async with asyncio.timeout(5):
        while emulator.faults:
            await asyncio.sleep(0.001)

    emulator.reset()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await lost
    assert emulator._serving is not None
    async with asyncio.timeout(5):
        while emulator._serving._server._busy:
            await asyncio.sleep(0.001)

    assert (emulator.account.keys, emulator.requests) == ({}, [])
    assert (await call("POST", "/keys", {"name": "y"})).status == 201


async def test_a_stalled_request_does_not_come_back_into_the_ledger_by_a_reset(
    emulator: Emulator, call: Caller
) -> None:
    emulator.faults.append(Fault("create", "stalled", phase="after"))
    lost = asyncio.create_task(call("POST", "/keys", {"name": "x"}))
    async with asyncio.timeout(5):
        while not emulator.account.keys:
            await asyncio.sleep(0.001)

    emulator.reset()
    lost.cancel()

    assert (await call("GET", "/keys")).page == []
    assert [request.operation for request in emulator.requests] == ["list"]


# starting and stopping


def test_an_emulator_has_no_address_before_it_serves() -> None:
    with pytest.raises(RuntimeError, match="enter it with"):
        _ = Emulator().base_url


async def test_state_outlives_a_stop_and_the_port_is_another() -> None:
    emulator = Emulator()
    async with emulator:
        emulator.account.add()
        first = emulator.base_url
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port_of(emulator))
    # Hold the first port, so that it cannot be given out again.
    holder = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", port_of(emulator))
    async with holder, emulator:
        assert emulator.base_url != first
        assert len(emulator.account.keys) == 1


async def test_a_port_that_was_given_is_kept() -> None:
    async with Emulator() as emulator:
        port = port_of(emulator)
    again = Emulator(port=port)
    for _ in range(2):
        async with again:
            assert port_of(again) == port


async def test_a_port_in_use_is_an_error_and_the_emulator_can_be_entered_later() -> None:
    async with Emulator() as first:
        second = Emulator(port=port_of(first))
        with pytest.raises(OSError, match="address already in use"):
            await second.__aenter__()
    async with second:
        assert port_of(second) == port_of(first)


async def test_an_emulator_that_serves_cannot_be_entered_again(
    emulator: Emulator, call: Caller
) -> None:
    with pytest.raises(RuntimeError, match="already"):
        await emulator.__aenter__()
    with pytest.raises(RuntimeError, match="already"):
        emulator.__enter__()

    assert (await call("GET", "/keys")).status == 200


HANGING: dict[str, Callable[[Emulator], None]] = {
    "idle": lambda _: None,
    "stalled": lambda emulator: emulator.faults.append(Fault(kind="stalled")),
    "stalled_body": lambda emulator: emulator.faults.append(Fault(kind="stalled_body")),
    "slow": lambda emulator: emulator.faults.append(Fault(kind="slow", delay=60)),
    "late": lambda emulator: emulator.faults.append(Fault(kind="late", delay=60)),
    "latency": lambda emulator: setattr(emulator, "latency", 60),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", HANGING)
async def test_a_stop_is_quick_and_clean_whatever_hangs(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    emulator = Emulator()
    await emulator.__aenter__()
    others = asyncio.all_tasks()
    HANGING[how](emulator)
    streams = [await asyncio.open_connection("127.0.0.1", port_of(emulator)) for _ in range(20)]
    for _, writer in streams[: 0 if how == "idle" else 10]:
        writer.write(b"GET /api/v1/keys HTTP/1.1\r\nHost: h\r\n\r\n")
        emulator.faults *= 2
    async with asyncio.timeout(5):
        while how != "idle" and len(emulator.requests) < 10:
            await asyncio.sleep(0.001)

    started = time.monotonic()
    await emulator.__aexit__(None, None, None)

    assert time.monotonic() - started < AT_ONCE
    assert asyncio.all_tasks() - others == set()
    for reader, writer in streams:
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()
    gc.collect()  # what was left open would warn, and warnings are errors
    assert caplog.records == []


@pytest.mark.slow
async def test_a_client_that_does_not_read_holds_nobody_up() -> None:
    emulator = Emulator()
    await emulator.__aenter__()
    emulator.account.add("n" * 50_000_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(emulator), limit=1)
    head = f"GET /api/v1/keys HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {emulator.api_key}"
    writer.write(f"{head}\r\n\r\n".encode())
    await reader.read(1)

    started = time.monotonic()
    await emulator.__aexit__(None, None, None)

    assert time.monotonic() - started < AT_ONCE
    received = 1
    with suppress(ConnectionResetError):
        while data := await asyncio.wait_for(reader.read(1_000_000), 5):
            received += len(data)
    assert received < 50_000_000
    writer.close()
    with suppress(ConnectionResetError):
        await writer.wait_closed()


async def test_a_request_that_comes_with_the_stop_is_let_go_of() -> None:
    emulator = Emulator()
    await emulator.__aenter__()
    request = b"GET /api/v1/keys HTTP/1.1\r\nHost: h\r\n\r\n"
    streams = [await asyncio.open_connection("127.0.0.1", port_of(emulator)) for _ in range(2)]
    (_, stalled), (reader, writer) = streams
    writer.write(request)
    await reader.readuntil(b"\r\n0\r\n\r\n")
    emulator.faults.append(Fault(kind="stalled"))
    stalled.write(request)
    while emulator.faults:
        await asyncio.sleep(0.001)

    writer.write(request)
    await emulator.__aexit__(None, None, None)  # ends the stalled one first, which takes a moment

    assert await reader.read() == b""
    assert len(emulator.requests) == 2
    for _, each in streams:
        each.close()
        await each.wait_closed()


def fetched(emulator: Emulator, path: str = "/keys") -> object:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    request = urllib.request.Request(emulator.base_url + path, headers=headers)
    with cast("HTTPResponse", urllib.request.urlopen(request, timeout=5)) as response:
        value: object = json.load(response)
    return value


def test_blocking_code_uses_it_from_a_thread_of_its_own() -> None:
    threads = threading.active_count()
    with Emulator() as emulator:
        emulator.account.add("x")
        first = fetched(emulator)
        emulator.faults.append(Fault(status=503))
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetched(emulator)
        caught.value.close()

    assert cast("dict[str, list[dict[str, str]]]", first)["data"][0]["name"] == "x"
    assert caught.value.code == 503
    assert threading.active_count() == threads


def test_blocking_code_can_enter_it_again_and_stop_it_quickly() -> None:
    emulator = Emulator(Account())
    dropped: list[OSError] = []

    def give_up() -> None:
        try:
            fetched(emulator)
        except OSError as error:
            dropped.append(error)

    for _ in range(2):
        with emulator:
            fetched(emulator)
            emulator.faults.append(Fault(kind="stalled"))
            waiting = threading.Thread(target=give_up)
            waiting.start()
            while emulator.faults:
                time.sleep(0.001)
            started = time.monotonic()
        assert time.monotonic() - started < AT_ONCE
        waiting.join()

    assert len(dropped) == 2
    assert emulator.count("list") == 4


def test_a_port_in_use_is_an_error_for_blocking_code_too() -> None:
    threads = threading.active_count()
    with Emulator() as first, pytest.raises(OSError, match="address already in use"):
        Emulator(port=port_of(first)).__enter__()

    assert threading.active_count() == threads


def test_an_address_that_others_reach_must_be_allowed_in_so_many_words() -> None:
    for local in ("127.0.0.1", "127.8.9.10", "localhost", "::1"):
        Emulator(host=local)
    remote = ("0.0.0.0", "::", "", "192.168.1.2", "2001:db8::1", "example.com", "localhost.example")
    for host in remote:
        with pytest.raises(ValueError, match="allow_remote=True"):
            Emulator(host=host)
        Emulator(host=host, allow_remote=True)


async def test_an_emulator_can_be_reached_from_elsewhere_if_allowed() -> None:
    async with Emulator(host="0.0.0.0", allow_remote=True) as emulator:
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(emulator))
        assert writer.get_extra_info("peername") == ("127.0.0.1", port_of(emulator))
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency": -1},
        {"page_size": 0},
        {"max_body": -1},
        {"ledger_size": 1.5},
        {"ledger_bytes": -1},
        {"connections": 0},
        {"client_timeout": 0},
        {"idle_timeout": -1},
    ],
    ids=str,
)
def test_a_setting_out_of_its_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Emulator(**wrong)  # type: ignore[arg-type]  # that is the test


def test_an_address_with_colons_is_a_url_with_brackets() -> None:
    emulator = Emulator(host="::1", port=8080)
    assert emulator.base_url == "http://[::1]:8080/api/v1"
