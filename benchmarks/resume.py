"""How long does a resume with a million settled keys take?

Method: an emulator in its own process. A real provision makes the journal's first row; SQL copies
it, each time with another name and hash. The first run gets the same specs from a generator, and
has nothing to do. Then 100 rows, spread over the file, become creates without an answer, and half
of these left a key on the service. The second run has to delete those 50 keys, and to make all 100.
The seconds are those of the whole call, with the quiet period of the second run, 1 s, and with the
making of the specs, which is also listed alone. The file is in the system's cache.

Last figures (2 cores, busy with other work, Python 3.11, aiohttp 3.14.5, SQLite 3.40):

===============  =======  =======  ==========  =============================
1,000,000 rows   seconds  a spec   CPU a spec  requests
===============  =======  =======  ==========  =============================
the specs alone  12.9     12.9 us  7.8 us      none
nothing to do    33.7     33.7 us  21.6 us     1 list
100 unfinished   32.4     32.4 us  24.1 us     4 list, 50 delete, 100 create
===============  =======  =======  ==========  =============================

    python benchmarks/resume.py [rows] [folder]
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from emulated import Emulated, emulated
from tables import print_table

from openrouter_keys import KeySpec, ProvisionReport
from openrouter_keys.converter import write_time
from openrouter_keys.journal.sqlite import connect

T = TypeVar("T")

UNFINISHED, QUIET_PERIOD = 100, 1.0
AT_ONCE = 50_000  # rows in a transaction

COPY = """
WITH RECURSIVE numbers (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?2)
INSERT INTO keys (ref, plan, state, run, first_attempt_at, last_attempt_at, hash, secret, record)
SELECT 'customer-' || n, replace(plan, ref, 'customer-' || n), state, run, first_attempt_at,
    last_attempt_at, lower(hex(randomblob(32))), secret, replace(record, ref, 'customer-' || n)
FROM numbers, keys WHERE ref = 'customer-0'
"""
LOSE = """
UPDATE keys SET state = 'intent', first_attempt_at = ?1, last_attempt_at = ?1,
    hash = NULL, secret = NULL, record = NULL
WHERE ref = ?2
"""


class Spent(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


class Resumed(NamedTuple):
    """The result of a run, and its seconds."""

    report: ProvisionReport
    spent: Spent
    requests: Counter[str]


def spec(number: int) -> KeySpec:
    return KeySpec(ref=f"customer-{number}", name=f"customer-{number}", limit=50)


async def provision(server: Emulated, path: Path, specs: Iterable[KeySpec]) -> ProvisionReport:
    async with server.client() as client:
        return await client.provision(specs, journal=path, quiet_period=QUIET_PERIOD)


def fill(path: Path, rows: int) -> None:
    """Copy the first row until there are this many."""
    with closing(connect(str(path), None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for start in range(1, rows, AT_ONCE):
            connection.execute(COPY, (start, min(start + AT_ONCE, rows)))


async def lose(server: Emulated, path: Path, numbers: Iterable[int]) -> None:
    """Make some rows creates without an answer; every second one leaves a key on the service."""
    at = write_time(datetime.now(UTC))
    async with server.client() as client:
        with closing(connect(str(path), None)) as connection:
            for place, number in enumerate(numbers):
                connection.execute(LOSE, (at, spec(number).ref))
                if place % 2 == 0:
                    await client.api_keys.create(name=spec(number).name, limit=50)


def resumed(server: Emulated, path: Path, specs: Iterator[KeySpec]) -> Resumed:
    before = len(server.requests())
    spent, report = timed(lambda: asyncio.run(provision(server, path, specs)))
    operations = (request["operation"] for request in server.requests()[before:])
    return Resumed(report, spent, Counter(operations))


def timed(doing: Callable[[], T]) -> tuple[Spent, T]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = doing()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu), result


def row(what: str, spent: Spent, rows: int, requests: Counter[str]) -> tuple[str, ...]:
    sent = ", ".join(f"{count} {operation}" for operation, count in requests.items())
    each = (f"{seconds / rows * 1e6:.1f} us" for seconds in spent)
    return what, f"{spent.wall:.1f}", *each, sent or "none"


def measure(server: Emulated, path: Path, rows: int) -> list[tuple[str, ...]]:
    asyncio.run(provision(server, path, [spec(0)]))
    filled, _ = timed(lambda: fill(path, rows))
    megabytes = path.stat().st_size / 1e6
    print(f"{rows:,} rows, {megabytes:,.0f} MB, made in {filled.wall:.0f} s", flush=True)
    alone, _ = timed(lambda: all(spec(n).plan for n in range(rows)))
    nothing = resumed(server, path, map(spec, range(rows)))
    assert (nothing.report.settled_before, nothing.report.created) == (rows, 0), nothing
    asyncio.run(lose(server, path, range(1, rows, rows // UNFINISHED)))
    some = resumed(server, path, map(spec, range(rows)))
    assert (some.report.created, some.report.deleted) == (UNFINISHED, UNFINISHED // 2), some
    return [
        row("the specs alone", alone, rows, Counter()),
        row("nothing to do", nothing.spent, rows, nothing.requests),
        row(f"{UNFINISHED} unfinished", some.spent, rows, some.requests),
    ]


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with (
        emulated() as server,
        tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder,
    ):
        found = measure(server, Path(folder) / "keys.journal", rows)
    print_table((f"{rows:,} rows", "seconds", "a spec", "CPU a spec", "requests"), *found)


if __name__ == "__main__":
    main()
