"""What does a plan for 10,000 unchanged keys cost, against reading each key by itself?

Method: an emulator in its own process, which answers each request after `latency` seconds (0). A
real provision makes the keys. Then `plan_apply` with their specs, and `apply`, which has nothing to
do; and one `get` for each key: one after the other, and ten at once, as declarative tools do that
know of each resource alone. The requests are those of the emulator's ledger, and so is the ratio.
The seconds are those of the whole call, with the making of the specs and the reading of the
journal.

Last figures (2026-11-29, 2 cores, very busy with other work, Python 3.11, aiohttp 3.14.5,
SQLite 3.40):

======================  ==========  =====  =======
10,000 keys             requests    ratio  seconds
======================  ==========  =====  =======
plan_apply              115 list    1      11.6
apply                   118 list    1      10.7
one by one, 10 at once  10,000 get  87     50.4
one by one              10,000 get  87     80.8
======================  ==========  =====  =======

    python benchmarks/apply.py [keys] [latency]
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from emulated import Emulated, emulated
from tables import print_table

from openrouter_keys import AsyncOpenRouter, KeySpec
from openrouter_keys.journal.journal import Journal

#: How many resources such a tool reads at once.
AT_ONCE = 10


def specs(count: int) -> list[KeySpec]:
    return [KeySpec(ref=f"c-{n}", name=f"customer {n}", limit=50) for n in range(count)]


async def hashes_in(path: Path) -> list[str]:
    async with Journal.read(path) as journal:
        return [str(entry.hash) async for entry in journal.every()]


async def read_each(client: AsyncOpenRouter, hashes: list[str], at_once: int) -> None:
    waiting = iter(hashes)

    async def read() -> None:
        for hash in waiting:
            await client.api_keys.get(hash)

    await asyncio.gather(*(read() for _ in range(at_once)))


async def measure(
    server: Emulated, act: Callable[[AsyncOpenRouter], Awaitable[object]]
) -> tuple[Counter[str], float]:
    before = len(server.requests())
    began = time.perf_counter()
    async with server.client() as client:
        await act(client)
    seconds = time.perf_counter() - began
    return Counter(each["operation"] for each in server.requests()[before:]), seconds


async def main(count: int, latency: float) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        emulated(ledger_size=8 * count + 1000, ledger_bytes=10**9) as server,
    ):
        path = Path(folder) / "keys.journal"
        async with server.client() as client:
            await client.provision(specs(count), journal=path)
        server.set([], {"latency": latency})
        hashes = await hashes_in(path)

        async def plan(client: AsyncOpenRouter) -> None:
            plan = await client.plan_apply(specs(count), journal=path)
            assert (plan.unchanged, plan.changes) == (count, ())

        async def apply(client: AsyncOpenRouter) -> None:
            report = await client.apply(specs(count), journal=path)
            assert report.ok
            assert not report.changed

        ways: dict[str, Callable[[AsyncOpenRouter], Awaitable[object]]] = {
            "plan_apply": plan,
            "apply": apply,
            f"one by one, {AT_ONCE} at once": lambda client: read_each(client, hashes, AT_ONCE),
            "one by one": lambda client: read_each(client, hashes, 1),
        }
        rows = list[tuple[str, str, str, str]]()
        fewest = 0
        for name, way in ways.items():
            requests, seconds = await measure(server, way)
            fewest = fewest or requests.total()
            told = ", ".join(f"{number:,} {what}" for what, number in requests.items())
            rows.append((name, told, f"{requests.total() / fewest:.0f}", f"{seconds:.1f}"))
        print_table((f"{count:,} keys", "requests", "ratio", "seconds"), *rows)


if __name__ == "__main__":
    asyncio.run(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 10_000,
            float(sys.argv[2]) if len(sys.argv) > 2 else 0.0,
        )
    )
