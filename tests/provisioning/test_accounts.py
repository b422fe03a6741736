"""Management keys of two accounts with one journal: no key is made where the journal's are not."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, TypeAlias

import pytest
from attrs import define, field

from openrouter_keys import (
    AccountChangedError,
    AsyncOpenRouter,
    KeySpec,
    OpenRouterError,
    ProvisionResult,
)
from openrouter_keys._base.clock import Clockwork
from openrouter_keys.emulator import Account, Emulator, Fault, StoredKey, Workspace
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import DOUBTFUL, State
from tests.engines import New
from tests.journals import AT, spec
from tests.provisions import JumpingTime, client_of, specs
from tests.rotations import old_keys

THEIRS, NAMED, OTHER = (f"{digit * 8}-2222-4333-8444-555555555555" for digit in "123")

Call: TypeAlias = Callable[[AsyncOpenRouter, Sequence[KeySpec], Journal], Awaitable[object]]


@define
class Accounts:
    """Two accounts of one service: what the management key opens is swapped.

    Attributes:
        emulator: the service.
        other: the keys of the account that is not open.
    """

    emulator: Emulator
    other: dict[str, StoredKey] = field(factory=dict[str, StoredKey])
    _other_home: str = THEIRS

    def __attrs_post_init__(self) -> None:
        for home in (THEIRS, NAMED, OTHER):
            self.emulator.account.workspaces.setdefault(home, Workspace(home))

    def swap(self) -> None:
        account = self.emulator.account
        self.other, keys = {**account.keys}, self.other
        account.keys.clear()
        account.keys.update(keys)
        home, account.default_workspace = account.default_workspace, self._other_home
        self._other_home = home

    @property
    def keys(self) -> list[StoredKey]:
        return [*self.emulator.account.keys.values()]


@pytest.fixture
def accounts(emulator: Emulator) -> Accounts:
    return Accounts(emulator)


async def provision(client: AsyncOpenRouter, wanted: Sequence[KeySpec], journal: Journal) -> object:
    return await client.provision(wanted, journal=journal)


async def apply(client: AsyncOpenRouter, wanted: Sequence[KeySpec], journal: Journal) -> object:
    return await client.apply(wanted, journal=journal, recreate=True, prune="delete")


async def plan(client: AsyncOpenRouter, wanted: Sequence[KeySpec], journal: Journal) -> object:
    return await client.plan_apply(wanted, journal=journal)


async def ensure(client: AsyncOpenRouter, wanted: Sequence[KeySpec], journal: Journal) -> object:
    return [await client.ensure(one, journal=journal) for one in wanted]


CALLS = pytest.mark.parametrize("call", [provision, apply, plan, ensure])


async def made(client: AsyncOpenRouter, journal: Journal, emulator: Emulator) -> None:
    await client.provision(specs(3), journal=journal)


async def named(client: AsyncOpenRouter, journal: Journal, emulator: Emulator) -> None:
    await client.provision(specs(3, workspace_id=NAMED), journal=journal)


async def not_handed_over(client: AsyncOpenRouter, journal: Journal, emulator: Emulator) -> None:
    def refuse(_: ProvisionResult) -> None:
        raise ConnectionError

    with suppress(OpenRouterError):
        await client.provision(specs(1), journal=journal, on_result=refuse, concurrency=1)


async def adopted(client: AsyncOpenRouter, journal: Journal, emulator: Emulator) -> None:
    (key,) = old_keys(emulator, 1)
    await client.adopt(key.hash, "adopted", journal=journal)


async def replaced(client: AsyncOpenRouter, journal: Journal, emulator: Emulator) -> None:
    await client.provision(specs(1), journal=journal)
    (key,) = emulator.account.keys
    await client.rotate([key], journal=journal, on_result=print, retire_after=0)


@CALLS
@pytest.mark.parametrize("before", [made, named, not_handed_over, adopted, replaced])
async def test_an_account_that_lists_nothing_gets_no_key(
    call: Call, before: Any, accounts: Accounts, client: AsyncOpenRouter, time: JumpingTime
) -> None:
    """Nothing is changed in either account, and the right management key goes on afterwards."""
    async with Journal.open(":memory:") as journal:
        async with client_of(accounts.emulator, time) as before_this_one:
            await before(before_this_one, journal, accounts.emulator)
        rows = [entry async for entry in journal.every()]
        accounts.swap()
        with pytest.raises(OpenRouterError, match="account that they belong to") as caught:
            await call(client, [spec("new")], journal)
        error = caught.value.__cause__ or caught.value
        assert isinstance(error, AccountChangedError)
        assert rows[-1].hash in error.looked
        assert (accounts.keys, [entry async for entry in journal.every()]) == ([], rows)
        accounts.swap()
        await call(client, [spec("new")], journal)


@CALLS
@pytest.mark.parametrize("theirs", [0, 1])
async def test_a_service_that_shows_no_workspaces(
    call: Call, theirs: int, accounts: Accounts, client: AsyncOpenRouter
) -> None:
    accounts.emulator.account.hidden_fields.add("workspace_id")
    async with Journal.open(":memory:") as journal:
        await made(client, journal, accounts.emulator)
        accounts.swap()
        old_keys(accounts.emulator, theirs)
        with pytest.raises(OpenRouterError, match="adopt it"):
            await call(client, [spec("new")], journal)
        assert len(accounts.keys) == theirs
        accounts.swap()
        await call(client, [spec("new")], journal)


# --- the account is the journal's, though its list shows none of the keys ---


async def as_it_was(client: AsyncOpenRouter, journal: Journal, accounts: Accounts) -> None:
    await made(client, journal, accounts.emulator)


async def in_a_named_workspace(
    client: AsyncOpenRouter, journal: Journal, accounts: Accounts
) -> None:
    await named(client, journal, accounts.emulator)


async def in_several_workspaces(
    client: AsyncOpenRouter, journal: Journal, accounts: Accounts
) -> None:
    for number, home in enumerate((NAMED, OTHER)):
        wanted = [spec(f"{home[0]}-{number}", workspace_id=home)]
        await client.provision(wanted, journal=journal)
    accounts.emulator.account.delete(accounts.keys[0].hash)


async def moved_by_hand(client: AsyncOpenRouter, journal: Journal, accounts: Accounts) -> None:
    """The first key's record shows another workspace than a list does."""
    await made(client, journal, accounts.emulator)
    key = accounts.keys[0]
    await client.api_keys.update(key.hash, workspace_id=NAMED)
    async with journal.begin() as run:
        await run.claim("0", settled=True)
        record = f'{{"workspace_id":"{NAMED}"}}'
        await run.update("0", None, record)


