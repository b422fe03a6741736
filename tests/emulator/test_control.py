"""What other processes ask and tell an emulator, and that what they sent lands without them."""

import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from attrs import define, fields_dict

from openrouter_keys import __version__
from openrouter_keys.emulator import Account, DailyQuota, Emulator, Fault, RateLimit, Request
from openrouter_keys.emulator.control import _CONTROLS
from openrouter_keys.emulator.settings import Settings
from tests.emulators import connected, port_of
from tests.processes import Process, environment

ROOT = Path(__file__).parents[2]
OTHER = "11111111-2222-4333-8444-555555555555"
SOON = 30.0  # seconds within which something comes; it takes a fraction of one
CANARY = "canary-" * 6


@define
class Caller:
    """A client of both APIs that knows nothing of the package's."""

    emulator: Emulator
    session: aiohttp.ClientSession

    async def __call__(
        self, method: str, url: str, body: object = None, key: str | None = None
    ) -> tuple[int, object]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {
            "Authorization": f"Bearer {self.emulator.api_key if key is None else key}",
            "Content-Type": "application/json",
            "User-Agent": "worker-7",
        }
        async with self.session.request(method, url, data=data, headers=headers) as response:
            return response.status, json.loads(await response.text())

    async def control(self, method: str, name: str, body: object = None) -> object:
        status, answer = await self(method, f"{self.emulator.control_url}/{name}", body)
        assert status == 200, answer
        return answer

    async def refused(self, method: str, name: str, body: object) -> str:
        status, answer = await self(method, f"{self.emulator.control_url}/{name}", body)
        assert status == 400
        error = cast("dict[str, dict[str, object]]", answer)["error"]
        assert error["code"] == 400
        return str(error["message"])

    async def create(self, name: str, **fields: object) -> int:
        url = f"{self.emulator.base_url}/keys"
        return (await self("POST", url, {"name": name, **fields}))[0]


@pytest.fixture
async def call(emulator: Emulator) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(emulator, session)


# asking


async def test_the_ledger_is_told_without_what_is_secret(emulator: Emulator, call: Caller) -> None:
    await call.create("a", external={"user": "u", "api_key": CANARY})
    emulator.faults.append(Fault("create", status=502, phase="after"))
    await call.create("b")
    await call("GET", f"{emulator.base_url}/keys/none?x=1")

    told = await call.control("GET", "requests")

    first, second = emulator.account.keys.values()
    create = {"operation": "create", "method": "POST", "path": "/api/v1/keys", "connection": 1}
    create["user_agent"] = "worker-7"
    assert told == [
        {**create, "number": 1, "size": 97, "name": "a", "status": 201, "fault": None}
        | {"applied": True, "hash": first.hash},
        {**create, "number": 2, "size": 13, "name": "b", "status": 502, "fault": "status"}
        | {"applied": True, "hash": second.hash},
        {"operation": "get", "method": "GET", "path": "/api/v1/keys/none?x=1", "connection": 1}
        | {"number": 3, "size": 4, "name": None, "status": 404, "fault": None}
        | {"applied": False, "hash": "none", "user_agent": "worker-7"},
    ]
    for secret in (emulator.api_key, CANARY, first.secret, second.secret):
        assert str(secret) not in json.dumps(told)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"billing/2.1 openrouter-keys/0.1", "billing/2.1 openrouter-keys/0.1"),
        (b"", ""),
        (b"<script>'\"&", "<script>'\"&"),
        (b"a\tb", "a\\tb"),
        (b"\xc2\x9bred", "\\x9bred"),
        (b"\xe2\x80\xaeback", "\\u202eback"),
        (b"\xff", "\\udcff"),
        (b"x" * 5000, "x" * 200),
    ],
)
async def test_who_asked_is_shown_bounded_and_escaped(
    emulator: Emulator, call: Caller, sent: bytes, shown: str
) -> None:
    host, port = emulator.base_url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"GET /api/v1/keys HTTP/1.1\r\nHost: x\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n"
    writer.write(head % sent)
    await reader.read()
    writer.close()
    (told,) = cast("list[dict[str, object]]", await call.control("GET", "requests"))
    assert told["user_agent"] == emulator.requests[0].user_agent == shown


