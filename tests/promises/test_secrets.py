"""Canaries: secrets that must turn up nowhere but in the hands of the caller."""

import asyncio
import copy
import inspect
import io
import json
import logging
import pickle
import pprint
import reprlib
import traceback
import warnings
from collections.abc import Awaitable, Callable

import pytest
from attrs import evolve
from rich import inspect as inspect_by_rich
from rich.console import Console
from rich.pretty import pretty_repr

from openrouter_keys import AsyncOpenRouter, External, KeySpec, OpenRouter, errors
from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import hash_of
from openrouter_keys._inputs.credentials import Credentials
from openrouter_keys.converter import unstructure
from openrouter_keys.emulator import Account, Emulator, Fault
from openrouter_keys.errors import SecretNotKeptError
from openrouter_keys.models import CreateKeysRequest
from openrouter_keys.operations import create
from openrouter_keys.provisioning.report import UndeliveredKey
from tests.clients import FakeTime, api_keys
from tests.tables import in_one_test

MANAGEMENT = "canary-management-key-that-has-no-known-prefix"
PARTNER = "canary-partner-key-of-more-than-32-characters"
CREATED = "canary-created-secret-without-any-prefix-at-all"
CREATED_HASH = hash_of(CREATED)
HASH = "ab" * 32


def printed(error: BaseException) -> str:
    """All that Python shows of an error, in one text: local variables too."""
    told = traceback.TracebackException.from_exception(error, capture_locals=False)
    mine = _own_frames(error)
    return "\n".join([*told.format(), repr(error), str(error), repr(vars(error)), mine])


def _own_frames(error: BaseException) -> str:
    """The local variables of this package's frames, as crash reporters send them home."""
    shown: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        for frame, _ in traceback.walk_tb(seen.__traceback__):
            if "openrouter_keys/" in frame.f_code.co_filename:
                shown += [f"{name}={value!r}" for name, value in frame.f_locals.items()]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(shown)


def assert_no_secret(text: str, *secrets: str) -> None:
    for secret in (MANAGEMENT, PARTNER, *secrets):
        assert secret not in text


@pytest.fixture
def guarded() -> Emulator:
    return Emulator(Account(management_key=MANAGEMENT))


