"""What does a call cost in CPU, against bare aiohttp and `json`?

Run: ``python benchmarks/cpu_per_request.py`` (in an environment that has openrouter_keys).

Method: a server of its own process sends canned answers. Sixteen workers ask at once, bare aiohttp
and this client in turn, several rounds; the figure is this process's CPU time for a call. Ratios
are of medians, since machines differ; the spread is that of the rounds.

Last figures (2 shared cores, Python 3.11, aiohttp 3.14.5):

======  =====  =============  =============
call    ratio  bare aiohttp   this client
======  =====  =============  =============
create  1.68   0.215 ms       0.361 ms
get     1.78   0.191 ms       0.340 ms
list    3.36   0.859 ms       2.887 ms
======  =====  =============  =============
"""

import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256

import aiohttp

from openrouter_keys import AsyncOpenRouter

ROUNDS, WORKERS = 7, 16
CALLS = {"create": 3200, "get": 3200, "list": 640}

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
PAGE = [{**KEY, "hash": f"{number:064x}"} for number in range(100)]


def answer(status: int, value: object) -> bytes:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


CREATED, GOT, LISTED = (
    answer(201, {"data": KEY, "key": SECRET}),
    answer(200, {"data": KEY}),
    answer(200, {"data": PAGE}),
)


class CannedAnswers(asyncio.Protocol):
    """Answers whatever comes: a POST is a create, an offset a list, anything else a get."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end or (head.startswith(b"POST") and not body.endswith(b"}")):
            return
        self.received = b""
        line = head.partition(b"\r\n")[0]
        is_list = b"offset" in line
        self.transport.write(CREATED if line.startswith(b"POST") else LISTED if is_list else GOT)


def serve(ports: "multiprocessing.Queue[int]") -> None:
    async def listen() -> None:
        server = await asyncio.get_running_loop().create_server(CannedAnswers, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(listen())


async def cpu(call: Callable[[], Awaitable[object]], calls: int) -> float:
    """Milliseconds of CPU for a call."""

    async def work() -> None:
        for _ in range(calls // WORKERS):
            await call()

    begun = time.process_time()
    await asyncio.gather(*(work() for _ in range(WORKERS)))
    return (time.process_time() - begun) / calls * 1000


async def compare(port: int) -> None:
    url = f"http://127.0.0.1:{port}/api/v1"
    headers = {"Authorization": "Bearer key"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        AsyncOpenRouter("key", server_url=url) as client,
    ):

        async def bare(method: str, path: str, body: object = None) -> object:
            async with session.request(method, url + path, json=body) as response:
                return json.loads(await response.read())

        keys = client.api_keys
        pairs: dict[str, tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]]
        pairs = {
            "create": (
                lambda: bare("POST", "/keys", {"name": "customer-42", "limit": 50}),
                lambda: keys.create(name="customer-42", limit=50),
            ),
            "get": (lambda: bare("GET", f"/keys/{HASH}"), lambda: keys.get(HASH)),
            "list": (lambda: bare("GET", "/keys?offset=0"), lambda: keys.list(offset=0)),
        }
        for name, (theirs, ours) in pairs.items():
            rounds = [(await cpu(theirs, CALLS[name]), await cpu(ours, CALLS[name]))
                      for _ in range(ROUNDS)]  # fmt: skip
            report(name, [pair[0] for pair in rounds], [pair[1] for pair in rounds])


def report(name: str, bare: list[float], ours: list[float]) -> None:
    ratio = statistics.median(ours) / statistics.median(bare)
    both = "  ".join(
        f"{statistics.median(times):.3f} ({min(times):.2f}-{max(times):.2f}) ms"
        for times in (bare, ours)
    )
    print(f"{name:7} {ratio:5.2f}  {both}")


def main() -> None:
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(ports,), daemon=True)
    server.start()
    print("call    ratio  bare aiohttp                 this client")
    asyncio.run(compare(ports.get()))
    server.terminate()


if __name__ == "__main__":
    main()
