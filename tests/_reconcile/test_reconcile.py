"""Which keys a reconcile deletes, which it tells, and which it never looks at."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import pytest
from attrs import define, evolve

from openrouter_keys._base.clock_skew import MARGIN
from openrouter_keys._reconcile.matching import Doubt
from openrouter_keys._reconcile.reconcile import Reconciliation, reconcile
from openrouter_keys._reconcile.service_clock import UNSEEN, ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.emulator import Emulator, Fault, StoredKey, Workspace
from openrouter_keys.errors import (
    ForbiddenResponseError,
    InternalServerResponseError,
    NotFoundResponseError,
)
from openrouter_keys.models import CreateKeysRequest, External
from tests.clients import FakeTime, api_keys

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
UNTIL = AT + timedelta(minutes=2)
LONG_AFTER = AT + timedelta(days=1)
MARGIN_ = timedelta(seconds=MARGIN)
TICK = timedelta(milliseconds=1)
ELSEWHERE = "0df9e665-d932-5740-b2c7-b52af166bc11"


@define
class Service:
    """An emulator whose clock stands still, and the only client that it has."""

    emulator: Emulator
    transport: Transport
    known: set[str]
    clock: ServiceClock

    def key(self, name: str = "n", at: datetime = AT, **given: Any) -> StoredKey:
        return self.emulator.account.add(name, created_at=at, **given)

    async def reconcile(self, *doubts: Doubt, others: Sequence[str] = ()) -> Reconciliation:
        async def knows(hash: str) -> bool:
            return hash in self.known

        async def under_way() -> Sequence[str]:
            return others

        return await reconcile(self.transport, doubts, self.clock, knows=knows, under_way=under_way)

    @property
    def hashes(self) -> set[str]:
        return {*self.emulator.account.keys}

    @property
    def asked(self) -> list[str]:
        return [request.operation for request in self.emulator.requests]


@pytest.fixture
async def service(emulator: Emulator, fake_time: FakeTime) -> AsyncIterator[Service]:
    emulator.account.clock = lambda: LONG_AFTER
    emulator.account.workspaces[ELSEWHERE] = Workspace(ELSEWHERE)
    async with api_keys(emulator.base_url, emulator.api_key, fake_time) as keys:
        clock = ServiceClock(lambda: LONG_AFTER)
        clock.observe({"Date": format_datetime(LONG_AFTER)})
        yield Service(emulator, keys._transport, set(), clock)


def doubt(
    name: str = "n",
    *,
    since: datetime = AT,
    until: datetime = UNTIL,
    creates: int = 1,
    **asked: Any,
) -> Doubt:
    request = CreateKeysRequest(name=name, **asked)
    return Doubt(request=request, since=since, until=until, creates=creates)


def hashes(*keys: StoredKey) -> list[str]:
    return sorted(key.hash for key in keys)


def assert_found(
    found: Reconciliation,
    *,
    deleted: list[str] | None = None,
    left: list[str] | None = None,
    unproven: list[str] | None = None,
) -> None:
    assert sorted(key.hash for key in found.deleted) == (deleted or [])
    assert sorted(key.hash for key in found.left) == (left or [])
    assert sorted(key.hash for key in found.unproven) == (unproven or [])


# --- one key, one doubt ---

OURS: dict[str, dict[str, Any]] = {
    "made at once": {},
    "made at the end": {"at": UNTIL},
    "made by a clock that is a little behind": {"at": AT - MARGIN_},
    "made by a clock that is a little ahead": {"at": UNTIL + MARGIN_},
    "disabled since": {"disabled": True},
}
UNPROVEN: dict[str, dict[str, Any]] = {
    "made a little too early": {"at": AT - MARGIN_ - TICK},
    "made too early, for all that is known": {"at": AT - UNSEEN},
    "its name has white space": {"name": "n "},
    "its name has another case": {"name": "N"},
    "made too late": {"at": UNTIL + MARGIN_ + TICK},
    "made long after": {"at": UNTIL + timedelta(hours=3)},
    "it spent": {"usage": 0.001},
    "it spent on the user's own provider": {"byok_usage": 0.001},
    "it was used for nothing": {"last_used_at": AT},
    "another limit": {"limit": 6.0},
    "no limit": {"limit": None},
    "another reset": {"limit_reset": "weekly"},
    "counts other spending": {"include_byok_in_limit": False},
    "it expires": {"expires_at": AT},
}
SOMEBODY_ELSES: dict[str, dict[str, Any]] = {
    "made before": {"at": AT - UNSEEN - TICK},
    "made long before": {"at": AT - timedelta(hours=3)},
    "another name": {"name": "m"},
    "a longer name": {"name": "nn"},
    "in another workspace": {"workspace_id": ELSEWHERE},
}
ASKED: dict[str, Any] = {
    "limit": 5,
    "limit_reset": "daily",
    "include_byok_in_limit": True,
    "expires_at": None,
}
MADE: dict[str, Any] = {"limit": 5.0, "limit_reset": "daily", "include_byok_in_limit": True}


@pytest.mark.parametrize("given", OURS.values(), ids=OURS)
async def test_a_key_that_is_provably_ours_is_deleted(
    given: dict[str, Any], service: Service
) -> None:
    key = service.key(**MADE | given)
    found = await service.reconcile(doubt(**ASKED))

    assert_found(found, deleted=[key.hash])
    assert found.settled
    assert not service.hashes


@pytest.mark.parametrize("given", UNPROVEN.values(), ids=UNPROVEN)
async def test_a_key_that_is_not_provably_ours_is_told_and_never_deleted(
    given: dict[str, Any], service: Service
) -> None:
    key = service.key(**MADE | given)
    found = await service.reconcile(doubt(**ASKED))

    assert_found(found, unproven=[key.hash])
    assert not found.settled
    assert service.hashes == {key.hash}
    assert "delete" not in service.asked


NOT_ASKED_FOR: dict[str, dict[str, Any]] = {
    "a limit": {"limit": 999.0},
    "no money at all": {"limit": 0.0},
    "a reset": {"limit_reset": "weekly"},
    "a limit that is renewed": {"limit": 5.0, "limit_reset": "daily"},
    "an end": {"expires_at": UNTIL},
}


@pytest.mark.parametrize("given", NOT_ASKED_FOR.values(), ids=NOT_ASKED_FOR)
async def test_a_key_with_more_than_was_asked_for_is_not_provably_ours(
    given: dict[str, Any], service: Service
) -> None:
    key = service.key(**given)
    assert_found(await service.reconcile(doubt()), unproven=[key.hash])
    assert service.hashes == {key.hash}


@pytest.mark.parametrize("given", SOMEBODY_ELSES.values(), ids=SOMEBODY_ELSES)
async def test_a_key_that_cannot_be_ours_is_not_even_told(
    given: dict[str, Any], service: Service
) -> None:
    key = service.key(**MADE | given)
    found = await service.reconcile(doubt(**ASKED))

    assert found == Reconciliation()
    assert found.settled
    assert service.hashes == {key.hash}


async def test_a_key_that_is_known_is_not_even_told(service: Service) -> None:
    known, ours = service.key(), service.key()
    service.known = {known.hash}

    assert_found(await service.reconcile(doubt()), deleted=[ours.hash])
    assert service.hashes == {known.hash}


async def test_an_expired_key_that_is_ours_is_deleted(service: Service) -> None:
    key = service.key(expires_at=UNTIL)
    assert_found(await service.reconcile(doubt(expires_at=UNTIL)), deleted=[key.hash])


async def test_what_the_service_does_not_tell_is_no_proof_against_us(service: Service) -> None:
    service.emulator.account.hidden_fields |= {"expires_at", "last_used_at", "workspace_id"}
    key = service.key()
    assert_found(await service.reconcile(doubt(expires_at=UNTIL)), deleted=[key.hash])


async def test_a_key_of_another_partners_user_is_never_deleted(service: Service) -> None:
    key = service.key(external_user="acme-8")
    await service.reconcile(doubt(external=External("acme-7")))
    assert service.hashes == {key.hash}


# --- how many keys can be ours ---


@pytest.mark.parametrize("creates", [1, 2])
async def test_more_keys_than_creates_are_told_and_none_is_deleted(
    creates: int, service: Service
) -> None:
    keys = [service.key() for _ in range(creates + 1)]
    assert_found(await service.reconcile(doubt(creates=creates)), unproven=hashes(*keys))
    assert service.hashes == {key.hash for key in keys}


@pytest.mark.parametrize("creates", [1, 2, 3])
async def test_as_many_keys_as_creates_or_fewer_are_deleted(creates: int, service: Service) -> None:
    keys = [service.key() for _ in range(creates)]
    assert_found(await service.reconcile(doubt(creates=3)), deleted=hashes(*keys))


async def test_a_used_key_beside_ours_is_told_and_ours_is_deleted(service: Service) -> None:
    ours, used = service.key(), service.key(usage=1.0)
    found = await service.reconcile(doubt())
    assert_found(found, deleted=[ours.hash], unproven=[used.hash])


async def test_a_used_key_among_too_many_is_told_with_them(service: Service) -> None:
    keys = [service.key(), service.key(), service.key(usage=1.0)]
    assert_found(await service.reconcile(doubt()), unproven=hashes(*keys))


async def test_doubts_of_one_name_count_together(service: Service) -> None:
    five, six, early = service.key(limit=5.0), service.key(limit=6.0), service.key(limit=6.0)
    later = AT + timedelta(seconds=30)
    six.created_at = later
    doubts = [doubt(limit=5), doubt(limit=6, since=later)]

    found = await service.reconcile(*doubts)

    # That of before the second doubt is nobody's.
    assert_found(found, deleted=hashes(five, six), unproven=[early.hash])


async def test_doubts_of_one_name_and_too_many_keys_delete_none(service: Service) -> None:
    keys = [service.key() for _ in range(3)]
    assert_found(await service.reconcile(doubt(), doubt()), unproven=hashes(*keys))


async def test_more_keys_of_a_kind_than_creates_of_it_are_never_deleted(service: Service) -> None:
    keys = [service.key(limit=5.0), service.key(limit=5.0)]  # one of them is somebody else's
    found = await service.reconcile(doubt(limit=5), doubt(limit=10))
    assert_found(found, unproven=hashes(*keys))


async def test_a_key_between_two_doubts_of_the_same_is_nobodys(service: Service) -> None:
    later = AT + timedelta(hours=20)
    between = service.key(at=AT + timedelta(hours=10))
    found = await service.reconcile(doubt(), doubt(since=later, until=later + (UNTIL - AT)))
    assert_found(found, unproven=[between.hash])


async def test_each_key_needs_a_create_of_its_own(service: Service) -> None:
    # A key of the first minute is the first one's; a later one may be either's.
    doubts = [doubt(), doubt(since=AT + timedelta(minutes=1), include_byok_in_limit=True)]
    counts: dict[str, Any] = {"include_byok_in_limit": True}
    early, later = service.key(**counts), service.key(**counts, at=UNTIL)
    assert_found(await service.reconcile(*doubts), deleted=hashes(early, later))

    both_early = [service.key(**counts), service.key(**counts)]
    assert_found(await service.reconcile(*doubts), unproven=hashes(*both_early))


async def test_doubts_of_the_same_count_together(service: Service) -> None:
    keys = [service.key(), service.key()]
    assert_found(await service.reconcile(doubt(), doubt()), deleted=hashes(*keys))


async def test_doubts_of_other_names_do_not_count(service: Service) -> None:
    two = [service.key("two"), service.key("two")]
    one = service.key("one")
    found = await service.reconcile(doubt("one"), doubt("two"), doubt("none", creates=9))
    assert_found(found, deleted=[one.hash], unproven=hashes(*two))


async def test_a_key_from_before_its_own_doubt_is_not_even_told(service: Service) -> None:
    between = service.key("later", at=AT - timedelta(minutes=30))
    doubts = [doubt("early", since=AT - timedelta(hours=1)), doubt("later")]
    assert await service.reconcile(*doubts) == Reconciliation()
    assert service.hashes == {between.hash}


async def test_a_workspace_has_names_of_its_own(service: Service) -> None:
    here = service.key()
    there = [service.key(workspace_id=ELSEWHERE), service.key(workspace_id=ELSEWHERE)]
    found = await service.reconcile(doubt(), doubt(workspace_id=ELSEWHERE))
    assert_found(found, deleted=[here.hash], unproven=hashes(*there))


# --- how they are looked for ---


async def test_without_a_doubt_nothing_is_asked(service: Service) -> None:
    assert await service.reconcile() == Reconciliation()
    assert service.asked == []


async def test_one_pass_settles_any_number_of_doubts(service: Service) -> None:
    ours = [service.key(f"n{number}") for number in range(30)]
    found = await service.reconcile(*(doubt(f"n{number}") for number in range(60)))

    assert_found(found, deleted=hashes(*ours))
    # No key is known that must be listed, so that two looks have to agree.
    assert service.asked.count("list") <= 4


async def test_each_workspace_is_listed_with_all_that_is_in_it(service: Service) -> None:
    await service.reconcile(doubt(), doubt("m"), doubt(workspace_id=ELSEWHERE))

    queries = [request.query for request in service.emulator.requests]
    assert all(query["include_disabled"] == query["include_expired"] == "true" for query in queries)
    asked = {query.get("workspace_id") for query in queries}
    assert asked == {None, ELSEWHERE}
    # The first page of each, and the proof that it was the last; twice.
    assert len(queries) <= 4 * len(asked)


async def test_nothing_is_listed_from_long_before_the_first_create(service: Service) -> None:
    for _ in range(1000):
        service.key(at=AT - timedelta(hours=1))
    ours = service.key()

    assert_found(await service.reconcile(doubt()), deleted=[ours.hash])
    assert service.asked == ["list", "list", "get", "delete"]


async def test_each_workspace_is_listed_as_far_back_as_its_own_doubts(service: Service) -> None:
    early = AT - timedelta(hours=1)
    for _ in range(500):
        service.key(at=AT - timedelta(minutes=30))
    old = service.key(at=early, workspace_id=ELSEWHERE)

    found = await service.reconcile(doubt(), doubt(since=early, workspace_id=ELSEWHERE))

    assert_found(found, deleted=[old.hash])
    assert service.asked.count("list") <= 6


def _others_create(service: Service) -> None:
    for _ in range(30):
        service.key("another", LONG_AFTER + len(service.hashes) * TICK)


def _others_delete(service: Service) -> None:
    strangers = [key for key in service.emulator.account.keys.values() if key.name == "another"]
    for key in strangers[-30:]:  # the newest ones: all older ones move up
        del service.emulator.account.keys[key.hash]


@define
class _Busy(ServiceClock):
    """A clock that lets something happen whenever a page has come."""

    meanwhile: Callable[[], object]

    def __attrs_pre_init__(self) -> None:
        super().__init__(lambda: LONG_AFTER)

    def observe(self, headers: Mapping[str, str], seconds: float = 0.0) -> None:
        self.meanwhile()


@pytest.mark.slow
@pytest.mark.parametrize("meanwhile", [_others_create, _others_delete])
async def test_no_key_is_missed_while_others_create_and_delete(
    meanwhile: Callable[[Service], None], service: Service
) -> None:
    ours: list[StoredKey] = []
    for number in range(12):
        ours.append(service.key(f"n{number}"))
        for _ in range(40):
            service.key("another")
    service.clock = _Busy(partial(meanwhile, service))

    found = await service.reconcile(*(doubt(key.name) for key in ours))

    assert_found(found, deleted=hashes(*ours))
    assert service.asked.count("list") > 4
    assert {key.name for key in service.emulator.account.keys.values()} <= {"another"}


async def test_the_clock_learns_from_what_is_listed(service: Service) -> None:
    await service.reconcile(doubt())
    assert abs(service.clock.now() - LONG_AFTER) < timedelta(seconds=30)


# --- collect, then act ---


async def test_nothing_is_deleted_before_all_is_seen(service: Service) -> None:
    service.emulator.page_size = 20
    for number in range(50):
        service.key(f"n{number}")
        service.key("n0", workspace_id=ELSEWHERE)

    await service.reconcile(
        *(doubt(f"n{number}") for number in range(50)),
        doubt("n0", workspace_id=ELSEWHERE, creates=50),
    )

    first = service.asked.index("delete")
    assert {*service.asked[:first]} == {"list", "get"}
    assert service.asked[first:] == ["delete"] * 100


@pytest.mark.parametrize("page", range(4))
async def test_a_list_that_fails_deletes_nothing(page: int, service: Service) -> None:
    service.emulator.page_size = 20
    service.emulator.faults.append(Fault("list", status=500, skip=page, times=None))
    for number in range(50):
        service.key(f"n{number}")

    with pytest.raises(InternalServerResponseError):
        await service.reconcile(*(doubt(f"n{number}") for number in range(50)))

    assert len(service.hashes) == 50
    assert "delete" not in service.asked


async def test_a_workspace_that_is_gone_keeps_nobody_else_in_doubt(service: Service) -> None:
    here = service.key()
    found = await service.reconcile(doubt(), doubt(workspace_id=ELSEWHERE[::-1]))
    assert_found(found, deleted=[here.hash])


async def test_a_workspace_that_cannot_be_listed_keeps_the_keys_of_all(service: Service) -> None:
    service.emulator.faults.append(Fault("list", status=403, skip=1, times=None))
    both = {service.key().hash, service.key(workspace_id=ELSEWHERE).hash}
    with pytest.raises(ForbiddenResponseError):
        await service.reconcile(doubt(), doubt(workspace_id=ELSEWHERE))
    assert service.hashes == both


async def test_a_service_without_a_default_workspace_is_another_one(service: Service) -> None:
    service.emulator.faults.append(Fault("list", status=404, times=None))
    service.key()
    with pytest.raises(NotFoundResponseError):
        await service.reconcile(doubt())
    assert len(service.hashes) == 1


async def test_a_list_that_fails_for_a_moment_is_asked_for_again(service: Service) -> None:
    service.emulator.faults += [Fault("list", status=500), Fault("list", "reset")]
    ours = service.key()
    assert_found(await service.reconcile(doubt()), deleted=[ours.hash])


# --- deletes ---

CANNOT_DELETE = [
    partial(Fault, "delete", times=None, status=403),
    partial(Fault, "delete", times=None, status=500),
    partial(Fault, "delete", "closed", times=None),
]


@pytest.mark.parametrize("fault", CANNOT_DELETE)
async def test_ours_that_cannot_be_deleted_is_told(
    fault: Callable[[], Fault], service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.emulator.faults.append(fault())
    ours = service.key()

    found = await service.reconcile(doubt())

    assert_found(found, left=[ours.hash])
    assert not found.settled
    assert service.hashes == {ours.hash}
    assert ours.hash in caplog.text
    assert ours.secret is not None
    assert ours.secret not in caplog.text


async def test_a_delete_that_fails_keeps_no_other_from_being_deleted(service: Service) -> None:
    service.emulator.faults.append(Fault("delete", status=403, times=3))
    ours = [service.key(f"n{number}") for number in range(30)]

    found = await service.reconcile(*(doubt(key.name) for key in ours))

    assert len(found.left) == 3
    assert len(found.deleted) == 27
    assert service.hashes == {key.hash for key in found.left}


DELETED_ALREADY = {
    "somebody was faster": Fault("delete", phase="after", status=404),
    "the answer was lost": Fault("delete", "reset", phase="after"),
    "the service failed after it": Fault("delete", phase="after", status=502),
    "the answer cannot be read": Fault("delete", "cut", phase="after"),
}


@pytest.mark.parametrize("fault", DELETED_ALREADY.values(), ids=DELETED_ALREADY)
async def test_a_key_that_is_gone_is_deleted(fault: Fault, service: Service) -> None:
    service.emulator.faults.append(evolve(fault))
    ours = service.key()
    assert_found(await service.reconcile(doubt()), deleted=[ours.hash])


async def test_a_deleted_key_is_logged_by_its_hash(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "openrouter_keys")
    ours = service.key()
    await service.reconcile(doubt())
    assert f"the key {ours.hash} was deleted" in caplog.text


# --- what other processes may be making ---

OTHERS: dict[str, tuple[str, str, bool]] = {
    "the same name": ("customer-1", "customer-1", True),
    "the same name, which the service wrote otherwise": ("Customer  1", "customer 1", True),
    "a name that may have been cut to this one": ("customer-1-and-the-longest", "customer-1", True),
    "another name": ("customer-2", "customer-1", False),
    "a longer name, and none was cut": ("customer-17", "customer-1", False),
    "a shorter name": ("customer-", "customer-1", False),
    "no name of theirs at all": ("", "customer-1", False),
}


@pytest.mark.parametrize("how", OTHERS)
async def test_a_key_that_another_process_may_be_making_is_unproven_and_no_other(
    how: str, service: Service
) -> None:
    theirs, ours, may_be_theirs = OTHERS[how]
    if not may_be_theirs:
        service.key("one whose name is longer than all of them")
    key = service.key(ours.upper() if "otherwise" in how else ours)
    # A name that was cut is not the name that was asked for.
    asked = f"{ours}-and-more" if "cut to" in how else ours
    found = await service.reconcile(doubt(asked), others=[theirs])
    if may_be_theirs:
        assert_found(found, unproven=[key.hash])
    else:
        assert_found(found, deleted=[key.hash])


async def test_a_name_of_theirs_makes_no_other_place_unsure(service: Service) -> None:
    both = service.key("customer-1"), service.key("customer-2")
    elsewhere = service.key("customer-1", workspace_id=ELSEWHERE)
    found = await service.reconcile(
        doubt("customer-1"),
        doubt("customer-2"),
        doubt("customer-3", workspace_id=ELSEWHERE),
        others=["customer-1"],
    )
    assert_found(found, deleted=[both[1].hash], unproven=[both[0].hash])
    assert elsewhere.hash in service.hashes
