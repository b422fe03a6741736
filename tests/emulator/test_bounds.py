"""What a client can make the emulator keep and hold: raw sockets, no HTTP client."""

import asyncio
import gc
import gzip
import json
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from sys import getsizeof
from typing import Any

import pytest
from attrs import define, fields

from openrouter_keys.emulator import Emulator, Fault, Request
from openrouter_keys.emulator.state import MANAGEMENT_KEY
from tests.emulators import port_of
from tests.virtual_time import run

HEAD = b"Host: h\r\n"
KEY = HEAD + f"Authorization: Bearer {MANAGEMENT_KEY}\r\n".encode()
GET = b"GET /api/v1/key HTTP/1.1\r\n" + KEY + b"\r\n"
POST = b"POST /api/v1/keys HTTP/1.1\r\n"
FAULTS = b"POST /_emulator/faults HTTP/1.1\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def sized(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@define
class Client:
    """One raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def sends(self, data: bytes) -> None:
        # What is sent to a connection that was closed may reset it.
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def asks(self, data: bytes = GET) -> int:
        """The status of the answer."""
        await self.sends(data)
        head = await self.reader.readuntil(b"\r\n\r\n")
        if b"chunked" in head:
            await self.reader.readuntil(b"0\r\n\r\n")
        return int(head.split()[1])

    async def takes_all(self) -> bytes:
        """All that comes until the emulator closes the connection."""
        received = b""
        with suppress(ConnectionError):
            while data := await self.reader.read(65536):
                received += data
        return received

    async def is_closed_after(self) -> float:
        """Seconds until the emulator closes the connection; what is read of it is lost."""
        begun = asyncio.get_running_loop().time()
        await self.takes_all()
        return asyncio.get_running_loop().time() - begun


@asynccontextmanager
async def connected(emulator: Emulator, data: bytes = b"") -> AsyncGenerator[Client, None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(emulator), limit=2**24)
    client = Client(reader, writer)
    try:
        await client.sends(data)
        yield client
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def is_well(emulator: Emulator) -> bool:
    async with connected(emulator) as client:
        return await client.asks() == 200


def serving(play: Callable[[Emulator], Awaitable[None]], **settings: Any) -> None:
    """Have a test's coroutine play against an emulator, in virtual time."""

    async def main() -> None:
        async with Emulator(**settings) as emulator:
            await play(emulator)

    run(main())


def weight(requests: Iterable[Request]) -> int:
    """The bytes of all that requests refer to."""
    values = [getattr(each, name.name) for each in requests for name in fields(Request)]
    mappings = [mapping for each in requests for mapping in (each.query, each.headers)]
    texts = [text for mapping in mappings for pair in mapping.items() for text in pair]
    return sum(map(getsizeof, [*values, *texts]))


# what a client does not come to an end with

NEVER_WHOLE = {
    "a method": b"POS",
    "a path": b"POST /api/v1/keys",
    "a head": POST + HEAD,
    "a header": POST + b"Authorization: Be",
    "a body": POST + KEY + b"Content-Length: 100\r\n\r\n{",
    "a body of which nothing comes": POST + KEY + b"Content-Length: 100\r\n\r\n",
    "a body without a key": POST + HEAD + b"Content-Length: 100\r\n\r\n{",
    "chunks": POST + KEY + CHUNKED + b"5\r\n12345\r\n",
    "a chunk": POST + KEY + CHUNKED + b"5\r\n12",
    "a trailer": POST + KEY + CHUNKED + b"0\r\nX: ",
    "a wait for 100 Continue": POST + KEY + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    "a control's body": FAULTS + KEY + b"Content-Length: 100\r\n\r\n{",
    "a control's body without a key": FAULTS + HEAD + b"Content-Length: 100\r\n\r\n{",
    "a compressed body": POST
    + KEY
    + b"Content-Encoding: gzip\r\n"
    + CHUNKED
    + b"2\r\n\x1f\x8b\r\n",
    "the body of a second request": GET + POST + KEY + b"Content-Length: 100\r\n\r\n{",
}


