"""`adopt`: a key that exists becomes a ref's, and is from then on like any other of the journal."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from openrouter_keys import AsyncOpenRouter, External, KeySpec, NotAdoptedError, OpenRouter
from openrouter_keys.emulator import Emulator, Fault, StoredKey
from openrouter_keys.emulator.stored import Workspace
from openrouter_keys.errors import (
    InvalidArgumentError,
    JournalError,
    NotFoundResponseError,
    OpenRouterError,
    PlanChangedError,
    ResponseValidationError,
)
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from tests.engines import New
from tests.ensuring.conftest import world
from tests.ensuring.rows import Rows, World, row, sent
from tests.journals import spec

__all__ = ["world"]

ELSEWHERE = "e2e2e2e2-0000-4000-8000-000000000002"
SOON = datetime(2100, 1, 1, tzinfo=UTC)


def key_of(world: World, name: str = "customer-r", **given: Any) -> StoredKey:
    world.emulator.account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE)
    return world.emulator.account.add(name, **given)


async def adopt(world: World, key: StoredKey, ref: str | KeySpec = "r") -> str:
    return (await world.client.adopt(key.hash, ref, journal=world.journal)).outcome


# --- what it counts as asked for ---

KEYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "limited": {"limit": 5},
    "of nothing": {"limit": 0},
    "monthly": {"limit": 5.25, "limit_reset": "monthly"},
    "byok": {"include_byok_in_limit": True},
    "expiring": {"expires_at": SOON},
    "elsewhere": {"workspace_id": ELSEWHERE},
    "a partner's": {"external_user": "u"},
    "a member's": {"creator_user_id": "m"},
    "disabled": {"disabled": True},
}


@pytest.mark.parametrize("kind", KEYS)
async def test_ensure_takes_the_key_as_it_is(world: World, kind: str) -> None:
    """The same fields: no request. All else stays an update, or a refusal."""
    key = key_of(world, **KEYS[kind])
    assert await adopt(world, key) == "adopted"
    asked = {**KEYS[kind]}
    asked.pop("disabled", None)
    asked.pop("creator_user_id", None)
    if user := asked.pop("external_user", None):
        asked["external"] = External(user)
    world.emulator.requests.clear()
    ensured = await world.ensure(spec(**asked))
    assert (ensured.outcome, ensured.key, ensured.data.hash) == ("existing", None, key.hash)
    assert not sent(world.emulator)
    asked["limit"] = 70
    asked.setdefault("limit_reset", None)
    changed = await world.ensure(spec(**asked))
    assert (changed.outcome, changed.data.hash, key.limit) == ("updated", key.hash, 70)


SPECS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "as asked for": ({"limit": 5}, {"limit": 5}, "existing"),
    "without a limit": ({}, {"limit": None}, "existing"),
    "the default workspace by its name": ({}, {"workspace_id": "default"}, "existing"),
    "the member by name": ({"creator_user_id": "m"}, {"creator_user_id": "m"}, "existing"),
    "no byok, in words": ({}, {"include_byok_in_limit": False}, "existing"),
    "an expiry some seconds off": (
        {"expires_at": SOON.replace(second=2)}, {"expires_at": SOON}, "existing",
    ),
    "another limit": ({"limit": 5}, {"limit": 6}, "updated"),
    "no limit any more": ({"limit": 5}, {"limit": None}, "updated"),
    "a reset": ({"limit": 5}, {"limit": 5, "limit_reset": "daily"}, "updated"),
    "byok": ({}, {"include_byok_in_limit": True}, "updated"),
    "a limit, and the spec says none": ({"limit": 5}, {}, "limit"),
    "an expiry, and the spec says none": ({"expires_at": SOON}, {}, "expires_at"),
    "elsewhere, and the spec says no place": ({"workspace_id": ELSEWHERE}, {}, "workspace_id"),
    "another member": ({"creator_user_id": "m"}, {"creator_user_id": "n"}, "creator_user_id"),
    "another user": ({"external_user": "u"}, {"external": External("v")}, "external"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPECS)
async def test_a_spec_is_compared_with_the_key(world: World, case: str) -> None:
    shown, asked, comes = SPECS[case]
    key = key_of(world, **shown)
    if asked.get("workspace_id") == "default":
        asked = {**asked, "workspace_id": world.emulator.account.default_workspace}
    wanted = spec(**asked)
    assert await adopt(world, key, wanted) == "adopted"
    if comes not in ("existing", "updated"):
        with pytest.raises(PlanChangedError) as caught:
            await world.ensure(wanted)
        assert caught.value.changed == (comes,)
        return
    ensured = await world.ensure(wanted)
    assert (ensured.outcome, ensured.data.hash) == (comes, key.hash)
    assert (await world.ensure(wanted)).outcome == "existing"


@pytest.mark.parametrize("field", ["limit_reset", "name"])
async def test_what_no_create_can_ask_for_is_refused(world: World, field: str) -> None:
    key = key_of(world, **{field: {"limit_reset": "hourly", "name": ""}[field]})
    with pytest.raises(NotAdoptedError, match="no create can ask for"):
        await adopt(world, key)
    assert await world.journal.find("r") is None


async def test_the_default_workspace_is_known_by_its_keys(world: World) -> None:
    """A key elsewhere keeps its workspace, though the default one has no key."""
    key = key_of(world, workspace_id=ELSEWHERE)
    await adopt(world, key)
    assert (await row(world.journal)).workspace_id == ELSEWHERE


# --- what follows ---


async def test_it_is_released_as_any_other(world: World) -> None:
    key, other = key_of(world), key_of(world, "other")
    await adopt(world, key)
    assert await world.release()
    assert [*world.emulator.account.keys] == [other.hash]
    assert (await world.ensure(spec())).outcome == "created"


@pytest.mark.parametrize("retire_after", [None, 0])
async def test_a_rotation_gives_it_a_secret(world: World, retire_after: float | None) -> None:
    key = key_of(world, limit=5)
    await adopt(world, key)
    report = await world.client.rotate(
        [key.hash], journal=world.journal, on_result=lambda _: None, retire_after=retire_after
    )
    assert (report.rotated, report.failed) == (1, 0)
    ensured = await world.ensure(spec(limit=5))
    assert ensured.outcome == "existing"
    assert ensured.key == world.emulator.account.keys[ensured.data.hash].secret != key.secret
    assert await adopt(world, world.emulator.account.keys[ensured.data.hash]) == "existing"
    assert (key.hash in world.emulator.account.keys) == (retire_after is None)
    assert await world.release()
    assert not world.emulator.account.keys


async def test_a_key_that_was_rotated_leads_to_its_replacement(world: World) -> None:
    key = key_of(world)
    await world.client.rotate([key.hash], journal=world.journal, on_result=lambda _: None)
    await adopt(world, key)
    ensured = await world.ensure(spec())
    assert (ensured.key is None, ensured.data.hash == key.hash) == (False, False)


async def test_provision_needs_nothing_for_it(world: World) -> None:
    key = key_of(world, limit=5)
    await adopt(world, key)
    report = await world.client.provision([spec(limit=5)], journal=world.journal)
    assert (report.created, report.settled_before, report.ok) == (0, 1, True)
    assert [*world.emulator.account.keys] == [key.hash]


async def test_no_reconcile_takes_it_for_a_lost_creates(world: World) -> None:
    """A new, unused key of the same name, made while another ref's create was lost."""
    key = key_of(world)
    await adopt(world, key)
    await world.bring("doubt", spec("other", name="customer-r"))
    await world.ensure(spec("other", name="customer-r"), wait=300)
    assert key.hash in world.emulator.account.keys


