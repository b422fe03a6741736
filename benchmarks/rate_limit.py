"""How much of a rate limit do accepted creates use, and how many are rejected?

Method: an emulator in its own process for each run, with a token bucket as rate limit; a 429 has a
`Retry-After` in whole seconds, or none. `provision` runs with a journal on disk, 32 creates at once
and as many specs as the limit accepts in 30 s, and again with `rate=` set to the limit. It is
compared with 32 workers on bare aiohttp that send a rejected create again at once, for 3 s. The
figure is accepted keys without the first burst, divided by the seconds of the whole call. Runs of
both limits go at once, bare ones alone. The goals: at least 0.9 of the limit, and fewer than 2 % of
the requests rejected.

Last figures (2026-11-29, 2 cores without other work, Python 3.11, aiohttp 3.14.5, SQLite 3.40).
With `rate=` the goal is reached. Without it, a `Retry-After` of a whole second pauses every create
for that long each time the rate is tried, and a slow limit rejects a few more in finding it:

============  ===========  ================  =============  ========  ========  ==========  ========
limit         Retry-After  way               keys a second  of limit  rejected  most tries  the goal
============  ===========  ================  =============  ========  ========  ==========  ========
50 a second   none         bare aiohttp      49.6           0.99      99.6%     891         missed
200 a second  none         bare aiohttp      199.4          1.00      98.4%     387         missed
50 a second   none         provision         47.7           0.95      2.3%      2           missed
200 a second  none         provision         195.4          0.98      0.7%      2           reached
50 a second   seconds      bare aiohttp      49.6           0.99      99.6%     991         missed
200 a second  seconds      bare aiohttp      199.4          1.00      98.4%     504         missed
50 a second   seconds      provision         42.6           0.85      2.0%      3           missed
200 a second  seconds      provision         164.3          0.82      0.5%      3           missed
50 a second   none         provision, rate=  49.6           0.99      0.0%      1           reached
200 a second  none         provision, rate=  199.1          1.00      0.0%      1           reached
============  ===========  ================  =============  ========  ========  ==========  ========

    python benchmarks/rate_limit.py [seconds]
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import aiohttp
from emulated import Emulated, emulated
from tables import print_table

from openrouter_keys import KeySpec

CONCURRENCY, BARE_SECONDS = 32, 3.0
#: The goal: how much of the limit is used, and how many requests are rejected.
LEAST_USED, MOST_REJECTED = 0.9, 0.02


class Limit(NamedTuple):
    """The rate limit of the service."""

    rate: float
    burst: int


LIMITS = (Limit(50, 10), Limit(200, 20))


async def provision(server: Emulated, limit: Limit, seconds: float, rate: float | None) -> None:
    count = int(limit.rate * seconds)
    specs = (KeySpec(ref=f"customer-{n}", name=f"customer-{n}", limit=50) for n in range(count))
    with tempfile.TemporaryDirectory() as folder:
        async with server.client() as client:
            report = await client.provision(
                specs, journal=Path(folder) / "keys.journal", concurrency=CONCURRENCY, rate=rate
            )
    assert report.created == count, report


async def bare(server: Emulated, seconds: float) -> None:
    """Create with bare aiohttp until the time is over; send a rejected create again at once."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    names = (f"customer-{n}" for n in range(sys.maxsize))
    ends = time.monotonic() + seconds

    async def create(session: aiohttp.ClientSession, name: str) -> None:
        body = {"name": name, "limit": 50}
        while time.monotonic() < ends:
            async with session.post(f"{server.base_url}/keys", json=body) as response:
                await response.read()
                if response.status == 201:
                    return

    async def work(session: aiohttp.ClientSession) -> None:
        for name in names:
            await create(session, name)
            if time.monotonic() >= ends:
                return

    async with aiohttp.ClientSession(headers=headers) as session:
        await asyncio.gather(*(work(session) for _ in range(CONCURRENCY)))


async def seconds_of(doing: Awaitable[None]) -> float:
    begun = time.perf_counter()
    await doing
    return time.perf_counter() - begun


async def together(runs: list[Awaitable[None]]) -> list[float]:
    return [*await asyncio.gather(*map(seconds_of, runs))]


def measure(
    way: str,
    retry_after: str,
    run: Callable[[Emulated, Limit], Awaitable[None]],
    limits: tuple[Limit, ...] = LIMITS,
) -> list[tuple[str, ...]]:
    """Return a row for each limit; their runs go at the same time."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                emulated(rate_limit={**limit._asdict(), "retry_after": retry_after})
            )
            for limit in limits
        ]
        took = asyncio.run(together([*map(run, servers, limits)]))
        return [
            (f"{limit.rate} a second", retry_after, way, *figures(server, limit, seconds))
            for limit, server, seconds in zip(limits, servers, took, strict=True)
        ]


def figures(server: Emulated, limit: Limit, seconds: float) -> tuple[str, ...]:
    requests = server.requests()
    rejected = sum(request["status"] == 429 for request in requests)
    tries = Counter(request["name"] for request in requests if request["operation"] == "create")
    goodput = (len(server.live()) - limit.burst) / seconds
    used, lost = goodput / limit.rate, rejected / len(requests)
    return (
        f"{goodput:.1f}",
        f"{used:.2f}",
        f"{lost:.1%}",
        f"{max(tries.values())}",
        "reached" if used >= LEAST_USED and lost < MOST_REJECTED else "missed",
    )


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    rows: list[tuple[str, ...]] = []
    for advice in ("none", "seconds"):
        for limit in LIMITS:
            rows += measure(
                "bare aiohttp", advice, lambda server, _: bare(server, BARE_SECONDS), (limit,)
            )
        rows += measure(
            "provision", advice, lambda server, limit: provision(server, limit, seconds, None)
        )
    rows += measure(
        "provision, rate=",
        "none",
        lambda server, limit: provision(server, limit, seconds, limit.rate),
    )
    heads = ("limit", "Retry-After", "way", "keys a second", "of limit", "rejected", "most tries")
    print_table((*heads, "the goal"), *rows)


if __name__ == "__main__":
    main()