@pytest.mark.parametrize("sent", NEVER_WHOLE.values(), ids=NEVER_WHOLE)
@pytest.mark.parametrize("after", [b"", GET], ids=["at first", "after another"])
def test_a_request_that_does_not_become_whole_ends_with_the_clients_time(
    sent: bytes, after: bytes
) -> None:
    async def play(emulator: Emulator) -> None:
        async with connected(emulator) as client:
            if after:
                assert await client.asks(after) == 200
            await client.sends(sent)
            assert await client.is_closed_after() == pytest.approx(60)
        assert await is_well(emulator)

    serving(play)


@pytest.mark.parametrize("sent", [GET, POST + KEY + sized(b'{"name":"%s"}' % (b"n" * 50))])
def test_a_byte_now_and_then_does_not_buy_time(sent: bytes) -> None:
    async def play(emulator: Emulator) -> None:
        async with connected(emulator) as client:
            closing, begun = asyncio.create_task(client.is_closed_after()), 0
            while not closing.done():
                await client.sends(sent[begun : begun + 1])
                begun += 1
                await asyncio.sleep(0.9)
            assert await closing == pytest.approx(60, abs=1)
            assert begun < len(sent)
        assert emulator.account.keys == {}

    serving(play)


@pytest.mark.parametrize("part", [1, 20, len(GET) - 1])
def test_a_part_of_the_next_request_is_begun_with_the_answer(part: int) -> None:
    async def play(emulator: Emulator) -> None:
        emulator.faults.append(Fault(kind="slow", delay=500))
        async with connected(emulator, GET) as client:
            await asyncio.sleep(100)
            await client.sends(GET[:part])
            assert await client.is_closed_after() == pytest.approx(460)
        assert len(emulator.requests) == 1

    serving(play)


@pytest.mark.parametrize(
    "asked", ["/_emulator/", "/openapi.json", "/api/v1/keys", "/_emulator/keys"]
)
def test_answers_that_are_not_taken_end_with_the_clients_time(asked: str) -> None:
    async def play(emulator: Emulator) -> None:
        for number in range(100):
            emulator.account.add(f"{number}")
        sent = b"GET %s HTTP/1.1\r\n%s\r\n" % (asked.encode(), KEY)
        async with connected(emulator) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.writer.write(sent * 1000)
            loop = asyncio.get_running_loop()
            begun = loop.time()
            assert emulator._serving is not None
            while emulator._serving._server.peers:
                await asyncio.sleep(1)
            assert loop.time() - begun == pytest.approx(60, abs=2)
        assert await is_well(emulator)

    serving(play)


@pytest.mark.parametrize("asked", [b"", GET, POST + KEY + sized(b'{"name":"x"}')])
def test_an_idle_connection_is_closed(asked: bytes) -> None:
    async def play(emulator: Emulator) -> None:
        async with connected(emulator) as client:
            if asked:
                await client.asks(asked)
            assert await client.is_closed_after() == pytest.approx(3600)

    serving(play)


def test_times_can_be_set_while_serving_for_connections_to_come() -> None:
    async def play(emulator: Emulator) -> None:
        async with connected(emulator) as old:
            emulator.client_timeout, emulator.idle_timeout = 2, 5
            async with connected(emulator, GET) as idle, connected(emulator, GET[:9]) as half:
                assert await half.is_closed_after() == pytest.approx(2)
                assert await idle.is_closed_after() == pytest.approx(3)
            await old.sends(GET[:9])
            assert await old.is_closed_after() == pytest.approx(60)

    serving(play)


HELD = [
    Fault(kind="stalled"),
    Fault(kind="stalled", phase="after"),
    Fault(kind="stalled_body"),
    Fault(kind="slow", delay=20_000),
    Fault(kind="slow", phase="after", delay=20_000),
]