async def disabled(client: AsyncOpenRouter, journal: Journal, accounts: Accounts) -> None:
    await made(client, journal, accounts.emulator)
    for key in accounts.keys:
        await client.api_keys.update(key.hash, disabled=True)


async def one_key_left(client: AsyncOpenRouter, journal: Journal, accounts: Accounts) -> None:
    await disabled(client, journal, accounts)
    for key in accounts.keys[1:]:
        accounts.emulator.account.delete(key.hash)


async def deleted_and_another_created(
    client: AsyncOpenRouter, journal: Journal, accounts: Accounts
) -> None:
    await made(client, journal, accounts.emulator)
    for key in accounts.keys:
        accounts.emulator.account.delete(key.hash)
    await client.api_keys.create(name="by hand")


async def deleted_in_a_named_workspace(
    client: AsyncOpenRouter, journal: Journal, accounts: Accounts
) -> None:
    await named(client, journal, accounts.emulator)
    for key in accounts.keys:
        accounts.emulator.account.delete(key.hash)
    await client.api_keys.create(name="by hand", workspace_id=NAMED)


async def being_deleted(client: AsyncOpenRouter, journal: Journal, accounts: Accounts) -> None:
    await made(client, journal, accounts.emulator)
    async with journal.begin() as run:
        for entry in [entry async for entry in run.every()]:
            await run.claim(entry.ref, settled=True)
            await run.release(entry.ref)
            accounts.emulator.account.delete(str(entry.hash))


async def nothing(client: AsyncOpenRouter, journal: Journal, accounts: Accounts) -> None:
    pass


async def refused(client: AsyncOpenRouter, journal: Journal, accounts: Accounts) -> None:
    accounts.emulator.faults.append(Fault("create", status=400))
    await client.provision(specs(1), journal=journal)


OWN = (
    as_it_was,
    in_a_named_workspace,
    in_several_workspaces,
    moved_by_hand,
    disabled,
    one_key_left,
    being_deleted,
    nothing,
    refused,
)