async def test_a_key_that_is_gone_is_created_anew_if_wanted(world: World) -> None:
    key, _ = key_of(world), key_of(world, "another's")
    await adopt(world, key)
    del world.emulator.account.keys[key.hash]
    with pytest.raises(JournalError, match="is gone"):
        await world.ensure(spec(), verify=True)
    made = await world.ensure(spec(), verify=True, recreate=True)
    assert (made.outcome, made.key is None) == ("created", False)


# --- what it refuses ---


def _brought(state: str, ref: str = "r", **given: Any) -> Callable[[World], Awaitable[None]]:
    async def prepare(world: World) -> None:
        await world.bring(state, spec(ref, **{"limit": 5, **given}))

    return prepare


REFUSED: dict[str, tuple[Callable[[World], Awaitable[None]], str]] = {
    "the ref has a key": (_brought("settled"), "the ref has the key"),
    "the ref has one that is not handed over": (_brought("made"), "the ref has the key"),
    "the ref is being created": (_brought("intent"), "'intent'"),
    "the ref is in doubt": (_brought("doubt"), "'doubt'"),
    "the ref was refused": (_brought("failed"), "'failed'"),
    "the ref is being released": (_brought("releasing"), "'releasing'"),
    "another ref is being created": (_brought("intent", "o", name="customer-r"), "without an answ"),
    "another ref is in doubt": (_brought("doubt", "o", name="customer-r"), "of the ref 'o'"),
    "another spelling": (_brought("doubt", "o", name="Customer-R"), "of the ref 'o'"),
    "another ref is being released": (_brought("releasing", "o", name="customer-r"), "ref 'o'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_each_refusal(world: World, case: str) -> None:
    prepare, why = REFUSED[case]
    await prepare(world)
    key = key_of(world)
    with pytest.raises(NotAdoptedError, match=why) as caught:
        await adopt(world, key)
    assert (caught.value.ref, caught.value.hash) == ("r", key.hash)
    assert why in caught.value.problem
    assert not await world.journal.holds(key.hash)
    assert key.hash in world.emulator.account.keys


async def test_a_key_has_one_ref(world: World) -> None:
    key = key_of(world)
    assert [await adopt(world, key), await adopt(world, key)] == ["adopted", "existing"]
    with pytest.raises(NotAdoptedError, match="is the key of the ref 'r'"):
        await adopt(world, key, "s")
    made = (await world.ensure(spec("t"))).data.hash
    with pytest.raises(NotAdoptedError, match="is the key of the ref 't'"):
        await adopt(world, world.emulator.account.keys[made], "s")


async def test_a_ref_may_not_be_the_hash_of_a_rotated_key(world: World) -> None:
    """The journal has the replacement of a key under the hash of that key."""
    old, key = key_of(world, "old"), key_of(world)
    async with world.journal.begin() as run:
        await run.plan_rotations([(old.hash, spec(old.hash).plan, "full", None, 0.0)])
    with pytest.raises(NotAdoptedError, match="the hash of a key that is rotated"):
        await adopt(world, key, old.hash)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("get", "status", status=404), NotFoundResponseError),
        (Fault("get", "not_json", times=None), ResponseValidationError),
        (Fault("get", "status", status=403), OpenRouterError),
        (Fault("get", "closed", times=None), OpenRouterError),
        (Fault("list", "status", status=401), OpenRouterError),
    ],
)
async def test_without_a_record_nothing_is_adopted(
    world: World, fault: Fault, error: type[OpenRouterError]
) -> None:
    key = key_of(world)
    world.emulator.faults.append(fault)
    with pytest.raises(error):
        await adopt(world, key)
    assert await world.journal.find("r") is None
    world.emulator.faults.clear()
    assert await adopt(world, key) == "adopted"


