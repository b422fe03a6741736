"""The emulated account, row by row of what is known of the service. No sockets."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from hashlib import sha256
from itertools import product
from random import Random
from typing import cast

import pytest
from attrs import define, evolve

from openrouter_keys.emulator import Account, Budget, RateLimit, Refusal, StoredKey, Workspace
from openrouter_keys.emulator.bodies import list_query
from openrouter_keys.emulator.records import current_record, key_record
from openrouter_keys.emulator.refusals import JSON
from openrouter_keys.emulator.times import period_end, period_start
from tests.tables import in_one_test

NOON = datetime(2027, 3, 3, 12, tzinfo=UTC)  # a Wednesday
OTHER = "11111111-2222-4333-8444-555555555555"
NOWHERE = "99999999-2222-4333-8444-555555555555"
HIGH, LOW = "\ud83d", "\ude00"


def words(text: str) -> set[str]:
    return set(text.split())


KEY_FIELDS = words(
    """hash name label disabled include_byok_in_limit limit limit_remaining limit_reset
    usage usage_daily usage_weekly usage_monthly
    byok_usage byok_usage_daily byok_usage_weekly byok_usage_monthly
    created_at updated_at expires_at creator_user_id workspace_id external_user last_used_at
    """
)
CURRENT_FIELDS = words(
    """label limit limit_remaining limit_reset include_byok_in_limit
    usage usage_daily usage_weekly usage_monthly
    byok_usage byok_usage_daily byok_usage_weekly byok_usage_monthly
    is_free_tier is_management_key is_provisioning_key rate_limit creator_user_id expires_at
    workspace_id organization_id allowed_data_regions free_model_daily_requests
    budgets effective_budget
    """
)
BUDGET_FIELDS = words(
    """scope limit_usd spend_usd remaining_usd reset_interval resets_at include_byok
    guardrail_id budget_id
    """
)


@define
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> Account:
    account = Account(clock=clock)
    account.workspaces[OTHER] = Workspace(OTHER, "Other")
    return account


def mapping(value: JSON) -> Mapping[str, JSON]:
    assert isinstance(value, dict)
    return cast("Mapping[str, JSON]", value)


# create


def test_a_new_key_has_a_fake_secret_whose_hash_names_it(account: Account) -> None:
    key = account.create({"name": "first"})

    assert key.secret is not None
    assert key.secret.startswith("sk-or-v1-e2e2e2e2")
    assert len(key.secret) == len("sk-or-v1-") + 64
    assert int(key.secret.removeprefix("sk-or-v1-"), 16)
    assert key.hash == sha256(key.secret.encode()).hexdigest()
    assert key.label == f"sk-or-v1-e2e...{key.secret[-4:]}"
    assert account.keys == {key.hash: key}


def test_a_new_key_has_what_the_service_gives_it_when_only_named(account: Account) -> None:
    record = key_record(account.create({"name": "first"}), account)

    assert record.keys() == KEY_FIELDS
    assert {name: record[name] for name in ("name", "disabled", "limit", "limit_remaining")} == {
        "name": "first",
        "disabled": False,
        "limit": None,
        "limit_remaining": None,
    }
    assert record["created_at"] == "2027-03-03T12:00:00+00:00"
    assert record["workspace_id"] == account.default_workspace
    absent = KEY_FIELDS - {"hash", "name", "label", "created_at", "workspace_id"}
    assert all(not record[name] for name in absent)


def test_a_new_key_has_everything_that_was_asked_for(account: Account) -> None:
    body = {
        "name": "whole",
        "limit": 12.5,
        "limit_reset": "weekly",
        "include_byok_in_limit": True,
        "expires_at": "2027-12-31T23:59:59Z",
        "creator_user_id": "user_1",
        "workspace_id": OTHER,
    }

    record = key_record(account.create({**body, "external": {"user": "partner 7"}}), account)

    assert {name: record[name] for name in body} == body
    assert record["external_user"] == "partner 7"
    assert record["limit_remaining"] == 12.5


def test_a_supplied_key_is_stored_as_a_hash_only(account: Account) -> None:
    canary = "canary-" * 6

    key = account.create({"name": "x", "external": {"user": "u", "api_key": canary}})

    assert key.external_key_hash == sha256(canary.encode()).hexdigest()
    assert canary not in repr(key)
    assert canary not in json.dumps(key_record(key, account))


ACCEPTED: list[tuple[str, JSON]] = [
    ("name", " "),
    ("name", "n" * 100_000),
    ("name", f"{HIGH}"),
    ("limit", None),
    ("limit", 0),
    ("limit", 0.01),
    ("limit", 10**15),
    ("limit_reset", None),
    ("limit_reset", "daily"),
    ("limit_reset", "monthly"),
    ("include_byok_in_limit", False),
    ("expires_at", None),
    ("expires_at", "2020-01-01T00:00:00Z"),
    ("expires_at", "2027-12-31T23:59:59.123Z"),
    ("creator_user_id", None),
    ("workspace_id", OTHER),
    ("workspace_id", OTHER.upper()),
    ("external", {"user": "u"}),
    ("external", {"user": "u" * 512, "api_key": "k" * 32, "another": 1}),
    ("external", {"user": "u", "api_key": f"{LOW}" * 32}),
    ("disabled", "unknown to create, so ignored"),
    ("nonsense", {"is": "ignored"}),
]
REFUSED: list[tuple[str, object]] = [
    ("name", ""),
    ("name", None),
    ("name", 1),
    ("limit", -0.01),
    ("limit", True),
    ("limit", "10"),
    ("limit", float("nan")),
    ("limit", float("inf")),
    ("limit", 10**400),
    ("limit_reset", "yearly"),
    ("limit_reset", "Daily"),
    ("limit_reset", 1),
    ("limit_reset", []),
    ("include_byok_in_limit", None),
    ("include_byok_in_limit", 1),
    ("expires_at", 1830297599),
    ("expires_at", "2027-12-31"),
    ("expires_at", "2027-12-31T23:59Z"),
    ("expires_at", "2027-12-31T23:59:59"),
    ("expires_at", "2027-12-31T23:59:59+01:00"),
    ("expires_at", "2027-02-30T00:00:00Z"),
    ("expires_at", " 2027-12-31T23:59:59Z"),
    ("creator_user_id", ""),
    ("creator_user_id", 7),
    ("workspace_id", None),
    ("workspace_id", "default"),
    ("workspace_id", NOWHERE),
    ("external", None),
    ("external", "u"),
    ("external", {}),
    ("external", {"user": ""}),
    ("external", {"user": None}),
    ("external", {"user": "u" * 513}),
    ("external", {"user": "a\0b"}),
    ("external", {"user": " u"}),
    ("external", {"user": "u\n"}),
    ("external", {"user": "u", "api_key": "k" * 31}),
    ("external", {"user": "u", "api_key": None}),
]


@pytest.mark.parametrize(("field", "value"), ACCEPTED)
def test_create_accepts(account: Account, field: str, value: JSON) -> None:
    account.create({"name": "x", field: value})

    assert len(account.keys) == 1


@pytest.mark.parametrize(("field", "value"), REFUSED)
def test_create_refuses(account: Account, field: str, value: object) -> None:
    with pytest.raises(Refusal) as caught:
        account.create({"name": "x", field: value})

    assert caught.value.status == 400
    assert account.keys == {}


@pytest.mark.parametrize("body", [None, [], "name", 1, {}, {"limit": 1}])
def test_create_needs_an_object_with_a_name(account: Account, body: object) -> None:
    with pytest.raises(Refusal) as caught:
        account.create(body)

    assert caught.value.status == 400


def test_two_accounts_never_make_the_same_secret() -> None:
    assert Account().new_secret() != Account().new_secret()


def test_a_seeded_account_makes_the_same_secrets_again() -> None:
    seeded = partial(Random, 7)

    first, second = (Account(random=seeded()).new_secret() for _ in range(2))

    assert first == second


def test_creation_times_never_go_back_even_when_the_clock_does(
    account: Account, clock: Clock
) -> None:
    account.create({"name": "first"})
    clock.now -= timedelta(hours=1)

    assert account.create({"name": "second"}).created_at == NOON


# get, update, delete


def test_an_unknown_hash_is_refused_by_every_operation_that_takes_one(account: Account) -> None:
    for refused in (
        lambda: account.get("none"),
        lambda: account.update("none", {"name": "y"}),
        lambda: account.delete("none"),
    ):
        with pytest.raises(Refusal, match="Resource not found") as caught:
            refused()
        assert caught.value.status == 404


CHANGES: list[tuple[str, object]] = [
    ("name", "new"),
    ("disabled", True),
    ("limit", 3),
    ("limit", None),
    ("limit_reset", "daily"),
    ("limit_reset", None),
    ("include_byok_in_limit", True),
    ("workspace_id", OTHER),
]


@pytest.mark.parametrize(("field", "value"), CHANGES)
def test_update_changes_one_field_and_the_time(
    account: Account, clock: Clock, field: str, value: object
) -> None:
    key = account.add(limit=5, limit_reset="weekly")
    before = key_record(key, account)
    clock.now += timedelta(minutes=1)

    after = key_record(account.update(key.hash, {field: value, "nonsense": 1}), account)

    changed = {name for name in after if after[name] != before[name]}
    assert after[field] == value
    assert changed - {"limit_remaining"} == {field, "updated_at"}
    assert after["updated_at"] == "2027-03-03T12:01:00+00:00"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"nonsense": 1}, 400),
        ({"expires_at": None, "creator_user_id": "u", "external": {"user": "u"}}, 400),
        (None, 400),
        ([], 400),
        ({"name": None}, 400),
        ({"name": ""}, 400),
        ({"disabled": None}, 400),
        ({"disabled": "true"}, 400),
        ({"include_byok_in_limit": None}, 400),
        ({"limit": -1}, 400),
        ({"limit_reset": "never"}, 400),
        ({"workspace_id": None}, 400),
        ({"workspace_id": "other"}, 400),
        ({"workspace_id": NOWHERE}, 404),
        ({"name": "fine", "limit": "not fine"}, 400),
    ],
)
def test_update_refuses_and_changes_nothing(account: Account, body: object, status: int) -> None:
    key = account.add("old")
    before = key_record(key, account)

    with pytest.raises(Refusal) as caught:
        account.update(key.hash, body)

    assert caught.value.status == status
    assert key_record(key, account) == before


def test_an_update_of_nothing_says_so(account: Account) -> None:
    with pytest.raises(Refusal, match="No update fields provided"):
        account.update(account.add().hash, {"expires_at": None})


# list


def names(keys: object) -> list[str]:
    return [key.name for key in cast("list[StoredKey]", keys)]


def test_the_newest_keys_come_first_a_page_at_a_time(account: Account) -> None:
    for number in range(250):
        account.create({"name": str(number)})

    pages = [names(account.list(offset=offset)) for offset in (0, 100, 200, 250, 10**18 - 1)]

    assert [len(page) for page in pages] == [100, 100, 50, 0, 0]
    assert [name for page in pages for name in page] == [str(n) for n in reversed(range(250))]


def test_disabled_and_expired_keys_are_listed_only_when_asked_for(
    account: Account, clock: Clock
) -> None:
    account.add("plain", expires_at=NOON + timedelta(seconds=1))
    account.add("off", disabled=True)
    account.add("over", expires_at=NOON)
    account.add("both", disabled=True, expires_at=NOON - timedelta(days=1))

    assert names(account.list()) == ["plain"]
    assert names(account.list(include_disabled=True)) == ["off", "plain"]
    assert names(account.list(include_expired=True)) == ["over", "plain"]
    everything = account.list(include_disabled=True, include_expired=True)
    assert names(everything) == ["both", "over", "off", "plain"]
    clock.now += timedelta(seconds=1)
    assert names(account.list()) == []


@pytest.mark.parametrize("disabled", [False, True])
@pytest.mark.parametrize("first", [0, 300, 700], ids=lambda first: f"from {first}")
@pytest.mark.parametrize("size", [10, 100])
def test_a_page_is_no_more_work_the_further_on_it_is(
    account: Account, monkeypatch: pytest.MonkeyPatch, size: int, first: int, disabled: bool
) -> None:
    for number in range(1000):
        account.add(str(number), disabled=disabled, expires_at=NOON + timedelta(days=1))
    looked_at = 0

    def expired(key: StoredKey, now: datetime) -> bool:
        nonlocal looked_at
        looked_at += 1
        return key.expires_at is not None and key.expires_at <= now

    monkeypatch.setattr(StoredKey, "expired", expired)
    account.list(offset=first, page_size=size, include_disabled=disabled)
    for offset in range(first + size, 1001, size):
        looked_at = 0
        page = account.list(offset=offset, page_size=size, include_disabled=disabled)
        assert len(page) == min(size, 1000 - offset)
        assert looked_at <= size
        looked_at = 0
        account.list(offset=first, page_size=size, include_disabled=disabled)
        assert looked_at == 0


BETWEEN_LISTS: dict[str, Callable[[Account], object]] = {
    "created": lambda account: account.add("new"),
    "deleted": lambda account: account.delete("500"),
    "disabled": lambda account: account.update("500", {"disabled": True}),
    "expired": lambda account: account.advance(days=2),
}


@pytest.mark.parametrize("change", BETWEEN_LISTS.values(), ids=BETWEEN_LISTS)
def test_a_page_after_a_change_is_no_more_work_the_further_on_it_is(
    account: Account, change: Callable[[Account], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    account.clock = lambda: NOON
    for number in range(1000):
        account.add(hash=str(number), expires_at=NOON + timedelta(days=1 + number % 2))
    looked_at: list[StoredKey] = []
    expired = StoredKey.expired

    def counted(key: StoredKey, now: datetime) -> bool:
        looked_at.append(key)
        return expired(key, now)

    monkeypatch.setattr(StoredKey, "expired", counted)
    account.list()
    change(account)
    work: set[int] = set()
    for offset in (0, 250, 900):
        looked_at.clear()
        account._listing = None
        account.list(offset=offset)
        work.add(len(looked_at))
    assert len(work) == 1


def _replaced(account: Account) -> None:
    key = account.keys["7"]
    account.keys["7"] = evolve(key, disabled=not key.disabled)


MOVES: dict[str, Callable[[Account], object]] = {
    "nothing": lambda _account: None,
    "created": lambda account: account.create({"name": "new"}),
    "added": lambda account: account.add("new"),
    "deleted": lambda account: account.delete("7"),
    "deleted by hand": lambda account: account.keys.pop("8"),
    "one for another": lambda account: (account.keys.pop("7"), account.add("new")),
    "replaced": _replaced,
    "all replaced": lambda account: setattr(account, "keys", {"9": account.keys["9"]}),
    "forgotten": lambda account: account.clear(),
    "disabled": lambda account: account.update("7", {"disabled": True}),
    "enabled by hand": lambda account: setattr(account.keys["5"], "disabled", False),
    "in another workspace": lambda account: account.update("7", {"workspace_id": OTHER}),
    "expired by hand": lambda account: setattr(account.keys["7"], "expires_at", NOON),
    "renewed by hand": lambda account: setattr(account.keys["6"], "expires_at", None),
    "time went on": lambda account: account.advance(days=3),
    "time went back": lambda account: account.advance(days=-3),
    "another default": lambda account: setattr(account, "default_workspace", OTHER),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("everything", [False, True])
def test_a_list_tells_at_once_what_has_moved(
    account: Account, move: Callable[[Account], object], offset: int, everything: bool
) -> None:
    account.clock = lambda: NOON
    account.workspaces[OTHER] = Workspace(OTHER)
    for number in range(10):
        account.add(str(number), hash=str(number))
    account.add("elsewhere", hash="e", workspace_id=OTHER)
    account.keys["5"].disabled = True
    account.keys["6"].expires_at = NOON - timedelta(days=1)
    account.keys["4"].expires_at = NOON + timedelta(days=2)
    shown = partial(account.list, include_disabled=everything, include_expired=everything)
    shown(offset=offset, page_size=4)

    move(account)

    now = account.clock()
    expected = [
        key
        for key in reversed(account.keys.values())
        if key.workspace_id == account.default_workspace
        and (everything or not (key.disabled or key.expired(now)))
    ]
    for begin in (offset, 0, 2, 6):
        listed = shown(offset=begin, page_size=4)
        assert [key.hash for key in listed] == [key.hash for key in expected[begin : begin + 4]]


def test_a_list_is_of_one_workspace_and_the_default_one_unless_named(account: Account) -> None:
    account.add("here")
    account.create({"name": "there", "workspace_id": OTHER})

    assert names(account.list()) == ["here"]
    assert names(account.list(workspace_id=account.default_workspace)) == ["here"]
    assert names(account.list(workspace_id=OTHER)) == ["there"]
    with pytest.raises(Refusal) as caught:
        account.list(workspace_id=NOWHERE)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("query", "understood"),
    [
        ({}, (False, False, 0, None)),
        ({"include_disabled": "true"}, (True, False, 0, None)),
        ({"include_disabled": "false", "offset": "0"}, (False, False, 0, None)),
        ({"include_expired": "true", "offset": "007"}, (False, True, 7, None)),
        ({"workspace_id": OTHER, "nonsense": "?"}, (False, False, 0, OTHER)),
    ],
)
def test_a_query_is_understood(query: dict[str, str], understood: tuple[object, ...]) -> None:
    found = list_query(query)

    shown = (found.include_disabled, found.include_expired, found.offset, found.workspace_id)
    assert shown == understood


@in_one_test(
    "name, value",
    [
        *product(("include_disabled", "include_expired"), ("", "True", "1", "yes", " true")),
        *product(["offset"], ("", "-1", "1.0", "+1", " 1", "x", "\u0661", "9" * 5000)),
    ],
)
def test_a_flag_is_true_or_false_and_an_offset_a_whole_number(name: str, value: str) -> None:
    with pytest.raises(Refusal) as caught:
        list_query({name: value})

    assert caught.value.status == 400


# members


def test_any_creator_will_do_until_the_members_are_known(account: Account) -> None:
    account.create({"name": "x", "creator_user_id": "whoever"})
    account.members = {"user_1"}
    account.create({"name": "x", "creator_user_id": "user_1"})
    account.create({"name": "x", "creator_user_id": None})

    with pytest.raises(Refusal, match="not a member") as caught:
        account.create({"name": "x", "creator_user_id": "whoever"})

    assert caught.value.status == 400
    creators = [key.creator_user_id for key in account.keys.values()]
    assert creators == ["whoever", "user_1", None]


# current and who may do what


def test_the_management_key_tells_of_itself(account: Account) -> None:
    record = current_record(account.current(account.management_key), account)

    assert record.keys() == CURRENT_FIELDS
    assert record["is_management_key"] is record["is_provisioning_key"] is True
    assert record["limit"] is record["effective_budget"] is None
    assert record["budgets"] == []
    assert mapping(record["rate_limit"]).keys() == {"interval", "note", "requests"}
    requests = mapping(record["free_model_daily_requests"])
    assert requests.keys() == {"limit", "used", "remaining"}


def test_a_made_key_tells_of_itself_and_its_budget(account: Account) -> None:
    key = account.create({"name": "x", "limit": 10, "limit_reset": "weekly"})
    account.spend(key.hash, 2.5)

    record = current_record(account.current(key.secret or ""), account)

    assert record.keys() == CURRENT_FIELDS
    assert record["is_management_key"] is record["is_provisioning_key"] is False
    assert record["limit_remaining"] == 7.5
    budget = mapping(record["effective_budget"])
    assert budget.keys() == BUDGET_FIELDS
    assert (budget["scope"], budget["spend_usd"], budget["remaining_usd"]) == (
        "key_limit",
        2.5,
        7.5,
    )
    assert budget["resets_at"] == "2027-03-08T00:00:00Z"
    assert record["budgets"] == [budget]


def test_the_budget_that_leaves_least_is_the_effective_one(account: Account) -> None:
    account.budgets = [
        Budget(
            scope="workspace", limit_usd=9, spend_usd=2, reset_interval="monthly", budget_id="b"
        ),
        Budget(scope="member", limit_usd=100, guardrail_id="g", include_byok=True),
    ]
    key = account.create({"name": "x", "limit": 10})

    def effective() -> JSON:
        record = current_record(account.current(key.secret or ""), account)
        budgets = cast("list[Mapping[str, JSON]]", record["budgets"])
        assert [budget["scope"] for budget in budgets] == ["workspace", "member", "key_limit"]
        assert all(budget.keys() == BUDGET_FIELDS for budget in budgets)
        assert record["effective_budget"] in budgets
        return record["effective_budget"]

    assert effective() == {
        "scope": "workspace",
        "limit_usd": 9,
        "spend_usd": 2,
        "remaining_usd": 7,
        "reset_interval": "monthly",
        "resets_at": "2027-04-01T00:00:00Z",
        "include_byok": False,
        "guardrail_id": None,
        "budget_id": "b",
    }
    account.spend(key.hash, 4)
    assert mapping(effective())["scope"] == "key_limit"
    account.budgets[1].spend_usd = 1000
    assert mapping(effective())["scope"] == "member"
    assert mapping(effective())["remaining_usd"] == 0


def test_a_key_that_is_exhausted_still_tells_of_itself(account: Account) -> None:
    key = account.create({"name": "x", "limit": 1})
    account.spend(key.hash, 1)

    record = current_record(account.current(key.secret or ""), account)

    assert (record["limit_remaining"], record["usage"]) == (0, 1)


@pytest.mark.parametrize(
    ("attribute", "value"), [("disabled", True), ("expires_at", NOON), ("secret", "another")]
)
def test_a_secret_that_is_not_live_belongs_to_nobody(
    account: Account, attribute: str, value: object
) -> None:
    setattr(account.add(secret="sk-or-v1-mine"), attribute, value)

    for refused in (account.current, account.require_management):
        with pytest.raises(Refusal, match="User not found") as caught:
            refused("sk-or-v1-mine")
        assert caught.value.status == 401


def test_an_inference_key_manages_nothing(account: Account) -> None:
    secret = account.add().secret or ""

    with pytest.raises(Refusal, match="Invalid management key") as first:
        account.require_management(secret)
    account.inference_key_status = 403
    with pytest.raises(Refusal, match="Only management keys can perform") as second:
        account.require_management(secret)

    assert (first.value.status, second.value.status) == (401, 403)
    account.require_management(account.management_key)


# spending


def usage(key: StoredKey) -> tuple[float, float, float, float]:
    return key.usage, key.usage_daily, key.usage_weekly, key.usage_monthly


def byok_usage(key: StoredKey) -> tuple[float, float, float, float]:
    return key.byok_usage, key.byok_usage_daily, key.byok_usage_weekly, key.byok_usage_monthly


LOOKS: dict[str, Callable[[Account, StoredKey], StoredKey]] = {
    "get": lambda account, key: account.get(key.hash),
    "list": lambda account, _: account.list()[0],
    "current": lambda account, key: account.current(key.secret or ""),
    "update": lambda account, key: account.update(key.hash, {"name": "y"}),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("2027-03-03T23:59:59.999999+00:00", (4, 4, 4, 4)),
        ("2027-03-04T00:00:00+00:00", (4, 0, 4, 4)),
        ("2027-03-03T23:30:00-01:00", (4, 0, 4, 4)),  # the next day in UTC
        ("2027-03-07T23:59:59+00:00", (4, 0, 4, 4)),
        ("2027-03-08T00:00:00+00:00", (4, 0, 0, 4)),
        ("2027-04-01T00:00:00+00:00", (4, 0, 0, 0)),
        ("2028-03-03T12:00:00+00:00", (4, 0, 0, 0)),
        ("2027-03-04T00:30:00+01:00", (4, 4, 4, 4)),  # still the day before in UTC
    ],
)
def test_spending_starts_anew_at_midnight_utc_on_mondays_and_on_the_first(
    account: Account, clock: Clock, moment: str, left: tuple[float, ...], look: str
) -> None:
    key = account.add()
    account.spend(key.hash, 4)
    account.spend(key.hash, 4, byok=True)
    clock.now = datetime.fromisoformat(moment)

    seen = LOOKS[look](account, key)

    assert usage(seen) == byok_usage(seen) == left


def test_a_week_that_crosses_a_month_outlives_it(account: Account, clock: Clock) -> None:
    clock.now = datetime(2027, 3, 31, tzinfo=UTC)
    key = account.add()
    account.spend(key.hash, 4)
    clock.now += timedelta(days=1)

    assert usage(account.get(key.hash)) == (4, 0, 4, 0)


@pytest.mark.parametrize(
    ("limit_reset", "remaining"), [(None, 1), ("monthly", 1), ("weekly", 2), ("daily", 6)]
)
def test_what_remains_of_a_limit_follows_its_reset(
    account: Account, clock: Clock, limit_reset: str | None, remaining: float
) -> None:
    key = account.add(limit=10, limit_reset=limit_reset)
    account.spend(key.hash, 1)
    clock.now += timedelta(days=7)  # another week of the same month
    account.spend(key.hash, 4)
    clock.now += timedelta(days=1)
    account.spend(key.hash, 4)

    assert account.get(key.hash).limit_remaining == remaining


def test_spending_with_ones_own_key_counts_only_if_the_limit_includes_it(account: Account) -> None:
    key = account.add(limit=10, limit_reset="daily")
    account.spend(key.hash, 3, byok=True)

    assert (key.usage, key.byok_usage, key.byok_usage_weekly) == (0, 3, 3)
    assert key.limit_remaining == 10
    key.include_byok_in_limit = True
    assert key.limit_remaining == 7


def test_a_limit_that_is_overspent_leaves_nothing_and_spending_notes_when(
    account: Account,
) -> None:
    key = account.add(limit=1)

    account.spend(key.hash, 3)

    assert key.limit_remaining == 0
    assert key_record(key, account)["last_used_at"] == "2027-03-03T12:00:00+00:00"


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("daily", "2027-12-31", "2028-01-01"),
        ("weekly", "2027-12-27", "2028-01-03"),
        ("monthly", "2027-12-01", "2028-01-01"),
    ],
)
def test_a_period_ends_where_the_next_begins(period: str, start: str, end: str) -> None:
    now = datetime(2027, 12, 31, 23, 30, tzinfo=UTC).astimezone(timezone(timedelta(hours=9)))

    assert period_start(period, now) == datetime.fromisoformat(f"{start}T00:00:00+00:00")
    assert period_end(period, now) == datetime.fromisoformat(f"{end}T00:00:00+00:00")


# time


def test_time_that_is_advanced_rolls_spending_over_at_midnight_utc(account: Account) -> None:
    key = account.add(limit=10, limit_reset="daily")
    account.spend(key.hash, 4)

    account.advance(hours=11, minutes=59, seconds=59)
    assert account.get(key.hash).limit_remaining == 6
    account.advance(seconds=1)
    assert account.get(key.hash).limit_remaining == 10
    assert usage(key) == (4, 0, 4, 4)
    account.advance(days=4)  # a Monday
    assert usage(account.get(key.hash)) == (4, 0, 0, 4)


def test_time_goes_on_as_the_clock_does_after_it_was_advanced_or_set(
    account: Account, clock: Clock
) -> None:
    account.advance(days=2)
    account.advance(days=-1)
    clock.now += timedelta(hours=1)
    assert account.clock() == NOON + timedelta(days=1, hours=1)

    account.set_time(datetime(2030, 1, 1, tzinfo=UTC))
    clock.now += timedelta(minutes=1)
    assert account.clock() == datetime(2030, 1, 1, 0, 1, tzinfo=UTC)
    assert account.ahead == datetime(2030, 1, 1, tzinfo=UTC) - NOON - timedelta(hours=1)


def test_another_clock_is_not_ahead(account: Account, clock: Clock) -> None:
    account.advance(days=1)

    account.clock = clock

    assert account.clock() == NOON
    assert account.ahead == timedelta()


def test_time_can_be_advanced_many_times(account: Account) -> None:
    for _ in range(5000):
        account.advance(seconds=1)

    assert account.clock() == NOON + timedelta(seconds=5000)


@pytest.mark.parametrize("days", [-30_000, 3_000_000, 1e15, float("nan")])
def test_there_is_no_time_that_the_calendar_does_not_have(account: Account, days: float) -> None:
    with pytest.raises((ValueError, OverflowError)):
        account.advance(days=days)

    assert account.clock() == NOON


def test_an_account_that_is_cleared_is_the_same_account_without_keys(
    account: Account, clock: Clock
) -> None:
    account.members, account.organization_id = {"user_1"}, "org"
    account.advance(days=1)
    account.create({"name": "x"})

    account.clear()

    assert (account.keys, account.clock()) == ({}, NOON)
    assert (account.members, account.organization_id) == ({"user_1"}, "org")
    assert OTHER in account.workspaces
    assert account.create({"name": "y"}).created_at == NOON


# what a test can do to an account


def test_both_forms_of_timestamp_are_shown(account: Account, clock: Clock) -> None:
    clock.now = NOON.replace(microsecond=363244)
    key = account.create({"name": "x", "expires_at": "2027-12-31T23:59:59Z"})

    record = key_record(key, account)

    assert record["created_at"] == "2027-03-03T12:00:00.363244+00:00"
    assert record["expires_at"] == "2027-12-31T23:59:59Z"


def test_fields_can_be_hidden_and_added(account: Account) -> None:
    account.hidden_fields = {"workspace_id", "last_used_at", "effective_budget"}
    account.extra_fields = {"colour": {"r": 1}}
    key = account.add()

    shown, current = key_record(key, account), current_record(key, account)

    assert shown.keys() == KEY_FIELDS - account.hidden_fields | {"colour"}
    assert current.keys() == CURRENT_FIELDS - account.hidden_fields | {"colour"}


def test_an_attribute_that_no_key_has_cannot_be_set(account: Account) -> None:
    with pytest.raises(AttributeError, match="limits"):
        account.add(limits=3)

    assert account.keys == {}


def test_no_secret_is_in_a_repr(account: Account) -> None:
    key = account.add(secret="sk-or-v1-canary-canary")

    assert "canary-canary" not in repr(account) + repr(key)
    assert account.management_key not in repr(account)


# the rate limit


def test_a_burst_passes_and_then_the_rate_holds(clock: Clock) -> None:
    limit = RateLimit(2, 3)

    assert [limit.wait(clock.now) for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += timedelta(seconds=0.5)
    assert [limit.wait(clock.now) for _ in range(2)] == [0, 0.5]
    clock.now += timedelta(hours=1)
    assert [limit.wait(clock.now) for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now -= timedelta(hours=1)
    assert limit.wait(clock.now) == 0.5


@pytest.mark.parametrize(
    ("retry_after", "advice"),
    [
        ("none", {}),
        ("seconds", {"Retry-After": "3"}),
        ("date", {"Retry-After": "Wed, 03 Mar 2027 12:00:03 GMT"}),
        ("ms", {"retry-after-ms": "2100"}),
    ],
)
def test_a_rejected_request_is_told_when_to_come_back(
    retry_after: str, advice: dict[str, str]
) -> None:
    limit = RateLimit(1, 5)
    limit.retry_after = retry_after  # type: ignore[assignment]  # a parameter of the table

    assert limit.headers(2.1, NOON) == {
        "X-RateLimit-Limit": "5",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int(NOON.timestamp() * 1000) + 2100),
        **advice,
    }