RACE = """
import sys
from openrouter_keys import OpenRouter
with OpenRouter(user_agent=sys.argv[0]) as client:
    client.api_keys.get_current_key_metadata()
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(5):
        client.api_keys.create(name=f"{sys.argv[0]} {number}")
"""


@pytest.mark.slow
async def test_two_processes_that_race_are_told_apart(emulator: Emulator, call: Caller) -> None:
    server = environment(OPENROUTER_API_KEY=emulator.api_key, OPENROUTER_BASE_URL=emulator.base_url)
    emulator.latency = 0.01

    def start(name: str) -> Process:
        script = f"import sys; sys.argv[0] = {name!r}\n{RACE}"
        return Process("-c", script, environment=server, stdin=subprocess.PIPE)

    processes = [start(name) for name in ("worker-1/7", "worker-2/7")]
    for process in processes:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
    ends = [asyncio.to_thread(process.communicate, "\n", 60) for process in processes]
    assert await asyncio.gather(*ends) == [("", "")] * 2

    told = cast("list[dict[str, str]]", await call.control("GET", "requests"))
    creates = [each for each in told if each["operation"] == "create"]
    askers = [each["user_agent"] for each in creates]
    own = f"openrouter-keys/{__version__}"
    assert sorted({*askers}) == [f"worker-1/7 {own}", f"worker-2/7 {own}"]
    assert askers != sorted(askers)  # they raced
    assert all(each["user_agent"].startswith(each["name"].split()[0]) for each in creates)


async def test_keys_are_told_by_the_hash_of_their_secret(emulator: Emulator, call: Caller) -> None:
    await call.create("a", limit=2.5)
    used = emulator.account.add("b", disabled=True, secret="sk-or-v1-mine", hash="f01d526...")
    emulator.account.spend(used.hash, 1)

    told = await call.control("GET", "keys")

    made, _ = emulator.account.keys.values()
    workspace = emulator.account.default_workspace
    assert used.last_used_at is not None
    assert told == [
        {"hash": made.hash, "name": "a", "created_at": made.created_at.isoformat()}
        | {"disabled": False, "limit": 2.5, "workspace_id": workspace}
        | {"last_used_at": None, "secret_sha256": made.hash},
        {"hash": "f01d526...", "name": "b", "created_at": used.created_at.isoformat()}
        | {"disabled": True, "limit": None, "workspace_id": workspace}
        | {"last_used_at": used.last_used_at.isoformat()}
        | {"secret_sha256": sha256(b"sk-or-v1-mine").hexdigest()},
    ]
    assert str(made.secret) not in json.dumps(told)


async def test_the_summary_counts_requests_names_and_live_keys(
    emulator: Emulator, call: Caller
) -> None:
    emulator.faults.append(Fault("create", skip=1))
    for name in ("a", "a", "b"):
        await call.create(name)
    await call("POST", f"{emulator.base_url}/keys", {"limit": 1})
    await call("DELETE", f"{emulator.base_url}/keys/{next(iter(emulator.account.keys))}")

    assert await call.control("GET", "summary") == {
        "requests": {"create": 4, "delete": 1},
        "creates_by_name": {"a": 2, "b": 1},
        "dropped": 0,
        "keys": 1,
    }


@pytest.mark.slow
async def test_a_hundred_thousand_requests_are_told(emulator: Emulator, call: Caller) -> None:
    await call.create("first")
    (seen,) = emulator.requests
    emulator.requests += [
        Request(
            operation="create", method="POST", path=seen.path, query={}, headers={}, connection=1,
            name=f"{number % 1000}", number=number,
        )
        for number in range(2, 100_001)
    ]  # fmt: skip

    async with asyncio.timeout(SOON):
        told = cast("list[dict[str, object]]", await call.control("GET", "requests"))
        summary = cast("dict[str, dict[str, int]]", await call.control("GET", "summary"))

    assert [request["number"] for request in told] == [*range(1, 100_001)]
    assert summary["requests"] == {"create": 100_000}
    assert summary["creates_by_name"]["7"] == 100