EXTERNAL = {"user": "acme-7", "api_key": PARTNER}
CALLS: dict[str, Callable[[AsyncOpenRouter], Awaitable[object]]] = {
    "list": lambda client: client.api_keys.list(),
    "get": lambda client: client.api_keys.get(HASH),
    "create": lambda client: client.api_keys.create(
        name="new", external={"user": "acme-7", "api_key": PARTNER}
    ),
    "update": lambda client: client.api_keys.update(HASH, limit=1),
    "delete": lambda client: client.api_keys.delete(HASH),
    "current": lambda client: client.api_keys.get_current_key_metadata(),
}
ECHO = f'{{"error": {{"code": 1, "message": "{MANAGEMENT} {PARTNER}"}}}}'.encode()
FAULTS = {
    "refusal": Fault(status=403),
    "failure": Fault(status=500),
    "echo in the body": Fault(status=400, body=ECHO),
    "echo in the headers": Fault(status=400, headers={"X-Echo": f"Bearer {MANAGEMENT}"}),
    "echo of a failure": Fault(status=502, body=ECHO),
    "closed": Fault(kind="closed"),
    "garbage": Fault(kind="garbage"),
    "not JSON": Fault(kind="not_json", phase="after"),
    "JSON, but odd": Fault(kind="body", phase="after", body=b'{"data": {"hash": 5}}'),
}


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("name", FAULTS)
async def test_no_error_and_no_log_shows_a_secret(
    name: str, operation: str, guarded: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fault = FAULTS[name]
    body = fault.body
    if body is not None and operation != "create":
        body = body.replace(PARTNER.encode(), b"nothing else was sent")
    guarded.faults.append(evolve(fault, body=body, times=None))
    async with guarded, AsyncOpenRouter(MANAGEMENT, server_url=guarded.base_url) as client:
        client._transport.clockwork = FakeTime().clockwork()
        try:
            answer = await CALLS[operation](client)
        except errors.OpenRouterError as error:
            assert_no_secret(printed(error))
            assert_no_secret(str(pickle.dumps(error)))
            assert type(pickle.loads(pickle.dumps(error))) is type(error)
        else:
            assert_no_secret(repr(answer))
        assert_no_secret(repr(client) + repr(vars(client)) + repr(client.api_keys))

    assert len(caplog.records) >= 1
    assert_no_secret(caplog.text)


async def test_a_created_secret_is_shown_by_nothing_but_key(
    guarded: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with guarded, AsyncOpenRouter(MANAGEMENT, server_url=guarded.base_url) as client:
        created = await client.api_keys.create(name="new")

    assert_no_secret(repr(created) + str(created) + f"{created}" + caplog.text, created.key)
    assert_no_secret(repr(created.data.extra) + repr(created.extra), created.key)
    with pytest.raises(TypeError, match="contains a secret"):
        pickle.dumps(created)
    assert copy.deepcopy(created).key == copy.copy(created).key == created.key
    assert pickle.loads(pickle.dumps(created.data)) == created.data


@pytest.mark.parametrize(
    "body",
    [
        # No data at all; data of an older time than this one; data that is cut short.
        f'{{"key": "{CREATED}"}}',
        f'{{"data": {{"hash": "{CREATED_HASH}", "limit": "odd", "key": "{CREATED}"}}}}',
        f'{{"key": "{CREATED}", "data": {{"hash": "{CREATED_HASH}", "na',
    ],
)
async def test_a_secret_in_an_unreadable_answer_is_in_the_error_and_shown_by_nothing_else(
    body: str, guarded: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    guarded.faults.append(Fault("create", "body", phase="after", body=body.encode()))
    async with guarded, AsyncOpenRouter(MANAGEMENT, server_url=guarded.base_url) as client:
        with pytest.raises(errors.CreatedKeyUnreadableError) as caught:
            await client.api_keys.create(name="new")

    assert caught.value.key == CREATED
    told = "\n".join([str(caught.value), repr(caught.value), caplog.text, caught.value.body])
    assert_no_secret(told, CREATED)
    # Its one holder is the attribute that is there to hold it.
    shown = traceback.TracebackException.from_exception(caught.value)
    assert_no_secret("".join(shown.format()), CREATED)
    with pytest.raises(TypeError, match=r"take `error\.key` out first"):
        pickle.dumps(caught.value)


def test_external_is_masked_and_never_pickled() -> None:
    external = External("acme-7", PARTNER)
    request = CreateKeysRequest(name="new", external=external)

    assert_no_secret(repr(external) + repr(request))
    with pytest.raises(TypeError, match="contains a secret"):
        pickle.dumps(request)
    assert PARTNER in str(unstructure(request))  # on the wire, and nowhere else


@pytest.mark.parametrize(
    "external",
    [
        {"user": " acme", "api_key": PARTNER},
        {"user": "acme", "api_key": "canary-too-short"},
        {"user": "acme", "api_key": PARTNER, "team": 1},
    ],
)
async def test_a_refused_external_is_not_shown(external: dict[str, str]) -> None:
    async with AsyncOpenRouter("key") as client:
        with pytest.raises(errors.InvalidArgumentError, match="external") as caught:
            await client.api_keys.create(name="new", external=external)  # type: ignore[arg-type]

    shown = str(caught.value) + repr(caught.value)
    assert_no_secret(shown, "canary-too-short")


@in_one_test("client", [AsyncOpenRouter, OpenRouter])
@in_one_test("key", [f"{MANAGEMENT}\n", f"{MANAGEMENT} ", f"{MANAGEMENT}é"])
def test_a_refused_key_is_not_shown(client: type[object], key: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="api_key") as caught:
        client(key)  # type: ignore[call-arg]

    assert_no_secret(str(caught.value) + repr(caught.value))


async def test_a_callable_key_is_shown_nowhere(guarded: Emulator, fake_time: FakeTime) -> None:
    guarded.faults.append(Fault(status=500, times=None))
    async with guarded, api_keys(guarded.base_url, lambda: MANAGEMENT, fake_time) as keys:
        with pytest.raises(errors.InternalServerResponseError) as caught:
            await keys.list()

    assert_no_secret(printed(caught.value))


def test_the_debug_log_shows_each_attempt_and_no_secret(
    guarded: Emulator, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("openrouter_keys")
    monkeypatch.setenv("OPENROUTER_DEBUG", "1")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "level", log.level)

    async def use() -> str:
        async with guarded, AsyncOpenRouter(MANAGEMENT, server_url=guarded.base_url) as client:
            created = await client.api_keys.create(
                name="new", external={"user": "acme", "api_key": PARTNER}
            )
            return created.key

    secret = asyncio.run(use())

    err = capfd.readouterr().err
    assert "create: POST /keys -> 201" in err
    assert_no_secret(err, secret)


@pytest.mark.parametrize("operation", ["get", "update", "delete"])
async def test_a_secret_given_as_a_hash_is_refused_and_not_shown(
    operation: str, guarded: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "sk-or-v1-" + "5e" * 32
    more = {"limit": 1} if operation == "update" else {}
    async with guarded, AsyncOpenRouter(MANAGEMENT, server_url=guarded.base_url) as client:
        for given in (secret, f"{secret}\n"):
            with pytest.raises(errors.InvalidArgumentError, match="hash") as caught:
                await getattr(client.api_keys, operation)(given, **more)
            assert secret not in str(caught.value)

    assert guarded.requests == []
    assert secret not in caplog.text


async def test_a_key_that_a_malformed_answer_echoes_is_not_shown(
    caplog: pytest.LogCaptureFixture, fake_time: FakeTime
) -> None:
    caplog.set_level(logging.DEBUG)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 2x Bearer {MANAGEMENT} {PARTNER}\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with api_keys(url, MANAGEMENT, fake_time) as keys:
            with pytest.raises(errors.CreateOutcomeUnknownError) as caught:
                await keys.create(name="new", external={"user": "acme", "api_key": PARTNER})

    assert "Bad status line" in str(caught.value.__cause__)
    assert_no_secret(printed(caught.value) + caplog.text)


@pytest.mark.parametrize("body", [f'{{"key": "{CREATED}"}}', f'{{"key": "{CREATED}", "da'])
def test_no_local_variable_of_the_blocking_face_holds_a_secret(body: str) -> None:
    emulator = Emulator(Account(management_key=MANAGEMENT))
    emulator.faults.append(Fault("create", "body", phase="after", body=body.encode()))
    with (
        emulator,
        OpenRouter(MANAGEMENT, server_url=emulator.base_url) as client,
        pytest.raises(errors.CreatedKeyUnreadableError) as caught,
    ):
        client.api_keys.create(name="new", external={"user": "acme", "api_key": PARTNER})

    assert_no_secret(_own_frames(caught.value), CREATED)


@in_one_test("client", [AsyncOpenRouter, OpenRouter])
@in_one_test(
    "key, arguments",
    [
        (MANAGEMENT, {"server_url": "nope"}),
        (MANAGEMENT, {"timeout_ms": -1}),
        (f"{MANAGEMENT}\n", {}),
    ],
)
def test_no_local_variable_of_a_refusing_client_holds_the_key(
    client: Callable[..., object], key: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        client(key, **arguments)

    assert_no_secret(_own_frames(caught.value))


@pytest.mark.parametrize(
    "external", [{"user": "", "api_key": PARTNER}, {"user": "u", "api_key": PARTNER, "typo": 1}]
)
async def test_no_local_variable_of_a_refused_external_holds_its_key(
    external: dict[str, object],
) -> None:
    async with AsyncOpenRouter("key") as client:
        with pytest.raises(errors.InvalidArgumentError, match="external") as caught:
            await client.api_keys.create(name="new", external=external)  # type: ignore[arg-type]

    assert_no_secret(_own_frames(caught.value))


# --- whoever shows objects ---


def _logged(thing: object) -> str:
    record = logging.makeLogRecord({"msg": "%s", "args": (thing,), "thing": thing})
    return f"{record.getMessage()} {vars(record)}"


def _warned(thing: object) -> str:
    return warnings.formatwarning(f"{thing}", UserWarning, "file.py", 1, f"{thing!r}")


SHOW: dict[str, Callable[[object], str]] = {
    "repr": repr,
    "str": str,
    "in a list": lambda thing: str([thing, {"a": thing}]),
    "pprint": pprint.pformat,
    "reprlib": reprlib.repr,
    "rich": pretty_repr,
    "JSON": lambda thing: json.dumps(thing, default=str),
    "a record of the log": _logged,
    "a warning": _warned,
}


def _holders() -> dict[str, object]:
    external = External("acme-7", PARTNER)
    return {
        "External": external,
        "CreateKeysRequest": CreateKeysRequest(name="new", external=external),
        "KeySpec": KeySpec(ref="a", name="new", external=external),
        "Operation": create(CreateKeysRequest(name="new", external=external)),
        "UndeliveredKey": UndeliveredKey(ref="a", key=CREATED, hash=HASH),
        "SecretNotKeptError": SecretNotKeptError("a", CREATED, HASH, "full"),
        "Credentials": Credentials(MANAGEMENT),
        "AsyncOpenRouter": AsyncOpenRouter(MANAGEMENT),
        "MadeKey": MadeKey.of(HASH, CREATED),
    }


@in_one_test("way", SHOW)
@in_one_test("name", _holders())
def test_what_shows_objects_shows_no_secret(name: str, way: str) -> None:
    assert_no_secret(SHOW[way](_holders()[name]), CREATED)


@pytest.mark.slow
@pytest.mark.parametrize("key", [MANAGEMENT, f"sk-or-v1-{MANAGEMENT}"])
@pytest.mark.parametrize("look", [vars, inspect.getmembers, dir])
def test_no_attribute_of_a_clients_credentials_is_the_key(
    look: Callable[[object], object], key: str
) -> None:
    credentials = Credentials(key)
    console = Console(file=io.StringIO(), record=True, width=1000)
    inspect_by_rich(credentials, console=console, all=True)

    assert_no_secret(f"{look(credentials)} {console.export_text()}")
    assert credentials.fixed() == key
