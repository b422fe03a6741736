"""What does sharing a journal cost, and what does it bring?

Method: an emulator in its own process. First, one process provisions into a new file without
latency, by this version and by an earlier one (`--against`, the root of its source), in turn; the
client's CPU (user and system) and its wall time are those of the whole call. Medians of the rounds,
ratios of medians. Then 1, 2 and 4 processes provision the same refs into one new file at once, at
20 ms a create and 8 creates at once each: keys a second until all have ended, with their starts.
Third, PostgreSQL against SQLite (`--postgresql`): one process, 20 ms a create, 32 at once, pairs in
turn. Fourth, `ensure` of a ref that has its key, 2,000 times one after the other.

Last figures (2 cores, with a load of 14 from other work, 1,500 keys, Python 3.11): in that state
both parts depend on what else runs, and the ratios of CPU differ by 0.1 from run to run.

=======  =========  =====  ======  =====
version  CPU a key  ratio  wall    ratio
=======  =========  =====  ======  =====
earlier  1,193 us   1.000  7.54 s  1.000
this     1,313 us   1.101  7.21 s  0.956
=======  =========  =====  ======  =====

=========  =============  =====
processes  keys a second  ratio
=========  =============  =====
1          99             1.00
2          97             0.98
4          59             0.59
=========  =============  =====

    python benchmarks/shared.py [keys] [--against ROOT] [--postgresql URL]
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from emulated import Emulated, emulated
from tables import print_table

from openrouter_keys import AsyncOpenRouter, Journal, KeySpec

ROUNDS: Final = 7
LATENCY: Final = 0.02
ENSURED: Final = 2000
CLIENT: Final = """
import asyncio, os, sys, time
from openrouter_keys import AsyncOpenRouter, KeySpec

async def main(url, key, place, count, concurrency):
    specs = [KeySpec(ref=f"r-{n}", name=f"customer-{n}") for n in range(int(count))]
    async with AsyncOpenRouter(key, server_url=url) as client:
        before, began = os.times(), time.perf_counter()
        await client.provision(
            specs, journal=place, concurrency=int(concurrency), quiet_period=1.0
        )
        after, ended = os.times(), time.perf_counter()
    print(sum(after[:2]) - sum(before[:2]), ended - began)

asyncio.run(main(*sys.argv[1:]))
"""


def client(
    server: Emulated, place: Path | str, keys: int, at_once: int, root: str
) -> "subprocess.Popen[str]":
    """Start a process that provisions."""
    words = [server.base_url, server.api_key, str(place), str(keys), str(at_once)]
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, *words], stdout=subprocess.PIPE, text=True, env=environment
    )


def measured(process: "subprocess.Popen[str]") -> tuple[float, float]:
    """Return the seconds of CPU and of time that a process took."""
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a process ended with {process.returncode}")
    cpu, wall = out.split()
    return float(cpu), float(wall)


def alone(folder: Path, keys: int, roots: Mapping[str, str]) -> list[tuple[object, ...]]:
    """Compare versions that have a journal for themselves."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in roots}
    for number in range(ROUNDS):
        for name, root in sorted(roots.items(), reverse=number % 2 > 0):
            with emulated() as server:
                place = folder / f"{name.replace(' ', '-')}-{number}"
                taken[name].append(measured(client(server, place, keys, 32, root)))
    medians = {
        name: [statistics.median(column) for column in zip(*those, strict=True)]
        for name, those in taken.items()
    }
    base = medians[next(iter(roots))]
    return [
        (name, f"{cpu / keys * 1e6:,.0f} us", f"{cpu / base[0]:.3f}", f"{wall:.2f} s",
         f"{wall / base[1]:.3f}")
        for name, (cpu, wall) in medians.items()
    ]  # fmt: skip


def together(folder: Path, keys: int, root: str) -> list[tuple[object, ...]]:
    """Let several processes share a journal."""
    rates: dict[int, float] = {}
    for count in (1, 2, 4):
        taken: list[float] = []
        for number in range(3):
            with emulated(latency=LATENCY) as server:
                place, began = folder / f"shared-{count}-{number}", time.perf_counter()
                running = [client(server, place, keys, 8, root) for _ in range(count)]
                for process in running:
                    measured(process)
                taken.append(keys / (time.perf_counter() - began))
                made = len(server.live())
                if made != keys:
                    raise RuntimeError(f"{made} keys were made of {keys}")
        rates[count] = statistics.median(taken)
    return [(count, f"{rate:,.0f}", f"{rate / rates[1]:.2f}") for count, rate in rates.items()]


def engines(folder: Path, keys: int, root: str, url: str) -> list[tuple[object, ...]]:
    """Compare the engines, in turn, where each create takes 20 ms and 32 go at once."""
    rates: dict[str, list[float]] = {"SQLite": [], "PostgreSQL": []}
    mark = "&" if "?" in url else "?"
    for number in range(ROUNDS):
        places = {
            "SQLite": str(folder / f"engine-{number}"),
            "PostgreSQL": f"{url}{mark}schema=benchmark_{os.getpid()}_{number}",
        }
        for name in sorted(places, reverse=number % 2 > 0):
            with emulated(latency=LATENCY) as server:
                _, wall = measured(client(server, places[name], keys, 32, root))
            rates[name].append(keys / wall)
    pairs = [theirs / ours for ours, theirs in zip(*rates.values(), strict=True)]
    spread = f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
    return [
        (name, f"{statistics.median(those):,.0f}", "1" if name == "SQLite" else spread)
        for name, those in rates.items()
    ]


async def existing(places: Mapping[str, str]) -> list[tuple[object, ...]]:
    """Ask for the key of a ref that has one, again and again: no request is sent."""
    found: list[tuple[object, ...]] = []
    spec = KeySpec(ref="customer-42", name="customer-42", limit=50)
    for name, place in places.items():
        with emulated() as server:
            client = AsyncOpenRouter(server.api_key, server_url=server.base_url)
            async with client, Journal.open(place) as journal:
                taken: list[float] = []
                for _ in range(ENSURED):
                    began = time.perf_counter()
                    await client.ensure(spec, journal=journal)
                    taken.append(time.perf_counter() - began)
        *_, p90 = statistics.quantiles(taken[1:], n=10)
        found.append((name, f"{statistics.median(taken[1:]) * 1e3:.2f} ms", f"{p90 * 1e3:.2f} ms"))
    return found


def main(arguments: Sequence[str]) -> None:
    """Run all parts; those with PostgreSQL only if there is a server."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("keys", type=int, nargs="?", default=2000)
    parser.add_argument("--against", help="the root of an earlier version's source")
    parser.add_argument(
        "--postgresql", help="the URL of a database for new schemas, for parts 3, 4"
    )
    asked = parser.parse_args(arguments)
    root = str(Path(__file__).parent.parent)
    earlier = {"earlier": asked.against} if asked.against else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        head = ["version", "CPU a key", "ratio", "wall", "ratio"]
        print_table(head, *alone(folder, asked.keys, {**earlier, "this": root}))
        print()
        head = ["processes", "keys a second", "ratio"]
        print_table(head, *together(folder, asked.keys, root))
        places = {"SQLite": str(folder / "existing")}
        if asked.postgresql is not None:
            print()
            head = ["engine", "keys a second", "ratio of pairs"]
            print_table(head, *engines(folder, asked.keys, root, asked.postgresql))
            places["PostgreSQL"] = asked.postgresql
        print()
        head = ["engine", "ensure, median", "90 %"]
        print_table(head, *asyncio.run(existing(places)))


if __name__ == "__main__":
    main(sys.argv[1:])