# faults

EVERY_FIELD: dict[str, object] = {
    "operation": "create",
    "kind": "not_json",
    "phase": "after",
    "times": None,
    "skip": 2,
    "probability": 0.25,
    "status": 503,
    "headers": {"Retry-After": "7"},
    "body": "<\u00e9>",
    "delay": 0.5,
    "portion": 0.1,
}


async def test_a_fault_is_every_field_of_it_there_and_back(
    emulator: Emulator, call: Caller
) -> None:
    assert await call.control("PUT", "faults", [EVERY_FIELD]) == [EVERY_FIELD]

    assert await call.control("GET", "faults") == [EVERY_FIELD]
    (fault,) = emulator.faults
    assert fault.body == "<\u00e9>".encode()


async def test_a_body_that_is_no_text_comes_back_as_it_went(
    emulator: Emulator, call: Caller
) -> None:
    fault = Fault(kind="body", body=b"\xff\x00{")
    emulator.faults.append(fault)

    await call.control("PUT", "faults", await call.control("GET", "faults"))

    assert emulator.faults[0] is not fault
    assert emulator.faults[0].body == fault.body


async def test_faults_are_replaced_added_and_removed(emulator: Emulator, call: Caller) -> None:
    async def kinds(method: str, body: object) -> list[object]:
        faults = cast("list[dict[str, object]]", await call.control(method, "faults", body))
        assert faults == await call.control("GET", "faults")
        return [fault["kind"] for fault in faults]

    held = emulator.faults
    assert await kinds("PUT", [{"kind": "reset"}, {"kind": "cut"}]) == ["reset", "cut"]
    assert await kinds("POST", {"kind": "late"}) == ["reset", "cut", "late"]
    assert await kinds("POST", [{"status": 500}] * 2) == [
        "reset",
        "cut",
        "late",
        "status",
        "status",
    ]
    assert await kinds("PUT", {"kind": "slow"}) == ["slow"]
    assert await kinds("DELETE", None) == []
    assert emulator.faults is held


async def test_a_fault_from_elsewhere_strikes_as_often_as_it_says(call: Caller) -> None:
    await call.control("POST", "faults", {"operation": "create", "status": 502, "times": 2})

    assert [await call.create("x") for _ in range(2)] == [502, 502]
    assert await call.control("GET", "faults") == []
    assert await call.create("x") == 201


WRONG_FAULTS: list[tuple[object, str]] = [
    ({"kinds": "reset", "when": 1}, "no kinds, when; it has body, delay, headers, kind,"),
    ({"kind": "nonsense"}, "kind"),
    ({"kind": ["reset"]}, "kind"),
    ({"operation": "credits"}, "operation"),
    ({"phase": "later"}, "phase"),
    ({"times": 0}, "times"),
    ({"times": "3"}, "times"),
    ({"times": True}, "times"),
    ({"skip": -1}, "skip"),
    ({"skip": None}, "skip"),
    ({"probability": 1.5}, "probability"),
    ({"probability": "1"}, "probability"),
    ({"status": 99}, "status"),
    ({"status": 502.5}, "status"),
    ({"headers": ["Retry-After"]}, "headers"),
    ({"headers": {"Retry-After": 7}}, "headers"),
    ({"headers": {"X": "7\r\nX-More: 1"}}, "headers"),
    ({"headers": {"X": "\u2603"}}, "headers"),
    ({"body": 7}, "body"),
    ({"body": "\ud83d"}, "body"),
    ({"delay": -0.1}, "delay"),
    ({"delay": 10**400}, "delay"),
    ({"portion": 2}, "portion"),
    ("reset", "a fault: expected a JSON object"),
    (b"", "not JSON"),
    (b'{"delay":NaN}', "not JSON"),
]


