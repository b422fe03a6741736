"""An emulator's state file: what was done is in it before anybody can know, whatever is killed."""

import asyncio
import json
import os
import re
import sqlite3
import stat
import sys
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from http.client import HTTPResponse
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from attrs import asdict, define

from openrouter_keys.emulator import (
    Account,
    Budget,
    Emulator,
    Fault,
    StateError,
    StoredKey,
    Workspace,
)
from openrouter_keys.emulator.state import MANAGEMENT_KEY
from tests.emulators import port_of
from tests.processes import Process, environment

SOON = 30.0  # seconds within which something comes; it takes a fraction of one
OTHER = "11111111-2222-4333-8444-555555555555"
CANARY = "canary-" * 6
SERVER = """
import asyncio, json, sys
from openrouter_keys.emulator import Emulator

async def serve():
    async with Emulator(**json.loads(sys.argv[1])) as emulator:
        print(emulator.base_url, flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""


@define
class Served:
    """An emulator to talk to, in this process or in another."""

    base_url: str
    session: aiohttp.ClientSession

    async def __call__(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        url = self.base_url.removesuffix("/api/v1") + path
        headers = {"Authorization": f"Bearer {MANAGEMENT_KEY}"}
        async with self.session.request(method, url, json=body, headers=headers) as response:
            return response.status, json.loads(await response.text())

    async def create(self, name: str) -> str:
        """The secret of a new key."""
        status, made = await self("POST", "/api/v1/keys", {"name": name})
        assert status == 201
        return cast("dict[str, str]", made)["key"]

    async def summary(self) -> dict[str, object]:
        _, summary = await self("GET", "/_emulator/summary")
        return cast("dict[str, object]", summary)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SOON)) as session:
        yield session


@asynccontextmanager
async def process(
    session: aiohttp.ClientSession, **arguments: object
) -> AsyncGenerator[tuple[Served, Callable[[], None]], None]:
    """An emulator in a process of its own, and how to kill it."""
    with Process("-c", SERVER, json.dumps(arguments), environment=environment()) as server:
        try:
            assert server.stdout is not None
            yield Served(server.stdout.readline().strip(), session), server.kill
        finally:
            server.kill()


def hash_of(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


# what a killed process leaves


@pytest.mark.slow
async def test_every_key_that_was_answered_outlives_a_kill_in_the_midst_of_creates(
    path: Path, session: aiohttp.ClientSession
) -> None:
    secrets: list[str] = []

    async def work(served: Served, kill: Callable[[], None], worker: int) -> None:
        while True:
            try:
                secrets.append(await served.create(f"{worker}"))
            except aiohttp.ClientError:
                return
            if len(secrets) == 200:
                kill()

    async with process(session, state=str(path)) as (served, kill), asyncio.timeout(SOON):
        await asyncio.gather(*[work(served, kill, worker) for worker in range(8)])

    after = Emulator(state=path)
    assert len(secrets) >= 200
    assert {hash_of(secret) for secret in secrets} <= after.account.keys.keys()
    assert len(after.account.keys) <= len(secrets) + 8
    done = {request.hash for request in after.requests if request.applied}
    assert done == after.account.keys.keys()


UNTOLD = [
    Fault("create", "closed", phase="after"),
    Fault("create", "reset", phase="after"),
    Fault("create", "cut", phase="after"),
    Fault("create", "garbage", phase="after"),
    Fault("create", status=502, phase="after"),
    Fault("create", "stalled", phase="after"),
    Fault("create", "slow", phase="after", delay=600),
    Fault("create", "late", delay=0.1),
]


@pytest.mark.slow
@pytest.mark.parametrize("fault", UNTOLD, ids=lambda fault: fault.kind)
async def test_a_key_whose_secret_never_came_outlives_a_kill(
    path: Path, session: aiohttp.ClientSession, fault: Fault
) -> None:
    async with process(session, state=str(path)) as (served, kill), asyncio.timeout(SOON):
        await served("PUT", "/_emulator/faults", asdict(fault))
        lost = asyncio.create_task(served("POST", "/api/v1/keys", {"name": "x"}))
        while (await served.summary())["keys"] == 0:
            await asyncio.sleep(0.001)
        kill()
        await asyncio.gather(lost, return_exceptions=True)

    after = Emulator(state=path)
    (request,) = after.requests
    assert (request.fault, request.applied, request.name) == (fault.kind, True, "x")
    assert [*after.account.keys] == [request.hash]


@pytest.mark.slow
async def test_what_has_not_landed_yet_is_only_in_the_ledger(
    path: Path, session: aiohttp.ClientSession
) -> None:
    async with process(session, state=str(path)) as (served, kill), asyncio.timeout(SOON):
        await served("PUT", "/_emulator/faults", asdict(Fault("create", "late", delay=600)))
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await served.create("x")
        kill()

    after = Emulator(state=path)
    (request,) = after.requests
    assert (request.fault, request.applied, request.name) == ("late", False, "x")
    assert after.account.keys == {}


@pytest.mark.slow
async def test_a_killed_emulator_is_gone_on_with(
    path: Path, session: aiohttp.ClientSession
) -> None:
    async with process(session, state=str(path)) as (served, kill), asyncio.timeout(SOON):
        secrets = [await served.create(name) for name in "abc"]
        hashes = [hash_of(secret) for secret in secrets]
        await served("PATCH", f"/api/v1/keys/{hashes[0]}", {"limit": 5, "disabled": True})
        await served("DELETE", f"/api/v1/keys/{hashes[1]}")
        _, before = await served("GET", "/_emulator/keys")
        kill()

    async with process(session, state=str(path)) as (served, _), asyncio.timeout(SOON):
        assert await served("GET", "/_emulator/keys") == (200, before)
        assert await served.summary() == {
            "requests": {"create": 3, "update": 1, "delete": 1},
            "creates_by_name": {"a": 1, "b": 1, "c": 1},
            "dropped": 0,
            "keys": 2,
        }
        newest = await served.create("d")
        _, listed = await served("GET", "/api/v1/keys?include_disabled=true")
        _, told = await served("GET", "/_emulator/requests")

    page = cast("dict[str, list[dict[str, object]]]", listed)["data"]
    assert [key["name"] for key in page] == ["d", "c", "a"]
    assert (page[0]["hash"], page[2]["limit"]) == (hash_of(newest), 5)
    numbers = [request["number"] for request in cast("list[dict[str, object]]", told)]
    assert numbers == [1, 2, 3, 4, 5, 6, 7]


# what a file holds


def whole_account() -> Account:
    account = Account(management_key="sk-or-v1-mine", organization_id="org-1")
    account.workspaces[OTHER] = Workspace(OTHER, "Other")
    account.default_workspace = OTHER
    account.members = {"user_1", "user_2"}
    account.budgets = [Budget(scope="workspace", limit_usd=9, spend_usd=2, budget_id="b")]
    account.advance(days=3)
    expires = datetime(2027, 12, 31, 23, 59, 59, 5, tzinfo=UTC)
    key = account.add("\ud83d", expires_at=expires, limit=2.5, external_user="u")
    account.spend(key.hash, 1.25, byok=True)
    account.add("odd", hash="f01d526...", secret=None, disabled=True)
    return account


def records(account: Account) -> list[dict[str, object]]:
    return [asdict(key) for key in account.keys.values()]


async def test_all_of_an_account_comes_back(path: Path) -> None:
    account = whole_account()
    async with Emulator(account, state=path):
        pass

    again = Emulator(state=path).account

    assert records(again) == records(account)
    assert (again.management_key, again.organization_id) == ("sk-or-v1-mine", "org-1")
    assert (again.workspaces, again.default_workspace) == (account.workspaces, OTHER)
    assert (again.members, again.budgets) == (account.members, account.budgets)
    assert again.ahead == timedelta(days=3)


def test_blocking_code_has_a_state_file_too(path: Path) -> None:
    with Emulator(state=path) as emulator:
        key = emulator.account.add("by hand")

    with Emulator(state=path) as emulator:
        assert records(emulator.account) == [asdict(key)]
        del emulator.account.keys[key.hash]
        emulator.account.management_key = "sk-or-v1-rotated"

    after = Emulator(state=path)
    assert after.account.keys == {}
    assert after.api_key == "sk-or-v1-rotated"


async def test_an_emulator_that_is_entered_again_goes_on_in_its_file(
    path: Path, session: aiohttp.ClientSession
) -> None:
    emulator = Emulator(state=str(path))
    for number in range(3):
        emulator.account.add(f"by hand {number}")
        async with emulator:
            await Served(emulator.base_url, session).create(str(number))

    after = Emulator(state=path)
    assert records(after.account) == records(emulator.account)
    assert [request.number for request in after.requests] == [1, 2, 3]


async def test_a_ledger_that_has_grown_too_long_comes_back_in_part_and_counted(
    path: Path, session: aiohttp.ClientSession
) -> None:
    async with Emulator(state=path) as emulator:
        served = Served(emulator.base_url, session)
        for number in range(5):
            await served.create(str(number))

    after = Emulator(state=path, ledger_size=2)

    assert [request.name for request in after.requests] == ["3", "4"]
    assert after.count("create") == 5


@pytest.mark.slow
async def test_what_was_before_a_reset_does_not_come_back_after_a_kill(
    path: Path, session: aiohttp.ClientSession
) -> None:
    async with process(session, state=str(path)) as (served, kill), asyncio.timeout(SOON):
        for name in "abc":
            await served.create(name)
        await served("POST", "/_emulator/reset")
        kill()
    assert (after := Emulator(state=path)).account.keys == {}
    assert after.requests == []

    async with process(session, state=str(path)) as (served, kill), asyncio.timeout(SOON):
        await served.create("d")
        await served("POST", "/_emulator/reset")
        secret = await served.create("e")
        kill()

    after = Emulator(state=path)
    assert [*after.account.keys] == [hash_of(secret)]
    assert [(request.number, request.name) for request in after.requests] == [(1, "e")]


def look(emulator: Emulator) -> None:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    request = urllib.request.Request(f"{emulator.base_url}/key", headers=headers)
    cast("HTTPResponse", urllib.request.urlopen(request, timeout=SOON)).close()


@pytest.mark.parametrize("serving", [True, False])
def test_a_reset_by_hand_is_in_the_file(path: Path, serving: bool) -> None:
    emulator = Emulator(state=path)
    with emulator:
        emulator.account.add("x")
        look(emulator)
        if serving:
            emulator.reset()
    if not serving:
        emulator.reset()
        with emulator:
            pass

    after = Emulator(state=path)
    assert (after.account.keys, after.requests) == ({}, [])


async def test_a_request_that_breaks_off_after_a_reset_does_not_come_back_into_the_file(
    path: Path,
) -> None:
    async with Emulator(state=path) as emulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(emulator))
        writer.write(b"POST /api/v1/keys HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(SOON):
            while not emulator.requests:
                await asyncio.sleep(0.001)
            emulator.reset()
            writer.write(b"}" * 99)
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    assert Emulator(state=path).requests == []


async def test_a_request_in_flight_does_not_come_back_into_the_file_by_a_reset(
    path: Path, session: aiohttp.ClientSession
) -> None:
    async with Emulator(state=path) as emulator:
        emulator.faults.append(Fault("create", "slow", delay=0.05))
        lost = asyncio.create_task(Served(emulator.base_url, session).create("x"))
        while emulator.faults:
            await asyncio.sleep(0.001)
        emulator.reset()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await lost

    after = Emulator(state=path)
    assert (after.requests, after.account.keys) == ([], {})


async def test_an_emulator_without_a_state_file_makes_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    async with Emulator() as emulator:
        emulator.account.add()

    assert [*path.parent.iterdir()] == []


async def test_a_ledger_comes_back_without_headers_and_bodies(
    path: Path, session: aiohttp.ClientSession
) -> None:
    external = {"user": "u", "api_key": CANARY}
    async with Emulator(state=path) as emulator:
        served = Served(emulator.base_url, session)
        emulator.faults.append(Fault("list", status=502))
        await served("POST", "/api/v1/keys", {"name": "x", "external": external})
        await served("GET", "/api/v1/keys?offset=0")

    after = Emulator(state=path)
    create, lists = after.requests
    assert (create.operation, create.name, create.status) == ("create", "x", 201)
    assert [create.hash] == [*after.account.keys]
    assert (lists.fault, lists.status, lists.query) == ("status", 502, {"offset": "0"})
    assert (create.headers, create.body) == ({}, b"")
    assert CANARY.encode() not in path.read_bytes()


async def test_a_request_that_broke_off_is_in_the_file(
    path: Path, session: aiohttp.ClientSession
) -> None:
    async with Emulator(state=path) as emulator, asyncio.timeout(SOON):
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(emulator))
        writer.write(b"POST /api/v1/keys HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{")
        while not emulator.requests:
            await asyncio.sleep(0.001)
        writer.close()
        await writer.wait_closed()
        # By its answer the emulator has seen the end that came before it.
        await Served(emulator.base_url, session)("GET", "/api/v1/key")

    first, second = Emulator(state=path).requests
    assert (first.operation, first.number, first.applied, first.status) == (
        "create",
        1,
        False,
        None,
    )
    assert (second.operation, second.number, second.applied) == ("current", 2, True)


# who may open it


@pytest.mark.skipif(sys.platform == "win32", reason="its files have no such modes")
@pytest.mark.parametrize("exists", [False, True])
async def test_nobody_else_may_read_the_file(path: Path, exists: bool) -> None:
    if exists:
        path.touch(mode=0o644)
        path.chmod(0o644)
    before = os.umask(0)
    try:
        async with Emulator(state=path):
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert modes == {"state.sqlite": 0o600, "state.sqlite-wal": 0o600}


@pytest.mark.slow
async def test_one_emulator_at_a_time_has_the_file(path: Path) -> None:
    other = Emulator(state=path)
    async with Emulator(state=path) as emulator:
        emulator.account.add("kept")
        for attempt in (partial(Emulator, state=path), other.__enter__):
            with pytest.raises(StateError, match="in use by another emulator"):
                await asyncio.to_thread(attempt)

    with pytest.raises(StateError, match="changed by another emulator"):
        await other.__aenter__()
    (key,) = Emulator(state=path).account.keys.values()
    assert key.name == "kept"


def test_the_database_of_something_else_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE journal (ref TEXT)")
    path.chmod(0o640)
    before = path.read_bytes()

    with pytest.raises(StateError, match=re.escape(f"{path} is not an emulator's state")):
        Emulator(state=path)

    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("there", [Path.mkdir, partial(Path.write_text, data="x" * 5000)])
def test_what_is_no_database_is_refused(path: Path, there: Callable[[Path], object]) -> None:
    there(path)

    with pytest.raises(StateError, match="cannot be read"):
        Emulator(state=path)


async def test_a_file_in_no_directory_is_an_error_on_entering(path: Path) -> None:
    emulator = Emulator(state=path / "deeper")

    with pytest.raises(FileNotFoundError):
        await emulator.__aenter__()


async def test_an_account_gives_its_clock_to_a_file_but_not_another_identity(path: Path) -> None:
    async with Emulator(whole_account(), state=path):
        pass
    now = datetime(2030, 1, 1, tzinfo=UTC)
    clocked = Account(clock=lambda: now)

    emulator = Emulator(clocked, state=path)
    for other in (Account(management_key="sk-or-v1-another"), whole_account()):
        with pytest.raises(StateError, match="another account"):
            Emulator(other, state=path)

    assert emulator.account is clocked
    assert emulator.api_key == "sk-or-v1-mine"
    assert len(clocked.keys) == 2


# when it cannot be written


@pytest.mark.slow
async def test_nobody_is_told_of_a_key_that_could_not_be_written(
    path: Path, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    emulator = Emulator(state=path)
    await emulator.__aenter__()
    served = Served(emulator.base_url, session)
    assert emulator._store is not None
    connection = emulator._store._connection
    assert connection is not None
    connection.execute("PRAGMA max_page_count=22")  # as if the disk were full

    secrets: list[str] = []

    async def work() -> None:
        with suppress(aiohttp.ClientError, ValueError):  # a 500, or its text that is no JSON
            while True:
                secrets.append(await served.create("x"))

    await asyncio.wait_for(asyncio.gather(*[work() for _ in range(8)]), SOON)
    assert len(emulator.account.keys) > len(secrets)
    emulator.account.keys = dict[str, StoredKey]()  # so that leaving has nothing to write
    with closing(sqlite3.connect(":memory:")) as copy:
        connection.backup(copy)
        rows = {hash for (hash,) in copy.execute("SELECT hash FROM keys")}
    await emulator.__aexit__(None, None, None)

    told = {hash_of(secret) for secret in secrets}
    assert told <= rows
    assert len(rows - told) < 8  # a key may be in the file, and its client not hear of it
    assert "full" in caplog.text
