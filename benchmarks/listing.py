"""How long does it take to list 10,000 keys over a network, and how many requests?

Method: a server in its own process sends canned pages of 100 keys, each 50 ms after its request.
In turn, in several rounds: this client with `prefetch=1`, which requests a page when its keys are
needed; with its default; and the official SDK (`pip install openrouter`; skipped if it is missing),
page by page, without an overlap. The figures are time by the clock, medians of the rounds, and the
requests of a round; ratios are those of pairs of a round, in brackets the middle half of them.

Last figures (2026-11-29, 2 cores without other work, Python 3.11, aiohttp 3.14.5, openrouter
1.3.84):

============  ============  ==================  ========
by            by the clock  against prefetch=1  requests
============  ============  ==================  ========
prefetch=1    5.73 s        1.00 (1.00-1.00)    111
this client   0.91 s        0.16 (0.16-0.16)    118
official SDK  5.54 s        0.97 (0.97-0.98)    101
============  ============  ==================  ========

    python benchmarks/listing.py [rounds]
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.util import find_spec

import aiohttp
from canned import MANAGEMENT, official, ratio, served
from iterate import KEYS, Pages
from tables import print_table

from openrouter_keys import AsyncOpenRouter

ROUNDS, LATENCY = 7, 0.05

Pass = Callable[[], Awaitable[int]]


class Distant(Pages):
    """Answers with the requested page, after a while; `/requests` is answered with their number."""

    requests = 0

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /requests"):
            told = str(Distant.requests).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(told)}\r\n\r\n"
            self.transport.write(head.encode() + told)
            return
        Distant.requests += 1
        asyncio.get_running_loop().call_later(LATENCY, super().data_received, data)


async def requests(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{url[:-7]}/requests") as told:
        return int(await told.text())


def passes(url: str, client: AsyncOpenRouter) -> dict[str, Pass]:
    async def one_by_one() -> int:
        return len([key.hash async for key in client.api_keys.iterate(prefetch=1)])

    async def ahead() -> int:
        return len([key.hash async for key in client.api_keys.iterate()])

    found: dict[str, Pass] = {"prefetch=1": one_by_one, "this client": ahead}
    if find_spec("openrouter"):
        theirs = official(url).api_keys

        async def sdk() -> int:
            seen = 0
            while keys := (await theirs.list_async(offset=seen)).data:
                seen += len(keys)
            return seen

        found["official SDK"] = sdk
    return found


async def compare(url: str, rounds: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    figures: dict[str, list[float]] = {}
    asked: dict[str, int] = {}
    async with AsyncOpenRouter(MANAGEMENT, server_url=url) as client:
        found = passes(url, client)
        for round in range(-1, rounds):
            for side, go_through in found.items():
                before, begun = await requests(url), time.perf_counter()
                assert await go_through() == KEYS, side
                took, asked[side] = time.perf_counter() - begun, await requests(url) - before
                if round >= 0:  # in the first one the server makes its pages
                    figures.setdefault(side, []).append(took)
    return figures, asked


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with served(Distant) as url:
        figures, asked = asyncio.run(compare(url, rounds))
    slow = figures["prefetch=1"]
    print_table(
        ("by", "by the clock", "against prefetch=1", "requests"),
        *(
            (side, f"{statistics.median(told):.2f} s", ratio(told, slow), asked[side])
            for side, told in figures.items()
        ),
    )


if __name__ == "__main__":
    main()