# settings


async def test_settings_that_are_not_named_stay_as_they_are(
    emulator: Emulator, call: Caller
) -> None:
    limit = emulator.rate_limit = RateLimit(0.5, 1)

    settings = await call.control("PUT", "settings", {"latency": 0.01, "page_size": 7})

    assert settings == {
        "latency": 0.01,
        "page_size": 7,
        "rate_limit": {"rate": 0.5, "burst": 1, "retry_after": "seconds", "name": None},
        "daily_quota": None,
        "contract": "2026-11",
        "max_body": 10_000_000,
        "ledger_size": 100_000,
        "ledger_bytes": 300_000_000,
        "connections": 1000,
        "client_timeout": 60.0,
        "idle_timeout": 3600.0,
    }
    assert settings == await call.control("GET", "settings")
    assert (emulator.latency, emulator.page_size) == (0.01, 7)
    assert emulator.rate_limit is limit
    assert await call.control("PUT", "settings", {}) == settings


async def test_a_rate_limit_from_elsewhere_comes_and_goes(call: Caller) -> None:
    limit = {"rate": 0.001, "burst": 1, "retry_after": "none"}
    await call.control("PUT", "settings", {"rate_limit": limit})
    limited = [await call.create("x") for _ in range(2)]
    await call.control("PUT", "settings", {"rate_limit": None})

    assert limited == [201, 429]
    assert await call.create("x") == 201


async def test_a_daily_quota_from_elsewhere_counts_on_until_the_next_day(
    emulator: Emulator, call: Caller
) -> None:
    await call.control("PUT", "clock", {"now": "2027-03-31T23:59:00Z"})
    settings = await call.control("PUT", "settings", {"daily_quota": {"limit": 2}})
    made = [await call.create("x") for _ in range(3)]
    await call.control("PUT", "settings", {"latency": 0})
    made.append(await call.create("x"))
    await call.control("POST", "clock", {"minutes": 1})
    made += [await call.create("x") for _ in range(3)]
    await call.control("POST", "reset")

    assert made == [201, 201, 429, 429, 201, 201, 429]
    assert cast("dict[str, object]", settings)["daily_quota"] == {
        "limit": 2,
        "name": "keys-modify-api-rpd-v2",
        "named_in": "metadata",
        "headers_in": "answer",
        "unit": "ms",
    }
    assert emulator.daily_quota is None


WRONG_SETTINGS: list[tuple[object, str]] = [
    (
        {"seed": 1, "latencies": 2},
        "no latencies, seed; it has client_timeout, connections, contract, ",
    ),
    ({"latency": "1"}, "latency"),
    ({"latency": None}, "latency"),
    ({"latency": -1}, "latency"),
    ({"latency": 60, "page_size": 0}, "page_size"),
    ({"page_size": 1.5}, "page_size"),
    ({"rate_limit": 5}, "rate_limit: expected a JSON object"),
    ({"latency": 60, "rate_limit": {"rate": 5}}, "burst"),
    ({"rate_limit": {"rate": 0, "burst": 1}}, "rate"),
    ({"rate_limit": {"rate": "1", "burst": 1}}, "rate"),
    ({"rate_limit": {"rate": 1, "burst": 0}}, "burst"),
    ({"rate_limit": {"rate": 1, "burst": 1, "retry_after": "soon"}}, "retry_after"),
    ({"rate_limit": {"rate": 1, "burst": 1, "tokens": 1}}, "no tokens; it has burst, name, rate,"),
    ({"daily_quota": 5}, "daily_quota: expected a JSON object"),
    ({"latency": 60, "daily_quota": {}}, "limit"),
    ({"daily_quota": {"limit": -1}}, "limit"),
    ({"daily_quota": {"limit": 1, "name": "two words"}}, "name"),
    ({"daily_quota": {"limit": 1, "named_in": "headers"}}, "named_in"),
    ({"daily_quota": {"limit": 1, "headers_in": "body"}}, "headers_in"),
    ({"daily_quota": {"limit": 1, "unit": "minutes"}}, "unit"),
    ({"daily_quota": {"limit": 1, "used": 1}}, "no used; it has"),
    ({"contract": "2024-01"}, "contract"),
    ({"contract": ["2026-11"]}, "contract"),
    ({"max_body": -1}, "max_body"),
    ({"ledger_size": None}, "ledger_size"),
    ({"ledger_bytes": -1}, "ledger_bytes"),
    ({"connections": 0}, "connections"),
    ({"client_timeout": 0}, "client_timeout"),
    ({"idle_timeout": None}, "idle_timeout"),
    ([], "settings: expected a JSON object"),
    (b"{", "not JSON"),
]


