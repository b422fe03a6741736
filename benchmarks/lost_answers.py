"""What do creates with lost answers leave behind: orphans, duplicates, lost secrets?

Method: an emulator in its own process makes each key in 50 ms, and then fails: 15 % of the creates
answer 502, and 15 % lose the connection, by a reset or by an orderly close. A script in another
process makes 200 keys, 16 at once, and appends each name and secret to a file as soon as it has
them. In one run nothing kills it; in another SIGKILL ends it when there are 50, 100 and 150 keys,
and it is started again each time. The official SDK's script skips names whose secrets are in its
file, and keeps the SDK's own retries; a script is stopped after 60 s in all, since the SDK may
retry for an hour. Our script is `provision` with a journal and a quiet period of 1 s. Both run at
once, each with its own emulator. Without the SDK (`pip install openrouter`) only ours runs.

An orphan is a live key whose secret is lost. A duplicate is a live key beyond the first one of its
name. "Lost" counts the names with live keys and no secret.

Last figures (Python 3.11, aiohttp 3.14.5, openrouter 1.3.84):

==========  =====  ========  =====  =======  =========  =======  =======  ==========  ====  ====
connection  kills  script    asked  creates  live keys  in hand  orphans  duplicates  lost  took
==========  =====  ========  =====  =======  =========  =======  =======  ==========  ====  ====
reset       0      official  200    287      287        200      87       87          0     26 s
reset       0      ours      200    287      200        200      0        0           0     20 s
reset       3      official  200    296      295        200      95       95          0     17 s
reset       3      ours      200    290      200        200      0        0           0     21 s
closed      0      official  200    240      240        172      68       40          28    9 s
closed      0      ours      200    287      200        200      0        0           0     21 s
closed      3      official  200    288      288        177      111      88          23    19 s
closed      3      ours      200    293      200        200      0        0           0     29 s
==========  =====  ========  =====  =======  =========  =======  =======  ==========  ====  ====

    python benchmarks/lost_answers.py [keys]
"""

import asyncio
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

from emulated import Emulated, emulated
from tables import print_table

from openrouter_keys import AsyncOpenRouter, KeySpec, ProvisionResult

CONCURRENCY, KILLS, MOST_SECONDS = 16, 3, 60.0
FAULT = {"operation": "create", "phase": "after", "times": None}
LOST = ("reset", "closed")  # how a connection ends


# --- in the process that is killed ---


class SDK(Protocol):
    """The part of the official SDK that its script needs."""

    class _Created(Protocol):
        key: str

    class _APIKeys(Protocol):
        async def create_async(self, *, name: str, limit: float) -> "SDK._Created": ...

    api_keys: _APIKeys