@pytest.mark.parametrize("fault", HELD, ids=lambda fault: f"{fault.kind} {fault.phase}")
@pytest.mark.parametrize("asked", [GET, POST + KEY + sized(b'{"name":"x"}')], ids=["GET", "POST"])
def test_what_a_fault_holds_stays_until_the_client_goes(fault: Fault, asked: bytes) -> None:
    async def play(emulator: Emulator) -> None:
        emulator.faults.append(fault)
        assert emulator._serving is not None
        peers = emulator._serving._server.peers
        async with connected(emulator, asked):
            await asyncio.sleep(10_000)
            assert len(peers) == 1
        async with asyncio.timeout(60):
            while peers:
                await asyncio.sleep(1)
        assert await is_well(emulator)

    serving(play)


# how many connections


def test_the_connection_that_is_idle_for_longest_makes_room() -> None:
    async def play(emulator: Emulator) -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(emulator)) for _ in range(3)]
            for client in (clients[1], clients[0], clients[2]):
                await asyncio.sleep(1)
                assert await client.asks() == 200
            more = [await stack.enter_async_context(connected(emulator)) for _ in range(2)]
            assert [await each.is_closed_after() for each in (clients[1], clients[0])] == [0, 0]
            assert [await each.asks() for each in (clients[2], *more)] == [200] * 3

    serving(play, connections=3)


@pytest.mark.parametrize("sent", NEVER_WHOLE.values(), ids=NEVER_WHOLE)
def test_requests_that_are_never_whole_keep_nobody_out(sent: bytes) -> None:
    async def play(emulator: Emulator) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(12):
                await stack.enter_async_context(connected(emulator, sent))
            assert await is_well(emulator)

    serving(play, connections=5)


@pytest.mark.parametrize("fault", HELD, ids=lambda fault: f"{fault.kind} {fault.phase}")
def test_what_a_fault_holds_is_never_closed_for_another(fault: Fault) -> None:
    async def play(emulator: Emulator) -> None:
        emulator.faults += [fault] * 3
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(connected(emulator, GET))
            await asyncio.sleep(1)
            async with connected(emulator) as refused:
                assert await refused.is_closed_after() == 0
            assert emulator._serving is not None
            assert len(emulator._serving._server.peers) == 3
            emulator.connections = 4
            assert await is_well(emulator)

    serving(play, connections=3)


def test_a_request_that_lands_late_counts_as_a_connection() -> None:
    async def play(emulator: Emulator) -> None:
        emulator.faults.append(Fault("current", "late", delay=100, times=3))
        for _ in range(3):
            async with connected(emulator, GET) as gone:
                assert await gone.takes_all() == b""
        async with connected(emulator) as refused:
            assert await refused.is_closed_after() == 0
        await asyncio.sleep(101)
        assert [request.applied for request in emulator.requests] == [True] * 3
        assert await is_well(emulator)

    serving(play, connections=3)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", GET[:30], GET, POST + HEAD + b"Content-Length: 99\r\n\r\n{"])
def test_connections_that_came_and_went_leave_nothing(sent: bytes) -> None:
    async def play(emulator: Emulator) -> None:
        async def come_and_go(times: int) -> int:
            for _ in range(times):
                async with connected(emulator, sent):
                    await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            gc.collect()
            return len(gc.get_objects())

        assert await come_and_go(20) == pytest.approx(await come_and_go(60), abs=40)

    serving(play, ledger_size=5)


# how much is kept

KEPT = 80_000  # bytes, of a ledger in these tests
LONGEST = 50_000  # bytes, of a body

LONG_HEADERS = b"".join(b"X%d: %s\r\n" % (n, b"x" * 8000) for n in range(100))
MANY_NAMES = b"&".join(b"%x" % n for n in range(1600))
BODIES = {
    "long": b"x" * LONGEST,
    "a long name": b'{"name":"%s"}' % (b"n" * (LONGEST - 100)),
    "a name beyond Latin-1": '{"name":"%s\U0001f600"}'.encode() % (b"n" * (LONGEST - 100)),
    "deep": b"[" * LONGEST,
    "deep in a field": b'{"name":' + b'{"a":' * (LONGEST // 8),
    "many fields": b"{%s}" % b",".join(b'"%x":{}' % n for n in range(4000)),
    "a huge number": b'{"name":"x","limit":%s}' % (b"9" * 20_000),
    "a huge exponent": b'{"name":"x","limit":1e%s}' % (b"9" * 20_000),
    "a huge power": b'{"name":"x","limit":1e999999999}',
    "too long": b"x" * (LONGEST + 1),
    "much too long": b"x" * 1_000_000,
}
UNPACKED = b"\0" * 2_000_000


def gzipped(data: bytes) -> bytes:
    return b"Content-Encoding: gzip\r\n" + sized(gzip.compress(data))


def chunked(data: bytes) -> bytes:
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:7], data[7:])]
    return CHUNKED + b"".join(chunks) + b"0\r\n\r\n"


