"""`ensure`: each state that a journal can have of a ref, and what it asks the service for."""

from datetime import UTC, datetime
from typing import Any

import pytest

from openrouter_keys import KeySpec
from openrouter_keys.emulator import Fault
from openrouter_keys.errors import (
    OpenRouterError,
    PlanChangedError,
    ResponseValidationError,
    TooManyRequestsResponseError,
)
from openrouter_keys.journal.schema import State
from tests.ensuring.conftest import LIMITED
from tests.ensuring.rows import Rows, World, row, secrets, sent
from tests.journals import spec
from tests.provisions import JumpingTime

# --- a key for each state of a row whose run has ended ---


@pytest.mark.parametrize(
    ("state", "outcome", "operations"),
    [
        ("intent", "created", None),
        ("doubt", "created", None),
        ("doubt-made", "created", None),
        ("failed", "created", ["list", "create"]),
        ("made", "existing", []),
        ("made-unread", "existing", None),
        ("settled", "existing", []),
        ("settled-unread", "existing", ["get", "list"]),
        ("wanted", "updated", ["list", "update"]),
        ("releasing", "created", None),
        ("released", "created", ["list", "create"]),
    ],
)
async def test_same_spec(
    world: World, state: str, outcome: str, operations: list[str] | None
) -> None:
    """One key comes of each state that a run left behind, and each call gets that one."""
    await world.bring(state)
    ensured = await world.ensure(LIMITED, wait=300)
    if operations is not None:
        assert sent(world.emulator) == operations
    assert (ensured.outcome, ensured.data.limit) == (outcome, 5)
    assert [ensured.key] == secrets(world.emulator)
    for _ in range(2):
        world.emulator.requests.clear()
        again = await world.ensure(LIMITED)
        assert (again.key, again.data.limit, again.outcome) == (ensured.key, 5, "existing")
    assert (await row(world.journal)).wanted is None
    assert sent(world.emulator) == []


@pytest.mark.parametrize(
    "state",
    ["made-unlimited", "made-unread-unlimited", "rejected"],
)
async def test_not_as_asked_for(world: World, state: str) -> None:
    """A key that is not as asked for is handed to nobody, however its create ended."""
    await world.bring(state)
    for _ in range(2):
        with pytest.raises(ResponseValidationError, match=r"limit.*release the ref"):
            await world.ensure(LIMITED)
    (key,) = world.emulator.account.keys.values()
    assert key.disabled
    assert (await row(world.journal)).state is State.FAILED
    assert await world.release()
    assert (await world.ensure(LIMITED)).outcome == "created"
    assert len(world.emulator.account.keys) == 1


async def test_a_record_that_could_not_be_read_is_asked_for_once(world: World) -> None:
    await world.bring("settled-unread")
    for operations in (["get", "list"], []):
        world.emulator.requests.clear()
        assert (await world.ensure(LIMITED)).data.limit == 5
        assert sent(world.emulator) == operations


# --- another spec ---


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("intent", "created"),
        ("doubt", "created"),
        ("doubt-made", "created"),
        ("failed", "created"),
        ("made", "updated"),
        ("made-unread", "created"),
        ("settled", "updated"),
        ("wanted", "updated"),
        ("releasing", "created"),
        ("released", "created"),
    ],
)
async def test_other_spec(world: World, state: str, outcome: str) -> None:
    """Each state leads to one key of the other spec."""
    other = spec(limit=6, name="another name")
    await world.bring(state)
    ensured = await world.ensure(other, wait=300)
    (key,) = world.emulator.account.keys.values()
    assert (ensured.outcome, ensured.key) == (outcome, key.secret)
    assert (key.limit, key.name, ensured.data.limit) == (6, "another name", 6)
    assert (await world.ensure(other)).outcome == "existing"


@pytest.mark.parametrize(
    ("state", "refused"),
    [("intent", True), ("doubt", True), ("made", True), ("settled", True), ("wanted", True),
     ("failed", False), ("releasing", False), ("released", False)],
)  # fmt: skip
async def test_other_spec_that_is_refused(world: World, state: str, *, refused: bool) -> None:
    await world.bring(state)
    if not refused:
        ensured = await world.ensure(spec(limit=6), on_change="refuse")
        assert (ensured.outcome, ensured.data.limit) == ("created", 6)
        return
    with pytest.raises(PlanChangedError, match="limit") as caught:
        await world.ensure(spec(limit=6), on_change="refuse")
    assert (caught.value.ref, caught.value.changed) == ("r", ("limit",))
    assert sent(world.emulator) == []