class Written:
    """The file with a line for each name and its secret."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "secrets"

    def add(self, name: str, secret: str) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, f"{name} {secret}\n".encode())
            os.fsync(file)
        finally:
            os.close(file)

    def read(self) -> dict[str, set[str]]:
        """Return the hashes of the secrets of each name."""
        found: dict[str, set[str]] = {}
        for line in self._path.read_text().splitlines() if self._path.exists() else ():
            name, secret = line.split()
            found.setdefault(name, set()).add(sha256(secret.encode()).hexdigest())
        return found


async def official(folder: Path, names: Iterable[str]) -> None:
    written = Written(folder)
    known = written.read()
    left = iter([name for name in names if name not in known])
    make = cast(
        "Callable[..., AbstractAsyncContextManager[SDK]]",
        importlib.import_module("openrouter").OpenRouter,
    )

    async def work(sdk: SDK) -> None:
        for name in left:
            # One failed name must not skip the others; the next run tries it again.
            with suppress(Exception):
                written.add(name, (await sdk.api_keys.create_async(name=name, limit=50)).key)

    url, key = os.environ["OPENROUTER_BASE_URL"], os.environ["OPENROUTER_API_KEY"]
    async with make(api_key=key, server_url=url) as sdk:
        await asyncio.gather(*(work(sdk) for _ in range(CONCURRENCY)))


async def ours(folder: Path, names: Iterable[str]) -> None:
    written = Written(folder)

    def take(result: ProvisionResult) -> None:
        written.add(result.spec.name, result.key)

    async with AsyncOpenRouter() as client:
        await client.provision(
            (KeySpec(ref=name, name=name, limit=50) for name in names),
            journal=folder / "keys.journal",
            concurrency=CONCURRENCY,
            on_result=take,
            quiet_period=1,
        )


SCRIPTS: dict[str, Callable[[Path, Iterable[str]], Coroutine[Any, Any, None]]] = {
    "official": official,
    "ours": ours,
}


# --- in the process that kills ---


def customers(keys: int) -> list[str]:
    return [f"customer-{n}" for n in range(keys)]


def run(script: str, server: Emulated, folder: Path, keys: int, kill_at: Iterable[int]) -> None:
    """Run a script until it ends, or its time is over."""
    ends = time.monotonic() + MOST_SECONDS
    command = [sys.executable, __file__, str(keys), script, str(folder)]
    environment = {"OPENROUTER_BASE_URL": server.base_url, "OPENROUTER_API_KEY": server.api_key}
    code = 0
    for alive in (*kill_at, sys.maxsize):
        with subprocess.Popen(command, env=os.environ | environment) as process:
            while process.poll() is None:
                if len(server.live()) >= alive or time.monotonic() >= ends:
                    process.kill()
                time.sleep(0.02)
            code = process.returncode
    if code:
        print(f"{script} did not get through: exit code {code}", file=sys.stderr)


def outcome(server: Emulated, folder: Path, keys: int) -> tuple[int, ...]:
    live: dict[str, set[str]] = {}
    for key in server.live():
        live.setdefault(key["name"], set()).add(key["hash"])
    held = Written(folder).read()
    in_hand = {name for name in live if live[name] & held.get(name, set())}
    count = sum(map(len, live.values()))
    operations = Counter(request["operation"] for request in server.requests())
    return (
        keys,
        operations["create"],
        count,
        len(in_hand),
        sum(len(live[name] - held.get(name, set())) for name in live),
        count - len(live),
        len(live.keys() - in_hand),
    )


def faults(lost: str) -> list[dict[str, object]]:
    """Return two faults, each for 15 % of all creates; the second strikes what the first passes."""
    return [
        {**FAULT, "kind": "status", "status": 502, "probability": 0.15},
        {**FAULT, "kind": lost, "probability": 0.15 / 0.85},
    ]


def measure(script: str, lost: str, kills: int, keys: int) -> tuple[object, ...]:
    kill_at = [keys * (number + 1) // (KILLS + 1) for number in range(kills)]
    with (
        tempfile.TemporaryDirectory() as folder,
        emulated(faults=faults(lost), latency=0.05) as server,
    ):
        begun = time.perf_counter()
        run(script, server, Path(folder), keys, kill_at)
        took = time.perf_counter() - begun
        return lost, kills, script, *outcome(server, Path(folder), keys), f"{took:.0f} s"


def compare(keys: int) -> list[tuple[object, ...]]:
    scripts = [*SCRIPTS]
    if find_spec("openrouter") is None:
        print("only ours is measured: pip install openrouter to compare")
        scripts.remove("official")
    with ThreadPoolExecutor() as pool:
        return [
            row
            for lost in LOST
            for kills in (0, KILLS)
            for row in pool.map(partial(measure, lost=lost, kills=kills, keys=keys), scripts)
        ]


def main() -> None:
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    if len(sys.argv) > 2:
        asyncio.run(SCRIPTS[sys.argv[2]](Path(sys.argv[3]), customers(keys)))
        return
    heads = (
        *("connection", "kills", "script", "asked", "creates", "live keys", "in hand"),
        *("orphans", "duplicates", "lost", "took"),
    )
    print_table(heads, *compare(keys))


if __name__ == "__main__":
    main()
