"""What does it cost to go through 10,000 keys?

Method: a server in its own process sends canned pages of 100 keys. Bare aiohttp gets each page and
reads it with `json`. This client iterates, async and blocking: it makes records, and checks that
pages join (they overlap by a key). The official SDK (`pip install openrouter`; skipped if it is
missing) lists page by page. In turn, in several rounds; the figure is this process's CPU time for a
whole pass. Ratios are medians of the rounds, in brackets the middle half of the rounds.

Last figures (2 shared cores, Python 3.11, aiohttp 3.14.5, openrouter 1.3.84):

=====================  =======  ====================
by                     CPU      against bare aiohttp
=====================  =======  ====================
bare aiohttp           0.055 s  1.00 (1.00-1.00)
this client            0.060 s  1.09 (1.04-1.11)
this client, blocking  0.075 s  1.36 (1.30-1.38)
official SDK           0.341 s  6.33 (5.91-6.70)
=====================  =======  ====================

    python benchmarks/iterate.py
"""

import asyncio
import json
import re
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import cache
from importlib.util import find_spec

import aiohttp
from canned import MANAGEMENT, CannedAnswers, answer, official, page, ratio, served
from tables import print_table

from openrouter_keys import AsyncOpenRouter, OpenRouter

ROUNDS, KEYS = 5, 10_000

Pass = Callable[[], Awaitable[int]]


@cache
def page_at(offset: int) -> bytes:
    return answer(200, page(offset, max(0, min(100, KEYS - offset))))


class Pages(CannedAnswers):
    """Answers with the requested page."""

    def answer_to(self, line: bytes) -> bytes:
        found = re.search(rb"offset=(\d+)", line)
        return page_at(int(found[1]) if found else 0)


async def passes(url: str, stack: AsyncExitStack) -> dict[str, Pass]:
    session = await stack.enter_async_context(aiohttp.ClientSession())
    client = await stack.enter_async_context(AsyncOpenRouter(MANAGEMENT, server_url=url))
    blocking = stack.enter_context(OpenRouter(MANAGEMENT, server_url=url))

    async def bare() -> int:
        seen = 0
        while True:
            async with session.get(f"{url}/keys?offset={seen}") as response:
                keys = json.loads(await response.read())["data"]
            if not keys:
                return seen
            seen += len(keys)

    async def ours() -> int:
        return len([key.hash async for key in client.api_keys.iterate()])

    async def ours_blocking() -> int:
        return await asyncio.to_thread(lambda: sum(1 for _ in blocking.api_keys.iterate()))

    found: dict[str, Pass] = {
        "bare aiohttp": bare, "this client": ours, "this client, blocking": ours_blocking,
    }  # fmt: skip
    if find_spec("openrouter"):
        theirs = (await stack.enter_async_context(official(url))).api_keys

        async def sdk() -> int:
            seen = 0
            while keys := (await theirs.list_async(offset=seen)).data:
                seen += len(keys)
            return seen

        found["official SDK"] = sdk
    return found


async def compare(url: str) -> dict[str, list[float]]:
    async with AsyncExitStack() as stack:
        found = await passes(url, stack)
        figures: dict[str, list[float]] = {side: [] for side in found}
        for round in range(-1, ROUNDS):
            for side, go_through in found.items():
                begun = time.process_time()
                assert await go_through() == KEYS, side
                if round >= 0:  # in the first one the server makes its pages
                    figures[side].append(time.process_time() - begun)
    return figures


def main() -> None:
    with served(Pages) as url:
        figures = asyncio.run(compare(url))
    print_table(
        ("by", "CPU", "against bare aiohttp"),
        *(
            (side, f"{statistics.median(told):.3f} s", ratio(told, figures["bare aiohttp"]))
            for side, told in figures.items()
        ),
    )


if __name__ == "__main__":
    main()
