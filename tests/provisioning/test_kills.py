"""Provisioning that is killed, with the service or without: the runs together keep the promise."""

import asyncio
import json
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random
from typing import IO, Any
from urllib.request import Request, urlopen

import pytest
from attrs import define, field

from openrouter_keys import AsyncOpenRouter
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.journal.journal import Journal
from tests.processes import Process, environment, until
from tests.provisioners import (
    WHOLE,
    Order,
    assert_handed_over,
    assert_journaled,
    assert_none_sent_blindly,
    assert_one_key_each,
    assert_sent_as_intended,
    audited,
    customers,
    orphans,
)

pytestmark = pytest.mark.slow

SOON = 30.0  # seconds within which something comes; it takes a fraction of one
COUNT = 40  # keys
LATE = 0.1  # seconds that a create takes at most once its client has gone
# About half of all creates. A client that is killed leaves some of the others, too.
FAULTS: list[dict[str, Any]] = [
    {"kind": "late", "delay": LATE, "probability": 0.15},
    {"kind": "slow", "phase": "before", "delay": LATE, "probability": 0.2},
    {"kind": "status", "phase": "after", "status": 502, "probability": 0.2},
]


@define
class Service:
    """An emulator in a process of its own, whose state outlives it."""

    state: Path
    base_url: str = ""
    api_key: str = ""
    _process: Process | None = field(init=False, default=None)

    def start(self) -> None:
        """Serve, at the same address as before, and fail as before."""
        port = self.base_url.split(":")[-1].split("/")[0] or "0"
        options = ("--state", str(self.state), "--port", port, "--json")
        words = ("-m", "openrouter_keys", "emulator", *options)
        self._process = Process(*words, environment=environment())
        told = json.loads(lines_of(self._process).readline())
        self.base_url, self.api_key = told["base_url"], told["api_key"]
        every = [{"operation": "create", "times": None, **fault} for fault in FAULTS]
        self._put("faults", every)
        self._put("settings", {"latency": 0.01})

    def _put(self, what: str, value: object) -> None:
        url = f"{self.base_url.removesuffix('/api/v1')}/_emulator/{what}"
        headers = {"Authorization": f"Bearer {self.api_key}"}
        request = Request(url, json.dumps(value).encode(), headers, method="PUT")
        with urlopen(request, timeout=SOON):
            pass

    def kill(self) -> None:
        """End the process at once."""
        process, self._process = self._process, None
        if process is not None:
            kill(process)

    def afterwards(self) -> Emulator:
        """What it holds, once nothing is on its way any more."""
        time.sleep(5 * LATE)
        self.kill()
        return Emulator(state=self.state)


def lines_of(process: Process) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def kill(process: Process) -> None:
    with process:
        process.kill()


@pytest.fixture
def service(tmp_path: Path) -> Generator[Service]:
    service = Service(tmp_path / "service.sqlite")
    service.start()
    yield service
    service.kill()


@contextmanager
def begun(order: Order, base_url: str, api_key: str) -> Generator[Process]:
    process = order.start(base_url, api_key)
    try:
        yield process
    finally:
        kill(process)


def order_in(folder: Path, seed: int, **given: Any) -> Order:
    wanted: dict[str, Any] = {"count": COUNT, "quiet_period": 0.5, "concurrency": 8, **given}
    journal = asyncio.run(audited(folder / "customers.journal"))
    return Order(journal=str(journal), taken=str(folder / "taken"), seed=seed, **wanted)


def run_until_killed(
    order: Order, service: Service, chance: Random, victims: Iterator[str]
) -> bool:
    """Run, and kill the next victims at moments that a seed chooses; tell whether all is whole."""
    with begun(order, service.base_url, service.api_key) as process:
        for victim in victims:
            told = [*islice(lines_of(process), chance.randint(1, 10))]
            if f"{WHOLE}\n" in told:  # on a slow machine it may be through before the last kills
                return True
            time.sleep(0.03 * chance.random())
            if victim != "client":
                service.kill()
                service.start()
            if victim != "service":
                return False
        return f"{WHOLE}\n" in lines_of(process)


