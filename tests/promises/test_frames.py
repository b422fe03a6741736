"""No function of the package has a secret in a local variable, unless its frames never leave."""

import json
import re
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from attrs import evolve

from openrouter_keys import AsyncOpenRouter, External, KeySpec, errors
from openrouter_keys._base import tracebacks
from openrouter_keys.emulator import Emulator
from tests.raw_server import answer, raw_server
from tests.records import PARTNER_SECRET, key_json

MANAGEMENT = "sk-or-v1-" + "cd" * 32
CREATED = "sk-or-v1-5ec" + "ab" * 30 + "f"
PASSWORD = "Tr0ub4dor-pass"
SECRET = re.compile(rf"sk-or-v1-[0-9a-f]{{64}}|emulator-[\w-]*|{PARTNER_SECRET}|{PASSWORD}")

# Between two instructions of these, which wait for nothing, Ctrl-C may show an argument.
IN_A_MOMENT = {
    ("_inputs.checks", "api_key_problem"),
    ("_inputs.checks", "external_api_key"),
    ("_inputs.checks", "given.<locals>.check_given"),
    ("api_keys", "AsyncAPIKeys.create"),
    ("client", "AsyncOpenRouter.__init__"),
    ("client", "_find_proxy"),
    ("client", "AsyncOpenRouter.lease"),
    ("lease", "__init__"),  # a record, which masks it
    ("models", "__init__"),
    ("models", "external_of"),
    ("journal.journal", "Journal.keep"),  # gone before it begins to wait
    ("provisioning.report", "__init__"),  # a record, which masks it
}


class Watch:
    """Looks at the local variables of each function of the package, at each of its lines."""

    def __init__(self, secret: re.Pattern[str]) -> None:
        self._secret = secret
        self.seen = set[tuple[str, str]]()
        self.found = dict[tuple[str, str], str]()

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        """Look at a function that begins."""
        module, function = place(frame)
        ours = module and not module.startswith(("emulator", "cli"))
        if ours and not tracebacks.holds_secrets(frame):
            self.seen.add((module, function))
            return self.line
        return None

    def line(self, frame: FrameType, event: str, argument: object) -> Any:
        """Look at a line."""
        for name, value in frame.f_locals.items():
            if place(frame) not in self.found and self._secret.search(shown(value)):
                self.found[place(frame)] = name
        return self.line


def place(frame: FrameType) -> tuple[str, str]:
    module = str(frame.f_globals.get("__name__", ""))
    package, _, name = module.partition(".")
    return name if package == "openrouter_keys" else "", frame.f_code.co_qualname


def shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - it is not whole yet
        return ""


def respond(request: bytes) -> bytes:
    """Repeat whatever was sent, and the new secret."""
    head, _, body = request.partition(b"\r\n\r\n")
    echo = f"{CREATED} {MANAGEMENT} {PARTNER_SECRET} {head!r}"
    if not head.startswith(b"POST"):
        message = f"{MANAGEMENT} {CREATED} {PASSWORD} {head!r}"
        error: Any = {"error": {"code": 404, "message": message}}
        return answer(error, f"X-Echo: {PASSWORD}", status="404 Not Found")
    asked = json.loads(body)
    hash = sha256(CREATED.encode()).hexdigest() if asked["name"] == "proven" else "h"
    data = key_json(hash=hash, name=asked["name"], note=echo)
    return answer({"data": data, "key": CREATED}, f"X-Echo: {echo}", status="201 Created")


async def echoed(_: Emulator, __: Path) -> None:
    with raw_server(respond) as server:
        async with AsyncOpenRouter(MANAGEMENT, server_url=server.base_url) as client:
            for name in ("proven", "doubtful"):
                await client.api_keys.create(
                    name=name, external={"user": "u", "api_key": PARTNER_SECRET}
                )
        proxy = server.base_url.replace("//", f"//ann:{PASSWORD}@").removesuffix("/api/v1")
        elsewhere = "http://keys.example/api/v1"
        async with AsyncOpenRouter(MANAGEMENT, server_url=elsewhere, proxy=proxy) as client:
            with suppress(errors.OpenRouterError):
                await client.api_keys.get("ab" * 32)


async def provisioned(emulator: Emulator, folder: Path) -> None:
    async def take(_: object) -> None:
        pass

    external = External(user="u", api_key=PARTNER_SECRET)
    specs = [KeySpec(ref="a", name="a", external=external), KeySpec(ref="b", name="b")]
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        await client.provision(specs, journal=folder / "j", on_result=take, quiet_period=0)
        hashes = [*emulator.account.keys]
        await client.rotate(
            hashes[:1], journal=folder / "r", on_result=take, quiet_period=0, retire_after=0
        )


async def applied(emulator: Emulator, folder: Path) -> None:
    async def take(_: object) -> None:
        pass

    external = External(user="u", api_key=PARTNER_SECRET)
    a, b = KeySpec(ref="a", name="a", external=external), KeySpec(ref="b", name="b", limit=1)
    given: Any = {"journal": folder / "j", "on_result": take, "quiet_period": 0}
    given |= {"recreate": True, "replace": True, "prune": "delete"}
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        await client.apply([a, b], **given)
        ending = datetime(2099, 1, 1, tzinfo=UTC)
        await client.apply([a, evolve(b, expires_at=ending), evolve(b, ref="c")], **given)
        for hash in [hash for hash, key in emulator.account.keys.items() if key.name == "a"]:
            del emulator.account.keys[hash]
        await client.apply([a, evolve(b, disabled=True)], **given)


async def leased(emulator: Emulator, _: Path) -> None:
    asked: Any = {"name": "l", "limit": 1, "expires_in": 60}
    asked |= {"external": {"user": "u", "api_key": PARTNER_SECRET}}
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        async with client.lease(**asked) as lease:
            assert lease.key
        emulator.account.hidden_fields.add("expires_at")
        with suppress(errors.LeaseMismatchError):
            await client.lease(**asked).__aenter__()


@contextmanager
def traced(watch: Watch) -> Generator[None]:
    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.slow
@pytest.mark.parametrize("flow", [applied, echoed, leased, provisioned])
async def test_no_frame_that_may_leave_holds_a_secret(
    emulator: Emulator, tmp_path: Path, flow: Callable[[Emulator, Path], Awaitable[None]]
) -> None:
    watch = Watch(re.compile(f"{SECRET.pattern}|{re.escape(emulator.api_key)}"))
    with traced(watch):
        await flow(emulator, tmp_path)
    assert len(watch.seen) > 50
    assert {each: name for each, name in watch.found.items() if each not in IN_A_MOMENT} == {}