# the account


async def test_who_the_account_is_can_be_changed_from_elsewhere(
    emulator: Emulator, call: Caller
) -> None:
    default = {emulator.account.default_workspace: "Default"}
    before = {"organization_id": None, "workspaces": default, "members": None}
    assert await call.control("GET", "account") == {**before, "inference_key_status": 401}
    emulator.account.add("private", secret="sk-or-v1-inference")

    changed = await call.control(
        "PUT", "account", {"workspaces": {OTHER: "Other"}, "members": ["b", "a"]}
    )
    await call.control("PUT", "account", {"organization_id": "org", "inference_key_status": 403})

    workspaces = {**default, OTHER: "Other"}
    assert changed == {
        **before, "workspaces": workspaces, "members": ["a", "b"], "inference_key_status": 401
    }  # fmt: skip
    assert await call.create("x", workspace_id=OTHER, creator_user_id="a") == 201
    assert await call.create("x", creator_user_id="c") == 400
    status, answer = await call("GET", f"{emulator.base_url}/key")
    assert (status, cast("dict[str, dict[str, str]]", answer)["data"]["organization_id"]) == (
        200,
        "org",
    )
    assert (await call("GET", f"{emulator.base_url}/keys", key="sk-or-v1-inference"))[0] == 403
    assert await call.control("PUT", "account", {"members": None}) == {
        "organization_id": "org",
        "workspaces": workspaces,
        "members": None,
        "inference_key_status": 403,
    }


WRONG_ACCOUNTS: list[tuple[object, str]] = [
    ({"management_key": "mine"}, "account has no management_key"),
    ({"organization_id": 1}, "organization_id"),
    ({"workspaces": None}, "workspaces"),
    ({"workspaces": ["x"]}, "workspaces"),
    ({"workspaces": {"x": 1}}, "workspaces"),
    ({"members": "ab"}, "members"),
    ({"organization_id": "org", "members": [1]}, "members"),
    ({"inference_key_status": 404}, "inference_key_status"),
    ([], "account: expected a JSON object"),
]


# time and money


async def test_time_is_set_and_advanced_from_elsewhere_and_spending_rolls_over(
    emulator: Emulator, call: Caller
) -> None:
    emulator.account.clock = lambda: datetime(2027, 1, 1, tzinfo=UTC)
    key = emulator.account.add("x", limit=10, limit_reset="monthly")

    told = await call.control("PUT", "clock", {"now": "2027-03-31T23:59:00Z"})
    spent = await call.control("POST", "spend", {"hash": key.hash, "usd": 2.5})
    byok = await call.control("POST", "spend", {"hash": key.hash, "usd": 1, "byok": True})
    later = await call.control("POST", "clock", {"minutes": 1})
    after = await call("GET", f"{emulator.base_url}/keys/{key.hash}")

    assert told == {"now": "2027-03-31T23:59:00+00:00", "ahead": 89 * 86400 + 23 * 3600 + 59 * 60}
    assert await call.control("GET", "clock") == later
    assert cast("dict[str, object]", later)["now"] == "2027-04-01T00:00:00+00:00"

    def amounts(record: object) -> list[object]:
        names = ("usage", "usage_weekly", "usage_monthly", "byok_usage_daily", "limit_remaining")
        return [cast("dict[str, object]", record)[name] for name in names]

    assert amounts(spent) == [2.5, 2.5, 2.5, 0, 7.5]
    assert amounts(byok) == [2.5, 2.5, 2.5, 1, 7.5]
    assert amounts(cast("dict[str, object]", after[1])["data"]) == [2.5, 2.5, 0, 0, 10]
    assert str(key.secret) not in json.dumps([spent, byok])