NEVER = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "after", "fields", "way"),
    [
        ({}, {"expires_at": NEVER}, ("expires_at",), "rotate"),
        ({}, {"expires_at": NEVER, "limit": 1}, ("expires_at",), "rotate"),
        ({}, {"creator_user_id": "user_1"}, ("creator_user_id",), "rotate"),
        ({}, {"external": {"user": "u"}}, ("external",), "rotate"),
        ({"external": {"user": "u"}}, {}, ("external",), "rotate"),
        ({"limit": 5}, {}, ("limit",), "limit=None is no limit"),
        ({"limit": 5, "limit_reset": "daily"}, {"limit": 5}, ("limit_reset",), "leaves them out"),
        ({"limit": 5}, {"name": "other"}, ("limit",), "leaves them out"),
        ({"include_byok_in_limit": True}, {}, ("include_byok_in_limit",), "leaves them out"),
    ],
)  # fmt: skip
async def test_fields_that_no_update_can_change(
    world: World, before: dict[str, Any], after: dict[str, Any], fields: tuple[str, ...], way: str
) -> None:
    await world.ensure(spec(**before))
    world.emulator.requests.clear()
    with pytest.raises(PlanChangedError, match=way) as caught:
        await world.ensure(spec(**after))
    assert caught.value.changed == fields
    assert sent(world.emulator) == []
    assert (await world.ensure(spec(**before))).outcome == "existing"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"limit": 5}),
        ({"limit": 5}, {"limit": None}),
        ({"limit": None}, {"limit": 0}),
        ({"limit": 5}, {"limit": 5, "limit_reset": "monthly"}),
        ({"limit": 5, "limit_reset": "daily"}, {"limit": 6, "limit_reset": None}),
        ({}, {"include_byok_in_limit": True}),
        ({"include_byok_in_limit": True}, {"include_byok_in_limit": False}),
        ({}, {"name": "another"}),
    ],
)
async def test_fields_that_an_update_changes(
    world: World, before: dict[str, Any], after: dict[str, Any]
) -> None:
    first = await world.ensure(spec(**before))
    world.emulator.requests.clear()
    ensured = await world.ensure(spec(**after))
    assert (ensured.outcome, ensured.key) == ("updated", first.key)
    assert sent(world.emulator) == ["update"]
    shown = {name: getattr(ensured.data, name) for name in after}
    assert shown == after
    again = await world.ensure(spec(**after))
    assert (again.outcome, again.data) == ("existing", ensured.data)


async def test_an_update_that_was_left_is_finished(world: World) -> None:
    """What an update without an answer changed is changed back, or cannot be, and is told."""
    plain = spec()
    await world.ensure(plain)
    world.emulator.faults.append(Fault("update", "closed", phase="after", times=None))
    with pytest.raises(OpenRouterError):
        await world.ensure(spec(limit=5))
    world.emulator.faults.clear()
    for on_change in ("refuse", "update"):
        with pytest.raises(PlanChangedError) as caught:
            await world.ensure(plain, on_change=on_change)
        assert caught.value.changed == ("limit",)
    ensured = await world.ensure(spec(limit=5))
    assert (ensured.outcome, ensured.data.limit) == ("updated", 5)


@pytest.mark.parametrize("state", ["settled", "releasing", "failed"])
async def test_an_earlier_create_is_settled_before_what_it_asked_for_is_forgotten(
    world: World, state: str
) -> None:
    """The key of a create without an answer that lands late is deleted, whatever follows it."""
    async with world.journal.begin(120) as run:
        rows = Rows(run, world.client, world.emulator)
        await rows.write_off(state, LIMITED)
    world.emulator.account.create({"name": LIMITED.name, "limit": 5})  # lands late
    ensured = await world.ensure(spec(name="another name", limit=6), wait=300)
    assert secrets(world.emulator) == [ensured.key]
    assert not (await row(world.journal)).written_off


@pytest.mark.parametrize("retry_after", [None, "1", "30"])
async def test_a_rate_limit_is_waited_for_as_long_as_the_caller_waits(
    world: World, time: JumpingTime, retry_after: str | None
) -> None:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    world.emulator.faults.append(Fault("create", status=429, headers=headers, times=None))
    began = time.monotonic()
    with pytest.raises(TooManyRequestsResponseError):
        await world.ensure(LIMITED, wait=10)
    assert time.monotonic() - began < 45
    world.emulator.faults.clear()
    assert (await world.ensure(LIMITED)).outcome == "created"


@pytest.mark.parametrize("on_change", ["refuse", "update"])
@pytest.mark.parametrize(
    "asked", [spec(limit=6), spec(limit=5, name="another"), spec(limit=None), spec()]
)
async def test_a_key_that_was_rejected_is_kept_whatever_is_asked_for_then(
    asked: KeySpec, on_change: str, world: World
) -> None:
    """Another spec makes no way for a second key, either: only a release does."""
    await world.bring("rejected")
    before = [*world.emulator.account.keys]
    with pytest.raises(ResponseValidationError, match="release the ref, then ensure it again"):
        await world.ensure(asked, on_change=on_change)
    assert [*world.emulator.account.keys] == before
    assert not {"create", "delete"} & {*sent(world.emulator)}
