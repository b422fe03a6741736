"""How long does a new process take to get its first answer?

Method: new interpreters in turn, in several rounds: an empty one, ones that import a package, and
ones that make their first client and first call, and read the answer: with this client, with bare
aiohttp (a session, one GET, `json`), and with other APIs' clients (the official SDK, stripe and
hcloud; `pip install --group bench`; what is missing is skipped). The server of canned answers
speaks plain HTTP; aiohttp and httpx read the trusted certificates even so, requests, which stripe
and hcloud use, does not. The figures are CPU time and time by the clock (which includes the
machine's other work) from start to end, minus those of the empty one of the round; at last those
of this client minus bare aiohttp's of the round. Medians, in brackets the middle half of the
rounds. Nothing is compiled while it is measured.

Last figures (2026-11-29, 2 cores without other work, Python 3.11, aiohttp 3.14.5, openrouter
1.3.84). The goal is at most 60 ms of CPU more than bare aiohttp:

======================================================  ================  ================
more than an empty interpreter                          CPU               by the clock
======================================================  ================  ================
first call, bare aiohttp                                153 ms (147-161)  154 ms (147-161)
first call, hcloud                                      106 ms (103-110)  106 ms (103-110)
first call, official SDK                                309 ms (297-321)  310 ms (298-321)
first call, stripe                                      192 ms (186-208)  192 ms (186-209)
first call, this client                                 208 ms (200-222)  209 ms (202-222)
first call, this client, async                          199 ms (189-213)  199 ms (190-214)
import aiohttp                                          153 ms (144-160)  153 ms (144-160)
import openrouter.OpenRouter                            199 ms (184-215)  199 ms (185-216)
import openrouter_keys                                  8 ms (8-9)        8 ms (8-9)
first call, this client: more than bare aiohttp         57 ms (54-61)     58 ms (54-62)
first call, this client, async: more than bare aiohttp  45 ms (43-53)     45 ms (43-53)
======================================================  ================  ================

    python benchmarks/first_call.py
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TypeAlias

from canned import HASH, CannedAnswers, answer, served
from tables import print_table

#: CPU time and time by the clock, in milliseconds.
Pair: TypeAlias = tuple[float, float]

ROUNDS = 15
EMPTY = "pass"
BARE = "first call, bare aiohttp"
OURS = ("first call, this client", "first call, this client, async")
BARE_AIOHTTP = """
import aiohttp, asyncio
async def get():
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer key"}) as session:
        async with session.get(f"{URL}/keys/{HASH}") as response:
            assert (await response.json())["data"]["hash"] == HASH
asyncio.run(get())
"""
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


STRIPE = """
from stripe import StripeClient
client = StripeClient("key", base_addresses={"api": URL})
assert client.v1.customers.retrieve("cus_1").email == "a@b.test"
"""
HCLOUD = """
from hcloud import Client
assert Client("key", api_endpoint=URL).actions.get_by_id(1).status == "success"
"""
#: The package that a program needs.
OTHERS: Mapping[str, tuple[str, str]] = {
    "import openrouter.OpenRouter": ("openrouter", "from openrouter import OpenRouter"),
    "first call, official SDK": ("openrouter", OFFICIAL),
    "first call, stripe": ("stripe", STRIPE),
    "first call, hcloud": ("hcloud", HCLOUD),
}
CUSTOMER = answer(
    200, json.dumps({"id": "cus_1", "object": "customer", "email": "a@b.test"}).encode()
)
ACTION = answer(
    200,
    json.dumps(
        {
            "action": {
                "id": 1,
                "command": "start_server",
                "status": "success",
                "progress": 100,
                "started": "2026-01-30T23:50:00+00:00",
                "finished": "2026-01-30T23:55:00+00:00",
                "resources": [{"id": 42, "type": "server"}],
                "error": None,
            }
        }
    ).encode(),
)


class AnswersOfOthers(CannedAnswers):
    """Answers stripe and hcloud, too."""

    def answer_to(self, line: bytes) -> bytes:
        if b"/customers/" in line:
            return CUSTOMER
        return ACTION if b"/actions/" in line else super().answer_to(line)


def programs(url: str) -> dict[str, str]:
    known = f"URL, HASH = {url!r}, {HASH!r}\n"
    found = {
        "import openrouter_keys": "import openrouter_keys",
        "import aiohttp": "import aiohttp",
        BARE: known + BARE_AIOHTTP,
        OURS[0]: known + BLOCKING,
        OURS[1]: known + ASYNC,
    }
    for name, (package, program) in OTHERS.items():
        if find_spec(package):
            found[name] = known + program
        else:
            print(f"skipped: {name} (pip install {package})")
    return found


def milliseconds(program: str, cache: str) -> Pair:
    """Return a new process's CPU time and its time by the clock.

    Args:
        program: what it runs.
        cache: a folder for what Python compiles.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    cpu, begun = children(), time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    return (children() - cpu) * 1000, (time.perf_counter() - begun) * 1000


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def told(figures: Sequence[float]) -> str:
    lower, middle, upper = statistics.quantiles(figures, n=4)
    return f"{middle:.0f} ms ({lower:.0f}-{upper:.0f})"


def minus(these: Sequence[Pair], those: Sequence[Pair]) -> list[Pair]:
    """Return the differences of each round's CPU time, and of its time by the clock."""
    return [(this[0] - that[0], this[1] - that[1]) for this, that in zip(these, those, strict=True)]


def main() -> None:
    with served(AnswersOfOthers) as url, tempfile.TemporaryDirectory() as cache:
        found = {"empty": EMPTY, **programs(url)}
        taken: dict[str, list[Pair]] = {name: [] for name in found}
        for round in range(-1, ROUNDS):
            for name, program in found.items():
                took = milliseconds(program, cache)
                if round >= 0:  # the first one reads everything from disk, and compiles
                    taken[name].append(took)
    empty = taken.pop("empty")
    rows = {name: minus(each, empty) for name, each in sorted(taken.items())}
    rows |= {f"{name}: more than bare aiohttp": minus(taken[name], taken[BARE]) for name in OURS}
    print_table(
        ("more than an empty interpreter", "CPU", "by the clock"),
        *((name, *map(told, zip(*each, strict=True))) for name, each in rows.items()),
    )


if __name__ == "__main__":
    main()