@CALLS
@pytest.mark.parametrize(
    ("before", "shows_workspaces"),
    [
        *((before, shows) for before in OWN for shows in (True, False)),
        # Otherwise nothing shows that it is the account.
        (deleted_and_another_created, True),
        (deleted_in_a_named_workspace, True),
    ],
)
async def test_ones_own_account(
    call: Call, before: Any, shows_workspaces: bool, accounts: Accounts, client: AsyncOpenRouter
) -> None:
    """Another key is made there."""
    if not shows_workspaces:
        accounts.emulator.account.hidden_fields.add("workspace_id")
    async with Journal.open(":memory:") as journal:
        await before(client, journal, accounts)
        await call(client, [spec("new")], journal)
        names = [key.name for key in accounts.keys]
        assert names.count("customer-new") == (call is not plan)


async def test_all_keys_deleted_by_hand_are_made_anew(
    accounts: Accounts, client: AsyncOpenRouter
) -> None:
    """As the error says: with a key that was created by hand."""
    async with Journal.open(":memory:") as journal:
        await made(client, journal, accounts.emulator)
        accounts.emulator.account.keys.clear()
        with pytest.raises(OpenRouterError, match="create a key by hand"):
            await apply(client, specs(4), journal)
        assert not accounts.keys
        await client.api_keys.create(name="by hand")
        report = await client.apply(specs(4), journal=journal, recreate=True)
        assert (report.ok, report.recreated, report.created) == (True, 3, 1)


async def test_a_list_that_lags_behind(accounts: Accounts, client: AsyncOpenRouter) -> None:
    """Another process has made the account's first key just now: it is looked at once more."""
    async with Journal.open(":memory:") as journal:
        await made(client, journal, accounts.emulator)
        accounts.emulator.faults += [
            Fault("list", "body", body=b'{"data": []}', times=2),
            Fault("get", status=404, times=3),
        ]
        report = await client.provision([spec("new")], journal=journal)
        assert report.created == 1


@pytest.mark.parametrize("call", [apply, plan])
async def test_what_makes_no_key_needs_no_proof(
    call: Call, accounts: Accounts, client: AsyncOpenRouter
) -> None:
    """An account that was emptied: the plan says of each key that nothing proves it gone."""
    async with Journal.open(":memory:") as journal:
        await made(client, journal, accounts.emulator)
        accounts.emulator.account.keys.clear()
        accounts.emulator.requests.clear()
        await call(client, specs(3), journal)
        assert {request.operation for request in accounts.emulator.requests} == {"list", "get"}


@CALLS
async def test_an_account_that_can_be_compared_costs_no_request(
    call: Call, accounts: Accounts, client: AsyncOpenRouter
) -> None:
    async with Journal.open(":memory:") as journal:
        await made(client, journal, accounts.emulator)
        accounts.emulator.requests.clear()
        await call(client, [*specs(3), spec("new")], journal)
        assert accounts.emulator.count("get") == 0
        assert accounts.emulator.count("list") <= 3


# --- the account is not the journal's, and nothing is created ---


async def lose(journal: Journal, emulator: Emulator, time: Clockwork) -> StoredKey:
    """A create was sent, its key was made, and no answer came."""
    async with journal.begin(1.0) as run:
        await run.intend(spec("lost"), time.now())
        key = emulator.account.create({"name": "customer-lost"})
        await run.doubt("lost", "no answer", ended_at=time.now())
    return key


async def release(client: AsyncOpenRouter, wanted: Sequence[KeySpec], journal: Journal) -> object:
    return await client.release("lost", journal=journal)


async def prune(client: AsyncOpenRouter, wanted: Sequence[KeySpec], journal: Journal) -> object:
    return await client.apply([], journal=journal, prune="delete", max_prune=9)


async def settle(client: AsyncOpenRouter, wanted: Sequence[KeySpec], journal: Journal) -> object:
    """`provision`, which goes on without what it cannot settle, and says why."""
    report = await client.provision(wanted, journal=journal)
    for problem in report.doubts:
        raise OpenRouterError(problem.reason)
    return report


async def made_by_another_client(
    client: AsyncOpenRouter, journal: Journal, emulator: Emulator
) -> None:
    async with client_of(emulator) as other:
        await made(other, journal, emulator)


