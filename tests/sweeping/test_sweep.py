"""`sweep`: which keys no journal knows, and that nothing else is touched."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from openrouter_keys import AsyncOpenRouter, OpenRouter, SweepReport, SweptKey
from openrouter_keys.emulator import Emulator, Fault, StoredKey
from openrouter_keys.emulator.stored import Workspace
from openrouter_keys.errors import (
    AccountChangedError,
    InvalidArgumentError,
    JournalError,
    JournalMismatchError,
    OpenRouterError,
    QuotaExhaustedError,
    UnauthorizedResponseError,
)
from openrouter_keys.journal.journal import Journal
from tests.engines import New
from tests.ensuring.conftest import world
from tests.ensuring.rows import World, sent
from tests.journals import spec

__all__ = ["world"]

ELSEWHERE = "e2e2e2e2-0000-4000-8000-000000000002"
DAY = 86_400.0


def stray(world: World, name: str = "stray", **given: Any) -> StoredKey:
    return world.emulator.account.add(name, **given)


async def swept(world: World, **given: Any) -> SweepReport:
    given.setdefault("journals", [world.journal])
    return await world.client.sweep(**given)


def names(keys: Sequence[SweptKey]) -> list[str]:
    return sorted(key.data.name for key in keys)


# --- which ---


async def test_it_finds_what_no_journal_knows_and_changes_nothing(world: World) -> None:
    await world.ensure(spec("a"))
    await world.ensure(spec("b"))
    stray(world)
    stray(world, "off", disabled=True)
    stray(world, "over", expires_at=world.client._transport.clockwork.now() - timedelta(days=1))
    world.emulator.requests.clear()
    report = await swept(world)
    assert names(report.keys) == ["off", "over", "stray"]
    assert (report.known, report.others, report.in_doubt, report.ok) == (2, 0, (), True)
    assert {key.outcome for key in report.keys} == {"found"}
    assert {*sent(world.emulator)} == {"list", "current"}


FILTERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "none": ({}, ["free", "new", "old", "own", "used"]),
    "unused": ({"unused": True}, ["new", "old"]),
    "older": ({"older_than": 10 * DAY}, ["free", "old", "own", "used"]),
    "older, to the second": ({"older_than": 20 * DAY - 60}, ["free", "old", "own", "used"]),
    "older than any": ({"older_than": 21 * DAY}, []),
    "older than the world": ({"older_than": 1e300}, []),
    "named": ({"name": "*e*"}, ["free", "new", "used"]),
    "named in full": ({"name": "old"}, ["old"]),
    "all three": ({"name": "[no]*", "older_than": DAY, "unused": True}, ["old"]),
}


@pytest.mark.parametrize("case", FILTERS)
@pytest.mark.parametrize("action", [None, "delete"])
async def test_each_filter(world: World, case: str, action: str | None) -> None:
    given, expected = FILTERS[case]
    now = world.client._transport.clockwork.now()
    long_ago = {"created_at": now - timedelta(days=20)}
    stray(world, "old", **long_ago)
    stray(world, "used", **long_ago, usage=0.01)
    stray(world, "own", **long_ago, byok_usage=2)
    stray(world, "free", **long_ago, last_used_at=now)  # free models cost nothing
    stray(world, "new", created_at=now - timedelta(hours=1))
    report = await swept(world, **given, action=action)
    assert (names(report.keys), report.others) == (expected, 5 - len(expected))
    left = {"old", "used", "own", "free", "new"} - ({*expected} if action else set())
    assert {key.name for key in world.emulator.account.keys.values()} == left


async def test_what_proves_a_key_unused(world: World) -> None:
    now = world.client._transport.clockwork.now()
    stray(world, "a", created_at=now.replace(2026, 1, 2), updated_at=now.replace(2026, 2, 3))
    stray(world, "b", created_at=now.replace(2026, 1, 2), usage=1.5, byok_usage=2)
    stray(world, "c", created_at=now.replace(2026, 1, 2), last_used_at=now.replace(2026, 4, 5))
    proofs = {key.data.name: (key.unused, key.proof) for key in (await swept(world)).keys}
    assert proofs == {
        "a": (True, "spent $0.00, never used, made 2026-01-02, changed 2026-02-03"),
        "b": (False, "spent $1.50 and $2.00 at own providers, never used, made 2026-01-02"),
        "c": (False, "spent $0.00, last used 2026-04-05, made 2026-01-02"),
    }
    world.emulator.account.hidden_fields.add("last_used_at")
    assert "last use not shown" in (await swept(world, name="a")).keys[0].proof


async def test_another_workspace(world: World) -> None:
    world.emulator.account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE)
    stray(world)
    stray(world, "away", workspace_id=ELSEWHERE)
    assert names((await swept(world, workspace_id=ELSEWHERE)).keys) == ["away"]


# --- which never ---


async def _adopted(world: World) -> None:
    await world.client.adopt(stray(world).hash, "r", journal=world.journal)


async def _rotating(world: World) -> None:
    await world.client.rotate([stray(world).hash], journal=world.journal, on_result=lambda _: None)


async def _claimed(world: World) -> None:
    """A key of whose secret the journal has another hash than the answer had."""
    key = stray(world)
    assert key.secret is not None
    async with world.journal.begin() as run:
        await run.intend(spec(), world.client._transport.clockwork.now())
        await run.keep("r", secret=key.secret, hash="ab" * 32, settled=True)


def _brought(state: str) -> Callable[[World], Awaitable[None]]:
    async def prepare(world: World) -> None:
        await world.bring(state)

    return prepare


KNOWN = {
    "made": _brought("made"),
    "settled": _brought("settled"),
    "rejected": _brought("rejected"),
    "releasing": _brought("releasing"),
    "adopted": _adopted,
    "rotated, and the old key too": _rotating,
    "known by its secret": _claimed,
}


@pytest.mark.parametrize("case", KNOWN)
async def test_a_key_of_a_journal_is_never_swept(world: World, case: str) -> None:
    await KNOWN[case](world)
    before = {*world.emulator.account.keys}
    report = await swept(world, action="delete")
    assert (report.keys, report.known) == ((), len(before))
    assert {*world.emulator.account.keys} == before


@pytest.mark.parametrize("state", ["intent", "doubt", "doubt-made", "released"])
@pytest.mark.parametrize("name", ["customer-r", "Customer-R"])
async def test_a_key_that_a_create_may_have_made_is_told(
    world: World, state: str, name: str
) -> None:
    await world.bring(state)
    key = stray(world, name)
    report = await swept(world, action="delete")
    assert key.hash in {each.data.hash for each in report.in_doubt}
    assert {each.problem for each in report.in_doubt} == {
        "a create of the ref 'r' that is not settled may have made it"
    }
    assert key.hash in world.emulator.account.keys


@pytest.mark.parametrize("listed", ["hash", "label"])
async def test_the_management_key_itself_is_never_swept(world: World, listed: str) -> None:
    """It is not listed today; a service that lists it must not cost it."""
    account = world.emulator.account
    own = account.current(account.management_key)
    given = {"secret": account.management_key} if listed == "hash" else {"label": own.label}
    key = stray(world, "management", **given)
    report = await swept(world, action="delete")
    assert report.keys == ()
    assert [each.data.name for each in report.in_doubt] == (
        [] if listed == "hash" else ["management"]
    )
    assert account.keys == {key.hash: key}


async def test_every_journal_counts(world: World, tmp_path: Path) -> None:
    async with Journal.open(tmp_path / "j") as other:
        await world.client.ensure(spec("b"), journal=other)
    await world.ensure(spec("a"))
    stray(world)
    journals = (each for each in (world.journal, tmp_path / "j"))
    report = await swept(world, journals=journals, action="delete")
    assert (names(report.keys), report.known) == (["stray"], 2)
    assert len(world.emulator.account.keys) == 2


async def test_in_each_engine_also_beside_a_run(
    client: AsyncOpenRouter, emulator: Emulator, new: New
) -> None:
    place = new()
    async with Journal.open(place) as journal:
        made = await client.ensure(spec("a"), journal=journal)
        emulator.account.add("stray")
        report = await client.sweep(journals=[place], action="delete")
        assert (names(report.keys), report.known) == (["stray"], 1)
    assert [*emulator.account.keys] == [made.data.hash]


# --- what it does ---


async def test_disable(world: World) -> None:
    on, off = stray(world, "on"), stray(world, "off", disabled=True)
    report = await swept(world, action="disable")
    assert (report.count("disabled"), report.ok, on.disabled, off.disabled) == (2, True, True, True)
    assert sent(world.emulator).count("update") == 1


async def test_a_key_is_looked_at_and_disabled_before_it_is_deleted(world: World) -> None:
    stray(world)
    await swept(world, action="delete", unused=True)
    assert sent(world.emulator)[-3:] == ["get", "update", "delete"]


async def test_nothing_changes_without_approval(world: World) -> None:
    key, asked = stray(world), list[str]()

    async def later(keys: Sequence[SweptKey]) -> bool:
        asked.extend(names(keys))
        return False

    report = await swept(world, action="delete", approve=later)
    assert (asked, report.count("found"), {*sent(world.emulator)}) == (
        ["stray"], 1, {"list", "current"},
    )  # fmt: skip
    assert (await swept(world, action="delete", approve=bool)).count("deleted") == 1
    assert key.hash not in world.emulator.account.keys
    await swept(world, action="delete", approve=pytest.fail)  # there is nothing to ask


async def test_what_happens_between_the_list_and_the_deed_counts(world: World) -> None:
    """Used, renamed, adopted and deleted meanwhile: none of them is swept."""
    account = world.emulator.account
    keys = {name: stray(world, name) for name in ("s-used", "s-named", "s-ours", "s-gone", "s-on")}

    async def meanwhile(_: Sequence[SweptKey]) -> bool:
        account.spend(keys["s-used"].hash, 0.001)
        keys["s-named"].name = "production"
        await world.client.adopt(keys["s-ours"].hash, "ours", journal=world.journal)
        account.delete(keys["s-gone"].hash)
        return True

    report = await swept(world, action="delete", unused=True, name="s-*", approve=meanwhile)
    assert {key.data.name: key.problem for key in report.keys if key.outcome == "kept"} == {
        "s-used": "it is in use",
        "production": "it has another name",
        "s-ours": "a journal knows it now",
        "s-gone": "it is gone already",
    }
    assert ([key.data.name for key in report.keys if key.outcome == "deleted"], report.ok) == (
        ["s-on"], False,
    )  # fmt: skip
    assert not any(key.disabled for key in account.keys.values())


@pytest.mark.parametrize("disabled", [False, True])
async def test_a_key_that_is_used_as_it_is_disabled_is_enabled_again(
    world: World, *, disabled: bool
) -> None:
    """The usage shows only in the record after it was disabled."""
    key = stray(world)
    perform = world.client._transport.perform

    async def used(operation: Any, *given: Any) -> Any:
        if operation.name == "update" and not key.usage:
            world.emulator.account.spend(key.hash, 0.5)
        return await perform(operation, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.client._transport, "perform", used)
        action = "disable" if disabled else "delete"
        report = await swept(world, action=action, unused=True)
    assert (report.keys[0].outcome, key.disabled) == ("kept", False)
    assert "enabled again" in str(report.keys[0].problem)


FAULTS = {
    "a delete that is refused": (Fault("delete", "status", status=409), 1),
    "a delete that did nothing": (Fault("delete", "body", body=b'{"deleted": false}'), 1),
    "a delete without an answer": (Fault("delete", "closed", times=None), 2),
    "an update that did nothing": (Fault("update", "status", status=400), 1),
    "a look that fails": (Fault("get", "status", status=400), 1),
    "a look that never succeeds": (Fault("get", "status", status=500, times=None), 2),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_each_fault(world: World, case: str) -> None:
    fault, kept = FAULTS[case]
    keys = [stray(world, "one"), stray(world, "two")]
    world.emulator.faults.append(fault)
    report = await swept(world, action="delete", concurrency=1)
    world.emulator.faults.clear()
    assert (report.count("kept"), report.count("deleted"), report.stopped) == (kept, 2 - kept, None)
    assert all(key.problem for key in report.keys if key.outcome == "kept")
    again = await swept(world, action="delete")
    assert (again.ok, world.emulator.account.keys) == (True, {})
    assert keys


OPERATIONS: Final = ("get", "update", "delete")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "error"), [(401, UnauthorizedResponseError), (429, QuotaExhaustedError)]
)
async def test_what_would_fail_for_all_stops_it(
    world: World,
    operation: Literal["get", "update", "delete"],
    status: int,
    error: type[OpenRouterError],
) -> None:
    for number in range(5):
        stray(world, f"s{number}")
    metadata = {"limit_name": "keys-modify-api-rpd-v2"} if status == 429 else {}
    body = str({"error": {"code": status, "message": "no", "metadata": metadata}}).replace("'", '"')
    world.emulator.faults.append(
        Fault(operation, "body", status=status, body=body.encode(), times=None, skip=1)
    )
    report = await swept(world, action="delete", concurrency=1)
    assert isinstance(report.stopped, error)
    assert (report.count("deleted"), report.count("kept"), report.count("found")) == (1, 1, 3)
    assert not report.ok


# --- what it refuses ---


async def test_a_journal_of_another_account_would_know_no_key(world: World) -> None:
    await world.ensure(spec("a"))
    account = world.emulator.account
    account.keys.clear()
    account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE)
    account.default_workspace = ELSEWHERE
    stray(world)
    stray(world, "another")
    with pytest.raises(AccountChangedError):
        await swept(world, action="delete")
    assert len(world.emulator.account.keys) == 2


async def test_a_journal_of_another_service(world: World, tmp_path: Path) -> None:
    async with Journal.open(tmp_path / "j", server_url="https://other.example/api/v1"):
        pass
    with pytest.raises(JournalMismatchError, match=r"other\.example"):
        await swept(world, journals=[tmp_path / "j"])
    with pytest.raises(JournalError, match="is not there"):
        await swept(world, journals=[tmp_path / "none"])
    assert not (tmp_path / "none").exists()


MISTAKES: dict[str, dict[str, Any]] = {
    "one journal": {"journals": "keys.journal"},
    "none": {"journals": None},
    "no place": {"journals": [""]},
    "no journal": {"journals": [3]},
    "one that is not open": {"journals": [Journal.open(":memory:")]},
    "no journal, and an action": {"journals": [], "action": "delete"},
    "an unknown action": {"action": "remove"},
    "an unknown age": {"older_than": "30d"},
    "a past age": {"older_than": -1},
    "an empty name": {"name": ""},
    "no flag": {"unused": "yes"},
}


@pytest.mark.parametrize("case", MISTAKES)
async def test_a_mistake_is_refused_before_anything_is_sent(world: World, case: str) -> None:
    with pytest.raises(InvalidArgumentError):
        await swept(world, **MISTAKES[case])
    assert not sent(world.emulator)


async def test_no_journal_is_enough_for_keys_that_are_unused(world: World) -> None:
    stray(world)
    stray(world, "used", usage=1)
    assert len((await swept(world, journals=[])).keys) == 2
    assert names((await swept(world, journals=(), action="delete", unused=True)).keys) == ["stray"]


def test_the_blocking_client_sweeps_too(openrouter_emulator: Emulator, tmp_path: Path) -> None:
    emulator, path = openrouter_emulator, tmp_path / "j"
    with OpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        client.ensure(spec("a"), journal=path)
        emulator.account.add("stray")
        report = client.sweep(journals=[path], action="delete", approve=lambda keys: len(keys) == 1)
    assert (report.count("deleted"), len(emulator.account.keys)) == (1, 1)
