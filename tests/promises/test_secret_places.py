"""Where a secret is in memory after a call: in the documented attributes, and in no other."""

import asyncio
import gc
import io
import types
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

import pytest
from attrs import asdict, has
from rich import inspect as inspect_by_rich
from rich.console import Console

from openrouter_keys import AsyncOpenRouter, OpenRouter, ProvisioningStoppedError, errors
from openrouter_keys._inputs.credentials import Credentials
from openrouter_keys.emulator import Account, Emulator, Fault
from tests.clients import FakeTime, api_keys
from tests.promises.test_secrets import MANAGEMENT, PARTNER
from tests.provisions import JumpingTime, specs
from tests.raw_server import answer, raw_server
from tests.records import SECRET, key_json
from tests.rotations import hashes, old_keys

#: What is not gone into: code, whose closures and frames are documented to hold secrets.
CODE = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.FrameType,
    types.CodeType,
    types.CoroutineType,
    types.GeneratorType,
    types.AsyncGeneratorType,
    asyncio.AbstractEventLoop,
    asyncio.Future,
)
MOST = 100_000


def found(root: object, *secrets: str, deep: int = 12) -> set[str]:
    """The ways from an object to a secret: through attributes, items, and all that gc knows."""
    known = [secret.encode() for secret in secrets]
    ways: set[str] = set()
    seen: dict[int, object] = {}  # which stay alive, or another one could get the number
    unseen = deque([("", root, 0)])
    while unseen and len(seen) < MOST:
        way, one, depth = unseen.popleft()
        if isinstance(one, str | bytes | bytearray):
            text = one.encode(errors="replace") if isinstance(one, str) else bytes(one)
            ways |= {way for secret in known if secret in text}
        elif id(one) not in seen and not isinstance(one, CODE) and depth < deep:
            seen[id(one)] = one
            unseen += [(f"{way}{step}", each, depth + 1) for step, each in steps(one)]
    return ways


def steps(one: object) -> Iterable[tuple[str, object]]:
    named: dict[str, object] = {}
    for cls in type(one).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            mangled = f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            try:
                named[f".{mangled}"] = object.__getattribute__(one, mangled)
            except AttributeError:
                continue
    attributes: dict[str, object] = getattr(one, "__dict__", {})
    named |= {f".{name}": value for name, value in attributes.items()}
    if isinstance(one, Mapping):
        items = cast("Mapping[object, object]", one)
        named |= {f"[{key!r:.40}]": value for key, value in items.items()}
    yield from named.items()
    told = {id(attributes), *map(id, named.values())}
    for each in gc.get_referents(one):
        if id(each) not in told:
            yield f"→{type(each).__name__}", each


def shown(one: object) -> str:
    """What programs that look at attributes show of an object."""
    console = Console(file=io.StringIO(), record=True, width=1000)
    inspect_by_rich(one, console=console, private=True)
    return f"{asdict(one) if has(type(one)) else vars(one)} {console.export_text()}"  # type: ignore[arg-type]


def service(*faults: Fault) -> Emulator:
    emulator = Emulator(Account(management_key=MANAGEMENT))
    emulator.faults += faults
    return emulator


ECHO = {"X-Echo": f"Bearer {MANAGEMENT}", "X-Partner": PARTNER}
EXTERNAL = {"user": "acme-7", "api_key": PARTNER}
CREATE: Callable[[AsyncOpenRouter], Awaitable[object]] = lambda client: client.api_keys.create(  # noqa: E731
    name="new", external={"user": "acme-7", "api_key": PARTNER}
)


async def _rotated(client: AsyncOpenRouter, emulator: Emulator, path: Path) -> object:
    old = hashes(old_keys(emulator, 2))
    return await client.rotate(old, journal=path, on_result=lambda _: None, retire_after=0)


async def _stopped(client: AsyncOpenRouter, emulator: Emulator, path: Path) -> object:
    def fail(_: object) -> None:
        raise ValueError("not now")

    with pytest.raises(ProvisioningStoppedError) as caught:
        await client.provision(specs(2), on_result=fail, concurrency=1)
    return caught.value


