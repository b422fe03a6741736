"""What does an async call cost in CPU, against bare aiohttp with `json`, and the official SDK?

Method: a server in its own process sends canned answers. 1, 16 and 256 workers call at once: bare
aiohttp, this client and the official SDK (`pip install openrouter`; skipped if it is missing) in
turn, in several rounds. The figure is this process's CPU time for a call. Ratios are medians of the
rounds' ratios, since machines differ; in brackets the middle half of the rounds.

Last figures (2026-11-29, 2 cores without other work, Python 3.11, aiohttp 3.14.5, openrouter
1.3.84); only the pages meet the goal:

======  =======  ============  ============  ========  ===================
call    at once  bare aiohttp  who           theirs    ratio
======  =======  ============  ============  ========  ===================
create  1        0.126 ms      this client   0.166 ms  1.30 (1.24-1.35)
get     1        0.093 ms      this client   0.111 ms  1.17 (1.15-1.19)
list    1        0.365 ms      this client   0.298 ms  0.81 (0.79-0.82)
create  16       0.076 ms      this client   0.100 ms  1.31 (1.29-1.33)
get     16       0.069 ms      this client   0.081 ms  1.21 (1.20-1.21)
list    16       0.308 ms      this client   0.235 ms  0.76 (0.76-0.77)
create  256      0.085 ms      this client   0.114 ms  1.35 (1.27-1.38)
get     256      0.074 ms      this client   0.098 ms  1.33 (1.26-1.41)
list    256      0.316 ms      this client   0.262 ms  0.81 (0.80-0.85)
create  1        0.121 ms      official SDK  2.162 ms  17.94 (17.73-18.10)
get     1        0.098 ms      official SDK  2.070 ms  21.07 (20.96-21.26)
list    1        0.342 ms      official SDK  2.547 ms  7.28 (6.99-7.52)
create  16       0.082 ms      official SDK  3.172 ms  38.74 (36.85-38.81)
get     16       0.073 ms      official SDK  2.651 ms  36.59 (35.29-39.61)
list    16       0.321 ms      official SDK  2.805 ms  8.75 (8.63-8.84)
create  256      0.086 ms      official SDK  2.958 ms  34.14 (32.20-35.83)
get     256      0.080 ms      official SDK  2.621 ms  32.32 (28.35-36.01)
list    256      0.388 ms      official SDK  3.584 ms  9.23 (8.77-9.54)
======  =======  ============  ============  ========  ===================

    python benchmarks/cpu_per_request.py [--short]

`--short` takes ten seconds, makes 16 calls at once only, and fails if a call costs more than twice
the goal: then something is wrong, and the machine is not just busy.
"""

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.util import find_spec

import aiohttp
from canned import HASH, MANAGEMENT, official, ratio, served
from tables import print_table

from openrouter_keys import AsyncOpenRouter

ROUNDS, WORKERS = 15, (1, 16, 256)
SHORT_ROUNDS, SHORT_WORKERS = 9, (16,)
CALLS = {"create": 768, "get": 768, "list": 256}
#: The goal: the ratio against bare aiohttp.
AIM = {"create": 1.10, "get": 1.05, "list": 0.85}
BARE, OURS, OFFICIAL = "bare aiohttp", "this client", "official SDK"
HEADS = (BARE, "who", "theirs", "ratio")

Call = Callable[[], Awaitable[object]]
Sides = Mapping[str, Call]


async def cpu(call: Call, calls: int, workers: int) -> float:
    """Return the milliseconds of CPU for a call."""

    async def work() -> None:
        for _ in range(calls // workers):
            await call()

    gc.collect()
    begun = time.process_time()
    await asyncio.gather(*(work() for _ in range(workers)))
    return (time.process_time() - begun) / calls * 1000


async def measured(name: str, sides: Sides, workers: int, rounds: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {side: [] for side in sides}
    for round in range(-1, rounds):
        for side, call in sides.items():
            # The SDK is slow: fewer calls of it are enough.
            calls = max(workers, CALLS[name] // (8 if side == OFFICIAL else 1))
            took = await cpu(call, calls, workers)
            if round >= 0:  # the first one opens the connections
                figures[side].append(took)
    return figures


def ours_and_bare(
    url: str, session: aiohttp.ClientSession, client: AsyncOpenRouter
) -> dict[str, Sides]:
    async def bare(method: str, path: str, body: object = None) -> object:
        async with session.request(method, url + path, json=body) as response:
            return json.loads(await response.read())

    keys = client.api_keys
    return {
        "create": {
            BARE: lambda: bare("POST", "/keys", {"name": "customer-42", "limit": 50}),
            OURS: lambda: keys.create(name="customer-42", limit=50),
        },
        "get": {BARE: lambda: bare("GET", f"/keys/{HASH}"), OURS: lambda: keys.get(HASH)},
        "list": {BARE: lambda: bare("GET", "/keys?offset=0"), OURS: lambda: keys.list(offset=0)},
    }


def official_and_bare(calls: Mapping[str, Sides], url: str) -> dict[str, Sides]:
    keys = official(url).api_keys
    theirs: dict[str, Call] = {
        "create": lambda: keys.create_async(name="customer-42", limit=50),
        "get": lambda: keys.get_async(hash=HASH),
        "list": lambda: keys.list_async(offset=0),
    }
    return {name: {BARE: calls[name][BARE], OFFICIAL: call} for name, call in theirs.items()}


async def compare(url: str, *, short: bool) -> list[str]:
    """Print the table, and return the calls that cost more than twice the goal."""
    async with (
        aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {MANAGEMENT}"},
            connector=aiohttp.TCPConnector(limit=0),
        ) as session,
        AsyncOpenRouter(MANAGEMENT, server_url=url, max_connections=max(WORKERS)) as client,
    ):
        calls = ours_and_bare(url, session, client)
        rows = await asked(calls, short=short)
        too_much = [name for name, _, middle, _ in rows if middle > 2 * AIM[name]]
        if not short and find_spec("openrouter"):
            # Afterwards: its many modules would slow down what runs beside them.
            rows += await asked(official_and_bare(calls, url), short=False)
    print_table(("call", "at once", *HEADS), *((name, at, *told) for name, at, _, told in rows))
    return too_much


async def asked(
    calls: Mapping[str, Sides], *, short: bool
) -> list[tuple[str, int, float, Sequence[str]]]:
    """Return the call, how many at once, the ratio, and the cells of its row."""
    rows: list[tuple[str, int, float, Sequence[str]]] = []
    for workers in SHORT_WORKERS if short else WORKERS:
        for name, sides in calls.items():
            figures = await measured(name, sides, workers, SHORT_ROUNDS if short else ROUNDS)
            (_, bare), (who, those) = figures.items()
            medians = statistics.median(bare), statistics.median(those)
            cells = (f"{medians[0]:.3f} ms", who, f"{medians[1]:.3f} ms", ratio(those, bare))
            rows.append((name, workers, medians[1] / medians[0], cells))
    return rows


def main() -> None:
    with served() as url:
        too_much = asyncio.run(compare(url, short="--short" in sys.argv[1:]))
    if too_much:
        sys.exit(f"more than twice what is aimed at: {', '.join(too_much)}")


if __name__ == "__main__":
    main()
