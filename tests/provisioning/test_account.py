"""A journal that is gone on with by another account's management key."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from openrouter_keys import AccountChangedError, AsyncOpenRouter, OpenRouter, OpenRouterError
from openrouter_keys.emulator import Emulator, Fault, Workspace
from openrouter_keys.journal.schema import State
from tests.commands import Command
from tests.journals import spec
from tests.misbehaving import Record, misbehaving
from tests.provisions import counts, specs, stopped
from tests.rotations import old_keys, states

CLOSED = Fault("create", kind="closed", phase="after")


def another(emulator: Emulator, keys: int = 1) -> None:
    """From now on the same key opens another account, with a default workspace of its own."""
    account = emulator.account
    account.keys.clear()
    (home,) = (account.workspaces.pop(account.default_workspace),)
    account.default_workspace = "11111111-2222-4333-8444-555555555555"
    account.workspaces[account.default_workspace] = home
    if keys:
        old_keys(emulator, keys)


async def doubtful(client: AsyncOpenRouter, emulator: Emulator, path: Path) -> None:
    await client.provision(specs(3), journal=path)
    emulator.faults += [CLOSED, Fault("create", status=402)]
    await stopped(client.provision([spec("doubt"), spec("stop")], journal=path, concurrency=1))
    emulator.faults.clear()
    assert (await counts(path)).get(State.DOUBT.value) == 1


@pytest.mark.parametrize(
    "listed", [str.upper, str.lower, str.title], ids=["upper", "lower", "title"]
)
@pytest.mark.parametrize("answered", [str.upper, str.lower])
async def test_ones_own_account_is_known_however_a_workspace_is_written(
    listed: Callable[[str], str], answered: Callable[[str], str], path: Path
) -> None:
    home = "abcdefab-2222-4333-8444-555555555555"

    def written(record: Record, way: Callable[[str], str]) -> Record:
        return record | {"workspace_id": way(home)}

    def shown(record: Record) -> Record:
        return written(record, answered)

    def page(keys: list[Record], offset: int) -> list[Record]:
        return [written(key, listed) for key in keys[offset:]]

    async with (
        misbehaving(shown=shown, page=page) as service,
        AsyncOpenRouter("key", server_url=service.url) as client,
    ):
        for number in range(2):
            report = await client.provision(specs(1 + number), journal=path)
            assert (report.ok, report.settled_before) == (True, number)


async def provision(client: AsyncOpenRouter, path: Path) -> object:
    return await client.provision(specs(5), journal=path)


async def rotate(client: AsyncOpenRouter, path: Path) -> object:
    return await client.rotate((), journal=path)


@pytest.mark.slow
@pytest.mark.parametrize("run", [provision, rotate])
async def test_another_accounts_key_sends_no_create_and_forgets_no_doubt(
    run: Callable[[AsyncOpenRouter, Path], Awaitable[object]],
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
) -> None:
    await doubtful(client, emulator, path)
    another(emulator)
    before, created = await counts(path), emulator.count("create")
    with pytest.raises(OpenRouterError, match="account that they belong to") as caught:
        await run(client, path)
    assert isinstance(caught.value.__cause__, AccountChangedError)
    assert await counts(path) == before
    assert (emulator.count("create"), emulator.count("delete")) == (created, 0)


def test_the_blocking_face_and_the_command_refuse_it_too(
    command: Command, openrouter_emulator: Emulator, path: Path
) -> None:
    emulator = openrouter_emulator
    file = path.with_name("customers.csv")
    file.write_text("ref,name\n0,a\n")
    assert command("provision", str(file), "--journal", str(path)).code == 0
    another(emulator)
    ended = command("provision", str(file), "--journal", str(path))
    assert ended.code != 0
    assert "account that they belong to" in ended.err
    with (
        OpenRouter(emulator.api_key, server_url=emulator.base_url) as client,
        pytest.raises(OpenRouterError, match="account that they belong to"),
    ):
        client.provision(specs(1), journal=path)


async def test_keys_in_named_workspaces_say_nothing_of_the_default_one(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    emulator.account.workspaces["99999999-2222-4333-8444-555555555555"] = next(
        iter(emulator.account.workspaces.values())
    )
    wanted = specs(2, workspace_id="99999999-2222-4333-8444-555555555555")
    await client.provision(wanted, journal=path)
    old_keys(emulator, 1)
    report = await client.provision(wanted, journal=path)
    assert report.settled_before == 2


# --- rotations whose workspace is gone ---

GONE, LIVING = (f"{digit * 8}-2222-4333-8444-555555555555" for digit in "45")


async def rotation_in(
    workspaces: list[str], emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    """A rotation in each workspace has handed its replacement over and is not through."""
    for workspace_id in workspaces:
        emulator.account.workspaces[workspace_id] = Workspace(workspace_id)
        (old,) = old_keys(emulator, 1, workspace_id=workspace_id)
        await client.rotate([old.hash], journal=path, on_result=print)


def delete_workspaces(emulator: Emulator, *workspaces: str) -> None:
    account = emulator.account
    for workspace_id in workspaces:
        del account.workspaces[workspace_id]
    for key in [key for key in account.keys.values() if key.workspace_id in workspaces]:
        account.delete(key.hash)


@pytest.mark.parametrize("there", [None, LIVING])
@pytest.mark.parametrize("missing", [0, 3])
async def test_a_rotation_whose_workspace_was_deleted_keeps_no_other_key_from_being_rotated(
    there: str | None, missing: int, emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    await rotation_in([GONE], emulator, client, path)
    emulator.account.workspaces[LIVING] = Workspace(LIVING)
    given = {} if there is None else {"workspace_id": there}
    (new,) = old_keys(emulator, 1, **given)
    delete_workspaces(emulator, GONE)

    wanted = [*("0" * 63 + str(number) for number in range(missing)), new.hash]
    report = await client.rotate(wanted, journal=path, on_result=print, retire_after=0)

    assert (report.rotated, report.retired, report.waiting) == (1, 1, 1)
    reasons = [problem.reason for problem in report.failures if problem.ref not in wanted]
    assert len(reasons) == 1
    assert "the old key is left as it is" in reasons[0]


async def test_of_many_workspaces_one_that_is_there_is_enough(
    emulator: Emulator, client: AsyncOpenRouter, path: Path
) -> None:
    gone = [f"{number:08}-2222-4333-8444-555555555555" for number in range(7)]
    await rotation_in([*gone, LIVING], emulator, client, path)
    delete_workspaces(emulator, *gone)
    report = await client.rotate((), journal=path, retire_after=0)
    assert (report.retired, report.waiting) == (1, 7)


@pytest.mark.parametrize("hashes", [(), ["f" * 64], ["f" * 64, "e" * 64]])
@pytest.mark.parametrize("retire_after", [None, 0])
async def test_a_management_key_that_sees_no_workspace_and_no_key_is_refused(
    hashes: list[str],
    retire_after: float | None,
    emulator: Emulator,
    client: AsyncOpenRouter,
    path: Path,
) -> None:
    await rotation_in([GONE], emulator, client, path)
    delete_workspaces(emulator, GONE)
    before = await states(path)
    on_result = print if hashes else None
    with pytest.raises(AccountChangedError, match="may have been deleted") as caught:
        await client.rotate(hashes, journal=path, on_result=on_result, retire_after=retire_after)
    assert (caught.value.known, await states(path)) == (GONE, before)
    assert emulator.count("create") == 1