WHOLE = {
    "a header of a megabyte": b"GET /api/v1/keys HTTP/1.1\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "100,000 headers": b"GET /api/v1/keys HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    "headers of 800,000 bytes": b"GET /api/v1/keys HTTP/1.1\r\n" + HEAD + LONG_HEADERS + b"\r\n",
    "a header beyond ASCII": GET[:-2] + b"X: " + b"\xf0\x9f\x98\x80" + b"x" * 8000 + b"\r\n\r\n",
    "a path of a megabyte": b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a path of 8,000 bytes": b"GET /api/v1/keys/" + b"x" * 8000 + b" HTTP/1.1\r\n" + KEY + b"\r\n",
    "an unknown path": b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
    "an unknown method": b"X" * 8000 + b" /api/v1/keys HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a query of 100,000": b"GET /?" + b"a=&" * 100_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a query of 1,600": b"GET /api/v1/keys?" + MANY_NAMES + b" HTTP/1.1\r\n" + KEY + b"\r\n",
    "a name for a host": b"GET / HTTP/1.1\r\nHost: " + b"h" * 8000 + b"\r\n\r\n",
    "an expectation": POST + KEY + b"Expect: 100-continue\r\n" + sized(b"x" * LONGEST),
    "gzip": POST + KEY + gzipped(UNPACKED),
    "gzip without a key": POST + HEAD + gzipped(UNPACKED),
    **{name: POST + KEY + sized(body) for name, body in BODIES.items()},
    **{f"{name}, no key": POST + HEAD + sized(body) for name, body in BODIES.items()},
    **{f"{name}, chunked": POST + KEY + chunked(body) for name, body in BODIES.items()},
    **{f"{name}, control": FAULTS + KEY + sized(body) for name, body in BODIES.items()},
}


@pytest.mark.parametrize("sent", WHOLE.values(), ids=WHOLE)
def test_whatever_comes_the_ledger_holds_only_so_much(sent: bytes) -> None:
    async def play(emulator: Emulator) -> None:
        for _ in range(4):
            async with connected(emulator, sent + GET) as client:
                client.writer.write_eof()
                answers = await client.takes_all()
                assert b"HTTP/1.1 5" not in answers
            emulator.account.keys.clear()
        assert weight(emulator.requests) <= KEPT
        assert await is_well(emulator)
        # Those that are gone are counted.
        assert emulator.requests[-1].number == sum(map(emulator.count, OPERATIONS))
        assert len(emulator.requests) + emulator.dropped.total() == emulator.requests[-1].number
        assert emulator.faults == []

    serving(play, ledger_bytes=KEPT, max_body=LONGEST)


OPERATIONS = ("list", "create", "get", "update", "delete", "current", "unknown")
STRANGERS = {
    "no key": b"",
    "another key": b"Authorization: Bearer sk-or-v1-other\r\n",
    "an inference key": b"Authorization: Bearer sk-or-v1-inference\r\n",
    "no bearer": b"Authorization: " + MANAGEMENT_KEY.encode() + b"\r\n",
    "another scheme": b"Authorization: Basic " + MANAGEMENT_KEY.encode() + b"\r\n",
    "almost the key": b"Authorization: Bearer " + MANAGEMENT_KEY.encode() + b"x\r\n",
}
ROUTES = [
    *(POST, b"PATCH /api/v1/keys/none HTTP/1.1\r\n", b"DELETE /api/v1/keys/none HTTP/1.1\r\n"),
    *(b"GET /api/v1/key HTTP/1.1\r\n", b"PUT /nowhere HTTP/1.1\r\n"),
]


