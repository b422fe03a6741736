"""How many keys a second does a run with a journal make, against bare aiohttp?

Method: an emulator in its own process, new for each run; 32 creates at once. Each round runs bare
aiohttp, a provision into a journal on the disk of a temporary folder, and one that also hands each
key to an `on_result`, one after the other. Without latency each of the two processes needs its own
core, and only CPU counts; 20 ms a create is nearer to the service, where a create took 0.4 s. Keys
a second are those of the whole call, with the opening and closing of the journal. CPU is that of
the client's process with its threads. Medians of the rounds, ratios of medians.

Last figures (2 cores, busy with other work, Python 3.11, aiohttp 3.14.5, SQLite 3.40):

=======  ==================  =============  =====  =========  =====
latency  way                 keys a second  ratio  CPU a key  ratio
=======  ==================  =============  =====  =========  =====
0 ms     bare aiohttp        2,020          1.00   150 us     1.00
0 ms     journal             1,026          0.51   397 us     2.64
0 ms     journal, on_result  1,044          0.52   479 us     3.19
20 ms    bare aiohttp        963            1.00   163 us     1.00
20 ms    journal             802            0.83   467 us     2.87
20 ms    journal, on_result  849            0.88   498 us     3.06
=======  ==================  =============  =====  =========  =====

    python benchmarks/provisioning.py [keys]
"""

import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
from emulated import Emulated, emulated
from tables import print_table

from openrouter_keys import KeySpec

ROUNDS, CONCURRENCY = 5, 32
LATENCIES = (0.0, 0.02)


class Pace(NamedTuple):
    """Keys a second, and microseconds of CPU a key."""

    rate: float
    cpu: float


async def bare(server: Emulated, keys: int) -> None:
    """Create with aiohttp and `json` only, and drop the secrets."""
    names = (f"customer-{n}" for n in range(keys))
    headers = {"Authorization": f"Bearer {server.api_key}"}

    async def work(session: aiohttp.ClientSession) -> None:
        for name in names:
            body = {"name": name, "limit": 50}
            async with session.post(f"{server.base_url}/keys", json=body) as response:
                assert json.loads(await response.read())["key"]

    async with aiohttp.ClientSession(headers=headers) as session:
        await asyncio.gather(*(work(session) for _ in range(CONCURRENCY)))


def specs(keys: int) -> Iterator[KeySpec]:
    return (KeySpec(ref=f"customer-{n}", name=f"customer-{n}", limit=50) for n in range(keys))


async def journalled(server: Emulated, keys: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with server.client() as client:
            report = await client.provision(
                specs(keys), journal=Path(folder) / "keys.journal", concurrency=CONCURRENCY
            )
    assert report.created == keys


async def handed_over(server: Emulated, keys: int) -> None:
    secrets: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with server.client() as client:
            await client.provision(
                specs(keys),
                journal=Path(folder) / "keys.journal",
                concurrency=CONCURRENCY,
                on_result=lambda result: secrets.update({result.ref: result.key}),
            )
    assert len(secrets) == keys


WAYS: dict[str, Callable[[Emulated, int], Awaitable[None]]] = {
    "bare aiohttp": bare,
    "journal": journalled,
    "journal, on_result": handed_over,
}


async def timed(doing: Awaitable[None], keys: int) -> Pace:
    cpu, wall = time.process_time(), time.perf_counter()
    await doing
    return Pace(keys / (time.perf_counter() - wall), (time.process_time() - cpu) / keys * 1e6)


def pace(way: str, keys: int, latency: float) -> Pace:
    gc.collect()
    with emulated(latency=latency) as server:
        return asyncio.run(timed(WAYS[way](server, keys), keys))


def compare(keys: int, latency: float) -> list[tuple[str, ...]]:
    rounds = [{way: pace(way, keys, latency) for way in WAYS} for _ in range(ROUNDS)]
    medians = {
        way: Pace(*map(statistics.median, zip(*(paces[way] for paces in rounds), strict=True)))
        for way in WAYS
    }
    slow = medians["bare aiohttp"]
    return [
        (
            f"{latency * 1000:.0f} ms",
            way,
            f"{found.rate:,.0f}",
            f"{found.rate / slow.rate:.2f}",
            f"{found.cpu:.0f} us",
            f"{found.cpu / slow.cpu:.2f}",
        )
        for way, found in medians.items()
    ]


def main() -> None:
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    rows = [row for latency in LATENCIES for row in compare(keys, latency)]
    print_table(("latency", "way", "keys a second", "ratio", "CPU a key", "ratio"), *rows)


if __name__ == "__main__":
    main()
