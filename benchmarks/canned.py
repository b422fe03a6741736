"""A server of canned answers in its own process, and comparisons; this is no benchmark."""

import asyncio
import json
import multiprocessing
import statistics
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from itertools import count
from typing import Any

# A new process, not a fork: a fork begins with its parent's memory.
spawning = multiprocessing.get_context("spawn")

#: A management key as long as the real ones: each answer is searched for it.
MANAGEMENT = "sk-or-v1-" + "a7" * 32
SECRET = "sk-or-v1-" + "5e" * 32
HASH = sha256(SECRET.encode()).hexdigest()
KEY = {
    "hash": HASH,
    "name": "customer-42",
    "label": "sk-or-v1-5e5...5e5e",
    "disabled": False,
    "include_byok_in_limit": False,
    "limit": 50,
    "limit_remaining": 24.5,
    "limit_reset": "monthly",
    **dict.fromkeys(("usage", "usage_daily", "usage_weekly", "usage_monthly"), 25.5),
    **dict.fromkeys(("byok_usage", "byok_usage_daily"), 0),
    **dict.fromkeys(("byok_usage_weekly", "byok_usage_monthly"), 17.38),
    "created_at": "2025-08-24T10:30:00Z",
    "updated_at": "2025-08-24T15:45:00Z",
    "expires_at": "2027-12-31T23:59:59Z",
    "creator_user_id": "user_2dHF",
    "workspace_id": "0df9e665-d932-5740-b2c7-b52af166bc11",
    "external_user": None,
    "last_used_at": None,
}


def page(offset: int = 0, size: int = 100) -> bytes:
    """Return the JSON of one page of keys."""
    keys = [{**KEY, "hash": f"{number:064x}"} for number in range(offset, offset + size)]
    return json.dumps({"data": keys}).encode()


def answer(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


ONE = json.dumps({"data": KEY}).encode()
CREATED = answer(201, json.dumps({"data": KEY, "key": SECRET}).encode())
NUMBERS = count()
GOT, LISTED = answer(200, ONE), answer(200, page())


def created() -> bytes:
    """Return the answer to a create: a key of its own, since a copy is not a new key."""
    secret = f"sk-or-v1-{next(NUMBERS):064x}"
    hash = sha256(secret.encode()).hexdigest()
    return CREATED.replace(SECRET.encode(), secret.encode()).replace(HASH.encode(), hash.encode())


class CannedAnswers(asyncio.Protocol):
    """Answers any request: a POST is a create, an offset a list, anything else a get."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end or (head.startswith(b"POST") and not body.endswith(b"}")):
            return
        self.received = b""
        self.answer_later(head.partition(b"\r\n")[0])

    def answer_later(self, line: bytes) -> None:
        self.transport.write(self.answer_to(line))

    def answer_to(self, line: bytes) -> bytes:
        if line.startswith(b"POST"):
            return created()
        return LISTED if b"offset" in line else GOT


def serve(kind: type[CannedAnswers], ports: "multiprocessing.Queue[int]") -> None:
    async def listen() -> None:
        server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(listen())


@contextmanager
def served(kind: type[CannedAnswers] = CannedAnswers) -> Generator[str]:
    """Serve until the block ends, and yield the base URL."""
    ports: multiprocessing.Queue[int] = spawning.Queue()
    process = spawning.Process(target=serve, args=(kind, ports), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get()}/api/v1"
    finally:
        process.terminate()
        process.join()


def official(url: str) -> Any:
    """Return a client of the official SDK (`pip install openrouter`)."""
    return import_module("openrouter").OpenRouter(api_key=MANAGEMENT, server_url=url)


def ratio(these: Sequence[float], those: Sequence[float]) -> str:
    """Return the median of the rounds' ratios, and the middle half of them, as text."""
    ratios = [this / that for this, that in zip(these, those, strict=True)]
    lower, middle, upper = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({lower:.2f}-{upper:.2f})"
