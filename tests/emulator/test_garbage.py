"""What is no request, or never becomes one: the emulator goes on serving, and goes nowhere else."""

import json
import logging
import socket
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrouter_keys.emulator import Emulator
from openrouter_keys.emulator.state import MANAGEMENT_KEY
from tests.emulators import connected

SOON = 20.0  # seconds within which something comes; it takes a thousandth of one
AUTHORIZED = f"Authorization: Bearer {MANAGEMENT_KEY}\r\n".encode()


@pytest.fixture(scope="module")
def served() -> Generator[Emulator, None, None]:
    with Emulator(max_body=10_000, ledger_size=100) as emulator:
        yield emulator


def told(emulator: Emulator, sent: bytes) -> bytes:
    """All that comes back for these bytes when nothing more is sent."""
    received = b""
    # What is sent to a connection that is closed already may reset it.
    with connected(emulator) as connection, suppress(OSError):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(65536):
            received += data
    return received


def is_well(emulator: Emulator) -> bool:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    asked = urllib.request.Request(f"{emulator.base_url}/key", headers=headers)
    with cast("HTTPResponse", urllib.request.urlopen(asked, timeout=SOON)) as response:
        return response.status == 200 and "data" in json.load(response)


METHODS = [b"GET", b"POST", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT", b"\xff", b"G T"]
TARGETS = [
    *(b"/api/v1/keys", b"/api/v1/key", b"/api/v1/keys/none", b"/api/v1/keys/%ff%00%", b"*", b"?"),
    *(b"/api/v1/keys?offset=1&offset=%zz&=&include_disabled", b"//api/v1/keys", b"/../keys"),
    *(b"/_emulator/", b"/_emulator/faults", b"/_emulator/clock", b"http://[/keys", b"a:b"),
]
HEADERS = [
    *(
        AUTHORIZED,
        b"Host: h\r\n",
        b"Content-Type: application/json\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(b"Content-Length: 4\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"Upgrade: websocket\r\n"),
    *(
        b"Connection: close\r\n",
        b"Connection: upgrade\r\n",
        b": \r\n",
        b"X: \xff\x00\r\n",
        b" y\r\n",
    ),
]
BODIES = [
    b"",
    b"{}",
    b'{"name":"x"}',
    b"2\r\n{}\r\n0\r\n\r\n",
    b"zz\r\n",
    b"\x1f\x8b\x08\x00",
    b"[[[",
]


def request(
    method: bytes, target: bytes, version: bytes, headers: list[bytes], body: bytes
) -> bytes:
    return b" ".join([method, target, version]) + b"\r\n" + b"".join(headers) + b"\r\n" + body


almost_http = st.builds(
    request,
    st.sampled_from(METHODS) | st.binary(max_size=20),
    st.sampled_from(TARGETS) | st.binary(max_size=200),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"PRI", b""]),
    st.lists(st.sampled_from(HEADERS) | st.binary(max_size=50), max_size=6),
    st.sampled_from(BODIES) | st.binary(max_size=500),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(garbage=st.binary(max_size=2000) | st.lists(almost_http, max_size=3).map(b"".join))
def test_whatever_comes_it_goes_on_serving(served: Emulator, garbage: bytes) -> None:
    answers = told(served, garbage)

    assert b"HTTP/1.1 5" not in answers
    assert is_well(served)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /api/v1/keys HTTP/1.1\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET /api/v1/keys HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /api/v1/keys HTTP/1.1\r\n" + b"x" * 1_000_000,
        b"\0" * 1_000_000,
    ],
    ids=["a header", "many headers", "a path", "no end", "nothing"],
)
def test_what_is_far_too_long_is_refused(served: Emulator, sent: bytes) -> None:
    assert b" 200 " not in told(served, sent)
    assert is_well(served)


def test_clients_that_never_come_to_an_end_hold_nobody_up(served: Emulator) -> None:
    beginnings = [
        b"",
        b"G",
        b"POST /api/v1/keys HTTP/1.1\r\nHost",
        b"POST /api/v1/keys HTTP/1.1\r\n" + AUTHORIZED + b"Content-Length: 100\r\n\r\n{",
        b"POST /_emulator/faults HTTP/1.1\r\n" + AUTHORIZED + b"Content-Length: 100\r\n\r\n{",
        b"POST /api/v1/keys HTTP/1.1\r\n" + AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n5\r\n",
    ]
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(served)) for _ in range(60)]
        for number, connection in enumerate(slow):
            connection.sendall(beginnings[number % len(beginnings)])

        assert all(is_well(served) for _ in range(20))


def test_a_request_that_comes_a_byte_at_a_time_is_answered(served: Emulator) -> None:
    sent = b"GET /api/v1/key HTTP/1.1\r\nHost: h\r\n" + AUTHORIZED + b"Connection: close\r\n\r\n"
    with connected(served) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in sent:
            connection.sendall(bytes([byte]))
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_a_body_without_an_end_takes_no_memory_and_no_place_in_the_ledger(served: Emulator) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with connected(served) as connection:
        connection.sendall(b"POST /api/v1/keys HTTP/1.1\r\nHost: h\r\n" + AUTHORIZED)
        connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 100)
        assert is_well(served)
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 413"

    assert served.requests[-2].body == b""


def test_garbage_is_not_worth_a_line_in_the_log(
    served: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    for sent in (b"\x16\x03\x01\x00\xff", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n", b"\xff" * 100):
        told(served, sent)

    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("method", ["GET", "POST", "CONNECT"])
def test_it_is_no_proxy(served: Emulator, method: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        place = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        targets = [place, f"http://{place}/api/v1/key", f"/http://{place}/", f"//{place}/"]
        for target in targets:
            head = f"{method} {target} HTTP/1.1\r\nHost: {place}\r\n".encode()
            assert b" 200 " not in told(served, head + AUTHORIZED + b"\r\n")
        assert is_well(served)  # so those have been answered for good

        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


@pytest.mark.slow
def test_a_ledger_that_overflows_stays_as_long_as_it_is(served: Emulator) -> None:
    before = served.count("current")
    sent = b"GET /api/v1/key HTTP/1.1\r\nHost: h\r\n" + AUTHORIZED + b"\r\n"
    with connected(served) as connection:
        connection.sendall(sent * 300)
        received = b""
        while received.count(b"HTTP/1.1 200") < 300:
            received += connection.recv(65536)

    assert len(served.requests) == 100
    assert served.count("current") == before + 300
