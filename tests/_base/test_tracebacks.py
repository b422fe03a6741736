"""No exception leaves a call with a frame whose local variables hold a secret."""

import asyncio
import signal
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter, KeySpec, OpenRouter, ProvisionResult, errors
from openrouter_keys._base import tracebacks
from openrouter_keys._base.tracebacks import strip
from openrouter_keys._inputs.credentials import APIKey
from openrouter_keys.emulator import Account, Emulator, Fault
from openrouter_keys.emulator.faults import Kind
from openrouter_keys.journal.encryption import unsealing
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.writer import Writer
from tests.journals import spec
from tests.provisions import JumpingTime
from tests.rotations import hashes, old_keys

MANAGEMENT = "canary-management-key-that-has-no-known-prefix"
PARTNER = "canary-partner-key-of-more-than-32-characters"
HASH = "ab" * 32


class Abort(BaseException):
    """What ends a task, and neither the event loop nor the test run."""


UNKNOWN = errors.CreateOutcomeUnknownError("no answer")
UNKNOWN.name = "new"
UNKNOWN.started_at = UNKNOWN.ended_at = datetime.now(UTC)

CALLS: dict[str, Callable[[AsyncOpenRouter], Awaitable[object]]] = {
    "list": lambda client: client.api_keys.list(),
    "iterate": lambda client: anext(client.api_keys.iterate()),
    "get": lambda client: client.api_keys.get(HASH),
    "create": lambda client: client.api_keys.create(
        name="new", external={"user": "acme-7", "api_key": PARTNER}
    ),
    "update": lambda client: client.api_keys.update(HASH, limit=1),
    "delete": lambda client: client.api_keys.delete(HASH),
    "current": lambda client: client.api_keys.get_current_key_metadata(),
    "provision": lambda client: client.provision(
        [KeySpec(ref="a", name="a")], on_result=lambda _: None
    ),
    "plan_rotation": lambda client: client.plan_rotation([HASH]),
    "create, then reconcile": lambda client: client.api_keys.create(
        name="new", external={"user": "acme-7", "api_key": PARTNER}, on_unknown="reconcile"
    ),
    "reconcile": lambda client: client.api_keys.reconcile(UNKNOWN, quiet_period=0),
}


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that it came of, also what is suppressed when it is printed."""
    seen: set[int] = set()
    unseen: list[BaseException | None] = [error]
    while unseen:
        one = unseen.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        unseen += [one.__cause__, one.__context__]
        unseen += getattr(one, "exceptions", ())  # of a group


def assert_no_secret(error: BaseException, *secrets: str) -> None:
    frames = 0
    for one in chain(error):
        shown = traceback.TracebackException.from_exception(one, capture_locals=True)
        frames += len(shown.stack)
        for frame in shown.stack:
            if frame.name.startswith("test_"):
                continue  # a test knows the secrets
            for secret in (MANAGEMENT, PARTNER, *secrets):
                assert secret not in str(frame.locals), (frame.filename, frame.name)
    assert frames


async def _cancelled(call: Awaitable[object]) -> None:
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0.05)
    task.cancel()
    await task


async def _timed_out(call: Awaitable[object]) -> None:
    async with asyncio.timeout(0.05):
        await call


async def _left_by_its_group(call: Awaitable[object]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_fail_soon())
        await call


async def _fail_soon() -> None:
    await asyncio.sleep(0.05)
    raise RuntimeError("another task of the group")


WAYS_OUT: dict[str, Callable[[Awaitable[object]], Awaitable[None]]] = {
    "cancelled": _cancelled,
    "timed out": _timed_out,
    "left by its group": _left_by_its_group,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stalled", "stalled_body"])
@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("way_out", WAYS_OUT)
async def test_whoever_leaves_a_call_takes_no_secret_along(
    way_out: str, operation: str, kind: Kind
) -> None:
    emulator = Emulator(Account(management_key=MANAGEMENT))
    emulator.faults.append(Fault(kind=kind, times=None))
    async with (
        emulator,
        AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url, grace=0.05) as client,
    ):
        with pytest.raises((asyncio.CancelledError, TimeoutError, ExceptionGroup)) as caught:
            await WAYS_OUT[way_out](CALLS[operation](client))

    made = [str(key.secret) for key in emulator.account.keys.values()]
    assert_no_secret(caught.value, *made)


@pytest.mark.parametrize("bug", [TypeError, MemoryError, GeneratorExit, Abort])
@pytest.mark.parametrize("operation", [name for name in CALLS if name != "provision"])
async def test_a_bug_below_a_call_shows_where_it_is_and_no_secret(
    operation: str, bug: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **kwargs: object) -> None:
        raise bug("broken")

    monkeypatch.setattr("openrouter_keys._transport.wire.Wire.send", broken)
    client = AsyncOpenRouter(MANAGEMENT, server_url="http://127.0.0.1:1")
    with pytest.raises((bug, errors.OpenRouterError)) as caught:
        await CALLS[operation](client)
    await client.close()

    assert_no_secret(caught.value)
    assert "_send" in {frame.name for frame in traceback.extract_tb(caught.value.__traceback__)}


def test_what_the_caller_was_handling_stays_as_it_was() -> None:
    try:
        raise ValueError("the caller's own")
    except ValueError as handled:
        before = handled.__traceback__
        try:
            raise TypeError("ours")
        except TypeError as error:
            strip(error, handled)

        assert handled.__traceback__ is before is not None


def test_a_group_and_a_circle_of_exceptions_are_gone_through_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first
    group = BaseExceptionGroup("both", [first, ExceptionGroup("nested", [second])])
    for one in (first, second, group):
        try:
            raise one
        except BaseException as raised:  # noqa: BLE001 - to have a traceback
            assert raised.__traceback__ is not None

    strip(group, None)

    assert [one.__traceback__ for one in (first, second, group)] == [None] * 3


# --- a secret that came: on its way to whoever takes it ---

# Where something of ours, or Ctrl-C, may go off between a create's answer and its caller.
ON_THE_WAY = (
    "_transport.attempts.Answer",
    "_transport.attempts.masked",
    "operations.count",
    "operations.mismatches",
    "_transport.attempts.outcome_of",
    "converter._answer_reader",
    "operations.decode",
    "operations.parse",
    "operations.hash_of",
    "_base.made_keys.hash_of",
    "_transport.transport.MadeKeys.add",
)
IN_A_RUN = (
    "converter._answer_reader",
    "provisioning.creator.UndeliveredKey",
    "provisioning.delivery.text_of",
    "provisioning.delivery.mismatches",
    "provisioning.delivery.ProvisionResult",
    "journal.journal.MadeKey.of",
    "journal.journal.write_time",
    "journal.journal.Journal._storing",
    "journal.journal.Journal.acknowledge",
)


def _break(monkeypatch: pytest.MonkeyPatch, where: str, bug: type[BaseException]) -> None:
    def broken(*given: object, **named: object) -> None:
        del given, named  # it stands for the line that calls it
        raise bug("broken")

    monkeypatch.setattr(f"openrouter_keys.{where}", broken)


class Told:
    """What event loops tell of errors that nobody took."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(self._take)

    def _take(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "exception" in context:
            self.errors.append(context["exception"])


@pytest.mark.parametrize("bug", [TypeError, asyncio.CancelledError, Abort])
@pytest.mark.parametrize("where", ON_THE_WAY)
async def test_a_bug_behind_an_answer_shows_no_created_secret(
    where: str, bug: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    emulator = Emulator(Account(management_key=MANAGEMENT))
    async with emulator, AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url) as client:
        _break(monkeypatch, where, bug)
        try:
            await client.api_keys.create(name="new")
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is searched
            told.errors.append(error)
        monkeypatch.undo()

    secrets = [str(key.secret) for key in emulator.account.keys.values()]
    for one in told.errors:
        assert_no_secret(one, *secrets)


@pytest.mark.slow
@pytest.mark.parametrize("bug", [TypeError, asyncio.CancelledError])
@pytest.mark.parametrize("where", IN_A_RUN)
async def test_a_bug_in_a_run_shows_no_secret(
    where: str, bug: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = Told()
    emulator = Emulator(Account(management_key=MANAGEMENT))
    taken: list[ProvisionResult] = []
    async with (
        emulator,
        AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url, grace=0.05) as client,
    ):
        client._transport.clockwork = JumpingTime().clockwork()
        old = old_keys(emulator, 1)
        _break(monkeypatch, where, bug)
        for run in (
            client.provision([spec()], on_result=taken.append, concurrency=1),
            client.rotate(hashes(old), journal=tmp_path / "journal", on_result=taken.append),
        ):
            try:
                async with asyncio.timeout(1):
                    await run
            except BaseException as error:  # noqa: BLE001 - as above
                told.errors.append(error)
        monkeypatch.undo()

    secrets = [str(key.secret) for key in emulator.account.keys.values()]
    assert len(told.errors) >= 1
    for one in told.errors:
        assert_no_secret(one, *secrets)


@pytest.mark.parametrize("bug", [TypeError, asyncio.CancelledError, Abort])
@pytest.mark.parametrize("where", ["MadeKey.of", "write_time", "Journal._storing", "Writer.submit"])
async def test_a_journal_that_does_not_come_to_keep_a_secret_shows_none(
    where: str, bug: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Journal.open(
        ":memory:", server_url="http://127.0.0.1", longest_timeout=1
    ) as journal:
        await journal.intend(spec(), datetime.now(UTC))
        _break(monkeypatch, f"journal.journal.{where}", bug)
        with pytest.raises(bug) as caught:
            await journal.keep(spec().ref, secret=PARTNER, hash=HASH, ended_at=datetime.now(UTC))
        monkeypatch.undo()

    assert_no_secret(caught.value)


async def test_a_journal_that_is_cancelled_while_it_keeps_a_secret_shows_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Journal.open(
        ":memory:", server_url="http://127.0.0.1", longest_timeout=1
    ) as journal:
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def submit(*_: object, **__: object) -> asyncio.Future[None]:
            return never

        monkeypatch.setattr(Writer, "submit", submit)
        keeping = asyncio.create_task(journal.keep(spec().ref, secret=PARTNER, hash=HASH))
        await asyncio.sleep(0)
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await keeping
        monkeypatch.undo()

    assert_no_secret(caught.value)


async def test_a_writer_that_dies_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Abort) as caught:
        await _die(monkeypatch)

    assert_no_secret(caught.value)


async def _die(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Journal.open(
        ":memory:", server_url="http://127.0.0.1", longest_timeout=1
    ) as journal:
        _break(monkeypatch, "journal.entries.change", Abort)
        keeping = asyncio.create_task(journal.keep("r", secret=PARTNER, hash=HASH))
        await asyncio.sleep(0.05)
        keeping.cancel()


@pytest.mark.parametrize("identity", [PARTNER, f"{PARTNER}\ud800", f"-----BEGIN {PARTNER}"])
def test_a_refused_identity_is_shown_nowhere(identity: str) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        unsealing(identity)

    assert_no_secret(caught.value)


# --- Ctrl-C, and tasks of our own ---

BLOCKING: dict[str, Callable[[OpenRouter], object]] = {
    "list": lambda client: client.api_keys.list(),
    "iterate": lambda client: next(client.api_keys.iterate()),
    "create": lambda client: client.api_keys.create(
        name="new", external={"user": "acme-7", "api_key": PARTNER}
    ),
    "update": lambda client: client.api_keys.update(HASH, limit=1),
    "provision": lambda client: client.provision([spec()], on_result=lambda _: None),
    "current": lambda client: client.api_keys.get_current_key_metadata(),
}


@pytest.mark.slow
@pytest.mark.parametrize("way_out", ["Ctrl-C", "too late", "a bug"])
@pytest.mark.parametrize("operation", BLOCKING)
def test_a_blocking_call_that_is_left_shows_no_secret(
    operation: str, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = Emulator(Account(management_key=MANAGEMENT))
    emulator.faults.append(Fault(kind="stalled", times=None))
    if way_out == "a bug":
        _break(monkeypatch, "_transport.wire.Wire.send", TypeError)
    with emulator:
        client = OpenRouter(
            MANAGEMENT,
            server_url=emulator.base_url,
            grace=0.05,
            timeout_ms=100 if way_out == "too late" else 60_000,
        )
        here = threading.get_ident()
        timer = threading.Timer(0.2, lambda: signal.pthread_kill(here, signal.SIGINT))
        if way_out == "Ctrl-C":
            timer.start()
        with pytest.raises((KeyboardInterrupt, TypeError, errors.OpenRouterError)) as caught:
            BLOCKING[operation](client)
        client.close()

    assert_no_secret(caught.value)


@pytest.mark.parametrize("operation", CALLS)
def test_an_interrupt_that_ends_the_event_loop_shows_no_secret(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = Emulator(Account(management_key=MANAGEMENT))
    loop = asyncio.new_event_loop()
    told: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    with emulator:
        client = AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url, grace=0.05)

        async def broken(*_: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("openrouter_keys._transport.wire.Wire.send", broken)
        call = loop.create_task(_awaited(CALLS[operation](client)))
        with pytest.raises(KeyboardInterrupt) as caught:
            loop.run_until_complete(call)
        call.cancel()
        loop.run_until_complete(asyncio.wait({call}))
        loop.run_until_complete(client.close())
        if not call.cancelled() and (error := call.exception()) is not None:
            told.append(error)
        del call
    loop.close()

    for one in (caught.value, *told):
        assert_no_secret(one)


async def _awaited(call: Awaitable[object]) -> None:
    await call


async def test_a_create_that_is_taken_back_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    emulator = Emulator(Account(management_key=MANAGEMENT))
    emulator.faults.append(Fault("create", kind="slow", delay=0.2))
    async with emulator, AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url) as client:
        task = asyncio.ensure_future(client.api_keys.create(name="new"))
        await asyncio.sleep(0.1)
        _break(monkeypatch, "_transport.transport.remove", TypeError)
        task.cancel()
        await asyncio.wait({task})
        monkeypatch.undo()

    (key,) = emulator.account.keys.values()
    with pytest.raises((asyncio.CancelledError, TypeError)) as caught:
        task.result()
    for error in (caught.value, *told.errors):
        assert_no_secret(error, str(key.secret))


@pytest.mark.slow
async def test_a_close_that_is_cancelled_shows_no_secret() -> None:
    emulator = Emulator(Account(management_key=MANAGEMENT))
    emulator.faults.append(Fault(kind="stalled", times=None))
    async with emulator:
        client = AsyncOpenRouter(MANAGEMENT, server_url=emulator.base_url, grace=0.2)
        create = asyncio.ensure_future(CALLS["create"](client))
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        create.cancel()
        await asyncio.wait({closing, create})
        await client.close()

    for task in (closing, create):
        with pytest.raises(asyncio.CancelledError) as caught:
            task.result()
        assert_no_secret(caught.value)


# --- the user's own functions ---


class VaultError(Exception):
    """What a user's function raises."""


def _sealed_vault() -> str:
    raise VaultError("sealed")


async def _sealed_vault_that_came_of_something() -> str:
    try:
        _sealed_vault()
    except VaultError as error:
        raise VaultError("as ever") from error
    return MANAGEMENT


@pytest.mark.parametrize("api_key", [_sealed_vault, _sealed_vault_that_came_of_something])
async def test_a_key_callable_that_fails_shows_where(api_key: APIKey) -> None:
    client = AsyncOpenRouter(api_key, server_url="http://127.0.0.1:1")
    with pytest.raises(errors.APIKeyError) as caught:
        await client.api_keys.list()
    await client.close()

    assert_no_secret(caught.value)
    names = {
        frame.name
        for one in chain(caught.value)
        for frame in traceback.extract_tb(one.__traceback__)
    }
    assert {"_send", "_sealed_vault"} <= names


async def test_a_session_factory_that_fails_shows_where() -> None:
    def make() -> Any:
        return _sealed_vault()

    client = AsyncOpenRouter(MANAGEMENT, server_url="http://127.0.0.1:1", session=make)
    with pytest.raises(VaultError) as caught:
        await client.api_keys.list()

    assert_no_secret(caught.value)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["make", "_sealed_vault"]


@pytest.mark.parametrize("way_out", WAYS_OUT)
async def test_a_key_callable_that_is_left_shows_no_secret(way_out: str) -> None:
    async def slow() -> str:
        key = MANAGEMENT
        await asyncio.sleep(60)
        return key

    client = AsyncOpenRouter(slow, server_url="http://127.0.0.1:1")
    with pytest.raises((asyncio.CancelledError, TimeoutError, ExceptionGroup)) as caught:
        await WAYS_OUT[way_out](client.api_keys.list())
    await client.close()

    assert_no_secret(caught.value)


async def test_a_key_callable_that_is_too_slow_shows_no_secret() -> None:
    async def slow() -> str:
        key = MANAGEMENT
        await asyncio.sleep(60)
        return key

    async with AsyncOpenRouter(slow, server_url="http://127.0.0.1:1", timeout_ms=50) as client:
        with pytest.raises(errors.DeadlineExceededError) as caught:
            await client.api_keys.list()

    assert_no_secret(caught.value)


def test_each_file_that_holds_secrets_is_there() -> None:
    named = {*tracebacks._HOLD_SECRETS, *(module for module, _ in tracebacks._CALL_THE_USER)}
    assert {name for name in named if find_spec(name) is None} == set()


def test_each_function_that_holds_secrets_is_there() -> None:
    for module, function in tracebacks._HOLD_SECRETS_TOO:
        assert function == "__init__" or hasattr(import_module(module), function), function
