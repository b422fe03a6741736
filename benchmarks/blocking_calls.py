"""How many blocking calls a second, from one thread and from eight?

Method: a server in its own process sends canned answers. The official SDK, `requests`, `httpx` and
this client get a key repeatedly, in turn, in several rounds; each has one client, which its threads
share. Ratios compare calls a second with the official SDK's: medians of the rounds, in brackets the
middle half of the rounds. CPU is this process's for a call. A client that is not installed is
skipped (`pip install openrouter requests httpx`).

Last figures (2026-11-29, 2 cores without other work, Python 3.11, aiohttp 3.14.5, openrouter
1.3.84):

=======  ===============  ==============  ====================  ========
threads  client           calls a second  against official SDK  CPU
=======  ===============  ==============  ====================  ========
1        official SDK     670             1.00 (1.00-1.00)      1.476 ms
1        httpx + json     3,537           5.32 (5.17-5.64)      0.255 ms
1        requests + json  2,180           3.25 (3.17-3.45)      0.424 ms
1        this client      4,388           6.49 (5.59-7.00)      0.181 ms
8        official SDK     557             1.00 (1.00-1.00)      1.831 ms
8        httpx + json     2,355           4.22 (4.04-4.37)      0.442 ms
8        requests + json  1,707           3.17 (2.95-3.29)      0.613 ms
8        this client      5,522           10.10 (9.52-10.51)    0.171 ms
=======  ===============  ==============  ====================  ========

    python benchmarks/blocking_calls.py
"""

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec

from attrs import define, field
from canned import HASH, MANAGEMENT, official, ratio, served
from tables import print_table

from openrouter_keys import OpenRouter

ROUNDS, CALLS, THREADS = 9, 240, (1, 8)
HEADERS = {"Authorization": f"Bearer {MANAGEMENT}"}

Call = Callable[[], object]


@define
class Figures:
    rates: list[float] = field(factory=list[float])
    cpu: list[float] = field(factory=list[float])


def sides(url: str, stack: ExitStack) -> dict[str, Call]:
    ours = stack.enter_context(OpenRouter(MANAGEMENT, server_url=url)).api_keys
    found: dict[str, Call] = {}
    if find_spec("openrouter"):
        theirs = stack.enter_context(official(url)).api_keys
        found["official SDK"] = lambda: theirs.get(hash=HASH)
    if find_spec("httpx"):
        client = stack.enter_context(import_module("httpx").Client(headers=HEADERS))
        found["httpx + json"] = lambda: client.get(f"{url}/keys/{HASH}").json()
    if find_spec("requests"):
        session = stack.enter_context(import_module("requests").Session())
        session.headers.update(HEADERS)
        found["requests + json"] = lambda: session.get(f"{url}/keys/{HASH}").json()
    found["this client"] = lambda: ours.get(HASH)
    return found


def measure(call: Call, threads: int, figures: Figures) -> None:
    def work() -> None:
        for _ in range(CALLS // threads):
            call()

    begun, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work) for _ in range(threads)]:
            done.result()
    figures.rates.append(CALLS / (time.perf_counter() - begun))
    figures.cpu.append((time.process_time() - cpu) / CALLS * 1000)


def compare(calls: Mapping[str, Call], threads: int) -> list[tuple[object, ...]]:
    figures = {side: Figures() for side in calls}
    for _ in range(ROUNDS + 1):
        for side, call in calls.items():
            measure(call, threads, figures[side])
    base = next(iter(figures.values()))
    return [
        (
            threads,
            side,
            f"{statistics.median(told.rates[1:]):,.0f}",
            ratio(told.rates[1:], base.rates[1:]),  # the first round opens the connections
            f"{statistics.median(told.cpu[1:]):.3f} ms",
        )
        for side, told in figures.items()
    ]


def main() -> None:
    with served() as url, ExitStack() as stack:
        calls = sides(url, stack)
        rows = [row for threads in THREADS for row in compare(calls, threads)]
    print_table(
        ("threads", "client", "calls a second", f"against {next(iter(calls))}", "CPU"), *rows
    )


if __name__ == "__main__":
    main()
