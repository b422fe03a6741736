"""Single creates without an answer, on both faces: waited for, looked for, deleted, made anew."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from attrs import define, evolve, field

from openrouter_keys import AsyncAPIKeys, AsyncOpenRouter, CreateKeysResponse, OpenRouter
from openrouter_keys._base.clock_skew import MARGIN
from openrouter_keys._inputs.options import QUIET_PERIOD
from openrouter_keys._reconcile.reconcile import Reconciliation
from openrouter_keys.emulator import Emulator, Fault, StoredKey, Workspace
from openrouter_keys.errors import (
    BadRequestResponseError,
    CreatedKeyUnreadableError,
    CreateOutcomeUnknownError,
    InternalServerResponseError,
    InvalidArgumentError,
    OpenRouterError,
    SecretLostError,
)
from tests.provisions import JumpingTime

R = TypeVar("R")

ELSEWHERE = "0df9e665-d932-5740-b2c7-b52af166bc11"
LOST = Fault("create", phase="after", status=502)


@define
class Face:
    """What of a client is tested here, and its service."""

    emulator: Emulator
    create: Callable[..., Awaitable[CreateKeysResponse]]
    reconcile: Callable[..., Awaitable[Reconciliation]]


@define
class Time(JumpingTime):
    """A clock that both live by, the service with another time of day; what it is asked meanwhile.

    Args:
        ahead: by how much the service's clock is ahead of this machine's.
        quiets: called, one at each sleep of more than a second, at its end.
    """

    ahead: timedelta = timedelta()
    quiets: list[Callable[[], object]] = field(factory=list[Callable[[], object]])

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if seconds > 1 and self.quiets:
            self.quiets.pop(0)()
            await asyncio.sleep(0)  # a cancel is heard here

    @property
    def quiet(self) -> list[float]:
        """The waits that are no back-off."""
        return [seconds for seconds in self.slept if seconds > 1]


@pytest.fixture
def time(emulator: Emulator) -> Time:
    time = Time()
    emulator.account.clock = lambda: time.now() + time.ahead
    return time


@pytest.fixture
async def keys(emulator: Emulator, time: Time) -> AsyncIterator[AsyncAPIKeys]:
    async with AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url) as client:
        client._transport.clockwork = time.clockwork()
        yield client.api_keys


@pytest.fixture(params=["async", "blocking"])
async def face(
    request: pytest.FixtureRequest, keys: AsyncAPIKeys, emulator: Emulator, time: Time
) -> AsyncIterator[Face]:
    if request.param == "async":
        yield Face(emulator, keys.create, keys.reconcile)
        return
    client = OpenRouter(emulator.api_key, server_url=emulator.base_url)
    client._twin._transport.clockwork = time.clockwork()
    yield Face(emulator, threaded(client.api_keys.create), threaded(client.api_keys.reconcile))
    await asyncio.to_thread(client.close)


def threaded(method: Callable[..., R]) -> Callable[..., Awaitable[R]]:
    async def call(*args: Any, **given: Any) -> R:
        return await asyncio.to_thread(method, *args, **given)

    return call


def live(emulator: Emulator) -> list[StoredKey]:
    return [*emulator.account.keys.values()]


async def lost(face: Face, **given: Any) -> CreateOutcomeUnknownError:
    """What a create raised whose key was made."""
    face.emulator.faults.insert(0, evolve(LOST))
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await face.create(**{"name": "n"} | given)
    return caught.value


def operations(emulator: Emulator) -> list[str]:
    return [request.operation for request in emulator.requests]


# --- create(on_unknown="reconcile") ---

LOSSES = {
    "the service failed after it": Fault("create", phase="after", status=502),
    "the service failed before it": Fault("create", status=500),
    "the connection was reset after it": Fault("create", "reset", phase="after"),
    "the connection was closed before it": Fault("create", "closed"),
    "the answer is no HTTP": Fault("create", "garbage", phase="after"),
    "the answer has no body": Fault("create", "empty", phase="after"),
    "the answer was cut before the secret": Fault("create", "cut", phase="after", portion=0.3),
    "somebody else answered": Fault("create", "not_json", phase="after"),
}


@pytest.mark.parametrize("fault", LOSSES.values(), ids=LOSSES)
async def test_a_lost_create_is_settled_and_made_anew(
    fault: Fault, face: Face, emulator: Emulator, time: Time
) -> None:
    emulator.faults.append(evolve(fault))
    created = await face.create(name="n", limit=5, on_unknown="reconcile")

    (key,) = live(emulator)
    assert (key.secret, key.hash, key.limit) == (created.key, created.data.hash, 5)
    assert emulator.count("create") == 2
    assert len(time.quiet) == 1


async def test_a_create_that_is_answered_waits_and_asks_for_nothing(
    face: Face, emulator: Emulator, time: Time
) -> None:
    await face.create(name="n", on_unknown="reconcile")
    assert operations(emulator) == ["create"]
    assert time.slept == []


async def test_a_lost_create_is_raised_unless_it_is_to_be_reconciled(
    face: Face, emulator: Emulator, time: Time
) -> None:
    await lost(face)
    assert operations(emulator) == ["create"]
    assert time.slept == []


@pytest.mark.parametrize(("given", "waited"), [({}, QUIET_PERIOD), ({"quiet_period": 7}, 7)])
async def test_nothing_is_looked_for_before_the_quiet_period_is_over(
    given: dict[str, float], waited: float, face: Face, emulator: Emulator, time: Time
) -> None:
    # It takes a minute until it is lost: the quiet period begins then.
    emulator.faults += [Fault("create", status=429, headers={"Retry-After": "60"}), evolve(LOST)]
    before: list[list[str]] = []
    time.on_sleep = lambda _: before.append(operations(emulator))

    await face.create(name="n", on_unknown="reconcile", **given)

    assert time.quiet == [60, pytest.approx(waited, abs=1)]
    assert before[1] == ["create", "create"]


async def test_a_commit_within_the_quiet_period_is_deleted(
    face: Face, emulator: Emulator, time: Time
) -> None:
    emulator.faults.append(Fault("create", "closed"))
    time.quiets.append(lambda: emulator.account.create({"name": "n"}))

    created = await face.create(name="n", on_unknown="reconcile")

    assert [key.secret for key in live(emulator)] == [created.key]
    assert operations(emulator).count("delete") == 1


@pytest.mark.parametrize("hours", [-5, 5])
async def test_the_window_is_told_by_the_services_clock(
    hours: float,
    face: Face,
    emulator: Emulator,
    time: Time,
) -> None:
    time.ahead = timedelta(hours=hours)
    # By this machine's clock it was made while the create was under way.
    stranger = emulator.account.add("n", created_at=time.now() - timedelta(seconds=MARGIN + 60))
    emulator.faults.append(evolve(LOST))

    if hours > 0:
        created = await face.create(name="n", on_unknown="reconcile")
        assert [key.secret for key in live(emulator)] == [stranger.secret, created.key]
        return
    with pytest.raises(CreateOutcomeUnknownError):  # by the service's it was made hours later
        await face.create(name="n", on_unknown="reconcile")
    assert [key.secret for key in live(emulator)] == [stranger.secret]


async def test_after_three_lost_creates_it_is_raised_with_nothing_left(
    face: Face, emulator: Emulator
) -> None:
    emulator.faults.append(evolve(LOST, times=None))
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await face.create(name="n", on_unknown="reconcile")

    assert emulator.count("create") == emulator.count("delete") == 3
    assert live(emulator) == []
    assert ["nothing is left" in note for note in caught.value.__notes__] == [True]


async def test_a_lost_secret_is_raised_in_the_end_as_what_it_is(
    face: Face, emulator: Emulator
) -> None:
    emulator.faults.append(Fault("create", "empty", phase="after", times=None))
    with pytest.raises(SecretLostError):
        await face.create(name="n", on_unknown="reconcile")
    assert live(emulator) == []


async def test_a_key_that_cannot_be_proven_stops_it_and_is_told(
    face: Face, emulator: Emulator, time: Time
) -> None:
    emulator.faults.append(evolve(LOST))
    time.quiets.append(lambda: emulator.account.spend(live(emulator)[0].hash, 1))

    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await face.create(name="n", on_unknown="reconcile")

    (key,) = live(emulator)
    assert [key.hash in note for note in caught.value.__notes__] == [True]
    assert emulator.count("create") == 1
    assert emulator.count("delete") == 0


async def test_a_key_that_cannot_be_deleted_stops_it_and_is_told(
    face: Face, emulator: Emulator
) -> None:
    emulator.faults += [evolve(LOST), Fault("delete", status=403)]
    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await face.create(name="n", on_unknown="reconcile")

    (key,) = live(emulator)
    assert [key.hash in note for note in caught.value.__notes__] == [True]
    assert emulator.count("create") == 1


async def test_two_keys_for_one_create_are_told_and_none_is_deleted(
    face: Face, emulator: Emulator, time: Time
) -> None:
    emulator.faults.append(evolve(LOST))
    time.quiets.append(lambda: emulator.account.create({"name": "n"}))

    with pytest.raises(CreateOutcomeUnknownError) as caught:
        await face.create(name="n", on_unknown="reconcile")

    (note,) = caught.value.__notes__
    assert len(live(emulator)) == 2
    assert all(key.hash in note for key in live(emulator))


async def test_a_key_with_other_fields_is_somebody_elses(
    face: Face, emulator: Emulator, time: Time
) -> None:
    emulator.faults.append(Fault("create", "closed"))
    time.quiets.append(lambda: emulator.account.create({"name": "n", "limit": 6}))
    with pytest.raises(CreateOutcomeUnknownError):
        await face.create(name="n", limit=5, on_unknown="reconcile")
    assert [key.limit for key in live(emulator)] == [6]


async def test_a_refusal_is_raised_as_ever(face: Face, emulator: Emulator, time: Time) -> None:
    emulator.faults.append(Fault("create", status=400))
    with pytest.raises(BadRequestResponseError):
        await face.create(name="n", on_unknown="reconcile")
    assert operations(emulator) == ["create"]
    assert time.slept == []


async def test_a_secret_in_hand_is_raised_and_its_key_stays(face: Face, emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", "cut", phase="after", portion=0.9999))
    with pytest.raises(CreatedKeyUnreadableError) as caught:
        await face.create(name="n", on_unknown="reconcile")
    assert [key.secret for key in live(emulator)] == [caught.value.key]
    assert operations(emulator) == ["create"]


@pytest.mark.parametrize(
    "given",
    [
        {"on_unknown": "retry"},
        {"on_unknown": None},
        {"on_unknown": "reconcile", "quiet_period": -1},
        {"on_unknown": "reconcile", "quiet_period": float("nan")},
        {"on_unknown": "reconcile", "quiet_period": "30"},
        {"on_unknown": "reconcile", "name": ""},
    ],
)
async def test_bad_arguments_are_refused_before_anything_is_sent(
    given: dict[str, Any], face: Face, emulator: Emulator
) -> None:
    with pytest.raises(InvalidArgumentError):
        await face.create(**{"name": "n"} | given)
    assert emulator.requests == []


async def test_its_options_hold_for_each_create(face: Face, emulator: Emulator) -> None:
    emulator.faults.append(evolve(LOST))
    await face.create(name="n", on_unknown="reconcile", http_headers={"X-Trace": "7"})
    creates = [request for request in emulator.requests if request.operation == "create"]
    assert [request.headers["x-trace"] for request in creates] == ["7", "7"]


async def test_a_key_is_looked_for_in_its_own_workspace(face: Face, emulator: Emulator) -> None:
    emulator.account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE)
    here = emulator.account.create({"name": "n"})
    emulator.faults.append(evolve(LOST))

    created = await face.create(name="n", workspace_id=ELSEWHERE, on_unknown="reconcile")

    assert [key.secret for key in live(emulator)] == [here.secret, created.key]


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_machine_whose_clock_is_set_right_leaves_no_key_untold(
    hours: float, keys: AsyncAPIKeys, emulator: Emulator, time: Time
) -> None:
    off = [timedelta(hours=hours)]
    keys._transport.clockwork = evolve(time.clockwork(), now=lambda: time.now() + off[0])
    emulator.faults.append(evolve(LOST))
    time.quiets.append(lambda: off.__setitem__(0, timedelta()))
    with contextlib.suppress(CreateOutcomeUnknownError):
        await keys.create(name="n", on_unknown="reconcile")
    assert len(live(emulator)) == 1


async def test_a_machine_that_was_suspended_leaves_no_key_untold(
    keys: AsyncAPIKeys, emulator: Emulator, time: Time
) -> None:
    asleep = [timedelta()]  # the time of day goes on meanwhile, here and at the service
    keys._transport.clockwork = evolve(time.clockwork(), now=lambda: time.now() + asleep[0])
    emulator.account.clock = lambda: time.now() + asleep[0]
    emulator.faults.append(evolve(LOST))
    time.quiets.append(lambda: asleep.__setitem__(0, timedelta(minutes=10)))
    with contextlib.suppress(CreateOutcomeUnknownError):
        await keys.create(name="n", on_unknown="reconcile")
    assert len(live(emulator)) == 1


async def test_cancelled_while_it_waits_nothing_more_is_sent(
    keys: AsyncAPIKeys, emulator: Emulator, time: Time
) -> None:
    emulator.faults.append(evolve(LOST))
    create = asyncio.create_task(keys.create(name="n", on_unknown="reconcile"))
    time.quiets.append(create.cancel)
    with pytest.raises(asyncio.CancelledError):
        await create
    assert operations(emulator) == ["create"]
    assert len(live(emulator)) == 1


async def test_a_look_that_fails_leaves_the_outcome_unknown(face: Face, emulator: Emulator) -> None:
    emulator.faults += [evolve(LOST), Fault("list", status=500, times=None)]
    with pytest.raises(OpenRouterError) as caught:
        await face.create(name="n", on_unknown="reconcile")

    assert isinstance(caught.value, CreateOutcomeUnknownError)
    assert caught.value.maybe_applied
    assert len(live(emulator)) == 1


async def test_a_lost_create_at_another_server_is_looked_for_there(
    face: Face, emulator: Emulator
) -> None:
    async with Emulator(faults=[evolve(LOST)]) as other:
        other.account.management_key = emulator.api_key
        await face.create(name="n", server_url=other.base_url, on_unknown="reconcile")
        assert len(other.account.keys) == 1
    assert emulator.requests == []


async def test_a_key_that_this_client_has_just_made_is_never_deleted(
    face: Face, emulator: Emulator
) -> None:
    mine = await face.create(name="n", on_unknown="reconcile")
    emulator.faults.append(Fault("create", "closed"))
    second = await face.create(name="n", on_unknown="reconcile")
    assert {*emulator.account.keys} == {mine.data.hash, second.data.hash}


async def test_a_key_that_this_client_makes_meanwhile_is_never_deleted(
    keys: AsyncAPIKeys, emulator: Emulator, time: Time
) -> None:
    # The other one's key is listed while its answer is still on its way.
    emulator.faults += [
        Fault("create", "closed"),
        Fault("create", "slow", phase="after", delay=0.3),
    ]
    made: list[CreateKeysResponse] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(keys.create(name="n", on_unknown="reconcile")).add_done_callback(
                lambda task: made.append(task.result())
            )
    assert {*emulator.account.keys} == {created.data.hash for created in made}


async def test_cancelled_while_it_waits_the_doubt_is_told(
    keys: AsyncAPIKeys, emulator: Emulator, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.append(evolve(LOST))
    create = asyncio.create_task(keys.create(name="n", on_unknown="reconcile"))
    time.quiets.append(create.cancel)
    with pytest.raises(asyncio.CancelledError) as caught:
        await create
    (note,) = caught.value.__notes__
    assert "'n'" in note
    assert "'n'" in caplog.text


# --- reconcile(error) ---


async def test_the_key_of_a_lost_create_is_deleted(
    face: Face, emulator: Emulator, time: Time
) -> None:
    error = await lost(face)
    (key,) = live(emulator)

    found = await face.reconcile(error)

    assert [deleted.hash for deleted in found.deleted] == [key.hash]
    assert found.settled
    assert live(emulator) == []
    assert time.quiet == [pytest.approx(QUIET_PERIOD, abs=1)]


async def test_where_nothing_landed_nothing_is_deleted(face: Face, emulator: Emulator) -> None:
    error = await lost(face)
    emulator.account.keys.clear()
    assert await face.reconcile(error) == Reconciliation()
    assert "delete" not in operations(emulator)


@pytest.mark.parametrize(
    ("quiet_period", "passed", "waits"), [(30, 10, [20]), (30, 40, []), (0, 0, []), (90, 0, [90])]
)
async def test_the_quiet_period_is_counted_from_the_creates_end(
    quiet_period: float, passed: float, waits: list[float], face: Face, time: Time
) -> None:
    error = await lost(face)
    time.slept.append(passed)

    assert len((await face.reconcile(error, quiet_period=quiet_period)).deleted) == 1

    assert time.quiet[bool(passed) :] == [pytest.approx(seconds, abs=1) for seconds in waits]


@pytest.mark.parametrize("hours", [-5, 5])
async def test_a_key_is_ours_by_the_services_clock(
    hours: float, face: Face, emulator: Emulator, time: Time
) -> None:
    time.ahead = timedelta(hours=hours)
    error = await lost(face)
    assert len((await face.reconcile(error)).deleted) == 1


async def test_a_commit_just_before_the_look_is_ours_and_one_later_is_not(
    face: Face, emulator: Emulator, time: Time
) -> None:
    error = await lost(face)
    emulator.account.keys.clear()
    time.quiets.append(lambda: emulator.account.create({"name": "n"}))
    assert len((await face.reconcile(error)).deleted) == 1

    time.slept.append(2 * MARGIN)
    late = emulator.account.create({"name": "n"})
    found = await face.reconcile(error)
    assert [key.hash for key in found.unproven] == [late.hash]
    assert live(emulator) == [late]


async def test_a_key_from_before_the_create_is_never_deleted(
    face: Face, emulator: Emulator, time: Time
) -> None:
    before = emulator.account.create({"name": "n"})
    time.slept.append(2 * MARGIN)
    error = await lost(face)

    assert len((await face.reconcile(error)).deleted) == 1
    assert live(emulator) == [before]


async def test_a_lost_create_of_a_workspace_is_looked_for_there(
    face: Face, emulator: Emulator
) -> None:
    emulator.account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE)
    error = await lost(face, workspace_id=ELSEWHERE)
    here = emulator.account.create({"name": "n"})

    assert len((await face.reconcile(error)).deleted) == 1
    assert live(emulator) == [here]


async def test_a_reconcile_may_be_asked_for_twice(face: Face, emulator: Emulator) -> None:
    error = await lost(face)
    assert len((await face.reconcile(error)).deleted) == 1
    assert await face.reconcile(error) == Reconciliation()


async def test_a_reconcile_that_cannot_look_raises_and_deletes_nothing(
    face: Face, emulator: Emulator
) -> None:
    error = await lost(face)
    emulator.faults.append(Fault("list", status=500, times=None, skip=1))
    with pytest.raises(InternalServerResponseError):
        await face.reconcile(error)
    assert len(live(emulator)) == 1


async def test_an_error_that_tells_no_times_is_refused(face: Face, emulator: Emulator) -> None:
    with pytest.raises(InvalidArgumentError, match="error"):
        await face.reconcile(CreateOutcomeUnknownError("made by hand"))
    assert emulator.requests == []


@pytest.mark.parametrize("quiet_period", [-1, float("inf"), "30"])
async def test_a_bad_quiet_period_is_refused(
    quiet_period: Any, face: Face, emulator: Emulator
) -> None:
    error = await lost(face)
    with pytest.raises(InvalidArgumentError, match="quiet_period"):
        await face.reconcile(error, quiet_period=quiet_period)
    assert operations(emulator) == ["create"]
