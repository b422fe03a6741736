"""How many instructions does a call take, against bare aiohttp with `json`?

Method: a server in its own process sends canned answers, one call at a time. A process under
`valgrind --tool=callgrind` makes 100 calls of each kind, after some that open connections and fill
caches. The figure is the instructions of this process for a call, without the kernel's. It varies
by 0.3 %, however busy the machine is, and so shows a change of 1 %.

Last figures (2026-11-29, aiohttp 3.14.5), on Python 3.11, and on 3.14:

======  ============  ===========  =====
call    bare aiohttp  this client  ratio
======  ============  ===========  =====
create  513,160       669,404      1.304
get     410,623       457,961      1.115
list    4,794,741     3,080,288    0.642
======  ============  ===========  =====

======  ============  ===========  =====
call    bare aiohttp  this client  ratio
======  ============  ===========  =====
create  429,781       565,709      1.316
get     364,709       400,837      1.099
list    4,601,436     3,154,457    0.686
======  ============  ===========  =====

    python benchmarks/instructions.py
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from canned import MANAGEMENT, served
from cpu_per_request import BARE, CALLS, OURS, Call, ours_and_bare
from tables import print_table

from openrouter_keys import AsyncOpenRouter

WARM_UP, TIMES = 20, 100
# Each time this function is called, valgrind writes its counts and starts again from zero.
MARK = "getppid"


async def make_calls(url: str) -> None:
    """Make calls of each kind with each client, between two marks."""
    async with (
        aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {MANAGEMENT}"},
            connector=aiohttp.TCPConnector(limit=0),
        ) as session,
        AsyncOpenRouter(MANAGEMENT, server_url=url) as client,
    ):
        for sides in ours_and_bare(url, session, client).values():
            for call in sides.values():
                await make(call, WARM_UP)
                os.getppid()
                await make(call, TIMES)
                os.getppid()


async def make(call: Call, times: int) -> None:
    for _ in range(times):
        await call()


def counts(script: Path, url: str, number: int) -> list[int]:
    """Return the instructions of what a script does with a server, between each pair of marks."""
    if shutil.which("valgrind") is None:
        print("skipped: there is no valgrind here, which counts the instructions")
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        command = (
            *("valgrind", "--tool=callgrind", f"--dump-before={MARK}"),
            f"--callgrind-out-file={folder}/counts",
            *(sys.executable, str(script), url),
        )
        # The place of a string in a dictionary must not be random.
        steady = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=steady, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        # Every second dump is of what comes before a pair.
        return [total(Path(folder, f"counts.{2 * n + 2}")) for n in range(number)]


def total(dump: Path) -> int:
    """Return the instructions in a dump."""
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE)
    if found is None:
        sys.exit(f"no total in {dump.name}")
    return int(found[1])


def main(arguments: Sequence[str]) -> None:
    if arguments:
        asyncio.run(make_calls(arguments[0]))
        return
    with served() as url:
        found = iter(count // TIMES for count in counts(Path(__file__), url, 2 * len(CALLS)))
    rows = [(name, bare, ours) for name in CALLS for bare, ours in [(next(found), next(found))]]
    print_table(
        ("call", BARE, OURS, "ratio"),
        *((name, f"{bare:,}", f"{ours:,}", f"{ours / bare:.3f}") for name, bare, ours in rows),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
