"""Does memory grow with the number of specs?

Method: a server in its own process sends canned answers, so that 100,000 keys do not take minutes.
For each figure a new process provisions this many specs from a generator, with a journal on disk
and an `on_result` that keeps nothing. The figure is its peak memory (`VmHWM`, so this needs Linux),
with interpreter and imports: the median of three runs for 1,000 specs, one run for 100,000. The
limit: at most 20 MB more.

Last figures (2 cores, busy with other work, Python 3.11, aiohttp 3.14.5, SQLite 3.40):

==========  ===========
specs       peak memory
==========  ===========
1,000       46.1 MB
100,000     47.3 MB
difference  1.2 MB
==========  ===========

    python benchmarks/memory.py [specs]
"""

import asyncio
import re
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from canned import KEY, MANAGEMENT, CannedAnswers, answer, served, spawning
from tables import print_table

from openrouter_keys import AsyncOpenRouter, KeySpec

FEW, ROUNDS = 1000, 3
NO_KEYS = answer(200, b'{"data": []}')


class EmptyAccount(CannedAnswers):
    """Makes the same key at each create, and lists none."""

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            self.transport.write(NO_KEYS)
        else:
            super().data_received(data)


async def provision(url: str, count: int) -> None:
    specs = (
        KeySpec(ref=f"customer-{n}", name=str(KEY["name"]), limit=50) for n in range(count)
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncOpenRouter(MANAGEMENT, server_url=url) as client:
            report = await client.provision(
                specs, journal=Path(folder) / "keys.journal", on_result=lambda _: None
            )
    assert report.created == count, report


def peak() -> float:
    """Return the peak memory of this process in megabytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def provisioned(url: str, count: int) -> float:
    asyncio.run(provision(url, count))
    return peak()


def measured(url: str, count: int) -> float:
    """Return the peak of a process that provisions this many specs, and does nothing else."""
    begun = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=spawning) as pool:
        megabytes = pool.submit(provisioned, url, count).result()
    print(f"{count:,} specs: {megabytes:.1f} MB, {time.perf_counter() - begun:.0f} s", flush=True)
    return megabytes


def main() -> None:
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with served(EmptyAccount) as url:
        few = statistics.median(measured(url, FEW) for _ in range(ROUNDS))
        most = measured(url, many)
    print_table(
        ("specs", "peak memory"),
        (f"{FEW:,}", f"{few:.1f} MB"),
        (f"{many:,}", f"{most:.1f} MB"),
        ("difference", f"{most - few:.1f} MB"),
    )


if __name__ == "__main__":
    main()
