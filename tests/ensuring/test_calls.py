"""How `ensure` and `release` are called: arguments, results, journals, both clients, at once."""

import asyncio
import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter, Ensured, OpenRouter, errors
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.ensuring.context import EnsureContext
from openrouter_keys.ensuring.settings import ReleaseSettings
from openrouter_keys.journal import entries
from openrouter_keys.journal.journal import Journal
from tests.ensuring.conftest import LIMITED
from tests.ensuring.rows import World, opened, secrets, sent
from tests.journals import AT, spec
from tests.provisions import client_of

# --- arguments ---

REFUSED: dict[str, dict[str, Any]] = {
    "spec": {"spec": {"ref": "r", "name": "n"}},
    "journal": {"journal": None},
    "journal ": {"journal": ""},
    "journal  ": {"journal": 5},
    "on_change": {"on_change": "raise"},
    "verify": {"verify": 1},
    "recreate": {"recreate": "no"},
    "wait": {"wait": -1},
    "wait ": {"wait": float("nan")},
    "quiet_period": {"quiet_period": -1},
    "timeout_ms": {"timeout_ms": 0},
    "server_url": {"server_url": "http://127.0.0.1:1"},
    "retries": {"retries": "many"},
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("method", ["ensure", "release"])
async def test_refused_arguments(world: World, case: str, method: str) -> None:
    """What is wrong is refused before anything is sent, or written."""
    given = {"journal": world.journal, **REFUSED[case]}
    if method == "release":
        if case.strip() in ("spec", "on_change", "verify", "recreate"):
            given = {"journal": world.journal, "ref": ""}
        else:
            given |= {"ref": "r"}
    else:
        given = {"spec": LIMITED, **given}
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await getattr(world.client, method)(**given)
    assert caught.value.argument == ("ref" if given.get("ref") == "" else case.strip())
    assert not world.emulator.requests
    assert not [entry async for entry in world.journal.every()]


@pytest.mark.parametrize("method", ["ensure", "release", "provision", "rotate"])
async def test_a_journal_whose_block_has_not_begun(world: World, method: str) -> None:
    first = {"ensure": LIMITED, "release": "r", "provision": [LIMITED], "rotate": ["a" * 64]}
    with pytest.raises(errors.InvalidArgumentError, match="open it with `with`") as caught:
        await getattr(world.client, method)(first[method], journal=Journal.open(":memory:"))
    assert caught.value.argument == "journal"
    assert not world.emulator.requests


# --- results ---


async def test_a_result_hides_its_secret(world: World) -> None:
    ensured = await world.ensure(LIMITED)
    assert ensured.key is not None
    assert ensured.key not in repr(ensured)
    assert ensured.key not in str(ensured)
    with pytest.raises(TypeError, match="secret"):
        pickle.dumps(ensured)
    assert copy.copy(ensured) == ensured == await world.ensure(LIMITED) or ensured.outcome
    assert Ensured.__module__.startswith("openrouter_keys")


@pytest.mark.parametrize("stored", [True, False])
async def test_a_secret_that_is_not_stored(world: World, *, stored: bool) -> None:
    async with Journal.open(":memory:", store_secrets=stored) as journal:
        first = await world.client.ensure(LIMITED, journal=journal)
        second = await world.client.ensure(LIMITED, journal=journal)
        changed = await world.client.ensure(spec(limit=6), journal=journal)
    assert [first.key] == secrets(world.emulator)
    wanted = first.key if stored else None
    assert (second.key, second.outcome, second.data) == (wanted, "existing", first.data)
    assert (changed.key, changed.outcome) == (wanted, "updated")


# --- what it costs ---


async def test_what_an_ensure_costs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key costs a create, and a list for the first; one that exists no request at all."""
    for number in range(5):
        await world.ensure(spec(str(number)))
    assert sent(world.emulator) == ["list", *["create"] * 5]
    world.emulator.requests.clear()
    submitted: list[object] = []
    submit = type(world.journal._writer).submit

    def counted(writer: Any, work: Any, **given: Any) -> Any:
        submitted.append(work)
        return submit(writer, work, **given)

    monkeypatch.setattr(type(world.journal._writer), "submit", counted)
    for number in range(5):
        await world.ensure(spec(str(number)))
    assert len(submitted) == 5
    assert not world.emulator.requests


async def test_nothing_of_a_call_is_held(emulator: Emulator) -> None:
    """A client may make a million calls, each with a journal of its own."""
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        async with Journal.open(":memory:") as journal:
            await client.ensure(LIMITED, journal=journal)
        held = weakref.ref(journal)
        del journal
        gc.collect()
        assert held() is None
        transport = weakref.ref(client._transport)
    del client
    gc.collect()
    assert transport() is None


# --- journals ---


@pytest.mark.parametrize("kind", [Path, str])
async def test_a_place_as_the_journal(
    client: AsyncOpenRouter, emulator: Emulator, path: Path, kind: Callable[[Path], Any]
) -> None:
    ensured = await client.ensure(LIMITED, journal=kind(path))
    again = await client.ensure(LIMITED, journal=kind(path))
    assert [ensured.key, again.key] == [*secrets(emulator), ensured.key]
    assert await client.release("r", journal=kind(path))
    assert not await client.release("r", journal=kind(path))


async def test_another_services_journal(client: AsyncOpenRouter, path: Path) -> None:
    async with Journal.open(path, server_url="https://elsewhere.example/api/v1") as journal:
        for given in (journal, path):
            for call in (
                client.ensure(LIMITED, journal=given),
                client.release("r", journal=given),
            ):
                with pytest.raises(errors.JournalMismatchError, match="belongs to"):
                    await call


async def test_another_accounts_journal(world: World) -> None:
    await world.ensure(LIMITED)
    async with (
        Emulator() as other,
        client_of(other) as client,
    ):
        other.account.add("theirs", workspace_id="e2e2e2e2-0000-4000-8000-00000000000f")
        other.account.default_workspace = "e2e2e2e2-0000-4000-8000-00000000000f"
        world.journal._services.add(other.base_url)
        for call in (
            client.ensure(spec("new"), journal=world.journal),
            client.release("r", journal=world.journal),
        ):
            with pytest.raises(errors.AccountChangedError):
                await call
        assert len(other.account.keys) == 1


async def test_a_journal_after_its_block(client: AsyncOpenRouter, path: Path) -> None:
    async with Journal.open(path) as journal:
        await client.ensure(LIMITED, journal=journal)
    for call in (
        client.ensure(LIMITED, journal=journal),
        client.release("r", journal=journal),
        client.provision([LIMITED], journal=journal),
        client.rotate([], journal=journal),
    ):
        with pytest.raises(errors.JournalError, match="closed: open it again"):
            await call


def test_the_blocking_client(openrouter_emulator: Emulator, path: Path) -> None:
    """One journal serves the calls of blocking clients in several threads."""
    with Journal.open(path) as journal, ThreadPoolExecutor(4) as pool:

        def ensure(number: int) -> Ensured:
            client = clients[number % 2]
            return client.ensure(spec(str(number % 5)), journal=journal)

        with (
            OpenRouter(openrouter_emulator.api_key, server_url=openrouter_emulator.base_url) as one,
            OpenRouter(openrouter_emulator.api_key, server_url=openrouter_emulator.base_url) as two,
        ):
            clients = (one, two)
            ensured = [*pool.map(ensure, range(20))]
            assert {each.key for each in ensured} == {*secrets(openrouter_emulator)}
            assert len(openrouter_emulator.account.keys) == 5
            report = one.provision([spec(str(number)) for number in range(6)], journal=journal)
            assert (report.created, report.settled_before) == (1, 5)
            assert two.release("0", journal=journal)
            assert len(openrouter_emulator.account.keys) == 5


# --- at once ---


@pytest.mark.parametrize("journals", [1, 2])
async def test_many_tasks_for_few_refs(emulator: Emulator, path: Path, journals: int) -> None:
    """200 tasks ask for 20 refs: each gets its ref's only key."""
    async with (
        AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
        opened(path, emulator) as one,
        opened(path, emulator) as two,
    ):
        given = (one, two) if journals == 2 else (one, one)
        ensured = await asyncio.gather(
            *(
                client.ensure(spec(str(number % 20)), journal=given[number // 20 % 2])
                for number in range(200)
            )
        )
    assert emulator.count("create") == len(emulator.account.keys) == 20
    assert {(each.data.name, each.key) for each in ensured} == {
        (key.name, key.secret) for key in emulator.account.keys.values()
    }


async def test_beside_all_that_changes_the_same_refs(emulator: Emulator, path: Path) -> None:
    """Ensure, with other specs too, beside provision, rotate and release of the same refs."""
    specs = [spec(str(number), limit=5) for number in range(4)]
    failed: list[errors.OpenRouterError] = []

    async def tried(call: Any) -> None:
        try:
            await call
        except errors.OpenRouterError as error:
            failed.append(error)

    async with (
        AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
        opened(path, emulator) as one,
        opened(path, emulator) as two,
    ):
        await client.ensure(specs[0], journal=one)
        (old,) = emulator.account.keys
        calls: list[Any] = [
            client.provision(specs, journal=two),
            client.rotate([old], journal=one),
        ]
        for number in range(40):
            ref, journal = str(number % 4), (one, two)[number // 4 % 2]
            if number % 9 == 8:
                calls.append(client.release(ref, journal=journal))
            else:
                calls.append(client.ensure(spec(ref, limit=5 + number // 20), journal=journal))
        await asyncio.gather(*map(tried, calls))
        # `provision` refuses a spec that an update has changed, whatever comes first.
        allowed = (errors.PlanChangedError, errors.TakenOverError, errors.NotFoundResponseError)
        causes = [error.__cause__ or error for error in failed]
        assert not [each for each in causes if not isinstance(each, allowed)]
        known = {entry.hash async for entry in one.every()}
        known |= {entry.hash async for entry in one.rotations()}
        assert {*emulator.account.keys} <= known
        for each in specs:
            ensured = await client.ensure(each, journal=one, verify=True, recreate=True)
            assert ensured.data.limit == 5
            assert (await client.ensure(each, journal=two)).key == ensured.key
            assert ensured.key in secrets(emulator)


# --- faults ---

FAULTS: dict[str, tuple[Fault, type[errors.OpenRouterError] | None]] = {
    "refused": (Fault("create", "status", status=400), errors.BadRequestResponseError),
    "forbidden": (Fault("create", "status", status=403), errors.ForbiddenResponseError),
    "unauthorized": (Fault("create", "status", status=401), errors.UnauthorizedResponseError),
    "too many": (Fault("create", "status", status=429), None),
    "502": (Fault("create", "status", status=502), None),
    "502 after it": (Fault("create", "status", status=502, phase="after"), None),
    "closed": (Fault("create", "closed"), None),
    "closed after it": (Fault("create", "closed", phase="after"), None),
    "reset after it": (Fault("create", "reset", phase="after"), None),
    "cut": (Fault("create", "cut"), None),
    "no JSON": (Fault("create", "not_json", phase="after"), None),
    "empty": (Fault("create", "empty", phase="after"), None),
    "no list": (Fault("list", "status", status=500), None),
    "no lists": (
        Fault("list", "status", status=500, times=None),
        errors.InternalServerResponseError,
    ),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_each_fault_of_a_create(world: World, case: str) -> None:
    """One key comes of it in the end; what the service refused is raised as it is."""
    fault, error = FAULTS[case]
    world.emulator.account.add("another's")
    world.emulator.faults.append(fault)
    if error is not None:
        with pytest.raises(error):
            await world.ensure(LIMITED, wait=300)
        assert len(world.emulator.account.keys) == 1
        world.emulator.faults.clear()
    ensured = await world.ensure(LIMITED, wait=300)
    assert ensured.outcome == "created"
    assert secrets(world.emulator)[1:] == [ensured.key]


@pytest.mark.parametrize("wait", [0, 5, 29, 45])
@pytest.mark.parametrize("fault", ["closed", "closed after it"])
async def test_a_caller_who_does_not_wait(world: World, fault: str, wait: float) -> None:
    """The error says when to ask again; then there is the key, and it is the only one."""
    world.emulator.faults.append(FAULTS[fault][0])
    try:
        ensured = await world.ensure(LIMITED, wait=wait)
    except errors.CreateOutcomeUnknownError as error:
        assert wait < 30
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 30
        await world.client._transport.clockwork.sleep(error.retry_after)
        ensured = await world.ensure(LIMITED, wait=wait)
    assert secrets(world.emulator) == [ensured.key]
    assert (await world.ensure(LIMITED)).key == ensured.key


@pytest.mark.parametrize("problem", ["no room", "the database is away", "locked"])
async def test_a_secret_that_is_not_kept_is_in_the_error_which_says_so_once(
    problem: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise errors.JournalError(problem)

    monkeypatch.setattr(entries, "keep", fail)
    with pytest.raises(errors.SecretNotKeptError) as caught:
        await world.ensure(spec())
    assert [caught.value.key] == secrets(world.emulator)
    assert caught.value.problem == problem
    assert str(caught.value).count("is not in the journal") == 1


async def test_a_row_that_is_claimed_twice_in_one_run_was_new_to_it(world: World) -> None:
    """As `apply` may do, whose changes share a run: how long to wait follows from the first."""
    async with world.journal.begin() as gone:
        assert await gone.intend(spec(), AT) is None
    settings = ReleaseSettings(journal=world.journal)
    context = EnsureContext(world.client._transport, world.journal, settings, "apply", 1.0, 1e9)
    known = await world.journal.succession("r")
    async with world.journal.begin() as run:
        for _ in range(2):
            assert await context.claim(run, *known)
            assert context.claims["r"].new
