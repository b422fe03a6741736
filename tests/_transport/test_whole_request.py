"""A request's head and body leave together, and no change of aiohttp can lose the body."""

import asyncio
import json

import aiohttp
import pytest

from openrouter_keys import AsyncOpenRouter, errors
from openrouter_keys._transport import whole_request
from openrouter_keys.emulator import Emulator
from openrouter_keys.errors import JSON
from tests.raw_server import answer


class Recorder(asyncio.Protocol):
    """Refuses each request, and keeps what each read of the socket brought."""

    def __init__(self, reads: list[bytes]) -> None:
        self._reads = reads

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reads.append(data)
        if data.endswith(b"}"):
            refusal: JSON = {"error": {"code": 400, "message": "no"}}
            self._transport.write(answer(refusal, status="400 Bad Request"))


async def test_a_create_is_one_write_and_no_task_of_aiohttps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads: list[bytes] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Recorder(reads), "127.0.0.1", 0)
    monkeypatch.setattr(aiohttp.ClientRequest, "write_bytes", None)  # it would be the task's
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
    async with server, AsyncOpenRouter("key", server_url=url) as client:
        client._transport.ready()
        # What another test's library traces, such as Sentry, is sent as aiohttp sends it.
        client._transport._wire._session.trace_configs.clear()
        with pytest.raises(errors.BadRequestResponseError):
            await client.api_keys.create(name="Müller", limit=50)
    ((head, _, body),) = [each.partition(b"\r\n\r\n") for each in reads]
    assert head.startswith(b"POST /api/v1/keys HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"name": "Müller", "limit": 50}


@pytest.mark.parametrize("lost", ["StreamWriter", "as_bytes"])
async def test_with_an_aiohttp_of_other_names_a_create_is_sent_as_aiohttp_sends_it(
    lost: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = whole_request if lost == "StreamWriter" else aiohttp.BytesPayload

    def refuse(*_: object, **__: object) -> None:
        raise TypeError("got an unexpected argument")

    monkeypatch.setattr(owner, lost, refuse)
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        created = await client.api_keys.create(name="one")
    assert emulator.count("create") == 1
    assert emulator.account.keys[created.data.hash].name == "one"


@pytest.mark.filterwarnings("ignore:Sending a large body")  # a short one fits into the sockets
async def test_a_server_may_answer_before_it_has_read_a_long_body() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        refusal: JSON = {"error": {"code": 413, "message": "too long"}}
        writer.write(answer(refusal, status="413 Content Too Large"))
        await writer.drain()
        await over.wait()
        writer.close()

    over = asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=2**10)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
    async with server, AsyncOpenRouter("key", server_url=url, timeout_ms=5000) as client:
        try:
            with pytest.raises(errors.OpenRouterDefaultError, match="413"):
                await client.api_keys.create(name="x" * 2**23)
        finally:
            over.set()