#: Kills that may come too late, of five.
MOST_LEFT = 2


def run_with_kills(order: Order, service: Service, victims: Sequence[str]) -> None:
    """Run again and again, until a run that nobody killed ends well."""
    chance, left = Random(order.seed), iter(victims)
    while not run_until_killed(order, service, chance, left):
        pass
    assert len([*left]) <= MOST_LEFT


def assert_all_is_well(order: Order, service: Service) -> None:
    wanted, journal, taken = order.specs(), Path(order.journal), order.handed_over()
    emulator = service.afterwards()
    assert_one_key_each(emulator, wanted)
    assert_journaled(emulator, wanted, journal, stored=order.store_secrets)
    assert_handed_over(emulator, wanted, taken)
    assert_sent_as_intended(emulator, wanted, journal)
    assert_none_sent_blindly(emulator)
    if order.store_secrets:
        assert len({*taken}) == len(wanted)  # handed over again, it is the same secret


@pytest.mark.parametrize("seed", [1, 2])
def test_a_client_that_is_killed_loses_no_key_and_leaves_none(
    service: Service, tmp_path: Path, seed: int
) -> None:
    order = order_in(tmp_path, seed)
    run_with_kills(order, service, ["client"] * 6)
    assert_all_is_well(order, service)


def test_a_killed_client_whose_secrets_are_not_stored_loses_no_key_and_leaves_none(
    service: Service, tmp_path: Path
) -> None:
    order = order_in(tmp_path, 3, store_secrets=False)
    run_with_kills(order, service, ["client"] * 6)
    assert_all_is_well(order, service)


@pytest.mark.parametrize("seed", [4, 5])
def test_a_service_that_is_killed_costs_no_key_and_leaves_none(
    service: Service, tmp_path: Path, seed: int
) -> None:
    order = order_in(tmp_path, seed)
    run_with_kills(order, service, Random(seed).choices(["client", "service", "both"], k=5))
    assert_all_is_well(order, service)


# --- why a resume waits ---


def resumed_after_a_kill(folder: Path, *, quiet_period: float, lands_after: float) -> set[str]:
    """Kill a client whose creates are all under way, run again; return the orphans in the end."""
    slow = Fault("create", "slow", times=COUNT, delay=lands_after)
    with Emulator(faults=[slow]) as emulator:
        order = order_in(folder, 6, count=COUNT, concurrency=COUNT, quiet_period=quiet_period)
        with begun(order, emulator.base_url, emulator.api_key):
            until(lambda: emulator.count("create") == COUNT)
        told: list[str] = []
        server = {"api_key": emulator.api_key, "server_url": emulator.base_url}
        asyncio.run(order.fulfil(told.append, **server))
        assert told[-1] == WHOLE
        until(lambda: all(one.applied for one in emulator.requests if one.operation == "create"))
        return orphans(emulator, Path(order.journal))


def test_a_resume_that_does_not_wait_leaves_orphans_where_creates_land_late(
    tmp_path: Path,
) -> None:
    assert len(resumed_after_a_kill(tmp_path, quiet_period=0, lands_after=3)) == COUNT


def test_a_resume_that_waits_leaves_none(tmp_path: Path) -> None:
    assert resumed_after_a_kill(tmp_path, quiet_period=1.8, lands_after=1.6) == set()


async def test_a_resume_with_a_shorter_time_out_waits_all_the_same(
    emulator: Emulator, tmp_path: Path
) -> None:
    (wanted,) = customers(1, 0)
    path = tmp_path / "customers.journal"
    async with Journal.open(path, longest_timeout=120) as journal:
        await journal.intend(wanted, datetime.now(UTC) - timedelta(seconds=20))
    landing = asyncio.get_running_loop().call_later(
        0.5, emulator.account.create, json.loads(wanted.plan)
    )
    async with AsyncOpenRouter(
        emulator.api_key, server_url=emulator.base_url, timeout_ms=1000
    ) as client:
        await client.provision([wanted], journal=path, quiet_period=1)
    await asyncio.sleep(landing.when() - asyncio.get_running_loop().time())
    assert orphans(emulator, path) == set()