@pytest.mark.parametrize("key", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("form", [sized, chunked, gzipped])
def test_nothing_of_a_body_is_kept_without_the_management_key(
    key: bytes, form: Callable[[bytes], bytes]
) -> None:
    body = b'{"name":"customer"}'

    async def play(emulator: Emulator) -> None:
        emulator.account.add(secret="sk-or-v1-inference")
        for route in ROUTES:
            async with connected(emulator, route + HEAD + key + form(body)) as client:
                assert await client.asks() in {200, 401, 404}
        for request in emulator.requests[::2]:
            assert (request.body, request.name, request.size) == (b"", None, len(body))

        async with connected(emulator) as client:
            assert await client.asks(POST + KEY + form(body)) == 201
        last = emulator.requests[-1]
        assert (last.body, last.name, last.size) == (body, "customer", len(body))

    serving(play)


@pytest.mark.parametrize("key", [HEAD, KEY], ids=["no key", "the key"])
@pytest.mark.parametrize("route", [POST, FAULTS, b"PUT /nowhere HTTP/1.1\r\n"])
@pytest.mark.parametrize("length", ["chunks", "known"])
def test_a_body_without_an_end_is_answered_before_it_and_not_collected(
    key: bytes, route: bytes, length: str
) -> None:
    part = b"x" * 100_000
    framing = CHUNKED if length == "chunks" else b"Content-Length: 999999999999\r\n\r\n"
    piece = b"%x\r\n%s\r\n" % (len(part), part) if length == "chunks" else part

    async def play(emulator: Emulator) -> None:
        async with connected(emulator, route + key + framing) as client:
            before, most = tracemalloc.get_traced_memory()[0], 0
            for _ in range(50):
                await client.sends(piece)
                await asyncio.sleep(0.001)
                most = max(most, tracemalloc.get_traced_memory()[0] - before)
            assert most < 3_000_000
            assert (await client.reader.readline()).split()[1] == b"413"
            assert 9.9 < await client.is_closed_after() < 11  # aiohttp rounds it up
        assert weight(emulator.requests) < 3000
        assert await is_well(emulator)

    tracemalloc.start()
    try:
        serving(play, max_body=150_000)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("key", [HEAD, KEY], ids=["no key", "the key"])
@pytest.mark.parametrize("head", [b"", LONG_HEADERS[:400_000].rpartition(b"\r\n")[0] + b"\r\n"])
def test_requests_that_are_sent_ahead_hold_only_so_much(key: bytes, head: bytes) -> None:
    async def play(emulator: Emulator) -> None:
        emulator.faults.append(Fault(kind="stalled"))
        async with connected(emulator, b"GET /api/v1/key HTTP/1.1\r\n" + key + b"\r\n") as client:
            await asyncio.sleep(1)
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(100):
                client.writer.write(GET[:-2].replace(KEY, key) + head + b"\r\n")
                await asyncio.sleep(0.001)
            sent = client.writer.transport.get_write_buffer_size()
            assert tracemalloc.get_traced_memory()[0] - before - sent < 10_000_000
        assert await is_well(emulator)

    tracemalloc.start()
    try:
        serving(play)
    finally:
        tracemalloc.stop()


def test_as_many_requests_as_one_likes_may_be_sent_ahead() -> None:
    async def play(emulator: Emulator) -> None:
        sent = GET[:-2] + b"X: " + b"x" * 8000 + b"\r\n\r\n"
        async with connected(emulator) as client:
            sending = asyncio.create_task(client.sends(sent * 500))
            for _ in range(500):
                assert await client.asks(b"") == 200
            await sending

    serving(play)


@pytest.mark.parametrize("bytes_kept", [0, 1, 2000, 10_000])
def test_the_ledger_drops_the_oldest_until_the_rest_fits(bytes_kept: int) -> None:
    async def play(emulator: Emulator) -> None:
        async with connected(emulator) as client:
            for number in range(20):
                body = b'{"name":"%d","x":"%s"}' % (number, b"x" * (number % 5) * 500)
                assert await client.asks(POST + KEY + sized(body)) == 201
                assert weight(emulator.requests) <= bytes_kept
        numbers = [request.number for request in emulator.requests]
        assert numbers == [*range(21 - len(numbers), 21)]
        assert emulator.count("create") == 20
        emulator.ledger_bytes = 1_000_000
        assert await is_well(emulator)
        assert len(emulator.requests) == len(numbers) + 1

    serving(play, ledger_bytes=bytes_kept)


@pytest.mark.parametrize("many", ["requests", "bytes"])
def test_a_ledger_that_was_cleared_has_all_its_room_again(many: str) -> None:
    async def play(emulator: Emulator) -> None:
        async with connected(emulator) as client:
            for _ in range(3):
                for number in range(5):
                    assert await client.asks(POST + KEY + sized(b'{"name":"%d"}' % number)) == 201
                assert [each.name for each in emulator.requests] == ["1", "2", "3", "4"]
                emulator.requests.clear()
        assert emulator.count("create") == 3

    serving(play, **{"requests": {"ledger_size": 4}, "bytes": {"ledger_bytes": 9000}}[many])


# how much is kept in a file


@pytest.mark.parametrize("bound", [{"ledger_size": 3}, {"ledger_bytes": 4000}, {"ledger_size": 0}])
def test_a_state_file_holds_no_more_requests_than_the_ledger(
    bound: dict[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "state"

    async def play(emulator: Emulator) -> None:
        emulator.faults.append(Fault("create", "slow", delay=1, phase="after"))
        async with connected(emulator) as slow:
            landing = asyncio.create_task(slow.asks(POST + KEY + sized(b'{"name":"slow"}')))
            await asyncio.sleep(0.5)
            async with connected(emulator) as client:
                for _ in range(9):
                    assert await client.asks() == 200
            assert await landing == 201

    serving(play, state=path, **bound)
    serving(play, state=path, **bound)

    after = Emulator(state=path)
    assert len(after.requests) <= 3
    assert [after.count("create"), after.count("current")] == [2, 18]
    assert [request.number for request in after.requests] == [*range(21 - len(after.requests), 21)]
    assert len(after.account.keys) == 2

    async def play_on(emulator: Emulator) -> None:
        assert await is_well(emulator)
        assert emulator.requests[-1].number == 21
        emulator.reset()
        assert await is_well(emulator)

    serving(play_on, state=path)
    anew = Emulator(state=path)
    assert [request.number for request in anew.requests] == [1]
    assert anew.count("current") == 1


# how many faults

LONG, HEADED = Fault(body=b"x" * 60_000), Fault(headers={"X": "x" * 60_000})
TOO_MANY: dict[str, tuple[bytes, list[Fault], object]] = {
    "one more": (b"POST", [Fault()] * 10_000, {}),
    "many at once": (b"POST", [], [{}] * 10_001),
    "many instead": (b"PUT", [Fault()], [{}] * 10_001),
    "bodies": (b"POST", [LONG], {"body": "x" * 50_000}),
    "headers": (b"POST", [Fault(), HEADED], [{}, {"headers": {"X": "x" * 50_000}}]),
    "both": (b"POST", [HEADED], {"body": "x" * 50_000}),
}


@pytest.mark.parametrize(("method", "held", "more"), TOO_MANY.values(), ids=TOO_MANY)
def test_too_many_faults_are_refused_and_none_is_changed(
    method: bytes, held: list[Fault], more: object
) -> None:
    async def play(emulator: Emulator) -> None:
        emulator.faults += held
        async with connected(emulator) as client:
            sent = method + FAULTS[4:] + KEY + sized(json.dumps(more).encode())
            assert await client.asks(sent) == 400
            assert emulator.faults == held
            few = (
                FAULTS.replace(b"POST", b"PUT") + KEY + sized(b'[{"body": "%s"}]' % (b"x" * 90_000))
            )
            assert await client.asks(few) == 200

    serving(play, max_body=100_000)
