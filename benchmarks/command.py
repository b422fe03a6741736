"""How long does the command take to start, and to answer?

Method: whole processes one after another, in rounds: an empty interpreter, one that imports
aiohttp, `--help`, `--version`, and `list --json` of 100 keys from an emulator. The request alone is
timed in a warm process. The figures are medians of wall time, and the range of the middle half of
the runs. Nothing is compiled while it is measured. The limit: `--help` under 250 ms.

Last figures (2026-11-29, 2 cores without other work, Python 3.11, cyclopts 5.4, rich 15):

===========================  ======  ============
process                      median  half of them
===========================  ======  ============
an empty interpreter         10 ms   9 - 10 ms
import aiohttp               169 ms  164 - 174 ms
openrouter-keys --version    123 ms  120 - 125 ms
openrouter-keys --help       127 ms  124 - 129 ms
openrouter-keys list --json  289 ms  282 - 308 ms
its request alone, warm      1 ms    1 - 1 ms
===========================  ======  ============

    pip install ".[cli]" && python benchmarks/command.py [rounds]
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from emulated import Emulated, emulated
from tables import print_table

ROUNDS = 15
KEYS = 100
COMMAND = [sys.executable, "-m", "openrouter_keys"]
PROCESSES: Mapping[str, Sequence[str]] = {
    "an empty interpreter": [sys.executable, "-c", "pass"],
    "import aiohttp": [sys.executable, "-c", "import aiohttp"],
    "openrouter-keys --version": [*COMMAND, "--version"],
    "openrouter-keys --help": [*COMMAND, "--help"],
    "openrouter-keys list --json": [*COMMAND, "list", "--json"],
}


def environment(server: Emulated, cache: str) -> dict[str, str]:
    """Return a process's variables; what Python compiles goes to a folder `cache`."""
    settings = {"OPENROUTER_API_KEY": server.api_key, "OPENROUTER_BASE_URL": server.base_url}
    known = {**os.environ, **settings, "PYTHONPYCACHEPREFIX": cache}
    known.pop("PYTHONDONTWRITEBYTECODE", None)
    return known


def run(words: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run a process, and return its milliseconds."""
    began = time.perf_counter()
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000


async def request(server: Emulated) -> float:
    """List once in a warm process, and return the milliseconds."""
    async with server.client() as client:
        await client.api_keys.list()
        began = time.perf_counter()
        await client.api_keys.list()
        return (time.perf_counter() - began) * 1000


async def fill(server: Emulated) -> None:
    async with server.client() as client:
        await asyncio.gather(*(client.api_keys.create(name=f"key-{n}") for n in range(KEYS)))


def told(taken: Sequence[float]) -> tuple[str, str]:
    low, median, high = statistics.quantiles(taken, n=4)
    return f"{median:.0f} ms", f"{low:.0f} - {high:.0f} ms"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    taken: dict[str, list[float]] = {name: [] for name in PROCESSES}
    warm: list[float] = []
    with emulated() as server, tempfile.TemporaryDirectory() as cache:
        asyncio.run(fill(server))
        known = environment(server, cache)
        for words in PROCESSES.values():
            run(words, known)  # it reads everything from disk, and compiles
        for _ in range(rounds):
            for name, words in PROCESSES.items():
                taken[name].append(run(words, known))
            warm.append(asyncio.run(request(server)))
    rows = [(name, *told(each)) for name, each in taken.items()]
    rows.append(("its request alone, warm", *told(warm)))
    print_table(("process", "median", "half of them"), *rows)


if __name__ == "__main__":
    main()