WRONG_TIMES: list[tuple[str, object]] = [
    ("PUT", {"now": "soon"}),
    ("PUT", {"now": 1830297599}),
    ("PUT", {"now": "2027-03-31T23:59:00"}),
    ("PUT", {"now": "9999-12-31T00:00:00Z"}),
    ("PUT", {"now": "1969-12-31T23:59:59Z"}),
    ("PUT", {}),
    ("PUT", {"days": 1}),
    ("POST", {"days": "1"}),
    ("POST", {"days": 1e300}),
    ("POST", {"years": 1}),
    ("POST", []),
]


WRONG_EXPENSES: list[tuple[object, str]] = [
    ({"usd": 1}, "hash"),
    ({"hash": 7, "usd": 1}, "hash"),
    ({"hash": "none"}, "usd"),
    ({"hash": "none", "usd": -1}, "usd"),
    ({"hash": "none", "usd": "1"}, "usd"),
    ({"hash": "none", "usd": 1, "byok": 1}, "byok"),
    ({"hash": "none", "usd": 1, "when": 1}, "no when; it has byok, hash, usd"),
]


WRONG = [
    *(
        (method, "faults", fault if isinstance(fault, bytes) else [{"kind": "cut"}, fault], word)
        for method in ("PUT", "POST")
        for fault, word in WRONG_FAULTS
    ),
    *(("PUT", "settings", settings, word) for settings, word in WRONG_SETTINGS),
    *(("PUT", "account", account, word) for account, word in WRONG_ACCOUNTS),
    *((method, "clock", time, "clock") for method, time in WRONG_TIMES),
    *(("POST", "spend", expense, word) for expense, word in WRONG_EXPENSES),
]


@pytest.mark.parametrize(("method", "name", "body", "word"), WRONG)
async def test_what_is_wrong_is_refused_and_changes_nothing(
    call: Caller, method: str, name: str, body: object, word: str
) -> None:
    call.emulator.faults.append(Fault(kind="reset"))
    shown = ("faults", "settings", "account", "keys")
    before = [await call.control("GET", each) for each in shown]

    assert word in await call.refused(method, name, body)

    assert [await call.control("GET", each) for each in shown] == before
    assert call.emulator.account.ahead == timedelta()


async def test_a_key_that_is_not_there_cannot_be_spent_from(
    emulator: Emulator, call: Caller
) -> None:
    url = f"{emulator.control_url}/spend"
    assert (await call("POST", url, {"hash": "none", "usd": 1}))[0] == 404


# back to how it was made


async def test_a_reset_from_elsewhere_leaves_nothing(emulator: Emulator, call: Caller) -> None:
    await call.create("x")
    await call.control("PUT", "settings", {"page_size": 1, "contract": "2026-08"})
    await call.control("PUT", "faults", {"status": 500, "times": None})
    await call.control("POST", "clock", {"days": 1})

    told = await call.control("POST", "reset")

    assert told == {"requests": {}, "creates_by_name": {}, "dropped": 0, "keys": 0}
    assert (emulator.page_size, emulator.contract, emulator.faults) == (100, "2026-11", [])
    assert emulator.account.ahead == timedelta()
    assert await call.create("y") == 201
    assert emulator.requests[0].number == 1


