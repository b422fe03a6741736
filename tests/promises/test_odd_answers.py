"""Answers that no HTTP library sends, over a real socket."""

import pytest

from openrouter_keys import errors
from tests.clients import FakeTime, api_keys
from tests.raw_server import answer, raw_server
from tests.records import HASH, SECRET, key_json

CREATED = answer({"data": key_json(), "key": SECRET}, status="201 Created")

# --- statuses ---

UNCLEAR: dict[str, bytes] = {
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "103 and no more": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "304 without a body": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    **{
        status: answer({"error": {"message": "No."}}, status=status)
        for status in ("300 a", "301 b", "303 c", "399 d", "420 e", "425 f", "499 g", "999 h")
    },
    "a status of two digits": answer(b"", status="99 x"),
    "a status of four digits": answer(b"", status="2011 x"),
}  # fmt: skip


@pytest.mark.parametrize("raw", UNCLEAR.values(), ids=UNCLEAR)
async def test_a_create_whose_status_does_not_tell_is_unknown_and_sent_once(raw: bytes) -> None:
    with raw_server(lambda _: raw) as server:
        async with api_keys(server.base_url, "key", FakeTime(), timeout=5) as keys:
            with pytest.raises(errors.CreateOutcomeUnknownError) as raised:
                await keys.create(name="new")
    assert len(server.requests) == raised.value.attempts == 1
    assert raised.value.maybe_applied


@pytest.mark.parametrize("hints", [1, 2, 5])
@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints"])
async def test_what_a_service_says_before_its_answer_is_none(status: str, hints: int) -> None:
    early = f"HTTP/1.1 {status}\r\nLink: </x>; rel=preload\r\n\r\n".encode() * hints
    with raw_server(lambda _: early + CREATED) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            created = await keys.create(name="new")
    assert (created.key, created.data.hash) == (SECRET, HASH)
