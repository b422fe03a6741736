"""Where a client has its key from, and a callable key that is kept for its lifetime."""

import asyncio
import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from openrouter_keys import AsyncOpenRouter, CachedKey, OpenRouter, errors
from openrouter_keys._inputs.credentials import VARIABLES, Credentials, credentials_of
from openrouter_keys.emulator import Emulator, Fault
from tests.clients import FakeTime, api_keys
from tests.commands import Command
from tests.processes import ROOT
from tests.tables import in_one_test

KEYS = {name: f"sk-or-v1-{number:064}" for number, name in enumerate(VARIABLES)}
MANAGEMENT, PROVISIONING, ANY = VARIABLES
WRONG = "sk-or-v1-" + "7" * 64


# --- the environment ---


@in_one_test(
    "values, used",
    [
        (KEYS, MANAGEMENT),
        ({ANY: KEYS[ANY]}, ANY),
        ({PROVISIONING: KEYS[PROVISIONING]}, PROVISIONING),
        ({PROVISIONING: KEYS[PROVISIONING], ANY: KEYS[ANY]}, PROVISIONING),
        ({MANAGEMENT: "", PROVISIONING: "", ANY: KEYS[ANY]}, ANY),
        ({MANAGEMENT: "", PROVISIONING: KEYS[PROVISIONING]}, PROVISIONING),
        ({MANAGEMENT: KEYS[MANAGEMENT], ANY: "not a key"}, MANAGEMENT),
    ],
)
@in_one_test("given", [None, ""])
def test_the_first_variable_that_is_set_has_the_key(
    given: str | None, values: dict[str, str], used: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        credentials = credentials_of(given)
    assert (credentials.source, credentials.fixed()) == (used, KEYS[used])


@in_one_test("name", VARIABLES)
@in_one_test("value", [" ", "two words", f"{WRONG}\n", f'"{WRONG}"', "schlüssel"])
def test_a_variable_that_holds_no_key_is_named_and_not_passed_over(value: str, name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ANY, KEYS[ANY])
        patch.setenv(name, value)
        with pytest.raises(errors.InvalidArgumentError, match=f"^{name}: the key") as refused:
            OpenRouter()
    assert refused.value.argument == name
    assert WRONG not in str(refused.value)


def test_an_error_names_each_variable_if_there_is_no_key() -> None:
    with pytest.raises(errors.InvalidArgumentError) as refused:
        credentials_of(None)
    assert all(name in str(refused.value) for name in VARIABLES)


# --- which one was refused ---


@pytest.mark.parametrize("name", VARIABLES)
async def test_a_401_says_which_variable_the_key_is_from(
    name: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, WRONG)
    async with AsyncOpenRouter(server_url=emulator.base_url) as client:
        with pytest.raises(errors.UnauthorizedResponseError) as refused:
            await client.api_keys.list()
    assert refused.value.key_source == name
    assert f"check the API key (from {name})" in str(refused.value)
    again = pickle.loads(pickle.dumps(refused.value))
    assert (again.key_source, str(again)) == (name, str(refused.value))


SOURCES: list[tuple[Any, str]] = [
    (WRONG, "api_key="),
    (lambda: WRONG, "the api_key callable"),
    (CachedKey(lambda: WRONG), "the api_key callable"),
]


@pytest.mark.parametrize(("key", "source"), SOURCES, ids=["text", "callable", "cached"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_says_where_else_the_key_is_from(
    status: int, key: Any, source: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MANAGEMENT, emulator.api_key)
    emulator.faults.append(Fault(status=status, times=None))
    async with AsyncOpenRouter(key, server_url=emulator.base_url) as client:
        with pytest.raises(errors.ResponseError) as refused:
            await client.api_keys.create(name="new")
    assert (refused.value.status_code, refused.value.key_source) == (status, source)
    assert f"(from {source})" in str(refused.value)
    assert WRONG not in str(refused.value)


async def test_no_other_error_says_it(emulator: Emulator) -> None:
    emulator.faults.append(Fault(status=404))
    async with api_keys(emulator.base_url, emulator.api_key) as keys:
        with pytest.raises(errors.NotFoundResponseError) as refused:
            await keys.list()
    assert (refused.value.key_source, "from" in str(refused.value)) == ("", False)


def test_the_command_has_the_same_variables(command: Command) -> None:
    key = command.emulator.api_key
    for name in (MANAGEMENT, PROVISIONING):
        assert command("list", **{name: key, ANY: WRONG}).code == 0
        wrong = command("list", **{name: WRONG})
        assert (wrong.code, f"(from {name})" in wrong.err) == (4, True)
        assert command("list", **{name: ""}).code == 0
    none = command("list", **{ANY: ""})
    assert (none.code, none.err.count("\n")) == (4, 1)
    assert all(name in none.err for name in VARIABLES)
    assert all(name in command("--help").out for name in VARIABLES)


def test_the_command_says_that_the_key_is_from_a_file(command: Command) -> None:
    (command.folder / "key").write_text(WRONG)
    for words in (("list",), ("create", "x", "--show-secret"), ("delete", "a" * 64, "--yes")):
        ran = command(*words, "--api-key-file", "key")
        assert (ran.code, "(from --api-key-file)" in ran.err) == (4, True), ran.err


@pytest.mark.parametrize("name", VARIABLES)
def test_no_program_of_the_command_gets_the_management_key(
    name: str, command: Command, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    script = f"env | grep ^OPENROUTER > {seen}; cat > {tmp_path}/secret"
    (command.folder / "run").write_text(script)
    made = {"OPENROUTER_API_KEY": "", name: command.emulator.api_key}
    ran = command("create", "x", "--to-command", "sh run", **made)
    assert ran.code == 0, ran.err
    assert command.emulator.api_key not in seen.read_text()
    leased = {**made, "OPENROUTER_PROVISIONING_KEY": command.emulator.api_key}
    words = ("--name", "y", "--limit", "1", "--expires-in", "10m", "--", "sh", "run")
    ran = command("lease", *words, **leased)
    assert ran.code == 0, ran.err
    assert command.emulator.api_key not in seen.read_text()
    assert "OPENROUTER_API_KEY=sk-or-v1-" in seen.read_text()


# --- a key that is kept ---


class Vault:
    """Gives keys, and counts how often it is asked."""

    def __init__(self, *given: Any, slow: bool = False) -> None:
        self.given, self.asked, self.released = [*given], 0, asyncio.Event()
        if not slow:
            self.released.set()

    def now(self) -> Any:
        self.asked += 1
        given = self.given.pop(0) if len(self.given) > 1 else self.given[0]
        if isinstance(given, BaseException):
            raise given
        return given

    async def later(self) -> Any:
        given = self.now()
        await self.released.wait()
        return given


@pytest.mark.parametrize("way", ["now", "later"])
@pytest.mark.parametrize("pair", [True, False], ids=["says its lifetime", "does not"])
async def test_a_key_is_asked_for_once_in_its_lifetime(
    pair: bool, way: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    vault = Vault((emulator.api_key, 600.0) if pair else emulator.api_key)
    cached = CachedKey(getattr(vault, way), lifetime=5 if pair else 600)
    async with api_keys(emulator.base_url, cached, fake_time) as keys:
        for _ in range(3):
            await keys.list()
        await fake_time.sleep(565)  # 30 s before its end is soon enough
        await keys.list()
        assert vault.asked == 1
        await fake_time.sleep(6)
        await keys.list()
        await keys.list()
    assert vault.asked == 2


@in_one_test("lifetime, early", [(10.0, 1.0), (300.0, 30.0), (3600.0, 30.0), (0.0, 0), (-5, 0)])
def test_a_key_is_asked_for_a_little_before_its_end(lifetime: float, early: float) -> None:
    time = [100.0]
    vault = Vault(("sk-or-v1-a", lifetime), ("sk-or-v1-b", 1e6))
    credentials = Credentials(CachedKey(vault.now))

    async def asked() -> str:
        return await credentials.ask(60, lambda: time[0])

    async def all_of_it() -> None:
        assert await asked() == "sk-or-v1-a"
        if lifetime > 0:
            time[0] += lifetime - early - 0.1
            assert await asked() == "sk-or-v1-a"
        time[0] += 0.2
        assert await asked() == "sk-or-v1-b"

    asyncio.run(all_of_it())


async def test_calls_share_a_request_for_a_key(emulator: Emulator) -> None:
    vault = Vault((emulator.api_key, 600.0), slow=True)
    async with api_keys(emulator.base_url, CachedKey(vault.later)) as keys:
        calls = [asyncio.create_task(keys.list()) for _ in range(20)]
        await asyncio.sleep(0)
        while not vault.asked:
            await asyncio.sleep(0)
        calls[0].cancel()  # the others go on waiting for it
        await asyncio.sleep(0)
        vault.released.set()
        done = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each).__name__ for each in done] == ["CancelledError"] + ["ListResponse"] * 19
    assert vault.asked == 1


async def test_a_request_that_nobody_waits_for_is_ended() -> None:
    vault = Vault("sk-or-v1-a", slow=True)
    credentials = Credentials(CachedKey(vault.later))
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await credentials.ask(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert credentials._tasks == set()
    vault.released.set()
    assert await credentials.ask(60) == "sk-or-v1-a"


@pytest.mark.parametrize("way", ["now", "later"])
async def test_a_refused_key_is_asked_for_once_more(
    way: str, emulator: Emulator, fake_time: FakeTime
) -> None:
    vault = Vault((WRONG, 600.0), (emulator.api_key, 600.0))
    async with api_keys(emulator.base_url, CachedKey(getattr(vault, way)), fake_time) as keys:
        await asyncio.gather(*(keys.list() for _ in range(5)))
        await keys.create(name="new")
    assert vault.asked == 2
    assert {request.status for request in emulator.requests} == {401, 200, 201}


async def test_a_key_that_is_refused_for_good_is_an_error(emulator: Emulator) -> None:
    vault = Vault((WRONG, 600.0))
    async with api_keys(emulator.base_url, CachedKey(vault.now)) as keys:
        with pytest.raises(errors.UnauthorizedResponseError):
            await keys.list()
    assert (vault.asked, len(emulator.requests)) == (2, 1)


BAD: dict[str, tuple[Any, str]] = {
    "raises": (OSError("the vault is sealed"), "raised OSError"),
    "ends programs": (SystemExit(3), "raised SystemExit"),
    "empty": ("", "is empty"),
    "an empty pair": ((), "is not a key and the seconds"),
    "three": (("k", 1.0, 2.0), "is not a key and the seconds"),
    "a text as lifetime": (("k", "600"), "is not a key and the seconds"),
    "for ever": (("k", float("inf")), "is not a key and the seconds"),
    "no text": ((None, 600.0), "is not a string"),
    "a line": (("sk-or-v1-a\n", 600.0), "contains white space"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("way", ["now", "later"])
async def test_what_is_no_key_is_an_error_and_not_kept(
    way: str, what: str, emulator: Emulator
) -> None:
    bad, said = BAD[what]
    vault = Vault(bad, emulator.api_key)
    async with api_keys(emulator.base_url, CachedKey(getattr(vault, way))) as keys:
        with pytest.raises(errors.APIKeyError, match=said):
            await keys.list()
        await keys.list()
    assert vault.asked == 2


def test_the_blocking_client_takes_one(openrouter_emulator: Emulator) -> None:
    vault = Vault((openrouter_emulator.api_key, 600.0))
    with OpenRouter(CachedKey(vault.later), server_url=openrouter_emulator.base_url) as client:
        for _ in range(3):
            client.api_keys.list()
    assert vault.asked == 1


@in_one_test(
    "arguments",
    [("text",), (None,), (str, 0), (str, -1.0), (str, float("nan")), (str, "60"), (str, True)],
)
def test_a_bad_argument_is_refused_by_name(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"^(fetch|lifetime): must be"):
        CachedKey(*arguments)


def attributes(each: object) -> list[object]:
    return [getattr(each, name) for name in dir(each)]


@in_one_test("look", [vars, repr, attributes])
def test_a_kept_key_is_shown_nowhere(look: Callable[[object], object]) -> None:
    cached = CachedKey(lambda: (WRONG, 600.0))
    credentials = Credentials(cached)
    assert asyncio.run(credentials.ask(60)) == WRONG
    assert WRONG not in f"{look(credentials)} {cached!r}"
    for each in (cached, credentials):
        for pack in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="never"):
                pack(each)


# --- the guide ---


def guide() -> ModuleType:
    """The program of docs/management-key.md."""
    text = (ROOT / "docs" / "management-key.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    module = ModuleType("workload")
    exec(code, vars(module))
    return module


async def test_a_key_for_a_workloads_identity(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities: list[str] = []

    async def broker(request: web.Request) -> web.Response:
        identities.append(request.headers["Authorization"])
        return web.json_response({"key": emulator.api_key, "expires_in": 600})

    app = web.Application()
    app.router.add_post("/openrouter/key", broker)
    token = tmp_path / "token"
    token.write_text("the identity\n")
    async with TestServer(app) as server:
        monkeypatch.setenv("BROKER_URL", str(server.make_url("/openrouter/key")))
        monkeypatch.setenv("IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("OPENROUTER_BASE_URL", emulator.base_url)
        async with guide().make_client() as client:
            await asyncio.gather(*(client.api_keys.list() for _ in range(5)))
            await client.api_keys.create(name="new")
    assert identities == ["Bearer the identity"]
    assert emulator.count("create") == 1