RESULTS: dict[str, Callable[[AsyncOpenRouter, Emulator, Path], Awaitable[object]]] = {
    "list": lambda client, _, __: client.api_keys.list(),
    "create": lambda client, _, __: CREATE(client),
    "current": lambda client, _, __: client.api_keys.get_current_key_metadata(),
    "provision": lambda client, _, path: client.provision(
        specs(3, external=EXTERNAL), journal=path, on_result=lambda _: None
    ),
    "provision, into the journal": lambda client, _, path: client.provision(specs(3), journal=path),
    "rotate": _rotated,
    "a run that stopped": _stopped,
}
DOCUMENTED = {".key", ".report.undelivered→UndeliveredKey.key"}


@pytest.mark.parametrize("name", RESULTS)
async def test_no_secret_stays_in_a_client_or_in_what_it_returned(
    name: str, tmp_path: Path
) -> None:
    async with service() as emulator:
        async with AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url) as client:
            client._transport.clockwork = JumpingTime().clockwork()
            result = await RESULTS[name](client, emulator, tmp_path / "journal")
            secrets = [str(key.secret) for key in emulator.account.keys.values()]
            assert found(client, MANAGEMENT, PARTNER, *secrets) == set()
            assert found(client._transport, MANAGEMENT, PARTNER, *secrets) == set()
        ways = found(result, MANAGEMENT, PARTNER, *secrets)
        assert ways <= DOCUMENTED
        assert ways == set() or name in ("create", "a run that stopped")


FAULTS: dict[str, Fault] = {
    "refused": Fault(status=400, headers=ECHO),
    "unauthorized": Fault(status=401, headers=ECHO),
    "failed": Fault(status=500, headers=ECHO),
    "closed": Fault(kind="closed"),
    "closed, and applied": Fault(kind="closed", phase="after"),
    "no JSON": Fault(kind="not_json", phase="after", headers=ECHO),
    "no record": Fault(kind="body", phase="after", body=b'{"data": {}}', headers=ECHO),
    "the secret alone": Fault(
        kind="body", phase="after", body=f'{{"key": "{SECRET}"}}'.encode(), headers=ECHO
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_no_secret_stays_in_an_error(name: str) -> None:
    async with (
        service(FAULTS[name]) as emulator,
        AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url) as client,
    ):
        client._transport.clockwork = JumpingTime().clockwork()
        with pytest.raises(errors.OpenRouterError) as caught:
            await CREATE(client)
    error = caught.value
    has_key = isinstance(error, errors.CreatedKeyUnreadableError)
    assert found(error, MANAGEMENT, PARTNER) == set()
    assert found(error, SECRET) == ({".key"} if has_key else set())
    assert MANAGEMENT not in shown(error)


def test_no_secret_stays_in_a_blocking_client() -> None:
    with service() as emulator, OpenRouter(MANAGEMENT, server_url=emulator.base_url) as client:
        created = client.api_keys.create(name="new", external={"user": "u", "api_key": PARTNER})
        client.api_keys.list()  # the loop may not have let go of the call before this one
        assert found(client, MANAGEMENT, PARTNER, created.key) == set()


async def test_nothing_that_looks_at_attributes_shows_the_key() -> None:
    async with (
        service() as emulator,
        AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url) as client,
    ):
        await client.api_keys.list()
        transport = client._transport
        for one in (client, transport, transport._wire, transport._attempts):
            assert MANAGEMENT not in shown(one)


@pytest.mark.parametrize("broken", ["Answer", "outcome_of", "Reply.shown_headers"])
async def test_a_reply_that_cannot_be_judged_leaves_one_secret_in_its_error(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise TypeError(MANAGEMENT)

    body = answer({"data": key_json(), "key": SECRET}, *map(": ".join, ECHO.items()))
    monkeypatch.setattr("openrouter_keys._transport.attempts.Answer", fails)
    monkeypatch.setattr(f"openrouter_keys._transport.attempts.{broken}", fails)
    with raw_server(lambda _: body) as server:
        async with api_keys(server.base_url, MANAGEMENT, FakeTime()) as keys:
            with pytest.raises(errors.CreatedKeyUnreadableError) as caught:
                await keys.create(name="new", external={"user": "u", "api_key": PARTNER})
    assert caught.value.key == SECRET
    assert found(caught.value, MANAGEMENT, PARTNER) == set()


async def test_the_task_of_an_api_key_callable_does_not_show_the_key() -> None:
    tasks: set[asyncio.Task[object]] = set()

    async def give() -> str:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        return MANAGEMENT

    assert await Credentials(give).ask(60) == MANAGEMENT
    (task,) = tasks
    assert task.done()
    assert MANAGEMENT not in repr(task)
