"""Bodies of any packing and any size: read where another client reads them, and bounded."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys import errors
from openrouter_keys._transport import bodies
from openrouter_keys._transport.bodies import MOST, MOST_OF_ERROR, content
from tests._protocol.test_salvage import text
from tests.clients import FakeTime, api_keys
from tests.raw_server import answer, raw_server
from tests.records import HASH, SECRET, key_json, patient
from tests.tables import in_one_test

PLAIN = text({"data": key_json(), "key": SECRET})
PACKED = gzip.compress(PLAIN)
WRONG = bytearray(PACKED)
WRONG[-8:] = b"\0" * 8  # a checksum that does not fit

READ: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "gzip": (PACKED, ("gzip",)),
    "GZIP": (PACKED, (" GZip ",)),
    "x-gzip": (PACKED, ("x-gzip",)),
    "gzip named twice": (PACKED, ("gzip", "gzip")),
    "gzip named twice in one line": (PACKED, ("gzip, gzip",)),
    "gzip twice": (gzip.compress(PACKED), ("gzip, gzip",)),
    "plain, labelled gzip": (PLAIN, ("gzip",)),
    "plain, labelled deflate": (PLAIN, ("deflate",)),
    "plain, labelled br": (PLAIN, ("br",)),
    "plain, labelled zstd": (PLAIN, ("zstd",)),
    "plain, labelled by nobody's name": (PLAIN, ("rot13, identity",)),
    "plain, with an empty label": (PLAIN, ("",)),
    "gzip, labelled deflate": (PACKED, ("deflate",)),
    "zlib, labelled gzip": (zlib.compress(PLAIN), ("gzip",)),
    "deflate": (zlib.compress(PLAIN), ("deflate",)),
    "deflate without a header": (zlib.compress(PLAIN, wbits=-15), ("deflate",)),
    "deflate in gzip": (gzip.compress(zlib.compress(PLAIN)), ("deflate, gzip",)),
    "gzip in two members": (gzip.compress(PLAIN[:99]) + gzip.compress(PLAIN[99:]), ("gzip",)),
    "gzip, and garbage behind it": (PACKED + b"garbage", ("gzip",)),
    "gzip with a wrong checksum": (bytes(WRONG), ("gzip",)),
    "gzip without its end": (PACKED[:-8], ("gzip",)),
}


@pytest.mark.parametrize(("body", "labels"), READ.values(), ids=READ)
async def test_a_packed_answer_is_read_as_others_read_it(
    body: bytes, labels: tuple[str, ...]
) -> None:
    raw = answer(body, *(f"Content-Encoding: {label}" for label in labels), status="201 Created")
    with raw_server(lambda _: raw) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            created = await keys.create(name="new")
    assert (created.key, created.data.hash) == (SECRET, HASH)
    assert b"accept-encoding: identity\r\n" in server.requests[0].lower()


def test_zstd_is_read_where_python_can() -> None:
    zstd = pytest.importorskip("compression.zstd")
    assert content(zstd.compress(PLAIN), ["zstd"], MOST) == PLAIN
    assert len(content(zstd.compress(bytes(MOST * 2)), ["zstd"], MOST)) == MOST + 1


HEADERS: dict[str, tuple[str, ...]] = {
    "one header of 9,000 bytes": ("X-Trace: " + "t" * 9_000,),
    "one header of 60,000 bytes": ("X-Trace: " + "t" * 60_000,),
    "130 headers": tuple(f"X-{n}: {n}" for n in range(130)),
    "500 headers": tuple(f"X-{n}: {n}" for n in range(500)),
    "a cookie thirty times": ("Set-Cookie: a=" + "b" * 3_000,) * 30,
    "a header that is no ASCII": ("X-Trace: \u00fc\u4e2d",),
    "a header without a value": ("X-Trace:",),
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
async def test_an_answer_with_odd_headers_is_read(headers: tuple[str, ...]) -> None:
    raw = answer(PLAIN, *headers, status="201 Created")
    with raw_server(lambda _: raw) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            assert (await keys.create(name="new")).key == SECRET


async def test_others_may_be_packed() -> None:
    raw = answer(gzip.compress(text({"data": [key_json()]})), "Content-Encoding: gzip")
    with raw_server(lambda _: raw) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            assert len((await keys.list()).data) == 1
    assert b"accept-encoding: gzip, deflate\r\n" in server.requests[0].lower()


# --- bounds ---

BOMB = gzip.compress(b" " * (5 * MOST), 1)
HUGE: dict[str, bytes] = {
    "unpacked": answer(BOMB, "Content-Encoding: gzip"),
    "unpacked twice": answer(gzip.compress(BOMB), "Content-Encoding: gzip, gzip"),
    "in members": answer(gzip.compress(b" " * 2**20) * 99, "Content-Encoding: gzip"),
    "plain": answer(b" " * (2 * MOST)),
    "without a length": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (2 * MOST),
}


@pytest.mark.slow
@pytest.mark.parametrize("raw", HUGE.values(), ids=HUGE)
async def test_a_body_takes_no_more_memory_than_is_documented(raw: bytes) -> None:
    with raw_server(lambda _: raw) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            tracemalloc.start()
            with pytest.raises(errors.MalformedBodyError, match="longer than 16,777,216 bytes"):
                await keys.get_current_key_metadata()
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert most < 6 * MOST
    assert len(server.requests) == 3


@pytest.mark.parametrize("raw", HUGE.values(), ids=HUGE)
async def test_an_error_keeps_little_of_a_body(raw: bytes) -> None:
    raw = raw.replace(b"200 OK", b"403 No")
    with raw_server(lambda _: raw) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            with pytest.raises(errors.ForbiddenResponseError) as raised:
                await keys.list()
    assert len(raised.value.body) <= MOST_OF_ERROR


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (PLAIN[:-1] + b"," + b" " * 2 * MOST, errors.CreatedKeyUnreadableError),
        (b" " * 2 * MOST, errors.SecretLostError),
    ],
    ids=["behind the secret", "without one"],
)
async def test_the_secret_is_looked_for_in_what_came(
    body: bytes, error: type[errors.OpenRouterError]
) -> None:
    with raw_server(lambda _: answer(body, status="201 Created")) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            with pytest.raises(error) as raised:
                await keys.create(name="new")
    assert getattr(raised.value, "key", SECRET) == SECRET
    assert len(server.requests) == 1


async def test_an_error_keeps_few_headers_and_those_that_count() -> None:
    headers = [*(f"X-{n}: {'x' * 30_000}" for n in range(50)), "Retry-After: 300", "X-Last: 1"]
    with raw_server(lambda _: answer({}, *headers, status="429 No")) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            with pytest.raises(errors.TooManyRequestsResponseError) as raised:
                await keys.list()
    kept = raised.value.headers
    assert sum(len(name) + len(value) for name, value in kept.items()) <= MOST_OF_ERROR
    assert (raised.value.retry_after, kept["X-Last"]) == (300.0, "1")


PACKERS: list[Callable[[bytes], bytes]] = [
    gzip.compress,
    zlib.compress,
    lambda body: zlib.compress(body, wbits=-15),
]


@pytest.mark.slow
@patient
@given(st.binary(), st.lists(st.sampled_from(["gzip", "deflate", "br", "zstd", "x"]), max_size=3))
def test_no_body_is_too_odd(body: bytes, labels: list[str]) -> None:
    assert len(content(body, labels, 50)) <= 51


@in_one_test("pack", PACKERS)
@in_one_test("at", [0.3, 0.6, 0.9])
def test_what_comes_before_a_fault_is_kept(pack: Callable[[bytes], bytes], at: float) -> None:
    body = bytearray(pack(PLAIN * 3))
    place = int(len(body) * at)
    body[place : place + 4] = b"\xff\xff\xff\xff"
    found = content(bytes(body), ["deflate"], bodies.MOST)
    assert found[:30] == PLAIN[:30]