async def test_what_is_no_longer_in_the_ledger_is_still_counted(call: Caller) -> None:
    await call.control("PUT", "settings", {"ledger_size": 2})
    for name in "aab":
        await call.create(name)

    assert await call.control("GET", "summary") == {
        "requests": {"create": 3},
        "creates_by_name": {"a": 1, "b": 1},
        "dropped": 1,
        "keys": 3,
    }


async def test_contracts_and_limits_of_size_are_settings(call: Caller) -> None:
    await call.control("PUT", "settings", {"contract": "2025-02", "max_body": 20})

    assert await call.create("x") == 201
    assert await call.create("a name of more than twenty bytes") == 413


# who may, and where


def test_everything_there_is_is_documented_and_nothing_else() -> None:
    page = (ROOT / "docs" / "emulator.md").read_text()
    documented = re.findall(r"^\| `([A-Z]+) (/_emulator/\w+)` \|", page, re.MULTILINE)

    assert sorted(documented) == sorted(_CONTROLS)


def test_every_field_that_can_be_set_is_documented() -> None:
    page = (ROOT / "docs" / "emulator.md").read_text()
    limits = (*fields_dict(RateLimit), *fields_dict(DailyQuota))
    names = [*fields_dict(Fault), *fields_dict(Settings), *limits]

    missing = {name for name in names if not name.startswith("_") and f"`{name}`" not in page}

    assert missing == set()


@pytest.mark.parametrize("name", [*sorted({path.split("/")[2] for _, path in _CONTROLS}), "none"])
async def test_only_the_management_key_controls(
    emulator: Emulator, call: Caller, name: str
) -> None:
    inference = emulator.account.add("private").secret
    for key, message in [
        ("", "Missing Authentication header"),
        ("sk-or-v1-unknown", "User not found."),
        (inference, "Invalid management key"),
    ]:
        got = await call("GET", f"{emulator.control_url}/{name}", key=key)
        assert got == (401, {"error": {"code": 401, "message": message}})


@pytest.mark.parametrize(
    ("request_line", "status", "word"),
    [
        ("GET /_emulator/nothing", 404, "/_emulator/faults, /_emulator/keys, "),
        ("GET /_emulator/requests/", 404, "/_emulator/requests"),
        ("DELETE /_emulator/keys", 405, "takes GET"),
        ("DELETE /_emulator/settings?x", 405, "takes GET, PUT"),
        ("PATCH /_emulator/faults", 405, "takes GET, PUT, POST, DELETE"),
    ],
)
async def test_another_path_or_method_is_told_what_there_is(
    emulator: Emulator, call: Caller, request_line: str, status: int, word: str
) -> None:
    method, path = request_line.split()
    got, answer = await call(method, emulator.control_url.removesuffix("/_emulator") + path)

    assert got == status
    assert word in json.dumps(answer)


async def test_there_is_no_control_among_the_services_routes(
    emulator: Emulator, call: Caller
) -> None:
    url = f"{emulator.base_url}/_emulator/requests"
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    async with call.session.get(url, headers=headers) as response:
        assert response.status == 404

    assert [request.operation for request in emulator.requests] == ["unknown"]


async def test_control_is_no_request_to_the_service(emulator: Emulator, call: Caller) -> None:
    emulator.latency = 60
    emulator.rate_limit = RateLimit(0.001, 1)
    emulator.faults.append(Fault(kind="reset"))

    async with asyncio.timeout(SOON):
        for _ in range(3):
            await call.control("GET", "summary")

    assert emulator.requests == []
    assert len(emulator.faults) == 1
    assert emulator.rate_limit.wait(emulator.account.clock()) == 0


def test_an_emulator_has_no_address_to_control_before_it_serves() -> None:
    with pytest.raises(RuntimeError, match="enter it with"):
        _ = Emulator().control_url


# clients that have gone


def create_request(emulator: Emulator, name: str) -> bytes:
    body = json.dumps({"name": name}).encode()
    head = f"POST /api/v1/keys HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {emulator.api_key}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def reset(connection: socket.socket) -> None:
    layout = "hh" if sys.platform == "win32" else "ii"
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(layout, 1, 0))
    connection.close()