@pytest.mark.parametrize("before", [made, made_by_another_client])
@pytest.mark.parametrize(
    ("call", "theirs"),
    [(call, theirs) for call in (settle, apply, ensure, release) for theirs in (0, 1)],
)
async def test_another_account_settles_no_doubt(
    call: Call, theirs: int, before: Any, accounts: Accounts, client: AsyncOpenRouter
) -> None:
    """It has no key of the lost create, and that proves nothing, whoever asked before."""
    accounts.emulator.account.hidden_fields.add("workspace_id")
    time = client._transport.clockwork
    async with Journal.open(":memory:") as journal:
        await before(client, journal, accounts.emulator)
        key = await lose(journal, accounts.emulator, time)
        accounts.swap()
        old_keys(accounts.emulator, theirs)
        with pytest.raises(OpenRouterError, match="account that they belong to"):
            await call(client, [*specs(3), spec("lost")], journal)
        assert (await journal.states_of(["lost"]))["lost"] in DOUBTFUL
        assert len(accounts.keys) == theirs
        accounts.swap()
        await call(client, [*specs(3), spec("lost")], journal)
        assert key not in accounts.keys


async def make_anew(client: AsyncOpenRouter, wanted: Sequence[KeySpec], journal: Journal) -> object:
    await client.provision([spec("lost")], journal=journal)
    return await client.release("lost", journal=journal)


async def test_another_account_settles_no_create_that_was_written_off(
    accounts: Accounts, client: AsyncOpenRouter
) -> None:
    """Its key was made anew, and what the first create made may be there."""
    accounts.emulator.account.hidden_fields.add("workspace_id")
    time = client._transport.clockwork
    async with Journal.open(":memory:") as journal:
        await made(client, journal, accounts.emulator)
        lost, anew = (accounts.emulator.account.add("customer-lost") for _ in range(2))
        async with journal.begin(1.0) as run:
            await run.intend(spec("lost"), time.now())
            await run.doubt("lost", "no answer", ended_at=time.now())
            await run.again("lost", time.now())
            await run.keep("lost", secret=str(anew.secret), hash=anew.hash, settled=True)
        wanted = [*specs(3), spec("lost")]
        accounts.swap()
        report = await client.provision(wanted, journal=journal)
        assert not report.ok
        assert [problem.ref for problem in report.unproven] == ["lost"]
        accounts.swap()
        report = await client.provision(wanted, journal=journal)
        assert report.ok
        assert lost not in accounts.keys
        assert anew in accounts.keys


@pytest.mark.parametrize("call", [prune, release, make_anew])
@pytest.mark.parametrize("theirs", [0, 1])
async def test_another_account_deletes_no_key(
    call: Call, theirs: int, accounts: Accounts, client: AsyncOpenRouter, time: JumpingTime
) -> None:
    """That a key is not there does not count as deleted, and its delete was begun."""
    accounts.emulator.account.hidden_fields.add("workspace_id")
    async with Journal.open(":memory:") as journal:
        async with client_of(accounts.emulator, time) as first:
            await first.provision([spec("lost"), *specs(2)], journal=journal)
            accounts.emulator.faults.append(Fault("delete", status=403))
            with suppress(OpenRouterError):
                await first.release("lost", journal=journal)
        accounts.swap()
        old_keys(accounts.emulator, theirs)
        with pytest.raises(OpenRouterError, match="account that they belong to"):
            await call(client, [], journal)
        assert (await journal.states_of(["lost"]))["lost"] is State.RELEASING
        accounts.swap()
        await call(client, [], journal)
        assert "customer-lost" not in {key.name for key in accounts.keys}


@CALLS
@pytest.mark.parametrize("there", ["a later key", "a key in its workspace"])
async def test_an_account_whose_first_key_was_deleted_by_hand(
    call: Call, there: str, accounts: Accounts, client: AsyncOpenRouter
) -> None:
    """It lay in another workspace than the default one, which has keys of others."""
    account = accounts.emulator.account
    async with Journal.open(":memory:") as journal:
        await made(client, journal, accounts.emulator)
        first, *others = accounts.keys
        home, account.default_workspace = account.default_workspace, OTHER
        account.add("theirs")
        account.delete(first.hash)
        if there == "a key in its workspace":
            for key in others:
                account.delete(key.hash)
            account.add("by hand", workspace_id=home)
        await call(client, [spec("new")], journal)