@pytest.mark.parametrize("given", [("", "r"), ("x/y", "r"), ("ab" * 32, ""), ("ab" * 32, None)])
async def test_an_argument_that_is_none(world: World, given: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await world.client.adopt(*given, journal=world.journal)
    assert not sent(world.emulator)


# --- many ---


async def test_the_one_key_of_each_name_is_adopted(world: World) -> None:
    one, twin, other = key_of(world, "one"), key_of(world, "two"), key_of(world, "two")
    twin.disabled = True
    known, away = key_of(world, "known"), key_of(world, "away", workspace_id=ELSEWHERE)
    both, taken = key_of(world, "both"), key_of(world, "taken")
    await adopt(world, known, "known")
    await adopt(world, taken, "elsewhere")
    wanted = [
        spec("one", name="one"),
        spec("two", name="two"),
        spec("known", name="known"),
        spec("away", name="away", workspace_id=ELSEWHERE),
        spec("stray", name="away"),
        spec("none", name="none"),
        spec("both", name="both"),
        spec("as well", name="both"),
        spec("taken", name="taken"),
    ]
    planned = await world.client.adopt_all(wanted, journal=world.journal, dry_run=True)
    assert await world.journal.find("one") is None
    report = await world.client.adopt_all(iter(wanted), journal=world.journal)
    assert report == planned
    assert report.adopted == {"one": one.hash, "away": away.hash}
    assert (report.existing, report.missing, report.ok) == (1, ("stray", "none"), False)
    assert {problem.ref: {*problem.hashes} for problem in report.refused} == {
        "two": {twin.hash, other.hash},
        "both": {both.hash},
        "as well": {both.hash},
        "taken": {taken.hash},
    }
    assert (await row(world.journal, "away")).workspace_id == ELSEWHERE
    again = await world.client.adopt_all(wanted, journal=world.journal)
    assert (again.adopted, again.existing) == ({}, 3)


async def test_a_look_at_one_key(world: World) -> None:
    """It is returned, or raised, as the adoption itself, and the journal stays as it is."""
    key, taken = key_of(world, "one", limit=5), key_of(world, "taken")
    await adopt(world, taken, "elsewhere")
    given: Any = {"journal": world.journal, "dry_run": True}
    for asked in ("one", spec("one", name="one", limit=6)):
        looked = await world.client.adopt(key.hash, asked, **given)
        assert (looked.ref, looked.data.limit, looked.outcome) == ("one", 5, "adopted")
        assert await world.journal.find("one") is None
    assert (await world.client.adopt(taken.hash, "elsewhere", **given)).outcome == "existing"
    with pytest.raises(NotAdoptedError):
        await world.client.adopt(taken.hash, "one", **given)
    assert await adopt(world, key, "one") == "adopted"


async def test_one_pass_over_the_list_is_enough(world: World) -> None:
    for number in range(250):
        key_of(world, f"customer-{number}")
    wanted = [spec(str(number)) for number in range(250)]
    world.emulator.requests.clear()
    report = await world.client.adopt_all(wanted, journal=world.journal)
    assert (len(report.adopted), report.ok) == (250, True)
    assert {*sent(world.emulator)} == {"list"}
    assert len(sent(world.emulator)) <= 6


async def test_a_ref_in_doubt_is_left(world: World) -> None:
    await world.bring("doubt-made")
    report = await world.client.adopt_all([spec(limit=5)], journal=world.journal)
    assert (report.adopted, [problem.ref for problem in report.refused]) == ({}, ["r"])
    assert (await row(world.journal)).state is State.DOUBT


# --- several at once ---


async def test_of_two_refs_at_once_one_gets_the_key(
    client: AsyncOpenRouter, emulator: Emulator, new: New
) -> None:
    place = new()
    keys = [emulator.account.add(f"k{number}") for number in range(6)]

    async def adopted(ref: str, hash: str) -> str:
        try:
            return (await client.adopt(hash, ref, journal=place)).outcome
        except NotAdoptedError:
            return "refused"

    for key in keys:
        came = await asyncio.gather(*(adopted(f"{n} of {key.name}", key.hash) for n in range(3)))
        assert sorted(came) == ["adopted", "refused", "refused"]
        same = await asyncio.gather(*(adopted(f"0 of {key.name}", key.hash) for _ in range(2)))
        assert {*same} <= {"existing", "refused"}
    async with Journal.read(place) as journal:
        assert sorted([entry.hash or "" async for entry in journal.every()]) == sorted(
            key.hash for key in keys
        )


def test_the_blocking_client_adopts_too(openrouter_emulator: Emulator, tmp_path: Any) -> None:
    one, two = (openrouter_emulator.account.add(name) for name in ("one", "two"))
    emulator, path = openrouter_emulator, tmp_path / "j"
    with OpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        assert client.adopt(one.hash, "1", journal=path).data.hash == one.hash
        report = client.adopt_all((spec("2", name="two"),), journal=path)
    assert report.adopted == {"2": two.hash}


NAMED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the default workspace": ({}, {"workspace_id": "default"}, "existing"),
    "the member": ({"creator_user_id": "m"}, {"creator_user_id": "m"}, "existing"),
    "both": (
        {"creator_user_id": "m"},
        {"workspace_id": "default", "creator_user_id": "m"},
        "existing",
    ),
    "and another limit": ({}, {"workspace_id": "default", "limit": 5}, "updated"),
    "another workspace": ({}, {"workspace_id": ELSEWHERE}, "workspace_id"),
    "another member": ({"creator_user_id": "m"}, {"creator_user_id": "n"}, "creator_user_id"),
    "a member that is not shown": ({}, {"creator_user_id": "m"}, "creator_user_id"),
    "a user that it has not": ({}, {"external": External("u")}, "external"),
    "a partner's key": (
        {"external_user": "u"}, {"external": External("u", api_key="k" * 32)}, "external",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
@pytest.mark.parametrize("how", ["adopted", "created"])
async def test_what_the_record_shows_need_not_have_been_asked_for(
    world: World, case: str, how: str
) -> None:
    """A key's workspace and member may be named later, if they are those that it has."""
    shown, asked, comes = NAMED[case]
    if asked.get("workspace_id") == "default":
        asked = {**asked, "workspace_id": world.emulator.account.default_workspace}
    if how == "adopted":
        await adopt(world, key_of(world, **shown))
    else:
        async with world.journal.begin() as run:
            rows = Rows(run, world.client, world.emulator)
            await rows._made(spec(), settled=True, shown=shown)
    if comes in ("existing", "updated"):
        assert (await world.ensure(spec(**asked))).outcome == comes
        assert (await world.ensure(spec(**asked))).outcome == "existing"
        return
    with pytest.raises(PlanChangedError) as caught:
        await world.ensure(spec(**asked))
    assert caught.value.changed == (comes,)


@pytest.mark.parametrize("disabled", [True, False])
async def test_apply_disables_a_key_that_was_adopted(world: World, *, disabled: bool) -> None:
    key = key_of(world, disabled=disabled)
    wanted = spec(disabled=True)
    await adopt(world, key, wanted)
    plan = await world.client.plan_apply([wanted], journal=world.journal)
    assert len(plan.changes) == (0 if disabled else 1)
    assert (await world.client.apply([wanted], journal=world.journal)).ok
    assert key.disabled


async def test_apply_takes_it_as_any_other(world: World) -> None:
    """Unchanged, changed by hand, changed in the file, and no more in it."""
    kept, edited, changed, dropped = (
        key_of(world, f"customer-{ref}", limit=5) for ref in ("k", "e", "c", "d")
    )
    key_of(world, "a stranger")
    for ref, key in {"k": kept, "e": edited, "c": changed, "d": dropped}.items():
        await adopt(world, key, ref)
    edited.limit = 100
    wanted = [spec("k", limit=5), spec("e", limit=5), spec("c", limit=6)]
    report = await world.client.apply(wanted, journal=world.journal, prune="delete")
    assert report.ok
    left = {key.name: key.limit for key in world.emulator.account.keys.values()}
    assert left == {"customer-k": 5, "customer-e": 5, "customer-c": 6, "a stranger": None}
    assert kept.updated_at is None


async def test_a_key_that_is_adopted_by_its_hash_as_its_ref_is_not_replaced(world: World) -> None:
    """A replacement is made under its old key's hash, which is taken then."""
    key, other = key_of(world), key_of(world, "other", limit=5)
    await adopt(world, key, key.hash)
    wanted = spec(key.hash, name=key.name, expires_at=datetime(2030, 1, 1, tzinfo=UTC))
    report = await world.client.apply([wanted], journal=world.journal, replace=True)
    assert [problem.ref for problem in report.failures] == [key.hash]
    assert "ref of another key" in report.failures[0].reason
    rotated = await world.client.rotate(
        [other.hash], journal=world.journal, on_result=lambda _: None
    )
    assert rotated.rotated == 1