def vanish(emulator: Emulator, count: int, leave: Callable[[socket.socket], None]) -> None:
    """Send creates and be gone before the emulator, in this very loop, can so much as look."""
    for number in range(count):
        connection = connected(emulator)
        connection.sendall(create_request(emulator, str(number)))
        leave(connection)


async def landed(emulator: Emulator, count: int) -> None:
    async with asyncio.timeout(SOON):
        while len(emulator.account.keys) < count:
            await asyncio.sleep(0.001)


LEAVES: dict[str, Callable[[socket.socket], None]] = {"close": socket.socket.close, "reset": reset}


@pytest.mark.parametrize("leave", LEAVES)
async def test_a_request_lands_whose_client_went_right_after_sending_it(
    emulator: Emulator, leave: str, caplog: pytest.LogCaptureFixture
) -> None:
    vanish(emulator, 40, LEAVES[leave])

    await landed(emulator, 40)

    assert all(request.applied for request in emulator.requests)
    assert caplog.records == []


@pytest.mark.parametrize("leave", LEAVES)
async def test_the_second_request_of_a_connection_lands_without_its_client_too(
    emulator: Emulator, leave: str
) -> None:
    loop = asyncio.get_running_loop()
    connection = connected(emulator)
    connection.setblocking(False)
    await loop.sock_sendall(connection, create_request(emulator, "first"))
    received = b""
    while not received.endswith(b"\r\n0\r\n\r\n"):
        received += await loop.sock_recv(connection, 65536)

    connection.sendall(create_request(emulator, "second"))
    LEAVES[leave](connection)

    await landed(emulator, 2)
    assert [request.connection for request in emulator.requests] == [1, 1]


@pytest.mark.parametrize("leave", LEAVES)
async def test_a_late_request_lands_whose_client_did_not_wait_to_be_sent_away(
    emulator: Emulator, leave: str, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.append(Fault("create", "late", delay=0.05, times=None))
    vanish(emulator, 10, LEAVES[leave])

    await landed(emulator, 10)

    assert {(request.fault, request.status) for request in emulator.requests} == {("late", None)}
    assert caplog.records == []


CLIENT = """
import socket, sys, threading
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(sys.stdin.buffer.read())
threading.Event().wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "hold",
    [
        Fault("create", "late", delay=0.5),
        Fault("create", "slow", delay=0.5),
        Fault("create", "stalled", phase="after", delay=0),
    ],
    ids=lambda fault: fault.kind,
)
async def test_a_request_lands_although_its_client_was_killed(
    emulator: Emulator, hold: Fault
) -> None:
    emulator.faults.append(hold)
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, str(port_of(emulator)), stdin=subprocess.PIPE
    )
    assert client.stdin is not None
    client.stdin.write(create_request(emulator, "orphan"))
    client.stdin.write_eof()
    try:
        async with asyncio.timeout(SOON):
            while not emulator.requests or (not emulator.requests[0].applied and not hold.delay):
                await asyncio.sleep(0.001)
        applied_before = emulator.requests[0].applied
    finally:
        client.kill()
        await client.wait()

    await landed(emulator, 1)

    assert applied_before == (hold.phase == "after")
    assert emulator.requests[0].applied


@pytest.mark.slow
async def test_the_order_in_which_late_requests_land_is_seeded() -> None:
    async def order(seed: int) -> list[str]:
        faults = [
            Fault("create", "late", delay=0.05, probability=0.5, times=None),
            Fault("create", "late", delay=0.6, times=None),
        ]
        async with Emulator(Account(), faults=faults, seed=seed) as emulator:
            vanish(emulator, 12, socket.socket.close)
            await landed(emulator, 12)
            arrived = [request.hash for request in emulator.requests]
            return [str(arrived.index(hash)) for hash in emulator.account.keys]

    first = await order(1)

    assert first == await order(1) != await order(2)
    assert sorted(first, key=int) == [str(number) for number in range(12)] != first
