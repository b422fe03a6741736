"""Whether a key is as it was asked for: one table, field by field."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from attrs import evolve, fields_dict
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys._base.unset import UNSET
from openrouter_keys._protocol.drift import disagreements, unchanged
from openrouter_keys.models import CreateKeysRequest, External, Key, UpdateKeysRequest
from tests import records
from tests.tables import in_one_test

AT = datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC)
CET = timezone(timedelta(hours=1))
WORKSPACE = "0df9e665-d932-5740-b2c7-b52af166bc11"
NAME = records.key().name


def differing(asked: dict[str, Any], shown: dict[str, Any]) -> tuple[str, ...]:
    fields: dict[str, Any] = {"name": NAME, **asked}
    return disagreements(CreateKeysRequest(**fields), evolve(records.key(), **shown))


AGREE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # What was left out cannot differ.
    ({}, {"limit": 7.0, "limit_reset": "daily", "include_byok_in_limit": True, "expires_at": AT}),
    ({}, {"limit": None, "limit_reset": None, "workspace_id": WORKSPACE}),
    ({"limit": 50}, {"limit": 50.0}),
    ({"limit": 0}, {"limit": 0.0}),
    ({"limit": 0.1 + 0.2}, {"limit": 0.3}),
    ({"limit": 1e12}, {"limit": 1e12}),
    ({"limit": 12.3456}, {"limit": 12.35}),
    ({"limit": 12.341}, {"limit": 12.35}),
    ({"limit": 12.3456}, {"limit": 12.34}),
    ({"limit": 12.3456}, {"limit": 12.346}),
    ({"limit": 0.004}, {"limit": 0.0}),
    ({"limit": 123456789.999}, {"limit": 123456790.0}),
    ({"limit": None}, {"limit": None}),
    ({"limit_reset": "weekly"}, {"limit_reset": "weekly"}),
    ({"limit_reset": None}, {"limit_reset": None}),
    ({"include_byok_in_limit": True}, {"include_byok_in_limit": True}),
    ({"include_byok_in_limit": False}, {"include_byok_in_limit": False}),
    # The service may drop a fraction, and write another zone.
    ({"expires_at": AT}, {"expires_at": AT}),
    ({"expires_at": AT.replace(microsecond=999_999)}, {"expires_at": AT}),
    ({"expires_at": AT}, {"expires_at": AT.astimezone(CET)}),
    ({"expires_at": AT}, {"expires_at": AT - timedelta(seconds=2)}),
    ({"expires_at": AT}, {"expires_at": AT + timedelta(seconds=59)}),
    ({"expires_at": AT}, {"expires_at": AT - timedelta(seconds=120)}),
    ({"expires_at": AT}, {"expires_at": AT + timedelta(seconds=120)}),
    ({"expires_at": None}, {"expires_at": None}),
    # Older answers do not tell these.
    ({"expires_at": AT}, {"expires_at": UNSET}),
    ({"expires_at": None}, {"expires_at": UNSET}),
    ({"workspace_id": WORKSPACE}, {"workspace_id": None}),
    ({"workspace_id": WORKSPACE}, {"workspace_id": WORKSPACE}),
    ({"workspace_id": WORKSPACE.upper()}, {"workspace_id": WORKSPACE}),
    ({"external": External("acme-7")}, {"external_user": "acme-7"}),
    ({"external": External("acme-7")}, {"external_user": UNSET}),
    ({"creator_user_id": "user_2abc"}, {"creator_user_id": "user_2abc"}),
    ({"creator_user_id": None}, {"creator_user_id": "user_2abc"}),
    ({"creator_user_id": "user_2abc"}, {"creator_user_id": UNSET}),
    # What a key went through since is no part of what was asked for.
    ({"limit": 50}, {"limit": 50.0, "disabled": True, "limit_remaining": 1.0, "usage": 49.0}),
]

DIFFER: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ({}, {"name": "customer-43"}, ("name",)),
    ({}, {"name": f"{NAME} "}, ("name",)),
    ({}, {"name": NAME.upper()}, ("name",)),
    ({"limit": 50}, {"limit": None}, ("limit",)),
    ({"limit": None}, {"limit": 50.0}, ("limit",)),
    ({"limit": None}, {"limit": 0.0}, ("limit",)),
    ({"limit": 0}, {"limit": None}, ("limit",)),
    ({"limit": 50}, {"limit": 50.01}, ("limit",)),
    ({"limit": 0}, {"limit": 1e-9}, ("limit",)),
    ({"limit": 12.3456}, {"limit": 12.36}, ("limit",)),
    ({"limit": 12.345}, {"limit": 12.355}, ("limit",)),
    ({"limit": 12.3456}, {"limit": 12.0}, ("limit",)),
    ({"limit": 12.34}, {"limit": 12.345}, ("limit",)),
    ({"limit": 0.29}, {"limit": 0.295}, ("limit",)),
    ({"limit": 0.001}, {"limit": None}, ("limit",)),
    ({"limit_reset": "daily"}, {"limit_reset": "weekly"}, ("limit_reset",)),
    ({"limit_reset": "daily"}, {"limit_reset": None}, ("limit_reset",)),
    ({"limit_reset": None}, {"limit_reset": "daily"}, ("limit_reset",)),
    (
        {"include_byok_in_limit": True},
        {"include_byok_in_limit": False},
        ("include_byok_in_limit",),
    ),
    (
        {"include_byok_in_limit": False},
        {"include_byok_in_limit": True},
        ("include_byok_in_limit",),
    ),
    ({"expires_at": AT}, {"expires_at": AT + timedelta(seconds=121)}, ("expires_at",)),
    ({"expires_at": AT}, {"expires_at": AT - timedelta(seconds=121)}, ("expires_at",)),
    ({"expires_at": AT}, {"expires_at": None}, ("expires_at",)),
    ({"expires_at": None}, {"expires_at": AT}, ("expires_at",)),
    ({"workspace_id": WORKSPACE}, {"workspace_id": f"1{WORKSPACE[1:]}"}, ("workspace_id",)),
    (
        {"limit": 50, "limit_reset": "daily"},
        {"limit": 5.0, "limit_reset": None, "name": "x"},
        ("name", "limit", "limit_reset"),
    ),
]


@in_one_test("asked, shown", AGREE)
def test_a_key_is_as_it_was_asked_for(asked: dict[str, Any], shown: dict[str, Any]) -> None:
    assert differing(asked, shown) == ()


@in_one_test("asked, shown, fields", DIFFER)
def test_a_key_is_not_as_it_was_asked_for(
    asked: dict[str, Any], shown: dict[str, Any], fields: tuple[str, ...]
) -> None:
    assert differing(asked, shown) == fields


@given(
    limit=st.one_of(st.none(), st.floats(0, 1e15)),
    limit_reset=st.sampled_from([None, "daily", "weekly", "monthly"]),
    expires_at=st.one_of(st.none(), st.datetimes(timezones=st.just(UTC))),
)
def test_a_key_that_echoes_what_was_asked_for_never_differs(
    limit: float | None, limit_reset: str | None, expires_at: datetime | None
) -> None:
    fields = {"limit": limit, "limit_reset": limit_reset, "expires_at": expires_at}
    assert differing(fields, fields) == ()


def test_every_field_that_a_key_shows_is_compared() -> None:
    other: dict[str, Any] = {
        "name": "other",
        "limit": 1.5,
        "limit_reset": "weekly",
        "include_byok_in_limit": True,
        "expires_at": AT,
        "creator_user_id": "user_other",
        "workspace_id": f"1{WORKSPACE[1:]}",
    }
    asked: dict[str, Any] = {
        "limit": 50,
        "limit_reset": "daily",
        "include_byok_in_limit": False,
        "expires_at": None,
        "creator_user_id": "user_2abc",
        "workspace_id": WORKSPACE,
    }
    shown = fields_dict(CreateKeysRequest).keys() & fields_dict(Key).keys()
    assert other.keys() == shown
    assert {*differing(asked, other)} == shown


def test_another_partners_user_is_another_key() -> None:
    asked = {"external": External("acme-7")}
    assert differing(asked, {"external_user": "acme-8"}) == ("external",)


# --- updates ---

BEFORE: dict[str, Any] = {
    "name": "a",
    "disabled": False,
    "limit": 5.0,
    "limit_reset": "daily",
    "include_byok_in_limit": False,
    "workspace_id": WORKSPACE,
}
CHANGES: list[dict[str, Any]] = [
    {"name": "b"},
    {"disabled": True},
    {"limit": 4.0},
    {"limit": None},
    {"limit": 0.0},
    {"limit_reset": "weekly"},
    {"limit_reset": None},
    {"include_byok_in_limit": True},
    {"workspace_id": WORKSPACE.replace("0", "1")},
]


@in_one_test("change", CHANGES, ids=str)
def test_an_update_is_done_when_the_record_shows_it(change: dict[str, Any]) -> None:
    before = evolve(records.key(), **BEFORE)
    asked = UpdateKeysRequest(**change)
    assert unchanged(before.hash, asked, evolve(before, **change)) is None
    (field,) = change
    assert str(unchanged(before.hash, asked, before)).endswith(f"shows no change of {field}")
    other = evolve(before, **change, hash="ab" * 32)
    assert "another key" in str(unchanged(before.hash, asked, other))


def test_every_field_of_an_update_is_compared() -> None:
    assert {field for change in CHANGES for field in change} == {*fields_dict(UpdateKeysRequest)}
