"""How long does a new process take to get its first answer?

Method: new interpreters in turn, in several rounds: an empty one, one that imports
openrouter_keys, aiohttp, or the official SDK (`pip install openrouter`; skipped if it is missing),
and one that makes its first client and first call to a server of canned answers. The figures are
CPU time and time by the clock (which includes the machine's other work) from start to end, minus
those of the empty one of the round: medians, in brackets the middle half of the rounds.

Last figures (2 shared cores, Python 3.11, aiohttp 3.14.5, openrouter 1.3.84):

==============================  ================  ================
more than an empty interpreter  CPU               by the clock
==============================  ================  ================
first call, official SDK        354 ms (330-367)  404 ms (356-482)
first call, this client         288 ms (277-297)  349 ms (300-385)
first call, this client, async  293 ms (281-318)  368 ms (285-441)
import aiohttp                  196 ms (185-210)  244 ms (199-274)
import openrouter.OpenRouter    211 ms (198-217)  223 ms (210-303)
import openrouter_keys          11 ms (10-12)     11 ms (10-14)
==============================  ================  ================

    python benchmarks/first_call.py
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec

from canned import HASH, served
from tables import print_table

ROUNDS = 15
EMPTY = "pass"
BLOCKING = """
from openrouter_keys import OpenRouter
with OpenRouter("key", server_url=URL) as client:
    client.api_keys.get(HASH)
"""
ASYNC = """
import asyncio
from openrouter_keys import AsyncOpenRouter
async def get():
    async with AsyncOpenRouter("key", server_url=URL) as client:
        await client.api_keys.get(HASH)
asyncio.run(get())
"""
OFFICIAL = """
from openrouter import OpenRouter
with OpenRouter(api_key="key", server_url=URL) as client:
    client.api_keys.get(hash=HASH)
"""


def programs(url: str) -> dict[str, str]:
    known = f"URL, HASH = {url!r}, {HASH!r}"
    found = {
        "import openrouter_keys": "import openrouter_keys",
        "import aiohttp": "import aiohttp",
        "first call, this client": known + BLOCKING,
        "first call, this client, async": known + ASYNC,
    }
    if find_spec("openrouter"):
        found["import openrouter.OpenRouter"] = "from openrouter import OpenRouter"
        found["first call, official SDK"] = known + OFFICIAL
    return found


def milliseconds(program: str) -> tuple[float, float]:
    """Return a new process's CPU time and its time by the clock."""
    cpu, begun = children(), time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return (children() - cpu) * 1000, (time.perf_counter() - begun) * 1000


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def told(figures: Sequence[float]) -> str:
    lower, middle, upper = statistics.quantiles(figures, n=4)
    return f"{middle:.0f} ms ({lower:.0f}-{upper:.0f})"


def main() -> None:
    with served() as url:
        found = programs(url)
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
        for round in range(-1, ROUNDS):
            empty = milliseconds(EMPTY)
            for name, program in found.items():
                took = milliseconds(program)
                if round >= 0:  # the first one reads everything from disk, and compiles
                    figures[name].append((took[0] - empty[0], took[1] - empty[1]))
    print_table(
        ("more than an empty interpreter", "CPU", "by the clock"),
        *((name, *map(told, zip(*figures[name], strict=True))) for name in sorted(found)),
    )


if __name__ == "__main__":
    main()