# --- the management key becomes another account's in a run ---


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("store_secrets", [True, False])
async def test_a_key_that_another_account_makes_in_a_run_is_deleted_there(
    at_once: int, store_secrets: bool, accounts: Accounts, client: AsyncOpenRouter
) -> None:
    taken: dict[str, str] = {}

    def take(result: ProvisionResult) -> None:
        taken[result.ref] = result.key
        if len(taken) == 2:
            accounts.swap()

    async with Journal.open(":memory:", store_secrets=store_secrets) as journal:
        wanted = specs(30)
        with pytest.raises(OpenRouterError, match="belong to") as caught:
            await client.provision(wanted, journal=journal, on_result=take, concurrency=at_once)
        error: Any = caught.value
        assert isinstance(error.__cause__, AccountChangedError)
        assert not accounts.keys
        assert not error.report.undelivered
        assert error.report.failed == error.report.deleted >= 1
        assert all("deleted there" in each.reason for each in error.report.failures)
        accounts.swap()
        report = await client.provision(wanted, journal=journal, on_result=take)
        assert report.ok
    assert taken == {key.name.removeprefix("customer-"): key.secret for key in accounts.keys}


@pytest.mark.parametrize("call", [provision, apply, ensure])
async def test_the_other_calls_delete_it_too(
    call: Call, accounts: Accounts, client: AsyncOpenRouter
) -> None:
    """The account was compared a moment ago."""
    async with Journal.open(":memory:") as journal:
        await made(client, journal, accounts.emulator)
        await ensure(client, [spec("first")], journal)
        with pytest.raises(OpenRouterError, match="belong to"):
            await _swapped_at_the_create(call, accounts, client, journal)
        assert not accounts.keys
        accounts.swap()
        await call(client, [*specs(3), spec("first"), spec("new")], journal)
        assert sorted(key.name for key in accounts.keys if key.name == "customer-new")


async def _swapped_at_the_create(
    call: Call, accounts: Accounts, client: AsyncOpenRouter, journal: Journal
) -> None:
    original = Account.create

    def create(*given: Any, **named: Any) -> Any:
        accounts.swap()
        patch.undo()
        return original(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Account, "create", create)
        await call(client, [*specs(3), spec("new")], journal)


async def test_what_cannot_be_deleted_there_is_kept(
    accounts: Accounts, client: AsyncOpenRouter
) -> None:
    """Its secret stays in the journal, and the report has its hash."""
    async with Journal.open(":memory:") as journal:
        await made(client, journal, accounts.emulator)
        accounts.emulator.faults.append(Fault("delete", status=403, times=None))
        with pytest.raises(OpenRouterError, match="belong to") as caught:
            await _swapped_at_the_create(provision, accounts, client, journal)
        error: Any = caught.value
        (key,) = accounts.keys
        (problem,) = error.report.failures
        assert (problem.hashes, "delete it there" in problem.reason) == ((key.hash,), True)
        entry = await journal.find(problem.ref)
        assert entry is not None
        assert (entry.state, entry.secret) == (State.MADE, key.secret)


# --- the journal's home ---


@pytest.mark.parametrize(
    ("rows", "home"),
    [
        ([(True, None, "a"), (True, None, "b")], "a"),
        ([(True, None, "a"), *[(True, None, "b")] * 5], "a"),
        ([(False, None, "b"), (True, None, "a")], "a"),
        ([(False, None, "a"), (False, None, "b")], "a"),
        ([(True, "b", "b"), (True, None, "a")], "a"),
        ([(True, "b", "b"), (True, "b", None), (True, None, None)], None),
        ([(True, None, None), (True, None, "a")], "a"),
        ([], None),
    ],
)
async def test_the_first_proven_key_shows_the_home(
    rows: list[tuple[bool, str | None, str | None]], home: str | None, new: New
) -> None:
    async with Journal.open(new()) as journal:
        for number, (proven, asked, shown) in enumerate(rows):
            ref = str(number)
            await journal.intend(spec(ref, workspace_id=asked), AT)
            secret = f"sk-or-v1-{number:064}"
            own = sha256(secret.encode()).hexdigest()
            record = "{}" if shown is None else f'{{"workspace_id":"{shown}"}}'
            hash = own if proven else "f" * 64
            await journal.keep(ref, secret=secret, hash=hash, record=record)
        assert await journal.default_workspace() == home
        ends = await journal.ends()
        assert len(ends) == len({*ends})
